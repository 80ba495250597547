package eval

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"
)

// drawFeatures draws normal features, some columns constant.
func drawFeatures(t *rapid.T, name string, rows, dim int) *Features {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, name), 1))
	f := &Features{Rows: rows, Dim: dim, Values: make([]float32, rows*dim)}
	for i := range f.Values {
		if i%dim%5 != 4 {
			f.Values[i] = float32(rng.NormFloat64() * float64(1+i%dim))
		}
	}
	return f
}

func normals(seed uint64, rows, dim int, mean, std float64) *Features {
	rng := rand.New(rand.NewPCG(seed, 2))
	f := &Features{Rows: rows, Dim: dim, Values: make([]float32, rows*dim)}
	for i := range f.Values {
		f.Values[i] = float32(mean + std*rng.NormFloat64())
	}
	return f
}

// The closed form for commuting covariances: |m_a - m_b|² + Σ (√λ_a - √λ_b)².
func TestFrechetDistanceClosedForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 12).Draw(t, "n")
		number := rapid.Float64Range(0, 5)
		a := &Moments{Mean: make([]float64, n), Covariance: mat.NewSymDense(n, nil)}
		b := &Moments{Mean: make([]float64, n), Covariance: mat.NewSymDense(n, nil)}
		want := 0.0
		for i := range n {
			a.Mean[i], b.Mean[i] = number.Draw(t, "m"), number.Draw(t, "m")
			x, y := number.Draw(t, "v"), number.Draw(t, "v") // May be zero: a singular covariance.
			a.Covariance.SetSym(i, i, x*x)
			b.Covariance.SetSym(i, i, y*y)
			want += (a.Mean[i]-b.Mean[i])*(a.Mean[i]-b.Mean[i]) + (x-y)*(x-y)
		}
		got, err := FrechetDistance(a, b)
		if err != nil || math.Abs(got-want) > 1e-6*max(1, want) {
			t.Fatalf("distance is %v (%v), want %v", got, err, want)
		}
	})
}

// FID is 0 of a set to itself, the same both ways, does not change when both
// sets move or the rows are in another order, and both its ways of computing
// agree.
func TestFIDProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dim := rapid.IntRange(1, 12).Draw(t, "dim")
		a := drawFeatures(t, "a", rapid.IntRange(2, 30).Draw(t, "rows"), dim)
		b := drawFeatures(t, "b", rapid.IntRange(2, 30).Draw(t, "rows"), dim)
		fid := func(a, b *Features) float64 {
			v, err := FID(a, b)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
		ab := fid(a, b)
		tolerance := 1e-5 * (1 + ab)
		if self := fid(a, a); math.Abs(self) > tolerance {
			t.Fatalf("distance to itself is %g", self)
		}
		if ba := fid(b, a); math.Abs(ab-ba) > tolerance {
			t.Fatalf("distance is %g one way and %g the other", ab, ba)
		}
		if ab < -tolerance {
			t.Fatalf("distance is %g", ab)
		}
		order := newMersenne(3).permutation(a.Rows)
		if moved := fid(a.Subset(order), b); math.Abs(ab-moved) > tolerance {
			t.Fatalf("distance is %g, %g with rows in another order", ab, moved)
		}
		ma, errA := NewMoments(a)
		mb, errB := NewMoments(b)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if byMoments, err := FrechetDistance(ma, mb); err != nil || math.Abs(ab-byMoments) > 1e-3*(1+ab) {
			t.Fatalf("distance is %g by rows, %g by moments (%v)", ab, byMoments, err)
		}
	})
}

// With all rows in the one subset, KID is the plain double sum.
func TestKIDIsItsDefinition(t *testing.T) {
	a, b := normals(1, 40, 6, 0, 1), normals(2, 40, 6, 0.3, 1.2)
	kernel := func(x, y []float32) float64 {
		dot := 0.0
		for i := range x {
			dot += float64(x[i]) * float64(y[i])
		}
		return math.Pow(dot/6+1, 3)
	}
	want := 0.0
	for i := range 40 {
		for j := range 40 {
			if i != j {
				want += (kernel(a.Row(i), a.Row(j)) + kernel(b.Row(i), b.Row(j))) / (40 * 39)
			}
			want -= 2 * kernel(a.Row(i), b.Row(j)) / (40 * 40)
		}
	}
	for _, subsets := range []int{1, 7} {
		mean, std, err := KID(a, b, KIDOptions{Subsets: subsets, SubsetSize: 40})
		if err != nil || math.Abs(mean-want) > 1e-10 || std > 1e-10 {
			t.Errorf("KID over %d subsets is %v ± %v (%v), want %v ± 0", subsets, mean, std, err, want)
		}
	}
	// Kept kernels and kernels of each subset are two ways to one number.
	kept := subsetKernels{dim: 6, a: a.matrix(nil, 1), b: b.matrix(nil, 1)}
	direct := kept
	kept.fill()
	i, j := newMersenne(1).choice(40, 9), newMersenne(2).choice(40, 9)
	w1, x1 := kept.sums(i, j)
	w2, x2 := direct.sums(i, j)
	if math.Abs(w1-w2) > 1e-9 || math.Abs(x1-x2) > 1e-9 {
		t.Errorf("kept kernels give %v, %v, direct ones %v, %v", w1, x1, w2, x2)
	}
}

// Sure of one class each, all classes alike: the score is the number of classes.
// The same for each image: 1.
func TestInceptionScoreAtItsEnds(t *testing.T) {
	f := &Features{Rows: 60, Dim: 1, Values: make([]float32, 60), Classes: 6, Logits: make([]float32, 360)}
	flat, _, err := InceptionScore(f, 10)
	if err != nil || math.Abs(flat-1) > 1e-12 {
		t.Errorf("score of images that say nothing is %v (%v), want 1", flat, err)
	}
	for i := range 60 {
		f.Logits[i*6+i%6] = 1000
	}
	sure, std, err := InceptionScore(f, 1)
	if err != nil || math.Abs(sure-6) > 1e-9 || std != 0 {
		t.Errorf("score of six sure classes is %v ± %v (%v), want 6 ± 0", sure, std, err)
	}
	f.Logits, f.Classes = nil, 0
	if _, _, err := InceptionScore(f, 1); !errors.Is(err, ErrInvalid) {
		t.Errorf("error without logits is %v, want ErrInvalid", err)
	}
}

// Neighbourhoods by direct differences and sorting.
func TestManifoldsAreTheirDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		dim, k := rapid.IntRange(1, 4).Draw(t, "dim"), rapid.IntRange(1, 4).Draw(t, "k")
		a := drawFeatures(t, "a", rapid.IntRange(k+1, 20).Draw(t, "rows"), dim)
		b := drawFeatures(t, "b", rapid.IntRange(k+1, 20).Draw(t, "rows"), dim)
		distance := func(x, y []float32) float64 {
			d := 0.0
			for i := range x {
				d += (float64(x[i]) - float64(y[i])) * (float64(x[i]) - float64(y[i]))
			}
			return d
		}
		radii := func(f *Features) []float64 {
			out := make([]float64, f.Rows)
			for i := range out {
				var all []float64
				for j := range f.Rows {
					all = append(all, distance(f.Row(i), f.Row(j)))
				}
				slices.Sort(all)
				out[i] = all[k]
			}
			return out
		}
		ra, rb := radii(a), radii(b)
		precision, recall, density, coverage := 0.0, 0.0, 0.0, 0.0
		for i := range a.Rows {
			in := 0
			for j := range b.Rows {
				if distance(a.Row(i), b.Row(j)) < rb[j] {
					in++
				}
			}
			precision += min(1, float64(in)) / float64(a.Rows)
			density += float64(in) / float64(k) / float64(a.Rows)
		}
		for j := range b.Rows {
			hit, held := 0.0, 0.0
			for i := range a.Rows {
				d := distance(a.Row(i), b.Row(j))
				if d < ra[i] {
					hit = 1
				}
				if d < rb[j] {
					held = 1
				}
			}
			recall += hit / float64(b.Rows)
			coverage += held / float64(b.Rows)
		}
		pr, err := NewPrecisionRecall(a, b, k)
		if err != nil {
			t.Fatal(err)
		}
		dc, err := NewDensityCoverage(a, b, k)
		if err != nil {
			t.Fatal(err)
		}
		for name, v := range map[string][2]float64{"precision": {pr.Precision, precision}, "recall": {pr.Recall, recall},
			"density": {dc.Density, density}, "coverage": {dc.Coverage, coverage}} {
			if math.Abs(v[0]-v[1]) > 1e-9 {
				t.Fatalf("%s is %v, want %v", name, v[0], v[1])
			}
		}
	})
}

// A set against itself lies wholly in its own manifold.
func TestManifoldOfItself(t *testing.T) {
	a := normals(4, 200, 8, 0, 1)
	pr, err := NewPrecisionRecall(a, a, 0)
	if err != nil || pr.Precision != 1 || pr.Recall != 1 || pr.FScore != 1 {
		t.Errorf("precision and recall of a set with itself are %+v (%v), want 1", pr, err)
	}
	dc, err := NewDensityCoverage(a, a, 0)
	// Each image is in the 5 neighbourhoods of its neighbours' side, on average.
	if err != nil || dc.Coverage != 1 || math.Abs(dc.Density-1) > 0.01 {
		t.Errorf("density and coverage of a set with itself are %+v (%v), want 1", dc, err)
	}
}

// Fresh draws of the reference's distribution do about as well as the reference;
// copies of the training images, a lost mode and another place all cost.
func TestFLDSeesCopyingAndDistance(t *testing.T) {
	const dim = 8
	// Two modes far apart: even rows and odd rows.
	modes := func(seed uint64) *Features {
		f := normals(seed, 200, dim, 0, 1)
		for i := range f.Values {
			f.Values[i] += float32(6*(i/dim%2) - 3)
		}
		return f
	}
	train, test := modes(1), modes(2)
	fld := func(generated *Features) float64 {
		v, err := FLD(train, test, generated)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	fresh := fld(modes(3))
	if math.Abs(fresh) > 15 {
		t.Errorf("FLD of fresh draws is %v, want near 0", fresh)
	}
	for name, generated := range map[string]*Features{
		"copies": train.Subset(newMersenne(5).permutation(200)), "one mode": normals(4, 200, dim, 3, 1), "elsewhere": normals(5, 200, dim, 20, 1),
	} {
		if v := fld(generated); v < fresh+5 {
			t.Errorf("FLD of %s is %v, want well above that of fresh draws, %v", name, v, fresh)
		}
	}
}

func TestCompareSaysWhatIsLeftOut(t *testing.T) {
	a, b := normals(1, 4, 3, 0, 1), normals(2, 5, 3, 0, 1)
	f, err := Compare(a, b, FidelityOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if f.FID == nil || f.KIDMean == nil || f.Precision == nil || f.ISMean != nil || f.Density != nil || f.FLD != nil || len(f.Notes) != 3 {
		t.Errorf("comparison of few images is %+v, want notes on is, dc and fld", f)
	}
	if _, err := Compare(a, b, FidelityOptions{Metrics: []Metric{MetricIS}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("error of a metric that was asked for is %v, want ErrInvalid", err)
	}
	if _, err := Compare(a, b, FidelityOptions{Metrics: []Metric{"fad"}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("error of an unknown metric is %v, want ErrInvalid", err)
	}
	if _, err := Compare(a, normals(2, 5, 4, 0, 1), FidelityOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("error of other dimensions is %v, want ErrInvalid", err)
	}
	b.Values[3] = float32(math.NaN())
	if _, err := Compare(a, b, FidelityOptions{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("error of a value that is no number is %v, want ErrInvalid", err)
	}
	if none, err := Compare(a, a, FidelityOptions{Metrics: []Metric{}}); err != nil || len(none.Figures()) != 0 {
		t.Errorf("no metrics give %+v (%v)", none, err)
	}
}

// The likelihoods of the authors' code (github.com/marcojira/fld at ffbbf20, torch
// 2.15.0), on features of the counter hash: centres at the generated features,
// and at the first 130 training features fitted to the rest. It is in float32.
func TestFLDMixtureIsTheAuthors(t *testing.T) {
	train, test := hashFeatures("fld.train", 300, 24, 0, 1), hashFeatures("fld.test", 300, 24, 0, 1)
	generated := hashFeatures("fld.generated", 260, 24, 0.1, 0.9)
	s := newStandardizer(test)
	rows := s.rows(train)
	order := make([]int, 300)
	for i := range order {
		order[i] = i
	}
	for name, c := range map[string]struct{ got, want float64 }{
		"generated":     {newMixture(s.rows(generated), rows).negativeLogLikelihood(s.rows(test)), 1.2391301393508911},
		"training half": {newMixture(pick(rows, order[:130]), pick(rows, order[130:])).negativeLogLikelihood(s.rows(test)), 1.3245859146118164},
	} {
		if !near(c.got, c.want, 1e-3) {
			t.Errorf("negative log-likelihood by %s is %v, want %v", name, c.got, c.want)
		}
	}
}
