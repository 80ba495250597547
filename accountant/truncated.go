package accountant

import (
	"math"

	"gonum.org/v1/gonum/mathext"
)

// truncatedPairs returns the dominating pairs of Poisson sampling cut to B
// examples (https://arxiv.org/abs/2508.15089). Let N be the number of other
// examples drawn. Where N < B nothing is cut, and the step is an ordinary one.
// Where N >= B, with probability τ, the unit's example pushes another one out
// when it stays in the batch, so that the sum moves by up to twice as much:
// that part is a replace-one step of twice the sensitivity. Whether N >= B is
// given to the adversary, so the pair is the disjoint union of both.
func truncatedPairs(e Event) (remove, add pair, symmetric bool) {
	q, s, none := e.SamplingProbability, e.NoiseMultiplier, certain(0)
	plain := binomialShift(1, q)
	remove, add = newMixture(s, plain, none), newMixture(s, none, plain)
	tau := binomialTail(e.DatasetSize-1, q, e.BatchLimit-1) // P[N >= B].
	if tau == 0 {
		return remove, add, q == 1
	}
	// The chance that the unit's example is in the cut batch: it is drawn, and
	// kept as one of B out of N+1.
	limit, size := float64(e.BatchLimit), float64(e.DatasetSize)
	kept := min(1, binomialTail(e.DatasetSize, q, e.BatchLimit)*limit/(tau*size)*(1+1e-9))
	tau = min(1, tau*(1+1e-9)) // Both rounded towards more cost.
	if kept == 0 {
		return remove, add, q == 1
	}
	cut := newMixture(s/2, binomialShift(1, kept), binomialShift(1, kept))
	remove = &union{parts: []pair{remove, cut}, weights: []float64{1 - tau, tau}}
	add = &union{parts: []pair{add, cut}, weights: []float64{1 - tau, tau}}
	return remove, add, false
}

// binomialTail returns P[Binomial(n, p) > k].
func binomialTail(n int, p float64, k int) float64 {
	switch {
	case k >= n:
		return 0
	case k < 0 || p == 1:
		return 1
	}
	return mathext.RegIncBeta(float64(k+1), float64(n-k), p)
}

// union is the pair that draws a part by the weights, shows which, and draws
// from it. As a line it uses the loss itself: x is a loss.
type union struct {
	parts   []pair
	weights []float64
}

func (u *union) loss(x float64) float64 { return x }
func (u *union) cut(g float64) float64  { return g }

func (u *union) at(x float64) edge {
	var sum edge
	for i, p := range u.parts {
		w, e := u.weights[i], p.at(p.cut(x))
		sum.pLo += w * e.pLo
		sum.pHi += w * e.pHi
		sum.qLo += w * e.qLo
		sum.qHi += w * e.qHi
		sum.rel = max(sum.rel, e.rel+2*ulp)
	}
	return sum
}

func (u *union) support(lnTail float64) (lo, hi float64) {
	lo, hi = math.Inf(1), math.Inf(-1)
	for i, p := range u.parts {
		if u.weights[i] > 0 && lnTail-math.Log(u.weights[i]) < 0 {
			a, b := p.support(lnTail - math.Log(u.weights[i]) - math.Log(float64(len(u.parts))))
			lo, hi = min(lo, a), max(hi, b)
		}
	}
	return lo, hi
}

func (u *union) moment(lambda float64) float64 {
	terms := make([]float64, len(u.parts))
	for i, p := range u.parts {
		terms[i] = math.Log(u.weights[i]) + p.moment(lambda)
	}
	return logSumExp(terms)
}

func (u *union) sketch(lnTail float64) sketch {
	var all sketch
	for i, p := range u.parts {
		w := math.Log(u.weights[i])
		if lnTail-w >= 0 {
			continue
		}
		s := p.sketch(lnTail - w)
		all.loss = append(all.loss, s.loss...)
		for _, l := range s.lnP {
			all.lnP = append(all.lnP, l+w)
		}
	}
	return all
}

func (u *union) jitter(lo, hi float64) float64 {
	j := 0.0
	for _, p := range u.parts {
		j = max(j, p.jitter(lo, hi))
	}
	return j
}

// spectrum puts the nodes of all parts together.
func (u *union) spectrum(lambda, limit float64) (spectrum, bool) {
	parts, lnM, ok := u.spectra(lambda, limit)
	if !ok {
		return spectrum{}, false
	}
	lnErr := 0.0
	for _, p := range parts {
		lnErr = max(lnErr, p.lnErr+ulp*(16+4*math.Abs(p.lnM)))
	}
	all := spectrum{lambda: lambda, limit: limit, lnM: lnM, lnErr: lnErr}
	for i, p := range parts {
		share := math.Exp(math.Log(u.weights[i]) + p.lnM - lnM)
		for k, w := range p.weight {
			all.weight, all.loss = append(all.weight, share*w), append(all.loss, p.loss[k])
		}
		all.mean += share * p.mean
		// A share has the error of its lnM and of the union's.
		err := p.lnErr + lnErr
		all.missing += share * p.missing
		all.most += share * (p.most + err)
		all.perY += share * (p.perY + err*p.meanSize())
		all.shift += share * p.shift
	}
	for k, w := range all.weight {
		all.variance += w * (all.loss[k] - all.mean) * (all.loss[k] - all.mean)
	}
	return all, true
}

// spectra returns the spectra of the parts, and ln E_P[exp(λL)] of the union.
func (u *union) spectra(lambda, limit float64) (parts []spectrum, lnM float64, ok bool) {
	var terms []float64
	for i, p := range u.parts {
		s, ok := p.(smooth).spectrum(lambda, limit)
		if !ok {
			return nil, 0, false
		}
		parts, terms = append(parts, s), append(terms, math.Log(u.weights[i])+s.lnM)
	}
	return parts, logSumExp(terms), true
}

// envelope mixes those of the parts: |Σ w φ| <= Σ w |φ|.
func (u *union) envelope(lambda, lnM float64) func(limit float64) float64 {
	parts, _, ok := u.spectra(lambda, 0)
	if !ok {
		return func(float64) float64 { return 0 }
	}
	envelopes, shares := make([]func(float64) float64, len(parts)), make([]float64, len(parts))
	for i, p := range parts {
		envelopes[i] = u.parts[i].(smooth).envelope(lambda, p.lnM)
		shares[i] = math.Exp(math.Log(u.weights[i]) + p.lnM - lnM)
	}
	return func(limit float64) float64 {
		// 1 - Σ w |φ| = Σ w (1 - |φ|), where nothing is lost near 1.
		d := 0.0
		for i, e := range envelopes {
			d -= shares[i] * math.Expm1(e(limit))
		}
		return math.Log1p(-min(d*(1-1e-6), 1-1e-9))
	}
}
