package shapes

import (
	"sync"

	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// letters returns the outlines of the capital letters of Go Bold, in units.
var letters = sync.OnceValue(func() [][]path {
	const em = 1 << 10
	f, err := sfnt.Parse(gobold.TTF)
	if err != nil {
		panic("shapes: embedded font: " + err.Error()) // A test draws every letter.
	}
	unit := func(p fixed.Point26_6) point { return point{float64(p.X) / 64 / em, float64(p.Y) / 64 / em} }
	var buffer sfnt.Buffer
	var out [][]path
	for c := 'A'; c <= 'Z'; c++ {
		index, err := f.GlyphIndex(&buffer, c)
		if err != nil || index == 0 {
			continue
		}
		segments, err := f.LoadGlyph(&buffer, index, fixed.I(em), &sfnt.LoadGlyphOptions{})
		if err != nil {
			continue
		}
		var contours []path
		for _, s := range segments {
			last := len(contours) - 1
			a := unit(s.Args[0])
			switch s.Op {
			case sfnt.SegmentOpMoveTo:
				contours = append(contours, from(a.x, a.y))
			case sfnt.SegmentOpLineTo:
				contours[last] = contours[last].line(a.x, a.y)
			case sfnt.SegmentOpQuadTo:
				b := unit(s.Args[1])
				contours[last] = contours[last].curve(a.x, a.y, b.x, b.y)
			}
		}
		out = append(out, contours)
	}
	return out
})
