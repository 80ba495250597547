package dataset

import (
	"errors"
	"image"
	"os"
	"runtime"
	"sync"
)

// pictureFile is an image to read: its file and label.
type pictureFile struct {
	path  string
	label int
}

// maxPicture bounds the pixels of a picture's longer side before it is resized.
const maxPicture = 4096

// shrink reads pictures on all cores, cuts each to its central square and
// brings it to size by averaging. Unlike those of a folder they need not be
// square, since their formats say how they are.
func shrink(path string, files []pictureFile, size int, names []string, o Options) (*Set, error) {
	channels := o.Channels
	if channels == 0 {
		channels = 3
	}
	image := size * size * channels
	a := &array{height: size, width: size, channels: channels, pixels: make([]byte, len(files)*image), labels: make([]int, len(files))}
	var mutex sync.Mutex
	var failure error
	failedAt := len(files)
	var wait sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wait.Go(func() {
			for i := w; i < len(files); i += workers {
				mutex.Lock()
				stop := i > failedAt
				mutex.Unlock()
				if stop {
					return
				}
				a.labels[i] = files[i].label
				if err := shrinkInto(a.pixels[i*image:(i+1)*image], files[i].path, size, channels); err != nil {
					mutex.Lock()
					if i < failedAt { // The first in the list, whoever comes first.
						failure, failedAt = err, i
					}
					mutex.Unlock()
					return
				}
			}
		})
	}
	wait.Wait()
	if failure != nil {
		return nil, failure
	}
	o.Size, o.Channels = size, channels
	return a.set(path, names, o)
}

func shrinkInto(dst []byte, path string, size, channels int) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return openError(path, err)
	}
	img, err := decode(data, func(width, height int) *Error {
		if width < size || height < size || width > maxPicture || height > maxPicture {
			return invalid("", "ask for a smaller size, or fetch the image again", "image is %dx%d pixels, want at least %d and at most %d", width, height, size, maxPicture)
		}
		return nil
	})
	var bad *Error
	if errors.As(err, &bad) {
		bad.Path = path
		return bad
	}
	if err != nil {
		return err
	}
	side := min(img.Bounds().Dx(), img.Bounds().Dy())
	pixels, err := bytesOf(centre{img, side}, channels)
	if err != nil {
		return invalid(path, "flatten it onto the background it should have", "%s", err)
	}
	average(dst, pixels, size, side, channels)
	return nil
}

// centre is the central square of an image.
type centre struct {
	image.Image
	side int
}

func (c centre) Bounds() image.Rectangle {
	b := c.Image.Bounds()
	low := b.Min.Add(image.Pt((b.Dx()-c.side)/2, (b.Dy()-c.side)/2))
	return image.Rectangle{Min: low, Max: low.Add(image.Pt(c.side, c.side))}
}

// average fills dst, [size, size, channels], with means over the squares of src,
// [side, side, channels], that its pixels cover; those at the borders of a
// square count by the part that lies in it.
func average(dst, src []byte, size, side, channels int) {
	if size == side {
		copy(dst, src)
		return
	}
	// In units of 1/size of a pixel of src, so that all weights are whole.
	rows := make([]int, side*size*channels) // src, averaged along x.
	for y := range side {
		for x := range size {
			low, high := x*side, (x+1)*side
			for at := low / size; at*size < high; at++ {
				weight := min(high, (at+1)*size) - max(low, at*size)
				for c := range channels {
					rows[(y*size+x)*channels+c] += weight * int(src[(y*side+at)*channels+c])
				}
			}
		}
	}
	total := side * side
	for y := range size {
		low, high := y*side, (y+1)*side
		for x := range size * channels {
			sum := 0
			for at := low / size; at*size < high; at++ {
				sum += (min(high, (at+1)*size) - max(low, at*size)) * rows[at*size*channels+x]
			}
			dst[y*size*channels+x] = byte((sum + total/2) / total)
		}
	}
}
