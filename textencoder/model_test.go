package textencoder

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// The recorded outputs are those of transformers and diffusers in float64
// (testdata/README.md).
func TestMatchesRecorded(t *testing.T) {
	for _, dir := range []string{"testdata/clip_text", "testdata/ldmbert"} {
		t.Run(dir[len("testdata/"):], func(t *testing.T) {
			c := readConfig(t, dir)
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				specs, err := c.Specs(b)
				if err != nil {
					t.Fatal(err)
				}
				w := weights(t, dir+"/model.safetensors", specs)
				io, shapes, tokens := recorded(t, dir+"/io.safetensors")
				out := encode(t, b, c, w, tokens, shapes["input_ids"][0])
				check := func(what string, got *tensors.Tensor) {
					want, ok := io[what]
					if !ok {
						return
					}
					d := distance(t, got, want)
					t.Logf("%s: %.1e", what, d)
					if d > 1e-4 {
						t.Errorf("%s differs by %.2e of its largest entry, want at most 1e-4", what, d)
					}
				}
				check("last_hidden_state", out[0])
				check("pooler_output", out[1])
				for i, h := range out[2:] {
					if c.Class == CLIP && i == c.Layers {
						continue // Transformers 5 records the last one behind the norm, or not, by version.
					}
					check(fmt.Sprintf("hidden_states.%d", i), h)
				}
			})
		})
	}
}

// TestCausal: a token of CLIP does not see later ones; LDMBert's do.
func TestCausal(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, class := range []Class{CLIP, LDMBert} {
		c := small(class)
		specs, err := c.Specs(b)
		if err != nil {
			t.Fatal(err)
		}
		w := nn.InitWeights(specs, rand.New(rand.NewPCG(1, 2)))
		first := func(tokens ...int32) []float32 {
			data := tensors.MustCopyFlatData[float32](encode(t, b, c, w, tokens, 1)[0])
			return data[:2*c.Width]
		}
		before, after := first(3, 1, 4, 1), first(3, 1, 4, 5)
		same := true
		for i := range before {
			same = same && before[i] == after[i]
		}
		if same != (class == CLIP) {
			t.Errorf("%s: the first tokens stay the same when the last changes: %v", class, same)
		}
	}
}

// TestRowsDoNotMix: the context of a text does not depend on the texts beside it.
func TestRowsDoNotMix(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, class := range []Class{CLIP, LDMBert} {
		c := small(class)
		specs, err := c.Specs(b)
		if err != nil {
			t.Fatal(err)
		}
		w := nn.InitWeights(specs, rand.New(rand.NewPCG(1, 2)))
		both := tensors.MustCopyFlatData[float32](encode(t, b, c, w, []int32{1, 2, 3, 6, 5, 4}, 2)[0])
		other := tensors.MustCopyFlatData[float32](encode(t, b, c, w, []int32{1, 2, 3, 0, 0, 7}, 2)[0])
		for i := range len(both) / 2 {
			if both[i] != other[i] {
				t.Fatalf("%s: value %d of row 0 changed with row 1", class, i)
			}
		}
	}
}

func small(class Class) *Config {
	c := Default(class)
	c.Vocabulary, c.Positions, c.Width, c.Layers, c.Heads, c.HeadWidth, c.Hidden, c.EndToken = 8, 6, 12, 2, 3, 4, 16, 7
	return c
}

// TestFullSize: the parameters of the published models, counted.
func TestFullSize(t *testing.T) {
	b := backendtest.Open(t, "go")
	sd := Default(CLIP) // Stable Diffusion 1.5: ViT-L/14.
	sd.Width, sd.Hidden, sd.Heads = 768, 3072, 12
	for _, tc := range []struct {
		name string
		c    *Config
		want int
	}{
		{"stable diffusion 1.5", sd, 123060480},
		// 30522·1280 + 77·1280 tables, 32 layers, a norm, and 1280·30522 + 30522 logits.
		{"text-to-image of latent diffusion", Default(LDMBert), 30522*1280 + 77*1280 + 2560 + 1280*30522 + 30522 +
			32*(2*2560+3*1280*512+512*1280+1280+2*1280*5120+5120+1280)},
	} {
		specs, err := tc.c.Specs(b)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, s := range specs {
			n += s.Size()
		}
		if n != tc.want {
			t.Errorf("%s has %d parameters, want %d", tc.name, n, tc.want)
		}
	}
}

func ExampleConfig_Specs() {
	c := Default(LDMBert)
	fmt.Println(c.Layers, c.Heads*c.HeadWidth, c.Width)
	// Output: 32 512 1280
}
