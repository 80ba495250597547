package glyphs

import "math"

// field is a square image of depths: how far, in pixels, the centre of a pixel
// lies inside the ink (negative: outside). Depths make exact edges of any
// softness, and growing or thinning a shape is one addition.
type field struct {
	size  int
	depth []float32 // [size, size]
}

const outside = -1000 // Farther from the ink than any edge is soft.

func (f *field) reset(size int) {
	f.size = size
	if cap(f.depth) < size*size {
		f.depth = make([]float32, size*size)
	}
	f.depth = f.depth[:size*size]
	for i := range f.depth {
		f.depth[i] = outside
	}
}

// stroke adds a segment drawn by a round pen whose radius goes from ra to rb.
// reach is how far outside the ink depths still matter.
func (f *field) stroke(a, b point, ra, rb, reach float64) {
	r := max(ra, rb) + reach
	x0, x1 := f.span(min(a.x, b.x)-r, max(a.x, b.x)+r)
	y0, y1 := f.span(min(a.y, b.y)-r, max(a.y, b.y)+r)
	d := b.minus(a)
	inverse := 1 / max(d.x*d.x+d.y*d.y, 1e-12)
	for y := y0; y < y1; y++ {
		py := float64(y) + 0.5 - a.y
		row := f.depth[y*f.size : (y+1)*f.size]
		for x := x0; x < x1; x++ {
			px := float64(x) + 0.5 - a.x
			t := max(0, min(1, (px*d.x+py*d.y)*inverse))
			ex, ey := px-t*d.x, py-t*d.y
			depth := float32(ra + t*(rb-ra) - math.Sqrt(ex*ex+ey*ey))
			if depth > row[x] {
				row[x] = depth
			}
		}
	}
}

// span returns the pixels whose centres may lie in [low, high].
func (f *field) span(low, high float64) (from, to int) {
	from = int(max(0, math.Floor(low)))
	to = int(min(float64(f.size), math.Ceil(high)+1))
	return from, to
}

// fill sets the depths of a shape bounded by closed contours: the distance to
// the nearest edge, positive where the winding number is not zero.
func (f *field) fill(contours [][]point, reach float64) {
	// As strokes of radius 0, every contour leaves minus the distance to itself.
	for _, c := range contours {
		for i := range c {
			f.stroke(c[i], c[(i+1)%len(c)], 0, 0, reach)
		}
	}
	winding := make([]int8, f.size+1)
	for y := range f.size {
		centre := float64(y) + 0.5
		clear(winding)
		for _, c := range contours {
			for i := range c {
				a, b := c[i], c[(i+1)%len(c)]
				if (a.y <= centre) == (b.y <= centre) {
					continue
				}
				cross := a.x + (centre-a.y)/(b.y-a.y)*(b.x-a.x)
				// The first pixel whose centre lies right of the crossing.
				x := int(max(0, min(float64(f.size), math.Ceil(cross-0.5))))
				if a.y < b.y {
					winding[x]++
				} else {
					winding[x]--
				}
			}
		}
		turns := int8(0)
		for x := range f.size {
			turns += winding[x]
			if turns != 0 {
				f.depth[y*f.size+x] *= -1
			}
		}
	}
}

// ink turns a depth into coverage, 0 to 1, for an edge softness pixels wide.
func ink(depth, softness float64) float64 {
	t := max(0, min(1, depth/softness+0.5))
	return t * t * (3 - 2*t)
}
