package nn

import (
	"fmt"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Lowering says how layers become backend operations.
type Lowering int

const (
	// Native uses the backend's own convolution, and leaves gradients to GoMLX.
	Native Lowering = iota
	// Patches gathers each kernel window into a row and multiplies matrices,
	// and writes sums as products and gradients by hand: right for the pure Go
	// backend, which executes each operation as it stands.
	Patches
	// Small is Native, but for convolutions of small maps, which become products
	// of windows as in Patches: right for XLA on a CPU, which rewrites what it gets
	// but computes such convolutions slowly.
	Small
)

// LoweringOn returns the lowering that suits a backend by its name ("go" or "xla")
// and whether it computes on a CPU.
func LoweringOn(backend string, cpu bool) Lowering {
	if !cpu {
		return Native
	}
	return LoweringFor(backend)
}

// LoweringFor returns the lowering that suits a backend on a CPU by its name.
func LoweringFor(backend string) Lowering {
	if backend == "go" {
		return Patches
	}
	return Small
}

// Options of one graph build.
type Options struct {
	Lowering Lowering
	Compute  Precision // Of dense products; see BFloat16.

	// Recompute has the backward pass compute again what lies inside the model's
	// blocks, so that only what is between them stays in memory (Chen et al. 2016,
	// https://arxiv.org/abs/1604.06174). See Scope.Block.
	Recompute bool

	// Param yields the node of a parameter. Required.
	Param func(g *Graph, spec Spec) *Node

	// Trainable reports whether the named parameter gets a gradient. Nil means
	// none does. Only trainable parameters are recorded on the tape.
	Trainable func(name string) bool

	// Adapter, if not nil, is asked at each dense and convolution layer for a
	// trainable addition to its output.
	Adapter Adapter

	half    map[string]bool  // Frozen weights that a Base keeps in half precision.
	kernels map[string]*Node // Weights in Winograd's basis, where a Program gives them in it.
}

// Adapter adds a trainable branch beside a frozen layer (LoRA, LoDA).
type Adapter interface {
	// Adapt returns y, or y plus the branch's output. s is the scope of the
	// layer, with adapters switched off; x its input, y its output.
	Adapt(s *Scope, layer Target, x, y *Node) *Node
}

// Target describes a dense or convolution layer to an Adapter.
type Target struct {
	Path    string // Name without ".weight": "mid_block.resnets.0.conv1".
	In, Out int    // Channels.
	Conv    *Conv  // Nil for a dense layer.
}

// Scope is a place in a model while its graph is built: it carries the name
// prefix and the state shared by the whole build.
type Scope struct {
	build  *build
	path   string
	bypass bool // Adapters off.
}

// build is the state of one graph build.
type build struct {
	graph *Graph
	opts  Options
	specs []Spec
	seen  map[string]bool
	tape  []*Layer
	wide  bool // The weight of the layer at hand was widened: see Base.
	block bool // Inside a Block that the backward pass computes again.

	met        map[windowKey]*Node
	selections map[selectionKey]*Node
}

// buildKey is where a graph keeps its build, for layers without parameters.
type buildKey struct{}

// lowering returns how layers are lowered in a graph; Native where no scope was
// made.
func lowering(g *Graph) Lowering {
	if b, ok := g.State(buildKey{}).(*build); ok {
		return b.opts.Lowering
	}
	return Small
}

// NewScope starts a graph build.
func NewScope(g *Graph, opts Options) *Scope {
	if opts.Param == nil {
		panic(fmt.Errorf("nn: options have no parameter source"))
	}
	b := &build{graph: g, opts: opts, seen: map[string]bool{},
		met: map[windowKey]*Node{}, selections: map[selectionKey]*Node{}}
	g.AttachState(buildKey{}, b)
	return &Scope{build: b}
}

// In returns the scope of a child: In("mid_block"), In("resnets.%d", 1).
func (s *Scope) In(format string, args ...any) *Scope {
	name := fmt.Sprintf(format, args...)
	if s.path != "" {
		name = s.path + "." + name
	}
	return &Scope{build: s.build, path: name, bypass: s.bypass}
}

// WithoutAdapter returns the same scope with adapters switched off.
func (s *Scope) WithoutAdapter() *Scope {
	return &Scope{build: s.build, path: s.path, bypass: true}
}

// Path returns the name prefix, "" at the root.
func (s *Scope) Path() string { return s.path }

// Graph returns the graph under construction.
func (s *Scope) Graph() *Graph { return s.build.graph }

// Lowering returns how convolutions are lowered in this build.
func (s *Scope) Lowering() Lowering { return s.build.opts.Lowering }

// Specs returns the parameters met so far, in the order of the model's code.
func (s *Scope) Specs() []Spec { return s.build.specs }

// Tape returns the layers with trainable parameters met so far.
func (s *Scope) Tape() []*Layer { return s.build.tape }

// param yields the node of a parameter of the layer at this scope. It panics
// when the name was used before: a weight shared by two uses would break the
// rule that each layer's per-example gradient norms add up.
func (s *Scope) param(leaf string, kind Kind, init Init, shape ...int) (node *Node, name string) {
	name = leaf
	if s.path != "" {
		name = s.path + "." + leaf
	}
	if s.build.seen[name] {
		panic(fmt.Errorf("nn: parameter %q is used twice; a shared weight has no per-example gradient rule", name))
	}
	s.build.seen[name] = true
	spec := Spec{Name: name, Kind: kind, Shape: shape, Init: init}
	s.build.specs = append(s.build.specs, spec)
	node = s.build.opts.Param(s.build.graph, spec)
	if node == nil {
		panic(fmt.Errorf("nn: no node for parameter %q", name))
	}
	node.AssertDims(shape...)
	s.build.wide = s.build.wide || s.build.opts.half[name]
	return node, name
}

// Block returns body(x). With Options.Recompute the backward pass keeps x and the
// result, and computes again what it needs of what is between; a block within a block
// is part of it. The numbers are the same.
func (s *Scope) Block(x *Node, body func(x *Node) *Node) *Node {
	if !s.build.opts.Recompute || s.build.block {
		return body(x)
	}
	s.build.block = true
	defer func() { s.build.block = false }()
	return body(x.Checkpoint()).StopCheckpoint()
}

// trainable reports whether the parameter gets a gradient in this build.
func (s *Scope) trainable(name string) bool {
	return s.build.opts.Trainable != nil && s.build.opts.Trainable(name)
}

// adapt gives the adapter, if there is one, its turn at a layer.
func (s *Scope) adapt(t Target, x, y *Node) *Node {
	if s.build.wide {
		if s.build.wide = false; !s.build.block { // A block ends for all of its layers.
			y = y.StopCheckpoint()
		}
	}
	if s.build.opts.Adapter == nil || s.bypass {
		return y
	}
	return s.build.opts.Adapter.Adapt(s.WithoutAdapter(), t, x, y)
}
