package backend

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// isolate hides this machine's plugins, so that a test sees only its own.
func isolate(t *testing.T) (data string) {
	t.Helper()
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("XDG_DATA_HOME", filepath.Join(home, "data"))
	t.Setenv("PJRT_PLUGIN_LIBRARY_PATH", "")
	saved := systemFolders
	systemFolders = nil
	t.Cleanup(func() { systemFolders = saved })
	return filepath.Join(home, "data", "scumble", "pjrt")
}

func TestOpenRefusesUnknownSpecs(t *testing.T) {
	isolate(t)
	for spec, want := range map[string]string{
		"tpu":            "want auto, go, xla or xla:PATH",
		"Go":             "want auto, go, xla or xla:PATH",
		"go:parallel":    "only xla takes something after the colon",
		"auto:cpu":       "only xla takes something after the colon",
		"xla:":           "nothing after the colon",
		"xla":            "no XLA plugin found",
		"xla:cuda":       `no XLA plugin for "cuda" found`,
		"xla:./none.so":  "there is no such file",
		"xla:/none.so":   "there is no such file",
		"stablehlo":      "want auto, go, xla or xla:PATH", // An alias that GoMLX registers.
		"xla:cpu,tf32=0": `no XLA plugin for "cpu,tf32=0" found`,
	} {
		b, _, err := Open(spec)
		if err == nil {
			b.Finalize()
			t.Errorf("Open(%q) succeeded, want an error with %q", spec, want)
			continue
		}
		if !xlaBuilt && strings.HasPrefix(spec, "xla") && spec != "xla:" {
			want = "built without XLA"
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%q): %v, want %q in it", spec, err, want)
		}
	}
}

func TestOpenGo(t *testing.T) {
	b, info, err := Open("go")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Finalize()
	if b.String() != "go" || info.Name != Go || !info.Available || info.Devices != 1 || info.SIMD != SIMD() {
		t.Errorf("opened %v with %+v", b, info)
	}
}

func TestAutoWithoutPluginTakesGoAndSaysHowToGetXLA(t *testing.T) {
	isolate(t)
	for _, spec := range []string{"", "auto"} {
		b, info, err := Open(spec)
		if err != nil {
			t.Fatal(err)
		}
		defer b.Finalize()
		if info.Name != Go || info.Reason == "" || info.Hint == "" || strings.Contains(info.Hint+info.Reason, "\n") {
			t.Errorf("Open(%q) gave %+v, want go with one line each of reason and hint", spec, info)
		}
	}
}

// A library cut off in the middle would end the process with SIGBUS when loaded,
// and GoMLX's own search panics on any file that does not load.
func TestBrokenPluginsAreSeenAndPassedOver(t *testing.T) {
	if !xlaBuilt {
		t.Skip("left out: " + reasonNotBuilt)
	}
	whole := fakeLibrary(pjrtSymbol)
	for name, c := range map[string]struct {
		content []byte
		reason  string
	}{
		"empty":          {nil, "not a shared library"},
		"text":           {[]byte("<!DOCTYPE html>"), "not a shared library"},
		"no plugin":      {fakeLibrary("Other"), "does not export GetPjrtApi"},
		"cut off":        {whole[:len(whole)-1], "cut off"},
		"does not load":  {whole, ""}, // It passes for a plugin until the linker looks.
		"other platform": {append(append([]byte{}, whole[:18]...), append([]byte{0xff, 0xff}, whole[20:]...)...), "built for"},
	} {
		t.Run(name, func(t *testing.T) {
			isolate(t)
			folder := t.TempDir()
			t.Setenv("PJRT_PLUGIN_LIBRARY_PATH", folder)
			path := filepath.Join(folder, "pjrt_c_api_cpu_plugin.so")
			if err := os.WriteFile(path, c.content, 0o644); err != nil {
				t.Fatal(err)
			}
			infos := List()
			if len(infos) != 2 || infos[0].Path != path || infos[0].Available != (c.reason == "") || !strings.Contains(infos[0].Reason, c.reason) {
				t.Errorf("List() = %+v, want the plugin with reason %q, then go", infos, c.reason)
			}
			b, info, err := Open("auto")
			if err != nil {
				t.Fatal(err)
			}
			defer b.Finalize()
			if info.Name != Go || !strings.Contains(info.Reason, path) {
				t.Errorf("auto gave %+v, want go with a reason that names the plugin", info)
			}
			if b, _, err := Open("xla:" + path); err == nil {
				b.Finalize()
				t.Error("a broken plugin opened")
			}
		})
	}
}

func TestPathsThatGoMLXMisreads(t *testing.T) {
	for _, c := range []struct {
		path string
		ok   bool
	}{
		{"/home/me/pjrt_c_api_cpu_plugin.so", true},
		{"/home/me/cuda-tools/pjrt_c_api_cpu_plugin.so", false},
		{"/opt/nvidia/xla_cuda_plugin.so", true},
		{"/mnt/cpu-node/xla_cuda_plugin.so", false},
		{"/home/a,b/pjrt_c_api_cpu_plugin.so", false},
		{"/home/me/libtpu.so", true},
	} {
		if err := checkPath(c.path, platformOf(c.path)); (err == nil) != c.ok {
			t.Errorf("checkPath(%q) = %v, want ok %v", c.path, err, c.ok)
		}
	}
}

func TestPlatformOf(t *testing.T) {
	for path, want := range map[string]string{
		"/x/pjrt_c_api_cpu_plugin.so":          "cpu",
		"/x/pjrt_c_api_cpu_v0.114.0_plugin.so": "cpu",
		"/x/pjrt-plugin-cuda.so":               "cuda",
		"xla_cuda_plugin.so":                   "cuda",
		"/cpu/libc.so":                         "",
		"pjrt_c_api_../../x_plugin.so":         "",
		"pjrt_c_api_cpu_plugin.so.tmp":         "",
	} {
		if got := platformOf(path); got != want {
			t.Errorf("platformOf(%q) = %q, want %q", path, got, want)
		}
	}
}
