package dpsgd

import (
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
	"github.com/scumble-dp/scumble/unet"
)

const shared = "../unet/testdata" // Models and batches that package unet keeps.

// array is a tensor of a fixture, as diffusers lays it out.
type array struct {
	shape []int
	data  []float32
}

func readArrays(t testing.TB, path ...string) map[string]array {
	t.Helper()
	list, _, err := safetensors.Read(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	arrays := map[string]array{}
	for _, x := range list {
		values, err := x.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		arrays[x.Name] = array{x.Shape, values}
	}
	return arrays
}

// axes moves axis order[i] of a to place i.
func (a array) axes(order ...int) array {
	strides, size := make([]int, len(a.shape)), 1
	for i := len(a.shape) - 1; i >= 0; i-- {
		strides[i] = size
		size *= a.shape[i]
	}
	b := array{shape: make([]int, len(order)), data: make([]float32, 0, size)}
	for i, from := range order {
		b.shape[i] = a.shape[from]
	}
	var walk func(axis, at int)
	walk = func(axis, at int) {
		if axis == len(order) {
			b.data = append(b.data, a.data[at])
			return
		}
		for i := range b.shape[axis] {
			walk(axis+1, at+i*strides[order[axis]])
		}
	}
	walk(0, 0)
	return b
}

// ours brings a parameter to our layout.
func (a array) ours(kind nn.Kind) array {
	switch kind {
	case nn.KindDense:
		return a.axes(1, 0)
	case nn.KindKernel:
		return a.axes(2, 3, 1, 0)
	}
	return a
}

// fixture is a UNet with a batch and the reference's norms and clipped sum.
type fixture struct {
	config    *unet.Config
	adapter   nn.Adapter
	weights   *nn.Weights
	trainable []string
	batch     map[string]array
	alphas    []float32
	draws     int
	norms     []float64
	clip      float64
	sum       []float64
}

// peftName turns a parameter's name into ours.
func peftName(name string) string {
	return strings.Replace(strings.TrimPrefix(name, "base_model.model."), ".default.", ".", 1)
}

func readFixture(t testing.TB, model, set, lora string, multi bool) *fixture {
	t.Helper()
	f := &fixture{batch: readArrays(t, shared, "dp_grads", "batch_"+model+".safetensors"), draws: 1}
	f.alphas = readArrays(t, shared, "dp_grads", "batch_unet2d.safetensors")["alphas_cumprod"].data
	raw, err := os.ReadFile(filepath.Join(shared, model, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	if f.config, err = unet.ParseConfig(raw); err != nil {
		t.Fatal(err)
	}
	if multi {
		f.draws = f.batch["timesteps"].shape[1]
	}
	file := readArrays(t, shared, model, "diffusion_pytorch_model.safetensors")
	if lora != "" {
		l := &adapter.LoDA{Rank: 3, Alpha: 6, Core: adapter.LinearCore, Target: adapter.DenseLayers("to_q", "to_k", "to_v", "to_out.0")}
		if strings.Contains(lora, "conv") {
			l.Target = func(target nn.Target) bool {
				return strings.HasSuffix(target.Path, ".conv1") || strings.HasSuffix(target.Path, ".conv2")
			}
		}
		f.adapter = l
		for name, a := range readArrays(t, "testdata", lora+".safetensors") {
			file[peftName(name)] = a
		}
	}

	dir := filepath.Join(shared, "dp_grads")
	if _, err := os.Stat(filepath.Join(dir, set+".names.json")); err != nil {
		dir = "testdata"
	}
	if raw, err = os.ReadFile(filepath.Join(dir, set+".names.json")); err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := json.Unmarshal(raw, &names); err != nil {
		t.Fatal(err)
	}
	specs, err := nn.Collect(backendtest.Open(t, "go"), nn.Options{Adapter: f.adapter}, func(s *nn.Scope) {
		inputs := make([]*graph.Node, 0, 4)
		for _, x := range f.inputs(nil, 1) {
			inputs = append(inputs, graph.Zeros(s.Graph(), x.Shape()))
		}
		f.loss(s, inputs)
	})
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]nn.Kind{}
	f.weights = nn.NewWeights()
	for _, spec := range specs {
		a, ok := file[spec.Name]
		if !ok {
			t.Fatalf("no tensor %q in the files", spec.Name)
		}
		kinds[spec.Name] = spec.Kind
		f.weights.Add(&nn.Tensor{Name: spec.Name, Kind: spec.Kind, Shape: spec.Shape, Data: a.ours(spec.Kind).data})
	}
	want := readArrays(t, dir, set+".safetensors")
	for _, v := range want["norms"].data {
		f.norms = append(f.norms, float64(v))
	}
	f.clip = float64(want["clip"].data[0])
	for _, name := range names {
		f.trainable = append(f.trainable, peftName(name))
		for _, v := range want["sum."+name].ours(kinds[peftName(name)]).data {
			f.sum = append(f.sum, float64(v))
		}
	}
	return f
}

// inputs are noise and noised [rows, h, w, c], timesteps [rows], and classes
// [rows] or context [rows, tokens, width].
func (f *fixture) inputs(positions []int, size int) []*tensors.Tensor {
	x0, eps, steps := f.batch["x0"], f.batch["eps"], f.batch["timesteps"]
	all, rows := steps.shape[1], size*f.draws
	c, h, w := x0.shape[1], x0.shape[2], x0.shape[3]
	per := c * h * w
	noise, noised := array{[]int{rows, c, h, w}, make([]float32, rows*per)}, array{[]int{rows, c, h, w}, make([]float32, rows*per)}
	t, class := make([]int32, rows), make([]int32, rows)
	context := f.batch["encoder_hidden_states"]
	var tokens []float32
	if context.data != nil {
		tokens = make([]float32, rows*context.shape[1]*context.shape[2])
	}
	for i, at := range positions {
		for k := range f.draws {
			row, draw := i*f.draws+k, at*all+k
			t[row] = int32(steps.data[draw])
			signal := math.Sqrt(float64(f.alphas[t[row]]))
			sigma := math.Sqrt(1 - float64(f.alphas[t[row]]))
			for j := range per {
				e := eps.data[draw*per+j]
				noise.data[row*per+j] = e
				noised.data[row*per+j] = float32(signal*float64(x0.data[at*per+j]) + sigma*float64(e))
			}
			if labels := f.batch["class_labels"].data; labels != nil {
				class[row] = int32(labels[at])
			}
			if tokens != nil {
				n := len(tokens) / rows
				copy(tokens[row*n:(row+1)*n], context.data[at*n:(at+1)*n])
			}
		}
	}
	last := func(a array) *tensors.Tensor {
		b := a.axes(0, 2, 3, 1)
		return tensors.FromFlatDataAndDimensions(b.data, b.shape...)
	}
	out := []*tensors.Tensor{last(noise), last(noised), tensors.FromFlatDataAndDimensions(t, rows)}
	if tokens != nil {
		return append(out, tensors.FromFlatDataAndDimensions(tokens, rows, context.shape[1], context.shape[2]))
	}
	return append(out, tensors.FromFlatDataAndDimensions(class, rows))
}

func (f *fixture) loss(s *nn.Scope, in []*graph.Node) *graph.Node {
	inputs := unet.Inputs{Sample: in[1], Timesteps: in[2]}
	if f.config.NumClassEmbeds > 0 {
		inputs.Classes = in[3]
	} else {
		inputs.Context = in[3]
	}
	errors := graph.Square(graph.Sub(f.config.Forward(s, inputs), in[0]))
	rows := in[0].Shape().Dimensions[0]
	return graph.ReduceMean(graph.Reshape(errors, rows/f.draws, -1), 1)
}

// TestDiffusersGradients compares both engines with norms and clipped sums of a
// one-example-at-a-time loop in float64 on torch.
func TestDiffusersGradients(t *testing.T) {
	for _, c := range []struct {
		model, set, lora string
		multi, slow      bool
	}{
		{model: "unet2d", set: "unet2d_full"},
		{model: "unet2d", set: "unet2d_attention"},
		{model: "unet2d", set: "unet2d_attention_multi", multi: true},
		{model: "unet2d", set: "unet2d_lora_attn", lora: "lora_attn_unet2d"},
		{model: "unet2d", set: "unet2d_lora_conv", lora: "lora_conv_unet2d"},
		{model: "unet2d_condition", set: "unet2d_condition_attention"},
		{model: "unet2d_condition", set: "unet2d_condition_lora_multi", lora: "lora_attn_unet2d_condition", multi: true},
	} {
		t.Run(c.set, func(t *testing.T) {
			f := readFixture(t, c.model, c.set, c.lora, c.multi)
			backendtest.Each(t, func(t *testing.T, b compute.Backend) {
				l := nn.Patches
				if b != backendtest.Open(t, "go") {
					slow(t) // XLA compiles for many seconds.
					l = nn.LoweringFor("xla")
				}
				for _, method := range []Method{BookKeeping, PerExampleLoop} {
					t.Run(string(method), func(t *testing.T) { f.check(t, b, l, method) })
				}
			})
		})
	}
}

func (f *fixture) check(t *testing.T, b compute.Backend, l nn.Lowering, method Method) {
	e, err := NewEngine(b, EngineOptions{Method: method, ClippingNorm: f.clip, NN: nn.Options{Lowering: l, Adapter: f.adapter},
		Weights: f.weights, Trainable: f.trainable, Loss: f.loss, PhysicalBatchSize: 4, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	vector := f.weights.Flatten(f.trainable)
	fetch := func(positions []int, size int) ([]*tensors.Tensor, error) { return f.inputs(positions, size), nil }
	s, _, err := e.Sum(context.Background(), vector, len(f.norms), fetch)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkNear("clipped sum", s.values, f.sum, 1e-4, 0); err != nil {
		t.Error(err)
	}
	device, err := e.program.Vector(vector)
	if err != nil {
		t.Fatal(err)
	}
	var norms []float32
	for len(norms) < len(f.norms) {
		size := e.PhysicalBatchSize()
		mask, positions := make([]float32, size), make([]int, size)
		for i := range positions {
			mask[i], positions[i] = 1, len(norms)+i
		}
		inputs := append([]*tensors.Tensor{tensors.FromFlatDataAndDimensions(mask, size)}, f.inputs(positions, size)...)
		out, err := e.call(device, size, inputs)
		if err != nil {
			t.Fatal(err)
		}
		norms = append(norms, tensors.MustCopyFlatData[float32](out[len(out)-1])...)
	}
	for i, want := range f.norms {
		if got := float64(norms[i]); !(math.Abs(got-want) <= 1e-4*want) {
			t.Errorf("norm %d is %g, want %g", i, got, want)
		}
	}
}
