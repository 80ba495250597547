package main

import (
	"bytes"
	"fmt"
	"image/png"
	"slices"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/report"
)

// Of the sheet of nearest public images.
const (
	neighbourPool  = 150 // Public images of each class that are searched.
	neighbourPairs = gridColumns / 2
)

// nearestPublic makes a sheet of synthetic images, each with the nearest of freshly
// rendered public images of its class to its right: what the base model knew
// before. It reads no private image. It returns nil for a base model whose public data
// scumble does not carry.
func nearestPublic(set *dataset.Set, base string) (*report.Picture, error) {
	known := func(name string) bool {
		return len(name) == 1 && (name[0] >= '0' && name[0] <= '9' || name[0] >= 'A' && name[0] <= 'Z')
	}
	if !models.Bundled(base) || slices.ContainsFunc(set.Classes, func(name string) bool { return !known(name) }) {
		return nil, nil
	}
	pool, err := glyphs.Render(glyphs.Options{Size: set.Height, Channels: set.Channels, Count: neighbourPool * len(set.Classes), Seed: sampleSeed, Classes: set.Classes})
	if err != nil {
		return nil, err
	}
	few := firstPerClass(set, neighbourPairs)
	pairs := &dataset.Set{Height: set.Height, Width: set.Width, Channels: set.Channels, Classes: set.Classes}
	for i := range few.Len() {
		at := nearest(pool, few.Labels[i], few.Image(i))
		if at < 0 {
			continue
		}
		pairs.Pixels = append(append(pairs.Pixels, few.Image(i)...), pool.Image(at)...)
		pairs.Labels = append(pairs.Labels, few.Labels[i], few.Labels[i])
	}
	var b bytes.Buffer
	if err := png.Encode(&b, dataset.Grid(pairs, 2*neighbourPairs)); err != nil {
		return nil, err
	}
	return &report.Picture{PNG: b.Bytes(), Covered: report.PostProcessing, RowLabels: set.Classes,
		Alt: "Pairs of pictures, one row for each class: a synthetic image, and the most similar public image of its class.",
		Caption: fmt.Sprintf("Pairs: a synthetic image, and to its right the nearest, pixel by pixel, of %d public images of its class that were rendered "+
			"like those that the base model was trained on.", neighbourPool)}, nil
}

// nearest returns the index of the image of that label with the least squared
// distance, -1 without one.
func nearest(pool *dataset.Set, label int, image []byte) int {
	best, at := 1<<62, -1
	for i, l := range pool.Labels {
		if l != label {
			continue
		}
		distance := 0
		for k, v := range pool.Image(i) {
			d := int(v) - int(image[k])
			distance += d * d
		}
		if distance < best {
			best, at = distance, i
		}
	}
	return at
}
