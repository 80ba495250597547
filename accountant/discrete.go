package accountant

import "math"

// discrete is the pair P = N_Z(shift, σ²) and Q = N_Z(0, σ²) of discrete
// Gaussians on the integers, N_Z(0, σ²)[k] ∝ exp(-k²/2σ²)
// (Canonne, Kamath, Steinke 2020, Def. 1).
type discrete struct {
	sigma float64 // In lattice steps.
	shift int
	edgeK int       // Table covers -edgeK..edgeK; beyond it there is less than 1e-300.
	upper []float64 // upper[k+edgeK] = N_Z(0, σ²)(> k).
	logZ  float64   // ln Σ exp(-k²/2σ²).
}

// newDiscrete returns the pair of noise with the given multiplier of a
// sensitivity of lattice steps, moved times that sensitivity.
func newDiscrete(noiseMultiplier float64, lattice, times int) *discrete {
	d := &discrete{sigma: noiseMultiplier * float64(lattice), shift: lattice * times}
	d.edgeK = int(math.Ceil(38*d.sigma)) + 1
	d.upper = make([]float64, 2*d.edgeK+1)
	z := 0.0
	for k := d.edgeK; k >= -d.edgeK; k-- {
		d.upper[k+d.edgeK] = z
		z += d.weight(k)
	}
	for i := range d.upper {
		d.upper[i] /= z
	}
	d.logZ = math.Log(z)
	return d
}

func (d *discrete) weight(k int) float64 {
	t := float64(k) / d.sigma
	return math.Exp(-t * t / 2)
}

// above returns N_Z(0, σ²)(> k); below, by symmetry, N_Z(0, σ²)(<= k).
func (d *discrete) above(k int) float64 {
	if k < -d.edgeK {
		return 1
	}
	if k > d.edgeK {
		return 0
	}
	return d.upper[k+d.edgeK]
}

func (d *discrete) below(k int) float64 { return d.above(-k - 1) }

// loss is that of the continuous Gaussian at the integer x.
func (d *discrete) loss(x float64) float64 {
	s := float64(d.shift)
	return s * (x - s/2) / (d.sigma * d.sigma)
}

func (d *discrete) cut(g float64) float64 {
	s := float64(d.shift)
	return math.Floor(g*d.sigma*d.sigma/s + s/2)
}

func (d *discrete) at(x float64) edge {
	if x < -float64(d.edgeK) {
		return edge{pHi: 1, qHi: 1}
	}
	if x > float64(d.edgeK+d.shift) {
		return edge{pLo: 1, qLo: 1}
	}
	k := int(x)
	// The table sums positive terms; its error is at most their number.
	rel := (16 + 2*38*38 + float64(len(d.upper))) * ulp
	return edge{
		pLo: d.below(k - d.shift), pHi: d.above(k - d.shift),
		qLo: d.below(k), qHi: d.above(k), rel: rel,
	}
}

func (d *discrete) support(lnTail float64) (lo, hi float64) {
	z := math.Sqrt(-2*lnTail)*d.sigma + 1 // Tails lie below the Gaussian ones (ibid. Prop. 25).
	return d.loss(math.Floor(-z) + float64(d.shift)), d.loss(math.Ceil(z) + float64(d.shift))
}

func (d *discrete) jitter(lo, hi float64) float64 {
	return 8 * ulp * (4 + 2*max(math.Abs(lo), math.Abs(hi)) + float64(d.shift*d.shift)/(d.sigma*d.sigma))
}

func (d *discrete) sketch(lnTail float64) sketch {
	z := int(math.Sqrt(-2*lnTail)*d.sigma) + 2
	step := max(1, 2*z/sketchNodes)
	var k sketch
	for i := -z; i <= z; i += step {
		t := float64(i) / d.sigma
		k.loss = append(k.loss, d.loss(float64(i+d.shift)))
		k.lnP = append(k.lnP, -t*t/2-d.logZ+math.Log(float64(step)))
	}
	return k
}

// moment sums over the integers within 14 σ of the peak at (1+λ)·shift.
func (d *discrete) moment(lambda float64) float64 {
	s := float64(d.shift)
	v := d.sigma * d.sigma
	peak := (1 + lambda) * s
	near := math.Round(peak)
	sum := 0.0
	for k := -math.Ceil(10*d.sigma) - 1; k <= math.Ceil(10*d.sigma)+1; k++ {
		t := near + k - peak
		sum += math.Exp(-t * t / (2 * v))
	}
	// Σ exp(-(k-s)²(1+λ)/2v + k²λ/2v) = exp(λ(λ+1)s²/2v) Σ exp(-(k-peak)²/2v).
	return lambda*(lambda+1)*s*s/(2*v) + math.Log(sum) - d.logZ
}
