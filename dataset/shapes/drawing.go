package shapes

import "math"

// drawing is a thing of layers in outline units, and the memory that turning
// it into pixels needs.
type drawing struct {
	hand
	size, channels int
	layers         []layer
	noise          lattice
	folds          folding
	fill           float64 // Longer side of the thing / side of the image.
	turn, slant    float64 // Deviations, see warp.

	raster     raster
	paint      []colour  // [size, size], premultiplied by alpha.
	alpha      []float32 // [size, size]
	soft, pass []float32 // Blurred planes.
	plane      []float32 // One channel.
	points     []point
}

// layer is one outline and what it does.
type layer struct {
	points path
	kind   kind
	width  float64 // Of a line, units.
	fabric *fabric
	shade  float32 // Factor on the fabric, or strength of a seam.
}

type kind int

const (
	area   kind = iota // Paint a closed outline.
	band               // Paint a line.
	seam               // Darken (shade > 0) or lighten what lies under a line.
	mark               // Paint a closed outline, but on the thing only.
	cutout             // Take away what lies under a closed outline.
)

func (d *drawing) area(f *fabric, shade float64, p path) {
	d.layers = append(d.layers, layer{points: p, kind: area, fabric: f, shade: float32(shade)})
}

func (d *drawing) band(f *fabric, shade, width float64, p path) {
	d.layers = append(d.layers, layer{points: p, kind: band, fabric: f, shade: float32(shade), width: width})
}

func (d *drawing) seam(strength, width float64, p path) {
	d.layers = append(d.layers, layer{points: p, kind: seam, shade: float32(strength), width: width})
}

func (d *drawing) mark(f *fabric, shade float64, p path) {
	d.layers = append(d.layers, layer{points: p, kind: mark, fabric: f, shade: float32(shade)})
}

func (d *drawing) cutout(p path) {
	d.layers = append(d.layers, layer{points: p, kind: cutout})
}

func (d *drawing) reset(h hand, size, channels int) {
	d.hand, d.size, d.channels = h, size, channels
	d.layers = d.layers[:0]
	d.noise.fill(h)
	d.raster.reset(size)
	if cap(d.alpha) < size*size {
		d.paint, d.alpha = make([]colour, size*size), make([]float32, size*size)
		d.soft, d.pass, d.plane = make([]float32, size*size), make([]float32, size*size), make([]float32, size*size)
	}
	d.paint, d.alpha = d.paint[:size*size], d.alpha[:size*size]
	d.soft, d.pass, d.plane = d.soft[:size*size], d.pass[:size*size], d.plane[:size*size]
	clear(d.paint)
	clear(d.alpha)
	d.fill, d.turn, d.slant = h.between(0.93, 1), 0.02, 0.015
	if h.held {
		d.fill = h.between(0.9, 0.97)
	}
	d.folds = h.folding()
}

// render paints the layers, bent and framed: the box of the thing is centred.
func (d *drawing) render() {
	bend := d.warp(d.turn, d.slant, 0.006)
	if d.held {
		bend = d.warp(2*d.turn+0.02, 2*d.slant, 0.013)
	}
	low, high := point{math.Inf(1), math.Inf(1)}, point{math.Inf(-1), math.Inf(-1)}
	for _, l := range d.layers {
		for i, p := range l.points {
			q := bend.at(p)
			l.points[i] = q
			if l.kind == area || l.kind == band {
				r := l.width / 2
				low = point{min(low.x, q.x-r), min(low.y, q.y-r)}
				high = point{max(high.x, q.x+r), max(high.y, q.y+r)}
			}
		}
	}
	size := float64(d.size)
	scale := d.fill * size / max(high.x-low.x, high.y-low.y, 1e-6)
	shift := point{size / 2, size / 2}.minus(low.to(high, 0.5).times(scale))
	for _, l := range d.layers {
		d.points = d.points[:0]
		for _, p := range l.points {
			d.points = append(d.points, p.times(scale).plus(shift))
		}
		if l.width > 0 {
			d.raster.stroke(d.points, max(l.width*scale, size/56)) // No thinner than half a pixel of 28.
		} else {
			d.raster.polygon(d.points)
		}
		d.lay(&l, scale, shift)
	}
}

func (d *drawing) lay(l *layer, scale float64, shift point) {
	inverse := 1 / scale
	d.raster.finish(func(x, y int, cover float32) {
		i := y*d.size + x
		switch l.kind {
		case cutout:
			d.alpha[i] *= 1 - cover
			d.paint[i] = d.paint[i].times(1 - cover)
		case seam:
			k := l.shade * cover
			for c := range 3 {
				if k >= 0 {
					d.paint[i][c] *= 1 - k
				} else {
					d.paint[i][c] -= k * (d.alpha[i] - d.paint[i][c])
				}
			}
		default:
			if l.kind == mark {
				cover *= d.alpha[i]
			}
			tint := l.fabric.at((float64(x)+0.5-shift.x)*inverse, (float64(y)+0.5-shift.y)*inverse)
			shade := l.shade * cover
			for c := range 3 {
				d.paint[i][c] += shade*tint[c] - cover*d.paint[i][c]
			}
			if l.kind == area || l.kind == band {
				d.alpha[i] += cover * (1 - d.alpha[i])
			}
		}
	})
}
