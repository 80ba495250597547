package finetune

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"

	"github.com/gomlx/gomlx/core/tensors"

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
	grids     []float32  // [examples, Grid, Grid, Depth]. Private; nil until the images are encoded.
	told      conditions // What the network is told of the examples. Private; nil until then.
	canvas    pipeline.Canvas
	timesteps int // Draw t in [0, timesteps).
	drop      float64
	k         int // Draws per example.
}

func newDraws(canvas pipeline.Canvas, schedule *diffusion.Schedule, t Training, insecureSeed uint64) (*draws, error) {
	var random [8]byte
	if _, err := crand.Read(random[:]); err != nil {
		return nil, err
	}
	key := binary.LittleEndian.Uint64(random[:])
	if insecureSeed != 0 {
		key = insecureSeed
	}
	return &draws{key: key, canvas: canvas,
		timesteps: max(1, int(t.MaxTimestep*float64(schedule.Steps()))), drop: t.LabelDrop, k: t.Multiplicity}, nil
}

// examples returns the number of examples.
func (d *draws) examples() int { return len(d.grids) / d.canvas.Size() }

// fetch returns the inputs of pipeline.ExampleLoss for positions of a step's
// batch.
func (d *draws) fetch(step int, batch []int) dpsgd.Fetch {
	return func(positions []int, size int) ([]*tensors.Tensor, error) {
		n, rows := d.canvas.Size(), size*d.k
		clean, noise := make([]float32, size*n), make([]float32, rows*n)
		t, told := make([]int32, rows), make([]int, rows)
		for row := range told {
			told[row] = padding
		}
		for i, p := range positions {
			example := batch[p]
			copy(clean[i*n:(i+1)*n], d.grids[example*n:(example+1)*n])
			rng := rand.New(rand.NewPCG(d.key^uint64(step)*0x9e3779b97f4a7c15, uint64(example)))
			for k := range d.k {
				row := i*d.k + k
				// One draw in each of K equal parts of the timesteps: as uniform
				// as K independent draws, with less variance.
				t[row] = int32((float64(k) + rng.Float64()) / float64(d.k) * float64(d.timesteps))
				told[row] = example
				if rng.Float64() < d.drop {
					told[row] = dropped
				}
				for j := row * n; j < (row+1)*n; j++ {
					noise[j] = float32(rng.NormFloat64())
				}
			}
		}
		g := d.canvas.Grid
		return []*tensors.Tensor{
			tensors.FromFlatDataAndDimensions(clean, size, g, g, d.canvas.Depth),
			tensors.FromFlatDataAndDimensions(noise, rows, g, g, d.canvas.Depth),
			tensors.FromFlatDataAndDimensions(t, rows),
			d.told.tensor(told),
		}, nil
	}
}
