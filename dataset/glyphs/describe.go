package glyphs

import "math"

// Borders between the words of Describe, from rendered characters of known
// manner, which are public.
const (
	thinBelow  = 2.35 // Pixels of a 28-pixel image.
	boldAbove  = 3.25
	leftBelow  = -0.13 // Shift per unit of height.
	rightAbove = 0.33
)

// Describe returns the caption of a grey image of a character, white on black,
// that is called name: what its strokes' width and its slant are called. An image
// in between is called nothing, as in half of the captions of DrawCaptioned. It
// makes captions for labelled sets that have none, to try out models that take
// text.
func Describe(pixels []byte, size int, name string) string {
	width, slant := measure(pixels, size)
	weight, tilt := "", ""
	switch {
	case width < thinBelow:
		weight = "thin"
	case width > boldAbove:
		weight = "bold"
	}
	switch {
	case slant < leftBelow:
		tilt = "tilted left"
	case slant > rightAbove:
		tilt = "tilted right"
	}
	return Caption(name, weight, tilt)
}

// measure returns the mean width of strokes, in pixels of a 28-pixel image, and
// the slant: the shift to the right per unit of height, by second moments.
func measure(pixels []byte, size int) (width, slant float64) {
	at := func(x, y int) float64 {
		if x < 0 || y < 0 || x >= size || y >= size {
			return 0
		}
		return float64(pixels[y*size+x]) / 255
	}
	var ink, x, y, edge float64
	for j := range size {
		for i := range size {
			v := at(i, j)
			ink, x, y = ink+v, x+v*float64(i), y+v*float64(j)
			// The length of the outline: the integral of the gradient.
			dx, dy := (at(i+1, j)-at(i-1, j))/2, (at(i, j+1)-at(i, j-1))/2
			edge += math.Hypot(dx, dy)
		}
	}
	if ink == 0 || edge == 0 {
		return 0, 0
	}
	x, y = x/ink, y/ink
	var xy, yy float64
	for j := range size {
		for i := range size {
			v := at(i, j)
			xy, yy = xy+v*(float64(i)-x)*(float64(j)-y), yy+v*(float64(j)-y)*(float64(j)-y)
		}
	}
	if yy == 0 {
		yy = 1
	}
	// A stroke has an outline on both sides.
	return 2 * ink / edge * 28 / float64(size), -xy / yy
}
