package bench

import (
	"embed"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/unet"
)

//go:embed workloads/*.json
var configs embed.FS

// Names of the workloads.
const (
	Pixel  = "pixel"  // UNet2DModel on 32x32x1 images.
	Latent = "latent" // UNet2DConditionModel on 8x8x4 latents, the class as one context token.
)

// Workloads lists the names of those that are small enough for any machine. Step
// takes PublishedModels, too.
var Workloads = []string{Pixel, Latent}

// Set says which parameters train.
type Set string

const (
	Full      Set = "full"      // All.
	Attention Set = "attention" // The attention modules and the class embedding (DP-LDM).
	LoRA      Set = "lora"      // Rank 4 beside to_q, to_k, to_v, to_out.0.
	LoDA      Set = "loda"      // Rank 4 with a linear core beside the resnets' convolutions.
	None      Set = "none"      // All, without privacy.
)

// Sets lists the trainable sets.
var Sets = []Set{Full, Attention, LoRA, LoDA, None}

const textPrefix = "text_encoder"

// tableEntries is the size of the class table: ten classes and the null class.
const tableEntries = 11

// Workload is a UNet with random weights and the parameters that train.
type Workload struct {
	Name      string
	Set       Set
	Trainable []string

	model    *checkpoint.Model
	frozen   bool // The conditioning embedder does not train, or there is none apart from the UNet.
	schedule *diffusion.Schedule
	adapter  nn.Adapter // Nil without branches.
	weights  *nn.Weights
	base     int // Parameters without branches.
}

// NewWorkload prepares a workload with random weights: one of Workloads, or of
// PublishedModels. Nothing runs on the backend.
func NewWorkload(backend compute.Backend, name string, set Set) (*Workload, error) {
	if slices.Contains(PublishedModels, name) {
		p, err := OpenPublished(name)
		if err != nil {
			return nil, err
		}
		return newPublished(backend, p, set, false)
	}
	if !slices.Contains(Workloads, name) {
		return nil, fmt.Errorf("workload is %q, want one of %q", name, append(slices.Clone(Workloads), PublishedModels...))
	}
	raw, err := configs.ReadFile("workloads/" + name + ".json")
	if err != nil {
		return nil, err
	}
	w := &Workload{Name: name, Set: set, model: &checkpoint.Model{Scheduler: diffusion.DefaultConfig()}}
	if w.model.UNet, err = unet.ParseConfig(raw); err != nil {
		return nil, err
	}
	if w.model.UNet.NumClassEmbeds == 0 {
		w.model.ClassEmbedder = &checkpoint.ClassEmbedder{Entries: tableEntries, Channels: w.model.UNet.CrossAttentionDim.At(0)}
	}
	return w, w.fill(backend)
}

// newPublished is NewWorkload for a published model, of which freeze leaves the
// conditioning embedder as it is even where it trained.
func newPublished(backend compute.Backend, p *Published, set Set, freeze bool) (*Workload, error) {
	w := &Workload{Name: p.Name, Set: set, model: p.Model, frozen: freeze || !p.TrainsEmbedder}
	return w, w.fill(backend)
}

// fill makes weights, and names those that train.
func (w *Workload) fill(backend compute.Backend) (err error) {
	if w.schedule, err = diffusion.NewSchedule(w.model.Scheduler); err != nil {
		return err
	}
	switch w.Set {
	case LoRA:
		w.adapter = &adapter.LoDA{Rank: 4, Alpha: 4, Core: adapter.LinearCore, Target: adapter.DenseLayers("to_q", "to_k", "to_v", "to_out.0")}
	case LoDA:
		w.adapter = &adapter.LoDA{Rank: 4, Alpha: 4, Core: adapter.LinearCore, Target: w.isResnetConvolution}
	}
	specs, err := nn.Collect(backend, nn.Options{Adapter: w.adapter}, func(s *nn.Scope) { w.loss(s, w.shapes(s.Graph(), 1, 1)) })
	if err != nil {
		return err
	}
	for i := range specs {
		if !adapter.IsAdapter(specs[i].Name) {
			w.base += specs[i].Size()
		}
		if specs[i].Init == nn.InitZeros { // Zeros would leave whole branches without gradients.
			specs[i].Init = nn.InitFanIn
		}
	}
	if w.published() {
		w.weights = quickWeights(specs)
	} else {
		w.weights = nn.InitWeights(specs, rand.New(rand.NewPCG(1, 0)))
	}
	w.Trainable, err = w.trainable(specs)
	return err
}

// isResnetConvolution targets conv1 and conv2 of the residual blocks.
func (w *Workload) isResnetConvolution(t nn.Target) bool {
	for _, r := range w.model.UNet.Resnets() {
		if t.Path == "unet."+r+".conv1" || t.Path == "unet."+r+".conv2" {
			return true
		}
	}
	return false
}

func (w *Workload) trainable(specs []nn.Spec) ([]string, error) {
	switch w.Set {
	case Full, None:
		return adapter.Everything(specs), nil
	case LoRA, LoDA:
		return adapter.Adapters(specs), nil
	case Attention:
		var modules []string
		for _, m := range w.model.UNet.AttentionModules() {
			modules = append(modules, "unet."+m)
		}
		if w.frozen {
			return adapter.Attention(specs, modules, 0)
		}
		return adapter.Attention(specs, modules, 0, "class_embedder", "unet.class_embedding", textPrefix)
	}
	return nil, fmt.Errorf("trainable set is %q, want one of %q", w.Set, Sets)
}

// published reports whether the model is large enough that its weights must not
// lie in memory twice.
func (w *Workload) published() bool { return w.model.Autoencoder != nil }

// Parameters returns the number of parameters of the model without branches.
func (w *Workload) Parameters() int { return w.base }

// TrainableParameters returns the number of parameters that train.
func (w *Workload) TrainableParameters() int {
	n := 0
	for _, name := range w.Trainable {
		n += w.weights.Get(name).Size()
	}
	return n
}

// loss is that of a fine-tuning run: see pipeline.ExampleLoss.
func (w *Workload) loss(s *nn.Scope, inputs []*graph.Node) *graph.Node {
	return pipeline.ExampleLoss(w.model, w.schedule, s, pipeline.NewLossInputs(inputs))
}

// shapes returns inputs of the loss without values.
func (w *Workload) shapes(g *graph.Graph, examples, draws int) []*graph.Node {
	size, channels, rows := w.model.UNet.SampleSize.At(0), w.model.UNet.InChannels, examples*draws
	input := func(name string, dtype dtypes.DType, dims ...int) *graph.Node {
		return graph.Parameter(g, "input:"+name, shapes.Make(dtype, dims...))
	}
	told := input("class", dtypes.Int32, rows)
	switch m := w.model; {
	case m.TextEncoder != nil && w.frozen:
		told = input("context", dtypes.Float32, rows, m.TextEncoder.Positions, m.TextEncoder.Width)
	case m.TextEncoder != nil:
		told = input("tokens", dtypes.Int32, rows, m.TextEncoder.Positions)
	}
	return []*graph.Node{
		input("clean", dtypes.Float32, examples, size, size, channels), input("noise", dtypes.Float32, rows, size, size, channels),
		input("t", dtypes.Int32, rows), told,
	}
}

// data are random examples with their draws, in memory.
type data struct {
	size, channels, draws int
	clean, noise          []float32
	t, class              []int32

	// Of a model that takes text, in place of classes: token numbers, or what the
	// text encoder made of them where it is frozen.
	positions, width int
	tokens           []int32
	contexts         []float32
}

func (w *Workload) newData(examples, draws int) *data {
	d := &data{size: w.model.UNet.SampleSize.At(0), channels: w.model.UNet.InChannels, draws: draws}
	rng := rand.New(rand.NewPCG(2, 0))
	normal := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	d.clean, d.noise = normal(examples*d.per()), normal(examples*draws*d.per())
	for i := range examples {
		class := int32(i % tableEntries)
		for range draws {
			d.t, d.class = append(d.t, int32(rng.IntN(w.schedule.Steps()))), append(d.class, class)
		}
	}
	if e := w.model.ClassEmbedder; e != nil {
		for i := range d.class {
			d.class[i] %= int32(e.Entries)
		}
	}
	if e := w.model.TextEncoder; e != nil {
		d.positions, d.width = e.Positions, e.Width
		if w.frozen {
			d.contexts = normal(examples * e.Positions * e.Width)
			return d
		}
		for range examples * e.Positions {
			d.tokens = append(d.tokens, int32(rng.IntN(e.Vocabulary)))
		}
	}
	return d
}

func (d *data) per() int { return d.size * d.size * d.channels }

// around returns fetch for any positions: after the last of n examples comes the first.
func (d *data) around(n int) dpsgd.Fetch {
	return func(positions []int, size int) ([]*tensors.Tensor, error) {
		positions = slices.Clone(positions)
		for i := range positions {
			positions[i] %= n
		}
		return d.fetch(positions, size)
	}
}

// fetch returns the inputs of a physical batch, padded with zeros.
func (d *data) fetch(positions []int, size int) ([]*tensors.Tensor, error) {
	per, k := d.per(), d.draws
	clean, noise := make([]float32, size*per), make([]float32, size*k*per)
	t, class := make([]int32, size*k), make([]int32, size*k)
	for i, p := range positions {
		copy(clean[i*per:], d.clean[p*per:(p+1)*per])
		copy(noise[i*k*per:], d.noise[p*k*per:(p+1)*k*per])
		copy(t[i*k:], d.t[p*k:(p+1)*k])
		copy(class[i*k:], d.class[p*k:(p+1)*k])
	}
	told := tensors.FromFlatDataAndDimensions(class, size*k)
	switch {
	case d.contexts != nil:
		told = tensors.FromFlatDataAndDimensions(texts(d, positions, size, d.contexts, d.width), size*k, d.positions, d.width)
	case d.tokens != nil:
		told = tensors.FromFlatDataAndDimensions(texts(d, positions, size, d.tokens, 1), size*k, d.positions)
	}
	return []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(clean, size, d.size, d.size, d.channels),
		tensors.FromFlatDataAndDimensions(noise, size*k, d.size, d.size, d.channels),
		tensors.FromFlatDataAndDimensions(t, size*k), told,
	}, nil
}

// texts returns what all draws of each example are told.
func texts[T any](d *data, positions []int, size int, all []T, width int) []T {
	per := d.positions * width
	out := make([]T, size*d.draws*per)
	for i, p := range positions {
		for k := range d.draws {
			copy(out[(i*d.draws+k)*per:], all[p*per:(p+1)*per])
		}
	}
	return out
}

// generator returns the workload as a model that generate.Images takes, and the
// size of its images.
func (w *Workload) generator() (*checkpoint.Model, int) {
	m := *w.model
	m.Weights, m.Channels, m.Size, m.PixelUnshuffle = w.weights, m.UNet.InChannels, m.UNet.SampleSize.At(0), 1
	for i := range tableEntries - 1 {
		m.Classes = append(m.Classes, fmt.Sprint(i))
	}
	return &m, m.Size
}
