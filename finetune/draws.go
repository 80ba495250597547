package finetune

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"

	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/pipeline"
)

// draws makes the random inputs of the loss: timesteps, diffusion noise and
// dropped labels. Each example's draws of a step come from a stream of their
// own, keyed by a secret of the process, the step and the example: no example
// shifts another's, and a batch that is computed twice sees the same.
type draws struct {
	key       uint64
	grids     []float32  // [variants, examples, Grid, Grid, Depth]. Private; nil until the images are encoded.
	told      conditions // What the network is told of the examples. Private; nil until then.
	canvas    pipeline.Canvas
	timesteps *timesteps
	drop      float64
	k         int // Draws per example.

	augment   Augment
	variants  int // Encoded images of each example.
	unshuffle int // Of a pixel model, which varies images here; 0 for a latent one.

	// byPlace keys draws by the place in the batch, not by the example: for public
	// images that a batch holds several times.
	byPlace bool
	// known is the deviation of noise that the images have already, 0 for none: see
	// aware. K is 1 then, and images are not varied.
	known    float64
	schedule *diffusion.Schedule
}

func newDraws(m *checkpoint.Model, canvas pipeline.Canvas, schedule *diffusion.Schedule, t Training, insecureSeed uint64) (*draws, error) {
	var random [8]byte
	if _, err := crand.Read(random[:]); err != nil {
		return nil, err
	}
	key := binary.LittleEndian.Uint64(random[:])
	if insecureSeed != 0 {
		key = insecureSeed
	}
	distribution, err := newTimesteps(t.Timesteps, schedule, t.MaxTimestep)
	if err != nil {
		return nil, err
	}
	d := &draws{key: key, canvas: canvas, timesteps: distribution, drop: t.LabelDrop, k: t.Multiplicity,
		augment: t.Augment, variants: t.Augment.cached(m.Autoencoder != nil)}
	if m.Autoencoder == nil {
		d.unshuffle = m.PixelUnshuffle
	}
	return d, nil
}

// examples returns the number of examples.
func (d *draws) examples() int { return len(d.grids) / d.variants / d.canvas.Size() }

// cleanDraws returns K where each draw has an image of its own, as in
// pipeline.LossInputs; 0 where an example has one for all.
func (d *draws) cleanDraws() int {
	if d.augment.on() {
		return d.k
	}
	return 0
}

// vary writes the image of one draw of an example.
func (d *draws) vary(dst []float32, example int, rng *rand.Rand) {
	n := d.canvas.Size()
	if d.unshuffle == 0 {
		at := (rng.IntN(d.variants)*d.examples() + example) * n
		copy(dst, d.grids[at:at+n])
		return
	}
	d.augment.draw(rng).grid(dst, d.grids[example*n:(example+1)*n], d.canvas, d.unshuffle)
}

// fetch returns the inputs of pipeline.ExampleLoss for positions of a step's
// batch.
func (d *draws) fetch(step int, batch []int) dpsgd.Fetch {
	return func(positions []int, size int) ([]*tensors.Tensor, error) {
		n, rows := d.canvas.Size(), size*d.k
		pictures := size
		if d.augment.on() {
			pictures = rows
		}
		clean, noise := make([]float32, pictures*n), make([]float32, rows*n)
		t, told := make([]int32, rows), make([]int, rows)
		for row := range told {
			told[row] = padding
		}
		for i, p := range positions {
			example := batch[p]
			if !d.augment.on() {
				copy(clean[i*n:(i+1)*n], d.grids[example*n:(example+1)*n])
			}
			source := uint64(example)
			if d.byPlace {
				source = uint64(p)
			}
			rng := rand.New(rand.NewPCG(d.key^uint64(step)*0x9e3779b97f4a7c15, source))
			for k := range d.k {
				row := i*d.k + k
				// One draw in each of K equally likely parts of the timesteps: distributed
				// as K independent draws, with less variance.
				t[row] = d.timesteps.at((float64(k) + rng.Float64()) / float64(d.k))
				told[row] = example
				if rng.Float64() < d.drop {
					told[row] = dropped
				}
				for j := row * n; j < (row+1)*n; j++ {
					noise[j] = float32(rng.NormFloat64())
				}
				if d.known > 0 {
					a, b := d.schedule.SignalRate(int(t[row])), d.schedule.NoiseRate(int(t[row]))
					aware(clean[row*n:(row+1)*n], noise[row*n:(row+1)*n], d.grids[example*n:(example+1)*n], a, b, d.known)
				}
				if d.augment.on() {
					d.vary(clean[row*n:(row+1)*n], example, rng)
				}
			}
		}
		g := d.canvas.Grid
		return []*tensors.Tensor{
			tensors.FromFlatDataAndDimensions(clean, pictures, g, g, d.canvas.Depth),
			tensors.FromFlatDataAndDimensions(noise, rows, g, g, d.canvas.Depth),
			tensors.FromFlatDataAndDimensions(t, rows),
			d.told.tensor(told),
		}, nil
	}
}
