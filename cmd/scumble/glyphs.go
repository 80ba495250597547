package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
)

func newDataGlyphs() *cobra.Command {
	const channels = "1 (white on black) or 3 (random colours)"
	var (
		d                    drawing
		o                    glyphs.Options
		digitsOnly, captions bool
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
			if err := d.check(channels); err != nil {
				return misuse(err)
			}
			if captions && d.format != "folder" {
				return misuse(fmt.Errorf("--captions goes with --format folder, got %s", d.format))
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
			o.Count, o.Size, o.Channels, o.Seed = d.count, d.size, d.channels, d.seed
			g, err := glyphs.NewRenderer(o)
			if err != nil {
				return misuse(err)
			}
			if !captions {
				return d.run(c, g, nil)
			}
			told := &captioned{g, make([]string, d.count)}
			return d.run(c, told, func(set *dataset.Set) { set.Captions = told.captions })
		},
	}
	f := c.Flags()
	f.SortFlags = false
	d.addWhat(f, channels)
	f.BoolVar(&digitsOnly, "digits-only", false, "draw the ten digits, no letters")
	f.Float64Var(&o.PenShare, "pen-share", 0, "`SHARE` of images that the pen draws, 0 to 1; fonts draw the rest (default 0.7, with --held 1)")
	f.StringArrayVar(&o.FontDirs, "font-dir", nil, "`DIR` of open fonts (ttf, otf) to add to the embedded ones; may be repeated")
	f.BoolVar(&o.Held, "held", false, "draw in the ways that the public set never uses, as a stand-in for private data")
	f.BoolVar(&captions, "captions", false, "draw to captions such as \"a bold seven, tilted left\", in metadata.jsonl, without class folders")
	d.addWhere(f)
	return c
}

// captioned draws to captions, and keeps them.
type captioned struct {
	*glyphs.Renderer
	captions []string // One per image.
}

// DrawInto draws image i and notes its caption.
func (g *captioned) DrawInto(i int, pixels []byte) (label int) {
	label, g.captions[i] = g.DrawCaptioned(i, pixels)
	return label
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
