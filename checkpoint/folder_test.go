package checkpoint

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/safetensors"
)

func TestSaveLoad(t *testing.T) {
	for name, make := range map[string]func(testing.TB) *Model{"pixels": pixelModel, "latents": latentModel} {
		t.Run(name, func(t *testing.T) {
			m := make(t)
			dir := saved(t, m)
			got, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got.Weights.Names(), m.Weights.Names()) {
				t.Fatalf("tensors are %q, want %q", got.Weights.Names(), m.Weights.Names())
			}
			for _, want := range m.Weights.All() {
				if !reflect.DeepEqual(got.Weights.Get(want.Name), want) {
					t.Errorf("tensor %q changed", want.Name)
				}
			}
			for _, pair := range [][2]json.Marshaler{{got.UNet, m.UNet}, {got.Scheduler, m.Scheduler}} {
				if a, b := text(t, pair[0]), text(t, pair[1]); a != b {
					t.Errorf("config is\n%s\nwant\n%s", a, b)
				}
			}
			if m.Autoencoder != nil && text(t, got.Autoencoder) != text(t, m.Autoencoder) {
				t.Errorf("vae config is %s, want %s", text(t, got.Autoencoder), text(t, m.Autoencoder))
			}
			for _, pair := range [][2]any{
				{got.ClassEmbedder, m.ClassEmbedder}, {got.Classes, m.Classes}, {got.Channels, m.Channels}, {got.Size, m.Size},
				{got.PixelUnshuffle, m.PixelUnshuffle}, {got.Card, m.Card}, {got.Info, m.Info}, {got.NullClass(), len(m.Classes)},
			} {
				if !reflect.DeepEqual(pair[0], pair[1]) {
					t.Errorf("got %v, want %v", pair[0], pair[1])
				}
			}
			// The same model gives the same bytes.
			again := saved(t, got)
			for _, file := range files(t, dir) {
				a, b := read(t, dir, file), read(t, again, file)
				if a != b {
					t.Errorf("%s differs when saved again", file)
				}
			}
			if a, b := files(t, dir), files(t, again); !slices.Equal(a, b) {
				t.Errorf("files are %q, then %q", a, b)
			}
		})
	}
}

func TestSavedFolder(t *testing.T) {
	dir := saved(t, latentModel(t))
	want := []string{"class_embedder/class_embedder.py", "class_embedder/config.json", "class_embedder/diffusion_pytorch_model.safetensors",
		"model_index.json", "pipeline.py", "scheduler/scheduler_config.json", "scumble.json", "unet/config.json",
		"unet/diffusion_pytorch_model.safetensors", "vae/config.json", "vae/diffusion_pytorch_model.safetensors"}
	if got := files(t, dir); !slices.Equal(got, want) {
		t.Errorf("files are %q, want %q", got, want)
	}
	// Layouts as PyTorch has them.
	f, err := safetensors.Open(filepath.Join(dir, "unet", weightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for name, want := range map[string][]int{"conv_in.weight": {16, 4, 3, 3}, "time_embedding.linear_1.weight": {64, 16}, "conv_out.bias": {4}} {
		if _, shape, err := f.Info(name); err != nil || !slices.Equal(shape, want) {
			t.Errorf("tensor %q has shape %v (%v), want %v", name, shape, err, want)
		}
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("folder has mode %v (%v), want 0755", info.Mode(), err)
	}
}

func TestSaveRefusesToOverwrite(t *testing.T) {
	m := pixelModel(t)
	dir := t.TempDir() // There, and empty.
	if err := Save(dir, m); !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("error is %v, want one that the folder exists", err)
	}
}

func TestSaveLeavesNothingBehind(t *testing.T) {
	m := pixelModel(t)
	m.Weights.All()[3].Data[0] /= 0
	parent := t.TempDir()
	err := Save(filepath.Join(parent, "model"), m)
	if err == nil || !strings.Contains(err.Error(), "want finite") {
		t.Errorf("error is %v, want one about a value that is not finite", err)
	}
	if left := files(t, parent); len(left) != 0 {
		t.Errorf("left behind: %q", left)
	}
	entries, _ := os.ReadDir(parent)
	if len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestLoadForeignFolder(t *testing.T) {
	dir := foreign(t)
	m, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if m.Channels != 1 || m.Size != 16 || m.PixelUnshuffle != 1 || !slices.Equal(m.Classes, []string{"0", "1", "2", "3"}) {
		t.Errorf("got %d channels, size %d, unshuffle %d, classes %q", m.Channels, m.Size, m.PixelUnshuffle, m.Classes)
	}
	// Values land where the layouts say: against the file itself.
	f, err := safetensors.Open(filepath.Join(dir, "unet", weightsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	values := func(name string) []float32 {
		raw, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := raw.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	kernel, file := m.Weights.Get("unet.conv_in.weight"), values("conv_in.weight") // [3 3 1 16] of [16 1 3 3]
	dense, denseFile := m.Weights.Get("unet.time_embedding.linear_1.weight"), values("time_embedding.linear_1.weight")
	for y := range 3 {
		for x := range 3 {
			for out := range 16 {
				if kernel.Data[(y*3+x)*16+out] != file[out*9+y*3+x] {
					t.Fatalf("kernel value at %d, %d of channel %d is wrong", y, x, out)
				}
			}
		}
	}
	for in := range 16 {
		for out := range 64 {
			if dense.Data[in*64+out] != denseFile[out*16+in] {
				t.Fatalf("dense value from %d to %d is wrong", in, out)
			}
		}
	}
	if !strings.Contains(text(t, m.Scheduler), `"lambda_min_clipped":-Infinity`) {
		t.Error("the scheduler config lost -Infinity")
	}
	if _, err := Load(saved(t, m)); err != nil {
		t.Errorf("a foreign model, saved: %v", err)
	}
}

func text(t testing.TB, m json.Marshaler) string {
	t.Helper()
	data, err := m.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func files(t testing.TB, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		list = append(list, filepath.ToSlash(name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func read(t testing.TB, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// SaveHalf halves the weight files, and what it writes loads to within half
// precision: 2^-11 relative.
func TestSaveHalf(t *testing.T) {
	m := withWeights(t, latentModel(t))
	whole, half := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "half")
	if err := Save(whole, m); err != nil {
		t.Fatal(err)
	}
	if err := SaveHalf(half, m); err != nil {
		t.Fatal(err)
	}
	size := func(dir string) int64 {
		info, err := os.Stat(filepath.Join(dir, "unet", weightsFile))
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	if 10*size(half) > 7*size(whole) {
		t.Errorf("half precision takes %d bytes, full %d", size(half), size(whole))
	}
	got, err := Load(half)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range m.Weights.All() {
		for i, v := range got.Weights.Get(w.Name).Data {
			if d := math.Abs(float64(v - w.Data[i])); d > math.Abs(float64(w.Data[i]))/2048+1e-7 {
				t.Fatalf("%s[%d] is %g, was %g", w.Name, i, v, w.Data[i])
			}
		}
	}
}
