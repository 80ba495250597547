package parity

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func lowering(t *testing.T, b compute.Backend) nn.Lowering {
	if b == backendtest.Open(t, "go") {
		return nn.LoweringFor("go")
	}
	return nn.LoweringFor("xla")
}

// TestRecordedSet: every comparison of a set with other shapes and options than
// the ones that other packages keep. testdata/README.md says how it was made.
func TestRecordedSet(t *testing.T) {
	dirs := []string{filepath.Join("testdata", "small")}
	if more := os.Getenv("SCUMBLE_PARITY"); more != "" {
		dirs = append(dirs, more)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				if b != backendtest.Open(t, "go") && os.Getenv("SCUMBLE_SLOW") == "" {
					t.Skip("left out, since XLA compiles for a minute; SCUMBLE_SLOW=1 runs it")
				}
				r, err := Walk(context.Background(), b, dir, Options{Lowering: lowering(t, b)})
				if err != nil {
					t.Fatal(err)
				}
				kinds := map[string]int{}
				for _, e := range r.Entries {
					off := -1.0
					if e.MaxRelativeError != nil {
						off = *e.MaxRelativeError
					}
					t.Logf("%-55s %-45s %.1e %v %s", e.Path, e.What, off, e.OK, e.Error)
					if !e.OK {
						t.Errorf("%s: %s is off by %.2e, want at most %g %s", e.Path, e.What, off, e.Tolerance, e.Error)
					}
					kinds[strings.SplitN(e.Path, "/", 2)[0]]++
				}
				if !r.OK {
					t.Error("the report is not ok")
				}
				for _, folder := range []string{"unet2d", "unet2d_condition", "autoencoder_kl", "vqmodel", "clip_text", "schedulers",
					"lora_attn_unet2d", "lora_conv_unet2d", "lora_attn_unet2d_condition", "dp_grads"} {
					if kinds[folder] == 0 {
						t.Errorf("nothing of %s was compared", folder)
					}
				}
			})
		})
	}
}

// copied returns a copy of part of the recorded set that a test may spoil.
func copied(t *testing.T, parts ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, part := range parts {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join("testdata", "small", part))); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func walk(t *testing.T, dir string) *Report {
	t.Helper()
	b := backendtest.Open(t, "go")
	r, err := Walk(context.Background(), b, dir, Options{Lowering: lowering(t, b)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// What is spoilt or not known must show.
func TestWalkFindsFaults(t *testing.T) {
	write := func(t *testing.T, path, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		parts []string
		spoil func(t *testing.T, dir string)
		want  string // In path, what or error of the entry that fails.
	}{
		"a weight": {[]string{"unet2d"}, func(t *testing.T, dir string) {
			path := filepath.Join(dir, "unet2d", "diffusion_pytorch_model.safetensors")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[len(data)-5] ^= 0x40 // An exponent.
			write(t, path, string(data))
		}, "UNet2DModel output"},
		"alpha of an adapter": {[]string{"unet2d", "lora_attn_unet2d"}, func(t *testing.T, dir string) {
			path := filepath.Join(dir, "lora_attn_unet2d", "adapter_config.json")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, strings.Replace(string(data), `"lora_alpha": 3.0`, `"lora_alpha": 4.0`, 1))
		}, "adapter applied"},
		"a setting of a scheduler": {[]string{"schedulers"}, func(t *testing.T, dir string) {
			path := filepath.Join(dir, "schedulers", "dpmpp_2m", "scheduler_config.json")
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			write(t, path, strings.Replace(string(data), `"solver_order": 2`, `"solver_order": 1`, 1))
		}, "DPMSolverMultistepScheduler step"},
		"a folder of another kind": {[]string{"clip_text"}, func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "sounds", "a.wav"), "RIFF")
		}, "sounds/a.wav"},
		"a class of another kind": {nil, func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "x", "config.json"), `{"_class_name": "Transformer2DModel"}`)
		}, "x/io.safetensors"},
		"nothing": {nil, func(t *testing.T, dir string) {}, "no record"},
		"broken JSON": {nil, func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "x", "scheduler_config.json"), `{`)
		}, "x/trajectory.safetensors"},
		"gradients without a batch": {[]string{"unet2d"}, func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "dp_grads", "unet2d_full.names.json"), `[]`)
		}, "dp_grads/unet2d_full.safetensors"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := copied(t, c.parts...)
			c.spoil(t, dir)
			r := walk(t, dir)
			if r.OK {
				t.Error("the report is ok")
			}
			found := false
			for _, e := range r.Entries {
				if !e.OK && strings.Contains(e.Path+" "+e.What+" "+e.Error, c.want) {
					found = true
				}
			}
			if !found {
				t.Errorf("no failed entry names %q: %+v", c.want, r.Entries)
			}
		})
	}
}
