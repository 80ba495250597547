package release_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/scumble-dp/scumble/internal/releasetest"
	"github.com/scumble-dp/scumble/release"
)

func testKey(t testing.TB) ed25519.PrivateKey {
	t.Helper()
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
}

func TestSign(t *testing.T) {
	dir := releasetest.New(t, nil)
	key := testKey(t)
	public := key.Public().(ed25519.PublicKey)
	other, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "unsigned", dir, release.Options{PublicKey: public}, "not signed")
	for range 2 { // Signing again replaces.
		if err := release.Sign(dir, key); err != nil {
			t.Fatal(err)
		}
		if v := verify(t, dir, release.Options{PublicKey: public}); !v.OK || v.Signer != release.Fingerprint(public) {
			t.Errorf("verdict is %+v", v)
		}
	}
	wantRefused(t, "another key", dir, release.Options{PublicKey: other}, "want SHA256:")

	// The signature of another manifest, of another key, in another's name.
	signature := releasetest.Get(t, dir, release.SignatureFile)
	second := releasetest.New(t, nil)
	if err := release.Sign(second, ed25519.NewKeyFromSeed(bytes.Repeat([]byte{8}, ed25519.SeedSize))); err != nil {
		t.Fatal(err)
	}
	releasetest.Put(t, second, release.SignatureFile, signature)
	wantRefused(t, "signature of another", second, release.Options{}, "not the signer's")
	text := releasetest.Get(t, second, release.ManifestFile)
	m, err := release.ParseManifest(text)
	if err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(m.Signer), []byte(base64.StdEncoding.EncodeToString(make([]byte, 31))+"  "), 1)
	releasetest.Put(t, second, release.ManifestFile, text)
	wantRefused(t, "signer is no key", second, release.Options{}, "")

	// Making the manifest again takes the signature away.
	if err := release.WriteManifest(dir, release.Model); err != nil {
		t.Fatal(err)
	}
	if v := verify(t, dir, release.Options{}); !v.OK || v.Signer != "" {
		t.Errorf("verdict is %+v, want it good and unsigned", v)
	}
	releasetest.Put(t, dir, release.SignatureFile, signature)
	wantRefused(t, "signature without signer", dir, release.Options{}, "names no signer")
}

func TestKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := release.NewKey(path); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key is %v (%v), want 0600", info.Mode(), err)
	}
	if err := release.NewKey(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second key in the same place gives %v, want an error that it exists", err)
	}
	dir := filepath.Dir(path)
	private, err := release.ParseKey(releasetest.Get(t, dir, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := release.ParsePublicKey(releasetest.Get(t, dir, "key.pem.pub"))
	if err != nil || !public.Equal(private.Public()) {
		t.Errorf("the public key is not that of the key: %v", err)
	}
	if _, err := release.ParseKey(releasetest.Get(t, dir, "key.pem.pub")); err == nil {
		t.Error("a public key was taken as a private one")
	}
	if _, err := release.ParsePublicKey(releasetest.Get(t, dir, "key.pem")); err == nil {
		t.Error("a private key was taken as a public one")
	}
	wrong, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(wrong)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := release.ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})); err == nil {
		t.Error("an RSA key was taken")
	}
}

// openssl makes keys that we read, and checks what we sign.
func TestOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not here; it is a second opinion")
	}
	run := func(args ...string) error {
		out, err := exec.Command(openssl, args...).CombinedOutput()
		if err != nil {
			t.Logf("openssl %v: %s", args, out)
		}
		return err
	}
	dir := releasetest.New(t, nil)
	keys := t.TempDir()
	path := filepath.Join(keys, "key.pem")
	if err := errors.Join(run("genpkey", "-algorithm", "ed25519", "-out", path), run("pkey", "-in", path, "-pubout", "-out", path+".pub")); err != nil {
		t.Fatal(err)
	}
	key, err := release.ParseKey(releasetest.Get(t, keys, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := release.Sign(dir, key); err != nil {
		t.Fatal(err)
	}
	public, err := release.ParsePublicKey(releasetest.Get(t, keys, "key.pem.pub"))
	if err != nil {
		t.Fatal(err)
	}
	if v := verify(t, dir, release.Options{PublicKey: public}); !v.OK {
		t.Errorf("problems %q", v.Problems)
	}
	check := []string{"pkeyutl", "-verify", "-pubin", "-inkey", path + ".pub", "-rawin",
		"-in", filepath.Join(dir, release.ManifestFile), "-sigfile", filepath.Join(dir, release.SignatureFile)}
	if err := run(check...); err != nil {
		t.Errorf("openssl does not take our signature: %v", err)
	}
}

func FuzzParseKey(f *testing.F) {
	path := filepath.Join(f.TempDir(), "key")
	if err := release.NewKey(path); err != nil {
		f.Fatal(err)
	}
	f.Add(releasetest.Get(f, filepath.Dir(path), "key"))
	f.Add(releasetest.Get(f, filepath.Dir(path), "key.pub"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if key, err := release.ParseKey(data); err == nil && len(key) != ed25519.PrivateKeySize {
			t.Errorf("a key has %d bytes", len(key))
		}
		if key, err := release.ParsePublicKey(data); err == nil && len(key) != ed25519.PublicKeySize {
			t.Errorf("a public key has %d bytes", len(key))
		}
	})
}
