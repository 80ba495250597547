package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/backend"
)

// buildFacts says what this binary was made from. A run directory keeps it.
type buildFacts struct {
	Version  string `json:"version"`            // Of the module; "(devel)" from a checkout.
	Revision string `json:"revision,omitempty"` // Of the version control system.
	Time     string `json:"time,omitempty"`     // Of the revision, RFC 3339.
	Modified bool   `json:"modified"`           // Whether the checkout differed from the revision.
	Go       string `json:"go"`                 // Version of Go.
	GoMLX    string `json:"gomlx"`              // Version of the engine.
	Platform string `json:"platform"`           // Operating system and architecture.
	Backend  string `json:"backend"`            // What --backend auto tries first.
}

// thisBuild reads the build information of the binary.
func thisBuild() buildFacts {
	b := buildFacts{Version: "unknown", Go: runtime.Version(), GoMLX: "unknown", Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.read(info)
	}
	for _, info := range backend.List() {
		if info.Available {
			b.Backend = info.String()
			break
		}
	}
	return b
}

func (b *buildFacts) read(info *debug.BuildInfo) {
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	for _, d := range info.Deps {
		if d.Path == "github.com/gomlx/gomlx" {
			if d.Replace != nil {
				d = d.Replace
			}
			b.GoMLX = d.Version
		}
	}
}

// revision returns the revision in words.
func (b buildFacts) revision() string {
	switch {
	case b.Revision == "":
		return "unknown: not built in a checkout"
	case b.Modified:
		return b.Revision + ", with changes"
	}
	return b.Revision
}

func newVersion() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:     "version",
		Short:   "Say which scumble this is",
		Long:    `version prints what this binary was built from and what it computes with.`,
		Example: "  scumble version --json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			b := thisBuild()
			if asJSON {
				return printJSON(c, b)
			}
			out := c.OutOrStdout()
			fmt.Fprintf(out, "scumble   %s\n", b.Version)
			fmt.Fprintf(out, "revision  %s\n", b.revision())
			fmt.Fprintf(out, "go        %s %s\n", b.Go, b.Platform)
			fmt.Fprintf(out, "gomlx     %s\n", b.GoMLX)
			fmt.Fprintf(out, "backend   %s\n", b.Backend)
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}
