package finetune

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/textencoder"
)

const textPrefix = "text_encoder"

// conditions are what the network is told of the examples. Rows are those of the
// loss: an example's index, dropped for no condition at all, or padding.
type conditions interface {
	tensor(rows []int) *tensors.Tensor
}

const (
	dropped = -1
	padding = -2
)

// labels are classes; null is the label that means none. The labels are private.
type labels struct {
	of   []int
	null int
}

func (l labels) tensor(rows []int) *tensors.Tensor {
	class := make([]int32, len(rows))
	for i, row := range rows {
		switch row {
		case dropped:
			class[i] = int32(l.null)
		case padding:
		default:
			class[i] = int32(l.of[row])
		}
	}
	return tensors.FromFlatDataAndDimensions(class, len(rows))
}

// captions are texts, in one of two forms: tokens, where the text encoder trains;
// else the contexts that it makes of them, each encoded once. Private.
type captions struct {
	length, width int
	tokens        []int32   // [examples, length].
	noTokens      []int32   // Of the text that stands for none: "".
	contexts      []float32 // [examples, length, width].
	noContext     []float32
}

func (c *captions) tensor(rows []int) *tensors.Tensor {
	if c.noTokens != nil {
		return tensors.FromFlatDataAndDimensions(pick(rows, c.tokens, c.noTokens), len(rows), c.length)
	}
	return tensors.FromFlatDataAndDimensions(pick(rows, c.contexts, c.noContext), len(rows), c.length, c.width)
}

// pick returns the values of each row, those of none for rows without an example.
func pick[T any](rows []int, all, none []T) []T {
	size := len(none)
	out := make([]T, 0, len(rows)*size)
	for _, row := range rows {
		if row < 0 {
			out = append(out, none...)
			continue
		}
		out = append(out, all[row*size:(row+1)*size]...)
	}
	return out
}

// trainsText reports whether a weight of the text encoder trains.
func (t *target) trainsText() bool {
	return slices.ContainsFunc(t.trainable, func(name string) bool { return strings.HasPrefix(name, textPrefix+".") })
}

// weights returns those that the loss uses: the text encoder's only where it
// trains, since otherwise it has done its part before.
func (t *target) weights() *nn.Weights {
	if t.trainsText() {
		return pipeline.Component(t.model.Weights, "unet", "class_embedder", textPrefix)
	}
	return denoiserWeights(t.model)
}

// conditions returns what a set says of its images, in the form that the loss
// takes.
func (t *target) conditions(ctx context.Context, backend compute.Backend, lowering nn.Lowering, set *dataset.Set) (conditions, error) {
	if t.model.TextEncoder == nil {
		return labels{set.Labels, t.model.NullClass()}, nil
	}
	return t.encodeTexts(ctx, backend, lowering, set.Captions)
}

// encodeTexts returns captions in the form that the loss takes. No error holds a
// text.
func (t *target) encodeTexts(ctx context.Context, backend compute.Backend, lowering nn.Lowering, texts []string) (*captions, error) {
	m := t.model
	c := &captions{length: m.TextLength(), width: m.TextEncoder.Width}
	if t.trainsText() {
		c.tokens, c.noTokens = m.Tokens(texts), m.Tokens([]string{""})
		return c, nil
	}
	codec, err := pipeline.NewTextCodec(backend, lowering, m)
	if err != nil {
		return nil, err
	}
	defer codec.Close()
	codec.Apart = true
	values, err := codec.Encode(ctx, append([]string{""}, texts...))
	if err != nil {
		return nil, err
	}
	c.noContext, c.contexts = values[:codec.Size()], values[codec.Size():]
	return c, nil
}

// randomConditions are public, for n examples: they stand in where a step is
// compiled before an image is opened.
func (t *target) randomConditions(n int) conditions {
	rng := rand.New(rand.NewPCG(1, 3))
	m := t.model
	if m.TextEncoder == nil {
		of := make([]int, n)
		for i := range of {
			of[i] = i % max(1, m.NullClass())
		}
		return labels{of, m.NullClass()}
	}
	c := &captions{length: m.TextLength(), width: m.TextEncoder.Width}
	if t.trainsText() {
		c.noTokens, c.tokens = make([]int32, c.length), make([]int32, n*c.length)
		for i := range c.tokens {
			c.tokens[i] = int32(rng.IntN(m.Tokenizer.Size()))
		}
		return c
	}
	c.noContext, c.contexts = make([]float32, c.length*c.width), make([]float32, n*c.length*c.width)
	for i := range c.contexts {
		c.contexts[i] = float32(rng.NormFloat64())
	}
	return c
}

// checkText returns an error unless a text model has a config without classes.
func checkText(c *Config, m *checkpoint.Model) error {
	switch {
	case m.TextEncoder == nil && len(c.Sampling.Prompts) > 0:
		return fmt.Errorf("%w: sampling.prompts are set, but the base model takes classes, not text", ErrConfig)
	case m.TextEncoder == nil && c.Sampling.NegativePrompt != "":
		return fmt.Errorf("%w: sampling.negative_prompt is set, but the base model takes classes, not text", ErrConfig)
	case m.TextEncoder == nil:
		return nil
	case len(c.Data.Classes) > 0:
		return fmt.Errorf("%w: data.classes are set, but the base model takes text: leave them out, and give each image a caption in metadata.jsonl or Parquet", ErrConfig)
	case c.Sampling.Count > 0 && len(c.Sampling.Prompts) == 0:
		return fmt.Errorf("%w: sampling.prompts is missing: the base model takes text, so say in public words what the %d images should show", ErrConfig, c.Sampling.Count)
	}
	return nil
}

// embedderNames are the parameters of the conditioning embedder: the table of
// classes, or the text encoder.
func embedderNames(specs []nn.Spec, m *checkpoint.Model) []string {
	if m.TextEncoder == nil {
		return []string{embedderName(m)}
	}
	return usedText(adapter.Everything(specs, textPrefix))
}

// usedText leaves out what the text encoder's files hold and nothing uses.
func usedText(names []string) []string {
	return slices.DeleteFunc(names, func(name string) bool {
		leaf, ok := strings.CutPrefix(name, textPrefix+".")
		return ok && textencoder.Unused(leaf)
	})
}
