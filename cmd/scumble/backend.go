package main

import (
	"encoding/hex"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/backend"
)

func newBackend() *cobra.Command {
	c := &cobra.Command{
		Use:   "backend",
		Short: "List and install what computes",
		Long: `backend shows what can compute on this machine. The go backend is always there;
xla is faster and needs a PJRT plugin, which scumble never downloads by itself.`,
		Example: "  scumble backend list",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newBackendList(), newBackendInstall())
	return c
}

func newBackendList() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the backends of this machine, best first",
		Long: `list shows the backends that --backend takes, best first: auto takes the first
that works. Plugins are looked for, not loaded; scumble doctor runs them.`,
		Example: "  scumble backend list",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			infos := backend.List()
			if asJSON {
				return printJSON(c, struct {
					Backends []backend.Info `json:"backends"`
				}{infos})
			}
			for _, info := range infos {
				printBackend(c.OutOrStdout(), info)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// printBackend writes a backend and, indented, what there is to say about it.
func printBackend(out io.Writer, info backend.Info) {
	state := "ready"
	if !info.Available {
		state = "not available"
	}
	fmt.Fprintf(out, "%s: %s\n", info, state)
	for _, line := range []struct{ name, value string }{
		{"file", homeless(info.Path)}, {"sha256", info.SHA256}, {"reason", info.Reason}, {"hint", info.Hint},
	} {
		if line.value != "" {
			fmt.Fprintf(out, "  %s: %s\n", line.name, line.value)
		}
	}
}

func newBackendInstall() *cobra.Command {
	var o backend.InstallOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "install WHEEL",
		Short: "Install an XLA plugin, or mimalloc, from a file that you fetched",
		Long: `install takes the one library that XLA needs out of a file and puts it into your
data folder ($XDG_DATA_HOME/scumble, or ~/.local/share/scumble). WHEEL is a
Python wheel, GoMLX's archive (.tar.gz, .zip) or the library itself.

The wheel cmeel-mimalloc of the version that scumble knows is taken, too. From then
on scumble starts with mimalloc in malloc's place, which makes steps on XLA up to a
fifth faster; SCUMBLE_MALLOC=system leaves the C library's there.

Nothing is downloaded. A plugin runs with your rights, so a file that scumble
does not know is taken only with the SHA-256 sum that its publisher states.`,
		Example: "  scumble backend install lammps_jax_pjrt_cpu-0.11.2-py3-none-manylinux_2_27_x86_64.whl",
		Args:    exactly("WHEEL"),
		RunE: func(c *cobra.Command, args []string) error {
			if sum, err := hex.DecodeString(o.SHA256); err != nil || len(sum) != 0 && len(sum) != 32 {
				return misuse(fmt.Errorf("--sha256 is %q, want 64 hexadecimal digits", o.SHA256))
			}
			info, err := backend.Install(args[0], o)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c, info)
			}
			printBackend(c.OutOrStdout(), info)
			return nil
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.SHA256, "sha256", "", "SHA-256 sum of the file, 64 `HEX` digits; required for a file that scumble does not know")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
