package parity

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/textencoder"
	"github.com/scumble-dp/scumble/unet"
)

const ioFile = "io.safetensors"

// model compares a model folder with its recorded inputs and outputs.
func (w *walker) model(dir string) error {
	config := filepath.Join(dir, "config.json")
	var kind struct {
		Class         string `json:"_class_name"`
		Architectures []string
		ModelType     string `json:"model_type"`
	}
	if err := readJSON(config, &kind); err != nil {
		return err
	}
	data, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	io, err := readArrays(filepath.Join(dir, ioFile))
	if err != nil {
		return err
	}
	switch {
	case kind.Class == string(unet.Unconditional) || kind.Class == string(unet.Conditional):
		return w.unet(dir, io)
	case kind.Class == "AutoencoderKL" || kind.Class == "VQModel":
		c, err := autoencoder.ParseConfig(data)
		if err != nil {
			return err
		}
		if c.Codebook != nil {
			return w.vq(dir, c, io)
		}
		return w.kl(dir, c, io)
	case len(kind.Architectures) > 0 || kind.ModelType != "" || strings.Contains(kind.Class, "Bert"):
		return w.text(dir, data, io)
	}
	return fmt.Errorf("class %q is not known, want a UNet, an autoencoder or a text encoder of diffusers or transformers", kind.Class)
}

// run executes a graph once.
func (w *walker) run(weights *nn.Weights, branches nn.Adapter, build func(s *nn.Scope, in []*graph.Node) []*graph.Node, inputs ...*tensors.Tensor) ([]array, error) {
	p, err := nn.NewProgram(w.backend, nn.ProgramOptions{NN: nn.Options{Lowering: w.o.Lowering, Adapter: branches}, Weights: weights,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node { return build(s, in) }})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	out, err := p.Run(nil, inputs...)
	if err != nil {
		return nil, err
	}
	arrays := make([]array, len(out))
	for i, t := range out {
		if arrays[i], err = arrayOf(t); err != nil {
			return nil, err
		}
	}
	return arrays, nil
}

const (
	unetPrefix = "unet"
	vaePrefix  = "vae"
	textPrefix = "text_encoder"
)

// readUNet reads configuration and weights of a UNet.
func (w *walker) readUNet(dir string) (*unet.Config, *nn.Weights, error) {
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return nil, nil, err
	}
	c, err := unet.ParseConfig(data)
	if err != nil {
		return nil, nil, err
	}
	specs, err := c.Specs(w.backend)
	if err != nil {
		return nil, nil, err
	}
	weights, err := checkpoint.LoadComponent(dir, unetPrefix, specs)
	return c, weights, err
}

// runUNet runs a UNet on recorded inputs.
func (w *walker) runUNet(c *unet.Config, weights *nn.Weights, branches nn.Adapter, io map[string]array) (array, error) {
	names := []string{"sample", "timestep"}
	if c.NumClassEmbeds > 0 {
		names = append(names, "class_labels")
	}
	if c.ContextWidth() > 0 {
		names = append(names, "encoder_hidden_states")
	}
	given, err := want(io, names...)
	if err != nil {
		return array{}, err
	}
	rows := given[0].shape[0]
	var inputs []*tensors.Tensor
	for i, a := range given {
		if i == 1 && len(a.data) == 1 { // One timestep for all rows.
			a = array{[]int{rows}, repeat(a.data[0], rows)}
		}
		switch names[i] {
		case "sample":
			inputs = append(inputs, a.channelsLast().floats())
		case "class_labels":
			inputs = append(inputs, a.ints())
		default:
			inputs = append(inputs, a.floats())
		}
	}
	out, err := w.run(weights, branches, func(s *nn.Scope, in []*graph.Node) []*graph.Node {
		return []*graph.Node{c.Forward(s.In(unetPrefix), pipeline.UNetInputs(c, in))}
	}, inputs...)
	if err != nil {
		return array{}, err
	}
	return out[0].permuted(0, 3, 1, 2), nil
}

func repeat(v float64, n int) []float64 {
	out := make([]float64, n)
	for i := range out {
		out[i] = v
	}
	return out
}

func (w *walker) unet(dir string, io map[string]array) error {
	recorded, err := want(io, "output")
	if err != nil {
		return err
	}
	c, weights, err := w.readUNet(dir)
	if err != nil {
		return err
	}
	out, err := w.runUNet(c, weights, nil, io)
	if err != nil {
		return err
	}
	w.near(filepath.Join(dir, ioFile), string(c.Class)+" output", out, recorded[0])
	return nil
}

// readAutoencoder reads the weights of an autoencoder of either kind.
func (w *walker) readAutoencoder(dir string, c *autoencoder.Config) (*nn.Weights, error) {
	specs, err := c.Specs(w.backend)
	if err != nil {
		return nil, err
	}
	return checkpoint.LoadComponent(dir, vaePrefix, specs)
}

// kl compares an AutoencoderKL.
func (w *walker) kl(dir string, c *autoencoder.Config, io map[string]array) error {
	in, err := want(io, "image", "latent")
	if err != nil {
		return err
	}
	weights, err := w.readAutoencoder(dir, c)
	if err != nil {
		return err
	}
	out, err := w.run(weights, nil, func(s *nn.Scope, in []*graph.Node) []*graph.Node {
		mean, logvar := c.Encode(s.In(vaePrefix), in[0])
		return []*graph.Node{mean, logvar, c.Decode(s.In(vaePrefix), in[1])}
	}, in[0].channelsLast().floats(), in[1].channelsLast().floats())
	if err != nil {
		return err
	}
	for i := range out {
		out[i] = out[i].permuted(0, 3, 1, 2)
	}
	mean, logvar := out[0], out[1]
	got := map[string]array{"mean": mean, "logvar": logvar, "decoded": out[2]}
	got["std"] = mapped(func(v []float64) float64 { return math.Exp(v[0] / 2) }, logvar)
	terms := mapped(func(v []float64) float64 { return (v[0]*v[0] + math.Exp(v[1]) - 1 - v[1]) / 2 }, mean, logvar)
	kl := array{shape: []int{terms.shape[0]}, data: make([]float64, terms.shape[0])}
	for i := range kl.data {
		for _, v := range terms.row(i).data {
			kl.data[i] += v
		}
	}
	got["kl"] = kl
	if noise, ok := io["noise"]; ok {
		got["latent"] = mapped(func(v []float64) float64 { return v[0] + v[1]*v[2] }, mean, got["std"], noise)
	}
	if _, ok := io["decoded_mean"]; ok {
		again, err := w.run(weights, nil, func(s *nn.Scope, in []*graph.Node) []*graph.Node {
			return []*graph.Node{c.Decode(s.In(vaePrefix), in[0])}
		}, io["mean"].channelsLast().floats())
		if err != nil {
			return err
		}
		got["decoded_mean"] = again[0].permuted(0, 3, 1, 2)
	}
	return w.all(dir, "AutoencoderKL", got, io, "image", "noise")
}

// all compares every recorded output with what was computed; inputs are named.
func (w *walker) all(dir, what string, got, io map[string]array, inputs ...string) error {
	path := filepath.Join(dir, ioFile)
	names := map[string]bool{}
	for name := range io {
		names[name] = true
	}
	for _, name := range inputs {
		delete(names, name)
	}
	for _, name := range sorted(names) {
		if strings.HasPrefix(name, "act.") {
			continue // Inner values, for bisecting.
		}
		a, ok := got[name]
		if !ok {
			w.fail(path, what+" "+name, fmt.Errorf("recorded tensor %q is not known; nothing was compared", name))
			continue
		}
		w.near(path, what+" "+name, a, io[name])
	}
	return nil
}

// vq compares a VQModel. Codes are those of the recorded latents, since rounding
// may decide between two entries that are as near.
func (w *walker) vq(dir string, c *autoencoder.Config, io map[string]array) error {
	in, err := want(io, "image", "encoded")
	if err != nil {
		return err
	}
	weights, err := w.readAutoencoder(dir, c)
	if err != nil {
		return err
	}
	plain := *c // Decodes without rounding.
	plain.Codebook = nil
	got := map[string]array{}
	for name, build := range map[string]func(s *nn.Scope, in []*graph.Node) *graph.Node{
		"encoded":               func(s *nn.Scope, in []*graph.Node) *graph.Node { h, _ := c.Encode(s, in[0]); return h },
		"codes":                 func(s *nn.Scope, in []*graph.Node) *graph.Node { codes, _ := c.Quantize(s, in[1]); return codes },
		"quantized":             func(s *nn.Scope, in []*graph.Node) *graph.Node { _, q := c.Quantize(s, in[1]); return q },
		"decoded":               func(s *nn.Scope, in []*graph.Node) *graph.Node { return c.Decode(s, in[1]) },
		"decoded_not_quantized": func(s *nn.Scope, in []*graph.Node) *graph.Node { return plain.Decode(s, in[1]) },
	} {
		out, err := w.run(weights, nil, func(s *nn.Scope, in []*graph.Node) []*graph.Node {
			return []*graph.Node{build(s.In(vaePrefix), in)}
		}, in[0].channelsLast().floats(), in[1].channelsLast().floats())
		if err != nil {
			return err
		}
		if got[name] = out[0]; len(out[0].shape) == 4 {
			got[name] = out[0].permuted(0, 3, 1, 2)
		}
	}
	return w.all(dir, "VQModel", got, io, "image")
}

// text compares a text encoder.
func (w *walker) text(dir string, config []byte, io map[string]array) error {
	c, err := textencoder.ParseConfig(config)
	if err != nil {
		return err
	}
	in, err := want(io, "input_ids")
	if err != nil {
		return err
	}
	specs, err := c.Specs(w.backend)
	if err != nil {
		return err
	}
	weights, err := checkpoint.LoadComponent(dir, textPrefix, specs)
	if err != nil {
		return err
	}
	layers := 0
	out, err := w.run(weights, nil, func(s *nn.Scope, in []*graph.Node) []*graph.Node {
		out := c.Forward(s.In(textPrefix), in[0])
		layers = len(out.Hidden)
		return append(append([]*graph.Node{out.Last}, out.Hidden...), c.Pool(out.Last, in[0]))
	}, in[0].ints())
	if err != nil {
		return err
	}
	got := map[string]array{"last_hidden_state": out[0], "pooler_output": out[len(out)-1]}
	for i := range layers {
		got[fmt.Sprintf("hidden_states.%d", i)] = out[1+i]
	}
	if _, ok := io["attention_mask"]; ok {
		return fmt.Errorf("an attention mask is recorded; text encoders here take none")
	}
	return w.all(dir, string(c.Class), got, io, "input_ids")
}
