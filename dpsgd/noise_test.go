package dpsgd

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// draw returns n values of noise with the given standard deviation.
func draw(noise *Noise, n int, std float64) []float64 {
	values := make([]float64, n)
	noise.addLattice(values, std, latticeStep(std))
	return values
}

// TestNoiseStd: 10 million draws, so that an error of 0.12 % in the standard
// deviation fails; false alarm once in 10 million runs.
func TestNoiseStd(t *testing.T) {
	noise, err := NewNoise()
	if err != nil {
		t.Fatal(err)
	}
	for _, std := range []float64{0.37, 1e5} {
		if err := checkStd(draw(noise, 10_000_000/2, std), std); err != nil {
			t.Error(err)
		}
	}
}

// TestNoiseShape: moments and tail counts of 4 million draws against the normal
// distribution. Each count is binomial; the bound is 6 standard deviations, plus
// 6 for the rare ones, so that a false alarm comes less than once in 10 million.
func TestNoiseShape(t *testing.T) {
	noise, err := NewNoise()
	if err != nil {
		t.Fatal(err)
	}
	const n = 4_000_000
	v := draw(noise, n, 2)
	var sum, cube, fourth float64
	for i := range v {
		v[i] /= 2
		sum += v[i]
		cube += v[i] * v[i] * v[i]
		fourth += v[i] * v[i] * v[i] * v[i]
	}
	for _, m := range []struct {
		name                string
		got, want, variance float64 // Variance of one draw's power.
	}{{"mean", sum / n, 0, 1}, {"third moment", cube / n, 0, 15}, {"fourth moment", fourth / n, 3, 96}} {
		if d := math.Abs(m.got-m.want) / math.Sqrt(m.variance/n); !(d < 6) {
			t.Errorf("%s is %g, want %g: %.1f standard errors off", m.name, m.got, m.want, d)
		}
	}
	for _, sigma := range []float64{0.5, 1, 2, 3, 4, 5} {
		for _, sign := range []float64{-1, 1} {
			count := 0.0
			for _, x := range v {
				if sign*x > sigma {
					count++
				}
			}
			want := n * math.Erfc(sigma/math.Sqrt2) / 2
			if d := math.Abs(count - want); !(d < 6*math.Sqrt(want)+6) {
				t.Errorf("%g draws beyond %g sigma, want about %.1f", count, sign*sigma, want)
			}
		}
	}
}

// TestNoiseIsIndependent: correlations between coordinates, chunks, steps and
// sources are zero within 6 standard errors (false alarm once in 10^9 each).
func TestNoiseIsIndependent(t *testing.T) {
	const n = 4 * chunk
	fresh := func() *Noise {
		noise, err := NewNoise()
		if err != nil {
			t.Fatal(err)
		}
		return noise
	}
	one, two := fresh(), fresh()
	first, second, other := draw(one, n, 1), draw(one, n, 1), draw(two, n, 1)
	for _, c := range []struct {
		name string
		a, b []float64
	}{
		{"neighbours", first[:n-1], first[1:]},
		{"next but one", first[:n-2], first[2:]},
		{"chunks", first[:n-chunk], first[chunk:]},
		{"steps", first, second},
		{"sources", first, other},
		{"a step and its neighbour", first[:n-1], second[1:]},
	} {
		var sum float64
		for i := range c.a {
			sum += c.a[i] * c.b[i]
		}
		if d := sum / math.Sqrt(float64(len(c.a))); !(math.Abs(d) < 6) {
			t.Errorf("%s correlate: %.1f standard errors", c.name, d)
		}
		if slices.Equal(c.a, c.b) {
			t.Errorf("%s are equal", c.name)
		}
	}
}

// TestInsecureNoise is reproducible, differs by seed, and says what it is.
func TestInsecureNoise(t *testing.T) {
	a, b, c := NewInsecureNoise(1), NewInsecureNoise(1), NewInsecureNoise(2)
	x, y, z := draw(a, 3*chunk+5, 1), draw(b, 3*chunk+5, 1), draw(c, 3*chunk+5, 1)
	if !slices.Equal(x, y) || slices.Equal(x, z) {
		t.Error("noise does not follow the seed")
	}
	secure, err := NewNoise()
	if err != nil {
		t.Fatal(err)
	}
	if !a.Insecure() || secure.Insecure() {
		t.Error("Insecure is wrong")
	}
}

// released returns what a sum of the given values releases.
func released(t testing.TB, values []float64, clip, multiplier float64, noise *Noise) []float64 {
	t.Helper()
	s := newSum(len(values), clip)
	copy(s.values, values)
	out, err := s.Release(noise, multiplier, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestLattice: every output is a multiple of the step, whatever the sum, and the
// step depends on public numbers only: between 2^-21 and 2^-20 of the noise.
func TestLattice(t *testing.T) {
	noise := NewInsecureNoise(3)
	rapid.Check(t, func(t *rapid.T) {
		clip := rapid.Float64Range(1e-9, 1e6).Draw(t, "clip")
		multiplier := rapid.Float64Range(0.01, 100).Draw(t, "multiplier")
		values := rapid.SliceOfN(rapid.Float64Range(-100*clip, 100*clip), 1, 20).Draw(t, "sum")
		step := latticeStep(clip * multiplier)
		if r := step / (clip * multiplier) * (1 << 20); !(r > 0.5-1e-12 && r <= 1) {
			t.Fatalf("step is %g of 2^-20 of the noise", r)
		}
		if f, _ := math.Frexp(step); f != 0.5 {
			t.Fatalf("step %g is no power of two", step)
		}
		s := newSum(len(values), clip)
		copy(s.values, values)
		out, err := s.Release(noise, multiplier, func() error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range out {
			if k := v / step; k != math.Trunc(k) {
				t.Fatalf("output %g is %g steps, want a whole number", v, k)
			}
			if math.Abs(v-values[i]) > 10*multiplier*clip*1.01 {
				t.Fatalf("noise is %g, more than 10 sigma", v-values[i])
			}
		}
	})
}

// TestLowBits: the lowest eight bits of the lattice index are uniform for sums
// that differ in theirs: chi-square over 256 cells, bound of 6 standard errors.
func TestLowBits(t *testing.T) {
	const n = 1 << 18
	step := latticeStep(1)
	for _, value := range []float64{0, 1.0 / 3, 1e-9, step / 2, -math.Pi, 5 * step} {
		noise, err := NewNoise()
		if err != nil {
			t.Fatal(err)
		}
		values := make([]float64, n)
		for i := range values {
			values[i] = value
		}
		cells := make([]float64, 256)
		for _, v := range released(t, values, 1, 1, noise) {
			cells[int64(v/step)&255]++
		}
		chi := 0.0
		for _, c := range cells {
			chi += (c - n/256) * (c - n/256) / (n / 256)
		}
		if d := (chi - 255) / math.Sqrt(2*255); math.Abs(d) > 6 {
			t.Errorf("sum %g: low bits are not uniform, chi-square is %.1f standard errors off", value, d)
		}
	}
}

func TestSensitivityIncludesTheLattice(t *testing.T) {
	for _, size := range []int{1, 100, 1_000_000} {
		s := newSum(size, 0.7)
		const multiplier = 1.3
		step := latticeStep(multiplier * 0.7)
		if got, want := s.Sensitivity(multiplier), 0.7+step*math.Sqrt(float64(size)); !(got >= want && got < 1.001*want) {
			t.Errorf("sensitivity of %d coordinates is %g, want at least %g", size, got, want)
		}
	}
	// Rounding really moves neighbours by less than that.
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.SliceOfN(rapid.Float64Range(-1, 1), 1, 50).Draw(t, "sum")
		d := rapid.SliceOfN(rapid.Float64Range(-1, 1), len(a), len(a)).Draw(t, "contribution")
		clip := max(norm(d), 1e-3)
		s := newSum(len(a), clip)
		step := latticeStep(clip)
		moved := make([]float64, len(a))
		for i := range a {
			moved[i] = step * (math.RoundToEven((a[i]+d[i])/step) - math.RoundToEven(a[i]/step))
		}
		if norm(moved) > s.Sensitivity(1) {
			t.Fatalf("rounded sums differ by %g, more than %g", norm(moved), s.Sensitivity(1))
		}
	})
}

func TestReleaseRefuses(t *testing.T) {
	noise := NewInsecureNoise(1)
	ok := func() error { return nil }
	for _, c := range []struct {
		name       string
		noise      *Noise
		multiplier float64
		record     func() error
	}{
		{"nil record", noise, 1, nil},
		{"nil noise", nil, 1, ok},
		{"zero multiplier", noise, 0, ok},
		{"negative multiplier", noise, -1, ok},
		{"NaN multiplier", noise, math.NaN(), ok},
		{"infinite multiplier", noise, math.Inf(1), ok},
		{"multiplier below the lattice", noise, 1e-300, ok},
		{"failing record", noise, 1, func() error { return errors.New("disk full") }},
	} {
		s := newSum(4, 1)
		s.values[2] = 7
		out, err := s.Release(c.noise, c.multiplier, c.record)
		if err == nil || out != nil {
			t.Errorf("%s: released %v, error %v", c.name, out, err)
		}
		if s.values[2] != 7 || s.released {
			t.Errorf("%s: the sum was touched", c.name)
		}
	}
	s := newSum(4, 1)
	if _, err := s.Release(noise, 1, ok); err != nil {
		t.Fatal(err)
	}
	calls := 0
	if out, err := s.Release(noise, 1, func() error { calls++; return nil }); err == nil || out != nil || calls > 0 {
		t.Errorf("second release gives %v, error %v, after %d records", out, err, calls)
	}
}

// TestRecordComesFirst: when record runs no noise is drawn, and the sum is as it
// was: what fails in between leaves a step in the ledger and nothing outside.
func TestRecordComesFirst(t *testing.T) {
	used, fresh := NewInsecureNoise(9), NewInsecureNoise(9)
	s := newSum(3, 1)
	s.values[1] = 5
	_, err := s.Release(used, 1, func() error {
		if s.values[1] != 5 {
			return errors.New("changed")
		}
		return errors.New("stop")
	})
	if err == nil || !strings.Contains(err.Error(), "stop") {
		t.Fatalf("error is %v, want that of record, with the sum as it was", err)
	}
	if used.rng.Uint64() != fresh.rng.Uint64() {
		t.Error("noise was drawn before the record")
	}
}

// TestEmptySumIsNoisy: every coordinate moves.
func TestEmptySumIsNoisy(t *testing.T) {
	out := released(t, make([]float64, 3*chunk+1), 1, 1, NewInsecureNoise(8))
	zeros := 0
	for _, v := range out {
		if v == 0 {
			zeros++ // Chance 2^-21.3 each.
		}
	}
	if zeros > 6 {
		t.Errorf("%d of %d coordinates have no noise", zeros, len(out))
	}
	if err := checkStd(out, newSum(len(out), 1).Sensitivity(1)); err != nil {
		t.Error(err)
	}
}

func TestMechanismValidate(t *testing.T) {
	good := Mechanism{ClippingNorm: 1, NoiseMultiplier: 1, SamplingProbability: 0.1, ExpectedBatchSize: 10, Steps: 5}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	bad := []float64{0, -1, math.NaN(), math.Inf(1)}
	for field, set := range map[string]func(m *Mechanism, v float64){
		"clipping norm":        func(m *Mechanism, v float64) { m.ClippingNorm = v },
		"noise multiplier":     func(m *Mechanism, v float64) { m.NoiseMultiplier = v },
		"sampling probability": func(m *Mechanism, v float64) { m.SamplingProbability = v },
		"expected batch size":  func(m *Mechanism, v float64) { m.ExpectedBatchSize = v },
		"steps":                func(m *Mechanism, v float64) { m.Steps = -int(max(0, min(v, 1))) },
	} {
		for _, v := range bad {
			m := good
			set(&m, v)
			if err := m.Validate(); err == nil || !strings.HasPrefix(err.Error(), field) {
				t.Errorf("%s %g: error is %v", field, v, err)
			}
		}
	}
}

// BenchmarkNoise reports values per second on all processors.
func BenchmarkNoise(b *testing.B) {
	for _, n := range []int{10_000, 2_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			noise, err := NewNoise()
			if err != nil {
				b.Fatal(err)
			}
			values := make([]float64, n)
			used := cpuTime()
			for b.Loop() {
				noise.addLattice(values, 1, latticeStep(1))
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mvalues/s")
			b.ReportMetric(float64(cpuTime()-used)/float64(n)/float64(b.N), "cpu-ns/value")
		})
	}
}
