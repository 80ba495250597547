package audit

import (
	"math"

	"github.com/scumble-dp/scumble/accountant"
)

// family is all mechanisms that differ from the audited one in their noise alone,
// each with the privacy curve that the run's own accountant gives it. What is
// measured excludes those with too much noise; the least epsilon of the rest is
// the lower bound (Nasr et al. 2023, https://arxiv.org/abs/2302.07956, Sec. 4.2).
//
// Noise multipliers are on a grid, and answers are rounded to the side of less
// epsilon.
type family struct {
	Mechanism
	ratio float64            // Of neighbours on the grid.
	known map[[2]int]float64 // δ by noise and by ε, in steps of the grids.
	tiny  []corner           // Where δ is too small to matter.
}

// corner is a place from which on, for more noise and larger ε, δ is at most delta.
type corner struct {
	i, k  int
	delta float64
}

// negligible is a δ that no audit can tell from a smaller one. Curves are not
// followed below it, where they take long.
const negligible = 1e-7

const (
	fine        = 1.005 // Grid of the noise for a result.
	coarse      = 1.02  // And for planning one.
	epsilonStep = 0.25
)

func newFamily(m Mechanism, ratio float64) *family {
	return &family{Mechanism: m, ratio: ratio, known: map[[2]int]float64{}}
}

// noise returns the noise multiplier of a place on the grid; the claim's is at 0.
func (f *family) noise(i int) float64 { return f.NoiseMultiplier * math.Pow(f.ratio, float64(i)) }

// delta returns δ of the mechanism at noise i and epsilon k·epsilonStep.
func (f *family) delta(i, k int) (float64, error) {
	key := [2]int{i, k}
	if d, ok := f.known[key]; ok {
		return d, nil
	}
	for _, c := range f.tiny {
		if i >= c.i && k >= c.k {
			return c.delta, nil
		}
	}
	d, err := f.withNoise(f.noise(i)).deltaAt(float64(k) * epsilonStep)
	if err != nil {
		return 0, err
	}
	f.known[key] = d
	if d < negligible {
		f.tiny = append(f.tiny, corner{i, k, d})
	}
	return d, nil
}

// least returns the epsilon of the least noise that excluded says is too much,
// 0 where none is. excluded must be monotone: what holds for a noise holds for
// more of it.
func (f *family) least(excluded func(i int) (bool, error)) (float64, error) {
	// Two thirds of the noise are broken enough, and a thousand times has an epsilon
	// of nothing.
	lowest, farthest := -int(math.Log(1.5)/math.Log(f.ratio)), int(math.Log(1000)/math.Log(f.ratio))
	// Double the stride outwards from the claim, then halve it.
	in, out := 0, 0 // Excluded at in, not at out.
	yes, err := excluded(0)
	if err != nil {
		return 0, err
	}
	for stride := 8; ; stride *= 2 {
		if yes {
			if out = max(lowest, in-stride); out == in {
				break
			}
		} else {
			if in = min(farthest, out+stride); in == out {
				return 0, nil
			}
		}
		next := in
		if yes {
			next = out
		}
		now, err := excluded(next)
		if err != nil {
			return 0, err
		}
		if now != yes {
			break
		}
		if yes {
			in = next
		} else {
			out = next
		}
	}
	for in-out > 1 {
		mid := (in + out) / 2
		now, err := excluded(mid)
		if err != nil {
			return 0, err
		}
		if now {
			in = mid
		} else {
			out = mid
		}
	}
	return epsilonOf(f.noise(in), f.SamplingProbability, f.Steps, f.Mechanism.Delta)
}

// betterThan says whether a test with at most these shares of false positives
// and false negatives is better than the mechanism at noise i allows: for some ε,
//
//	1 - fnr > e^ε·fpr + δ(ε)   or   1 - fpr > e^ε·fnr + δ(ε).
func (f *family) betterThan(i int, fpr, fnr float64) (bool, error) {
	for _, r := range [2][2]float64{{fpr, fnr}, {fnr, fpr}} {
		for k := 0; ; k++ {
			over := 1 - r[1] - math.Exp(float64(k)*epsilonStep)*r[0]
			if over <= 0 {
				break
			}
			d, err := f.delta(i, k)
			if err != nil {
				return false, err
			}
			if over > d {
				return true, nil
			}
		}
	}
	return false, nil
}

// Noise multipliers below this are not told apart: a run that has less has none
// worth the name, and epsilon is in the thousands.
const leastNoise = 0.1

// epsilonOf returns what the run's accountant claims for other parameters.
func epsilonOf(noise, probability float64, steps int, delta float64) (float64, error) {
	r, err := accountant.PLD{}.Epsilon([]accountant.Event{accountant.DPSGD(max(noise, leastNoise), probability, steps)}, accountant.AddOrRemove, delta)
	return r.Epsilon, err
}
