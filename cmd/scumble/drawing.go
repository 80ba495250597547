package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/scumble-dp/scumble/dataset"
)

// maxDrawnBytes bounds the memory of the images that are drawn at once.
const maxDrawnBytes = 4 << 30

// drawing is what the commands share that draw public images: which images, and
// where they go.
type drawing struct {
	count, size, channels int
	seed                  uint64

	out, format          string
	sheet, force, asJSON bool
}

// addWhat adds the flags of the images.
func (d *drawing) addWhat(f *pflag.FlagSet, channels string) {
	f.StringVar(&d.out, "out", "", "`DIR` to write; required")
	f.IntVar(&d.count, "count", 0, "`IMAGES` to draw, 1 to 10000000; required")
	f.Uint64Var(&d.seed, "seed", 1, "whole `NUMBER` that chooses the images")
	f.IntVar(&d.size, "size", 28, "height and width in `PIXELS`, 28 to 256")
	f.IntVar(&d.channels, "channels", 1, "`COUNT` of channels, "+channels)
}

// addWhere adds the flags of what is written.
func (d *drawing) addWhere(f *pflag.FlagSet) {
	f.BoolVar(&d.sheet, "sheet", false, "also draw a contact sheet, DIR.png")
	f.StringVar(&d.format, "format", "folder", "`FORM` to write: folder (class folders of PNG) or idx")
	f.BoolVar(&d.force, "force", false, "replace DIR if it is a data set that scumble wrote")
	f.BoolVar(&d.asJSON, "json", false, "print one JSON object")
}

// check names the first flag that is out of range; the renderers check the rest.
func (d *drawing) check(channels string) error {
	if d.out == "" {
		return fmt.Errorf("--out is missing, want the folder to write")
	}
	d.out = filepath.Clean(d.out)
	switch {
	case d.count < 1 || d.count > 10_000_000:
		return fmt.Errorf("--count is %d, want 1 to 10000000 images", d.count)
	case d.size < dataset.MinSize || d.size > dataset.MaxSize:
		return fmt.Errorf("--size is %d, want %d to %d pixels", d.size, dataset.MinSize, dataset.MaxSize)
	case d.channels != 1 && d.channels != 3:
		return fmt.Errorf("--channels is %d, want %s", d.channels, channels)
	case d.format != "folder" && d.format != "idx":
		return fmt.Errorf("--format is %q, want folder or idx", d.format)
	case d.count > maxDrawnBytes/(d.size*d.size*d.channels):
		return fmt.Errorf("--count is %d, want at most %d images of this size; draw more with several seeds",
			d.count, maxDrawnBytes/(d.size*d.size*d.channels))
	}
	return nil
}

// run draws, writes and says what it wrote. finish, where there is one, has the
// images before they are written.
func (d *drawing) run(c *cobra.Command, drawer dataset.Drawer, finish func(*dataset.Set)) error {
	begin := time.Now()
	picture := d.out + ".png"
	if err := checkFree(d.out, d.force); err != nil {
		return err
	}
	if d.sheet {
		if err := checkFree(picture, d.force); err != nil {
			return err
		}
	}
	set, err := dataset.Draw(c.Context(), drawer, d.count)
	if err != nil {
		return err
	}
	if finish != nil {
		finish(set)
	}
	err = place(c.Context(), d.out, d.force, func(path string) error { return writeSet(path, d.format, dataset.Train, set) })
	if err != nil {
		return err
	}
	if d.sheet {
		err := place(c.Context(), picture, d.force, func(path string) error { return dataset.WritePNG(path, dataset.Grid(set, 20)) })
		if err != nil {
			return err
		}
		fmt.Fprintf(c.ErrOrStderr(), "scumble: wrote the contact sheet %s\n", picture)
	}
	if set.Captions != nil { // The folder has no classes.
		set.Labels, set.Classes = nil, nil
	}
	facts := factsOf(d.out, d.format, set)
	warnEmpty(c, facts)
	if d.asJSON {
		return printJSON(c, struct {
			setFacts
			Seed    uint64  `json:"seed"`
			Seconds float64 `json:"seconds"`
		}{facts, d.seed, time.Since(begin).Seconds()})
	}
	facts.print(c)
	return nil
}

// warnEmpty says which classes chance left without an image.
func warnEmpty(c *cobra.Command, facts setFacts) {
	var empty []string
	for i, n := range facts.Counts {
		if n == 0 {
			empty = append(empty, facts.Classes[i])
		}
	}
	if len(empty) > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "scumble: chance drew no image of %s\n", strings.Join(empty, " "))
		fmt.Fprintln(c.ErrOrStderr(), "scumble: hint: a larger --count draws every class")
	}
}
