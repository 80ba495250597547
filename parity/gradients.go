package parity

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// batch is the recorded examples of a set of gradients.
type batch struct {
	arrays map[string]array
	alphas []float64 // ᾱ_t.
	draws  int       // Of each example that are used.
}

// gradients compares norms and clipped sum of per-example gradients. The set's
// name is that of its batch, then what trains, then "_multi" if every draw counts.
func (w *walker) gradients(dir, set string) error {
	path := filepath.Join(dir, set+".safetensors")
	recorded, err := readArrays(path)
	if err != nil {
		return err
	}
	var names []string
	if err := readJSON(filepath.Join(dir, set+".names.json"), &names); err != nil {
		return err
	}
	model, b, err := w.batchOf(dir, set)
	if err != nil {
		return err
	}
	a, err := w.trained(filepath.Dir(dir), model, names)
	if err != nil {
		return err
	}
	var branches nn.Adapter
	if a.adapter != nil {
		if branches, err = a.adapter.Adapter(unetPrefix); err != nil {
			return err
		}
	}
	result := dpsgd.Recorded{Norms: recorded["norms"].data}
	var trainable []string
	for _, name := range names {
		ours := unetPrefix + "." + parameterName(name)
		t := a.weights.Get(ours)
		sum, ok := recorded["sum."+name]
		if t == nil || !ok {
			return fmt.Errorf("parameter %q is in the names, but not in the model or the sums", name)
		}
		trainable = append(trainable, ours)
		result.Sum = append(result.Sum, sum.ours(t.Kind).data...)
	}
	clip, ok := recorded["clip"]
	if !ok || len(clip.data) != 1 {
		return fmt.Errorf("clip is not recorded as one number")
	}
	off, err := dpsgd.Compare(w.ctx, w.backend, dpsgd.EngineOptions{ClippingNorm: clip.data[0], Weights: a.weights, Trainable: trainable,
		NN: nn.Options{Lowering: w.o.Lowering, Adapter: branches}, PhysicalBatchSize: 4,
		Loss: func(s *nn.Scope, in []*graph.Node) *graph.Node {
			out := a.unet.Forward(s.In(unetPrefix), pipeline.UNetInputs(a.unet, in[1:]))
			return diffusion.LossPerExample(out, in[0], b.draws)
		}}, b.fetch(a), result)
	if err != nil {
		return err
	}
	w.add(path, "per-example norms", off.Norms, Tolerance)
	w.add(path, "clipped sum", off.Sum, Tolerance)
	return nil
}

// batchOf finds the batch that a set's name begins with: the longest.
func (w *walker) batchOf(dir, set string) (model string, b *batch, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "batch_*.safetensors"))
	if err != nil {
		return "", nil, err
	}
	b = &batch{draws: 1}
	for _, file := range files {
		arrays, err := readArrays(file)
		if err != nil {
			return "", nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(file), "batch_"), ".safetensors")
		if strings.HasPrefix(set, name+"_") && len(name) > len(model) {
			model, b.arrays = name, arrays
		}
		if alphas, ok := arrays["alphas_cumprod"]; ok && (b.alphas == nil || model == name) {
			b.alphas = alphas.data // One schedule is recorded for all, unless a batch has its own.
		}
	}
	if model == "" {
		return "", nil, fmt.Errorf("no file batch_NAME.safetensors has a NAME that %q begins with", set)
	}
	if b.alphas == nil {
		return "", nil, fmt.Errorf("no batch has alphas_cumprod")
	}
	if _, err := want(b.arrays, "x0", "timesteps", "eps"); err != nil {
		return "", nil, err
	}
	if strings.HasSuffix(set, "_multi") {
		b.draws = b.arrays["timesteps"].shape[1]
	}
	return model, b, nil
}

// parameterName turns a recorded name of a parameter into ours.
func parameterName(name string) string {
	return strings.Replace(strings.TrimPrefix(name, "base_model.model."), ".default.", ".", 1)
}

// trained returns the model of a set: the UNet in the folder of that name, with
// the adapter over it that has the named parameters, if they are an adapter's.
func (w *walker) trained(root, model string, names []string) (*adapted, error) {
	base := filepath.Join(root, model)
	if !slices.ContainsFunc(names, func(n string) bool { return strings.Contains(n, ".lora_") }) {
		a := &adapted{base: base}
		var err error
		a.unet, a.weights, err = w.readUNet(base)
		return a, err
	}
	folders, err := os.ReadDir(root)
	if err != nil {
		return nil, err
	}
	for _, f := range folders {
		dir := filepath.Join(root, f.Name())
		if !exists(filepath.Join(dir, "adapter_config.json")) {
			continue
		}
		if over, err := baseOf(dir); err != nil || over != base {
			continue
		}
		a, err := w.readAdapted(base, dir)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(names, func(n string) bool { return a.weights.Get(unetPrefix+"."+parameterName(n)) == nil }) {
			return a, nil
		}
	}
	return nil, fmt.Errorf("no adapter over %s has the parameters of the set", model)
}

// fetch makes the inputs of the loss: noise, noised image, timesteps, then classes
// and context as the network takes them.
func (b *batch) fetch(a *adapted) dpsgd.Fetch {
	x0, eps, steps := b.arrays["x0"], b.arrays["eps"], b.arrays["timesteps"]
	return func(positions []int, size int) ([]*tensors.Tensor, error) {
		rows, all := size*b.draws, steps.shape[1]
		image := x0.shape[1:]
		per := len(x0.row(0).data)
		stacked := func() array {
			return array{append([]int{rows}, image...), make([]float64, rows*per)}
		}
		noise, noised := stacked(), stacked()
		t, class := array{[]int{rows}, make([]float64, rows)}, array{[]int{rows}, make([]float64, rows)}
		context := b.arrays["encoder_hidden_states"]
		var tokens array
		if context.data != nil {
			tokens = array{append([]int{rows}, context.shape[1:]...), make([]float64, rows*len(context.row(0).data))}
		}
		for i, at := range positions {
			for k := range b.draws {
				row, draw := i*b.draws+k, at*all+k
				t.data[row] = steps.data[draw]
				alpha := b.alphas[int(steps.data[draw])]
				signal, sigma := math.Sqrt(alpha), math.Sqrt(1-alpha)
				for j := range per {
					e := eps.data[draw*per+j]
					noise.data[row*per+j] = e
					noised.data[row*per+j] = signal*x0.data[at*per+j] + sigma*e
				}
				if labels := b.arrays["class_labels"]; labels.data != nil {
					class.data[row] = labels.data[at]
				}
				if tokens.data != nil {
					n := len(tokens.data) / rows
					copy(tokens.data[row*n:(row+1)*n], context.row(at).data)
				}
			}
		}
		out := []*tensors.Tensor{noise.channelsLast().floats(), noised.channelsLast().floats(), t.ints()}
		if a.unet.NumClassEmbeds > 0 {
			out = append(out, class.ints())
		}
		if a.unet.ContextWidth() > 0 {
			if tokens.data == nil {
				return nil, fmt.Errorf("the network takes a context and none is recorded")
			}
			out = append(out, tokens.floats())
		}
		return out, nil
	}
}
