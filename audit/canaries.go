package audit

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Canaries are the coins of an audit and what was seen of them. Feed it every
// step of the run with See, then ask for the Result.
type Canaries struct {
	mechanism Mechanism
	in        []bool
	scores    []float64 // Log-likelihood ratio, summed over the steps.

	seen    int     // Steps.
	joined  int     // Times that a canary that was in joined a step.
	signal  float64 // Sum of what was seen of those.
	quiet   float64 // Sum of squares of what was seen of all others, and how many.
	others  int
	loudest Step
	softest Step
}

// Step is one step's noise, measured on the canaries that did not join it, as a
// share of what the claim says.
type Step struct {
	Step  int     `json:"step"` // From 0.
	Noise float64 `json:"noise"`
}

// NewCanaries tosses count fair coins.
func NewCanaries(m Mechanism, count int, coins *rand.Rand) (*Canaries, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if count < 100 {
		return nil, fmt.Errorf("number of canaries is %d, want at least 100: fewer say nothing", count)
	}
	c := &Canaries{mechanism: m, in: make([]bool, count), scores: make([]float64, count),
		softest: Step{Noise: math.Inf(1)}, loudest: Step{Noise: math.Inf(-1)}}
	for i := range c.in {
		c.in[i] = coins.Uint64()&1 == 1
	}
	if members := c.Members(); len(members) < 20 || len(members) > count-20 {
		return nil, fmt.Errorf("%d of %d canaries are in: the coins are not fair", len(members), count)
	}
	return c, nil
}

// Members returns which canaries are in, in increasing order.
func (c *Canaries) Members() []int {
	var members []int
	for i, in := range c.in {
		if in {
			members = append(members, i)
		}
	}
	return members
}

// See takes what one step released.
//
//   - joined: the canaries that the step drew, in increasing order. Only the
//     step-by-step bound looks at them; guesses do not.
//   - noised: for every canary the coordinate of the noised sum along it, in
//     units of the clipping norm.
func (c *Canaries) See(joined []int, noised []float64) error {
	if len(noised) != len(c.in) {
		return fmt.Errorf("a step shows %d canaries, want %d", len(noised), len(c.in))
	}
	squares := 0.0
	for i, x := range noised {
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return fmt.Errorf("step %d shows %g, want finite", c.seen, x)
		}
		c.scores[i] += c.mechanism.Score(x)
		squares += x * x
	}
	for _, i := range joined {
		if !c.in[i] {
			return fmt.Errorf("step %d drew a canary that is out", c.seen)
		}
		squares -= noised[i] * noised[i]
		c.joined++
		c.signal += noised[i]
	}
	n := len(noised) - len(joined)
	if n > 0 {
		c.quiet += max(0, squares)
		c.others += n
		s := Step{Step: c.seen, Noise: math.Sqrt(max(0, squares)/float64(n)) / c.mechanism.NoiseMultiplier}
		if s.Noise < c.softest.Noise {
			c.softest = s
		}
		if s.Noise > c.loudest.Noise {
			c.loudest = s
		}
	}
	c.seen++
	return nil
}

// errUnfinished is what Result returns before the last step.
var errUnfinished = errors.New("the audited run is not finished")

// guess guesses "in" for the highest scores and "out" for the lowest.
func (c *Canaries) guess(g guesses) OneRun {
	order := make([]int, len(c.scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case c.scores[a] < c.scores[b]:
			return -1
		case c.scores[a] > c.scores[b]:
			return 1
		}
		return a - b // Scores are continuous; equal ones are broken by number.
	})
	o := OneRun{Canaries: len(order), Guesses: g.In + g.Out}
	for _, i := range order[len(order)-g.In:] {
		if c.in[i] {
			o.Correct++
		}
	}
	for _, i := range order[:g.Out] {
		if !c.in[i] {
			o.Correct++
		}
	}
	return o
}

// errors counts what a threshold gets wrong.
func (c *Canaries) errors(threshold float64) Counts {
	var n Counts
	for i, s := range c.scores {
		switch {
		case c.in[i]:
			n.In++
			if s <= threshold {
				n.FalseNegatives++
			}
		default:
			n.Out++
			if s > threshold {
				n.FalsePositives++
			}
		}
	}
	return n
}

// Counts of a test that says "in" for all scores above a threshold.
type Counts struct {
	In             int `json:"in"`
	Out            int `json:"out"`
	FalsePositives int `json:"false_positives"`
	FalseNegatives int `json:"false_negatives"`
}

// gaussian returns the lower bound of the counts: the shares of both errors are
// bounded by Clopper-Pearson, each at half the allowed error, and the mechanisms
// of the family that allow such a test are kept.
func (n Counts) gaussian(f *family, confidence float64) (float64, error) {
	alpha := (1 - confidence) / 2
	fpr, fnr := upperShare(n.FalsePositives, n.Out, alpha), upperShare(n.FalseNegatives, n.In, alpha)
	return f.least(func(i int) (bool, error) { return f.betterThan(i, fpr, fnr) })
}
