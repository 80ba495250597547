package dataset

import (
	"image/color"
	"testing"
)

func TestGrid(t *testing.T) {
	s := &Set{Height: 2, Width: 2, Channels: 1, Classes: []string{"a", "b"},
		Labels: []int{1, 0, 1, 1}, Pixels: []byte{10, 10, 10, 10, 20, 20, 20, 20, 30, 30, 30, 30, 40, 40, 40, 40}}
	img := Grid(s, 2)
	if b := img.Bounds(); b.Dx() != 7 || b.Dy() != 7 {
		t.Fatalf("grid is %v, want 7x7", b)
	}
	// Row a holds image 1; row b holds 0 and 2; 3 does not fit.
	for _, c := range []struct {
		x, y int
		want byte
	}{{1, 1, 20}, {4, 1, 0x60}, {1, 4, 10}, {5, 5, 30}, {0, 0, 0x60}} {
		if got := img.RGBAAt(c.x, c.y); got != (color.RGBA{c.want, c.want, c.want, 255}) {
			t.Errorf("pixel %d,%d is %v, want %d", c.x, c.y, got, c.want)
		}
	}
	s.Labels, s.Classes = nil, nil
	if b := Grid(s, 3).Bounds(); b.Dx() != 10 || b.Dy() != 7 {
		t.Errorf("grid without labels is %v, want 10x7", b)
	}
}
