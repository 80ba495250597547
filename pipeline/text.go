package pipeline

import (
	"context"
	"fmt"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/nn"
)

// Context returns what the UNet attends to, [rows, tokens, width], of texts that
// are given in either of two forms:
//
//   - [rows, tokens] int32: token numbers, which the text encoder encodes here.
//   - [rows, tokens, width]: what it made of them before, by a TextCodec.
func Context(m *checkpoint.Model, s *nn.Scope, text *Node) *Node {
	if text.DType().IsFloat() {
		text.AssertRank(3)
		return text
	}
	return m.TextEncoder.Forward(s.In("text_encoder"), text).Last
}

// TextCodec turns texts into contexts with a text encoder whose weights do not
// change.
type TextCodec struct {
	Apart bool // Encode takes each text in a call of its own: see Codec.

	model   *checkpoint.Model
	program *nn.Program
	batch   int
}

// NewTextCodec prepares the text encoder of a model.
func NewTextCodec(backend compute.Backend, lowering nn.Lowering, m *checkpoint.Model) (*TextCodec, error) {
	if m.TextEncoder == nil {
		return nil, fmt.Errorf("the model has no text encoder")
	}
	p, err := nn.NewProgram(backend, nn.ProgramOptions{NN: nn.Options{Lowering: lowering}, Weights: Component(m.Weights, "text_encoder"),
		Build: func(s *nn.Scope, _, in []*Node) []*Node { return []*Node{Context(m, s, in[0])} }})
	if err != nil {
		return nil, err
	}
	return &TextCodec{model: m, program: p, batch: 16}, nil
}

// Size returns the number of values of one context.
func (c *TextCodec) Size() int { return c.model.TextLength() * c.model.TextEncoder.Width }

// Encode returns the contexts of texts, [len(texts), TextLength, Width]. What it
// returns for private texts is private. No error holds a text.
func (c *TextCodec) Encode(ctx context.Context, texts []string) ([]float32, error) {
	n, batch := c.model.TextLength(), c.batch
	if c.Apart {
		batch = 1
	}
	out := make([]float32, 0, len(texts)*c.Size())
	for at := 0; at < len(texts); at += batch {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		some := texts[at:min(len(texts), at+batch)]
		tokens := make([]int32, batch*n) // Filled up, so that nothing compiles twice.
		copy(tokens, c.model.Tokens(some))
		result, err := c.program.Run(nil, tensors.FromFlatDataAndDimensions(tokens, batch, n))
		if err != nil {
			return nil, fmt.Errorf("encode texts: %w", err)
		}
		values, err := tensors.CopyFlatData[float32](result[0])
		if err != nil {
			return nil, err
		}
		_ = result[0].FinalizeAll()
		out = append(out, values[:len(some)*c.Size()]...)
	}
	return out, nil
}

// Close frees the compiled graph.
func (c *TextCodec) Close() { c.program.Close() }
