package unet

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// fixtures are the models recorded from diffusers.
var fixtures = []string{"unet2d", "unet2d_condition"}

// The reference is in float64, we in float32: 1e-4 of the largest entry is what
// the fixtures' makers expect of float32.
const parity = 1e-4

func TestParityWithDiffusers(t *testing.T) {
	for _, dir := range fixtures {
		t.Run(dir, func(t *testing.T) {
			c := loadConfig(t, dir, "config.json")
			w := loadWeights(t, c, dir)
			io := readArrays(t, dir, "io.safetensors")
			names := slices.Sorted(maps.Keys(io))
			names = slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, "act.") })
			if len(names) < 7 {
				t.Fatalf("fixture has %d inner activations, want at least 7", len(names))
			}
			check := func(t *testing.T, b compute.Backend, l nn.Lowering) {
				t.Helper()
				out := run(t, b, nn.ProgramOptions{NN: nn.Options{Lowering: l}, Weights: w,
					Build: func(s *nn.Scope, _, inputs []*Node) []*Node {
						seen := map[string]*Node{}
						outs := []*Node{c.forward(s, inputsOf(c, inputs), func(path string, y *Node) { seen[path] = y })}
						for _, name := range names {
							y := seen[strings.TrimPrefix(name, "act.")]
							if y == nil {
								panic(fmt.Errorf("module of %s was not seen", name))
							}
							outs = append(outs, y)
						}
						return outs
					}}, tensorsOf(c, io)...)
				for i, name := range names {
					checkNear(t, name, out[1+i], io[name].channelsLast(), parity)
				}
				checkNear(t, "output", out[0], io["output"].channelsLast(), parity)
			}
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				t.Run("as for xla", func(t *testing.T) { check(t, b, nn.LoweringFor("xla")) })
			})
			each(t, func(t *testing.T, b compute.Backend) {
				t.Run("patches", func(t *testing.T) { check(t, b, nn.Patches) })
			})
		})
	}
}

// TestGradientsMatchDiffusers clips and sums the gradients of one example at a
// time, as the reference did.
func TestGradientsMatchDiffusers(t *testing.T) {
	for _, tc := range []struct{ dir, set string }{
		{"unet2d", "unet2d_full"},
		{"unet2d_condition", "unet2d_condition_attention"},
	} {
		t.Run(tc.set, func(t *testing.T) {
			c := loadConfig(t, tc.dir, "config.json")
			w := loadWeights(t, c, tc.dir)
			batch := readArrays(t, "dp_grads", "batch_"+tc.dir+".safetensors")
			want := readArrays(t, "dp_grads", tc.set+".safetensors")
			names := readNames(t, tc.set)
			t.Run("go native", func(t *testing.T) {
				slow(t)
				checkGradients(t, backendtest.Open(t, "go"), nn.Native, c, w, names, gradientInputs(t, c, batch), want)
			})
			each(t, func(t *testing.T, b compute.Backend) {
				checkGradients(t, b, lowering(t, b), c, w, names, gradientInputs(t, c, batch), want)
			})
		})
	}
}

func checkGradients(t *testing.T, b compute.Backend, l nn.Lowering, c *Config, w *nn.Weights, names []string,
	examples [][]*tensors.Tensor, want map[string]array) {
	t.Helper()
	p, err := nn.NewProgram(b, nn.ProgramOptions{
		NN: nn.Options{Lowering: l}, Weights: w, Trainable: names,
		Build: func(s *nn.Scope, trainable, inputs []*Node) []*Node {
			noise := inputs[0]
			loss := ReduceAllMean(Square(Sub(c.Forward(s, inputsOf(c, inputs[1:])), noise)))
			if err := nn.CheckCovered(s.Tape(), names); err != nil {
				panic(err)
			}
			return append([]*Node{loss}, Gradient(loss, trainable...)...)
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	vector, err := p.Vector(w.Flatten(names))
	if err != nil {
		t.Fatal(err)
	}

	clip := want["clip"].data[0]
	sums := map[string][]float64{}
	for i, inputs := range examples {
		out, err := p.Run(vector, inputs...)
		if err != nil {
			t.Fatal(err)
		}
		near(t, fmt.Sprintf("loss %d", i), float64(tensors.ToScalar[float32](out[0])), want["losses"].data[i], parity)
		squared := 0.0
		gradients := make([][]float32, len(names))
		for j := range names {
			gradients[j] = tensors.MustCopyFlatData[float32](out[1+j])
			n := 0.0
			for _, v := range gradients[j] {
				n += float64(v) * float64(v)
			}
			squared += n
			// One tensor's norm may be rounding noise: measured against the whole.
			if ref := want["layer_norms"].data[i*len(names)+j]; math.Abs(math.Sqrt(n)-ref) > parity*want["norms"].data[i] {
				t.Errorf("example %d: norm of %s is %g, want %g", i, names[j], math.Sqrt(n), ref)
			}
		}
		norm := math.Sqrt(squared)
		near(t, fmt.Sprintf("norm %d", i), norm, want["norms"].data[i], parity)
		scale := math.Min(1, clip/norm)
		for j, name := range names {
			if sums[name] == nil {
				sums[name] = make([]float64, len(gradients[j]))
			}
			for k, v := range gradients[j] {
				sums[name][k] += scale * float64(v)
			}
		}
	}

	var off, size float64
	for _, name := range names {
		ref := want["sum."+name].ours(w.Get(name).Kind)
		for k, v := range ref.data {
			off += (sums[name][k] - v) * (sums[name][k] - v)
			size += v * v
		}
	}
	if off = math.Sqrt(off / size); !(off <= parity) {
		t.Errorf("clipped sum is off by %.3g in the 2-norm, want at most %g", off, parity)
	}
}

// gradientInputs returns the program inputs of each example: noise, sample,
// timesteps, then classes or context.
func gradientInputs(t *testing.T, c *Config, batch map[string]array) [][]*tensors.Tensor {
	alphas := readArrays(t, "dp_grads", "batch_unet2d.safetensors")["alphas_cumprod"].data
	draws := batch["eps"].shape[1]
	first := func(a array, i int) array { // Draw 0 of example i: [1, ...].
		n := len(a.data) / (a.shape[0] * draws)
		return array{append([]int{1}, a.shape[2:]...), a.data[i*draws*n : (i*draws+1)*n]}
	}
	var examples [][]*tensors.Tensor
	for i := range batch["x0"].shape[0] {
		x, noise, step := batch["x0"].row(i), first(batch["eps"], i), first(batch["timesteps"], i)
		step.shape = []int{1}
		alpha := alphas[int(step.data[0])]
		noised := array{x.shape, make([]float64, len(x.data))}
		for k, v := range x.data {
			noised.data[k] = math.Sqrt(alpha)*v + math.Sqrt(1-alpha)*noise.data[k]
		}
		in := []*tensors.Tensor{noise.channelsLast().tensor(), noised.channelsLast().tensor(), step.ints()}
		if c.NumClassEmbeds > 0 {
			in = append(in, batch["class_labels"].row(i).ints())
		}
		if c.contextWidth() > 0 {
			in = append(in, batch["encoder_hidden_states"].row(i).tensor())
		}
		examples = append(examples, in)
	}
	return examples
}

func readNames(t *testing.T, set string) (names []string) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "dp_grads", set+".names.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &names); err != nil {
		t.Fatal(err)
	}
	return names
}

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance*math.Abs(want)) {
		t.Errorf("%s is %g, want %g", what, got, want)
	}
}
