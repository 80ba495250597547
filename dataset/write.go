package dataset

import (
	"bufio"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"
	"path/filepath"

	"github.com/scumble-dp/scumble/internal/wholefile"
)

// writeFile writes a file that appears whole or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	if err := wholefile.Create(path, 0o644, write); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// WriteFolder writes the labelled images as dir/CLASS/000001.png and so on,
// numbered from 1 within each class, in the order of the set. A class without
// images gets an empty folder. The folder must not exist; it appears when all
// is written.
func WriteFolder(dir string, s *Set) error {
	if err := s.Check(); err != nil {
		return err
	}
	if s.Labels == nil {
		return fmt.Errorf("write %s: the images have no labels: %w", dir, ErrInvalid)
	}
	if s.Channels != 1 && s.Channels != 3 {
		return fmt.Errorf("write %s: images have %d channels, want 1 or 3: %w", dir, s.Channels, ErrInvalid)
	}
	return writeWhole(dir, func(temp string) error {
		for _, class := range s.Classes {
			if err := CheckClassName(class); err != nil {
				return err
			}
			if err := os.Mkdir(filepath.Join(temp, class), 0o755); err != nil {
				return err
			}
		}
		counts := make([]int, len(s.Classes))
		for i, label := range s.Labels {
			counts[label]++
			if err := s.writeImage(filepath.Join(temp, s.Classes[label], fmt.Sprintf("%06d.png", counts[label])), i); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeWhole makes a folder that appears when fill has written all of it, under
// another name, and not before.
func writeWhole(dir string, fill func(temp string) error) (err error) {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("write %s: it exists; choose another folder", dir)
	}
	dir = filepath.Clean(dir)
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".writing-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(temp)
			err = fmt.Errorf("write %s: %w", dir, err)
		}
	}()
	if err := fill(temp); err != nil {
		return err
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return err
	}
	return os.Rename(temp, dir)
}

// writeImage writes image i as PNG.
func (s *Set) writeImage(path string, i int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := encoder.Encode(w, s.picture(i)); err != nil {
		f.Close()
		return err
	}
	if err := w.Flush(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// picture returns image i for an encoder.
func (s *Set) picture(i int) image.Image {
	box := image.Rect(0, 0, s.Width, s.Height)
	if s.Channels == 1 {
		return &image.Gray{Pix: s.Image(i), Stride: s.Width, Rect: box}
	}
	img := image.NewRGBA(box)
	paint(img, 0, 0, s, i)
	return img
}

// WritePNG writes a picture, such as a [Grid].
func WritePNG(path string, img image.Image) error {
	return writeFile(path, func(w io.Writer) error { return png.Encode(w, img) })
}
