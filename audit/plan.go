package audit

import (
	"math/rand/v2"
	"slices"
)

// Plan fixes, before the audited run is seen, what is guessed: a bound that
// chose its threshold by looking would have to pay for the choice. It is made by
// simulating the claimed mechanism, which is public, with a fixed seed.
type Plan struct {
	family    *family
	count     int
	threshold float64 // Of the Gaussian bound.
	guesses   guesses // Of the bounds from one run's guesses.
}

// guesses are how many of the highest scores are guessed in, and how many of the
// lowest out.
type guesses struct{ In, Out int }

// rehearsals is how many runs are simulated.
const rehearsals = 4

// NewPlan plans the audit of a mechanism with that many canaries.
func NewPlan(m Mechanism, count int, confidence float64) (*Plan, error) {
	p := &Plan{family: newFamily(m, fine), count: count}
	rng := rand.New(rand.NewPCG(1, 2))
	var runs []*Canaries
	for range rehearsals {
		c, err := Simulate(m, count, rng)
		if err != nil {
			return nil, err
		}
		runs = append(runs, c)
	}
	if err := p.chooseThreshold(runs, confidence); err != nil {
		return nil, err
	}
	p.chooseGuesses(runs, confidence)
	return p, nil
}

// Simulate runs the mechanism itself, without a model: what an exact
// implementation shows of its canaries.
func Simulate(m Mechanism, count int, rng *rand.Rand) (*Canaries, error) {
	c, err := NewCanaries(m, count, rng)
	if err != nil {
		return nil, err
	}
	noised := make([]float64, count)
	for range m.Steps {
		var joined []int
		for i := range noised {
			noised[i] = m.NoiseMultiplier * rng.NormFloat64()
			if c.in[i] && rng.Float64() < m.SamplingProbability {
				noised[i]++
				joined = append(joined, i)
			}
		}
		if err := c.See(joined, noised); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// chooseThreshold takes the quantile of the scores of canaries that are out
// whose mean counts give the best bound.
func (p *Plan) chooseThreshold(runs []*Canaries, confidence float64) error {
	var out []float64
	for _, c := range runs {
		for i, s := range c.scores {
			if !c.in[i] {
				out = append(out, s)
			}
		}
	}
	slices.Sort(out)
	rough, best := newFamily(p.family.Mechanism, coarse), -1.0
	for _, above := range []float64{0.3, 0.2, 0.14, 0.1, 0.07, 0.05, 0.035, 0.025, 0.017, 0.012, 0.008, 0.005, 0.003, 0.0015, 0.0006} {
		threshold := out[len(out)-1-int(above*float64(len(out)))]
		var sum Counts
		for _, c := range runs {
			n := c.errors(threshold)
			sum.In += n.In
			sum.Out += n.Out
			sum.FalsePositives += n.FalsePositives
			sum.FalseNegatives += n.FalseNegatives
		}
		mean := Counts{In: sum.In / rehearsals, Out: sum.Out / rehearsals,
			FalsePositives: (sum.FalsePositives + rehearsals - 1) / rehearsals, FalseNegatives: (sum.FalseNegatives + rehearsals - 1) / rehearsals}
		epsilon, err := mean.gaussian(rough, confidence)
		if err != nil {
			return err
		}
		if epsilon > best {
			best, p.threshold = epsilon, threshold
		}
	}
	return nil
}

// chooseGuesses takes the numbers of guesses with the best mean bound. They serve
// the bound with the run's privacy curve, too: the same are best for both.
func (p *Plan) chooseGuesses(runs []*Canaries, confidence float64) {
	best := -1.0
	for _, share := range []float64{0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5} {
		k := max(10, int(share*float64(p.count)))
		for _, g := range []guesses{{k, 0}, {0, k}, {k / 2, k - k/2}} {
			sum := 0.0
			for _, c := range runs {
				sum += c.guess(g).Epsilon(p.family.Delta, confidence)
			}
			if sum > best {
				best, p.guesses = sum, g
			}
		}
	}
}
