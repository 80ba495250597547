package adapter

import (
	"fmt"
	"math"
	"strings"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// Core is the map f between the two projections of a LoDA branch.
type Core string

const (
	// LinearCore is f(z) = z: LoDA is then LoRA.
	LinearCore Core = "linear"
	// NonLinearCore is f(z) = z + V·SiLU(U·z) with V = 0 at the start, so that
	// training begins as LoRA and may leave it.
	NonLinearCore Core = "non-linear"
)

// LoDA is Low-Dimensional Adaptation (Liu, Lowy, Koike-Akino, Parsons, Wang
// 2024, https://arxiv.org/abs/2406.05257): beside a frozen layer y = W0·x it
// adds B·f(A·x), where A maps to Rank dimensions, f is a small map there and B
// maps back, zero at the start. On a k×k convolution A is a k×k convolution of
// the same stride and padding, f and B are 1×1.
//
// Parameters of the layer "conv1": conv1.lora_A.weight, conv1.lora_B.weight
// and, with the non-linear core, conv1.loda_U.weight and conv1.loda_V.weight.
type LoDA struct {
	Rank   int
	Alpha  float64 // The branch is scaled by Alpha/Rank. Zero means Rank.
	Core   Core    // "" means NonLinearCore.
	Target func(nn.Target) bool
}

// Validate reports the first option that is out of range.
func (l *LoDA) Validate() error {
	switch {
	case l.Rank <= 0:
		return fmt.Errorf("adapter rank is %d, want at least 1", l.Rank)
	case !(l.Alpha >= 0) || math.IsInf(l.Alpha, 1): // !(x >= 0) also catches NaN.
		return fmt.Errorf("adapter alpha is %g, want positive and finite, or zero for the rank", l.Alpha)
	case l.Core != "" && l.Core != LinearCore && l.Core != NonLinearCore:
		return fmt.Errorf("adapter core is %q, want %q or %q", l.Core, LinearCore, NonLinearCore)
	case l.Target == nil:
		return fmt.Errorf("adapter has no targets")
	}
	return nil
}

// Adapt implements [nn.Adapter].
func (l *LoDA) Adapt(s *nn.Scope, layer nn.Target, x, y *Node) *Node {
	if !l.Target(layer) {
		return y
	}
	scale := 1.0
	if l.Alpha != 0 {
		scale = l.Alpha / float64(l.Rank)
	}
	return Add(y, branch(s, layer, x, l.Rank, scale, l.Core))
}

// branch returns scale·B·f(A·x) of one layer.
func branch(s *nn.Scope, layer nn.Target, x *Node, rank int, scale float64, core Core) *Node {
	var z *Node
	if layer.Conv != nil {
		z = nn.Conv2D(s.In("lora_A"), x, rank, *layer.Conv, nn.ConvOptions{NoBias: true})
	} else {
		z = nn.Dense(s.In("lora_A"), x, rank, nn.DenseOptions{NoBias: true})
	}
	project := func(name string, z *Node, out int, zero bool) *Node {
		if layer.Conv != nil {
			return nn.Conv2D(s.In("%s", name), z, out, nn.Same(1), nn.ConvOptions{NoBias: true, ZeroInit: zero})
		}
		return nn.Dense(s.In("%s", name), z, out, nn.DenseOptions{NoBias: true, ZeroInit: zero})
	}
	if core != LinearCore {
		z = Add(z, project("loda_V", nn.SiLU(project("loda_U", z, rank, false)), rank, true))
	}
	y := project("lora_B", z, layer.Out, true)
	if scale != 1 {
		y = MulScalar(y, scale)
	}
	return y
}

// IsAdapter reports whether a parameter belongs to an adapter branch.
func IsAdapter(name string) bool {
	for _, part := range strings.Split(name, ".") {
		switch part {
		case "lora_A", "lora_B", "loda_U", "loda_V":
			return true
		}
	}
	return false
}

// Convolutions targets the convolutions under the given prefixes whose kernel
// is at least minKernel wide; no prefix means the whole model.
func Convolutions(minKernel int, prefixes ...string) func(nn.Target) bool {
	return func(t nn.Target) bool {
		return t.Conv != nil && t.Conv.Kernel >= minKernel && under(t.Path, prefixes)
	}
}

// DenseLayers targets dense layers whose path ends in one of the suffixes
// ("to_q", "to_out.0").
func DenseLayers(suffixes ...string) func(nn.Target) bool {
	return func(t nn.Target) bool {
		if t.Conv != nil {
			return false
		}
		for _, suffix := range suffixes {
			if t.Path == suffix || strings.HasSuffix(t.Path, "."+suffix) {
				return true
			}
		}
		return false
	}
}

// under reports whether path is one of the prefixes or lies below one.
func under(path string, prefixes []string) bool {
	if len(prefixes) == 0 {
		return true
	}
	for _, p := range prefixes {
		if path == p || strings.HasPrefix(path, p+".") {
			return true
		}
	}
	return false
}
