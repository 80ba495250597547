package glyphs

import (
	"bytes"
	"math"
	"strings"
	"testing"
)

// TestCaptionsSayWhatIsDrawn: ink of thin and bold images, and the slant of tilted
// ones, differ as the words say.
func TestCaptionsSayWhatIsDrawn(t *testing.T) {
	g, err := NewRenderer(Options{Seed: 5, Classes: []string{"1", "I"}, PenShare: 0.7})
	if err != nil {
		t.Fatal(err)
	}
	ink, slant, count := map[string]float64{}, map[string]float64{}, map[string]float64{}
	pixels := make([]byte, g.ImageSize())
	known := map[string]bool{}
	for _, word := range CaptionWords(g.Classes()) {
		known[word] = true
	}
	for i := range 1200 {
		label, caption := g.DrawCaptioned(i, pixels)
		if !strings.Contains(caption, NameOf(g.Classes()[label])) {
			t.Fatalf("caption %q of class %q", caption, g.Classes()[label])
		}
		for _, word := range strings.Fields(strings.ReplaceAll(caption, ",", " ,")) {
			if !known[word] {
				t.Fatalf("caption %q has %q, which is not among its words", caption, word)
			}
		}
		again := make([]byte, g.ImageSize())
		if _, same := g.DrawCaptioned(i, again); same != caption || !bytes.Equal(again, pixels) {
			t.Fatal("an image does not depend on its number alone")
		}
		var sum, x, y float64
		for k, v := range pixels {
			sum, x, y = sum+float64(v), x+float64(v)*float64(k%28), y+float64(v)*float64(k/28)
		}
		var xy, yy float64
		for k, v := range pixels {
			dx, dy := float64(k%28)-x/sum, float64(k/28)-y/sum
			xy, yy = xy+float64(v)*dx*dy, yy+float64(v)*dy*dy
		}
		for _, word := range []string{"thin", "bold", "tilted left", "tilted right", "upright"} {
			if strings.Contains(caption, word) {
				ink[word], slant[word], count[word] = ink[word]+sum, slant[word]-xy/yy, count[word]+1
			}
		}
	}
	for word, n := range count {
		if n < 100 {
			t.Errorf("%q is in %g captions of 1200, want at least 100", word, n)
		}
		ink[word], slant[word] = ink[word]/n, slant[word]/n
	}
	if ink["bold"] < 1.5*ink["thin"] {
		t.Errorf("bold images have ink %g, thin ones %g, want 1.5 times as much", ink["bold"], ink["thin"])
	}
	if !(slant["tilted left"] < -0.15 && math.Abs(slant["upright"]) < 0.15 && slant["tilted right"] > 0.2) {
		t.Errorf("slants are %v, want left below -0.15, upright within 0.15, right above 0.2", slant)
	}
}

func TestCaption(t *testing.T) {
	for _, tc := range []struct{ name, weight, tilt, want string }{
		{"seven", "bold", "tilted left", "a bold seven, tilted left"},
		{"eight", "", "", "an eight"},
		{"one", "", "upright", "a one, upright"},
		{"letter a", "thin", "", "a thin letter a"},
	} {
		if got := Caption(tc.name, tc.weight, tc.tilt); got != tc.want {
			t.Errorf("caption is %q, want %q", got, tc.want)
		}
	}
}
