package shapes

import "math"

// colour is red, green and blue, 0 to 1; grey images use the first.
type colour [3]float32

func (c colour) times(k float32) colour { return colour{c[0] * k, c[1] * k, c[2] * k} }

// pattern is how a fabric goes from one colour to the other.
type pattern int

const (
	plain pattern = iota
	stripes
	checks
	dots
	mottled
	fading
	blocks
	melange
	knit
	patches
	blossoms
	zigzag
	// Held out:
	argyle
	pinstripes
	ombre
	spots
	tartan
	crumpled
	patterns
)

// fabric paints a surface: two colours and what lies between them.
type fabric struct {
	base, second colour
	pattern      pattern
	sin, cos     float64 // Direction.
	frequency    float64 // Repeats per unit.
	phase        float64
	share        float64 // Of the second colour, where the pattern has one.
	noise        *lattice
}

// fabric chooses one. bold is the chance of a pattern that is seen at once.
func (h hand) fabric(d *drawing, bold float64) *fabric {
	f := &fabric{noise: &d.noise, base: h.colour(d.channels), second: h.colour(d.channels), phase: h.between(0, 1)}
	if h.chance(0.4) { // Two tones of one colour.
		f.second = f.base.times(float32(h.between(0.55, 0.85)))
	}
	var degrees float64
	switch {
	case h.chance(0.45):
		degrees = 90 // Across.
	case h.chance(0.3):
		degrees = 45
	}
	degrees += h.bell(3)
	f.sin, f.cos = math.Sincos(degrees * math.Pi / 180)
	f.frequency, f.share = h.between(4, 11), h.between(0.25, 0.6)
	switch {
	case h.held && h.chance(bold+0.15):
		f.pattern = argyle + pattern(h.IntN(int(patterns-argyle)))
	case h.held:
	case h.chance(bold):
		f.pattern = [...]pattern{stripes, stripes, stripes, checks, checks, dots, blocks, patches, blossoms, zigzag}[h.IntN(10)]
	case h.chance(0.6):
		f.pattern = [...]pattern{mottled, fading, melange, melange, knit}[h.IntN(5)]
		f.second = f.base.times(float32(h.between(0.6, 0.9)))
	}
	return f
}

// colour chooses one: all tones from dark to white, the light ones more often.
func (h hand) colour(channels int) colour {
	tone := float32(1 - 0.8*math.Pow(h.Float64(), 1.4))
	if channels == 1 || h.chance(0.25) {
		return colour{tone, tone, tone}
	}
	var c colour
	for i := range c {
		c[i] = tone * float32(h.between(0.25, 1))
	}
	return c
}

// tone is a neighbour of a colour, darker or lighter by up to by.
func (h hand) tone(c colour, by float64) colour {
	k := float32(h.between(-by, by))
	for i := range c {
		c[i] = max(0.15, min(1, c[i]+k))
	}
	return c
}

// at returns the colour at a place in units.
func (f *fabric) at(x, y float64) colour {
	if f.pattern == plain {
		return f.base
	}
	m := f.mix(x, y)
	c := f.base
	for i := range c {
		c[i] += m * (f.second[i] - c[i])
	}
	return c
}

// mix returns how much of the second colour is at (x, y), 0 to 1.
func (f *fabric) mix(x, y float64) float32 {
	u, v := f.cos*x+f.sin*y, f.cos*y-f.sin*x
	n := f.frequency
	switch f.pattern {
	case stripes:
		return f.band(u*n + f.phase)
	case checks:
		return (f.band(u*n+f.phase) + f.band(v*n+f.phase)) / 2
	case dots:
		a, b := fraction(u*n*0.8+f.phase)-0.5, fraction(v*n*0.8+f.phase)-0.5
		return step(0.1+0.1*f.share-a*a-b*b, 0.08)
	case mottled:
		return f.noise.at(u*n+7*f.phase, v*n)
	case fading:
		return float32(max(0, min(1, 0.5+v+0.5*u+f.phase-0.5)))
	case blocks:
		return step(v-f.share+0.15, 0.02)
	case melange:
		return f.noise.at(3.1*n*u, 3.1*n*v)
	case knit:
		return 0.6*f.band(3*x*n) + 0.4*f.noise.at(4*n*x, 2*n*y)
	case patches:
		return step(float64(f.noise.at(u*n*0.6, v*n*0.6))-0.5, 0.06)
	case blossoms:
		return step(float64(f.noise.at(u*n*1.3, v*n*1.3))-0.62, 0.12)
	case zigzag:
		return f.band(v*n*0.7 + math.Abs(fraction(u*n*0.5)-0.5))
	case argyle:
		a, b := fraction((u+v)*n*0.45+f.phase), fraction((u-v)*n*0.45)
		return (step(a-0.5, 0.08) + step(b-0.5, 0.08)) / 2
	case pinstripes:
		w := 5 * float64(f.noise.at(3*u+f.phase*9, 0.5))
		return step(0.2-math.Abs(fraction(u*n+w)-0.5), 0.1)
	case ombre:
		t := float64(f.noise.at(1.5*x+f.phase*9, 1.5*y))
		return float32(max(0, min(1, 1.3*y+0.4*t-0.3)))
	case spots:
		t := math.Abs(float64(f.noise.at(u*n, v*n)) - 0.5)
		return step(0.09-t, 0.06)
	case tartan:
		a, b := f.band(u*n*0.5), f.band(v*n*0.5+f.phase)
		c := step(0.06-math.Abs(fraction(u*n*0.5)-0.8), 0.05)
		return min(1, 0.45*a+0.45*b+0.5*c)
	case crumpled:
		t := f.noise.at(u*n*0.7, v*n*0.7) - f.noise.at(u*n*0.7+0.35, v*n*0.7+0.35)
		return max(0, min(1, 0.5+1.2*t))
	}
	return 0
}

// band is a soft-edged stripe of the fabric's share, repeating at each unit.
func (f *fabric) band(t float64) float32 {
	return step(f.share/2-math.Abs(fraction(t)-0.5), 0.12)
}

func fraction(t float64) float64 { return t - math.Floor(t) }

// step goes from 0 to 1 around t = 0, over a width of soft on each side.
func step(t, soft float64) float32 {
	return float32(max(0, min(1, 0.5+0.5*t/soft)))
}
