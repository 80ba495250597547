package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/hub"
)

func newPull() *cobra.Command {
	var revision string
	var asJSON bool
	c := &cobra.Command{
		Use:   "pull MODEL",
		Short: "Take a public model from a Hugging Face hub or cache",
		Long: `pull brings a diffusers model into the cache of Hugging Face's own programs and
prints its folder, which finetune and sample take. It is the only command that opens a
network connection. HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH, HF_ENDPOINT and
HF_HUB_OFFLINE mean what they mean there; with HF_HUB_OFFLINE=1 the cache alone is
used. The revision is pinned to its commit, and every file is compared with the hash
in the hub's index. Pickled weights are not taken.`,
		Example: "  scumble pull google/ddpm-cifar10-32 --revision main",
		Args:    exactly("MODEL"),
		RunE: func(c *cobra.Command, args []string) error {
			settings, err := hub.FromEnvironment(os.Getenv)
			if err != nil {
				return invalid(err)
			}
			s, err := hub.Pull(c.Context(), settings, args[0], revision)
			if errors.Is(err, hub.ErrNotCached) {
				return invalid(err)
			}
			if err != nil {
				return err
			}
			note := ""
			if _, err := checkpoint.Load(s.Dir); err != nil { // It is there; say now if it is of no use.
				note = err.Error()
				fmt.Fprintf(c.ErrOrStderr(), "scumble: hint: this model cannot be used yet: %s\n", note)
			}
			if asJSON {
				return printJSON(c, struct {
					*hub.Snapshot
					Problem string `json:"problem,omitempty"`
				}{s, note})
			}
			fmt.Fprintf(c.ErrOrStderr(), "scumble: %s at commit %s: %d files, %d bytes\n", s.Model, s.Commit, len(s.Files), s.Bytes)
			_, err = fmt.Fprintln(c.OutOrStdout(), s.Dir)
			return err
		},
	}
	c.Flags().StringVar(&revision, "revision", "main", "branch, tag or `COMMIT`")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
