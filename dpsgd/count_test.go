package dpsgd

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// One example more or less changes one count by one, and what comes out lies on
// the lattice, so that counts and their noise cannot be told apart.
func TestCountsHaveSensitivityOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 12).Draw(t, "size")
		bins := rapid.SliceOfN(rapid.IntRange(0, size-1), 1, 40).Draw(t, "bins")
		nm := rapid.Float64Range(0.02, 4e5).Draw(t, "noise multiplier")
		with, err := NewCounts(size, bins)
		if err != nil {
			t.Fatal(err)
		}
		without, err := NewCounts(size, bins[1:])
		if err != nil {
			t.Fatal(err)
		}
		square := 0.0
		for i := range with.values {
			square += (with.values[i] - without.values[i]) * (with.values[i] - without.values[i])
		}
		if math.Sqrt(square) != with.Sensitivity() {
			t.Fatalf("one example changes the counts by %v, sensitivity is %v", math.Sqrt(square), with.Sensitivity())
		}
		// The same noise on both gives the same difference: nothing was rounded.
		a, err := with.Release(NewInsecureNoise(3), nm, func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		b, err := without.Release(NewInsecureNoise(3), nm, func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		step := latticeStep(nm)
		for i := range a {
			if d := a[i] - b[i]; d != 0 && (i != bins[0] || d != 1) {
				t.Fatalf("count %d differs by %v, want 1 in bin %d alone", i, d, bins[0])
			}
			if a[i]/step != math.Trunc(a[i]/step) {
				t.Fatalf("released count %v is no multiple of the step %v", a[i], step)
			}
		}
	})
}

// The mean and spread of 4,000 released counts. The tolerances are 6 standard
// errors of mean and variance: a false alarm in 1e8.
func TestCountsGetTheirNoise(t *testing.T) {
	noise, err := NewNoise()
	if err != nil {
		t.Fatal(err)
	}
	const n, nm = 4000, 12.5
	sum, squares := 0.0, 0.0
	for range n {
		c, err := NewCounts(1, make([]int, 7))
		if err != nil {
			t.Fatal(err)
		}
		v, err := c.Release(noise, nm, func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		sum += v[0] - 7
		squares += (v[0] - 7) * (v[0] - 7)
	}
	if mean := sum / n; math.Abs(mean) > 6*nm/math.Sqrt(n) {
		t.Errorf("mean of the noise is %g, want 0", mean)
	}
	if ratio := squares / n / (nm * nm); math.Abs(ratio-1) > 6*math.Sqrt(2.0/n) {
		t.Errorf("variance of the noise is %g of what it should be", ratio)
	}
}

func TestCountsRefuse(t *testing.T) {
	noise := NewInsecureNoise(1)
	fine := func() error { return nil }
	if _, err := NewCounts(2, []int{0, 2}); err == nil {
		t.Error("bin out of range: no error")
	}
	if _, err := NewCounts(0, nil); err == nil {
		t.Error("no bins: no error")
	}
	for name, release := range map[string]func(c *Counts) ([]float64, error){
		"no noise multiplier": func(c *Counts) ([]float64, error) { return c.Release(noise, 0, fine) },
		"NaN":                 func(c *Counts) ([]float64, error) { return c.Release(noise, math.NaN(), fine) },
		"off the lattice":     func(c *Counts) ([]float64, error) { return c.Release(noise, 1e6, fine) },
		"no source":           func(c *Counts) ([]float64, error) { return c.Release(nil, 1, fine) },
		"no ledger":           func(c *Counts) ([]float64, error) { return c.Release(noise, 1, nil) },
		"ledger that fails": func(c *Counts) ([]float64, error) {
			return c.Release(noise, 1, func() error { return errors.New("full") })
		},
		"second release": func(c *Counts) ([]float64, error) {
			if _, err := c.Release(noise, 1, fine); err != nil {
				return nil, nil
			}
			return c.Release(noise, 1, fine)
		},
	} {
		c, err := NewCounts(2, []int{0, 1, 1})
		if err != nil {
			t.Fatal(err)
		}
		if v, err := release(c); err == nil || v != nil {
			t.Errorf("%s: released %v, error %v", name, v, err)
		}
	}
}
