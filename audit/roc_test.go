package audit

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Of two normal populations a distance d apart the area is Φ(d/√2), and DeLong's
// interval holds it in 95 % of the cases: of 400, below 93 % happens once in 100,
// so 91 % is asked for, once in 2000.
func TestROCOfNormals(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, d := range []float64{0, 0.5, 2} {
		want, held := math.Erfc(-d/2)/2, 0
		const runs = 400
		for range runs {
			members, others := make([]float64, 150), make([]float64, 200)
			for i := range members {
				members[i] = rng.NormFloat64() + d
			}
			for i := range others {
				others[i] = rng.NormFloat64()
			}
			if r := NewROC(members, others); r.AUCLow <= want && want <= r.AUCHigh {
				held++
			}
		}
		if held < runs*91/100 {
			t.Errorf("distance %g: interval holds the area in %d of %d", d, held, runs)
		}
	}
}

func TestROCCorners(t *testing.T) {
	ramp := func(n int, from float64) []float64 {
		out := make([]float64, n)
		for i := range out {
			out[i] = from + float64(i)
		}
		return out
	}
	r := NewROC(ramp(100, 5000), ramp(2000, 0))
	if r.AUC != 1 || r.AUCHigh != 1 || r.AUCLow < 0.5 || r.Covers() {
		t.Errorf("separated scores: %+v", r)
	}
	if len(r.At) != 2 || r.At[1].TruePositiveRate != 1 {
		t.Errorf("separated scores: rates %+v, want all recognised", r.At)
	}
	if len(r.Above(0.1, 1e-5)) != 2 {
		t.Error("perfect recognition is not above epsilon 0.1")
	}
	if len(r.Above(10, 1e-5)) != 0 {
		t.Error("perfect recognition at 0.1 % of 2000 is above epsilon 10, which allows it")
	}
	r = NewROC(make([]float64, 50), make([]float64, 50))
	if r.AUC != 0.5 || !r.Covers() || len(r.At) != 0 {
		t.Errorf("equal scores: %+v, want 0.5 and no rates of 50 images", r)
	}
	r = NewROC([]float64{1, 2, 3}, []float64{2, 2, 0}) // By hand: (1 + (1+0.5+0.5) + 3) / 9.
	if math.Abs(r.AUC-6.0/9) > 1e-12 {
		t.Errorf("area is %g, want 2/3", r.AUC)
	}
	if r := NewROC(nil, nil); !r.Covers() {
		t.Errorf("no scores: %+v", r)
	}
}
