package audit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// Attack is a membership test of a diffusion model.
type Attack string

const (
	Loss  Attack = "loss"  // Low loss, over draws of timestep and noise (Matsumoto et al. 2023, https://arxiv.org/abs/2302.03262).
	SecMI Attack = "secmi" // Small error of a deterministic step there and back (Duan et al. 2023, https://arxiv.org/abs/2302.01316).
	PIA   Attack = "pia"   // The same with the noise predicted at timestep 0 (Kong et al. 2024, https://arxiv.org/abs/2305.18355).
	SimA  Attack = "sima"  // Small predicted noise for the image itself (Rao et al. 2025, https://arxiv.org/abs/2509.25003).
)

// Attacks lists all attacks.
func Attacks() []Attack { return []Attack{Loss, SecMI, PIA, SimA} }

// Settings of the attacks, as shares of the schedule where they are timesteps: the
// papers give them for 1000 timesteps.
const (
	lossDraws     = 16   // Half of them the noise of the other half, negated.
	lossFrom      = 0.05 // Timesteps of the loss: spread evenly over this range.
	lossTo        = 0.5
	secmiAt       = 0.1 // t_SEC.
	secmiInterval = 0.01
	piaAt         = 0.2
	simaAt        = 0.1
)

// MembershipOptions of NewMembership.
type MembershipOptions struct {
	Lowering nn.Lowering
	Adapter  nn.Adapter // Of the model's weights, if they carry one.
	Workers  int        // Calls to the backend at the same time. Zero means 1.
	Seed     uint64     // Of the noise in the loss. The same for members and others.
	Report   func(done, total int)
}

// Membership runs attacks on a model.
type Membership struct {
	backend  compute.Backend
	model    *checkpoint.Model
	schedule *diffusion.Schedule
	program  *nn.Program
	options  MembershipOptions
}

// rows is how many images are in a call.
const rows = 32

// NewMembership compiles the model's denoiser.
func NewMembership(backend compute.Backend, m *checkpoint.Model, o MembershipOptions) (*Membership, error) {
	if err := classOnly(m); err != nil {
		return nil, err
	}
	schedule, err := diffusion.NewSchedule(m.Scheduler)
	if err != nil {
		return nil, err
	}
	a := &Membership{backend: backend, model: m, schedule: schedule, options: o}
	a.program, err = nn.NewProgram(backend, nn.ProgramOptions{
		NN:      nn.Options{Lowering: o.Lowering, Adapter: o.Adapter},
		Weights: pipeline.Component(m.Weights, "unet", "class_embedder"),
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			return []*graph.Node{pipeline.Denoise(m, s, in[0], in[1], in[2])}
		},
	})
	return a, err
}

// classOnly refuses models that are conditioned on captions.
func classOnly(m *checkpoint.Model) error {
	if m.TextEncoder != nil {
		return errors.New("the model is conditioned on captions; attacks are there for models of classes")
	}
	return nil
}

// Close frees the compiled graphs.
func (a *Membership) Close() { a.program.Close() }

// Scores returns for each attack a score of each image: higher means more like a
// member. Scores of private images are private.
func (a *Membership) Scores(ctx context.Context, images *dataset.Set, attacks []Attack) (map[Attack][]float64, error) {
	if images.Labels == nil {
		return nil, fmt.Errorf("%w: images have no labels, want those that the model is conditioned on", dataset.ErrInvalid)
	}
	for _, l := range images.Labels {
		if l < 0 || l >= len(a.model.Classes) {
			return nil, fmt.Errorf("%w: a label is out of range, want 0 to %d", dataset.ErrInvalid, len(a.model.Classes)-1)
		}
	}
	canvas, err := pipeline.NewCanvas(a.model, images.Height, images.Channels)
	if err != nil {
		return nil, err
	}
	codec, err := pipeline.NewCodec(a.backend, a.options.Lowering, a.options.Workers, a.model, canvas)
	if err != nil {
		return nil, err
	}
	defer codec.Close()
	grids, err := codec.Encode(ctx, images)
	if err != nil {
		return nil, err
	}
	scores := map[Attack][]float64{}
	for _, k := range attacks {
		scores[k] = make([]float64, images.Len())
	}
	limit := make(chan struct{}, max(1, a.options.Workers))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var failed error
	done := 0
	for at := 0; at < images.Len() && ctx.Err() == nil; at += rows {
		limit <- struct{}{}
		wg.Go(func() {
			defer func() { <-limit }()
			end := min(images.Len(), at+rows)
			b := &batch{Membership: a, canvas: canvas, x: grids[at*canvas.Size() : end*canvas.Size()], labels: images.Labels[at:end], first: at}
			for _, k := range attacks {
				values, err := b.score(k)
				mu.Lock()
				if err != nil && failed == nil {
					failed = fmt.Errorf("attack %s: %w", k, err)
				}
				copy(scores[k][at:], values)
				mu.Unlock()
			}
			mu.Lock()
			defer mu.Unlock()
			if done += end - at; a.options.Report != nil {
				a.options.Report(done, images.Len())
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return nil, failed
	}
	return scores, ctx.Err()
}

// batch is a few images, as inputs of the denoiser.
type batch struct {
	*Membership
	canvas pipeline.Canvas
	x      []float32 // [images, grid, grid, depth].
	labels []int
	first  int // Index of the first image.
}

func (b *batch) score(k Attack) ([]float64, error) {
	switch k {
	case Loss:
		return b.loss()
	case SecMI:
		return b.secmi()
	case PIA:
		return b.pia()
	case SimA:
		return b.sima()
	}
	return nil, fmt.Errorf("attack is %q, want one of %v", k, Attacks())
}

// timestep returns the timestep at a share of the schedule.
func (b *batch) timestep(share float64) int {
	return min(b.schedule.Steps()-1, int(math.Round(share*float64(b.schedule.Steps()))))
}

// noise predicts the noise in x at timestep t, whatever the network predicts.
func (b *batch) noise(x []float32, t int) ([]float32, error) {
	n, size := len(b.labels), b.canvas.Size()
	in, ts, class := make([]float32, rows*size), make([]int32, rows), make([]int32, rows)
	copy(in, x)
	for i := range rows {
		ts[i] = int32(t)
		if i < n {
			class[i] = int32(b.labels[i])
		}
	}
	c := b.canvas
	out, err := b.program.Run(nil, tensors.FromFlatDataAndDimensions(in, rows, c.Grid, c.Grid, c.Depth),
		tensors.FromFlatDataAndDimensions(ts, rows), tensors.FromFlatDataAndDimensions(class, rows))
	if err != nil {
		return nil, err
	}
	all, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return nil, err
	}
	_ = out[0].FinalizeAll()
	predicted := all[:n*size]
	signal, spread := b.schedule.SignalRate(t), b.schedule.NoiseRate(t)
	for i, v := range predicted {
		switch b.model.Scheduler.Prediction {
		case diffusion.PredictV: // v = √ᾱ·ε - √(1-ᾱ)·x0, so ε = √ᾱ·v + √(1-ᾱ)·x.
			predicted[i] = float32(signal*float64(v) + spread*float64(x[i]))
		case diffusion.PredictX0:
			predicted[i] = float32((float64(x[i]) - signal*float64(v)) / spread)
		}
	}
	return predicted, nil
}

// loss is the negative mean squared error of the predicted noise.
func (b *batch) loss() ([]float64, error) {
	n, size := len(b.labels), b.canvas.Size()
	scores := make([]float64, n)
	eps, noisy := make([]float32, len(b.x)), make([]float32, len(b.x))
	for k := range lossDraws {
		pair := k / 2
		t := b.timestep(lossFrom + (lossTo-lossFrom)*(float64(pair)+0.5)/(lossDraws/2))
		for i := range n {
			rng := rand.New(rand.NewPCG(b.options.Seed, uint64((b.first+i)*lossDraws+pair)))
			for j := i * size; j < (i+1)*size; j++ {
				eps[j] = float32(rng.NormFloat64())
				if k%2 == 1 {
					eps[j] = -eps[j]
				}
			}
		}
		b.schedule.AddNoise(noisy, b.x, eps, t)
		predicted, err := b.noise(noisy, t)
		if err != nil {
			return nil, err
		}
		for i := range n {
			d := norm(predicted[i*size:(i+1)*size], eps[i*size:(i+1)*size], 2)
			scores[i] -= d * d / float64(size) / lossDraws
		}
	}
	return scores, nil
}

// secmi walks to t_SEC without noise, one interval further and back, and takes the
// distance (Duan et al. 2023, Eq. 9 and 10).
func (b *batch) secmi() ([]float64, error) {
	interval := max(1, b.timestep(secmiInterval))
	x := append([]float32(nil), b.x...)
	t := 0
	for t+interval <= b.timestep(secmiAt) {
		eps, err := b.noise(x, t)
		if err != nil {
			return nil, err
		}
		b.move(x, eps, t, t+interval)
		t += interval
	}
	there := append([]float32(nil), x...)
	eps, err := b.noise(there, t)
	if err != nil {
		return nil, err
	}
	b.move(there, eps, t, t+interval)
	if eps, err = b.noise(there, t+interval); err != nil {
		return nil, err
	}
	b.move(there, eps, t+interval, t)
	return b.distances(there, x, 2), nil
}

// move takes a deterministic step of DDIM from a timestep to another (Song et al.
// 2021, Eq. 13), in place.
func (b *batch) move(x, eps []float32, from, to int) {
	s := b.schedule
	for i := range x {
		clean := (float64(x[i]) - s.NoiseRate(from)*float64(eps[i])) / s.SignalRate(from)
		x[i] = float32(s.SignalRate(to)*clean + s.NoiseRate(to)*float64(eps[i]))
	}
}

// pia takes the noise predicted at timestep 0, adds that noise and predicts it
// again (Kong et al. 2024, Eq. 9), by the 4-norm.
func (b *batch) pia() ([]float64, error) {
	first, err := b.noise(b.x, 0)
	if err != nil {
		return nil, err
	}
	t := b.timestep(piaAt)
	noisy := make([]float32, len(b.x))
	b.schedule.AddNoise(noisy, b.x, first, t)
	second, err := b.noise(noisy, t)
	if err != nil {
		return nil, err
	}
	return b.distances(first, second, 4), nil
}

// sima is the norm of the noise predicted for the image itself.
func (b *batch) sima() ([]float64, error) {
	eps, err := b.noise(b.x, b.timestep(simaAt))
	if err != nil {
		return nil, err
	}
	return b.distances(eps, make([]float32, len(eps)), 2), nil
}

// distances returns the negative p-norm of the difference, image by image.
func (b *batch) distances(x, y []float32, p float64) []float64 {
	size := b.canvas.Size()
	out := make([]float64, len(b.labels))
	for i := range out {
		out[i] = -norm(x[i*size:(i+1)*size], y[i*size:(i+1)*size], p)
	}
	return out
}

// norm is the p-norm of x - y.
func norm(x, y []float32, p float64) float64 {
	sum := 0.0
	for i := range x {
		sum += math.Pow(math.Abs(float64(x[i])-float64(y[i])), p)
	}
	return math.Pow(sum, 1/p)
}
