package glyphs

import (
	"strings"
	"testing"
)

// TestDescribe: on images drawn to captions, what is described is what was meant,
// mostly; a word never turns into its opposite.
func TestDescribe(t *testing.T) {
	g, err := NewRenderer(Options{Seed: 11, Classes: Classes()[:10], PenShare: 1})
	if err != nil {
		t.Fatal(err)
	}
	pixels := make([]byte, g.ImageSize())
	said, kept := 0, 0
	opposite := map[string]string{"thin": "bold", "bold": "thin", "tilted left": "tilted right", "tilted right": "tilted left"}
	for i := range 1500 {
		label, caption := g.DrawCaptioned(i, pixels)
		got := Describe(pixels, 28, NameOf(g.Classes()[label]))
		for word, other := range opposite {
			if !strings.Contains(caption, word) {
				continue
			}
			said++
			if strings.Contains(got, word) {
				kept++
			}
			if strings.Contains(got, other) {
				t.Errorf("image %d, %q, is described as %q", i, caption, got)
			}
		}
	}
	if t.Logf("%d of %d words kept", kept, said); kept*10 < said*7 {
		t.Errorf("%d of %d words are described as meant, want at least 7 of 10", kept, said)
	}
	if got := Describe(make([]byte, 28*28), 28, "one"); !strings.Contains(got, "one") {
		t.Errorf("no ink is %q", got)
	}
}
