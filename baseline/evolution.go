package baseline

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/eval"
)

// EvolutionOptions of Evolve. All are public.
type EvolutionOptions struct {
	Images     int // Of the result, spread evenly over the classes. Required.
	Iterations int // Times that the private images vote. Required.

	// An image of the next generation is one of so many images of the pool that are
	// nearest to a chosen one: First of them in the second generation, fewer by the
	// same factor each time, and in the last generation the chosen one itself. Zero
	// means 200.
	First int

	// Threshold is taken off each noisy count, in images; what is then below zero is
	// zero. Zero means none is taken off.
	Threshold float64

	Seed uint64 // Of the choice among public images.

	Report func(iteration, iterations int)
}

func (o EvolutionOptions) validate(private, pool *dataset.Set) error {
	classes := len(private.Classes)
	switch {
	case classes == 0 || private.Labels == nil:
		return fmt.Errorf("private images have no labels, want images of named classes")
	case !slices.Equal(private.Classes, pool.Classes):
		return fmt.Errorf("the pool shows other classes than the private images, want the same, in the same order")
	case o.Images < classes || o.Images%classes != 0:
		return fmt.Errorf("images is %d, want a multiple of the %d classes", o.Images, classes)
	case o.Iterations < 1:
		return fmt.Errorf("iterations is %d, want at least 1", o.Iterations)
	case o.First < 0 || !(o.Threshold >= 0):
		return fmt.Errorf("first is %d and threshold %g, want neither negative", o.First, o.Threshold)
	}
	return nil
}

// Evolve chooses images of a public pool to stand for the private ones. In each
// iteration every private image votes for the nearest image of its class in the
// present generation, Gaussian noise is added to the counts, and the next generation
// is drawn by them among the neighbours of the images that won. Distances are
// Euclidean, between rows of features: privateFeatures[i] is that of image i.
//
// Guarantee: see the package comment. An image changes one count of one iteration's
// histogram by 1. The result holds public images only; which, is what it tells.
func Evolve(ctx context.Context, private, pool *dataset.Set, privateFeatures, poolFeatures *eval.Features, b Budget, o EvolutionOptions) (*dataset.Set, error) {
	if err := o.validate(private, pool); err != nil {
		return nil, err
	}
	if privateFeatures.Rows != private.Len() || poolFeatures.Rows != pool.Len() || privateFeatures.Dim != poolFeatures.Dim {
		return nil, fmt.Errorf("features do not fit the images, want a row of the same length for each")
	}
	classes := len(private.Classes)
	each := o.Images / classes
	members := make([][]int, classes) // Images of the pool.
	for i, label := range pool.Labels {
		members[label] = append(members[label], i)
	}
	rng := rand.New(rand.NewPCG(o.Seed, 1))
	chosen := make([]int, 0, o.Images) // Of the pool, class after class.
	for c, of := range members {
		if len(of) < each {
			return nil, fmt.Errorf("the pool has %d images of class %q, want at least the %d of the result", len(of), private.Classes[c], each)
		}
		for _, k := range rng.Perm(len(of))[:each] {
			chosen = append(chosen, of[k])
		}
	}
	noiseMultiplier, record, err := b.spend(accountant.DPSGD(0, 1, o.Iterations), "baseline: private evolution, votes of the private images")
	if err != nil {
		return nil, err
	}
	noise, err := dpsgd.NewNoise()
	if err != nil {
		return nil, err
	}
	for iteration := range o.Iterations {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		counts, err := dpsgd.NewCounts(len(chosen), votes(private, privateFeatures, poolFeatures, chosen, each))
		if err != nil {
			return nil, err
		}
		noisy, err := counts.Release(noise, noiseMultiplier, record)
		if err != nil {
			return nil, err
		}
		around := o.around(iteration)
		for c := range classes {
			part := chosen[c*each : (c+1)*each]
			winners := draw(rng, part, noisy[c*each:(c+1)*each], o.Threshold)
			if around > 1 {
				vary(rng, winners, members[c], poolFeatures, around)
			}
			copy(part, winners)
		}
		if o.Report != nil {
			o.Report(iteration+1, o.Iterations)
		}
	}
	return pool.Subset(chosen), nil
}

// around returns how many neighbours of a winner the next generation is drawn from.
func (o EvolutionOptions) around(iteration int) int {
	first := o.First
	if first == 0 {
		first = 200
	}
	last := o.Iterations - 1
	if iteration == last {
		return 1
	}
	return int(math.Round(math.Pow(float64(first), 1-float64(iteration)/float64(last))))
}

// votes returns, for each private image, the place in chosen of the nearest image
// among the each of its class: the first of equals.
func votes(private *dataset.Set, privateFeatures, poolFeatures *eval.Features, chosen []int, each int) []int {
	bins := make([]int, private.Len())
	parallel(len(bins), func(i int) {
		row, from := privateFeatures.Row(i), private.Labels[i]*each
		best := math.Inf(1)
		for k := from; k < from+each; k++ {
			if d := distance(row, poolFeatures.Row(chosen[k])); d < best {
				best, bins[i] = d, k
			}
		}
	})
	return bins
}

// draw returns as many of the images as there are, with chances in proportion to
// their counts above the threshold, or all the same where none is above it.
func draw(rng *rand.Rand, images []int, counts []float64, threshold float64) []int {
	ends := make([]float64, len(images))
	total := 0.0
	for i, n := range counts {
		total += max(n-threshold, 0)
		ends[i] = total
	}
	out := make([]int, len(images))
	for i := range out {
		k := rng.IntN(len(images))
		if total > 0 {
			k, _ = slices.BinarySearch(ends, (1-rng.Float64())*total) // In (0, total]: none without a count.
		}
		out[i] = images[min(k, len(images)-1)]
	}
	return out
}

// vary replaces each image by one of the around images of members nearest to it,
// itself among them.
func vary(rng *rand.Rand, images, members []int, f *eval.Features, around int) {
	picks := make([]int, len(images))
	around = min(around, len(members))
	for i := range picks {
		picks[i] = rng.IntN(around)
	}
	parallel(len(images), func(i int) {
		type near struct {
			image int
			far   float64
		}
		all := make([]near, len(members))
		for k, m := range members {
			all[k] = near{m, distance(f.Row(images[i]), f.Row(m))}
		}
		slices.SortFunc(all, func(a, b near) int { return cmp.Or(cmp.Compare(a.far, b.far), cmp.Compare(a.image, b.image)) })
		images[i] = all[picks[i]].image
	})
}

// distance returns the square of the Euclidean distance.
func distance(a, b []float32) float64 {
	var sum float32
	for i, v := range a {
		d := v - b[i]
		sum += d * d
	}
	return float64(sum)
}
