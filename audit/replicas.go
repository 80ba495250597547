package audit

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/scumble-dp/scumble/dataset"
)

// Replicas says how many synthetic images are nearer to a training image than
// images of their kind are by chance.
//
// The distance of two images is the largest of the 2-norms of their differences in
// 4x4 tiles, so that an empty background does not make images equal. An image's
// ratio is its distance to the nearest training image, as a share of the mean
// distance to the Neighbours nearest (both as Carlini et al. 2023, Sec. 4.2,
// https://arxiv.org/abs/2301.13188). The threshold is the ratio that a share
// Calibration of the held-out images, which are no replicas, fall below.
type Replicas struct {
	Training    int     `json:"training_images"`
	HeldOut     int     `json:"held_out_images"`
	Synthetic   int     `json:"synthetic_images"`
	Neighbours  int     `json:"neighbours"`
	Calibration float64 `json:"calibration"`
	Threshold   float64 `json:"threshold"`
	Rate        Share   `json:"rate"`          // Synthetic images below the threshold.
	HeldOutRate Share   `json:"held_out_rate"` // Held-out images below it: about Calibration.
	// Nearer is the share of synthetic images that are nearer to one of the training
	// images than to one of as many held-out images: a half if nothing is copied.
	Nearer Share `json:"nearer_to_training"`
}

// Share of some images, with its 95 % interval (Clopper-Pearson).
type Share struct {
	Count int     `json:"count"`
	Of    int     `json:"of"`
	Value float64 `json:"value"`
	Low   float64 `json:"low"`
	High  float64 `json:"high"`
}

func newShare(k, n int) Share {
	return Share{Count: k, Of: n, Value: float64(k) / float64(n), Low: lowerShare(k, n, 0.025), High: upperShare(k, n, 0.025)}
}

// Found says whether there are more replicas than chance allows.
func (r *Replicas) Found() bool {
	return r.Rate.Low > r.HeldOutRate.High || r.Nearer.Low > 0.5
}

// Of the search.
const (
	tiles        = 4 // Along each side.
	mostNear     = 50
	calibration  = 0.01
	leastPerTest = 20 // Images of each set.
)

// FindReplicas looks for replicas of training images among synthetic ones. All
// sets have one size and number of channels.
func FindReplicas(ctx context.Context, training, heldOut, synthetic *dataset.Set) (*Replicas, error) {
	for _, s := range []*dataset.Set{training, heldOut, synthetic} {
		if s.Len() < leastPerTest {
			return nil, fmt.Errorf("%w: a set has %d images, want at least %d: fewer say nothing", dataset.ErrInvalid, s.Len(), leastPerTest)
		}
		if s.Height != training.Height || s.Width != training.Width || s.Channels != training.Channels {
			return nil, fmt.Errorf("%w: images are %dx%d with %d channels and %dx%d with %d, want one kind", dataset.ErrInvalid,
				training.Height, training.Width, training.Channels, s.Height, s.Width, s.Channels)
		}
	}
	near := min(mostNear, training.Len()/4)
	held, err := ratios(ctx, heldOut, training, near)
	if err != nil {
		return nil, err
	}
	made, err := ratios(ctx, synthetic, training, near)
	if err != nil {
		return nil, err
	}
	r := &Replicas{Training: training.Len(), HeldOut: heldOut.Len(), Synthetic: synthetic.Len(), Neighbours: near, Calibration: calibration}
	sorted := make([]float64, 0, len(held))
	for _, h := range held {
		sorted = append(sorted, h.ratio)
	}
	slices.Sort(sorted)
	r.Threshold = sorted[int(calibration*float64(len(sorted)))]
	below := func(all []nearest) int {
		n := 0
		for _, x := range all {
			if x.ratio < r.Threshold {
				n++
			}
		}
		return n
	}
	r.Rate, r.HeldOutRate = newShare(below(made), len(made)), newShare(below(held), len(held))

	few := min(training.Len(), heldOut.Len())
	to, err := ratios(ctx, synthetic, first(training, few), 1)
	if err != nil {
		return nil, err
	}
	other, err := ratios(ctx, synthetic, first(heldOut, few), 1)
	if err != nil {
		return nil, err
	}
	nearer, compared := 0, 0
	for i := range to {
		if to[i].distance == other[i].distance {
			continue
		}
		compared++
		if to[i].distance < other[i].distance {
			nearer++
		}
	}
	r.Nearer = newShare(nearer, max(1, compared))
	return r, nil
}

// first returns the first n images.
func first(s *dataset.Set, n int) *dataset.Set {
	if s.Len() == n {
		return s
	}
	indices := make([]int, n)
	for i := range indices {
		indices[i] = i
	}
	return s.Subset(indices)
}

// nearest is what the search finds for one image.
type nearest struct{ distance, ratio float64 }

// ratios finds the nearest images of pool for each image, on all cores.
func ratios(ctx context.Context, images, pool *dataset.Set, near int) ([]nearest, error) {
	out := make([]nearest, images.Len())
	place := tileOf(pool)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			distances := make([]float64, pool.Len())
			for i := int(next.Add(1)) - 1; i < len(out) && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				for j := range distances {
					distances[j] = tiled(images.Image(i), pool.Image(j), place)
				}
				slices.Sort(distances)
				out[i].distance = distances[0]
				if m := mean(distances[:near]); m > 0 {
					out[i].ratio = distances[0] / m
				}
			}
		})
	}
	wg.Wait()
	return out, ctx.Err()
}

// tileOf returns the tile of each byte of an image.
func tileOf(s *dataset.Set) []uint8 {
	place := make([]uint8, s.ImageSize())
	for i := range place {
		x, y := i/s.Channels%s.Width, i/s.Channels/s.Width
		place[i] = uint8(y*tiles/s.Height*tiles + x*tiles/s.Width)
	}
	return place
}

// tiled is the largest 2-norm of a difference in a tile.
func tiled(a, b []byte, place []uint8) float64 {
	var sums [tiles * tiles]int
	for i, v := range a {
		d := int(v) - int(b[i])
		sums[place[i]&(tiles*tiles-1)] += d * d
	}
	return math.Sqrt(float64(slices.Max(sums[:])))
}
