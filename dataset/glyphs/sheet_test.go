package glyphs

import (
	"image"
	"image/draw"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
)

// TestSheet writes contact sheets, for the eye, to the folder SCUMBLE_SHEETS.
func TestSheet(t *testing.T) {
	folder := os.Getenv("SCUMBLE_SHEETS")
	if folder == "" {
		t.Skip("set SCUMBLE_SHEETS to a folder to write contact sheets")
	}
	digits, letters := Classes()[:10], Classes()[10:]
	for name, o := range map[string]Options{
		"pen":    {PenShare: 1, Classes: digits, Count: 600},
		"held":   {Held: true, Classes: digits, Count: 600},
		"font":   {PenShare: -1, Classes: digits, Count: 600},
		"letter": {PenShare: 1, Classes: letters, Count: 1000},
		"colour": {Channels: 3, Size: 32, Classes: digits, Count: 400},
		"large":  {Size: 64, Classes: digits, Count: 400},
	} {
		set, err := Render(o)
		if err != nil {
			t.Fatal(err)
		}
		writeSheet(t, filepath.Join(folder, name+".png"), dataset.Grid(set, 24), 2)
	}
	writeSheet(t, filepath.Join(folder, "ways.png"), dataset.Grid(ways(t), 14), 3)
}

// ways draws every skeleton once, as it stands in the tables.
func ways(t *testing.T) *dataset.Set {
	set := &dataset.Set{Height: 28, Width: 28, Channels: 1, Classes: Classes()}
	plain := style{widthLow: 2.2, widthHigh: 2.2, boxLow: 20, boxHigh: 20, softLow: 1.3, softHigh: 1.3}
	var d drawing
	for _, s := range slices.Concat(digitSkeletons, letterSkeletons) {
		p, err := s.parse()
		if err != nil {
			t.Fatal(err)
		}
		d.field.reset(28)
		d.drawPen(newRandom(0, 0), &plain, p)
		pixels := make([]byte, 28*28)
		d.develop(newRandom(0, 0), &plain, pixels, 1)
		set.Pixels = append(set.Pixels, pixels...)
		set.Labels = append(set.Labels, slices.Index(set.Classes, s.class))
	}
	return set
}

func writeSheet(t *testing.T, path string, in *image.RGBA, by int) {
	b := in.Bounds()
	out := image.NewRGBA(image.Rect(0, 0, b.Dx()*by, b.Dy()*by))
	for y := range b.Dy() {
		for x := range b.Dx() {
			draw.Draw(out, image.Rect(x*by, y*by, x*by+by, y*by+by), image.NewUniform(in.At(x, y)), image.Point{}, draw.Src)
		}
	}
	if err := dataset.WritePNG(path, out); err != nil {
		t.Fatal(err)
	}
}
