package report

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/accountant"
)

func crc(data []byte) []byte {
	return binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(data))
}

// TestBoundsAgainstRandomisedResponse uses the mechanism that meets the bounds:
// with probability δ it tells the truth outright, else it tells it with
// probability e^ε/(1+e^ε) (Kairouz et al. 2015, Theorem 3.4).
func TestBoundsAgainstRandomisedResponse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		epsilon := rapid.Float64Range(0, 12).Draw(t, "epsilon")
		delta := rapid.Float64Range(1e-9, 0.1).Draw(t, "delta")
		rate := rapid.Float64Range(1e-4, 0.5).Draw(t, "rate")
		p := math.Exp(epsilon) / (1 + math.Exp(epsilon))
		// Outcomes, best evidence for "was there" first: their probability if it
		// was there, and if it was not.
		in := []float64{delta, (1 - delta) * p, (1 - delta) * (1 - p), 0}
		out := []float64{0, (1 - delta) * (1 - p), (1 - delta) * p, delta}
		positive, left := 0.0, rate
		for i := range in { // Neyman and Pearson: accept the best evidence until the rate is used up.
			share := 1.0
			if out[i] > left {
				share = left / out[i]
			}
			positive += share * in[i]
			left -= share * out[i]
		}
		if got := maxTruePositiveRate(epsilon, delta, rate); math.Abs(got-positive) > 1e-12 {
			t.Fatalf("largest true positive rate is %g, the optimal test has %g", got, positive)
		}
		right := (in[0] + in[1] + out[2] + out[3]) / 2
		if got := maxAccuracy(epsilon, delta); math.Abs(got-right) > 1e-12 {
			t.Fatalf("largest accuracy is %g, the optimal test has %g", got, right)
		}
	})
}

// TestRounding: what is printed never promises more than what holds, and is
// not far from it.
func TestRounding(t *testing.T) {
	read := func(t *rapid.T, s string) float64 {
		s = strings.NewReplacer(",", "", "\u00a0%", "").Replace(s)
		if m, e, ok := strings.Cut(s, "10⁻"); ok {
			m = strings.TrimSuffix(m, " × ")
			if m == "" {
				m = "1"
			}
			s = m + "e-" + strings.NewReplacer("⁰", "0", "¹", "1", "²", "2", "³", "3", "⁴", "4", "⁵", "5", "⁶", "6", "⁷", "7", "⁸", "8", "⁹", "9").Replace(e)
		}
		x, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	rapid.Check(t, func(t *rapid.T) {
		x := math.Pow(10, rapid.Float64Range(-12, 11).Draw(t, "log"))
		if up := read(t, roundUp(x, 4)); up < x || up > x*1.0011 {
			t.Fatalf("%g up is %s", x, roundUp(x, 4))
		}
		if down := read(t, roundDown(x, 4)); down > x || down < x*0.9989 {
			t.Fatalf("%g down is %s", x, roundDown(x, 4))
		}
		epsilon := rapid.Float64Range(0, 25).Draw(t, "epsilon")
		if f := read(t, formatFactor(epsilon)); f < math.Exp(epsilon) || f > 1.03*math.Exp(epsilon)+1 {
			t.Fatalf("e to the power %g is %g, printed as %s", epsilon, math.Exp(epsilon), formatFactor(epsilon))
		}
		share := 1 - math.Pow(10, rapid.Float64Range(-12, 0).Draw(t, "share"))
		if p := read(t, percentUp(share)); p < 100*share-1e-13 || p > 100*share+0.101 || p >= 100 && share < 1 {
			t.Fatalf("%g is printed as %s", share, percentUp(share))
		}
	})
}

func TestNumbers(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{formatEpsilon(10), "10"}, {formatEpsilon(9.99871), "9.999"}, {formatEpsilon(0.010701), "0.01071"},
		{formatFactor(10), "22,027"}, {formatFactor(1), "2.719"}, {formatFactor(0), "1"}, {formatFactor(1000), "10⁴³⁵"},
		{formatDelta(1e-5), "0.00001"}, {formatDelta(1e-9), "10⁻⁹"}, {oneIn(1e-5), "1\u00a0in\u00a0100,000"}, {oneIn(3e-6), "1\u00a0in\u00a0333,333"},
		{percentUp(0.27183), "27.2\u00a0%"}, {percentUp(0.99995505), "99.9956\u00a0%"}, {percentUp(1), "100.0\u00a0%"},
		{count(-1234567), "-1,234,567"}, {short(18.4132), "18.41"}, {plain(0.064), "0.064"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

func TestSentenceNamesTheRelation(t *testing.T) {
	for relation, want := range map[accountant.Neighboring]string{
		accountant.AddOrRemove: "Whether or not any one patient was among",
		accountant.ReplaceOne:  "Were any one patient of the private data exchanged",
		accountant.ZeroOut:     "Whether or not the contribution of any one patient",
	} {
		r := sampleRun(t)
		r.Claim.Neighboring, r.Claim.Unit = relation, "one patient"
		if got := r.Guarantee(); !strings.HasPrefix(got, want) || strings.Count(got, ". ") != 0 {
			t.Errorf("%s: the sentence is %q, want one that begins with %q", relation, got, want)
		}
	}
}

func TestTiers(t *testing.T) {
	for epsilon, want := range map[float64]string{0.5: "strong", 1: "strong", 1.001: "reasonable", 10: "reasonable", 10.001: "weak"} {
		if got := tier(epsilon); got != want {
			t.Errorf("tier of %g is %s, want %s", epsilon, got, want)
		}
		if tierWords[tier(epsilon)] == "" {
			t.Errorf("tier %s has no words", tier(epsilon))
		}
	}
}

// TestChartStaysInItsFrame draws any points and looks where they land.
func TestChartStaysInItsFrame(t *testing.T) {
	number := rapid.OneOf(rapid.Float64Range(-1e3, 1e3), rapid.SampledFrom([]float64{0, 1e-300, -1e300, 1e300, 5, 5.0000000001}))
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 6).Draw(t, "points")
		c := Curve{Series: []Series{{Name: "a", X: rapid.SliceOfN(number, n, n).Draw(t, "x"), Y: rapid.SliceOfN(number, n, n).Draw(t, "y")}}}
		ch := newChart(&c)
		inside := func(x, low, high float64) bool { return x >= low-0.1 && x <= high+0.1 } // Also catches NaN.
		for _, l := range ch.Lines {
			for _, p := range strings.Fields(l.Points) {
				xs, ys, _ := strings.Cut(p, ",")
				x, errX := strconv.ParseFloat(xs, 64)
				y, errY := strconv.ParseFloat(ys, 64)
				if errX != nil || errY != nil || !inside(x, ch.Left, ch.Right) || !inside(y, ch.Top, ch.Bottom) {
					t.Fatalf("point %s is outside [%g, %g] × [%g, %g]", p, ch.Left, ch.Right, ch.Top, ch.Bottom)
				}
			}
		}
		for _, k := range ch.XTicks {
			if !inside(k.At, ch.Left, ch.Right) {
				t.Fatalf("tick %s is at %g", k.Label, k.At)
			}
		}
		if len(ch.XTicks) < 2 || len(ch.YTicks) < 2 {
			t.Fatalf("axes have %d and %d ticks, want two or more", len(ch.XTicks), len(ch.YTicks))
		}
	})
}
