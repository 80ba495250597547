package glyphs

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// skeleton is one way to write a character: the paths of the pen's tip.
type skeleton struct {
	class string
	held  bool // Only drawn where Options.Held is set.
	// path lists strokes, separated by semicolons; a stroke lists points "x,y"
	// in hundredths of the unit square, y down. A smooth curve passes through
	// them; at a point marked "!" it has a corner instead.
	path string
}

// joint is one point of a skeleton.
type joint struct {
	point
	corner bool
	same   int // Index, over all strokes, of the first point at the same place.
}

// strokes is a parsed skeleton.
type strokes [][]joint

func (s skeleton) parse() (strokes, error) {
	var out strokes
	first := map[point]int{}
	count := 0
	for text := range strings.SplitSeq(s.path, ";") {
		var line []joint
		for word := range strings.FieldsSeq(text) {
			word, corner := strings.CutSuffix(word, "!")
			left, right, _ := strings.Cut(word, ",")
			x, errX := strconv.Atoi(left)
			y, errY := strconv.Atoi(right)
			if errX != nil || errY != nil {
				return nil, fmt.Errorf("skeleton of %q: point %q, want \"x,y\" in hundredths", s.class, word)
			}
			p := point{float64(x) / 100, float64(y) / 100}
			if _, ok := first[p]; !ok {
				first[p] = count
			}
			line = append(line, joint{point: p, corner: corner, same: first[p]})
			count++
		}
		if len(line) < 2 {
			return nil, fmt.Errorf("skeleton of %q: stroke %q has %d points, want at least 2", s.class, text, len(line))
		}
		out = append(out, line)
	}
	return out, nil
}

// wobble moves every point a little, as a hand does: neighbours along a stroke
// move alike (0.6 is their correlation), so that a curve stays smooth. Points
// that meet in the skeleton move together for the most part, so that strokes
// still meet.
func (s strokes) wobble(r *rand.Rand, deviation float64) strokes {
	var moves []point
	out := make(strokes, len(s))
	for i, line := range s {
		out[i] = make([]joint, len(line))
		var move point
		for j, p := range line {
			fresh := point{bell(r, 0, deviation), bell(r, 0, deviation)}
			switch {
			case p.same < len(moves):
				move = moves[p.same].plus(fresh.times(0.3))
			case j == 0:
				move = fresh
			default:
				move = move.times(0.6).plus(fresh.times(0.8))
			}
			moves = append(moves, move)
			p.point = p.point.plus(move)
			out[i][j] = p
		}
	}
	return out
}

// overshoot lengthens or shortens the ends of strokes by a share of the page.
func (s strokes) overshoot(r *rand.Rand, chance, low, high float64) {
	for _, line := range s {
		n := len(line)
		if r.Float64() < chance {
			line[0].point = extend(line[1].point, line[0].point, between(r, low, high))
		}
		if r.Float64() < chance {
			line[n-1].point = extend(line[n-2].point, line[n-1].point, between(r, low, high))
		}
	}
}

// extend moves the end of a segment outwards by length, inwards if negative but
// by no more than half of the segment.
func extend(from, end point, length float64) point {
	d := end.minus(from)
	l := max(d.length(), 1e-6)
	return end.plus(d.times(max(length, -l/2) / l))
}

// pieces is the number of segments that stand for one span of a curve.
const pieces = 5

// trace appends the points of the curve through line to path: a Catmull-Rom
// spline (Catmull & Rom 1974), cut at corners.
func trace(path []point, line []joint) []point {
	path = append(path, line[0].point)
	for i := 0; i+1 < len(line); i++ {
		p1, p2 := line[i].point, line[i+1].point
		m1, m2 := p2.minus(p1), p2.minus(p1) // Straight where the curve ends or turns a corner.
		if i > 0 && !line[i].corner {
			m1 = tangent(line[i-1].point, p1, p2)
		}
		if i+2 < len(line) && !line[i+1].corner {
			m2 = tangentBack(p1, p2, line[i+2].point)
		}
		for k := 1; k <= pieces; k++ {
			t := float64(k) / pieces
			// Cubic Hermite with end tangents m1, m2.
			t2, t3 := t*t, t*t*t
			p := p1.times(2*t3 - 3*t2 + 1).plus(m1.times(t3 - 2*t2 + t)).
				plus(p2.times(3*t2 - 2*t3)).plus(m2.times(t3 - t2))
			path = append(path, p)
		}
	}
	return path
}

// tangent returns the derivative at b of the curve a, b, c over the span from b
// to c. Chord lengths weight it (the non-uniform Catmull-Rom spline), so that a
// short span beside a long one does not bulge.
func tangent(a, b, c point) point {
	before, after := max(a.distance(b), 1e-6), max(b.distance(c), 1e-6)
	return slope(a, b, c, before, after).times(after)
}

// tangentBack is tangent, but for the span that ends at b.
func tangentBack(a, b, c point) point {
	before, after := max(a.distance(b), 1e-6), max(b.distance(c), 1e-6)
	return slope(a, b, c, before, after).times(before)
}

// slope is the derivative at b, per unit of chord length, of the parabola
// through a, b and c.
func slope(a, b, c point, before, after float64) point {
	first, second := b.minus(a).times(1/before), c.minus(b).times(1/after)
	return first.times(after / (before + after)).plus(second.times(before / (before + after)))
}

// drawPen draws the skeleton into the field and returns how soft its edges are.
func (d *drawing) drawPen(r *rand.Rand, s *style, skeleton strokes) {
	unit := float64(d.field.size) / 28
	moved := skeleton.wobble(r, between(r, s.wobbleLow, s.wobbleHigh))
	moved.overshoot(r, s.overshoot, -0.06, 0.08)
	curve := newBend(r, s)
	width := between(r, s.widthLow, s.widthHigh) * unit

	d.points, d.ends = d.points[:0], d.ends[:0]
	for _, line := range moved {
		d.points = trace(d.points, line)
		d.ends = append(d.ends, len(d.points))
	}
	for i, p := range d.points {
		d.points[i] = curve.at(p)
	}
	low, high := bounds(d.points)
	f := newFrame(low, high, d.massOfPath(), float64(d.field.size),
		between(r, s.boxLow, s.boxHigh)*unit, width, d.jitter(r, s, unit))

	softness := between(r, s.softLow, s.softHigh) * unit
	pressure := newPressure(r, s)
	start := 0
	for _, end := range d.ends {
		a := f.at(d.points[start])
		before := pressure.at(0, 0) * width / 2
		for i := start + 1; i < end; i++ {
			b := f.at(d.points[i])
			t := float64(i-start) / float64(end-start-1)
			after := pressure.at(t, float64(i)) * width / 2
			d.field.stroke(a, b, before, after, softness)
			a, before = b, after
		}
		start = end
	}
	d.softness = softness
}

// massOfPath is the centre of mass of the strokes, for a pen of even width.
func (d *drawing) massOfPath() point {
	var sum point
	total, start := 0.0, 0
	for _, end := range d.ends {
		for i := start + 1; i < end; i++ {
			a, b := d.points[i-1], d.points[i]
			l := a.distance(b)
			sum = sum.plus(a.to(b, 0.5).times(l))
			total += l
		}
		start = end
	}
	return sum.times(1 / max(total, 1e-9))
}

// pressure varies the pen's width along a stroke: a slow swell over the
// drawing and sometimes a taper where the pen lands or lifts.
type pressure struct {
	swell, cycles, phase float64
	land, lift           float64
}

func newPressure(r *rand.Rand, s *style) pressure {
	p := pressure{
		swell:  between(r, 0, s.swell),
		cycles: between(r, 0.05, 0.15),
		phase:  between(r, 0, 2*math.Pi),
	}
	if r.Float64() < s.taperEnds {
		p.land = between(r, 0, 0.5)
	}
	if r.Float64() < s.taperEnds {
		p.lift = between(r, 0, 0.6)
	}
	return p
}

// at returns the share of the width at t of a stroke, 0 to 1, and step along
// the whole drawing.
func (p pressure) at(t, step float64) float64 {
	w := 1 + p.swell*math.Sin(p.cycles*step+p.phase)
	w *= 1 - p.land*max(0, 1-t/0.2)
	return w * (1 - p.lift*max(0, 1-(1-t)/0.25))
}
