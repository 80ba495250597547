package glyphs

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/scumble-dp/scumble/dataset"
)

// Options says what to draw. The zero value, with a Count, draws grey 28-pixel
// images of the digits and capital letters, seven tenths of them by pen.
type Options struct {
	Size     int    // Height and width in pixels, 16 to 256. Zero means 28.
	Channels int    // 1: white on black. 3: random colours. Zero means 1.
	Count    int    // Images that Render makes. Draw is not bound by it.
	Seed     uint64 // Chooses everything that is random.

	// Classes are the characters, one each; a label is an index into it. Nil
	// means "0" to "9", then "A" to "Z". The pen hand knows these 36 only.
	Classes []string

	// DigitShare is the chance that an image shows a digit, in [0, 1]. Zero, or
	// classes all of one kind, means that each class is equally likely.
	DigitShare float64

	// PenShare is the chance that the pen hand draws, in [0, 1]. Zero means 0.7,
	// or 1 where Held is set; negative means fonts alone.
	PenShare float64

	// FontDirs are folders of TrueType and OpenType fonts to add to the
	// embedded ones. The images then depend on what is installed.
	FontDirs []string

	// Held draws with the held-out ways of writing and ranges instead of the
	// public ones, which never use them. Such a set plays the private data
	// where hyperparameters are chosen.
	Held bool

	StrokeMin, StrokeMax float64 // Pen width in pixels of a 28-pixel image. Zero means 1.5 and 4 (held: 2.2 and 3.4).
	Slant                float64 // Strength of slant. Zero means 1; negative none.
	Rotation             float64 // Strength of rotation. Zero means 1; negative none.
	Distortion           float64 // Strength of wobble, warp and stretch. Zero means 1; negative none.
	Shift                float64 // Strength of the random position. Zero means 1; negative none.
}

// Classes returns the 36 characters of both hands: "0" to "9", then "A" to "Z".
func Classes() []string {
	var out []string
	for c := '0'; c <= '9'; c++ {
		out = append(out, string(c))
	}
	for c := 'A'; c <= 'Z'; c++ {
		out = append(out, string(c))
	}
	return out
}

// Renderer draws images by number. It is safe for concurrent use.
type Renderer struct {
	options          Options
	digits, others   []int // Indices of classes.
	skeletons        [][]strokes
	outlines         [][]outline
	penHand, fntHand style
	drawings         sync.Pool
}

// drawing is the memory that one image needs while it is drawn.
type drawing struct {
	field    field
	points   []point
	ends     []int // Where each stroke or contour ends in points.
	contours [][]point
	softness float64
}

// NewRenderer checks the options and reads the fonts.
func NewRenderer(o Options) (*Renderer, error) {
	if o.Size == 0 {
		o.Size = 28
	}
	if o.Channels == 0 {
		o.Channels = 1
	}
	if o.PenShare == 0 {
		o.PenShare = 0.7
		if o.Held {
			o.PenShare = 1
		}
	}
	o.PenShare = max(o.PenShare, 0)
	if o.Classes == nil {
		o.Classes = Classes()
	}
	if err := o.check(); err != nil {
		return nil, err
	}
	g := &Renderer{options: o, penHand: penStyle(), fntHand: fontStyle()}
	if o.Held {
		g.penHand = heldStyle()
	}
	g.penHand.set(o)
	g.fntHand.set(o)
	g.drawings.New = func() any { return new(drawing) }
	for i, class := range o.Classes {
		if class >= "0" && class <= "9" {
			g.digits = append(g.digits, i)
		} else {
			g.others = append(g.others, i)
		}
	}
	var err error
	if o.PenShare > 0 {
		if g.skeletons, err = loadSkeletons(o.Classes, o.Held); err != nil {
			return nil, err
		}
	}
	if o.PenShare < 1 {
		if g.outlines, err = loadFonts(o.FontDirs, o.Classes); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (o *Options) check() error {
	if o.Size < 16 || o.Size > 256 {
		return fmt.Errorf("size is %d pixels, want 16 to 256", o.Size)
	}
	if o.Channels != 1 && o.Channels != 3 {
		return fmt.Errorf("channels are %d, want 1 or 3", o.Channels)
	}
	if o.Count < 0 {
		return fmt.Errorf("count is %d, want at least 0", o.Count)
	}
	if !(o.DigitShare >= 0 && o.DigitShare <= 1) {
		return fmt.Errorf("digit share is %g, want 0 to 1", o.DigitShare)
	}
	if !(o.PenShare >= 0 && o.PenShare <= 1) {
		return fmt.Errorf("pen share is %g, want at most 1", o.PenShare)
	}
	for _, v := range []float64{o.StrokeMin, o.StrokeMax, o.Slant, o.Rotation, o.Distortion, o.Shift} {
		if math.IsNaN(v) || math.IsInf(v, 0) || v > 100 {
			return fmt.Errorf("a range is %g, want at most 100", v)
		}
	}
	if len(o.Classes) == 0 {
		return fmt.Errorf("no classes, want at least one character")
	}
	for i, class := range o.Classes {
		if utf8.RuneCountInString(class) != 1 {
			return fmt.Errorf("class %q has %d characters, want one", class, utf8.RuneCountInString(class))
		}
		if slices.Contains(o.Classes[:i], class) {
			return fmt.Errorf("class %q occurs twice", class)
		}
	}
	return nil
}

// loadSkeletons returns the ways of writing each class.
func loadSkeletons(classes []string, held bool) ([][]strokes, error) {
	out := make([][]strokes, len(classes))
	for _, table := range [][]skeleton{digitSkeletons, letterSkeletons} {
		for _, s := range table {
			i := slices.Index(classes, s.class)
			if i < 0 || s.held != held {
				continue
			}
			parsed, err := s.parse()
			if err != nil {
				return nil, err
			}
			out[i] = append(out[i], parsed)
		}
	}
	for i, ways := range out {
		if len(ways) == 0 {
			return nil, fmt.Errorf("the pen cannot write %q, only \"0\" to \"9\" and \"A\" to \"Z\"; set a negative pen share for fonts alone", classes[i])
		}
	}
	return out, nil
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
	r := newRandom(g.options.Seed, i)
	label = g.label(r)
	g.draw(r, label, manner{}, pixels)
	return label
}

func (g *Renderer) label(r *rand.Rand) int {
	share := g.options.DigitShare
	if share == 0 || len(g.digits) == 0 || len(g.others) == 0 {
		return r.IntN(len(g.options.Classes))
	}
	if r.Float64() < share {
		return g.digits[r.IntN(len(g.digits))]
	}
	return g.others[r.IntN(len(g.others))]
}

// jitter returns a random shift in pixels.
func (d *drawing) jitter(r *rand.Rand, s *style, unit float64) point {
	return point{bell(r, 0, s.shift*unit), bell(r, 0, s.shift*unit)}
}

// develop turns depths into pixels: coverage, times an ink that is not quite
// even, between a colour of the page and one of the ink.
func (d *drawing) develop(r *rand.Rand, s *style, pixels []byte, channels int) {
	page, full := [3]float64{0, 0, 0}, [3]float64{255, 255, 255}
	if channels == 3 {
		page, full = colours(r)
	}
	strength := 1.0
	if r.Float64() < 0.5 {
		strength -= between(r, 0, s.fade)
	}
	uneven := between(r, 0, s.fade)
	kx, ky := between(r, -0.4, 0.4), between(r, -0.4, 0.4)
	phase := between(r, 0, 2*math.Pi)
	size := d.field.size
	unit := 28 / float64(size)
	for y := range size {
		for x := range size {
			cover := ink(float64(d.field.depth[y*size+x]), d.softness)
			if cover > 0 {
				cover *= strength * (1 - uneven*(0.5+0.5*math.Sin((kx*float64(x)+ky*float64(y))*unit+phase)))
			}
			for c := range channels {
				pixels[(y*size+x)*channels+c] = byte(page[c] + cover*(full[c]-page[c]) + 0.5)
			}
		}
	}
}

// colours returns two random colours that can be told apart: their brightness
// differs by at least 80.
func colours(r *rand.Rand) (page, full [3]float64) {
	for {
		for c := range 3 {
			page[c], full[c] = between(r, 0, 255), between(r, 0, 255)
		}
		if math.Abs(brightness(page)-brightness(full)) >= 80 {
			return page, full
		}
	}
}

func brightness(c [3]float64) float64 { return 0.299*c[0] + 0.587*c[1] + 0.114*c[2] }

// Render draws o.Count images, on all cores.
func Render(o Options) (*dataset.Set, error) {
	g, err := NewRenderer(o)
	if err != nil {
		return nil, err
	}
	return dataset.Draw(context.Background(), g, o.Count)
}
