package compvis

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/textencoder"
	"github.com/scumble-dp/scumble/tokenizer"
	"github.com/scumble-dp/scumble/torchfile"
)

// Options of Import.
type Options struct {
	EMA       bool                 // Take the averaged weights of the UNet, which latent-diffusion samples with.
	Tokenizer *tokenizer.Tokenizer // Of models conditioned on text, whose checkpoints have none.
	Classes   []string             // Names; nil means numbers.
}

// Weights is an open checkpoint; *torchfile.File is one.
type Weights interface {
	Names() []string
	Float32s(name string) (shape []int, values []float32, err error)
}

// Prefixes of the networks in a checkpoint.
const (
	unetPrefix  = "model.diffusion_model."
	emaPrefix   = "model_ema."
	firstPrefix = "first_stage_model."
	condPrefix  = "cond_stage_model."
)

// importer is the state of one import.
type importer struct {
	backend compute.Backend
	file    Weights
	o       Options
	names   map[string]bool // In the checkpoint.
	used    map[string]bool
	model   *checkpoint.Model
}

// Import returns the model of a checkpoint and its config. Nothing runs on the
// backend. Every tensor of UNet, autoencoder and conditioning must have a place.
func Import(backend compute.Backend, file Weights, c *Config, o Options) (*checkpoint.Model, error) {
	m := &importer{backend: backend, file: file, o: o, names: map[string]bool{}, used: map[string]bool{},
		model: &checkpoint.Model{Weights: nn.NewWeights(), PixelUnshuffle: 1}}
	for _, name := range file.Names() {
		m.names[name] = true
	}
	if err := m.networks(c); err != nil {
		return nil, err
	}
	if err := m.leftOver(); err != nil {
		return nil, err
	}
	if err := m.model.Validate(); err != nil {
		return nil, fmt.Errorf("the imported model: %w", err)
	}
	return m.model, nil
}

func (m *importer) networks(c *Config) error {
	var err error
	out := m.model
	if out.UNet, err = c.unetConfig(); err != nil {
		return err
	}
	specs, err := out.UNet.Specs(m.backend)
	if err != nil {
		return err
	}
	heads := func(s source) source { // Only the plain attention has parts.
		s.heads = out.UNet.AttentionHeadDim.At(0)
		return s
	}
	err = m.take("unet", unetPrefix, specs, func(name string) (source, error) {
		s, err := unetName(out.UNet, name)
		return heads(s), err
	})
	if err != nil {
		return err
	}
	scale := c.Model.Params.ScaleFactor
	if m.names["scale_factor"] { // Found on data at the start of training.
		_, values, err := m.file.Float32s("scale_factor")
		if err != nil || len(values) != 1 {
			return fmt.Errorf("scale_factor: %d values (%v), want one", len(values), err)
		}
		scale = float64(values[0])
	}
	if out.Autoencoder, err = c.autoencoderConfig(scale); err != nil {
		return err
	}
	out.Channels, out.Size = out.UNet.InChannels, out.UNet.SampleSize.At(0)
	if a := out.Autoencoder; a != nil {
		if specs, err = a.Specs(m.backend); err != nil {
			return err
		}
		levels := len(a.BlockOutChannels)
		if err := m.take("vae", firstPrefix, specs, func(name string) (source, error) { return vaeName(levels, name) }); err != nil {
			return err
		}
		out.Channels, out.Size = a.InChannels, out.Size*a.Factor()
	}
	if out.Scheduler, err = c.schedulerConfig(out.Autoencoder != nil); err != nil {
		return err
	}
	return m.condition(c)
}

// condition reads what enters the network besides the image.
func (m *importer) condition(c *Config) error {
	kind, stage, err := c.conditioning()
	if err != nil {
		return err
	}
	out := m.model
	entries := 0
	switch kind {
	case "":
		entries = out.UNet.NumClassEmbeds
	case "ClassEmbedder":
		entries = stage.Params.Classes
		if entries == 0 {
			entries = 1000
		}
		out.ClassEmbedder = &checkpoint.ClassEmbedder{Entries: entries, Channels: stage.Params.EmbedDim}
		specs := []nn.Spec{{Name: "weight", Kind: nn.KindTable, Shape: []int{entries, stage.Params.EmbedDim}}}
		if err := m.take("class_embedder", condPrefix+"embedding.", specs, func(name string) (source, error) { return whole(name), nil }); err != nil {
			return err
		}
	case clipEmbedder, openEmbedder, bertEmbedder:
		return m.text(kind, stage)
	default:
		return fmt.Errorf("model config: cond_stage_config.target ends in %q, want ClassEmbedder, %s, %s or %s", kind, clipEmbedder, openEmbedder, bertEmbedder)
	}
	out.Classes = m.o.Classes
	if out.Classes == nil && entries > 1 {
		for i := range entries - 1 { // The last is taken to be the null class.
			out.Classes = append(out.Classes, strconv.Itoa(i))
		}
	}
	return nil
}

// Text embedders of CompVis and Stability.
const (
	clipEmbedder = "FrozenCLIPEmbedder"
	openEmbedder = "FrozenOpenCLIPEmbedder"
	bertEmbedder = "BERTEmbedder"
)

// text reads a text encoder. Its sizes are those of the tensors.
func (m *importer) text(kind string, stage *condStage) error {
	skip := 0 // Layers at the end that are not used.
	switch layer := stage.Params.Layer; {
	case kind == openEmbedder && layer == "penultimate":
		skip = 1
	case layer != "" && layer != "last":
		return fmt.Errorf("model config: cond_stage_config has layer %q, want last, or penultimate in %s; no other is implemented", layer, openEmbedder)
	case stage.Params.UseWords != nil && !*stage.Params.UseWords:
		return fmt.Errorf("model config: cond_stage_config has use_tokenizer false, which is not implemented")
	}
	if m.o.Tokenizer == nil {
		return fmt.Errorf("the model is conditioned on text and the checkpoint has no tokenizer; name the folder of one with --tokenizer")
	}
	prefix := condPrefix + "transformer."
	config, rename := textencoder.Default(textencoder.LDMBert), bertName
	tokens, positions, network, layer := "token_emb.weight", "pos_emb.emb.weight", "attn_layers.layers.1.1.net.0.0.weight", "attn_layers.layers.%d.1.to_q.weight"
	every := 2
	switch kind {
	case openEmbedder:
		config = textencoder.Default(textencoder.CLIP)
		config.Activation = textencoder.GELU
		prefix = condPrefix + "model."
		tokens, positions = "token_embedding.weight", "positional_embedding"
		network, layer, every = "transformer.resblocks.0.mlp.c_fc.weight", "transformer.resblocks.%d.attn.in_proj_weight", 1
	case clipEmbedder:
		config = textencoder.Default(textencoder.CLIP)
		prefix += "text_model."
		rename = func(name string) (source, error) { return whole(name), nil }
		tokens, positions = "embeddings.token_embedding.weight", "embeddings.position_embedding.weight"
		network, layer, every = "encoder.layers.0.mlp.fc1.weight", "encoder.layers.%d.self_attn.q_proj.weight", 1
	}
	shape := func(name string) ([]int, error) {
		s, _, err := m.file.Float32s(prefix + name)
		if err == nil && len(s) != 2 {
			err = fmt.Errorf("tensor %q has shape %v, want two axes", prefix+name, s)
		}
		return s, err
	}
	for _, read := range []struct {
		name  string
		axis0 *int
		axis1 *int
	}{{tokens, &config.Vocabulary, &config.Width}, {positions, &config.Positions, nil}, {network, &config.Hidden, nil}} {
		s, err := shape(read.name)
		if err != nil {
			return err
		}
		*read.axis0 = s[0]
		if read.axis1 != nil {
			*read.axis1 = s[1]
		}
	}
	config.Layers = 0
	for m.names[prefix+fmt.Sprintf(layer, every*config.Layers)] {
		config.Layers++
	}
	if config.Layers -= skip; config.Layers < 1 {
		return fmt.Errorf("text encoder of the checkpoint has %d layers that are used, want at least 1", config.Layers)
	}
	if kind != bertEmbedder { // CLIP's heads are 64 wide in every published size.
		config.Heads = max(1, config.Width/64)
		config.HeadWidth = config.Width / config.Heads
	} else {
		s, err := shape(fmt.Sprintf(layer, 0))
		if err != nil {
			return err
		}
		config.HeadWidth = 64
		config.Heads = s[0] / config.HeadWidth
	}
	if kind == openEmbedder {
		rename = openName(config.Width)
		m.passOpen(prefix, config.Layers)
	}
	if err := config.Validate(); err != nil {
		return fmt.Errorf("text encoder of the checkpoint: %w", err)
	}
	specs, err := config.Specs(m.backend)
	if err != nil {
		return err
	}
	m.model.TextEncoder, m.model.Tokenizer = config, m.o.Tokenizer
	for name := range m.names { // A buffer of numbers 0, 1, 2, ...
		if strings.HasPrefix(name, condPrefix) && strings.HasSuffix(name, ".position_ids") {
			m.used[name] = true
		}
	}
	return m.take("text_encoder", prefix, specs, rename)
}

// take reads the tensors of one network.
func (m *importer) take(component, prefix string, specs []nn.Spec, rename func(string) (source, error)) error {
	for _, spec := range specs {
		s, err := rename(spec.Name)
		if err != nil {
			return err
		}
		name := prefix + s.name
		m.used[name] = true
		if m.o.EMA && prefix == unetPrefix {
			// Lightning forbids dots in the names of buffers.
			average := emaPrefix + "diffusion_model" + strings.ReplaceAll(s.name, ".", "")
			if !m.names[average] {
				return fmt.Errorf("checkpoint has no averaged weight %q; import without --ema", average)
			}
			name = average
		}
		if !m.names[name] {
			return fmt.Errorf("checkpoint has no tensor %q, which the config wants", name)
		}
		shape, values, err := m.file.Float32s(name)
		if err != nil {
			return err
		}
		t, err := s.tensor(spec, shape, values)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		t.Name = component + "." + spec.Name
		m.model.Weights.Add(t)
	}
	return nil
}

// tensor brings values of a checkpoint into our layout.
func (s source) tensor(spec nn.Spec, shape []int, values []float32) (*nn.Tensor, error) {
	if s.part >= 0 {
		width := s.heads // Channels per head.
		if len(shape) == 0 || width < 1 || shape[0]%(3*width) != 0 {
			return nil, fmt.Errorf("shape is %v, want rows for heads of %d channels", shape, width)
		}
		row := len(values) / shape[0]
		var out []float32
		for head := range shape[0] / (3 * width) {
			at := (head*3 + s.part) * width * row
			out = append(out, values[at:at+width*row]...)
		}
		values, shape = out, append([]int{shape[0] / 3}, shape[1:]...)
	}
	want := spec.Shape
	switch spec.Kind {
	case nn.KindDense: // Also written as a convolution of width 1.
		want = []int{spec.Shape[1], spec.Shape[0]}
		for len(shape) > 2 && shape[len(shape)-1] == 1 {
			shape = shape[:len(shape)-1]
		}
	case nn.KindKernel:
		want = []int{spec.Shape[3], spec.Shape[2], spec.Shape[0], spec.Shape[1]}
		if len(shape) == 2 && want[2]*want[3] == 1 {
			shape = append(slices.Clone(shape), 1, 1)
		}
	}
	if !slices.Equal(shape, want) {
		return nil, fmt.Errorf("shape is %v, the config wants %v", shape, want)
	}
	for i, v := range values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("value %g at %d, want finite ones", v, i)
		}
	}
	shape, data := checkpoint.FromDiffusers(spec.Kind, shape, values)
	return &nn.Tensor{Kind: spec.Kind, Shape: shape, Data: data}, nil
}

// leftOver refuses tensors of the three networks that found no place. Losses, and
// buffers of training, are no part of them.
func (m *importer) leftOver() error {
	var lost []string
	for name := range m.names {
		if m.used[name] || strings.HasPrefix(name, firstPrefix+"loss.") || strings.HasPrefix(name, firstPrefix+"model_ema.") || name == firstPrefix+"colorize" {
			continue
		}
		for _, prefix := range []string{unetPrefix, firstPrefix, condPrefix} {
			if strings.HasPrefix(name, prefix) {
				lost = append(lost, name)
			}
		}
	}
	if len(lost) == 0 {
		return nil
	}
	slices.Sort(lost)
	return fmt.Errorf("%d tensors of the checkpoint have no place in the model of the config, the first is %q", len(lost), lost[0])
}

var _ Weights = (*torchfile.File)(nil)
