package pipeline

import (
	"fmt"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/diffusion"
)

// Canvas is the geometry between images and what the UNet sees. Images are
// padded at the right and bottom to a size that the model's strides divide.
type Canvas struct {
	Image    int // Height and width of the images, pixels.
	Padded   int // Height and width after padding.
	Channels int // Of the images.

	// Grid and Depth are the height and width, and the channels, of the UNet's
	// input.
	Grid, Depth int
}

// NewCanvas returns the geometry of square images of a size for a model.
func NewCanvas(m *checkpoint.Model, size, channels int) (Canvas, error) {
	if channels != m.Channels {
		return Canvas{}, fmt.Errorf("images have %d channels, the base model has %d; choose a base model with %d", channels, m.Channels, channels)
	}
	factor, depth := m.PixelUnshuffle, channels*m.PixelUnshuffle*m.PixelUnshuffle
	if m.Autoencoder != nil {
		factor, depth = m.Autoencoder.Factor(), m.Autoencoder.Depth()
	}
	padded := (size + factor - 1) / factor * factor
	if depth != m.UNet.InChannels {
		return Canvas{}, fmt.Errorf("the UNet takes %d channels, images give %d", m.UNet.InChannels, depth)
	}
	return Canvas{Image: size, Padded: padded, Channels: channels, Grid: padded / factor, Depth: depth}, nil
}

// Size returns the number of values of one UNet input.
func (c Canvas) Size() int { return c.Grid * c.Grid * c.Depth }

// Floats returns the images as [n, padded, padded, channels] values in [-1, 1],
// padded by repeating the last row and column.
func (c Canvas) Floats(set *dataset.Set, indices []int) []float32 {
	out := make([]float32, 0, len(indices)*c.Padded*c.Padded*c.Channels)
	for _, i := range indices {
		img := set.Image(i)
		for y := range c.Padded {
			row := min(y, c.Image-1) * c.Image * c.Channels
			for x := range c.Padded {
				at := row + min(x, c.Image-1)*c.Channels
				for k := range c.Channels {
					out = append(out, float32(img[at+k])/127.5-1)
				}
			}
		}
	}
	return out
}

// Bytes is the way back: values in [-1, 1], clamped, cropped to the image.
func (c Canvas) Bytes(values []float32) []byte {
	stride := c.Padded * c.Padded * c.Channels
	n := len(values) / stride
	out := make([]byte, 0, n*c.Image*c.Image*c.Channels)
	for i := range n {
		img := values[i*stride : (i+1)*stride]
		for y := range c.Image {
			row := img[y*c.Padded*c.Channels:]
			for _, v := range row[:c.Image*c.Channels] {
				out = append(out, quantise(v))
			}
		}
	}
	return out
}

func quantise(v float32) byte {
	switch v = (v+1)*127.5 + 0.5; {
	case !(v > 0): // Also catches NaN.
		return 0
	case v >= 255:
		return 255
	}
	return byte(v)
}

// ToGrid turns padded pixels into the UNet's input for a pixel-space model:
// squares of unshuffle pixels become channels of one cell.
func (c Canvas) ToGrid(pixels []float32, unshuffle int) []float32 {
	if unshuffle == 1 {
		return pixels
	}
	return diffusion.Unshuffle(pixels, len(pixels)/(c.Padded*c.Padded*c.Channels), c.Padded, c.Padded, c.Channels, unshuffle)
}

// FromGrid is the way back.
func (c Canvas) FromGrid(grid []float32, unshuffle int) []float32 {
	if unshuffle == 1 {
		return grid
	}
	return diffusion.Shuffle(grid, len(grid)/(c.Padded*c.Padded*c.Channels), c.Padded, c.Padded, c.Channels, unshuffle)
}
