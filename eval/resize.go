package eval

import (
	"fmt"
	"math"
)

// Resize is a way to bring images to the size that a network wants. Scores
// taken with different ones cannot be compared (Parmar et al. 2022,
// https://arxiv.org/abs/2104.11222).
type Resize string

const (
	// ResizeClean is clean-fid's "clean": PIL's bicubic filter, which is widened
	// where it shrinks, on each channel in float32, clipped to [0, 255] and not
	// rounded. Bit for bit that of Pillow.
	ResizeClean Resize = "clean"
	// ResizeTensorFlow is torch-fidelity's, and that of the original FID: bilinear
	// with corners at the origin, as in TensorFlow 1. Bit for bit.
	ResizeTensorFlow Resize = "tensorflow"
	// ResizePyTorch is pytorch-fid's: bilinear with half-pixel centres and no
	// filter. Equal to PyTorch up to rounding of float32.
	ResizePyTorch Resize = "pytorch"
)

// Resizes lists the ways.
func Resizes() []Resize { return []Resize{ResizeClean, ResizeTensorFlow, ResizePyTorch} }

// check says whether r is one of them.
func (r Resize) check() error {
	switch r {
	case ResizeClean, ResizeTensorFlow, ResizePyTorch:
		return nil
	}
	return fmt.Errorf("resizing is %q, want one of %q: %w", r, Resizes(), ErrInvalid)
}

// picture is one image in float32, [height, width, channels], 0 to 255.
type picture struct {
	height, width, channels int
	values                  []float32
}

func newPicture(height, width, channels int, pixels []byte) picture {
	p := picture{height, width, channels, make([]float32, len(pixels))}
	for i, b := range pixels {
		p.values[i] = float32(b)
	}
	return p
}

// to returns the picture at another size.
func (p picture) to(height, width int, r Resize) picture {
	switch r {
	case ResizeTensorFlow:
		return p.tensorflow(height, width)
	case ResizePyTorch:
		return p.pytorch(height, width)
	}
	out := p.clean(height, width)
	for i, v := range out.values {
		out.values[i] = min(max(v, 0), 255)
	}
	return out
}

// clean resizes as Pillow 13 does images of mode F: each pass is summed in
// float64 and stored in float32, a pass that changes nothing is left out, and
// the columns come first unless the height shrinks by more than twice what the
// width does.
func (p picture) clean(height, width int) picture {
	if less := p.height - height; less > 0 && less > 2*(p.width-width) {
		return p.cleanRows(height).cleanColumns(width)
	}
	return p.cleanColumns(width).cleanRows(height)
}

// cleanColumns brings rows to another width.
func (p picture) cleanColumns(width int) picture {
	out := picture{p.height, width, p.channels, make([]float32, p.height*width*p.channels)}
	if width == p.width {
		copy(out.values, p.values)
		return out
	}
	taps := bicubicTaps(p.width, width)
	for y := range p.height {
		row := p.values[y*p.width*p.channels:]
		for x, t := range taps {
			for c := range p.channels {
				total := 0.0
				for k, weight := range t.weights {
					// The conversion keeps the compiler from fusing the two.
					total += float64(float64(row[(t.from+k)*p.channels+c]) * weight)
				}
				out.values[(y*width+x)*p.channels+c] = float32(total)
			}
		}
	}
	return out
}

// cleanRows brings columns to another height.
func (p picture) cleanRows(height int) picture {
	line := p.width * p.channels
	out := picture{height, p.width, p.channels, make([]float32, height*line)}
	if height == p.height {
		copy(out.values, p.values)
		return out
	}
	for y, t := range bicubicTaps(p.height, height) {
		for i := range line {
			total := 0.0
			for k, weight := range t.weights {
				total += float64(float64(p.values[(t.from+k)*line+i]) * weight)
			}
			out.values[y*line+i] = float32(total)
		}
	}
	return out
}

// taps are the input pixels that one output pixel is made of.
type taps struct {
	from    int
	weights []float64
}

// bicubicTaps returns the taps of each of out pixels from in pixels. The filter
// reaches over two input pixels, or two output pixels where it shrinks.
func bicubicTaps(in, out int) []taps {
	scale := float64(in) / float64(out)
	stretch := max(scale, 1)
	support := 2 * stretch
	list := make([]taps, out)
	for i := range list {
		center := (float64(i) + 0.5) * scale
		from := max(int(center-support+0.5), 0)
		to := min(int(center+support+0.5), in)
		t := taps{from, make([]float64, to-from)}
		total := 0.0
		for k := range t.weights {
			t.weights[k] = bicubic((float64(k+from) - center + 0.5) * (1 / stretch))
			total += t.weights[k]
		}
		for k := range t.weights {
			t.weights[k] /= total
		}
		list[i] = t
	}
	return list
}

// bicubic is Keys's kernel with a = -1/2 (Keys 1981).
func bicubic(x float64) float64 {
	const a = -0.5
	x = math.Abs(x)
	switch {
	case x < 1:
		return float64(float64(float64((a+2)*x)-(a+3))*x*x) + 1
	case x < 2:
		return (float64(float64(float64(float64(x-5)*x)+8)*x) - 4) * a
	}
	return 0
}

// tensorflow is TensorFlow 1's resize_bilinear without align_corners: output
// pixel i samples at i·in/out, in float32.
func (p picture) tensorflow(height, width int) picture {
	out := picture{height, width, p.channels, make([]float32, height*width*p.channels)}
	scaleX, scaleY := float32(float64(p.width)/float64(width)), float32(float64(p.height)/float64(height))
	for y := range height {
		v := float32(y) * scaleY
		y0 := int(v)
		y1, fy := min(y0+1, p.height-1), v-float32(y0)
		for x := range width {
			u := float32(x) * scaleX
			x0 := int(u)
			x1, fx := min(x0+1, p.width-1), u-float32(x0)
			for c := range p.channels {
				at := func(y, x int) float32 { return p.values[(y*p.width+x)*p.channels+c] }
				top := at(y0, x0) + float32((at(y0, x1)-at(y0, x0))*fx)
				bottom := at(y1, x0) + float32((at(y1, x1)-at(y1, x0))*fx)
				out.values[(y*width+x)*p.channels+c] = top + float32((bottom-top)*fy)
			}
		}
	}
	return out
}

// pytorch is F.interpolate with mode="bilinear" and align_corners=False: output
// pixel i samples at (i + ½)·in/out - ½, not below 0.
func (p picture) pytorch(height, width int) picture {
	out := picture{height, width, p.channels, make([]float32, height*width*p.channels)}
	scaleX, scaleY := float32(p.width)/float32(width), float32(p.height)/float32(height)
	source := func(i int, scale float32, limit int) (low, high int, fraction float32) {
		s := max(scale*(float32(i)+0.5)-0.5, 0)
		low = min(int(s), limit-1)
		return low, min(low+1, limit-1), s - float32(low)
	}
	for y := range height {
		y0, y1, fy := source(y, scaleY, p.height)
		for x := range width {
			x0, x1, fx := source(x, scaleX, p.width)
			for c := range p.channels {
				at := func(y, x int) float32 { return p.values[(y*p.width+x)*p.channels+c] }
				top := (1-fx)*at(y0, x0) + fx*at(y0, x1)
				bottom := (1-fx)*at(y1, x0) + fx*at(y1, x1)
				out.values[(y*width+x)*p.channels+c] = (1-fy)*top + fy*bottom
			}
		}
	}
	return out
}
