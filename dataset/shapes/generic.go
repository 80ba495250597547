package shapes

import (
	"math"
	"slices"
)

// Things that are not garments are painted as garments are, so that the model
// learns of light and cloth from both. They are placed more freely.

func (d *drawing) loose() {
	d.fill, d.turn, d.slant = d.between(0.55, 1), 0.5, 0.1
}

func (d *drawing) regular(corners int, x, y, r float64) path {
	p, start := make(path, corners), d.between(0, 360)
	for i := range p {
		p[i] = point{x, y}.plus(toward(start + 360*float64(i)/float64(corners)).times(r * d.between(0.8, 1)))
	}
	return p
}

// starAt has 5 to 9 points.
func (d *drawing) starAt(x, y, r float64) path {
	n, deep, start := 5+d.IntN(5), d.span(0.35, 0.65), d.between(0, 360)
	p := make(path, 2*n)
	for i := range p {
		k := r
		if i%2 == 1 {
			k *= deep
		}
		p[i] = point{x, y}.plus(toward(start + 180*float64(i)/float64(n)).times(k))
	}
	return p
}

// blobAt is a closed smooth outline whose radius varies by up to vary.
func (d *drawing) blobAt(x, y, r, vary float64) path {
	n := 6 + d.IntN(5)
	p := make(path, n)
	for i := range p {
		p[i] = point{x, y}.plus(toward(360 * float64(i) / float64(n)).times(r * (1 - vary*d.Float64())))
	}
	return p.smooth(3)
}

func (d *drawing) polygon() {
	d.loose()
	f := d.fabric(d, 0.4)
	p := d.regular(3+d.IntN(5), 0, 0, 0.5)
	d.area(f, 1, p)
	if d.chance(0.3) { // A hole.
		hole := slices.Clone(p)
		k := d.span(0.3, 0.7)
		for i := range hole {
			hole[i] = hole[i].times(k)
		}
		d.cutout(hole)
	}
}

func (d *drawing) ellipse() {
	d.loose()
	f := d.fabric(d, 0.4)
	r := d.span(0.2, 0.5)
	d.area(f, 1, oval(0, 0, 0.5, r))
	if d.chance(0.35) {
		k := d.span(0.3, 0.75)
		d.cutout(oval(0, 0, 0.5*k, r*k))
	}
	if !d.held && d.chance(0.4) { // A ball.
		d.folds.rounding = float32(d.between(0.35, 0.6))
	}
}

func (d *drawing) star() {
	d.loose()
	d.area(d.fabric(d, 0.4), 1, d.starAt(0, 0, 0.5))
}

func (d *drawing) blob() {
	d.loose()
	d.area(d.fabric(d, 0.4), 1, d.blobAt(0, 0, 0.5, d.span(0.3, 0.7)))
}

// leaf is pointed at both ends, with veins.
func (d *drawing) leaf() {
	d.loose()
	d.turn = 0.9
	f := d.fabric(d, 0.1)
	w := d.span(0.1, 0.36)
	p := from(0, 0).curve(w*1.6, d.span(0.15, 0.4), w*0.9, 0.5).curve(w*0.5, 0.85, 0, 1)
	d.area(f, 1, p.mirrored())
	d.band(f, d.between(0.5, 0.9), 0.03, path{{0, 0.95}, {0, 1.2}})
	strength := d.between(-0.4, 0.5)
	d.seam(strength, 0.02, path{{0, 0.05}, {0, 1}})
	for i := range 3 + d.IntN(4) {
		y := 0.9 - 0.16*float64(i)
		vein := path{{0, y}, {w * 0.9, y - d.between(0.15, 0.25)}}
		d.seam(strength, 0.015, vein)
		d.seam(strength, 0.015, vein.flipped())
	}
}

// vessel has the profile of a bottle, a vase or a cup, perhaps with an ear.
func (d *drawing) vessel() {
	d.fill, d.turn = d.between(0.7, 1), 0.06
	f := d.fabric(d, 0.3)
	mouth, neck, belly, foot := d.span(0.06, 0.3), d.span(0.06, 0.25), d.span(0.2, 0.42), d.span(0.12, 0.3)
	at := d.span(0.25, 0.5)
	if d.chance(0.5) {
		y := d.between(0.3, 0.5)
		d.band(f, 0.85, d.span(0.05, 0.08), from(belly*0.8, y).curve(belly+0.3, y, belly+0.22, y+0.2).curve(belly+0.15, y+0.35, belly*0.8, y+0.35))
	}
	p := from(0, 0).line(mouth, 0).curve(neck, 0.08, neck, at*0.7).curve(neck, at, belly, at+0.2).
		curve(belly*1.05, 0.85, foot, 1).line(0, 1.01)
	d.area(f, 1, p.mirrored())
	d.mark(f, 0.4, oval(0, 0, mouth*0.95, 0.03))
	if !d.held {
		d.folds.side[0] = float32(d.bell(0.5))
	}
}

// figure is a random outline that is its own mirror image.
func (d *drawing) figure() {
	d.fill, d.turn = d.between(0.75, 1), 0.15
	f := d.fabric(d, 0.35)
	n := 5 + d.IntN(5)
	p := path{{0, 0}}
	for i := range n {
		p = append(p, point{d.span(0.05, 0.5), (float64(i) + d.between(0.2, 0.8)) / float64(n)})
	}
	p = append(p, point{0, 1}).mirrored()
	if d.chance(0.6) {
		p = p.smooth(1 + d.IntN(3))
	}
	d.area(f, 1, p)
	if d.chance(0.4) {
		d.seam(0.4, 0.02, path{{0, 0}, {0, 1}})
	}
	if d.chance(0.3) {
		d.mark(d.fabric(d, 0.3), 1, box(-1, d.between(0.3, 0.5), 1, d.between(0.55, 0.75)))
	}
}

func (d *drawing) letter() {
	d.fill, d.turn, d.slant = d.between(0.6, 1), 0.15, 0.15
	f := d.fabric(d, 0.35)
	contours := letters()[d.IntN(len(letters()))]
	for i, c := range contours {
		c = slices.Clone(c)
		if i > 0 && turning(c) != turning(contours[0]) {
			d.cutout(c)
			continue
		}
		d.area(f, 1, c)
	}
}

// turning says which way round a closed outline goes.
func turning(p path) bool {
	sum := 0.0
	for i, a := range p {
		b := p[(i+1)%len(p)]
		sum += a.x*b.y - b.x*a.y
	}
	return sum > 0
}

// arrangement is several shapes, one over the other.
func (d *drawing) arrangement() {
	d.fill, d.turn = 1, 0.3
	for range 2 + d.IntN(4) {
		x, y, r := d.between(-0.5, 0.5), d.between(-0.5, 0.5), d.span(0.15, 0.45)
		f, shade := d.fabric(d, 0.35), d.between(0.6, 1)
		switch d.IntN(5) {
		case 0:
			d.area(f, shade, d.regular(3+d.IntN(4), x, y, r))
		case 1:
			d.area(f, shade, oval(x, y, r, r*d.between(0.5, 1)))
		case 2:
			d.area(f, shade, d.blobAt(x, y, r, 0.5))
		case 3:
			d.area(f, shade, d.starAt(x, y, r))
		default:
			d.band(f, shade, d.span(0.03, 0.12), from(x-r, y).curve(x, y-2*r, x+r, y+d.between(-r, r)))
		}
	}
}

// texture fills the frame.
func (d *drawing) texture() {
	d.turn = math.Pi / 4
	f := d.fabric(d, 1)
	d.area(f, 1, box(-1, -1, 1, 1))
	d.fill = d.between(1.5, 3)
	d.folds.rounding = 0 // It has no edge.
}
