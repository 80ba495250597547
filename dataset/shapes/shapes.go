package shapes

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/scumble-dp/scumble/dataset"
)

// Options says what to draw. The zero value, with a Count, draws grey 28-pixel
// images, each class as often.
type Options struct {
	Size     int    // Height and width in pixels, 16 to 256. Zero means 28.
	Channels int    // 1: grey on black. 3: colours, on black half the time. Zero means 1.
	Count    int    // Images that Render makes. Draw is not bound by it.
	Seed     uint64 // Chooses everything that is random.

	// Classes are names out of [Classes]; a label is an index into them. Nil
	// means all.
	Classes []string

	// GarmentShare is the chance that an image shows a garment, a shoe or a bag,
	// in [0, 1]. Zero, or classes all of one kind, means that each class is
	// equally likely.
	GarmentShare float64

	// Held draws the held-out style, which plays the private data where
	// hyperparameters are chosen.
	Held bool
}

// kinds of things, in the order of Classes.
var kinds = []struct {
	name string
	draw func(*drawing)
}{
	{"t-shirt", (*drawing).tShirt},
	{"trousers", (*drawing).trousers},
	{"pullover", (*drawing).pullover},
	{"dress", (*drawing).dress},
	{"coat", (*drawing).coat},
	{"sandal", (*drawing).sandal},
	{"shirt", (*drawing).shirt},
	{"sneaker", (*drawing).sneaker},
	{"bag", (*drawing).bag},
	{"ankle-boot", (*drawing).ankleBoot},
	{"polygon", (*drawing).polygon},
	{"ellipse", (*drawing).ellipse},
	{"star", (*drawing).star},
	{"blob", (*drawing).blob},
	{"leaf", (*drawing).leaf},
	{"vessel", (*drawing).vessel},
	{"figure", (*drawing).figure},
	{"letter", (*drawing).letter},
	{"arrangement", (*drawing).arrangement},
	{"texture", (*drawing).texture},
}

// garments is how many of the kinds are things to wear or carry.
const garments = 10

// Classes returns the names of all classes: ten of things to wear or carry,
// then ten of others.
func Classes() []string {
	out := make([]string, len(kinds))
	for i, k := range kinds {
		out[i] = k.name
	}
	return out
}

// Garments returns the names of the ten classes of things to wear or carry.
func Garments() []string { return Classes()[:garments] }

// Renderer draws images by number. It is safe for concurrent use.
type Renderer struct {
	options      Options
	kinds        []int // Index of each class's kind.
	worn, others []int // Indices of classes.
	drawings     sync.Pool
}

// NewRenderer checks the options.
func NewRenderer(o Options) (*Renderer, error) {
	if o.Size == 0 {
		o.Size = 28
	}
	if o.Channels == 0 {
		o.Channels = 1
	}
	if o.Classes == nil {
		o.Classes = Classes()
	}
	g := &Renderer{options: o}
	g.options.Classes = slices.Clone(o.Classes)
	switch {
	case o.Size < 16 || o.Size > 256:
		return nil, fmt.Errorf("size is %d pixels, want 16 to 256", o.Size)
	case o.Channels != 1 && o.Channels != 3:
		return nil, fmt.Errorf("channels are %d, want 1 or 3", o.Channels)
	case o.Count < 0:
		return nil, fmt.Errorf("count is %d, want at least 0", o.Count)
	case !(o.GarmentShare >= 0 && o.GarmentShare <= 1):
		return nil, fmt.Errorf("garment share is %g, want 0 to 1", o.GarmentShare)
	case len(o.Classes) == 0:
		return nil, fmt.Errorf("no classes, want at least one of %v", Classes())
	}
	for i, class := range o.Classes {
		k := slices.Index(Classes(), class)
		if k < 0 {
			return nil, fmt.Errorf("no class %q, want one of %v", class, Classes())
		}
		if slices.Contains(o.Classes[:i], class) {
			return nil, fmt.Errorf("class %q occurs twice", class)
		}
		g.kinds = append(g.kinds, k)
		if k < garments {
			g.worn = append(g.worn, i)
		} else {
			g.others = append(g.others, i)
		}
	}
	g.drawings.New = func() any { return new(drawing) }
	return g, nil
}

// Classes returns the names of the labels.
func (g *Renderer) Classes() []string { return slices.Clone(g.options.Classes) }

// Side returns height and width of an image in pixels.
func (g *Renderer) Side() int { return g.options.Size }

// Channels returns the number of channels of an image, 1 or 3.
func (g *Renderer) Channels() int { return g.options.Channels }

// ImageSize returns the number of bytes of one image.
func (g *Renderer) ImageSize() int { return g.options.Size * g.options.Size * g.options.Channels }

// Draw returns image i, [height, width, channels], and its label.
func (g *Renderer) Draw(i int) (pixels []byte, label int) {
	pixels = make([]byte, g.ImageSize())
	return pixels, g.DrawInto(i, pixels)
}

// DrawInto draws image i into pixels, [height, width, channels], and returns
// its label. It panics where pixels is shorter than ImageSize.
func (g *Renderer) DrawInto(i int, pixels []byte) (label int) {
	h := newHand(g.options.Seed, i, g.options.Held)
	label = g.label(h)
	d := g.drawings.Get().(*drawing)
	defer g.drawings.Put(d)
	d.reset(h, g.options.Size, g.options.Channels)
	kinds[g.kinds[label]].draw(d)
	d.render()
	var ground colour
	if g.options.Channels == 3 && h.chance(0.5) {
		ground = h.colour(3)
	}
	d.develop(ground, pixels)
	return label
}

func (g *Renderer) label(h hand) int {
	if g.options.GarmentShare == 0 || len(g.worn) == 0 || len(g.others) == 0 {
		return h.IntN(len(g.options.Classes))
	}
	if h.chance(g.options.GarmentShare) {
		return g.worn[h.IntN(len(g.worn))]
	}
	return g.others[h.IntN(len(g.others))]
}

// Render draws o.Count images, on all cores.
func Render(o Options) (*dataset.Set, error) {
	g, err := NewRenderer(o)
	if err != nil {
		return nil, err
	}
	return dataset.Draw(context.Background(), g, o.Count)
}
