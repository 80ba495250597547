package optim

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// reference is AdamW as Loshchilov & Hutter 2019 write it (algorithm 2), in
// float64 from moments that are sums over the whole history, not recursions.
func reference(w float64, gradients, factors []float64, lr, b1, b2, eps, decay float64) float64 {
	for t := 1; t <= len(gradients); t++ {
		var m, v float64
		for s := 1; s <= t; s++ {
			g := gradients[s-1]
			m += (1 - b1) * math.Pow(b1, float64(t-s)) * g
			v += (1 - b2) * math.Pow(b2, float64(t-s)) * g * g
		}
		mHat, vHat := m/(1-math.Pow(b1, float64(t))), v/(1-math.Pow(b2, float64(t)))
		w -= lr * factors[t-1] * (mHat/(math.Sqrt(vHat)+eps) + decay*w)
	}
	return w
}

func TestAdamW(t *testing.T) {
	for _, c := range []struct {
		name                    string
		adam                    AdamW
		b1, b2, epsilon, weight float64
	}{
		{"defaults", AdamW{LearningRate: 1e-2}, 0.9, 0.999, 1e-8, 0},
		{"all given", AdamW{LearningRate: 3e-3, Beta1: 0.8, Beta2: 0.95, Epsilon: 1e-3, WeightDecay: 0.1}, 0.8, 0.95, 1e-3, 0.1},
	} {
		t.Run(c.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(1, 1))
			const n, steps = 7, 40
			weights, start := make([]float32, n), make([]float64, n)
			for i := range weights {
				weights[i] = float32(rng.NormFloat64())
				start[i] = float64(weights[i])
			}
			history, factors := make([][]float64, n), []float64{}
			for s := range steps {
				gradient := make([]float64, n)
				for i := range gradient {
					gradient[i] = rng.NormFloat64() * math.Pow(10, float64(i-4)) // From 1e-4 to 100.
					history[i] = append(history[i], gradient[i])
				}
				factors = append(factors, Cosine.Factor(s, steps, 5))
				if err := c.adam.Update(weights, gradient, factors[s]); err != nil {
					t.Fatal(err)
				}
			}
			for i, w := range weights {
				want := reference(start[i], history[i], factors, c.adam.LearningRate, c.b1, c.b2, c.epsilon, c.weight)
				if d := math.Abs(float64(w) - want); !(d <= steps*6e-8*max(1, math.Abs(want))) { // Float32 weights, rounded each step.
					t.Errorf("weight %d is %g, want %g", i, w, want)
				}
			}
		})
	}
}

// TestFirstStepIsOneLearningRate: whatever the gradient's size, far above epsilon.
func TestFirstStepIsOneLearningRate(t *testing.T) {
	for _, g := range []float64{1e-3, 1, 1e6} {
		a := AdamW{LearningRate: 0.5}
		w := []float32{0, 0}
		if err := a.Update(w, []float64{g, -g}, 1); err != nil {
			t.Fatal(err)
		}
		if math.Abs(float64(w[0])+0.5) > 1e-5 || math.Abs(float64(w[1])-0.5) > 1e-5 {
			t.Errorf("gradient %g: first step goes to %v, want -0.5 and 0.5", g, w)
		}
	}
}

func TestAdamWRefuses(t *testing.T) {
	a := AdamW{LearningRate: 1}
	if err := a.Update(make([]float32, 2), make([]float64, 3), 1); err == nil {
		t.Error("a gradient of the wrong length is taken")
	}
	if err := a.Update(make([]float32, 2), make([]float64, 2), 1); err != nil {
		t.Error(err)
	}
	if err := a.Update(make([]float32, 3), make([]float64, 3), 1); err == nil {
		t.Error("a state of the wrong length is taken")
	}
	if a.State.Step != 1 {
		t.Errorf("refused updates are counted: step %d, want 1", a.State.Step)
	}
}

// TestEMA: against the closed form Σ_t (1-d_t)·Π_{s>t} d_s·w_t of the warm-up's
// decays.
func TestEMA(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		decay := rapid.SampledFrom([]float64{0, 0.5, 0.99, 0.9999}).Draw(t, "decay")
		values := rapid.SliceOfN(rapid.Float32Range(-1, 1), 1, 60).Draw(t, "values")
		e := EMA{Decay: decay}
		for _, v := range values {
			e.Update([]float32{v, -v})
		}
		want, keep := 0.0, 1.0
		for i := len(values) - 1; i >= 0; i-- {
			d := min(decay, (1+float64(i))/(10+float64(i)))
			want += keep * (1 - d) * float64(values[i])
			keep *= d
		}
		want += keep * float64(values[0]) // The average starts from the first weights.
		got := e.Weights()
		if d := math.Abs(float64(got[0]) - want); !(d < 1e-6) || got[1] != -got[0] {
			t.Fatalf("average is %v, want %g", got, want)
		}
		if e.Step != len(values) {
			t.Fatalf("step is %d, want %d", e.Step, len(values))
		}
	})
}

func TestSchedules(t *testing.T) {
	const steps, warmup = 100, 9
	for _, c := range []struct {
		schedule  Schedule
		step      int
		want      float64
		tolerance float64
	}{
		{Constant, 0, 0.1, 0}, {Constant, 8, 0.9, 1e-15}, {Constant, 9, 1, 0}, {Constant, 99, 1, 0}, {"", 50, 1, 0},
		{Cosine, 4, 0.5, 1e-15}, {Cosine, 9, 1, 1e-15}, {Cosine, 99, 0.1, 1e-3}, {Cosine, 54, 0.55, 0.01},
		{Linear, 9, 1, 0}, {Linear, 99, 0.1 + 0.9/91, 1e-12},
	} {
		if got := c.schedule.Factor(c.step, steps, warmup); math.Abs(got-c.want) > c.tolerance {
			t.Errorf("%q at %d is %g, want %g", c.schedule, c.step, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		steps := rapid.IntRange(1, 50).Draw(t, "steps")
		warmup := rapid.IntRange(0, steps).Draw(t, "warm-up")
		s := rapid.SampledFrom([]Schedule{Constant, Cosine, Linear}).Draw(t, "schedule")
		last := 0.0
		for step := range steps {
			f := s.Factor(step, steps, warmup)
			if !(f > 0 && f <= 1) {
				t.Fatalf("factor is %g at %d", f, step)
			}
			if step <= warmup && f < last || step > warmup && f > last {
				t.Fatalf("factor turns at step %d: %g after %g", step, f, last)
			}
			last = f
		}
	})
}

func TestNorm(t *testing.T) {
	if got := Norm([]float64{3, -4, 12}); got != 13 {
		t.Errorf("norm is %g, want 13", got)
	}
}

func ExampleSchedule_Factor() {
	for _, step := range []int{0, 1, 2, 50, 99} {
		fmt.Printf("%.2f ", Cosine.Factor(step, 100, 2))
	}
	// Output: 0.33 0.67 1.00 0.56 0.10
}

// TestPartsOnAllCores: a value is updated alike wherever it lies, and once, in
// vectors of more than one part.
func TestPartsOnAllCores(t *testing.T) {
	for _, n := range []int{1, partLength - 1, partLength, partLength + 1, 3*partLength + 5} {
		weights, gradient := make([]float32, n), make([]float64, n)
		for i := range weights {
			weights[i], gradient[i] = float32(i%5), float64(i%7)-3
		}
		few, fewGradient := weights[:min(n, 35)], gradient[:min(n, 35)]
		few = append([]float32(nil), few...)
		a, b := AdamW{LearningRate: 0.1, WeightDecay: 0.01}, AdamW{LearningRate: 0.1, WeightDecay: 0.01}
		long, short := EMA{Decay: 0.5}, EMA{Decay: 0.5}
		for range 3 {
			if err := a.Update(weights, gradient, 1); err != nil {
				t.Fatal(err)
			}
			if err := b.Update(few, fewGradient, 1); err != nil {
				t.Fatal(err)
			}
			long.Update(weights)
			short.Update(few)
		}
		for i := range weights {
			if k := i % 35; weights[i] != few[k] || long.Values[i] != short.Values[k] {
				t.Fatalf("%d values: value %d is %g, average %g; want %g and %g as value %d", n, i, weights[i], long.Values[i], few[k], short.Values[k], k)
			}
		}
	}
}
