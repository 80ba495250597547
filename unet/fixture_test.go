package unet

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// array is a tensor of a fixture.
type array struct {
	shape []int
	data  []float64
}

// readArrays reads a safetensors file, all dtypes as float64. It stands apart
// from package safetensors so that the fixtures check that one, too.
func readArrays(t testing.TB, path ...string) map[string]array {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	n := binary.LittleEndian.Uint64(raw)
	var header map[string]struct {
		DType   string `json:"dtype"`
		Shape   []int  `json:"shape"`
		Offsets [2]int `json:"data_offsets"`
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal(raw[8:8+n], &entries); err != nil {
		t.Fatal(err)
	}
	delete(entries, "__metadata__")
	clean, _ := json.Marshal(entries)
	if err := json.Unmarshal(clean, &header); err != nil {
		t.Fatal(err)
	}
	arrays := map[string]array{}
	for name, e := range header {
		a := array{shape: e.Shape}
		for at := raw[8+n:][e.Offsets[0]:e.Offsets[1]]; len(at) > 0; {
			switch e.DType {
			case "F32":
				a.data = append(a.data, float64(math.Float32frombits(binary.LittleEndian.Uint32(at))))
				at = at[4:]
			case "F64":
				a.data = append(a.data, math.Float64frombits(binary.LittleEndian.Uint64(at)))
				at = at[8:]
			case "I64":
				a.data = append(a.data, float64(int64(binary.LittleEndian.Uint64(at))))
				at = at[8:]
			default:
				t.Fatalf("tensor %s has dtype %s", name, e.DType)
			}
		}
		arrays[name] = a
	}
	return arrays
}

// permuted returns a with its axes in the given order.
func (a array) permuted(axes ...int) array {
	strides := make([]int, len(a.shape))
	for i, s := len(a.shape)-1, 1; i >= 0; i-- {
		strides[i] = s
		s *= a.shape[i]
	}
	b := array{shape: make([]int, len(axes))}
	for i, axis := range axes {
		b.shape[i] = a.shape[axis]
	}
	var walk func(axis, at int)
	walk = func(axis, at int) {
		if axis == len(axes) {
			b.data = append(b.data, a.data[at])
			return
		}
		for i := range b.shape[axis] {
			walk(axis+1, at+i*strides[axes[axis]])
		}
	}
	walk(0, 0)
	return b
}

// channelsLast takes images from [rows, channels, height, width] to ours.
func (a array) channelsLast() array {
	if len(a.shape) != 4 {
		return a
	}
	return a.permuted(0, 2, 3, 1)
}

// ours takes a parameter from diffusers' layout to ours.
func (a array) ours(kind nn.Kind) array {
	switch kind {
	case nn.KindDense:
		return a.permuted(1, 0)
	case nn.KindKernel:
		return a.permuted(2, 3, 1, 0)
	}
	return a
}

// row returns a[i:i+1].
func (a array) row(i int) array {
	n := len(a.data) / a.shape[0]
	return array{append([]int{1}, a.shape[1:]...), a.data[i*n : (i+1)*n]}
}

func (a array) float32s() []float32 {
	out := make([]float32, len(a.data))
	for i, v := range a.data {
		out[i] = float32(v)
	}
	return out
}

func (a array) tensor() *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions(a.float32s(), a.shape...)
}

// ints returns a as an int32 tensor.
func (a array) ints() *tensors.Tensor {
	out := make([]int32, len(a.data))
	for i, v := range a.data {
		out[i] = int32(v)
	}
	return tensors.FromFlatDataAndDimensions(out, a.shape...)
}

// checkNear fails unless got is within tolerance of the reference's largest
// entry everywhere.
func checkNear(t *testing.T, what string, got *tensors.Tensor, want array, tolerance float64) {
	t.Helper()
	if g, w := fmt.Sprint(got.Shape().Dimensions), fmt.Sprint(want.shape); g != w {
		t.Errorf("%s: shape is %s, want %s", what, g, w)
		return
	}
	var largest, off float64
	for i, v := range tensors.MustCopyFlatData[float32](got) {
		largest = math.Max(largest, math.Abs(want.data[i]))
		if d := math.Abs(float64(v) - want.data[i]); !(d <= off) { // NaN sticks.
			off = d
		}
	}
	if !(off <= tolerance*largest) {
		t.Errorf("%s: off by %.3g of the largest entry, want at most %g", what, off/largest, tolerance)
	}
}

// loadConfig reads a config.json below testdata.
func loadConfig(t testing.TB, path ...string) *Config {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loadWeights reads the weights of a fixture model in the order of its specs.
func loadWeights(t testing.TB, c *Config, dir string) *nn.Weights {
	t.Helper()
	specs, err := c.Specs(backendtest.Open(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	file := readArrays(t, dir, "diffusion_pytorch_model.safetensors")
	if len(file) != len(specs) {
		t.Errorf("file has %d tensors, the network %d", len(file), len(specs))
	}
	w := nn.NewWeights()
	for _, spec := range specs {
		a, ok := file[spec.Name]
		if !ok {
			t.Fatalf("file has no tensor %q", spec.Name)
		}
		a = a.ours(spec.Kind)
		if fmt.Sprint(a.shape) != fmt.Sprint(spec.Shape) {
			t.Fatalf("tensor %q is %v, the network wants %v", spec.Name, a.shape, spec.Shape)
		}
		w.Add(&nn.Tensor{Name: spec.Name, Kind: spec.Kind, Shape: a.shape, Data: a.float32s()})
	}
	return w
}

// randomWeights returns weights for c with no zeros, so that nothing is hidden.
func randomWeights(t testing.TB, c *Config, seed uint64) *nn.Weights {
	t.Helper()
	specs, err := c.Specs(backendtest.Open(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range specs {
		if specs[i].Init == nn.InitZeros {
			specs[i].Init = nn.InitFanIn
			if len(specs[i].Shape) == 1 {
				specs[i].Init = nn.InitNormal
			}
		}
	}
	return nn.InitWeights(specs, newRand(seed))
}

// slow skips a test that takes more than a few seconds, unless SCUMBLE_SLOW=1.
func slow(t *testing.T) {
	t.Helper()
	if os.Getenv("SCUMBLE_SLOW") == "" {
		t.Skip("left out, since it takes many seconds; SCUMBLE_SLOW=1 runs it")
	}
}

// lowering returns that which suits the backend.
func lowering(t *testing.T, b compute.Backend) nn.Lowering {
	t.Helper()
	if b == backendtest.Open(t, "go") {
		return nn.LoweringFor("go")
	}
	return nn.LoweringFor("xla")
}

// each runs f on each backend; XLA compiles for seconds, so that is slow.
func each(t *testing.T, f func(t *testing.T, b compute.Backend)) {
	t.Helper()
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		if lowering(t, b) != nn.Patches {
			slow(t)
		}
		f(t, b)
	})
}

// run executes build once with the given weights and inputs.
func run(t *testing.T, b compute.Backend, o nn.ProgramOptions, inputs ...*tensors.Tensor) []*tensors.Tensor {
	t.Helper()
	p, err := nn.NewProgram(b, o)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	vector, err := p.Vector(o.Weights.Flatten(o.Trainable))
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Run(vector, inputs...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inputsOf sorts graph inputs into those of the network: sample, timesteps, then
// classes and context where c has them.
func inputsOf(c *Config, nodes []*graph.Node) Inputs {
	in := Inputs{Sample: nodes[0], Timesteps: nodes[1]}
	nodes = nodes[2:]
	if c.NumClassEmbeds > 0 {
		in.Classes, nodes = nodes[0], nodes[1:]
	}
	if c.contextWidth() > 0 {
		in.Context = nodes[0]
	}
	return in
}

// tensorsOf is the counterpart of inputsOf for a fixture's inputs.
func tensorsOf(c *Config, io map[string]array) []*tensors.Tensor {
	out := []*tensors.Tensor{io["sample"].channelsLast().tensor(), io["timestep"].ints()}
	if c.NumClassEmbeds > 0 {
		out = append(out, io["class_labels"].ints())
	}
	if c.contextWidth() > 0 {
		out = append(out, io["encoder_hidden_states"].tensor())
	}
	return out
}
