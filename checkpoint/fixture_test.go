package checkpoint

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/unet"
)

// Folders with models that diffusers 0.42.1 wrote; see the README.md in each
// package's testdata.
const (
	plainUNet = "../unet/testdata/unet2d"
	crossUNet = "../unet/testdata/unet2d_condition"
	vae       = "../autoencoder/testdata"
)

func readUNet(t testing.TB, path string) *unet.Config {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(path, configFile))
	if err != nil {
		t.Fatal(err)
	}
	c, err := unet.ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pixelModel returns a small class-conditional model of 32×32 images with one
// channel, whose UNet sees 16×16 cells of 4, with random weights.
func pixelModel(t testing.TB) *Model {
	t.Helper()
	m := &Model{UNet: readUNet(t, plainUNet), Scheduler: diffusion.DefaultConfig(),
		Classes: []string{"zero", "one", "two", "three"}, Channels: 1, Size: 31, PixelUnshuffle: 2,
		Card: "# A card\n\nwith *text*, verbatim.\n", Info: map[string]string{"recipe": "test", "seed": "7"}}
	m.UNet.InChannels, m.UNet.OutChannels = 4, 4
	return withWeights(t, m)
}

// latentModel has an autoencoder, cross attention and a class embedder.
func latentModel(t testing.TB) *Model {
	t.Helper()
	m := &Model{UNet: readUNet(t, crossUNet), Autoencoder: autoencoder.DefaultConfig(),
		ClassEmbedder: &ClassEmbedder{Entries: 3, Channels: 24}, Scheduler: diffusion.DefaultConfig(),
		Classes: []string{"cat", "dog"}, Channels: 3, Size: 16, PixelUnshuffle: 1}
	m.Autoencoder.BlockOutChannels, m.Autoencoder.NormNumGroups = []int{8, 16}, 4
	m.Autoencoder.LatentShift, m.Autoencoder.LatentScalingFactor = 0.125, 0.7
	m.Scheduler.Class, m.Scheduler.BetaSchedule = "DDIMScheduler", diffusion.ScaledLinear
	return withWeights(t, m)
}

func withWeights(t testing.TB, m *Model) *Model {
	t.Helper()
	specs, err := m.specs()
	if err != nil {
		t.Fatal(err)
	}
	m.Weights = nn.InitWeights(specs, rand.New(rand.NewPCG(1, 2)))
	return m
}

// saved writes a model into a fresh folder.
func saved(t testing.TB, m *Model) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	if err := Save(dir, m); err != nil {
		t.Fatal(err)
	}
	return dir
}

// foreign makes the folder that diffusers would write for the recorded UNet.
func foreign(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	put(t, dir, indexFile, `{"_class_name": "DDPMPipeline", "_diffusers_version": "0.42.1",
		"unet": ["diffusers", "UNet2DModel"], "scheduler": ["diffusers", "DDPMScheduler"],
		"safety_checker": [null, null], "requires_safety_checker": true}`)
	put(t, dir, "scheduler/scheduler_config.json", `{"_class_name": "DDPMScheduler", "lambda_min_clipped": -Infinity}`)
	for _, name := range []string{configFile, weightsFile} {
		data, err := os.ReadFile(filepath.Join(plainUNet, name))
		if err != nil {
			t.Fatal(err)
		}
		put(t, dir, filepath.Join("unet", name), string(data))
	}
	return dir
}

func put(t testing.TB, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// edit changes keys of a JSON object in a file; a nil value removes the key.
func edit(t testing.TB, path string, changes map[string]any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	for key, value := range changes {
		if keys[key] = value; value == nil {
			delete(keys, key)
		}
	}
	if data, err = json.Marshal(keys); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}
