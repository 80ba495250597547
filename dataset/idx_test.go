package dataset

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

// drawSet returns a set that every reader takes: each class has an image.
func drawSet(t *rapid.T) *Set {
	size := rapid.IntRange(MinSize, MinSize+3).Draw(t, "size")
	s := &Set{Height: size, Width: size, Channels: rapid.SampledFrom([]int{1, 3}).Draw(t, "channels")}
	classes := rapid.IntRange(MinClasses, 12).Draw(t, "classes")
	for i := range classes {
		s.Classes = append(s.Classes, string(rune('0'+i/10))+string(rune('0'+i%10)))
		s.Labels = append(s.Labels, i)
	}
	s.Labels = append(s.Labels, rapid.SliceOfN(rapid.IntRange(0, classes-1), 0, 8).Draw(t, "labels")...)
	s.Pixels = make([]byte, len(s.Labels)*s.ImageSize())
	x := rapid.Uint32().Draw(t, "pixels")
	for i := range s.Pixels {
		x = x*1664525 + 1013904223
		s.Pixels[i] = byte(x >> 24)
	}
	return s
}

func TestIDXRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		want := drawSet(t)
		end := rapid.SampledFrom([]string{"", ".gz"}).Draw(t, "end")
		images, labels := filepath.Join(dir, "a-images-idx3-ubyte"+end), filepath.Join(dir, "a-labels-idx1-ubyte"+end)
		if err := WriteIDX(images, labels, want); err != nil {
			t.Fatal(err)
		}
		got, err := OpenIDX(images, labels, Options{Classes: want.Classes})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
		got, err = OpenIDX(images, "", Options{Size: want.Height})
		if err != nil || got.Labels != nil || !bytes.Equal(got.Pixels, want.Pixels) {
			t.Fatalf("images alone: labels %v, %v", got.Labels, err)
		}
	})
	if left, _ := filepath.Glob(filepath.Join(dir, ".writing-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// idx builds a file by hand, from the format's description alone.
func idx(kind byte, shape []uint32, values []byte) []byte {
	b := []byte{0, 0, kind, byte(len(shape))}
	for _, n := range shape {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return append(b, values...)
}

func TestOpenIDXRefuses(t *testing.T) {
	pixels := make([]byte, 3*28*28)
	images := idx(8, []uint32{3, 28, 28}, pixels)
	labels := idx(8, []uint32{3}, []byte{0, 1, 1})
	for _, c := range []struct {
		name           string
		images, labels []byte
		options        Options
		want           string
	}{
		{"text", []byte("hello world"), labels, Options{}, "not an IDX file"},
		{"empty file", nil, labels, Options{}, "cannot read the header"},
		{"floats", idx(13, []uint32{3, 28, 28}, pixels), labels, Options{}, "type 0x0d"},
		{"two dimensions", idx(8, []uint32{3, 28}, pixels), labels, Options{}, "2 dimensions"},
		{"cut", images[:len(images)-1], labels, Options{}, "2351 bytes after the header, want 2352"},
		{"too long", append(bytes.Clone(images), 0), labels, Options{}, "at least 2353 bytes"},
		{"huge", idx(8, []uint32{1 << 31, 1 << 31, 1 << 31}, nil), labels, Options{}, "asks for over"},
		{"none", idx(8, []uint32{0, 28, 28}, nil), labels, Options{}, "no images"},
		{"small", idx(8, []uint32{1, 27, 27}, make([]byte, 27*27)), labels, Options{}, "27x27 pixels, want 28 to 256"},
		{"large", idx(8, []uint32{1, 257, 257}, make([]byte, 257*257)), labels, Options{}, "257x257 pixels, want 28 to 256"},
		{"oblong", idx(8, []uint32{1, 28, 30}, make([]byte, 28*30)), labels, Options{}, "30x28 pixels, want a square"},
		{"other size", images, labels, Options{Size: 32}, "28x28 pixels, but the size asked for is 32x32"},
		{"two channels", idx(8, []uint32{1, 28, 28, 2}, make([]byte, 28*28*2)), labels, Options{}, "2 channels"},
		{"labels as images", labels, labels, Options{}, "1 dimension, want 3 or 4"},
		{"images as labels", images, images, Options{}, "3 dimensions, want 1"},
		{"fewer labels", images, idx(8, []uint32{2}, []byte{0, 1}), Options{}, "2 labels for the 3 images"},
		{"label out of range", images, idx(8, []uint32{3}, []byte{0, 1, 2}), Options{Classes: []string{"a", "b"}}, "label 2 of image 2 is out of range, want 0 to 1"},
		{"empty class", images, idx(8, []uint32{3}, []byte{0, 2, 2}), Options{}, `class "1" has no images`},
		{"one class", images, idx(8, []uint32{3}, []byte{0, 0, 0}), Options{}, "1 classes, want 2 to 100"},
		{"many classes", images, idx(8, []uint32{3}, []byte{0, 0, 100}), Options{}, "101 classes, want 2 to 100"},
		{"bad size asked", images, labels, Options{Size: 20}, "size is 20 pixels"},
		{"cut gzip", []byte{0x1f, 0x8b, 8}, labels, Options{}, "cannot read the gzip"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			i, l := filepath.Join(dir, "i"), filepath.Join(dir, "l")
			os.WriteFile(i, c.images, 0o644)
			os.WriteFile(l, c.labels, 0o644)
			s, err := OpenIDX(i, l, c.options)
			if s != nil || !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got error %v, want ErrInvalid with %q", err, c.want)
			}
			if c.options.Size != 20 {
				var bad *Error
				if !errors.As(err, &bad) || bad.Path == "" {
					t.Errorf("got error %#v, want an *Error that names the file", err)
				}
			}
		})
	}
}

// TestOpenIDXConverts checks the luminance weights on pure colours.
func TestOpenIDXConverts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "i")
	pixels := make([]byte, 28*28*3)
	copy(pixels, []byte{255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255})
	os.WriteFile(path, idx(8, []uint32{1, 28, 28, 3}, pixels), 0o644)
	s, err := OpenIDX(path, "", Options{Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	// 0.299, 0.587 and 0.114 of 255, rounded.
	if got, want := s.Pixels[:4], []byte{76, 150, 29, 255}; !bytes.Equal(got, want) {
		t.Errorf("grey of red, green, blue, white is %v, want %v", got, want)
	}
	if len(s.Pixels) != 28*28 {
		t.Errorf("%d pixels, want %d", len(s.Pixels), 28*28)
	}
}

// TestOpenMNIST checks only what the data's README says of it.
func TestOpenMNIST(t *testing.T) {
	dir := filepath.Join("..", "data", "mnist-10k")
	for split, want := range map[Split]int{Train: 8000, Test: 2000} {
		s, err := Open(dir, Options{Split: split})
		if err != nil {
			t.Fatal(err)
		}
		if s.Len() != want || s.Height != 28 || s.Width != 28 || s.Channels != 1 || len(s.Classes) != 10 {
			t.Errorf("%s: %d images of %dx%dx%d, %d classes", split, s.Len(), s.Height, s.Width, s.Channels, len(s.Classes))
		}
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	}
}

func FuzzReadIDX(f *testing.F) {
	f.Add(idx(8, []uint32{2, 2, 2}, make([]byte, 8)))
	f.Add(idx(8, []uint32{3}, []byte{1, 2, 3}))
	f.Add(idx(8, []uint32{1 << 31, 1 << 31, 1 << 31}, nil))
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(idx(8, []uint32{1, 1, 1, 3}, []byte{1, 2, 3}))
	w.Close()
	f.Add(z.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		var shape []int
		var values []byte
		var err error
		parsebound.Check(t, len(data), func() { shape, values, err = readIDX(bytes.NewReader(data)) })
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error of a broken file is not ErrInvalid: %v", err)
			}
			return
		}
		total := 1
		for _, n := range shape {
			total *= n
		}
		if total != len(values) {
			t.Fatalf("%d values of shape %v", len(values), shape)
		}
		if data[0] == 0 && len(data) < 1<<16 {
			sizes := make([]uint32, len(shape))
			for i, n := range shape {
				sizes[i] = uint32(n)
			}
			if !bytes.Equal(idx(8, sizes, values), data) {
				t.Fatal("parsed and built again, the file differs")
			}
		}
	})
}
