package pretrain

import (
	"cmp"
	"fmt"

	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/dataset/shapes"
)

// renderer draws public images by number.
type renderer interface {
	Classes() []string
	ImageSize() int
	DrawInto(i int, pixels []byte) (label int)
}

// images is an endless stream of public images: image i depends only on the
// seed and i.
type images struct {
	renderer renderer
	size     int
	channels int
	source   string // What a model's files say of them.

	captioned *glyphs.Renderer // If not nil, the images are drawn as their captions say.
}

// condition is what a denoiser is told of an image.
type condition struct {
	label   int
	caption string // "" where images have none.
}

func newImages(c *Config) (*images, error) {
	im := &images{size: cmp.Or(c.Images.Size, 28), channels: cmp.Or(c.Images.Channels, 1)}
	if c.Images.Renderer == Shapes {
		r, err := shapes.NewRenderer(c.shapes())
		if err != nil {
			return nil, fmt.Errorf("prepare images of shapes: %w", err)
		}
		im.renderer, im.source = r, "silhouettes and shapes rendered by scumble data shapes"
		return im, nil
	}
	r, err := glyphs.NewRenderer(c.glyphs())
	if err != nil {
		return nil, fmt.Errorf("prepare glyph images: %w", err)
	}
	im.renderer, im.source = r, "characters rendered by scumble data glyphs"
	if c.TextEncoder != nil {
		im.captioned = r
	}
	return im, nil
}

// draw returns image i as values in [-1, 1] on a padded canvas, appended to
// dst, and what is said of it.
func (im *images) draw(dst []float32, i, padded int) ([]float32, condition) {
	pixels := make([]byte, im.renderer.ImageSize())
	var c condition
	if im.captioned != nil {
		c.label, c.caption = im.captioned.DrawCaptioned(i, pixels)
	} else {
		c.label = im.renderer.DrawInto(i, pixels)
	}
	for y := range padded {
		row := min(y, im.size-1) * im.size * im.channels
		for x := range padded {
			at := row + min(x, im.size-1)*im.channels
			for k := range im.channels {
				dst = append(dst, float32(pixels[at+k])/127.5-1)
			}
		}
	}
	return dst, c
}
