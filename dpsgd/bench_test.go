package dpsgd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/unet"
)

// The UNets of recipes/glyphs-latent.yaml and recipes/glyphs-pixel.yaml.
const (
	latentUNet = `{"_class_name": "UNet2DConditionModel", "sample_size": 4, "in_channels": 6, "out_channels": 6,
		"block_out_channels": [64, 64], "layers_per_block": 1, "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
		"mid_block_type": "UNetMidBlock2DCrossAttn", "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
		"cross_attention_dim": 64, "attention_head_dim": [4, 4], "norm_num_groups": 16}`
	pixelUNet = `{"_class_name": "UNet2DModel", "sample_size": 7, "in_channels": 16, "out_channels": 16,
		"block_out_channels": [64, 64], "layers_per_block": 1, "down_block_types": ["AttnDownBlock2D", "DownBlock2D"],
		"up_block_types": ["UpBlock2D", "AttnUpBlock2D"], "attention_head_dim": 32, "norm_num_groups": 16, "num_class_embeds": 37}`
)

// workload is a UNet with a trainable set.
type workload struct {
	config    *unet.Config
	adapter   nn.Adapter
	weights   *nn.Weights
	trainable []string
	grid      int
}

func newWorkload(t testing.TB, backend compute.Backend, config, set string) *workload {
	t.Helper()
	w := &workload{}
	var err error
	if w.config, err = unet.ParseConfig([]byte(config)); err != nil {
		t.Fatal(err)
	}
	w.grid = 7
	if strings.Contains(config, "Condition") {
		w.grid = 4
	}
	if set == "loda" {
		w.adapter = &adapter.LoDA{Rank: 4, Target: adapter.Convolutions(3)}
	}
	specs, err := nn.Collect(backend, nn.Options{Adapter: w.adapter}, func(s *nn.Scope) {
		g := s.Graph()
		rows := func(dims ...int) *graph.Node {
			return graph.Zeros(g, shapes.Make(dtypes.Float32, append([]int{2}, dims...)...))
		}
		in := []*graph.Node{rows(w.grid, w.grid, w.config.InChannels), rows(w.grid, w.grid, w.config.InChannels), rows(), rows()}
		w.loss(s, in)
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range specs {
		if specs[i].Init == nn.InitZeros { // Zeros would let whole branches have no gradient.
			specs[i].Init = nn.InitFanIn
		}
	}
	w.weights = nn.InitWeights(specs, rand.New(rand.NewPCG(1, 0)))
	switch set {
	case "full":
		w.trainable = adapter.Everything(specs)
	case "attention":
		for _, s := range specs {
			if strings.Contains(s.Name, ".attentions.") || strings.Contains(s.Name, "class") {
				w.trainable = append(w.trainable, s.Name)
			}
		}
	case "loda":
		w.trainable = adapter.Adapters(specs)
	}
	return w
}

// loss: inputs are clean [examples, ...], noise [rows, ...], timestep and class [rows].
func (w *workload) loss(s *nn.Scope, in []*graph.Node) *graph.Node {
	draws := in[1].Shape().Dimensions[0] / in[0].Shape().Dimensions[0]
	noisy := graph.Add(graph.MulScalar(diffusion.Repeat(in[0], draws), 0.8), graph.MulScalar(in[1], 0.6))
	class := graph.ConvertDType(in[3], dtypes.Int32)
	inputs := unet.Inputs{Sample: noisy, Timesteps: in[2]}
	if w.config.NumClassEmbeds > 0 {
		inputs.Classes = class
	} else {
		token := nn.Embed(s.In("class_embedder"), class, 11, 64)
		inputs.Context = graph.Reshape(token, token.Shape().Dimensions[0], 1, 64)
	}
	return diffusion.LossPerExample(w.config.Forward(s, inputs), in[1], draws)
}

func (w *workload) fetch(draws int) Fetch {
	return func(positions []int, size int) ([]*tensors.Tensor, error) {
		per := w.grid * w.grid * w.config.InChannels
		rows := size * draws
		clean, noise := make([]float32, size*per), make([]float32, rows*per)
		t, class := make([]float32, rows), make([]float32, rows)
		for i, p := range positions {
			rng := rand.New(rand.NewPCG(7, uint64(p)))
			for j := range per {
				clean[i*per+j] = float32(rng.NormFloat64())
			}
			for k := range draws {
				row := i*draws + k
				t[row], class[row] = float32(rng.IntN(1000)), float32(p%11)
				for j := range per {
					noise[row*per+j] = float32(rng.NormFloat64())
				}
			}
		}
		d := []int{w.grid, w.grid, w.config.InChannels}
		return []*tensors.Tensor{
			tensors.FromFlatDataAndDimensions(clean, append([]int{size}, d...)...),
			tensors.FromFlatDataAndDimensions(noise, append([]int{rows}, d...)...),
			tensors.FromFlatDataAndDimensions(t, rows), tensors.FromFlatDataAndDimensions(class, rows),
		}, nil
	}
}

// BenchmarkStep times the clipped sum of 64 examples of 2 draws: 2 physical
// batches of 32 on 2 workers. It reports draws per wall second, and processor
// time per draw, which a busy machine disturbs less.
func BenchmarkStep(b *testing.B) {
	const examples, draws = 64, 2
	for _, c := range []struct{ name, config, set string }{
		{"latent-attention", latentUNet, "attention"}, {"pixel-loda", pixelUNet, "loda"},
		{"latent-full", latentUNet, "full"}, {"pixel-full", pixelUNet, "full"},
	} {
		for _, method := range []Method{BookKeeping, PerExampleLoop} {
			b.Run(fmt.Sprintf("%s/%s", c.name, method), func(b *testing.B) {
				for _, name := range backendtest.Names {
					b.Run(name, func(b *testing.B) {
						backend := backendtest.Open(b, name)
						w := newWorkload(b, backend, c.config, c.set)
						e, err := NewEngine(backend, EngineOptions{
							Method: method, ClippingNorm: 1, NN: nn.Options{Lowering: nn.LoweringFor(name), Adapter: w.adapter},
							Weights: w.weights, Trainable: w.trainable, Loss: w.loss, Workers: 2,
						})
						if err != nil {
							b.Fatal(err)
						}
						defer e.Close()
						vector := w.weights.Flatten(w.trainable)
						step := func() {
							if _, _, err := e.Sum(context.Background(), vector, examples, w.fetch(draws)); err != nil {
								b.Fatal(err)
							}
						}
						step()
						b.ResetTimer()
						start, used := time.Now(), cpuTime()
						for range b.N {
							step()
						}
						n := float64(b.N * examples * draws)
						b.ReportMetric(n/time.Since(start).Seconds(), "draws/s")
						b.ReportMetric(float64(cpuTime()-used)/1e3/n, "cpu-µs/draw")
					})
				}
			})
		}
	}
}

// cpuTime returns the processor time of this process.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
