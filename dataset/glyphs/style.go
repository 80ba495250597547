package glyphs

import "math"

// style holds the ranges that random choices come from. Lengths are in pixels
// of a 28-pixel image, except where they say unit: the height of a character.
type style struct {
	wobbleLow, wobbleHigh float64 // Deviation of each point of a skeleton, unit.
	overshoot             float64 // Chance that an end of a stroke is too long or too short.
	widthLow, widthHigh   float64 // Pen width.
	swell                 float64 // Largest relative change of the width along a stroke.
	taperEnds             float64 // Chance that the pen lands, or lifts, lightly.
	growLow, growHigh     float64 // Thickening of a font's strokes on each side.

	warp                  float64 // Deviation of each wave of the elastic distortion, unit.
	cyclesLow, cyclesHigh float64 // Waves per unit.
	balance, taper        float64 // Deviations, see bend.
	stretch               float64 // Deviation of the logarithm of width / height.
	slantMean, slant      float64 // Mean and deviation.
	rotation              float64 // Deviation, radians.

	boxLow, boxHigh   float64 // Longer side of the ink's box.
	shift             float64 // Deviation of the position.
	softLow, softHigh float64 // Width of the edges.
	fade              float64 // Largest loss of ink.
}

// penStyle is the public hand: wide ranges, so that a model pre-trained on it
// has seen more than any one hand does.
func penStyle() style {
	return style{
		wobbleLow: 0.012, wobbleHigh: 0.045, overshoot: 0.3,
		widthLow: 1.5, widthHigh: 4, swell: 0.22, taperEnds: 0.35,
		warp: 0.03, cyclesLow: 0.4, cyclesHigh: 1.1,
		balance: 0.16, taper: 0.12, stretch: 0.17,
		slantMean: 0.12, slant: 0.2, rotation: 0.09,
		boxLow: 18.6, boxHigh: 20.4, shift: 0.45,
		softLow: 1.1, softHigh: 1.9, fade: 0.07,
	}
}

// fontStyle bends an outline less than a hand does, and sizes it more freely.
func fontStyle() style {
	s := penStyle()
	s.growLow, s.growHigh = -0.35, 0.7
	s.warp, s.balance, s.taper = 0.025, 0.1, 0.08
	s.slantMean, s.slant = 0.05, 0.18
	s.boxLow, s.boxHigh = 17, 21
	return s
}

// heldStyle is a hand of its own, for judging choices without private images:
// narrower than penStyle in the pen and the slant, off its centre, and wilder in
// shape, so that a model of the public hand leaves something to learn.
func heldStyle() style {
	s := penStyle()
	s.wobbleLow, s.wobbleHigh = 0.03, 0.05
	s.widthLow, s.widthHigh, s.swell = 2.2, 3.4, 0.3
	s.warp, s.cyclesLow, s.cyclesHigh = 0.05, 0.8, 1.5
	s.balance, s.stretch = 0.2, 0.25
	s.slantMean, s.slant, s.rotation = 0.3, 0.14, 0.05
	s.boxLow, s.boxHigh, s.shift = 19.8, 20.2, 0.2
	s.softLow, s.softHigh, s.fade = 1.2, 1.5, 0.04
	return s
}

// set applies the ranges the user asked for.
func (s *style) set(o Options) {
	if o.StrokeMin > 0 {
		s.widthLow = o.StrokeMin
	}
	if o.StrokeMax > 0 {
		s.widthHigh = o.StrokeMax
	}
	s.widthHigh = max(s.widthHigh, s.widthLow)
	s.slant *= factor(o.Slant)
	s.slantMean *= factor(o.Slant)
	s.rotation *= factor(o.Rotation)
	s.shift *= factor(o.Shift)
	for _, v := range []*float64{&s.warp, &s.balance, &s.taper, &s.stretch, &s.wobbleLow, &s.wobbleHigh} {
		*v *= factor(o.Distortion)
	}
}

// factor reads a strength: zero means 1, negative means none.
func factor(v float64) float64 {
	if v == 0 {
		return 1
	}
	return math.Max(v, 0)
}
