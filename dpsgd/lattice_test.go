package dpsgd

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestDiscreteGaussianIsExact: chi-square of 2 million draws against the
// probabilities exp(-k²/2σ²)/Z, by cells of at least 20 expected draws. The bound
// is 6 standard errors and a little for the skewness: false alarm about 1e-8 each.
func TestDiscreteGaussianIsExact(t *testing.T) {
	source, err := NewNoise()
	if err != nil {
		t.Fatal(err)
	}
	var key [32]byte
	for i := range key {
		key[i] = byte(source.rng.Uint64())
	}
	rng := rand.NewChaCha8(key)
	const n = 2_000_000
	for _, sigma := range []float64{0.3, 0.6, 1, 2.5, 17, 200} {
		g := newDiscreteGaussian(sigma)
		reach := int64(farthest*sigma) + 2
		counts := make([]float64, 2*reach+1)
		for range n {
			counts[g.sample(rng)+reach]++
		}
		z := 0.0
		for k := -reach; k <= reach; k++ {
			z += math.Exp(-float64(k*k) / (2 * sigma * sigma))
		}
		chi, cells, got, want := 0.0, 0.0, 0.0, 0.0
		for i, c := range counts {
			k := float64(int64(i) - reach)
			got, want = got+c, want+n/z*math.Exp(-k*k/(2*sigma*sigma))
			if want >= 20 {
				chi += (got - want) * (got - want) / want
				cells++
				got, want = 0, 0
			}
		}
		chi += got - want // What is left is below 20 draws.
		free := cells - 1
		if d := (chi - free) / math.Sqrt(2*free); math.Abs(d) > 6+20/math.Sqrt(free) && free > 1 {
			t.Errorf("σ = %g: chi-square is %.1f over %.0f cells, %.1f standard errors off", sigma, chi, cells, d)
		}
	}
}

// TestLayersCoverTheCurve: every integer under the curve at a height lies in the
// layer of that height, and inner ones are under it at all heights.
func TestLayersCoverTheCurve(t *testing.T) {
	for _, sigma := range []float64{0.1, 0.7, 3, 1 << 20, 1.7 * (1 << 20), 1 << 34} {
		g := newDiscreteGaussian(sigma)
		curve := func(k uint64) float64 { return math.Exp(-float64(k) / sigma * float64(k) / sigma / 2) }
		area := g.layers[0].height * float64(g.layers[0].width)
		top := 0.0
		for i, l := range g.layers {
			if l.low != top {
				t.Errorf("σ = %g: layer %d starts at %g, want %g", sigma, i, l.low, top)
			}
			top = l.low + l.height
			if a := l.height * float64(l.width); math.Abs(a/area-1) > 1e-15 {
				t.Errorf("σ = %g: layer %d has area %g, want %g", sigma, i, a, area)
			}
			if i > 0 && curve(l.width) > l.low {
				t.Errorf("σ = %g: layer %d ends at %d, where the curve is %g, above its low %g", sigma, i, l.width-1, curve(l.width), l.low)
			}
			if l.inner > 0 && curve(l.inner-1) < top {
				t.Errorf("σ = %g: layer %d takes %d at once, where the curve is %g, below its top %g", sigma, i, l.inner-1, curve(l.inner-1), top)
			}
			if l.inner > l.width || l.favoured != (1<<55)%l.width {
				t.Errorf("σ = %g: layer %d is %+v", sigma, i, l)
			}
		}
		if top < 1 {
			t.Errorf("σ = %g: layers end at %g, below the top of the curve", sigma, top)
		}
		if waste := area * layerCount / (sigma*math.Sqrt(math.Pi/2) + 0.5); sigma > 1000 && waste > 1.03 {
			t.Errorf("σ = %g: layers have %g times the area of the curve", sigma, waste)
		}
	}
}

// TestRoundedAndDiscreteAgree: the factor in the comment of addLattice, by the
// integral of the density over a cell, at σ = 2^12, where it shows.
func TestRoundedAndDiscreteAgree(t *testing.T) {
	const sigma = 1 << 12
	for _, z := range []float64{0, 0.5, 1, 3, 6, 12} {
		// Simpson's rule on half cells is exact to O(1/σ⁴).
		f := func(x float64) float64 { return math.Exp((z*z - x*x) / 2) }
		w := 0.5 / sigma
		ratio := (f(z-w) + 4*f(z) + f(z+w)) / 6
		if want := 1 + (z*z-1)/(24*sigma*sigma); math.Abs(ratio-want) > 1e-12 {
			t.Errorf("at %g σ a rounded Gaussian is %.15g times the discrete one, want %.15g", z, ratio, want)
		}
	}
}
