package glyphs

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gobolditalic"
	"golang.org/x/image/font/gofont/goitalic"
	"golang.org/x/image/font/gofont/gomedium"
	"golang.org/x/image/font/gofont/gomediumitalic"
	"golang.org/x/image/font/gofont/gomono"
	"golang.org/x/image/font/gofont/gomonobold"
	"golang.org/x/image/font/gofont/gomonobolditalic"
	"golang.org/x/image/font/gofont/gomonoitalic"
	"golang.org/x/image/font/gofont/goregular"
	"golang.org/x/image/font/sfnt"
	"golang.org/x/image/math/fixed"
)

// outline is a character of a font: closed contours of points, in the unit of
// its height, y down. Non-zero winding is inside.
type outline [][]point

// embeddedFonts returns the Go fonts, which are in the program itself.
func embeddedFonts() [][]byte {
	return [][]byte{goregular.TTF, goitalic.TTF, gomedium.TTF, gomediumitalic.TTF, gobold.TTF, gobolditalic.TTF,
		gomono.TTF, gomonoitalic.TTF, gomonobold.TTF, gomonobolditalic.TTF}
}

// loadFonts returns, for each class, its outlines in the embedded fonts and
// those found below the folders. A font that cannot be read, or lacks one of
// the classes, is left out; a folder that cannot be read is an error.
func loadFonts(folders, classes []string) ([][]outline, error) {
	var fonts [][]byte
	for _, folder := range folders {
		paths, err := fontFiles(folder)
		if err != nil {
			return nil, fmt.Errorf("look for fonts: %w", err)
		}
		for _, path := range paths {
			if data, err := os.ReadFile(path); err == nil {
				fonts = append(fonts, data)
			}
		}
	}
	out := make([][]outline, len(classes))
	add := func(data []byte, plainZero bool) {
		shapes, err := fontOutlines(data, classes, plainZero)
		if err != nil {
			return
		}
		for i, shape := range shapes {
			out[i] = append(out[i], shape)
		}
	}
	for _, data := range embeddedFonts() {
		add(data, true)
	}
	for _, data := range fonts {
		add(data, false)
	}
	if len(classes) > 0 && len(out[0]) == 0 {
		return nil, fmt.Errorf("no font has all of the %d characters; ask for fewer or add a font folder", len(classes))
	}
	return out, nil
}

// fontFiles lists the TrueType and OpenType files below a folder, sorted.
func fontFiles(folder string) ([]string, error) {
	var paths []string
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		switch strings.ToLower(filepath.Ext(path)) {
		case ".ttf", ".otf":
			if !d.IsDir() {
				paths = append(paths, path)
			}
		}
		return nil
	})
	slices.Sort(paths)
	return paths, err
}

// fontOutlines returns the outline of each class. The Go fonts' zero is
// slashed, which people rarely write: plainZero puts a narrowed O in its place.
func fontOutlines(data []byte, classes []string, plainZero bool) ([]outline, error) {
	f, err := sfnt.Parse(data)
	if err != nil {
		return nil, err
	}
	out := make([]outline, len(classes))
	for i, class := range classes {
		char, width := []rune(class)[0], 1.0
		if plainZero && char == '0' {
			char, width = 'O', 0.72
		}
		if out[i], err = fontOutline(f, char, width); err != nil {
			return nil, err
		}
	}
	return out, nil
}

var errNoGlyph = errors.New("font has no such glyph")

func fontOutline(f *sfnt.Font, char rune, width float64) (outline, error) {
	var buffer sfnt.Buffer
	index, err := f.GlyphIndex(&buffer, char)
	if err != nil {
		return nil, err
	}
	if index == 0 {
		return nil, errNoGlyph
	}
	const ppem = 1000
	segments, err := f.LoadGlyph(&buffer, index, fixed.I(ppem), &sfnt.LoadGlyphOptions{})
	if err != nil {
		return nil, err
	}
	shape := flatten(segments)
	var all []point
	for _, contour := range shape {
		all = append(all, contour...)
	}
	if len(all) < 3 {
		return nil, errNoGlyph
	}
	low, high := bounds(all)
	height := high.y - low.y
	if !(height > 0) {
		return nil, errNoGlyph
	}
	middle := (low.x + high.x) / 2
	for _, contour := range shape {
		for i, p := range contour {
			contour[i] = point{width*(p.x-middle)/height + 0.5, (p.y - low.y) / height}
		}
	}
	return shape, nil
}

// flatten replaces the curves of an outline by short lines.
func flatten(segments sfnt.Segments) outline {
	var out outline
	var at point
	place := func(p fixed.Point26_6) point { return point{float64(p.X) / 64, float64(p.Y) / 64} }
	add := func(p point) { out[len(out)-1] = append(out[len(out)-1], p); at = p }
	for _, s := range segments {
		p := [3]point{place(s.Args[0]), place(s.Args[1]), place(s.Args[2])}
		if s.Op == sfnt.SegmentOpMoveTo || len(out) == 0 {
			out = append(out, nil)
		}
		from := at
		switch s.Op {
		case sfnt.SegmentOpMoveTo:
			add(p[0])
		case sfnt.SegmentOpLineTo:
			// Long lines are cut, so that they bend with the page.
			for k := 1; k <= 3; k++ {
				add(from.to(p[0], float64(k)/3))
			}
		case sfnt.SegmentOpQuadTo:
			for k := 1; k <= 3; k++ {
				t := float64(k) / 3
				add(from.to(p[0], t).to(p[0].to(p[1], t), t))
			}
		case sfnt.SegmentOpCubeTo:
			for k := 1; k <= 5; k++ {
				t := float64(k) / 5
				a, b, c := from.to(p[0], t), p[0].to(p[1], t), p[1].to(p[2], t)
				add(a.to(b, t).to(b.to(c, t), t))
			}
		}
	}
	return out
}

// drawFont draws the outline into the field.
func (d *drawing) drawFont(r *rand.Rand, s *style, shape outline) {
	unit := float64(d.field.size) / 28
	curve := newBend(r, s)
	d.points, d.ends = d.points[:0], d.ends[:0]
	for _, contour := range shape {
		for _, p := range contour {
			d.points = append(d.points, curve.at(p))
		}
		d.ends = append(d.ends, len(d.points))
	}
	low, high := bounds(d.points)
	grow := between(r, s.growLow, s.growHigh) * unit // > 0 thickens the strokes, on each side.
	f := newFrame(low, high, d.massOfArea(), float64(d.field.size),
		between(r, s.boxLow, s.boxHigh)*unit, 2*grow, d.jitter(r, s, unit))
	for i, p := range d.points {
		d.points[i] = f.at(p)
	}
	d.contours = d.contours[:0]
	start := 0
	for _, end := range d.ends {
		d.contours = append(d.contours, d.points[start:end])
		start = end
	}
	d.softness = between(r, s.softLow, s.softHigh) * unit
	d.field.fill(d.contours, d.softness+max(grow, -grow))
	for i, v := range d.field.depth {
		d.field.depth[i] = v + float32(grow)
	}
}

// massOfArea is the centre of mass of the area within the contours (Green's
// theorem; holes turn the other way and count negative).
func (d *drawing) massOfArea() point {
	var sum point
	area, start := 0.0, 0
	for _, end := range d.ends {
		c := d.points[start:end]
		for i := range c {
			a, b := c[i], c[(i+1)%len(c)]
			cross := a.x*b.y - b.x*a.y
			area += cross
			sum = sum.plus(a.plus(b).times(cross / 3))
		}
		start = end
	}
	if area > -1e-9 && area < 1e-9 {
		low, high := bounds(d.points)
		return low.to(high, 0.5)
	}
	return sum.times(1 / area)
}
