package report

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// decimal is mantissa·10^exponent.
type decimal struct{ mantissa, exponent int }

// upper returns the smallest number with the given digits that is not below
// x ≥ 0.
func upper(x float64, digits int) decimal {
	d := nearest(x, digits)
	if d.value() < x {
		d.mantissa++
	}
	return d
}

// lower returns the largest number with the given digits that is not above
// x ≥ 0.
func lower(x float64, digits int) decimal {
	d := nearest(x, digits)
	if d.value() > x {
		d.mantissa--
	}
	return d
}

func nearest(x float64, digits int) decimal {
	s := strconv.FormatFloat(x, 'e', digits-1, 64)
	mantissa, exponent, _ := strings.Cut(s, "e")
	m, _ := strconv.Atoi(strings.Replace(mantissa, ".", "", 1)) // FormatFloat writes both.
	e, _ := strconv.Atoi(exponent)
	return decimal{m, e - (digits - 1)}
}

func (d decimal) value() float64 {
	v, _ := strconv.ParseFloat(strconv.Itoa(d.mantissa)+"e"+strconv.Itoa(d.exponent), 64) // Always a number.
	return v
}

// String writes the number without an exponent where that is readable.
func (d decimal) String() string { return plain(d.value()) }

// roundUp and roundDown write x ≥ 0 with some digits, on the safe side.
func roundUp(x float64, digits int) string   { return upper(x, digits).String() }
func roundDown(x float64, digits int) string { return lower(x, digits).String() }

// plain writes x exactly, with few zeros, and thousands in groups.
func plain(x float64) string {
	if a := math.Abs(x); a != 0 && (a < 1e-6 || a >= 1e15) {
		m, e, _ := strings.Cut(strconv.FormatFloat(x, 'e', -1, 64), "e")
		n, _ := strconv.Atoi(e)
		if m == "1" {
			return "10" + superscript(n)
		}
		return m + " × 10" + superscript(n)
	}
	return group(strconv.FormatFloat(x, 'f', -1, 64))
}

// group puts commas between thousands.
func group(s string) string {
	sign := ""
	if strings.HasPrefix(s, "-") {
		sign, s = "-", s[1:]
	}
	whole, rest, dot := strings.Cut(s, ".")
	var b strings.Builder
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	if dot {
		b.WriteString("." + rest)
	}
	return sign + b.String()
}

func count(n int) string { return group(strconv.Itoa(n)) }

func superscript(n int) string {
	return strings.NewReplacer("-", "⁻", "0", "⁰", "1", "¹", "2", "²", "3", "³", "4", "⁴",
		"5", "⁵", "6", "⁶", "7", "⁷", "8", "⁸", "9", "⁹").Replace(strconv.Itoa(n))
}

// formatEpsilon writes epsilon, rounded up.
func formatEpsilon(epsilon float64) string { return upper(epsilon, 4).String() }

// formatFactor writes e to the power of the epsilon that formatEpsilon writes,
// rounded up, so that a reader who checks it finds it.
func formatFactor(epsilon float64) string {
	epsilon = upper(epsilon, 4).value()
	f := math.Exp(epsilon) * (1 + 1e-12) // Covers the rounding of Exp.
	switch {
	case epsilon == 0:
		return "1"
	case f < 1000:
		return roundUp(f, 4)
	case f < 1e12:
		return count(int(math.Ceil(f)))
	default:
		return "10" + superscript(int(math.Floor(epsilon/math.Ln10))+1)
	}
}

// formatDelta writes delta, rounded up.
func formatDelta(delta float64) string { return roundUp(delta, 3) }

// oneIn writes delta as "1 in N", with N rounded down.
func oneIn(delta float64) string {
	n := math.Floor(1 / delta * (1 + 1e-12)) // 1/1e-5 is below 100000 in float64.
	if n >= 1e15 {
		return "1\u00a0in more than\u00a010¹⁵"
	}
	return "1\u00a0in\u00a0" + count(int(n))
}

// percentUp writes a bound on a rate, rounded up: to a tenth of a percent, or
// finer where that would make a bound below one into 100 %.
func percentUp(x float64) string {
	if p := math.Ceil(x*1000) / 10; p < 100 || x >= 1 {
		return strconv.FormatFloat(math.Min(100, p), 'f', 1, 64) + "\u00a0%"
	}
	d := lower(1-x, 2) // The share that stays hidden, which is below 0.001.
	return strconv.FormatFloat(100-100*d.value(), 'f', max(0, -d.exponent-2), 64) + "\u00a0%"
}

func percent(x float64) string { return strconv.FormatFloat(100*x, 'f', 1, 64) + "\u00a0%" }

func (s *Score) format(x float64) string {
	if s.Scale == Fraction {
		return percent(x)
	}
	return short(x)
}

// short writes x with four digits.
func short(x float64) string {
	v, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 4, 64), 64) // Always a number.
	return plain(v)
}

// clock writes t in UTC; at midnight, the date alone.
func clock(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	if t.Equal(day(t)) {
		return t.UTC().Format(time.DateOnly)
	}
	return t.UTC().Format(time.DateTime)
}
