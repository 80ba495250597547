package shapes

import "math"

// raster fills polygons with exact coverage: every edge adds, to the pixels it
// crosses and to the ones right of them, the signed area on its right; sums
// along a row are then coverage times winding number.
type raster struct {
	size      int
	areas     []float32 // [size, size+2]
	top, last int       // Rows that hold anything.
}

func (r *raster) reset(size int) {
	r.size = size
	if need := size * (size + 2); cap(r.areas) < need {
		r.areas = make([]float32, need)
	} else {
		r.areas = r.areas[:need]
	}
	r.top, r.last = size, -1
}

// polygon adds a closed outline, in pixels.
func (r *raster) polygon(points []point) {
	for i, p := range points {
		r.edge(p, points[(i+1)%len(points)])
	}
}

// stroke adds the segments of a line of some width, in pixels.
func (r *raster) stroke(points []point, width float64) {
	for i := 1; i < len(points); i++ {
		a, b := points[i-1], points[i]
		d := b.minus(a)
		length := math.Hypot(d.x, d.y)
		if length < 1e-9 {
			continue
		}
		n := point{-d.y, d.x}.times(width / 2 / length)
		quad := [4]point{a.plus(n), b.plus(n), b.minus(n), a.minus(n)}
		r.polygon(quad[:])
	}
}

func (r *raster) edge(a, b point) {
	if a.y == b.y {
		return
	}
	sign := 1.0
	if a.y > b.y {
		a, b, sign = b, a, -1
	}
	limit := float64(r.size)
	slope := (b.x - a.x) / (b.y - a.y)
	low, high := max(a.y, 0), min(b.y, limit)
	if low >= high {
		return
	}
	r.top = min(r.top, int(low))
	for y := int(low); y < r.size && float64(y) < high; y++ {
		from, to := max(low, float64(y)), min(high, float64(y+1))
		height := (to - from) * sign
		x0 := max(0, min(limit, a.x+(from-a.y)*slope))
		x1 := max(0, min(limit, a.x+(to-a.y)*slope))
		if x0 > x1 {
			x0, x1 = x1, x0
		}
		row := r.areas[y*(r.size+2) : (y+1)*(r.size+2)]
		r.last = max(r.last, y)
		cell := int(x0)
		if x1 <= float64(cell+1) { // Within one pixel, vertical edges among them.
			right := float32(height * ((x0+x1)/2 - float64(cell)))
			row[cell] += float32(height) - right
			row[cell+1] += right
			continue
		}
		per := height / (x1 - x0)
		for ; float64(cell) < x1; cell++ {
			left, end := max(x0, float64(cell)), min(x1, float64(cell+1))
			part := per * (end - left)
			right := float32(part * ((left+end)/2 - float64(cell)))
			row[cell] += float32(part) - right
			row[cell+1] += right
		}
	}
}

// finish calls paint for each pixel that is covered, by up to 1, and forgets
// the outlines.
func (r *raster) finish(paint func(x, y int, cover float32)) {
	for y := r.top; y <= r.last; y++ {
		row := r.areas[y*(r.size+2) : (y+1)*(r.size+2)]
		sum := float32(0)
		for x := range r.size {
			sum += row[x]
			if cover := min(1, max(sum, -sum)); cover > 1.0/512 {
				paint(x, y, cover)
			}
		}
		clear(row)
	}
	r.top, r.last = r.size, -1
}
