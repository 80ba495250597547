package shapes

import (
	"bytes"
	"fmt"
	"image"
	"image/draw"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/dataset"
)

func mustRenderer(t testing.TB, o Options) *Renderer {
	t.Helper()
	g, err := NewRenderer(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestSheet writes contact sheets, for the eye, to the folder SCUMBLE_SHEETS.
func TestSheet(t *testing.T) {
	folder := os.Getenv("SCUMBLE_SHEETS")
	if folder == "" {
		t.Skip("set SCUMBLE_SHEETS to a folder to write contact sheets")
	}
	for name, o := range map[string]Options{
		"garments": {Classes: Garments(), Count: 400},
		"others":   {Classes: Classes()[garments:], Count: 400},
		"held":     {Held: true, Count: 800},
		"colour":   {Channels: 3, Size: 32, Count: 600},
		"large":    {Size: 64, Count: 300},
	} {
		set, err := Render(o)
		if err != nil {
			t.Fatal(err)
		}
		in := dataset.Grid(set, 24)
		if o.Size == 64 {
			in = dataset.Grid(set, 10)
		}
		by, b := 2, in.Bounds()
		out := image.NewRGBA(image.Rect(0, 0, b.Dx()*by, b.Dy()*by))
		for y := range b.Dy() {
			for x := range b.Dx() {
				draw.Draw(out, image.Rect(x*by, y*by, x*by+by, y*by+by), image.NewUniform(in.At(x, y)), image.Point{}, draw.Src)
			}
		}
		if err := dataset.WritePNG(filepath.Join(folder, name+".png"), out); err != nil {
			t.Fatal(err)
		}
	}
}

// An image is a function of the options, the seed and its number alone.
func TestDrawIsAFunctionOfSeedAndNumber(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Options{Seed: rapid.Uint64().Draw(t, "seed"), Size: rapid.IntRange(16, 64).Draw(t, "size"),
			Channels: rapid.SampledFrom([]int{1, 3}).Draw(t, "channels"), Held: rapid.Bool().Draw(t, "held")}
		i := rapid.IntRange(0, 1<<50).Draw(t, "i")
		g, err := NewRenderer(o)
		if err != nil {
			t.Fatal(err)
		}
		first, label := g.Draw(i)
		g.Draw(rapid.IntRange(0, 1000).Draw(t, "other")) // Which leaves nothing behind.
		again, same := g.Draw(i)
		if label != same || !bytes.Equal(first, again) {
			t.Fatalf("image %d differs the second time", i)
		}
		o.Seed++
		other, _ := NewRenderer(o)
		if p, _ := other.Draw(i); bytes.Equal(p, first) {
			t.Fatalf("image %d is the same with another seed", i)
		}
	})
}

// Every class draws something in every image: its longer side fills the frame
// where it is a garment, and the corners stay black.
func TestEveryClassFillsTheFrame(t *testing.T) {
	for k, class := range Classes() {
		for _, held := range []bool{false, true} {
			g := mustRenderer(t, Options{Classes: []string{class}, Seed: 3, Held: held})
			for i := range 150 {
				pixels, _ := g.Draw(i)
				x0, x1, y0, y1, lit := 28, -1, 28, -1, 0
				for j, p := range pixels {
					if p > 12 {
						x0, x1, y0, y1 = min(x0, j%28), max(x1, j%28), min(y0, j/28), max(y1, j/28)
						lit++
					}
				}
				if lit < 25 {
					t.Fatalf("%s, held %t, image %d: %d pixels are lit, want at least 25", class, held, i, lit)
				}
				longer := max(x1-x0, y1-y0) + 1
				if k < garments && longer < 22 {
					t.Fatalf("%s, held %t, image %d is %d pixels long, want at least 22 of 28", class, held, i, longer)
				}
			}
		}
	}
}

// The two styles differ in distribution: held-out measures lie beyond the
// public ranges half of the time.
func TestHeldSpansLieOutside(t *testing.T) {
	outside := 0
	for i := range 2000 {
		if v := newHand(1, i, false).span(2, 4); v < 2 || v >= 4 {
			t.Fatalf("public measure %g is outside [2, 4)", v)
		}
		v := newHand(1, i, true).span(2, 4)
		if v < 1.6 || v > 4.4 {
			t.Fatalf("held-out measure %g is farther out than a fifth of the range", v)
		}
		if v < 2 || v >= 4 {
			outside++
		}
	}
	if outside < 880 || outside > 1120 { // 1000 ± 5.4 standard deviations: false alarm 1e-7.
		t.Errorf("%d of 2000 held-out measures lie outside, want about half", outside)
	}
}

// Coverage is area: polygons inside the frame add up to their own.
func TestRasterCoversTheArea(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(3, 9).Draw(t, "corners")
		var p path
		for i := range n { // Convex: corners on an ellipse.
			d := toward((float64(i) + rapid.Float64Range(0, 0.9).Draw(t, "turn")) * 360 / float64(n))
			p = append(p, point{15 + 9*d.x, 16 + 11*d.y})
		}
		want := 0.0
		for i, a := range p {
			b := p[(i+1)%n]
			want += (a.x*b.y - b.x*a.y) / 2
		}
		var r raster
		r.reset(32)
		r.polygon(p)
		got := 0.0
		r.finish(func(_, _ int, cover float32) { got += float64(cover) })
		if math.Abs(got-math.Abs(want)) > 0.2 { // Covers below 1/512 are left out.
			t.Fatalf("covered %g, area is %g", got, math.Abs(want))
		}
		r.finish(func(x, y int, cover float32) { t.Fatalf("pixel %d, %d keeps %g", x, y, cover) })
	})
}

func TestLabelsFollowTheShare(t *testing.T) {
	g := mustRenderer(t, Options{GarmentShare: 0.8})
	worn := 0
	for i := range 4000 {
		if g.label(newHand(0, i, false)) < garments {
			worn++
		}
	}
	if worn < 3063 || worn > 3337 { // 3200 ± 5.4 standard deviations: false alarm 1e-7.
		t.Errorf("%d of 4000 are garments, want about 3200", worn)
	}
}

func TestLettersAreWhole(t *testing.T) {
	if n := len(letters()); n != 26 {
		t.Errorf("%d letters, want 26", n)
	}
}

func TestRefusals(t *testing.T) {
	for want, o := range map[string]Options{
		"size is 15":           {Size: 15},
		"channels are 2":       {Channels: 2},
		"count is -1":          {Count: -1},
		"garment share is 2":   {GarmentShare: 2},
		"no classes":           {Classes: []string{}},
		"no class \"hat\"":     {Classes: []string{"hat"}},
		"\"bag\" occurs twice": {Classes: []string{"bag", "bag"}},
	} {
		if _, err := Render(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}

func BenchmarkDraw(b *testing.B) {
	for name, o := range map[string]Options{"grey-28": {}, "colour-32": {Size: 32, Channels: 3}} {
		b.Run(name, func(b *testing.B) {
			g := mustRenderer(b, o)
			pixels := make([]byte, g.ImageSize())
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				g.DrawInto(i, pixels)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "images/s")
		})
	}
}

func ExampleRender() {
	set, err := Render(Options{Count: 100, Seed: 1, Classes: Garments()})
	if err != nil {
		panic(err)
	}
	fmt.Println(set.Len(), set.Height, set.Width, set.Channels, set.Classes[:3])
	// Output: 100 28 28 1 [t-shirt trousers pullover]
}

func ExampleRenderer_Draw() {
	g, err := NewRenderer(Options{Seed: 1})
	if err != nil {
		panic(err)
	}
	first, label := g.Draw(1234567) // No image before it is drawn.
	second, _ := g.Draw(1234567)
	fmt.Println(len(first), label < 20, bytes.Equal(first, second))
	// Output: 784 true true
}
