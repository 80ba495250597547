package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dataset/shapes"
)

func newDataShapes() *cobra.Command {
	const channels = "1 (grey on black) or 3 (colours)"
	var (
		d            drawing
		o            shapes.Options
		garmentsOnly bool
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
			if err := d.check(channels); err != nil {
				return misuse(err)
			}
			if garmentsOnly {
				if o.Classes != nil {
					return misuse(fmt.Errorf("--garments-only and --classes are given, want one of them"))
				}
				o.Classes = shapes.Garments()
			}
			o.Count, o.Size, o.Channels, o.Seed = d.count, d.size, d.channels, d.seed
			g, err := shapes.NewRenderer(o)
			if err != nil {
				return misuse(err)
			}
			return d.run(c, g, nil)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	d.addWhat(f, channels)
	f.StringSliceVar(&o.Classes, "classes", nil, "`NAMES` of the classes to draw, such as shirt,bag,star (default all 20)")
	f.BoolVar(&garmentsOnly, "garments-only", false, "draw the ten classes of garments, shoes and bags")
	f.Float64Var(&o.GarmentShare, "garment-share", 0, "`SHARE` of images that show garments, 0 to 1 (default: each class as often)")
	f.BoolVar(&o.Held, "held", false, "draw in the held-out style, as a stand-in for private data")
	d.addWhere(f)
	return c
}
