package glyphs

import (
	"math/rand/v2"
	"strings"
)

// manner is what a caption may say of a character beside its name.
type manner struct {
	weight, tilt string  // "" leaves it open: the image is drawn as without a caption.
	width        float64 // Middle of the pen's width.
	grow         float64 // Middle of a font's thickening.
	slant        float64 // Middle of the slant.
}

// Words of captions, and the middles of the ranges they stand for. A pen of one
// weight differs by a quarter of a pixel on either side, a slant by 0.07.
var (
	weights = []manner{{}, {}, {weight: "thin", width: 1.6, grow: -0.35}, {weight: "bold", width: 3.9, grow: 0.85}}
	tilts   = []manner{{}, {}, {tilt: "upright", slant: 0.03}, {tilt: "tilted left", slant: -0.38}, {tilt: "tilted right", slant: 0.5}}
)

var digitWords = []string{"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}

// NameOf returns what a caption calls a character: "seven", "letter a".
func NameOf(class string) string {
	if len(class) == 1 && class[0] >= '0' && class[0] <= '9' {
		return digitWords[class[0]-'0']
	}
	return "letter " + strings.ToLower(class)
}

// CaptionWords returns every word that captions are made of.
func CaptionWords(classes []string) []string {
	words := []string{"a", "an", "thin", "bold", "upright", "tilted", "left", "right", ",", "letter"}
	for _, class := range classes {
		words = append(words, strings.Fields(NameOf(class))...)
	}
	return words
}

// Caption puts a name, a weight and a tilt into words, as the captions of
// DrawCaptioned are: "a bold seven, tilted left". weight and tilt may be "".
func Caption(name, weight, tilt string) string {
	words := []string{"a"}
	if weight != "" {
		words = append(words, weight)
	} else if strings.IndexByte("aeio", name[0]) >= 0 && name != "one" {
		words[0] = "an"
	}
	text := strings.Join(append(words, name), " ")
	if tilt != "" {
		text += ", " + tilt
	}
	return text
}

// DrawCaptioned draws image i into pixels as DrawInto does, but for a weight of
// stroke and a tilt that its caption names, half of the time each.
func (g *Renderer) DrawCaptioned(i int, pixels []byte) (label int, caption string) {
	r := newRandom(g.options.Seed, i)
	label = g.label(r)
	m := weights[r.IntN(len(weights))]
	tilt := tilts[r.IntN(len(tilts))]
	m.tilt, m.slant = tilt.tilt, tilt.slant
	g.draw(r, label, m, pixels)
	return label, Caption(NameOf(g.options.Classes[label]), m.weight, m.tilt)
}

// in returns the hand s in a manner.
func (m manner) in(s style) style {
	if m.weight != "" {
		s.widthLow, s.widthHigh = m.width-0.25, m.width+0.25
		s.growLow, s.growHigh = m.grow-0.1, m.grow+0.1
	}
	if m.tilt != "" {
		s.slantMean, s.slant, s.rotation = m.slant, 0.05, 0.02
	}
	return s
}

// draw draws a character of a class in a manner.
func (g *Renderer) draw(r *rand.Rand, label int, m manner, pixels []byte) {
	d := g.drawings.Get().(*drawing)
	defer g.drawings.Put(d)
	d.field.reset(g.options.Size)
	if r.Float64() < g.options.PenShare {
		s, ways := m.in(g.penHand), g.skeletons[label]
		d.drawPen(r, &s, ways[r.IntN(len(ways))])
		d.develop(r, &s, pixels[:g.ImageSize()], g.options.Channels)
		return
	}
	s, ways := m.in(g.fntHand), g.outlines[label]
	d.drawFont(r, &s, ways[r.IntN(len(ways))])
	d.develop(r, &s, pixels[:g.ImageSize()], g.options.Channels)
}
