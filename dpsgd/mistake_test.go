package dpsgd

import (
	"fmt"
	"math"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// checkClipping: the clipped sum is that of a host loop over plain gradients.
func checkClipping(t testing.TB, wrong mistake) error {
	p := convolutions(t)
	b := backendtest.Open(t, "go")
	plain := p.engine(t, b, nn.Patches, func(o *EngineOptions) { o.Method, o.ClippingNorm = PerExampleLoop, 1e6 })
	var want []float64
	for i := range 4 {
		g, _ := p.sum(t, plain, 1, func(positions []int, size int) ([]*tensors.Tensor, error) {
			for k := range positions {
				positions[k] = i
			}
			return p.fetch(positions, size)
		})
		factor := min(1, p.clip/norm(g))
		for len(want) < len(g) {
			want = append(want, 0)
		}
		for k, v := range g {
			want[k] += factor * v
		}
	}
	for _, method := range []Method{BookKeeping, PerExampleLoop} {
		e := p.engine(t, b, nn.Patches, func(o *EngineOptions) { o.Method, o.wrong = method, wrong })
		got, _ := p.sum(t, e, 4, p.fetch)
		if err := checkNear(string(method), got, want, 1e-4, 0); err != nil {
			return err
		}
	}
	return nil
}

// checkNonFinite: an example that is not finite contributes nothing and
// disturbs no one.
func checkNonFinite(t testing.TB, wrong mistake) error {
	for _, value := range []float64{math.NaN(), math.Inf(1), math.MaxFloat32} {
		p := convolutions(t)
		p.change = map[int]func([]float32){1: func(x []float32) { x[3] = float32(value) }}
		for _, method := range []Method{BookKeeping, PerExampleLoop} {
			e := p.engine(t, backendtest.Open(t, "go"), nn.Patches, func(o *EngineOptions) { o.Method, o.wrong = method, wrong })
			if err := checkSensitivity(p, t, e, 4, 1); err != nil {
				return fmt.Errorf("%s with %g: %w", method, value, err)
			}
			if _, stats := p.sum(t, e, 4, p.fetch); stats.NonFinite != 1 || stats.Examples != 4 {
				return fmt.Errorf("%s with %g: stats are %+v, want one of four not finite", method, value, stats)
			}
		}
	}
	return nil
}

// checkDraws: an example's K draws are one contribution, clipped once: equal
// draws give what one draw gives.
func checkDraws(t testing.TB, apart bool) error {
	b := backendtest.Open(t, "go")
	p := convolutions(t)
	p.sameDraws, p.draws, p.clip = true, 1, 1e-3
	e := p.engine(t, b, nn.Patches, nil)
	want, _ := p.sum(t, e, 3, p.fetch)
	if apart { // The mistake: each draw is clipped as an example of its own.
		got, _ := p.sum(t, e, 2*3, func(positions []int, size int) ([]*tensors.Tensor, error) {
			for i := range positions {
				positions[i] /= 2
			}
			return p.fetch(positions, size)
		})
		return checkNear("two equal draws", got, want, 1e-4, 0)
	}
	p.draws = 2
	got, _ := p.sum(t, p.engine(t, b, nn.Patches, nil), 3, p.fetch)
	return checkNear("two equal draws", got, want, 1e-4, 0)
}

// checkNoise: the release of a sum of n examples adds noise of the promised
// standard deviation to every tensor.
func checkNoise(t testing.TB, n int, wrong mistake) error {
	b := backendtest.Open(t, "go")
	p := &problem{height: 1, width: 1, channels: 256, draws: 1, seed: 4, clip: 0.5}
	p.forward = func(s *nn.Scope, x, _ *graph.Node) *graph.Node {
		x = nn.Dense(s.In("first"), x, 40, nn.DenseOptions{NoBias: true})
		return nn.Dense(s.In("second"), x, 200, nn.DenseOptions{})
	}
	p.build(t)
	e := p.engine(t, b, nn.Patches, func(o *EngineOptions) { o.wrong = wrong })
	s, _, err := e.Sum(t.Context(), p.weights.Flatten(p.trainable), n, p.fetch)
	if err != nil {
		return err
	}
	before := append([]float64(nil), s.values...)
	const multiplier = 3.0
	std := multiplier * s.Sensitivity(multiplier)
	after, err := s.Release(NewInsecureNoise(5), multiplier, func() error { return nil })
	if err != nil {
		return err
	}
	at := 0
	for _, name := range p.trainable {
		size := len(p.weights.Get(name).Data)
		if err := checkStd(minus(after[at:at+size], before[at:at+size]), std); err != nil {
			return fmt.Errorf("noise of %s: %w", name, err)
		}
		at += size
	}
	return nil
}

// checkStd tests the noise's standard deviation by chi-square, with a false
// alarm once in 10 million.
func checkStd(noise []float64, std float64) error {
	z := 0.0
	for _, v := range noise {
		z += v * v / (std * std)
	}
	n := float64(len(noise))
	// Wilson and Hilferty 1931: the cube root of chi-square/n is near normal.
	cube := 2 / (9 * n)
	if d := (math.Cbrt(z/n) - (1 - cube)) / math.Sqrt(cube); !(math.Abs(d) < 5.33) {
		return fmt.Errorf("standard deviation is %g, want %g: %.1f standard errors off", math.Sqrt(z/n)*std, std, d)
	}
	return nil
}

// TestMistakesAreCaught proves the checks: each passes on the engine as it is,
// and fails on the engine with the mistake.
func TestMistakesAreCaught(t *testing.T) {
	for _, c := range []struct {
		name  string
		check func(t testing.TB, wrong bool) error
	}{
		{"draws clipped apart", checkDraws},
		{"factor without the square root", func(t testing.TB, wrong bool) error { return checkClipping(t, pick(wrong, noSquareRoot)) }},
		{"example that is not finite stays", func(t testing.TB, wrong bool) error { return checkNonFinite(t, pick(wrong, keepNonFinite)) }},
		{"noise on the first tensor only", func(t testing.TB, wrong bool) error { return checkNoise(t, 3, pick(wrong, firstTensorOnly)) }},
		{"no noise on an empty batch", func(t testing.TB, wrong bool) error { return checkNoise(t, 0, pick(wrong, quietWhenEmpty)) }},
		{"half the sensitivity", func(t testing.TB, wrong bool) error { return checkNoise(t, 3, pick(wrong, halfSensitivity)) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.check(t, false); err != nil {
				t.Errorf("check fails on the engine as it is: %v", err)
			}
			err := c.check(t, true)
			if err == nil {
				t.Error("check passes on the engine with the mistake")
			}
			t.Logf("caught: %v", err)
		})
	}
}

func pick(wrong bool, m mistake) mistake {
	if wrong {
		return m
	}
	return noMistake
}
