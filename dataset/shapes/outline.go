package shapes

import "math"

// point is a place: in an outline x grows right of the middle line and y down,
// a whole thing being about 1 high or wide; after framing the unit is a pixel.
type point struct{ x, y float64 }

func (p point) plus(q point) point          { return point{p.x + q.x, p.y + q.y} }
func (p point) minus(q point) point         { return point{p.x - q.x, p.y - q.y} }
func (p point) times(k float64) point       { return point{p.x * k, p.y * k} }
func (p point) to(q point, t float64) point { return p.plus(q.minus(p).times(t)) }

// toward returns the unit vector at an angle in degrees, 0 right and 90 down.
func toward(degrees float64) point {
	sin, cos := math.Sincos(degrees * math.Pi / 180)
	return point{cos, sin}
}

// path is a line under construction.
type path []point

func from(x, y float64) path { return path{{x, y}} }

func (p path) line(x, y float64) path { return append(p, point{x, y}) }

// curve goes to (x, y) as a quadratic Bézier curve that is pulled towards (cx, cy).
func (p path) curve(cx, cy, x, y float64) path {
	const parts = 6
	a, c, b := p[len(p)-1], point{cx, cy}, point{x, y}
	for i := 1; i <= parts; i++ {
		t := float64(i) / parts
		p = append(p, a.to(c, t).to(c.to(b, t), t))
	}
	return p
}

// mirrored closes a right half, given from top to bottom, by its reflection.
func (p path) mirrored() path {
	out := p[:len(p):len(p)]
	for i := len(p) - 1; i >= 0; i-- {
		out = append(out, point{-p[i].x, p[i].y})
	}
	return out
}

// flipped is the reflection alone.
func (p path) flipped() path {
	out := make(path, len(p))
	for i, q := range p {
		out[i] = point{-q.x, q.y}
	}
	return out
}

// oval is a closed ellipse.
func oval(x, y, rx, ry float64) path {
	const corners = 20
	out := make(path, corners)
	for i := range out {
		d := toward(float64(i) * 360 / corners)
		out[i] = point{x + rx*d.x, y + ry*d.y}
	}
	return out
}

// box is a closed rectangle.
func box(x0, y0, x1, y1 float64) path { return path{{x0, y0}, {x1, y0}, {x1, y1}, {x0, y1}} }

// smooth rounds the corners of a closed outline (Chaikin 1974).
func (p path) smooth(times int) path {
	for range times {
		out := make(path, 0, 2*len(p))
		for i, a := range p {
			b := p[(i+1)%len(p)]
			out = append(out, a.to(b, 0.25), a.to(b, 0.75))
		}
		p = out
	}
	return p
}

// warp bends the plane: a turn, a slant and smooth waves, as cloth that is laid
// down is never quite straight.
type warp struct {
	sin, cos, slant float64
	waves           [3]struct {
		push, ahead point
		phase       float64
	}
}

func (h hand) warp(turn, slant, waves float64) *warp {
	w := &warp{slant: h.bell(slant)}
	w.sin, w.cos = math.Sincos(h.bell(turn))
	for i := range w.waves {
		w.waves[i].push = toward(h.between(0, 360)).times(h.bell(waves))
		w.waves[i].ahead = toward(h.between(0, 360)).times(h.between(3, 8))
		w.waves[i].phase = h.between(0, 2*math.Pi)
	}
	return w
}

func (w *warp) at(p point) point {
	q := p
	for i := range w.waves {
		v := &w.waves[i]
		q = q.plus(v.push.times(math.Sin(v.ahead.x*p.x + v.ahead.y*p.y + v.phase)))
	}
	q.x += w.slant * q.y
	return point{w.cos*q.x - w.sin*q.y, w.sin*q.x + w.cos*q.y}
}
