package dataset

import (
	"image"
	"image/color"
)

// Grid returns a contact sheet: one row of up to columns images for each class,
// in the order of the set, with a pixel of grey between them. Without labels
// the images fill rows one after the other.
func Grid(s *Set, columns int) *image.RGBA {
	columns = max(columns, 1)
	var rows [][]int
	if s.Labels == nil {
		for i := range s.Len() {
			if i%columns == 0 {
				rows = append(rows, nil)
			}
			rows[len(rows)-1] = append(rows[len(rows)-1], i)
		}
	} else {
		rows = make([][]int, len(s.Classes))
		for i, label := range s.Labels {
			if len(rows[label]) < columns {
				rows[label] = append(rows[label], i)
			}
		}
	}
	img := image.NewRGBA(image.Rect(0, 0, columns*(s.Width+1)+1, len(rows)*(s.Height+1)+1))
	for i := range img.Pix {
		img.Pix[i] = 0x60
		if i%4 == 3 {
			img.Pix[i] = 0xff
		}
	}
	for y, row := range rows {
		for x, i := range row {
			paint(img, x*(s.Width+1)+1, y*(s.Height+1)+1, s, i)
		}
	}
	return img
}

// paint copies image i of the set to (left, top).
func paint(img *image.RGBA, left, top int, s *Set, i int) {
	pixels := s.Image(i)
	for y := range s.Height {
		for x := range s.Width {
			p := pixels[(y*s.Width+x)*s.Channels:]
			c := color.RGBA{p[0], p[0], p[0], 255}
			if s.Channels == 3 {
				c = color.RGBA{p[0], p[1], p[2], 255}
			}
			img.SetRGBA(left+x, top+y, c)
		}
	}
}
