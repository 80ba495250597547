package export

import (
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// ModelFormat is a way to hand over a model.
type ModelFormat string

const (
	Diffusers     = ModelFormat("diffusers") // Model folder, linear adapters merged into the weights.
	PEFT          = ModelFormat(checkpoint.PEFT)
	DiffusersLoRA = ModelFormat(checkpoint.DiffusersLoRA)
	Kohya         = ModelFormat(checkpoint.Kohya)
)

// ModelFormats returns all of them.
func ModelFormats() []ModelFormat { return []ModelFormat{Diffusers, PEFT, DiffusersLoRA, Kohya} }

// ModelResult says what Model wrote and how well it came back.
type ModelResult struct {
	Tensors    int     `json:"tensors"`
	Parameters int     `json:"parameters"`
	Merged     bool    `json:"merged"`             // Adapter branches went into the weights.
	Difference float64 `json:"largest_difference"` // Of the outputs before and after, over the largest output.
}

// sameOutput is how far rounding may move an output: merging rounds once more.
const sameOutput = 1e-4

// Model writes a model, or its adapter alone, to the folder out, which must not
// exist. It reads back what it wrote, puts it together again and compares the
// network's output on a random input before and after; the folder appears only if
// they agree to 1e-4 of the largest value. Metadata go into adapter files.
func Model(backend compute.Backend, lowering nn.Lowering, out string, m *checkpoint.Model, format ModelFormat, metadata map[string]string) (*ModelResult, error) {
	if !slices.Contains(ModelFormats(), format) {
		return nil, fmt.Errorf("format is %q, want one of %v", format, ModelFormats())
	}
	if _, err := os.Lstat(out); err == nil {
		return nil, fmt.Errorf("export to %s: %w; choose another folder", out, fs.ErrExist)
	}
	out = filepath.Clean(out)
	temp, err := os.MkdirTemp(filepath.Dir(out), ".scumble-export-*")
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", out, err)
	}
	defer os.RemoveAll(temp) // Nothing is there any more when all went well.
	folder := filepath.Join(temp, "model")
	r := &ModelResult{}
	again, err := r.roundTrip(backend, folder, m, format, metadata)
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", out, err)
	}
	before, err := probe(backend, lowering, m)
	if err != nil {
		return nil, err
	}
	after, err := probe(backend, lowering, again)
	if err != nil {
		return nil, err
	}
	largest := 0.0
	for i, v := range before {
		largest = max(largest, math.Abs(float64(v)))
		r.Difference = max(r.Difference, math.Abs(float64(v)-float64(after[i])))
	}
	if r.Difference /= max(largest, math.SmallestNonzeroFloat64); !(r.Difference <= sameOutput) {
		return nil, fmt.Errorf("export to %s: what was written gives outputs %.3g off, want at most %g; nothing is kept", out, r.Difference, sameOutput)
	}
	if err := os.Rename(folder, out); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return r, nil
}

// roundTrip writes to folder and returns the model as read back.
func (r *ModelResult) roundTrip(backend compute.Backend, folder string, m *checkpoint.Model, format ModelFormat, metadata map[string]string) (*checkpoint.Model, error) {
	count := func(w *nn.Weights) { r.Tensors, r.Parameters = len(w.All()), w.Size() }
	if format == Diffusers {
		whole := m
		if m.Adapter != nil && m.Adapter.IsLinear() {
			var err error
			if whole, err = checkpoint.Merged(m); err != nil {
				return nil, err
			}
			r.Merged = true
		}
		if err := checkpoint.Save(folder, whole); err != nil {
			return nil, err
		}
		count(whole.Weights)
		return checkpoint.Load(folder)
	}
	if err := os.Mkdir(folder, 0o755); err != nil {
		return nil, err
	}
	if err := checkpoint.WriteAdapter(folder, m, checkpoint.AdapterFormat(format), metadata); err != nil {
		return nil, err
	}
	specs, err := m.UNet.Specs(backend)
	if err != nil {
		return nil, err
	}
	config, branches, err := checkpoint.ReadAdapter(checkpoint.AdapterPath(folder, checkpoint.AdapterFormat(format)), specs, "unet")
	if err != nil {
		return nil, err
	}
	again := *m
	again.Adapter, again.Weights = config, nn.NewWeights()
	read := nn.NewWeights()
	for _, t := range branches {
		read.Add(t)
	}
	count(read)
	for _, t := range m.Weights.All() {
		if b := read.Get(t.Name); b != nil {
			t = b
		}
		again.Weights.Add(t)
	}
	return &again, nil
}

// probe runs the denoiser on one random input.
func probe(backend compute.Backend, lowering nn.Lowering, m *checkpoint.Model) (values []float32, err error) {
	var branches nn.Adapter
	if m.Adapter != nil {
		if branches, err = m.Adapter.Adapter("unet"); err != nil {
			return nil, err
		}
	}
	p, err := nn.NewProgram(backend, nn.ProgramOptions{
		NN: nn.Options{Lowering: lowering, Adapter: branches}, Weights: pipeline.Component(m.Weights, "unet"),
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			return []*graph.Node{m.UNet.Forward(s.In("unet"), pipeline.UNetInputs(m.UNet, in))}
		},
	})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	// The smallest size that every level can halve, but wide enough for kernels.
	side := max(8, 1<<len(m.UNet.BlockOutChannels))
	rng := rand.New(rand.NewPCG(20, 26))
	normal := func(dims ...int) *tensors.Tensor {
		n := 1
		for _, d := range dims {
			n *= d
		}
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return tensors.FromFlatDataAndDimensions(v, dims...)
	}
	inputs := []*tensors.Tensor{normal(1, side, side, m.UNet.InChannels), tensors.FromFlatDataAndDimensions([]float32{500}, 1)}
	if m.UNet.NumClassEmbeds > 0 {
		inputs = append(inputs, tensors.FromFlatDataAndDimensions([]int32{0}, 1))
	}
	if width := m.UNet.ContextWidth(); width > 0 {
		inputs = append(inputs, normal(1, 2, width))
	}
	out, err := p.Run(nil, inputs...)
	if err != nil {
		return nil, err
	}
	return tensors.CopyFlatData[float32](out[0])
}

// PrivacyMetadata are the strings about the guarantee that adapter files carry.
func PrivacyMetadata(epsilon, delta float64) map[string]string {
	return map[string]string{"dp.epsilon": strconv.FormatFloat(epsilon, 'g', -1, 64), "dp.delta": strconv.FormatFloat(delta, 'g', -1, 64)}
}
