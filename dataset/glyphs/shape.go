package glyphs

import (
	"math"
	"math/rand/v2"
)

// point is a place on the page. Skeletons and outlines use the unit square, y
// down; after framing the unit is a pixel.
type point struct{ x, y float64 }

func (p point) plus(q point) point          { return point{p.x + q.x, p.y + q.y} }
func (p point) minus(q point) point         { return point{p.x - q.x, p.y - q.y} }
func (p point) times(k float64) point       { return point{p.x * k, p.y * k} }
func (p point) length() float64             { return math.Hypot(p.x, p.y) }
func (p point) to(q point, t float64) point { return p.plus(q.minus(p).times(t)) }
func (p point) distance(q point) float64    { return q.minus(p).length() }

// bend moves points of the unit square: a smooth elastic distortion, a change
// of balance between upper and lower half, then stretch, slant and rotation.
type bend struct {
	waves    [3]wave
	balance  float64 // > 0 grows the upper half at the cost of the lower.
	taper    float64 // > 0 widens the bottom.
	stretch  float64 // Width / height.
	slant    float64 // Horizontal shift per unit of height, > 0 leans right.
	sin, cos float64 // Rotation.
}

// wave is one term of the elastic distortion: a displacement of constant
// direction that varies as a sine across the page.
type wave struct {
	push      point
	frequency point // Radians per unit.
	phase     float64
}

func newBend(r *rand.Rand, s *style) *bend {
	b := &bend{
		balance: bell(r, 0, s.balance),
		taper:   bell(r, 0, s.taper),
		stretch: math.Exp(bell(r, 0, s.stretch)),
		slant:   bell(r, s.slantMean, s.slant),
	}
	b.sin, b.cos = math.Sincos(bell(r, 0, s.rotation))
	for i := range b.waves {
		turn, size := between(r, 0, 2*math.Pi), bell(r, 0, s.warp)
		ahead, cycles := between(r, 0, 2*math.Pi), between(r, s.cyclesLow, s.cyclesHigh)
		b.waves[i] = wave{
			push:      point{size * math.Cos(turn), size * math.Sin(turn)},
			frequency: point{2 * math.Pi * cycles * math.Cos(ahead), 2 * math.Pi * cycles * math.Sin(ahead)},
			phase:     between(r, 0, 2*math.Pi),
		}
	}
	return b
}

func (b *bend) at(p point) point {
	q := p
	for _, w := range b.waves {
		q = q.plus(w.push.times(math.Sin(w.frequency.x*p.x + w.frequency.y*p.y + w.phase)))
	}
	x, y := q.x-0.5, q.y
	x *= 1 + b.taper*(y-0.5)
	y += b.balance * y * (1 - y)
	y -= 0.5
	x = x*b.stretch - b.slant*y
	return point{b.cos*x - b.sin*y, b.sin*x + b.cos*y}
}

// frame says how a drawn shape becomes pixels: p·scale + shift.
type frame struct {
	scale float64
	shift point
}

// newFrame scales the box of the ink to box pixels on its longer side and puts
// the centre of mass at the middle of a size-pixel image, moved by jitter.
// margin is the part of the box that does not scale: the pen's width.
func newFrame(low, high, mass point, size, box, margin float64, jitter point) frame {
	longest := max(high.x-low.x, high.y-low.y, 1e-6)
	f := frame{scale: max(box-margin, 1) / longest}
	middle := point{size / 2, size / 2}.plus(jitter)
	f.shift = middle.minus(mass.times(f.scale))
	// Ink that would leave the image is moved back in: no character is cut.
	f.shift.x += inside(low.x*f.scale+f.shift.x-margin/2, high.x*f.scale+f.shift.x+margin/2, size)
	f.shift.y += inside(low.y*f.scale+f.shift.y-margin/2, high.y*f.scale+f.shift.y+margin/2, size)
	return f
}

// inside returns the shift that brings [low, high] into [0, size], as far as it fits.
func inside(low, high, size float64) float64 {
	switch {
	case high-low > size:
		return size/2 - (low+high)/2
	case low < 0:
		return -low
	case high > size:
		return size - high
	}
	return 0
}

func (f frame) at(p point) point { return p.times(f.scale).plus(f.shift) }

// bounds returns the corners of the box around the points.
func bounds(points []point) (low, high point) {
	low, high = point{math.Inf(1), math.Inf(1)}, point{math.Inf(-1), math.Inf(-1)}
	for _, p := range points {
		low = point{min(low.x, p.x), min(low.y, p.y)}
		high = point{max(high.x, p.x), max(high.y, p.y)}
	}
	return low, high
}
