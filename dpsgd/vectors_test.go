package dpsgd

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// vectorsOf sums the vectors, but for that of one example.
func vectorsOf(size int, clip, nm float64, at []int, all [][]float64, without int, wrong mistake) (*Vectors, error) {
	v, err := NewVectors(size, clip, nm)
	if err != nil {
		return nil, err
	}
	v.wrong = wrong
	for i, x := range all {
		if i == without {
			continue
		}
		if err := v.Add(i, at[i], x); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// checkVectors: one example more or less moves the sum by at most the
// sensitivity, exactly, whatever its vector is; what is released lies on the
// lattice, and the same noise on both sums leaves the same difference.
func checkVectors(t *rapid.T, wrong mistake) error {
	width, slots := rapid.IntRange(1, 6).Draw(t, "width"), rapid.IntRange(1, 4).Draw(t, "slots")
	n := rapid.IntRange(1, 12).Draw(t, "examples")
	clip, nm := rapid.Float64Range(1e-3, 1e3).Draw(t, "clip"), rapid.Float64Range(0.02, 1e3).Draw(t, "noise multiplier")
	value := rapid.OneOf(rapid.Float64Range(-2, 2), rapid.Float64Range(-1e6, 1e6), rapid.SampledFrom([]float64{0, math.NaN(), math.Inf(-1), math.MaxFloat64, 5e-324}))
	at, all := make([]int, n), make([][]float64, n)
	for i := range all {
		at[i] = width * rapid.IntRange(0, slots-1).Draw(t, "slot")
		all[i] = rapid.SliceOfN(value, width, width).Draw(t, "vector")
	}
	out := rapid.IntRange(0, n-1).Draw(t, "out")
	with, err := vectorsOf(width*slots, clip, nm, at, all, -1, wrong)
	if err != nil {
		return err
	}
	without, err := vectorsOf(width*slots, clip, nm, at, all, out, wrong)
	if err != nil {
		return err
	}
	square := 0.0
	for i := range with.values {
		d := with.values[i] - without.values[i]
		square += d * d
		if d != 0 && (i < at[out] || i >= at[out]+width) {
			return fmt.Errorf("example of slot %d changes coordinate %d", at[out]/width, i)
		}
	}
	if got := math.Sqrt(square); !(got <= with.Sensitivity()) {
		return fmt.Errorf("one example changes the sum by %g, sensitivity is %g", got, with.Sensitivity())
	}
	before := append([]float64(nil), with.values...)
	for i := range before {
		before[i] -= without.values[i]
	}
	record := func() error { return nil }
	a, err := with.Release(NewInsecureNoise(3), record)
	if err != nil {
		return err
	}
	b, err := without.Release(NewInsecureNoise(3), record)
	if err != nil {
		return err
	}
	step := latticeStep(nm * clip)
	for i := range a {
		if a[i]-b[i] != before[i] {
			return fmt.Errorf("the same noise gives difference %g at %d, want %g", a[i]-b[i], i, before[i])
		}
		if a[i]/step != math.Trunc(a[i]/step) {
			return fmt.Errorf("released value %g is no multiple of the step %g", a[i], step)
		}
	}
	return nil
}

func TestVectorsMoveByTheirSensitivity(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		if err := checkVectors(t, noMistake); err != nil {
			t.Fatal(err)
		}
	})
}

// A vector near the bound keeps nearly all of its length, and a short one all but
// what the lattice takes: the check above is not passed by adding nothing.
func TestVectorsKeepTheirLength(t *testing.T) {
	for _, length := range []float64{0.5, 3} {
		v, err := NewVectors(2, 2, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.Add(0, 0, []float64{length * 0.6, length * 0.8}); err != nil {
			t.Fatal(err)
		}
		want := min(length, 2)
		if got := math.Hypot(v.values[0], v.values[1]); !(got <= want && got >= want-2*v.step) {
			t.Errorf("vector of length %g is in the sum with %g, want %g", length, got, want)
		}
	}
}

// The check of the sensitivity catches a sum that does not clip, that of the
// noise one that has too little.
func TestVectorsMistakesAreCaught(t *testing.T) {
	caught := false
	rapid.Check(t, func(t *rapid.T) { caught = caught || checkVectors(t, noClip) != nil })
	if !caught {
		t.Error("a sum that does not clip passes")
	}
	if checkVectorsNoise(t, noMistake) != nil || checkVectorsNoise(t, halfSensitivity) == nil {
		t.Error("the check of the noise does not tell whether it is halved")
	}
}

// checkVectorsNoise: the spread of 4,000 coordinates. The tolerance is 6 standard
// errors of mean and variance: a false alarm in 1e8.
func checkVectorsNoise(t *testing.T, wrong mistake) error {
	t.Helper()
	const n, clip, nm = 4000, 3.0, 1.5
	noise, err := NewNoise()
	if err != nil {
		t.Fatal(err)
	}
	v, err := NewVectors(n, clip, nm)
	if err != nil {
		t.Fatal(err)
	}
	v.wrong = wrong
	values, err := v.Release(noise, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	sum, squares := 0.0, 0.0
	for _, x := range values {
		sum += x
		squares += x * x
	}
	std := clip * nm
	if mean := sum / n; math.Abs(mean) > 6*std/math.Sqrt(n) {
		return fmt.Errorf("noise has mean %g", mean)
	}
	if ratio := squares / n / (std * std); math.Abs(ratio-1) > 6*math.Sqrt(2.0/n) {
		return fmt.Errorf("noise has variance %g of what is wanted", ratio)
	}
	return nil
}

func TestVectorsRefuse(t *testing.T) {
	for _, c := range []struct {
		size     int
		clip, nm float64
	}{{0, 1, 1}, {3, 0, 1}, {3, math.NaN(), 1}, {3, math.Inf(1), 1}, {3, 1, 0}, {3, 1, math.NaN()}, {3, 1, 1e7}} {
		if _, err := NewVectors(c.size, c.clip, c.nm); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
	v, err := NewVectors(3, 1, 1)
	if err != nil {
		t.Fatal(err)
	}
	one := []float64{1}
	if err := v.Add(5, 0, one); err != nil {
		t.Fatal(err)
	}
	for _, example := range []int{5, 4, maxVectors} {
		if v.Add(example, 0, one) == nil {
			t.Errorf("example %d after 5: no error", example)
		}
	}
	if v.Add(6, 3, one) == nil || v.Add(7, -1, one) == nil {
		t.Error("a vector outside the sum: no error")
	}
	noise := NewInsecureNoise(1)
	fails := errors.New("disk is full")
	if _, err := v.Release(noise, func() error { return fails }); !errors.Is(err, fails) {
		t.Errorf("release without a ledger entry: %v", err)
	}
	if _, err := v.Release(nil, func() error { return nil }); err == nil {
		t.Error("release without noise: no error")
	}
	if _, err := v.Release(noise, nil); err == nil {
		t.Error("release without a ledger: no error")
	}
	if _, err := v.Release(noise, func() error { return nil }); err != nil {
		t.Error(err)
	}
	if _, err := v.Release(noise, func() error { return nil }); err == nil {
		t.Error("a second release: no error")
	}
}
