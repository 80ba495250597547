package diffusion

import "math"

// DPMSolver is DPM-Solver++, the multistep sampler of Lu et al. 2022
// (https://arxiv.org/abs/2211.01095, Algorithm 2) of order 1 to 3, deterministic or,
// up to order 2, on the reverse SDE. Its x is on the variance-preserving scale.
type DPMSolver struct {
	precondition
	*levels
	solver Solver
	calls  []Call
	final  bool // The last step is of first order.
}

// fewSteps is how many make the end of a run unstable in second order.
const fewSteps = 15

// NewDPMSolver returns a DPM-Solver++ sampler with that many network calls.
func NewDPMSolver(c *Config, steps int) (*DPMSolver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &DPMSolver{solver: c.Solver}
	var err error
	if s.precondition, err = newPrecondition(c); err != nil {
		return nil, err
	}
	if s.levels, err = c.multistep(steps); err != nil {
		return nil, err
	}
	s.final = c.Solver.EulerAtFinal || c.Solver.LowerOrderFinal && steps < fewSteps || c.Levels.Final == FinalZero
	for i, t := range s.timesteps {
		s.calls = append(s.calls, Call{Timestep: t, Sigma: s.sigmas[i]})
	}
	return s, nil
}

// Calls implements Sampler.
func (s *DPMSolver) Calls() []Call { return s.calls }

// NewRun implements Sampler.
func (s *DPMSolver) NewRun() Run { return &dpmRun{DPMSolver: s} }

// adds reports whether the solver adds fresh noise.
func (s Solver) adds() bool { return s.Algorithm == "sde-dpmsolver++" }

// dpmRun remembers the predicted x_0 of the two steps before.
type dpmRun struct {
	*DPMSolver
	last, older []float64
}

// Begin implements Run.
func (r *dpmRun) Begin([]float32, Normal) {}

// Input implements Run.
func (r *dpmRun) Input(_ int, dst, x []float32) {
	mustMatch(len(dst), len(x))
	copy(dst, x)
}

// order returns that of step i.
func (s *DPMSolver) order(i int) int {
	order, left := min(s.solver.Order, i+1), len(s.calls)-i
	switch {
	case left == 1 && s.final:
		return 1
	case left == 2 && s.solver.LowerOrderFinal && len(s.calls) < fewSteps:
		return min(order, 2)
	}
	return order
}

// dpmStep holds the coefficients of a step:
//
//	x ← x·ofX + x_0·ofX0 + D1·ofD1 + D2·ofD2 + noise·ofNoise.
type dpmStep struct{ ofX, ofX0, ofD1, ofD2, ofNoise float64 }

// step returns the coefficients of step i in an order. With λ = log(α/σ), h its
// increase and k = h, or 2h with noise, they are those of the exact solution for an
// x_0 that is a polynomial in λ: the integrals of e^-k·1, e^-k·λ and e^-k·λ²/2.
func (s *DPMSolver) step(i, order int) dpmStep {
	sigma, next := s.sigmas[i], s.sigmas[i+1]
	// x = α·(x_0 + σ·noise): levels here are noise per signal.
	alpha, alphaNext := 1/math.Hypot(sigma, 1), 1/math.Hypot(next, 1)
	h := math.Log(sigma) - math.Log(next) // +Inf at the end, where e^-h is 0.
	k := h
	c := dpmStep{ofX: next * alphaNext / (sigma * alpha)}
	if s.solver.adds() {
		k = 2 * h
		c.ofX *= math.Exp(-h)
		c.ofNoise = next * alphaNext * math.Sqrt(-math.Expm1(-k))
	}
	c.ofX0 = -alphaNext * math.Expm1(-k)
	if order == 1 || math.IsInf(h, 1) || h == 0 { // No step at all where levels end at the schedule's.
		return c
	}
	c.ofD1 = alphaNext * (math.Expm1(-k)/k + 1)
	if order == 2 && s.solver.Type == "midpoint" {
		c.ofD1 = c.ofX0 / 2
	}
	if order == 3 {
		c.ofD2 = -alphaNext * ((math.Expm1(-k)+k)/(k*k) - 0.5)
	}
	return c
}

// Step implements Run. D1 and D2 are the first and second differences of x_0 in
// λ, times h and h² (Eq. 4.1 there, and Algorithm 2 of Lu et al. 2022,
// https://arxiv.org/abs/2206.00927, for the third order).
func (r *dpmRun) Step(i int, x, output []float32, noise Normal) {
	mustMatch(len(x), len(output))
	order := r.order(i)
	c := r.step(i, order)
	sigma := r.sigmas[i]
	alpha := 1 / math.Hypot(sigma, 1)
	lambda := func(i int) float64 { return -math.Log(r.sigmas[i]) }
	var before, older float64 // The steps before, in units of this one.
	if h := lambda(i+1) - lambda(i); order > 1 && h > 0 && !math.IsInf(h, 1) {
		before = (lambda(i) - lambda(i-1)) / h
		if order > 2 {
			older = (lambda(i-1) - lambda(i-2)) / h
		}
	}
	x0s := make([]float64, len(x))
	for j := range x {
		v := float64(x[j])
		x0s[j] = r.denoise(v/alpha, float64(output[j]), sigma)
		y := c.ofX*v + c.ofX0*x0s[j]
		if before > 0 {
			d1 := (x0s[j] - r.last[j]) / before
			if older > 0 {
				d2 := (d1 - (r.last[j]-r.older[j])/older) / (before + older)
				d1 += before * d2
				y += c.ofD2 * d2
			}
			y += c.ofD1 * d1
		}
		if c.ofNoise != 0 {
			y += c.ofNoise * noise.NormFloat64()
		}
		x[j] = float32(y)
	}
	r.older, r.last = r.last, x0s
}
