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

// Workloads lists the names.
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

// tableEntries is the size of the class table: ten classes and the null class.
const tableEntries = 11

// Workload is a UNet with random weights and the parameters that train.
type Workload struct {
	Name      string
	Set       Set
	Trainable []string

	model    *checkpoint.Model
	schedule *diffusion.Schedule
	adapter  nn.Adapter // Nil without branches.
	weights  *nn.Weights
	base     int // Parameters without branches.
}

// NewWorkload prepares a workload. Nothing runs on the backend.
func NewWorkload(backend compute.Backend, name string, set Set) (*Workload, error) {
	if !slices.Contains(Workloads, name) {
		return nil, fmt.Errorf("workload is %q, want one of %q", name, Workloads)
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
	if w.schedule, err = diffusion.NewSchedule(w.model.Scheduler); err != nil {
		return nil, err
	}
	switch set {
	case LoRA:
		w.adapter = &adapter.LoDA{Rank: 4, Alpha: 4, Core: adapter.LinearCore, Target: adapter.DenseLayers("to_q", "to_k", "to_v", "to_out.0")}
	case LoDA:
		w.adapter = &adapter.LoDA{Rank: 4, Alpha: 4, Core: adapter.LinearCore, Target: w.isResnetConvolution}
	}
	specs, err := nn.Collect(backend, nn.Options{Adapter: w.adapter}, func(s *nn.Scope) { w.loss(s, w.shapes(s.Graph(), 1, 1)) })
	if err != nil {
		return nil, err
	}
	for i := range specs {
		if !adapter.IsAdapter(specs[i].Name) {
			w.base += specs[i].Size()
		}
		if specs[i].Init == nn.InitZeros { // Zeros would leave whole branches without gradients.
			specs[i].Init = nn.InitFanIn
		}
	}
	w.weights = nn.InitWeights(specs, rand.New(rand.NewPCG(1, 0)))
	w.Trainable, err = w.trainable(specs)
	return w, err
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
		return adapter.Attention(specs, modules, 0, "class_embedder", "unet.class_embedding")
	}
	return nil, fmt.Errorf("trainable set is %q, want one of %q", w.Set, Sets)
}

// Parameters returns the number of parameters of the model without branches.
func (w *Workload) Parameters() int { return w.base }

// TrainableParameters returns the number of parameters that train.
func (w *Workload) TrainableParameters() int {
	n := 0
	for _, name := range w.Trainable {
		n += len(w.weights.Get(name).Data)
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
	return []*graph.Node{
		input("clean", dtypes.Float32, examples, size, size, channels), input("noise", dtypes.Float32, rows, size, size, channels),
		input("t", dtypes.Int32, rows), input("class", dtypes.Int32, rows),
	}
}

// data are random examples with their draws, in memory.
type data struct {
	size, channels, draws int
	clean, noise          []float32
	t, class              []int32
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
	return d
}

func (d *data) per() int { return d.size * d.size * d.channels }

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
	return []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(clean, size, d.size, d.size, d.channels),
		tensors.FromFlatDataAndDimensions(noise, size*k, d.size, d.size, d.channels),
		tensors.FromFlatDataAndDimensions(t, size*k), tensors.FromFlatDataAndDimensions(class, size*k),
	}, nil
}
