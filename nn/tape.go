package nn

import (
	"fmt"
	"sort"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// LayerKind selects the per-example gradient rule of a layer.
type LayerKind int

const (
	// Linear layers compute Output = Input·W + b on the last axis: dense
	// layers, convolutions (Input is their patches), embeddings (Input is
	// one-hot).
	Linear LayerKind = iota
	// ScaleShift layers compute Output = Input∘W + b, with W, b [channels]:
	// the affine part of norms.
	ScaleShift
	// Table layers pick rows: Output[r, t] = W[Input[r, t]], with Input [rows,
	// positions] int32.
	Table
)

// Layer is one entry of the tape: a layer of which at least one parameter is
// trainable.
type Layer struct {
	Path string
	Kind LayerKind

	// Input is [rows, positions..., in], or indices for a Table, made when first asked for: patches
	// cost memory and only some gradient engines need them.
	Input func() *Node
	// Conv is the geometry of a convolution, of which Input are the windows of
	// Pixels [rows, height, width, channels]; nil for other layers, and for
	// convolutions that see one pixel at a time.
	Conv   *Conv
	Pixels *Node
	// Output is [rows, positions..., out], before any adapter's addition.
	Output *Node

	// Weight and Bias name the trainable parameters, "" where there is none or
	// it is frozen.
	Weight, Bias string
	// WeightShape is the parameter's own shape, [in, out] after flattening.
	WeightShape []int
}

// record puts a layer on the tape when one of its parameters is trainable.
func (s *Scope) record(l *Layer) {
	if l.Weight != "" && !s.trainable(l.Weight) {
		l.Weight = ""
	}
	if l.Bias != "" && !s.trainable(l.Bias) {
		l.Bias = ""
	}
	if l.Weight == "" && l.Bias == "" {
		return
	}
	l.Path = s.path
	s.build.tape = append(s.build.tape, l)
}

// CheckCovered returns an error unless the tape owns exactly the named
// trainable parameters, each once: a trainable tensor without a rule would
// silently get no clipped gradient but would still be released with noise, and
// one that the model does not use at all is a mistake in its name.
func CheckCovered(tape []*Layer, trainable []string) error {
	owned := map[string]bool{}
	for _, l := range tape {
		for _, name := range []string{l.Weight, l.Bias} {
			if name == "" {
				continue
			}
			if owned[name] {
				return fmt.Errorf("parameter %q belongs to two layers, want one", name)
			}
			owned[name] = true
		}
	}
	for _, name := range trainable {
		if !owned[name] {
			return fmt.Errorf("trainable parameter %q has no per-example gradient rule; is the name right?", name)
		}
		delete(owned, name)
	}
	if len(owned) > 0 {
		var rest []string
		for name := range owned {
			rest = append(rest, name)
		}
		sort.Strings(rest)
		return fmt.Errorf("layers own %d trainable parameters that are not in the list, first %q", len(rest), rest[0])
	}
	return nil
}
