package textencoder

import (
	"math"
	"os"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

func readConfig(t testing.TB, dir string) *Config {
	t.Helper()
	data, err := os.ReadFile(dir + "/config.json")
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// recorded reads the float tensors of a file, and the tokens beside them.
func recorded(t testing.TB, path string) (floats map[string][]float32, shapes map[string][]int, tokens []int32) {
	t.Helper()
	list, _, err := safetensors.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	floats, shapes = map[string][]float32{}, map[string][]int{}
	for _, tensor := range list {
		shapes[tensor.Name] = tensor.Shape
		if tensor.Name == "input_ids" {
			ids, err := tensor.Int64s()
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range ids {
				tokens = append(tokens, int32(id))
			}
			continue
		}
		if floats[tensor.Name], err = tensor.Float32s(); err != nil {
			t.Fatal(err)
		}
	}
	return floats, shapes, tokens
}

// weights reads the recorded parameters, all of them and no more, in our layout.
func weights(t testing.TB, path string, specs []nn.Spec) *nn.Weights {
	t.Helper()
	data, _, _ := recorded(t, path)
	w := nn.NewWeights()
	for _, spec := range specs {
		values, ok := data[spec.Name]
		if !ok {
			t.Fatalf("the recorded model has no %q", spec.Name)
		}
		delete(data, spec.Name)
		if spec.Kind == nn.KindDense { // [out, in] → [in, out].
			in, out := spec.Shape[0], spec.Shape[1]
			turned := make([]float32, len(values))
			for i := range in {
				for o := range out {
					turned[i*out+o] = values[o*in+i]
				}
			}
			values = turned
		}
		w.Add(&nn.Tensor{Name: spec.Name, Kind: spec.Kind, Shape: spec.Shape, Data: values})
	}
	for name := range data {
		t.Fatalf("the recorded model has %q, our architecture does not", name)
	}
	return w
}

func encode(t testing.TB, b compute.Backend, c *Config, w *nn.Weights, tokens []int32, rows int) []*tensors.Tensor {
	t.Helper()
	lowering := nn.LoweringFor("xla")
	if b == backendtest.Open(t, "go") {
		lowering = nn.Patches
	}
	p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Lowering: lowering}, Weights: w,
		Build: func(s *nn.Scope, _, in []*Node) []*Node {
			out := c.Forward(s, in[0])
			return append([]*Node{out.Last, c.Pool(out.Last, in[0])}, out.Hidden...)
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, err := p.Run(nil, tensors.FromFlatDataAndDimensions(tokens, rows, len(tokens)/rows))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// distance returns the largest difference over the largest wanted entry.
func distance(t testing.TB, got *tensors.Tensor, want []float32) float64 {
	t.Helper()
	data, err := tensors.CopyFlatData[float32](got)
	if err != nil {
		t.Fatal(err)
	}
	if len(data) != len(want) {
		t.Fatalf("%d values, want %d", len(data), len(want))
	}
	var worst, scale float64
	for i, w := range want {
		worst = max(worst, math.Abs(float64(data[i])-float64(w)))
		scale = max(scale, math.Abs(float64(w)))
	}
	if math.IsNaN(worst) {
		return math.Inf(1)
	}
	return worst / scale
}
