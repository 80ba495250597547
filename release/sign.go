package release

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/scumble-dp/scumble/internal/wholefile"
)

// Types of PEM blocks: PKCS#8 (RFC 5958) and SubjectPublicKeyInfo (RFC 5280), as
// openssl genpkey -algorithm ed25519 and openssl pkey -pubout write them.
const (
	privateBlock = "PRIVATE KEY"
	publicBlock  = "PUBLIC KEY"
)

// NewKey makes an Ed25519 key and writes it to path (PKCS#8, mode 0600) and its
// public half to path+".pub". Neither file may exist.
func NewKey(path string) error {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	open, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	if err := writeNew(path+".pub", pem.EncodeToMemory(&pem.Block{Type: publicBlock, Bytes: open}), 0o644); err != nil {
		return fmt.Errorf("make key: %w", err)
	}
	if err := writeNew(path, pem.EncodeToMemory(&pem.Block{Type: privateBlock, Bytes: secret}), 0o600); err != nil {
		os.Remove(path + ".pub")
		return fmt.Errorf("make key: %w", err)
	}
	return nil
}

// writeNew writes a file that must not exist.
func writeNew(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Sync()
}

// ParseKey reads an Ed25519 private key in PEM. Its errors say nothing of what
// the text holds.
func ParseKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != privateBlock {
		return nil, errors.New(`not a private key in PEM, want "-----BEGIN PRIVATE KEY-----" (PKCS#8, not encrypted); scumble sign --new-key makes one`)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("not a private key in PKCS#8; scumble sign --new-key makes one")
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("key is not an Ed25519 key; scumble sign --new-key makes one")
	}
	return private, nil
}

// ParsePublicKey reads an Ed25519 public key in PEM.
func ParsePublicKey(text []byte) (ed25519.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != publicBlock {
		return nil, errors.New(`not a public key in PEM, want "-----BEGIN PUBLIC KEY-----"`)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("not a public key: %w", err)
	}
	public, ok := key.(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("key is not an Ed25519 key")
	}
	return public, nil
}

// Fingerprint names a public key: the SHA-256 of its 32 bytes, in base64.
func Fingerprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// Sign writes the signer into the manifest of a folder and signs its bytes. An
// earlier signature is replaced. The files are not looked at: [Verify] first.
//
// The signature is plain Ed25519 (RFC 8032) over manifest.json, so that other tools
// can check it:
//
//	openssl pkeyutl -verify -pubin -inkey KEY.pub -rawin -in manifest.json -sigfile manifest.sig
func Sign(dir string, key ed25519.PrivateKey) error {
	data, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	m, err := ParseManifest(data)
	if err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	m.Signer = base64.StdEncoding.EncodeToString(key.Public().(ed25519.PublicKey))
	if data, err = m.encode(); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if err := wholefile.Write(filepath.Join(dir, ManifestFile), 0o644, data); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	if err := wholefile.Write(filepath.Join(dir, SignatureFile), 0o644, ed25519.Sign(key, data)); err != nil {
		return fmt.Errorf("sign: %w", err)
	}
	return nil
}

// checkSignature checks the signature of a manifest, given with its bytes. It
// returns nil for a folder that is not signed at all.
func (m *Manifest) checkSignature(data, signature []byte) (ed25519.PublicKey, error) {
	if m.Signer == "" {
		if signature != nil {
			return nil, fmt.Errorf("there is a %s, and the manifest names no signer", SignatureFile)
		}
		return nil, nil
	}
	key, err := base64.StdEncoding.Strict().DecodeString(m.Signer)
	if err != nil || len(key) != ed25519.PublicKeySize {
		return nil, errors.New("the signer is not an Ed25519 public key in base64")
	}
	switch {
	case signature == nil:
		return nil, fmt.Errorf("the manifest names a signer, and %s is missing", SignatureFile)
	case !ed25519.Verify(key, data, signature):
		return nil, fmt.Errorf("%s is not the signer's signature of %s", SignatureFile, ManifestFile)
	}
	return key, nil
}
