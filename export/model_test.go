package export

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
	"github.com/scumble-dp/scumble/unet"
)

func adapted(t *testing.T, c *adapter.Config) *checkpoint.Model {
	t.Helper()
	u, err := unet.ParseConfig([]byte(`{"_class_name": "UNet2DModel", "sample_size": 8, "in_channels": 1, "out_channels": 1, "layers_per_block": 1,
		"block_out_channels": [8, 8], "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
		"norm_num_groups": 4, "num_class_embeds": 3}`))
	if err != nil {
		t.Fatal(err)
	}
	m := &checkpoint.Model{UNet: u, Scheduler: diffusion.DefaultConfig(), Classes: []string{"a", "b"}, Channels: 1, Size: 8, PixelUnshuffle: 1,
		Adapter: c, Weights: nn.NewWeights()}
	specs, err := m.Specs(backendtest.Open(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for _, s := range specs {
		if s.Init == nn.InitZeros && len(s.Shape) > 1 {
			s.Init = nn.InitFanIn
		}
		m.Weights.Add(nn.NewTensor(s, rng))
	}
	return m
}

func TestModel(t *testing.T) {
	b := backendtest.Open(t, "go")
	lora := &adapter.Config{Rank: 2, Alpha: 3, Targets: []string{"to_q", "conv2"}}
	linear := &adapter.Config{Rank: 2, Core: adapter.LinearCore, Kernel: 3, Layers: []string{"mid_block"}}
	bent := &adapter.Config{Rank: 2, Core: adapter.NonLinearCore, Kernel: 3, Layers: []string{"mid_block"}}
	for name, c := range map[string]struct {
		adapter *adapter.Config
		format  ModelFormat
		merged  bool
		refused string
	}{
		"LoRA as PEFT":       {lora, PEFT, false, ""},
		"LoRA for diffusers": {lora, DiffusersLoRA, false, ""},
		"LoRA for kohya":     {lora, Kohya, false, ""},
		"LoRA merged":        {lora, Diffusers, true, ""},
		"LoDA for kohya":     {linear, Kohya, false, ""},
		"LoDA as PEFT":       {linear, PEFT, false, ""},
		"LoDA merged":        {linear, Diffusers, true, ""},
		"bent LoDA":          {bent, Diffusers, false, ""},
		"bent LoDA, kohya":   {bent, Kohya, false, "non-linear"},
		"no adapter":         {nil, Kohya, false, "no adapter"},
		"plain":              {nil, Diffusers, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			m := adapted(t, c.adapter)
			r, err := Model(b, nn.LoweringFor("go"), out, m, c.format, PrivacyMetadata(8, 1e-5))
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("error is %v, want one with %q", err, c.refused)
				}
				if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
					t.Error("something was left behind")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.Merged != c.merged || r.Tensors == 0 || r.Difference > 1e-5 {
				t.Errorf("result is %+v", r)
			}
			if c.format == Kohya {
				_, metadata, err := safetensors.Read(filepath.Join(out, checkpoint.KohyaFile))
				if err != nil || metadata["dp.epsilon"] != "8" || metadata["ss_network_module"] == "" {
					t.Errorf("metadata is %v (%v)", metadata, err)
				}
			}
			if _, err := Model(b, nn.LoweringFor("go"), out, m, c.format, nil); !errors.Is(err, fs.ErrExist) {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}
