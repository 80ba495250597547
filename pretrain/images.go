package pretrain

import (
	"fmt"

	"github.com/scumble-dp/scumble/dataset/glyphs"
)

// images is an endless stream of public images: image i depends only on the
// seed and i.
type images struct {
	renderer *glyphs.Renderer
	size     int
	channels int

	captioned bool // The images are drawn as their captions say.
}

// condition is what a denoiser is told of an image.
type condition struct {
	label   int
	caption string // "" where images have none.
}

func newImages(o glyphs.Options) (*images, error) {
	r, err := glyphs.NewRenderer(o)
	if err != nil {
		return nil, fmt.Errorf("prepare glyph images: %w", err)
	}
	size, channels := o.Size, o.Channels
	if size == 0 {
		size = 28
	}
	if channels == 0 {
		channels = 1
	}
	return &images{renderer: r, size: size, channels: channels}, nil
}

// draw returns image i as values in [-1, 1] on a padded canvas, appended to
// dst, and what is said of it.
func (im *images) draw(dst []float32, i, padded int) ([]float32, condition) {
	pixels := make([]byte, im.renderer.ImageSize())
	var c condition
	if im.captioned {
		c.label, c.caption = im.renderer.DrawCaptioned(i, pixels)
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
