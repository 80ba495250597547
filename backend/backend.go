package backend

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/gobackend"
)

// The names that [Open] takes and that [Info] reports.
const (
	Auto = "auto" // XLA where it works, else Go.
	Go   = "go"   // Pure Go.
	XLA  = "xla"  // PJRT plugin.
)

// goConfig makes the Go backend run the operations of one graph in order. Its
// default, parallel, deadlocks: see the package comment.
const goConfig = "ops_sequential"

// Info says what is known about one backend. It holds no private data.
type Info struct {
	Name      string `json:"name"`               // "go" or "xla"; of Install "malloc", too.
	Available bool   `json:"available"`          // Whether Open can be expected to succeed.
	Platform  string `json:"platform,omitempty"` // What computes: "cpu", "cuda", ...
	Path      string `json:"path,omitempty"`     // The plugin; empty for "go".
	Origin    string `json:"origin,omitempty"`   // Project and version of an installed plugin.
	SHA256    string `json:"sha256,omitempty"`   // Digest of an installed plugin when it was installed.
	Devices   int    `json:"devices,omitempty"`  // Once opened.
	SIMD      bool   `json:"simd,omitempty"`     // "go" only: vector instructions, see SIMD.
	Reason    string `json:"reason,omitempty"`   // Why it is not available, or why auto passed over XLA.
	Hint      string `json:"hint,omitempty"`     // One line: what to do to get something faster.
}

// OnCPU reports whether an opened backend computes on the machine's processor.
func (i Info) OnCPU() bool { return i.Name == Go || i.Platform == "cpu" }

// String returns the backend in a few words, fit for a line of a log.
func (i Info) String() string {
	switch {
	case i.Name == Go && i.SIMD:
		return "go (simd)"
	case i.Name == Go:
		return "go (no simd)"
	case i.Origin != "":
		return fmt.Sprintf("%s (%s)", strings.TrimSpace(i.Name+" "+i.Platform), i.Origin)
	default:
		return strings.TrimSpace(i.Name + " " + i.Platform)
	}
}

// Open opens the backend that spec names. The caller ends it with Finalize.
//
//   - "" or "auto": the best XLA plugin found, if it loads and computes; else
//     Go, and then Info.Reason says why and Info.Hint how to get XLA.
//   - "go": pure Go.
//   - "xla": the best plugin found; an error without one.
//   - "xla:PATH": the PJRT plugin in that file.
//   - "xla:PLATFORM": the plugin found for that platform, such as xla:cpu.
//
// A plugin is used only after it has computed a sum correctly. Open does not
// download, and gives up on a plugin that does not answer within a minute.
func Open(spec string) (compute.Backend, Info, error) {
	name, arg, hasArg := strings.Cut(spec, ":")
	switch {
	case hasArg && name != XLA:
		return nil, Info{}, fmt.Errorf("backend is %q, but only xla takes something after the colon; want auto, go, xla or xla:PATH", spec)
	case hasArg && arg == "":
		return nil, Info{}, errors.New("backend is \"xla:\" with nothing after the colon; want xla, or xla:PATH with the path of a PJRT plugin")
	case name == "" || name == Auto:
		return openAuto()
	case name == Go:
		return openGo()
	case name == XLA && isPath(arg):
		return openPath(arg)
	case name == XLA:
		return openXLA(arg)
	}
	return nil, Info{}, fmt.Errorf("backend is %q, want auto, go, xla or xla:PATH; \"scumble backend list\" shows what this machine has", spec)
}

// List returns what this machine has, best first: one entry per XLA plugin found
// (or one that says why there is none), then Go. Plugins are checked as files but
// not loaded; [Open] and [Probe] do that.
//
// Plugins are looked for in the folders of PJRT_PLUGIN_LIBRARY_PATH, in scumble's
// data folder, and where GoMLX keeps its own: ~/.local/lib/go-xla and
// /usr/local/lib/go-xla. Those for graphics cards come first where there is a card.
func List() []Info {
	infos := listXLA()
	if len(infos) == 0 {
		infos = append(infos, missingXLA(""))
	}
	return append(infos, goInfo())
}

// isPath tells a file ("xla:./plugin.so") from a platform ("xla:cpu").
func isPath(arg string) bool {
	return strings.ContainsAny(arg, `/\`) || filepath.Ext(arg) != ""
}

func goInfo() Info {
	info := Info{Name: Go, Available: true, Platform: "cpu", SIMD: SIMD()}
	if !info.SIMD && simdPossible {
		info.Hint = "rebuild with GOEXPERIMENT=simd: matrix products of the go backend become several times faster"
	}
	return info
}

func openGo() (compute.Backend, Info, error) {
	b, err := gobackend.New(goConfig)
	if err != nil {
		return nil, Info{}, fmt.Errorf("open go backend: %w", err)
	}
	info := goInfo()
	info.Devices = b.NumDevices()
	return b, info, nil
}

func openAuto() (compute.Backend, Info, error) {
	b, info, xlaErr := openXLA("")
	if xlaErr == nil {
		return b, info, nil
	}
	b, info, err := openGo()
	if err != nil {
		return nil, Info{}, err
	}
	info.Reason = firstLine(xlaErr)
	info.Hint = howToGetXLA()
	return b, info, nil
}

// openXLA opens the first working plugin for the platform, or for any if it is "".
func openXLA(platform string) (compute.Backend, Info, error) {
	var failures []error
	for _, info := range listXLA() {
		if platform != "" && info.Platform != platform {
			continue
		}
		if !info.Available {
			failures = append(failures, fmt.Errorf("%s: %s", info.Path, info.Reason))
			continue
		}
		b, opened, err := openPlugin(info)
		if err == nil {
			return b, opened, nil
		}
		failures = append(failures, err)
	}
	if len(failures) > 0 {
		return nil, Info{}, fmt.Errorf("no XLA plugin works here: %w", errors.Join(failures...))
	}
	missing := missingXLA(platform)
	return nil, Info{}, fmt.Errorf("%s; %s", missing.Reason, missing.Hint)
}

func openPath(path string) (compute.Backend, Info, error) {
	if !xlaBuilt {
		return nil, Info{}, fmt.Errorf("open XLA plugin %s: %s; %s", path, reasonNotBuilt, howToGetXLA())
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, Info{}, fmt.Errorf("open XLA plugin %s: %w", path, err)
	}
	info := inspect(abs)
	if !info.Available {
		return nil, Info{}, fmt.Errorf("open XLA plugin %s: %s", path, info.Reason)
	}
	return openPlugin(info)
}

// missingXLA describes the absence of a plugin.
func missingXLA(platform string) Info {
	info := Info{Name: XLA, Platform: platform, Hint: howToGetXLA()}
	switch {
	case !xlaBuilt:
		info.Reason = reasonNotBuilt
	case platform != "":
		info.Reason = fmt.Sprintf("no XLA plugin for %q found", platform)
		if platform != "cpu" {
			info.Hint = "pass the plugin's file with --backend xla:PATH; those of JAX work"
		}
	default:
		info.Reason = "no XLA plugin found"
	}
	return info
}

const reasonNotBuilt = "this binary was built without XLA (CGO_ENABLED=0 or -tags noxla)"

// howToGetXLA returns the one-line hint for this platform.
func howToGetXLA() string {
	if !xlaBuilt {
		return "for XLA, build scumble with a C compiler and CGO_ENABLED=1"
	}
	if a, ok := pinnedHere("cpu"); ok {
		return fmt.Sprintf("for XLA, several times faster, run \"make xla\", or \"pip download --no-deps %s==%s\" and \"scumble backend install WHEEL\"", a.Project, a.Version)
	}
	return "for XLA, several times faster, pass a PJRT plugin with --backend xla:PATH, or \"scumble backend install FILE --sha256 DIGEST\""
}

// firstLine keeps the stack traces that GoMLX adds out of one-line messages.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
