package diffusion

import "math"

// DPMSolver is DPM-Solver++(2M), the second-order multistep sampler of Lu et al.
// 2022 (https://arxiv.org/abs/2211.01095, Algorithm 2), deterministic. Its x is on
// the variance-preserving scale.
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

// dpmRun remembers the predicted x_0 of the step before.
type dpmRun struct {
	*DPMSolver
	last []float64
}

// Begin implements Run.
func (r *dpmRun) Begin([]float32, Normal) {}

// Input implements Run.
func (r *dpmRun) Input(_ int, dst, x []float32) {
	mustMatch(len(dst), len(x))
	copy(dst, x)
}

// Step implements Run: with λ = log(α/σ) and h its increase,
//
//	x ← (σ'/σ)·x - α'·(e^-h - 1)·D,
//
// D = x_0 in first order, and in second order x_0 + (x_0 - x_0 of the step
// before)·h/(2·h of that step) (Eq. 4.1 there).
func (r *dpmRun) Step(i int, x, output []float32, _ Normal) {
	mustMatch(len(x), len(output))
	sigma, next := r.sigmas[i], r.sigmas[i+1]
	// x = α·(x_0 + σ·noise): levels here are noise per signal.
	alpha, alphaNext := 1/math.Hypot(sigma, 1), 1/math.Hypot(next, 1)
	h := math.Log(sigma) - math.Log(next) // +Inf at the end, where e^-h is 0.
	ofX := next * alphaNext / (sigma * alpha)
	ofX0 := -alphaNext * math.Expm1(-h)
	ofChange := 0.0 // Of x_0 minus the x_0 before, in second order.
	if r.solver.Order == 2 && i > 0 && !(r.final && i == len(r.calls)-1) {
		before := math.Log(r.sigmas[i-1]) - math.Log(sigma)
		ofChange = ofX0 / 2
		if r.solver.Type == "heun" {
			ofChange = 0
			if h > 0 {
				ofChange = alphaNext * (math.Expm1(-h)/h + 1)
			}
		}
		ofChange *= h / before
	}
	x0s := make([]float64, len(x))
	for j := range x {
		v := float64(x[j])
		x0s[j] = r.denoise(v/alpha, float64(output[j]), sigma)
		y := ofX*v + ofX0*x0s[j]
		if ofChange != 0 {
			y += ofChange * (x0s[j] - r.last[j])
		}
		x[j] = float32(y)
	}
	r.last = x0s
}
