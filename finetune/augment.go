package finetune

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/pipeline"
)

// Augment varies an example's image from draw to draw. The gradient of all K draws
// is averaged before the one clip, so that this costs no privacy (augmentation
// multiplicity, De et al. 2022, https://arxiv.org/abs/2204.13650).
type Augment struct {
	Flip  bool `yaml:"flip,omitempty" json:"flip,omitempty"`   // Left and right change places in half of the draws.
	Shift int  `yaml:"shift,omitempty" json:"shift,omitempty"` // Up to so many pixels in each direction; the edge is repeated.

	// Variants is how many images a latent model's cache holds of each, the first as
	// it is. Pixel models vary every draw anew. Zero means 4.
	Variants int `yaml:"variants,omitempty" json:"variants,omitempty"`
}

// maxShift and maxVariants bound what an augmentation may ask for.
const (
	maxShift    = 16
	maxVariants = 64
)

func (a Augment) on() bool { return a.Flip || a.Shift > 0 }

func (a Augment) validate() error {
	if a.Shift < 0 || a.Shift > maxShift {
		return fmt.Errorf("training.augment.shift is %d pixels, want 0 to %d", a.Shift, maxShift)
	}
	if a.Variants < 0 || a.Variants > maxVariants {
		return fmt.Errorf("training.augment.variants is %d, want 0 to %d", a.Variants, maxVariants)
	}
	return nil
}

// cached returns how many images of each example are encoded: 1 but for latent
// models that vary them.
func (a Augment) cached(latent bool) int {
	switch {
	case !a.on() || !latent:
		return 1
	case a.Variants == 0:
		return 4
	}
	return a.Variants
}

// move is one way to vary an image.
type move struct {
	flip   bool
	dx, dy int
}

// draw chooses a move. It always takes the same number of coins.
func (a Augment) draw(rng *rand.Rand) move {
	m := move{flip: rng.IntN(2) == 1 && a.Flip}
	m.dx, m.dy = rng.IntN(2*a.Shift+1)-a.Shift, rng.IntN(2*a.Shift+1)-a.Shift
	return m
}

// from returns the place that a pixel at x, y of a square image comes from.
func (m move) from(x, y, size int) (int, int) {
	x, y = min(max(x-m.dx, 0), size-1), min(max(y-m.dy, 0), size-1)
	if m.flip {
		x = size - 1 - x
	}
	return x, y
}

// grid writes a pixel model's UNet input, varied. src stays as it is.
func (m move) grid(dst, src []float32, c pipeline.Canvas, unshuffle int) {
	if m == (move{}) {
		copy(dst, src)
		return
	}
	pixels := c.FromGrid(src, unshuffle)
	moved := make([]float32, len(pixels))
	for y := range c.Padded {
		for x := range c.Padded {
			fromX, fromY := m.from(min(x, c.Image-1), min(y, c.Image-1), c.Image)
			copy(moved[(y*c.Padded+x)*c.Channels:][:c.Channels], pixels[(fromY*c.Padded+fromX)*c.Channels:])
		}
	}
	copy(dst, c.ToGrid(moved, unshuffle))
}

// variant returns the images, all varied by the one move of that number; number 0 as
// they are.
//
// The move does not depend on an image's place in the set: a public seed for each
// place would give all later images another move where one example is missing, so
// that it would change more of the sum than its own gradient.
func (a Augment) variant(set *dataset.Set, number int) *dataset.Set {
	if number == 0 {
		return set
	}
	out := *set
	out.Pixels = slices.Clone(set.Pixels)
	size, channels := set.Width, set.Channels
	m := a.draw(rand.New(rand.NewPCG(4, uint64(number))))
	for i := range set.Len() {
		src, dst := set.Image(i), out.Image(i)
		for y := range size {
			for x := range size {
				fromX, fromY := m.from(x, y, size)
				copy(dst[(y*size+x)*channels:][:channels], src[(fromY*size+fromX)*channels:])
			}
		}
	}
	return &out
}
