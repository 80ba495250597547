package generate

import (
	"context"
	"fmt"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/pipeline"
)

// Prompt is what an image should show. Prompts are public.
type Prompt struct {
	Text     string
	Negative string // What guidance leads away from; "" is no text at all.
}

// conditions yield what the network is told of images, and what guidance leads
// away from: inputs of pipeline.Denoise.
type conditions interface {
	// batch returns the tensors for images from to (exclusive), filled up to rows.
	batch(from, to, rows int) (given, away *tensors.Tensor)
}

// labelConditions are labels, against the null class.
type labelConditions struct {
	labels []int
	null   int
}

func (c labelConditions) batch(from, to, rows int) (given, away *tensors.Tensor) {
	class, null := make([]int32, rows), make([]int32, rows)
	for i := range rows {
		null[i] = int32(c.null)
		if from+i < to {
			class[i] = int32(c.labels[from+i])
		}
	}
	return tensors.FromFlatDataAndDimensions(class, rows), tensors.FromFlatDataAndDimensions(null, rows)
}

// textConditions are contexts that the text encoder made, each once.
type textConditions struct {
	prompts       []Prompt
	contexts      map[string][]float32
	tokens, width int
}

func newTextConditions(ctx context.Context, backend compute.Backend, m *checkpoint.Model, prompts []Prompt, o Options) (*textConditions, error) {
	codec, err := pipeline.NewTextCodec(backend, o.Lowering, m)
	if err != nil {
		return nil, err
	}
	defer codec.Close()
	texts := []string{""}
	for _, p := range prompts {
		texts = append(texts, p.Text, p.Negative)
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	values, err := codec.Encode(ctx, texts)
	if err != nil {
		return nil, err
	}
	c := &textConditions{prompts: prompts, contexts: map[string][]float32{}, tokens: m.TextLength(), width: m.TextEncoder.Width}
	for i, text := range texts {
		c.contexts[text] = values[i*codec.Size() : (i+1)*codec.Size()]
	}
	return c, nil
}

func (c *textConditions) batch(from, to, rows int) (given, away *tensors.Tensor) {
	var text, negative []float32
	for i := range rows {
		var p Prompt
		if from+i < to {
			p = c.prompts[from+i]
		}
		text = append(text, c.contexts[p.Text]...)
		negative = append(negative, c.contexts[p.Negative]...)
	}
	return tensors.FromFlatDataAndDimensions(text, rows, c.tokens, c.width), tensors.FromFlatDataAndDimensions(negative, rows, c.tokens, c.width)
}

// Prompts samples one image per prompt from a model that is conditioned on text,
// size×size pixels. The set has the prompts as captions.
func Prompts(ctx context.Context, backend compute.Backend, m *checkpoint.Model, size int, prompts []Prompt, o Options) (*dataset.Set, error) {
	if m.TextEncoder == nil {
		return nil, fmt.Errorf("the model takes no text, want one with a text encoder")
	}
	c, err := newTextConditions(ctx, backend, m, prompts, o)
	if err != nil {
		return nil, err
	}
	g, err := New(backend, m, size, o)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	set, err := g.images(ctx, len(prompts), c, o.Seed)
	if err != nil {
		return nil, err
	}
	set.Captions = make([]string, len(prompts))
	for i, p := range prompts {
		set.Captions[i] = p.Text
	}
	return set, nil
}
