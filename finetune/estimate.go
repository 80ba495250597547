package finetune

import (
	"fmt"
	"math"
	"slices"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// Efficiency is the share of a machine's peak that a whole private step is
// assumed to reach. On two processor cores XLA reaches 0.2 to 0.35 (docs/engine.md);
// on a graphics card it was not measured.
const Efficiency = 0.3

// Work is what a run computes and holds, whatever computes it: counted from
// shapes, measured nowhere.
type Work struct {
	Examples    float64 `json:"examples"`           // Expected, in all steps.
	PerExample  float64 `json:"flops_per_example"`  // All its draws, two per multiply-add, clipping included.
	DenseShare  float64 `json:"dense_share"`        // Of them, in dense products, which compute in bfloat16 speeds up.
	Frozen      int64   `json:"frozen_bytes"`       // Weights that do not train, on the device.
	Trainable   int64   `json:"trainable_bytes"`    // Weights that train, and their sum, on the device.
	Activations int64   `json:"activations_bytes"`  // Of a call of one example, less those of its sums.
	NextExample int64   `json:"next_example_bytes"` // Of each further one.
	Host        int64   `json:"host_bytes"`         // Beside the device: model, vector, sum, moments, average.
	BFloat16    bool    `json:"bfloat16"`           // training.compute.
	HalfFrozen  bool    `json:"half_frozen"`        // training.base_precision.

	expectedBatch float64
}

// Estimated is what a run would take on a machine: an estimate, not a promise.
type Estimated struct {
	Machine       string  `json:"machine"`
	Hours         float64 `json:"hours"`          // All steps; compiling, encoding and sampling are not in it.
	DeviceBytes   int64   `json:"device_bytes"`   // At the physical batch.
	HostBytes     int64   `json:"host_bytes"`     // Of the process beside the device.
	PhysicalBatch int     `json:"physical_batch"` // Examples a call that fit, at most 64; 0: not even one does.
	Fits          bool    `json:"fits"`
}

// Estimate counts what a plan computes. It builds graphs that are not run, and
// reads no image.
func (t *target) Estimate(backend compute.Backend, lowering nn.Lowering, c *Config, plan *Plan) (*Work, error) {
	canvas, err := pipeline.NewCanvas(t.model, plan.Size, plan.Channels)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	schedule, err := diffusion.NewSchedule(t.model.Scheduler)
	if err != nil {
		return nil, err
	}
	weights := t.weights()
	options := dpsgd.EngineOptions{ClippingNorm: plan.Mechanism.ClippingNorm, Weights: weights, Trainable: t.trainable,
		NN: nn.Options{Lowering: lowering, Recompute: c.Training.Recompute, Adapter: t.adapter},
		Loss: func(s *nn.Scope, inputs []*graph.Node) *graph.Node {
			return pipeline.ExampleLoss(t.model, schedule, s, pipeline.NewLossInputs(inputs))
		}}
	w := &Work{Examples: plan.Mechanism.ExpectedBatchSize * float64(plan.Mechanism.Steps),
		BFloat16: c.Training.Compute == nn.BFloat16, HalfFrozen: c.Training.BasePrecision == nn.BFloat16,
		expectedBatch: plan.Mechanism.ExpectedBatchSize}
	w.weights(weights, t.trainable, plan, c)
	flops, err := t.flops(backend, options, canvas)
	if err != nil {
		return nil, err
	}
	layers, err := t.Layers(backend, lowering, plan)
	if err != nil {
		return nil, err
	}
	w.PerExample = flops.Total * float64(plan.Multiplicity)
	if c.Training.Recompute { // At most all of the forward pass, once more.
		w.PerExample += flops.Forward * float64(plan.Multiplicity)
	}
	for _, l := range layers {
		added, _ := l.Added()
		w.PerExample += added
	}
	w.DenseShare = flops.Dense * float64(plan.Multiplicity) / w.PerExample
	one, err := dpsgd.Footprint(backend, options, 1, t.inputs(canvas, plan.Multiplicity))
	if err != nil {
		return nil, err
	}
	two, err := dpsgd.Footprint(backend, options, 2, t.inputs(canvas, plan.Multiplicity))
	if err != nil {
		return nil, err
	}
	sums := w.Trainable / 2
	w.NextExample = max(two-one, 1)
	w.Activations = max(one-sums, w.NextExample)
	return w, nil
}

// weights counts what lies in memory whatever the batch.
func (w *Work) weights(all *nn.Weights, trainable []string, plan *Plan, c *Config) {
	var trains int64
	for _, t := range all.All() {
		n := int64(t.Size())
		switch {
		case slices.Contains(trainable, t.Name):
			trains += n
		case w.HalfFrozen && (t.Kind == nn.KindDense || t.Kind == nn.KindKernel):
			w.Frozen += 2 * n
		default:
			w.Frozen += 4 * n
		}
	}
	w.Trainable = 8 * trains // float32: the weights, and their sum.
	// The model's own copy, the vector, a part: float32. The sum and Adam's two moments: float64.
	w.Host = 4*int64(plan.TotalParameters) + (2*4+3*8)*trains
	if baseOptions(c, all, trainable, 0).Release {
		w.Host -= 4 * (int64(plan.TotalParameters) - trains)
	}
	if c.Training.EMA > 0 {
		w.Host += 8 * trains
	}
}

// inputs returns the loss's inputs as graph parameters.
func (t *target) inputs(canvas pipeline.Canvas, draws int) func(g *graph.Graph, examples int) []*graph.Node {
	return func(g *graph.Graph, examples int) []*graph.Node {
		input := func(name string, dtype dtypes.DType, dims ...int) *graph.Node {
			return graph.Parameter(g, "input:"+name, shapes.Make(dtype, dims...))
		}
		rows, grid := examples*draws, canvas.Grid
		var told *graph.Node
		switch m := t.model; {
		case m.TextEncoder == nil:
			told = input("class", dtypes.Int32, rows)
		case t.trainsText():
			told = input("text", dtypes.Int32, rows, m.TextLength())
		default:
			told = input("text", dtypes.Float32, rows, m.TextLength(), m.TextEncoder.Width)
		}
		return []*graph.Node{input("clean", dtypes.Float32, examples, grid, grid, canvas.Depth),
			input("noise", dtypes.Float32, rows, grid, grid, canvas.Depth), input("t", dtypes.Int32, rows), told}
	}
}

// flops counts the operations of one draw.
func (t *target) flops(backend compute.Backend, o dpsgd.EngineOptions, canvas pipeline.Canvas) (f dpsgd.Flops, err error) {
	defer func() { // Graphs panic on bad shapes.
		if r := recover(); r != nil {
			err = fmt.Errorf("count operations: %v", r)
		}
	}()
	g := graph.NewGraph(backend, "flops")
	defer g.Finalize()
	parameters := map[string]*graph.Node{}
	options := o.NN
	options.Param = func(g *graph.Graph, spec nn.Spec) *graph.Node {
		node := graph.Parameter(g, spec.Name, shapes.Make(dtypes.Float32, spec.Shape...))
		parameters[spec.Name] = node
		return node
	}
	options.Trainable = func(string) bool { return true } // All layers on the tape.
	s := nn.NewScope(g, options)
	o.Loss(s, t.inputs(canvas, 1)(g, 1))
	return dpsgd.CountFlops(s, parameters, func(name string) bool { return slices.Contains(t.trainable, name) }), nil
}

// On returns what the work takes on a graphics card.
func (w *Work) On(g GPU) Estimated {
	e := Estimated{Machine: g.Name, HostBytes: w.Host}
	room := float64(g.Memory) * 7 / 8 // As the engine leaves on any machine.
	most := math.Floor((room-float64(w.Frozen+w.Trainable+w.Activations))/float64(w.NextExample)) + 1
	e.PhysicalBatch = int(max(0, min(most, 64, math.Ceil(w.expectedBatch))))
	e.Fits = e.PhysicalBatch > 0
	e.DeviceBytes = w.Frozen + w.Trainable + w.Activations + int64(max(0, e.PhysicalBatch-1))*w.NextExample
	dense := g.Float32
	if w.BFloat16 && g.BFloat16 > 0 {
		dense = g.BFloat16
	}
	e.Hours = w.hours(g.Float32*1e12, dense*1e12)
	return e
}

// Here returns what the work takes on this machine's processor, all its cores
// together, given the operations per second of its products, and its memory.
func (w *Work) Here(machine string, flops float64, memory uint64) Estimated {
	// Device and host are the same memory, which holds the weights once.
	bytes := w.Frozen + w.Trainable + w.Host + dpsgd.OnProcessor*w.Activations + (dpsgd.OnProcessor-1)*w.Trainable/2
	return Estimated{Machine: machine, Hours: w.hours(flops, flops), DeviceBytes: bytes, HostBytes: bytes,
		PhysicalBatch: 1, Fits: memory == 0 || float64(bytes) <= float64(memory)*7/8}
}

// hours takes the peak of convolutions and of dense products, per second.
func (w *Work) hours(convolution, dense float64) float64 {
	seconds := w.PerExample * ((1-w.DenseShare)/convolution + w.DenseShare/dense) / Efficiency
	return w.Examples * seconds / 3600
}
