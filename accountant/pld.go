package accountant

import (
	"fmt"
	"math"
)

// Result is one privacy claim and what is known of its accuracy.
type Result struct {
	Epsilon     float64     `json:"epsilon"`
	Delta       float64     `json:"delta"`
	Neighboring Neighboring `json:"neighboring"`

	// Lower is a lower bound on what was asked for (epsilon or delta): no
	// accountant of these mechanisms can claim less. Zero where an accountant
	// has none.
	Lower float64 `json:"lower"`
	// Direction decides the claim: "remove", "add" or "replace".
	Direction string `json:"direction,omitempty"`
	// Order is the Rényi order of the claim; for PLD, of the tilt.
	Order float64 `json:"order,omitempty"`
	// Mesh is the distance of the grid points of the privacy loss; zero means
	// that no grid was needed.
	Mesh float64 `json:"mesh,omitempty"`
	// Points is the length of the composed distribution, or of its transform.
	Points int `json:"points,omitempty"`
	// Slack is the part of Epsilon, or of ln Delta, added to cover rounding.
	Slack float64 `json:"slack,omitempty"`
}

// Accountant bounds the privacy of a composition of events. No events cost
// nothing.
type Accountant interface {
	// Epsilon returns the claim at delta, in (0, 1).
	Epsilon(events []Event, n Neighboring, delta float64) (Result, error)
	// Delta returns the claim at epsilon >= 0.
	Delta(events []Event, n Neighboring, epsilon float64) (Result, error)
}

// PLD accounts by privacy loss distributions; the package comment gives the
// argument that its claims are upper bounds, rounding included. The zero value
// is ready to use.
type PLD struct {
	// Mesh is the distance of grid points. Zero needs no grid where the loss can be
	// inverted; elsewhere it chooses one that moves epsilon by about one part in
	// 1e5 where that is fast, and says so in Result.Mesh.
	Mesh float64
	// UpperOnly leaves Result.Lower zero and saves a third of the time on a grid.
	UpperOnly bool
}

var _ Accountant = PLD{}

// Epsilon returns the least epsilon for which the events are (epsilon,
// delta)-differentially private, rounded up.
//
// Guarantee: an upper bound for every pair of neighbours under n, both
// directions, provided that the events describe what was done.
func (a PLD) Epsilon(events []Event, n Neighboring, delta float64) (Result, error) {
	if err := validateDelta(delta); err != nil {
		return Result{}, err
	}
	return a.solve(events, n, delta, 0, true)
}

// Delta returns the least delta for which the events are (epsilon,
// delta)-differentially private, rounded up.
//
// Guarantee: as Epsilon.
func (a PLD) Delta(events []Event, n Neighboring, epsilon float64) (Result, error) {
	if err := validateEpsilon(epsilon); err != nil {
		return Result{}, err
	}
	return a.solve(events, n, 0, epsilon, false)
}

func (a PLD) solve(events []Event, n Neighboring, delta, epsilon float64, forEpsilon bool) (Result, error) {
	if a.Mesh < 0 || math.IsNaN(a.Mesh) || math.IsInf(a.Mesh, 0) {
		return Result{}, fmt.Errorf("mesh is %g, want positive, or 0 to choose one", a.Mesh)
	}
	dirs, err := directions(events, n)
	if err != nil {
		return Result{}, err
	}
	result := Result{Epsilon: epsilon, Delta: delta, Neighboring: n}
	if len(events) == 0 {
		return result, nil
	}
	worst, worstValue := query{}, math.Inf(-1)
	lower := 0.0
	for _, d := range dirs {
		if a.Mesh == 0 {
			q := query{d: d, delta: delta, epsilon: epsilon, forEpsilon: forEpsilon}
			if low, high, ok := q.inverted(); ok {
				lower = max(lower, low)
				if high > worstValue {
					worst, worstValue = q, high
				}
				continue
			}
		}
		q := a.ask(d, delta, epsilon, forEpsilon)
		// A direction whose Chernoff bound is below another's answer cannot
		// be the worse one.
		if worstValue >= q.bound*(1+1e-6)+1e-12 {
			continue
		}
		v := q.bounded(upward)
		if v > worstValue {
			worst, worstValue = q, v
		}
	}
	result.Direction, result.Order = worst.d.name, worst.lambda+1
	result.Mesh, result.Points = worst.h, worst.points
	result.Slack = worst.slack
	if forEpsilon {
		result.Epsilon = max(0, worstValue)
	} else {
		result.Delta = worstValue
	}
	if !a.UpperOnly {
		if worst.h > 0 {
			lower = max(lower, worst.bounded(downward))
		}
		result.Lower = max(0, min(lower, worstValue))
	}
	return result, nil
}

// query is one direction with the tilt, mesh and window to answer it.
type query struct {
	d              direction
	delta, epsilon float64
	forEpsilon     bool

	lambda, bound      float64 // Tilt, and the Chernoff bound on the answer.
	sketch             sketches
	aim                float64   // Where the tilt aims: the bound, then better answers.
	offsets            []float64 // Of the grid, by phase.
	h, lnTail          float64
	bottom, top        float64
	thetaDown, thetaUp float64
	points             int
	slack              float64
	fixedMesh          bool
}

func (a PLD) ask(d direction, delta, epsilon float64, forEpsilon bool) query {
	q := query{d: d, delta: delta, epsilon: epsilon, forEpsilon: forEpsilon, h: a.Mesh, fixedMesh: a.Mesh > 0}
	steps := float64(len(d.phases))
	for _, p := range d.phases {
		steps += float64(p.count)
	}
	// All right tails together hold about 1e-5 of delta, which costs epsilon
	// 1e-5/λ; keeping more of rare and huge losses costs far more elsewhere.
	if forEpsilon {
		_, q.bound = d.chernoffEpsilon(delta)
		q.lnTail = math.Log(delta) - math.Log(steps) - 11.5
		q.sketch = d.sketch(q.lnTail)
		q.lambda, q.aim = q.sketch.tiltForDelta(delta)
	} else {
		lnBound := d.chernoffDelta(epsilon)
		q.bound = math.Exp(lnBound)
		q.lnTail = max(lnBound, -720) - math.Log(steps) - 25
		q.sketch = d.sketch(q.lnTail)
		q.lambda = q.sketch.tiltForEpsilon(epsilon)
	}
	return q
}

// chernoffEpsilon returns the best bound (K(λ) - ln δ)/λ on epsilon.
func (d direction) chernoffEpsilon(delta float64) (lambda, epsilon float64) {
	l := -math.Log(delta)
	return minimize(func(x float64) float64 { return (d.moment(x) + l) / x }, 1, lowestTilt, 1e6, 1e-3)
}

// chernoffDelta returns ln of the best bound exp(K(λ) - λ ε) on delta.
func (d direction) chernoffDelta(epsilon float64) float64 {
	_, b := minimize(func(x float64) float64 { return d.moment(x) - x*epsilon }, 1, lowestTilt, 1e6, 1e-3)
	return min(b, 0)
}

// Sizes, in grid points of all phases and of their composition.
const (
	wantedPoints = 1 << 18
	mostPoints   = 1 << 22
	leastPoints  = 1 << 12
)

// chooseMesh picks h. Splitting a loss between grid points adds at most
// variance h²/4, about h²/6, per step and keeps E[exp(-L)], which moves K(λ)
// by λ(λ+1)/2 of that and epsilon by (λ+1) h²/12 per step.
func (q *query) chooseMesh() {
	if q.fixedMesh {
		q.limitMesh()
		return
	}
	steps := 0.0
	for _, p := range q.d.phases {
		steps += float64(p.count)
	}
	scale := q.epsilon
	if q.forEpsilon {
		scale = max(q.aim, 1e-12)
	} else {
		scale = max(scale, 1/(1+q.lambda))
	}
	mesh := func(share float64) float64 {
		return math.Sqrt(12 * share / (steps * (q.lambda + 1)))
	}
	for _, share := range []float64{1e-5, 2e-5, 4e-5, 8e-5} {
		q.h = min(mesh(share*scale), 0.3/(q.lambda+1), (q.top-q.bottom)/leastPoints)
		if q.size() <= wantedPoints {
			return
		}
	}
	// Still large: allow an absolute error too, then more points.
	q.h = max(q.h, min(mesh(8e-5*scale+2e-5), (q.top-q.bottom)/64))
	q.limitMesh()
}

func (q *query) limitMesh() {
	for q.size() > mostPoints {
		q.h *= 1.5
	}
}

// size estimates the work at mesh h, in points.
func (q *query) size() float64 {
	points := 2 * (q.top - q.bottom) / q.h
	for _, p := range q.d.phases {
		lo, hi := p.support(q.lnTail)
		points += (hi - lo) / q.h
	}
	return points
}

// bounded answers the query with every error in the sense s. A query is asked
// upward first, which settles tilt and mesh.
func (q *query) bounded(s sense) float64 {
	if s == downward {
		if q.points == 0 { // Epsilon is 0.
			return 0
		}
		return q.answer(q.compose(downward), downward)
	}
	if q.forEpsilon && q.d.totalVariation() <= q.delta {
		return 0
	}
	value := math.Inf(1)
	for attempt := 0; attempt < 6; attempt++ {
		q.bottom, q.top, q.thetaDown, q.thetaUp = q.sketch.window(q.lambda)
		q.chooseMesh()
		c := q.compose(upward)
		q.slack = c.slack + c.lnRel/q.lambda
		v := q.answer(c, upward)
		value = min(value, v)
		if !q.forEpsilon || value <= 0 {
			break
		}
		// Where rare large losses make the Chernoff bound loose, the tilt it
		// gives overshoots: tilt to the answer instead.
		if v > 0.75*q.aim {
			break
		}
		q.aim = v
		if lambda := q.sketch.tiltForEpsilon(v); lambda < q.lambda*0.95 || lambda > q.lambda*1.05 {
			q.lambda = lambda
			continue
		}
		break
	}
	// The Chernoff bound holds too.
	return min(value, q.bound*(1+1e-6)+1e-12)
}

// totalVariation returns the sum of the steps' total variation distances, an
// upper bound on delta at epsilon 0.
func (d direction) totalVariation() float64 {
	sum := 0.0
	for _, p := range d.phases {
		e := p.at(p.cut(0))
		sum += float64(p.count) * (max(0, e.pHi-e.qHi) + e.rel*max(e.pHi, e.qHi))
	}
	return sum * (1 + 1e-12)
}

func (q *query) answer(c composed, s sense) float64 {
	if q.forEpsilon {
		v, _ := c.epsilon(q.delta, s)
		return v
	}
	return c.delta(q.epsilon, s)
}

func (q *query) compose(s sense) composed {
	measures := make([]measure, len(q.d.phases))
	if s == upward {
		q.offsets = make([]float64, len(q.d.phases))
	}
	for i, p := range q.d.phases {
		if s == downward {
			measures[i] = mergeCells(p.pair, q.offsets[i], q.h, q.lnTail)
			continue
		}
		measures[i] = connectTheDots(p.pair, 0, q.h, q.lnTail)
		if o, ok := measures[i].atomOffset(p.pair, q.lambda, q.h); ok {
			q.offsets[i] = o
			measures[i] = connectTheDots(p.pair, o, q.h, q.lnTail)
		}
	}
	scales := make([]float64, len(measures))
	for i := range scales {
		scales[i], _ = q.sketch.steps[i].cumulants(q.lambda)
	}
	c := compose(measures, q.d.phases, scales, q.lambda, q.h, q.thetaDown, q.thetaUp)
	q.points = len(c.weight)
	return c
}
