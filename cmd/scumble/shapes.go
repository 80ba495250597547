package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/shapes"
)

func newDataShapes() *cobra.Command {
	var (
		o             shapes.Options
		out, format   string
		garmentsOnly  bool
		sheet         bool
		force, asJSON bool
	)
	c := &cobra.Command{
		Use:   "shapes",
		Short: "Draw public images of garments, shapes and textures",
		Long: `shapes draws silhouettes of garments, shoes and bags as shops show them, and
simple shapes, leaves, vessels, letters and textures, for pre-training on nothing
private and nothing downloaded. What an image shows is its class. The same flags
draw the same images. --held draws in a second style, which plays the private data
while hyperparameters are chosen.`,
		Example: "  scumble data shapes --out shapes --count 2000 --sheet",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			begin := time.Now()
			if out == "" {
				return misuse(fmt.Errorf("--out is missing, want the folder to write"))
			}
			out = filepath.Clean(out)
			if err := checkShapes(&o, format); err != nil {
				return misuse(err)
			}
			if garmentsOnly {
				if o.Classes != nil {
					return misuse(fmt.Errorf("--garments-only and --classes are given, want one of them"))
				}
				o.Classes = shapes.Garments()
			}
			picture := out + ".png"
			if err := checkFree(out, force); err != nil {
				return err
			}
			if sheet {
				if err := checkFree(picture, force); err != nil {
					return err
				}
			}
			set, err := drawShapes(c.Context(), o)
			if err != nil {
				return err
			}
			err = place(c.Context(), out, force, func(path string) error { return writeSet(path, format, dataset.Train, set) })
			if err != nil {
				return err
			}
			if sheet {
				err := place(c.Context(), picture, force, func(path string) error { return dataset.WritePNG(path, dataset.Grid(set, 20)) })
				if err != nil {
					return err
				}
				fmt.Fprintf(c.ErrOrStderr(), "scumble: wrote the contact sheet %s\n", picture)
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
	f.IntVar(&o.Channels, "channels", 1, "`COUNT` of channels, 1 (grey on black) or 3 (colours)")
	f.StringSliceVar(&o.Classes, "classes", nil, "`NAMES` of the classes to draw, such as shirt,bag,star (default all 20)")
	f.BoolVar(&garmentsOnly, "garments-only", false, "draw the ten classes of garments, shoes and bags")
	f.Float64Var(&o.GarmentShare, "garment-share", 0, "`SHARE` of images that show garments, 0 to 1 (default: each class as often)")
	f.BoolVar(&o.Held, "held", false, "draw in the held-out style, as a stand-in for private data")
	f.BoolVar(&sheet, "sheet", false, "also draw a contact sheet, DIR.png")
	f.StringVar(&format, "format", "folder", "`FORM` to write: folder (class folders of PNG) or idx")
	f.BoolVar(&force, "force", false, "replace DIR if it is a data set that scumble wrote")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// checkShapes names the first flag that is out of range; the renderer checks
// the rest.
func checkShapes(o *shapes.Options, format string) error {
	switch {
	case o.Count < 1 || o.Count > 10_000_000:
		return fmt.Errorf("--count is %d, want 1 to 10000000 images", o.Count)
	case o.Size < dataset.MinSize || o.Size > dataset.MaxSize:
		return fmt.Errorf("--size is %d, want %d to %d pixels", o.Size, dataset.MinSize, dataset.MaxSize)
	case o.Channels != 1 && o.Channels != 3:
		return fmt.Errorf("--channels is %d, want 1 (grey on black) or 3 (colours)", o.Channels)
	case format != "folder" && format != "idx":
		return fmt.Errorf("--format is %q, want folder or idx", format)
	case o.Count > maxGlyphBytes/(o.Size*o.Size*o.Channels):
		return fmt.Errorf("--count is %d, want at most %d images of this size; draw more with several seeds",
			o.Count, maxGlyphBytes/(o.Size*o.Size*o.Channels))
	}
	return nil
}

// drawShapes is shapes.Render with an end: it stops when ctx does.
func drawShapes(ctx context.Context, o shapes.Options) (*dataset.Set, error) {
	g, err := shapes.NewRenderer(o)
	if err != nil {
		return nil, misuse(err)
	}
	set := &dataset.Set{
		Height: o.Size, Width: o.Size, Channels: o.Channels,
		Pixels: make([]byte, o.Count*g.ImageSize()), Labels: make([]int, o.Count), Classes: g.Classes(),
	}
	workers := runtime.GOMAXPROCS(0)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < o.Count && ctx.Err() == nil; i += workers {
				set.Labels[i] = g.DrawInto(i, set.Image(i))
			}
		})
	}
	wait.Wait()
	return set, ctx.Err()
}
