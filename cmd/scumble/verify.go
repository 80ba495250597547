package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/release"
)

func newVerify() *cobra.Command {
	var publicKey string
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify DIR",
		Short: "Recompute the claim of a release from its files",
		Long: `verify checks a release folder, or a data set made by scumble export, and needs no
other file: that every file has the hash and size of the manifest and that there
is no other, the signature if there is one, that the statement says one thing
throughout, that the chain of the ledger is whole; and it computes epsilon from the
ledger again, with the accountant and in a second, different way. DIR may also be
a run directory, whose release is then checked.

A claim that fails exits 6, and so does a release that makes none. Without a
signature, somebody who changes a file can make the manifest again: check who
signed with --public-key.`,
		Example: "  scumble verify runs/demo/release --public-key steward.pem.pub",
		Args:    exactly("DIR"),
		RunE: func(c *cobra.Command, args []string) error {
			var o release.Options
			if publicKey != "" {
				key, err := readPublicKey(publicKey)
				if err != nil {
					return err
				}
				o.PublicKey = key
			}
			v, err := verifyRelease(args[0], o)
			if err != nil {
				return err
			}
			if asJSON {
				err = printJSON(c, v)
			} else if v.OK {
				err = printVerdict(c.OutOrStdout(), v)
			}
			if err != nil || v.OK {
				return err
			}
			return refused(v)
		},
	}
	c.Flags().StringVar(&publicKey, "public-key", "", "PEM `FILE` of the Ed25519 key that must have signed")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, also where verification fails")
	return c
}

// verifyRelease verifies a release folder, or that of a run directory.
func verifyRelease(dir string, o release.Options) (*release.Verdict, error) {
	v, err := release.Verify(releaseOf(dir), o)
	if errors.Is(err, release.ErrNotRelease) {
		return nil, invalid(withHint(err, "give the folder that holds manifest.json, or a finished run directory"))
	}
	return v, err
}

// releaseOf returns the release folder of a run directory, and any other path as
// it is.
func releaseOf(dir string) string {
	if inside := filepath.Join(dir, finetune.ReleaseDir); dirExists(inside) && dirExists(filepath.Join(dir, finetune.PrivateDir)) {
		return inside
	}
	return dir
}

// refused is the error of a verdict that is not good.
func refused(v *release.Verdict) error {
	const shown = 8
	problems := v.Problems
	if more := len(problems) - shown; more > 0 {
		problems = append(problems[:shown:shown], fmt.Sprintf("and %d more", more))
	}
	return &coded{exitVerification, withHint(fmt.Errorf("%s does not verify: %s", v.Dir, strings.Join(problems, "; ")),
		"do not rely on it: ask its owner for the release as it was made")}
}

func printVerdict(out io.Writer, v *release.Verdict) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%-10s "+format+"\n", append([]any{name}, args...)...)
	}
	line("verified", "%s: %d files, %d bytes, each with the hash of the manifest", v.Dir, v.Files, v.Bytes)
	if v.Signer != "" {
		line("signed", "by %s", v.Signer)
	} else {
		line("signed", "no: the manifest shows changes made by accident, not by somebody who makes it again")
	}
	line("ledger", "%d entries, chain whole", v.Entries)
	line("claim", "epsilon %s at delta %g", above(v.Epsilon), v.Delta)
	line("recomputed", "epsilon %s by the accountant, an upper bound", above(v.EpsilonAccountant))
	if v.EpsilonRecount > 0 {
		line("", "epsilon %.6f by contour integral, which shares no code with it", v.EpsilonRecount)
	} else {
		line("", "no second count: %s", v.RecountNote)
	}
	line("", "epsilon %s by Rényi divergences, a looser bound", above(v.EpsilonRDP))
	_, err := fmt.Fprintf(out, "\n%s\n", v.Guarantee)
	return err
}

func readPublicKey(path string) (ed25519.PublicKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, invalid(fmt.Errorf("public key: %w", err))
	}
	key, err := release.ParsePublicKey(text)
	if err != nil {
		return nil, invalid(fmt.Errorf("public key %s: %w", path, err))
	}
	return key, nil
}
