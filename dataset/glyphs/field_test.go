package glyphs

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// area sums the coverage of a field with edges one pixel wide.
func (f *field) area() float64 {
	sum := 0.0
	for _, v := range f.depth {
		sum += ink(float64(v), 1)
	}
	return sum
}

// slack bounds how far the ink may be from the true area, per pixel of edge: the
// soft edge 3t²-2t³ is at most 0.097 from t. On a slanted edge the errors cancel.
const slack = 0.097

// TestStrokeArea compares the ink of a stroke with the area of a capsule,
// πr² + 2rl.
func TestStrokeArea(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f field
		f.reset(40)
		at := func(name string) float64 { return rapid.Float64Range(12, 28).Draw(t, name) }
		a, b := point{at("ax"), at("ay")}, point{at("bx"), at("by")}
		r := rapid.Float64Range(1.5, 5).Draw(t, "radius")
		f.stroke(a, b, r, r, 1)
		want := math.Pi*r*r + 2*r*a.distance(b)
		if got := f.area(); math.Abs(got-want) > slack*(2*math.Pi*r+2*a.distance(b)) {
			t.Fatalf("area is %g, want %g", got, want)
		}
	})
}

// TestFillArea compares a filled square with a square hole, turned by an angle,
// with its area, before and after growing.
func TestFillArea(t *testing.T) {
	square := func(side, angle float64, reverse bool) []point {
		var out []point
		for i := range 4 {
			turn := angle + math.Pi/2*float64(i)
			if reverse {
				turn = angle - math.Pi/2*float64(i)
			}
			s, c := math.Sincos(turn)
			out = append(out, point{20 + c*side/math.Sqrt2, 20 + s*side/math.Sqrt2})
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		var f field
		f.reset(40)
		angle := rapid.Float64Range(0, math.Pi).Draw(t, "angle")
		side := rapid.Float64Range(14, 20).Draw(t, "side")
		f.fill([][]point{square(side, angle, false), square(side/2, angle, true)}, 3)
		want := side*side - side*side/4
		if got := f.area(); math.Abs(got-want) > slack*6*side {
			t.Fatalf("area is %g, want %g", got, want)
		}
		for i := range f.depth {
			f.depth[i]++
		}
		// One pixel more on each side outside (round corners), one less of hole.
		want = side*side + 4*side + math.Pi - (side/2-2)*(side/2-2)
		if got := f.area(); math.Abs(got-want) > slack*(6*side+2*math.Pi) {
			t.Fatalf("grown area is %g, want %g", got, want)
		}
	})
}

func TestTracePassesThroughPoints(t *testing.T) {
	s, err := skeleton{path: "0,0 20,50! 90,90 10,60"}.parse()
	if err != nil {
		t.Fatal(err)
	}
	path := trace(nil, s[0])
	for i, p := range s[0] {
		if d := path[i*pieces].distance(p.point); d > 1e-12 {
			t.Errorf("point %d is missed by %g", i, d)
		}
	}
	// The span before a corner that follows an end is straight.
	for i := range pieces {
		p := path[i]
		if d := math.Abs(p.y - 2.5*p.x); d > 1e-12 {
			t.Errorf("point %v is %g off the straight line", p, d)
		}
	}
}
