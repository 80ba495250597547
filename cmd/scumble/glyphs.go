package main

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
)

// maxGlyphBytes bounds the memory of the images that glyphs draws at once.
const maxGlyphBytes = 4 << 30

func newDataGlyphs() *cobra.Command {
	var (
		o             glyphs.Options
		digitsOnly    bool
		captions      bool
		out, format   string
		force, asJSON bool
	)
	c := &cobra.Command{
		Use:   "glyphs",
		Short: "Draw public images of characters",
		Long: `glyphs draws images of the digits 0-9 and the letters A-Z, by fonts and by a
synthetic pen, for pre-training on nothing private and nothing downloaded. The
same flags draw the same images; fonts of --font-dir are part of that.`,
		Example: "  scumble data glyphs --out glyphs --count 2000 --format idx",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			begin := time.Now()
			if out == "" {
				return misuse(fmt.Errorf("--out is missing, want the folder to write"))
			}
			if err := checkGlyphs(&o, format); err != nil {
				return misuse(err)
			}
			if captions && format != "folder" {
				return misuse(fmt.Errorf("--captions goes with --format folder, got %s", format))
			}
			if digitsOnly {
				o.Classes = glyphs.Classes()[:10]
			}
			if c.Flags().Changed("pen-share") {
				if !(o.PenShare >= 0 && o.PenShare <= 1) {
					return misuse(fmt.Errorf("--pen-share is %g, want 0 (fonts alone) to 1 (pen alone)", o.PenShare))
				}
				if o.PenShare == 0 {
					o.PenShare = -1 // Zero means the default there.
				}
			}
			if err := checkFree(filepath.Clean(out), force); err != nil {
				return err
			}
			set, err := drawGlyphs(c.Context(), o, captions)
			if err != nil {
				return err
			}
			err = place(c.Context(), out, force, func(path string) error { return writeSet(path, format, dataset.Train, set) })
			if err != nil {
				return err
			}
			if captions { // The folder has no classes.
				set.Labels, set.Classes = nil, nil
			}
			facts := factsOf(out, format, set)
			warnEmpty(c, facts)
			if asJSON {
				return printJSON(c, struct {
					setFacts
					Seed    uint64  `json:"seed"`
					Seconds float64 `json:"seconds"`
				}{facts, o.Seed, time.Since(begin).Seconds()})
			}
			facts.print(c)
			return nil
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&out, "out", "", "`DIR` to write; required")
	f.IntVar(&o.Count, "count", 0, "`IMAGES` to draw, 1 to 10000000; required")
	f.Uint64Var(&o.Seed, "seed", 1, "whole `NUMBER` that chooses the images")
	f.IntVar(&o.Size, "size", 28, "height and width in `PIXELS`, 28 to 256")
	f.IntVar(&o.Channels, "channels", 1, "`COUNT` of channels, 1 (white on black) or 3 (random colours)")
	f.BoolVar(&digitsOnly, "digits-only", false, "draw the ten digits, no letters")
	f.Float64Var(&o.PenShare, "pen-share", 0, "`SHARE` of images that the pen draws, 0 to 1; fonts draw the rest (default 0.7, with --held 1)")
	f.StringArrayVar(&o.FontDirs, "font-dir", nil, "`DIR` of open fonts (ttf, otf) to add to the embedded ones; may be repeated")
	f.BoolVar(&o.Held, "held", false, "draw in the ways that the public set never uses, as a stand-in for private data")
	f.BoolVar(&captions, "captions", false, "draw to captions such as \"a bold seven, tilted left\", in metadata.jsonl, without class folders")
	f.StringVar(&format, "format", "folder", "`FORM` to write: folder (class folders of PNG) or idx")
	f.BoolVar(&force, "force", false, "replace DIR if it is a data set that scumble wrote")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// checkGlyphs names the first flag that is out of range.
func checkGlyphs(o *glyphs.Options, format string) error {
	switch {
	case o.Count < 1 || o.Count > 10_000_000:
		return fmt.Errorf("--count is %d, want 1 to 10000000 images", o.Count)
	case o.Size < dataset.MinSize || o.Size > dataset.MaxSize:
		return fmt.Errorf("--size is %d, want %d to %d pixels", o.Size, dataset.MinSize, dataset.MaxSize)
	case o.Channels != 1 && o.Channels != 3:
		return fmt.Errorf("--channels is %d, want 1 (white on black) or 3 (random colours)", o.Channels)
	case format != "folder" && format != "idx":
		return fmt.Errorf("--format is %q, want folder or idx", format)
	case o.Count > maxGlyphBytes/(o.Size*o.Size*o.Channels):
		return fmt.Errorf("--count is %d, want at most %d images of this size; draw more with several seeds",
			o.Count, maxGlyphBytes/(o.Size*o.Size*o.Channels))
	case math.IsNaN(o.PenShare):
		return fmt.Errorf("--pen-share is NaN, want 0 to 1")
	}
	return nil
}

// drawGlyphs is glyphs.Render with an end: it stops when ctx does.
func drawGlyphs(ctx context.Context, o glyphs.Options, captions bool) (*dataset.Set, error) {
	g, err := glyphs.NewRenderer(o)
	if err != nil {
		return nil, misuse(err)
	}
	set := &dataset.Set{
		Height: o.Size, Width: o.Size, Channels: o.Channels,
		Pixels: make([]byte, o.Count*g.ImageSize()), Labels: make([]int, o.Count), Classes: g.Classes(),
	}
	if captions {
		set.Captions = make([]string, o.Count)
	}
	workers := runtime.GOMAXPROCS(0)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < o.Count && ctx.Err() == nil; i += workers {
				if captions {
					set.Labels[i], set.Captions[i] = g.DrawCaptioned(i, set.Image(i))
				} else {
					set.Labels[i] = g.DrawInto(i, set.Image(i))
				}
			}
		})
	}
	wait.Wait()
	return set, ctx.Err()
}

// describe gives grey images of characters captions in place of classes.
func describe(set *dataset.Set) error {
	if set.Channels != 1 {
		return misuse(fmt.Errorf("--to captions takes grey images, got %d channels; add --channels 1", set.Channels))
	}
	for i, label := range set.Labels {
		name := set.Classes[label]
		if len(name) == 1 {
			name = glyphs.NameOf(name)
		}
		set.Captions = append(set.Captions, glyphs.Describe(set.Image(i), set.Width, name))
	}
	set.Labels, set.Classes = nil, nil
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
