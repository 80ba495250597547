package glyphs

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
	"golang.org/x/image/font/gofont/gobold"
)

func mustRenderer(t testing.TB, o Options) *Renderer {
	t.Helper()
	g, err := NewRenderer(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestDrawIsPure draws the same images in order, out of order and on many
// goroutines, with a renderer of their own and a shared one.
func TestDrawIsPure(t *testing.T) {
	for _, o := range []Options{{Seed: 7}, {Seed: 7, Channels: 3, Size: 40}, {Seed: 7, Held: true}} {
		o.Count = 200
		set, err := Render(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := set.Check(); err != nil {
			t.Fatal(err)
		}
		g := mustRenderer(t, o)
		var wait sync.WaitGroup
		for w := range 4 {
			wait.Go(func() {
				for i := o.Count - 1 - w; i >= 0; i -= 3 {
					pixels, label := g.Draw(i)
					if label != set.Labels[i] || !bytes.Equal(pixels, set.Image(i)) {
						t.Errorf("image %d differs from the same image drawn before", i)
					}
				}
			})
		}
		wait.Wait()
		o.Seed++
		other, err := Render(o)
		if err != nil {
			t.Fatal(err)
		}
		same := 0
		for i := range o.Count {
			if bytes.Equal(set.Image(i), other.Image(i)) {
				same++
			}
		}
		if same > 0 {
			t.Errorf("%d of %d images are the same under another seed", same, o.Count)
		}
	}
}

// TestFraming checks fixed images against the promise of the package comment:
// all are about the right size and near the middle, and ink at the edge is rare
// (a wide T or L that its centre of mass pushes out).
func TestFraming(t *testing.T) {
	const images = 400
	for _, size := range []int{28, 32, 64} {
		for _, held := range []bool{false, true} {
			g, err := NewRenderer(Options{Size: size, Seed: 11, Held: held})
			if err != nil {
				t.Fatal(err)
			}
			touching := 0
			for i := range images {
				pixels, label := g.Draw(i)
				if checkFrame(t, pixels, size, g.Classes()[label]) {
					touching++
				}
			}
			if touching > images/100 {
				t.Errorf("size %d, held %t: ink touches the edge in %d of %d images, want at most 1 %%", size, held, touching, images)
			}
		}
	}
}

// checkFrame reports whether an image's ink touches the edge, and fails the test
// where its size or place is off.
func checkFrame(t *testing.T, pixels []byte, size int, class string) bool {
	t.Helper()
	unit := float64(size) / 28
	low, high := point{1e9, 1e9}, point{-1, -1}
	var sum point
	mass, edge := 0.0, 0.0
	for i, v := range pixels {
		x, y := float64(i%size), float64(i/size)
		w := float64(v)
		sum, mass = sum.plus(point{x + 0.5, y + 0.5}.times(w)), mass+w
		if x == 0 || y == 0 || x == float64(size-1) || y == float64(size-1) {
			edge = max(edge, w)
		}
		if v >= 64 {
			low = point{min(low.x, x), min(low.y, y)}
			high = point{max(high.x, x+1), max(high.y, y+1)}
		}
	}
	// Boxes are drawn from 17 to 21 pixels of 28; soft edges and the ends of
	// tapered strokes blur them by up to 3.
	longest := max(high.x-low.x, high.y-low.y) / unit
	if longest < 14 || longest > 23 {
		t.Errorf("%q: ink's box is %.1f pixels of 28, want about 20", class, longest)
	}
	// Shifts are at most 2 · 0.45 on each axis; an L or a 7 must also move back
	// inside, and uneven pens move the mass a little.
	centre := point{float64(size) / 2, float64(size) / 2}
	if d := sum.times(1/mass).distance(centre) / unit; d > 4 {
		t.Errorf("%q: centre of mass is %.1f pixels off", class, d)
	}
	return edge > 128
}

// nearest returns the label of the training image closest to x, in L2.
func nearest(train *dataset.Set, x []byte) int {
	best, label := math.MaxInt, -1
	for i := range train.Len() {
		d := 0
		for k, v := range train.Image(i) {
			e := int(v) - int(x[k])
			if d += e * e; k%28 == 27 && d >= best {
				break
			}
		}
		if d < best {
			best, label = d, train.Labels[i]
		}
	}
	return label
}

// TestLabels checks labels by an outside judge: the nearest neighbour among
// public images of the pen names held-out ones, and among these the fonts'. A
// wrong table entry would cost a class; guessing scores 0.1.
func TestLabels(t *testing.T) {
	digits := Classes()[:10]
	render := func(o Options) *dataset.Set {
		o.Classes = digits
		s, err := Render(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	train := render(Options{PenShare: 1, Count: 2500})
	for name, c := range map[string]struct {
		test         *dataset.Set
		total, class float64
	}{
		"held": {render(Options{Held: true, Count: 300, Seed: 1}), 0.8, 0.4},
		"font": {render(Options{PenShare: -1, Count: 300, Seed: 2}), 0.75, 0.25},
	} {
		right, all := make([]float64, 10), make([]float64, 10)
		total := 0.0
		for i, label := range c.test.Labels {
			all[label]++
			if nearest(train, c.test.Image(i)) == label {
				right[label]++
				total++
			}
		}
		accuracy := total / float64(c.test.Len())
		t.Logf("%s: accuracy %.3f", name, accuracy)
		if accuracy < c.total {
			t.Errorf("%s: accuracy %.3f, want at least %g", name, accuracy, c.total)
		}
		for k := range digits {
			if right[k] < c.class*all[k] {
				t.Errorf("%s: class %s: %g of %g right", name, digits[k], right[k], all[k])
			}
		}
	}
}

func TestShares(t *testing.T) {
	g := mustRenderer(t, Options{DigitShare: 0.8})
	const n = 4000
	digits := 0
	pixels := make([]byte, g.ImageSize())
	for i := range n {
		if g.DrawInto(i, pixels) < 10 {
			digits++
		}
	}
	// Five standard deviations of a binomial: a false alarm once in 1.7 million.
	if want, slack := 0.8*n, 5*math.Sqrt(n*0.8*0.2); math.Abs(float64(digits)-want) > slack {
		t.Errorf("%d of %d images are digits, want %g ± %g", digits, n, want, slack)
	}
}

func TestSkeletons(t *testing.T) {
	count := map[string]map[bool]int{}
	seen := map[string]bool{}
	for _, s := range slices.Concat(digitSkeletons, letterSkeletons) {
		p, err := s.parse()
		if err != nil {
			t.Fatal(err)
		}
		if seen[s.path] {
			t.Errorf("%q: path occurs twice: %s", s.class, s.path)
		}
		seen[s.path] = true
		var all []point
		for _, line := range p {
			for _, j := range line {
				all = append(all, j.point)
			}
		}
		low, high := bounds(all)
		if low.x < 0 || low.y < 0 || high.x > 1 || high.y > 1 || high.y-low.y < 0.85 {
			t.Errorf("%q: box is %v to %v, want the height of the unit square: %s", s.class, low, high, s.path)
		}
		if count[s.class] == nil {
			count[s.class] = map[bool]int{}
		}
		count[s.class][s.held]++
	}
	for _, class := range Classes() {
		public, held := 1, 1
		if class <= "9" {
			public, held = 6, 3
		}
		if n := count[class]; n[false] < public || n[true] < held {
			t.Errorf("%q: %d public and %d held-out ways, want at least %d and %d", class, n[false], n[true], public, held)
		}
	}
	for _, bad := range []string{"", "1,2", "1,2 3", "a,b c,d", "1,2 3,4;"} {
		if _, err := (skeleton{path: bad}).parse(); err == nil {
			t.Errorf("path %q parses", bad)
		}
	}
}

func TestColours(t *testing.T) {
	r := newRandom(1, 1)
	for range 1000 {
		if page, full := colours(r); math.Abs(brightness(page)-brightness(full)) < 80 {
			t.Fatalf("%v on %v", full, page)
		}
	}
	pixels, _ := mustRenderer(t, Options{Channels: 3}).Draw(3)
	if slices.Max(pixels)-slices.Min(pixels) < 60 {
		t.Error("ink cannot be told from the page")
	}
}

func TestFontDirs(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "bold.ttf"), gobold.TTF, 0o644)
	os.WriteFile(filepath.Join(dir, "broken.otf"), gobold.TTF[:999], 0o644)
	os.WriteFile(filepath.Join(dir, "notes.txt"), []byte("x"), 0o644)
	n := len(embeddedFonts())
	for _, c := range []struct {
		folders []string
		want    int
	}{{nil, n}, {[]string{dir}, n + 1}} {
		got, err := loadFonts(c.folders, Classes())
		if err != nil {
			t.Fatal(err)
		}
		for i, outlines := range got {
			if len(outlines) != c.want {
				t.Errorf("%q: %d outlines with folders %v, want %d", Classes()[i], len(outlines), c.folders, c.want)
			}
		}
	}
	if _, err := loadFonts([]string{filepath.Join(dir, "nothing")}, Classes()); err == nil {
		t.Error("a missing font folder is passed over")
	}
	if _, err := loadFonts(nil, []string{"\u4e00"}); err == nil {
		t.Error("a character that no font has is passed over")
	}
}

func TestOptionsRefused(t *testing.T) {
	for want, o := range map[string]Options{
		"size is 15":         {Size: 15},
		"channels are 2":     {Channels: 2},
		"count is -1":        {Count: -1},
		"digit share is 1.5": {DigitShare: 1.5},
		"pen share is 2":     {PenShare: 2},
		"a range is NaN":     {Slant: math.NaN()},
		"no classes":         {Classes: []string{}},
		"has 2 characters":   {Classes: []string{"ab"}},
		"occurs twice":       {Classes: []string{"a", "a"}},
		"cannot write \"a\"": {Classes: []string{"a"}},
	} {
		if _, err := Render(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	if _, err := Render(Options{Classes: []string{"a", "é"}, PenShare: -1, Count: 3}); err != nil {
		t.Errorf("fonts alone: %v", err)
	}
}

// TestNone checks that a negative strength turns a distortion off.
func TestNone(t *testing.T) {
	s := penStyle()
	s.set(Options{Slant: -1, Rotation: -1, Distortion: -1, Shift: -1, StrokeMin: 5})
	b := newBend(newRandom(1, 1), &s)
	for _, p := range []point{{0, 0}, {1, 0.3}, {0.2, 1}} {
		if d := b.at(p).distance(point{p.x - 0.5, p.y - 0.5}); d > 1e-12 {
			t.Errorf("%v moves by %g", p, d)
		}
	}
	if s.widthLow != 5 || s.widthHigh != 5 {
		t.Errorf("widths are %g to %g, want 5", s.widthLow, s.widthHigh)
	}
}

func BenchmarkDraw(b *testing.B) {
	for name, share := range map[string]float64{"pen": 1, "font": -1} {
		b.Run(name, func(b *testing.B) {
			g := mustRenderer(b, Options{PenShare: share})
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
	set, err := Render(Options{Count: 100, Seed: 1, Classes: []string{"0", "1", "2"}})
	if err != nil {
		panic(err)
	}
	fmt.Println(set.Len(), set.Height, set.Width, set.Channels, set.Classes)
	// Output: 100 28 28 1 [0 1 2]
}

func ExampleRenderer_Draw() {
	g, err := NewRenderer(Options{Seed: 1})
	if err != nil {
		panic(err)
	}
	first, label := g.Draw(1234567) // No image before it is drawn.
	second, _ := g.Draw(1234567)
	fmt.Println(len(first), label < 36, bytes.Equal(first, second))
	// Output: 784 true true
}
