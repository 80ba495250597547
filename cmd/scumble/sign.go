package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/release"
)

func newSign() *cobra.Command {
	var key, newKey string
	c := &cobra.Command{
		Use:   "sign DIR --key FILE | sign --new-key FILE",
		Short: "Sign a release, so that nobody can change it unseen",
		Long: `sign verifies a release folder (or the release of a run directory) and signs its
manifest, which names every file by hash, with an Ed25519 key in PKCS#8 PEM, as
openssl genpkey -algorithm ed25519 also makes. --new-key makes such a key, FILE,
which stays secret, and FILE.pub, which you give to whoever verifies.

Sign last: writing the report again, or drawing images into the release, removes
the signature.`,
		Example: `  scumble sign --new-key steward.pem
  scumble sign runs/demo --key steward.pem`,
		Args: arguments(cobra.MaximumNArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case newKey != "" && (key != "" || len(args) > 0):
				return misuse(errors.New("--new-key makes a key and does nothing else; leave DIR and --key away"))
			case newKey != "":
				return makeKey(c, newKey)
			case len(args) == 0:
				return misuse(errors.New("DIR is missing"))
			case key == "":
				return misuse(errors.New("--key is missing, want the PEM file of your key; --new-key FILE makes one"))
			}
			return signRelease(c, args[0], key)
		},
	}
	c.Flags().StringVar(&key, "key", "", "PEM `FILE` of the Ed25519 key to sign with")
	c.Flags().StringVar(&newKey, "new-key", "", "make a key: `FILE`, and FILE.pub; neither may exist")
	return c
}

func makeKey(c *cobra.Command, path string) error {
	if err := release.NewKey(path); errors.Is(err, os.ErrExist) {
		return invalid(withHint(err, "choose another name; a key that has signed is needed as long as the release is"))
	} else if err != nil {
		return err
	}
	public, err := readPublicKey(path + ".pub")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "key         %s (keep it secret)\npublic key  %s.pub\nfingerprint %s\n", path, path, release.Fingerprint(public))
	return err
}

func signRelease(c *cobra.Command, dir, path string) error {
	key, err := readKey(path)
	if err != nil {
		return err
	}
	folder := releaseOf(dir)
	v, err := verifyRelease(folder, release.Options{})
	if err != nil {
		return err
	}
	if !v.OK {
		return refused(v)
	}
	if err := release.Sign(folder, key); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "signed %s\nby     %s\n", folder, release.Fingerprint(key.Public().(ed25519.PublicKey)))
	return err
}

// readKey reads a private key to sign with.
func readKey(path string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, invalid(fmt.Errorf("key: %w", err))
	}
	key, err := release.ParseKey(text)
	if err != nil {
		return nil, invalid(fmt.Errorf("key %s: %w", path, err))
	}
	return key, nil
}
