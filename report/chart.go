package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// chart is a line chart, laid out in the units of its SVG view box.
type chart struct {
	Title, X, Y, Note string
	Summary           string // For those who do not see it.
	Width, Height     int
	Left, Right       float64
	Top, Bottom       float64
	XTicks, YTicks    []tick
	Lines             []line
	Uncovered         bool
	Coverage          string
}

type tick struct {
	At    float64 // Position along the axis.
	Label string
}

type line struct {
	Name   string
	Class  string // s0 … s5: colour and dashes.
	Points string // Of a polyline.
	Single bool   // One point only: drawn as a dot.
	CX, CY float64
}

const lineStyles = 6

// newChart lays out c. Points may come in any order of x; they are joined in
// the order given.
func newChart(c *Curve) chart {
	ch := chart{
		Title: c.Title, X: c.X, Y: c.Y, Note: c.Note,
		Width: 420, Height: 262, Left: 58, Right: 404, Top: 12, Bottom: 210,
		Uncovered: !c.Covered.Releasable(), Coverage: c.Covered.words(),
	}
	x, y := newAxis(ch.Left, ch.Right), newAxis(ch.Bottom, ch.Top)
	for _, s := range c.Series {
		for i := range s.X {
			x.include(s.X[i])
			y.include(s.Y[i])
		}
	}
	if y.low >= 0 && y.low < (y.high-y.low)/2 {
		y.low = 0 // Start at zero where that costs little room.
	}
	ch.XTicks, ch.YTicks = x.fit(5), y.fit(5)
	var summary []string
	for i, s := range c.Series {
		if len(s.X) == 0 {
			continue
		}
		l := line{Name: s.Name, Class: fmt.Sprintf("s%d", i%lineStyles), Single: len(s.X) == 1, CX: x.place(s.X[0]), CY: y.place(s.Y[0])}
		var points []string
		for j := range s.X {
			points = append(points, coordinate(x.place(s.X[j]))+","+coordinate(y.place(s.Y[j])))
		}
		l.Points = strings.Join(points, " ")
		ch.Lines = append(ch.Lines, l)
		last := len(s.X) - 1
		summary = append(summary, fmt.Sprintf("%s goes from %s to %s", s.Name, short(s.Y[0]), short(s.Y[last])))
	}
	ch.Summary = fmt.Sprintf("Line chart of %s against %s: %s.", c.Y, c.X, strings.Join(summary, "; "))
	if len(summary) == 0 {
		ch.Summary = "Line chart without points."
	}
	return ch
}

func coordinate(x float64) string { return strconv.FormatFloat(x, 'f', 1, 64) }

// axis maps [low, high] to [from, to].
type axis struct{ low, high, from, to float64 }

func newAxis(from, to float64) *axis {
	return &axis{low: math.Inf(1), high: math.Inf(-1), from: from, to: to}
}

func (a *axis) include(x float64) {
	a.low, a.high = math.Min(a.low, x), math.Max(a.high, x)
}

// fit widens the axis to round numbers and returns about n ticks.
func (a *axis) fit(n int) []tick {
	if a.low > a.high {
		a.low, a.high = 0, 1
	}
	if a.high-a.low <= 1e-9*math.Max(math.Abs(a.low), math.Abs(a.high)) {
		pad := math.Max(math.Abs(a.high)/10, 1e-6)
		a.low, a.high = a.low-pad, a.high+pad
	}
	step := roundStep((a.high/2 - a.low/2) / float64(n) * 2) // Halved: the difference may overflow.
	first, last := math.Floor(a.low/step), math.Ceil(a.high/step)
	a.low, a.high = first*step, last*step
	var ticks []tick
	for i := 0.0; i <= last-first && i <= 20; i++ {
		v := (first + i) * step
		ticks = append(ticks, tick{At: a.place(v), Label: short(v)})
	}
	return ticks
}

// roundStep returns the smallest of 1, 2, 5 times a power of ten that is at
// least x.
func roundStep(x float64) float64 {
	p := math.Pow(10, math.Floor(math.Log10(x)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= x*(1-1e-9) {
			return m * p
		}
	}
	return 10 * p
}

func (a *axis) place(x float64) float64 {
	return a.from + (a.to-a.from)*((x-a.low)/(a.high-a.low))
}
