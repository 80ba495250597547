// Command scumble turns private images into images that may be shared: it
// fine-tunes public diffusion models with differential privacy and gives back
// the model, a synthetic data set and a statement of the guarantee.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/scumble-dp/scumble/backend"
)

// garbage is how much of the live heap may be garbage before it is collected, in percent; GOGC,
// if set, decides. Ours is a few large vectors, in which the collector has nothing to look
// for: half as much as Go's default saves a sixth of the Go backend's memory and no time is lost.
const garbage = 50

func main() {
	backend.UseAllocator()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process: commands write data to out and talk to
// errs, and the exit code comes back.
func run(ctx context.Context, args []string, out, errs io.Writer) int {
	root := newRoot(out, errs)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	code := exitCode(err)
	if code == exitInterrupted {
		fmt.Fprintln(errs, "scumble: interrupted")
	} else {
		fmt.Fprintf(errs, "scumble: %v\n", err)
	}
	var h *hinted
	if errors.As(err, &h) {
		fmt.Fprintf(errs, "scumble: hint: %s\n", h.hint)
	} else if code == exitMisuse {
		fmt.Fprintf(errs, "scumble: hint: scumble %s--help shows an example\n", commandPath(root, args))
	}
	return code
}

// commandPath returns the words of args that name a command, each followed by
// a space.
func commandPath(root *cobra.Command, args []string) string {
	c, _, err := root.Find(args)
	if err != nil || c == root {
		return ""
	}
	return strings.TrimPrefix(c.CommandPath(), root.Name()+" ") + " "
}

// newRoot builds the command tree.
func newRoot(out, errs io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:           "scumble",
		Short:         "Private images in, images that may be shared out",
		SilenceErrors: true,
		SilenceUsage:  true,
		Long: `scumble fine-tunes a public diffusion model on private images with differential
privacy and gives back the model, a synthetic data set and a statement of the
guarantee that anyone can recompute.`,
		Example: "  scumble demo --out runs/demo",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			return c.Help()
		},
	}
	root.SetOut(out)
	root.SetErr(errs)
	root.CompletionOptions.HiddenDefaultCmd = true
	root.PersistentFlags().SortFlags = false
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misuse(err) })
	for _, add := range commands {
		root.AddCommand(add())
	}
	// Flags beat environment: a flag that was not given takes SCUMBLE_NAME.
	root.PersistentPreRunE = func(c *cobra.Command, _ []string) error {
		var failed error
		c.Flags().VisitAll(func(f *pflag.Flag) {
			key := "SCUMBLE_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
			value, ok := os.LookupEnv(key)
			if !ok || f.Changed || failed != nil || f.Name == "help" {
				return
			}
			if err := c.Flags().Set(f.Name, value); err != nil {
				failed = misuse(fmt.Errorf("environment variable %s: %w", key, err))
			}
		})
		return failed
	}
	return root
}
