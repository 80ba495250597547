package dataset

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/image/bmp"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

func TestFolderRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		want := drawSet(t)
		path := filepath.Join(dir, "set")
		os.RemoveAll(path)
		if err := WriteFolder(path, want); err != nil {
			t.Fatal(err)
		}
		got, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		// The folder is read class by class.
		var order []int
		for c := range want.Classes {
			for i, l := range want.Labels {
				if l == c {
					order = append(order, i)
				}
			}
		}
		if diff := cmp.Diff(want.Subset(order), got); diff != "" {
			t.Fatal(diff)
		}
		key := []byte("key")
		if want.Fingerprint(key) != got.Fingerprint(key) {
			t.Fatal("fingerprint depends on order")
		}
	})
	if left, _ := filepath.Glob(filepath.Join(dir, ".writing-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFingerprint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSet(t)
		key := []byte("a key")
		before := s.Fingerprint(key)
		if len(before) != 64 || before == s.Fingerprint([]byte("another")) {
			t.Fatal("fingerprint does not depend on the key")
		}
		i := rapid.IntRange(0, len(s.Pixels)-1).Draw(t, "pixel")
		s.Pixels[i] ^= 1
		if s.Fingerprint(key) == before {
			t.Fatal("fingerprint does not depend on a pixel")
		}
		s.Pixels[i] ^= 1
		s.Labels[0] = 1 - s.Labels[0]
		if s.Fingerprint(key) == before {
			t.Fatal("fingerprint does not depend on a label")
		}
	})
}

// tree is a folder for a test: a path to contents; nil is an empty folder.
type tree map[string][]byte

func (files tree) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if data == nil {
			os.MkdirAll(path, 0o755)
			continue
		}
		os.MkdirAll(filepath.Dir(path), 0o755)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func greyPNG(width, height int) []byte {
	var b bytes.Buffer
	png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height)))
	return b.Bytes()
}

func colourImage(size int, c color.Color) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	for i := range size * size {
		img.Set(i%size, i/size, c)
	}
	return img
}

func colourPNG(size int, c color.Color) []byte {
	var b bytes.Buffer
	png.Encode(&b, colourImage(size, c))
	return b.Bytes()
}

func TestOpenFolderRefuses(t *testing.T) {
	ok := greyPNG(28, 28)
	many := tree{}
	for i := range 101 {
		many[filepath.Join("c"+string(rune('a'+i/26))+string(rune('a'+i%26)), "x.png")] = ok
	}
	for _, c := range []struct {
		name    string
		files   tree
		options Options
		want    []string
	}{
		{"damaged", tree{"a/1.png": ok, "b/2.png": ok[:40]}, Options{}, []string{"b/2.png", "unreadable image"}},
		{"text named png", tree{"a/1.png": ok, "b/2.png": []byte("hello, this is text")}, Options{}, []string{"b/2.png", "not a png"}},
		{"mixed sizes", tree{"a/1.png": ok, "b/2.png": greyPNG(32, 32)}, Options{}, []string{"b/2.png", "32x32", "a/1.png is 28x28", "mogrify -resize '28x28!'"}},
		{"other size", tree{"a/1.png": ok, "b/2.png": ok}, Options{Size: 32}, []string{"a/1.png", "28x28", "asked for is 32x32"}},
		{"oblong", tree{"a/1.png": greyPNG(28, 32), "b/2.png": ok}, Options{}, []string{"28x32 pixels, want a square", "mogrify"}},
		{"small", tree{"a/1.png": greyPNG(8, 8), "b/2.png": ok}, Options{}, []string{"8x8 pixels, want 28 to 256"}},
		{"large", tree{"a/1.png": greyPNG(512, 512), "b/2.png": ok}, Options{}, []string{"512x512 pixels, want 28 to 256", "256x256!"}},
		{"empty class", tree{"a/1.png": ok, "b": nil}, Options{}, []string{`class "b" has no images`}},
		{"no images", tree{"a": nil, "b": nil}, Options{}, []string{"no images"}},
		{"one class", tree{"a/1.png": ok}, Options{}, []string{"1 classes, want 2 to 100"}},
		{"many classes", many, Options{}, []string{"101 classes"}},
		{"other file", tree{"a/1.png": ok, "b/2.png": ok, "b/notes.txt": []byte("x")}, Options{}, []string{"b/notes.txt", "not an image we read"}},
		{"file beside classes", tree{"a/1.png": ok, "b/2.png": ok, "list.csv": []byte("x")}, Options{}, []string{"list.csv", "not a folder"}},
		{"nested", tree{"a/1.png": ok, "b/c/2.png": ok}, Options{}, []string{"b/c", "a folder within a class"}},
		{"mixed channels", tree{"a/1.png": ok, "b/2.png": colourPNG(28, color.White)}, Options{}, []string{"b/2.png", "colour", "a/1.png has grey"}},
		{"transparent", tree{"a/1.png": colourPNG(28, color.Transparent), "b/2.png": ok}, Options{}, []string{"a/1.png", "transparent"}},
		{"unknown class", tree{"a/1.png": ok, "z/2.png": ok}, Options{Classes: []string{"a", "b"}}, []string{`class "z" is not among`}},
		{"class without folder", tree{"a/1.png": ok}, Options{Classes: []string{"a", "b"}}, []string{`class "b" has no images`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(c.files.write(t), c.options)
			var bad *Error
			if s != nil || !errors.As(err, &bad) || !errors.Is(err, ErrInvalid) {
				t.Fatalf("got error %v, want an *Error", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error is %q, want %q in it", err, want)
				}
			}
		})
	}
}

func TestOpenFolderOrder(t *testing.T) {
	ok := greyPNG(28, 28)
	dir := tree{"10/a.png": ok, "9/a.png": ok, "cat/a.png": ok, "2/a.png": ok, ".git/x": ok, "cat/.DS_Store": []byte("x")}.write(t)
	s, err := OpenFolder(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"2", "9", "10", "cat"}, s.Classes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0, 1, 2, 3}, s.Labels); diff != "" {
		t.Error(diff)
	}
	s, err = OpenFolder(dir, Options{Classes: []string{"cat", "10", "9", "2", "dog"}, AllowEmpty: true})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]int{3, 2, 1, 0}, s.Labels); diff != "" {
		t.Error(diff)
	}
}

// TestOpenFolderFormats reads one colour in every format we can write; the
// content counts, not the name.
func TestOpenFolderFormats(t *testing.T) {
	c := color.RGBA{200, 100, 50, 255}
	img := colourImage(28, c)
	var jpg, gifs, bmps bytes.Buffer
	jpeg.Encode(&jpg, img, &jpeg.Options{Quality: 100})
	exact := image.NewPaletted(img.Bounds(), color.Palette{c, color.Black}) // GIF has no more than a palette.
	gif.Encode(&gifs, exact, nil)
	bmp.Encode(&bmps, img)
	dir := tree{"a/1.png": colourPNG(28, c), "a/2.JPG": jpg.Bytes(), "a/3.gif": gifs.Bytes(), "b/4.bmp": bmps.Bytes(), "b/5.webp": jpg.Bytes()}.write(t)
	for _, channels := range []int{1, 3} {
		s, err := Open(dir, Options{Channels: channels})
		if err != nil {
			t.Fatal(err)
		}
		want := []byte{200, 100, 50}
		if channels == 1 {
			want = []byte{124} // 0.299·200 + 0.587·100 + 0.114·50 = 124.2.
		}
		for i := range s.Len() {
			for k, v := range want {
				// JPEG rounds in another colour space.
				if d := int(s.Image(i)[k]) - int(v); d < -3 || d > 3 {
					t.Errorf("image %d, channel %d is %d, want %d", i, k, s.Image(i)[k], v)
				}
			}
		}
	}
}

func TestOpenFinds(t *testing.T) {
	pixels := make([]byte, 2*28*28)
	images, labels := idx(8, []uint32{2, 28, 28}, pixels), idx(8, []uint32{2}, []byte{0, 1})
	dir := tree{"t10k-images-idx3-ubyte": images, "t10k-labels-idx1-ubyte": labels,
		"train-images.idx3-ubyte": images, "train-labels.idx1-ubyte": labels, "odd-images": images, "other": labels}.write(t)
	for _, c := range []struct {
		name, path string
		options    Options
		want       string
	}{
		{"test", dir, Options{Split: Test}, ""},
		{"train", dir, Options{}, ""},
		{"file", filepath.Join(dir, "t10k-images-idx3-ubyte"), Options{}, ""},
		{"pair", filepath.Join(dir, "odd-images"), Options{Labels: filepath.Join(dir, "other")}, ""},
		{"no labels", filepath.Join(dir, "odd-images"), Options{}, "no IDX file of labels odd-labels"},
		{"missing", filepath.Join(dir, "nothing"), Options{}, "no such file"},
		{"not data", tree{"x": []byte("text")}.write(t) + "/x", Options{}, "neither a folder nor an IDX file"},
		{"no train", tree{"t10k-images-idx3-ubyte": images}.write(t), Options{}, "without train-images-idx3-ubyte"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := Open(c.path, c.options)
			if c.want == "" {
				if err != nil || s.Len() != 2 {
					t.Fatal(err)
				}
			} else if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ErrInvalid with %q", err, c.want)
			}
		})
	}
}

func TestWriteFolderRefuses(t *testing.T) {
	s := &Set{Height: 28, Width: 28, Channels: 1, Pixels: make([]byte, 784), Labels: []int{0}, Classes: []string{"a/b", "c"}}
	dir := t.TempDir()
	if err := WriteFolder(filepath.Join(dir, "x"), s); !errors.Is(err, ErrInvalid) {
		t.Errorf("class with a slash: %v", err)
	}
	s.Classes[0] = "a"
	if err := WriteFolder(dir, s); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("existing folder: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(greyPNG(28, 28))
	f.Add(colourPNG(28, color.RGBA{1, 2, 3, 255}))
	var jpg, gifs, bmps bytes.Buffer
	jpeg.Encode(&jpg, colourImage(28, color.White), nil)
	gif.Encode(&gifs, colourImage(28, color.White), nil)
	bmp.Encode(&bmps, colourImage(28, color.White))
	f.Add(jpg.Bytes())
	f.Add(gifs.Bytes())
	f.Add(bmps.Bytes())
	f.Add([]byte("RIFF\x1a\x00\x00\x00WEBPVP8L\x0d\x00\x00\x00\x2f\x1b\xc0\x06\x00\x07\x10\xfd\x8f\xfe\x07\x22\xa2\xff\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var img image.Image
		var err error
		parsebound.Check(t, len(data), func() {
			img, err = decode(data, func(width, height int) *Error { return checkSize("x", width, height, 0, "") })
		})
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error of a broken image is not ErrInvalid: %v", err)
			}
			return
		}
		for _, channels := range []int{1, 3} {
			pixels, err := bytesOf(img, channels)
			size := img.Bounds().Dx()
			if err == nil && len(pixels) != size*size*channels {
				t.Fatalf("%d bytes for %d pixels, %d channels", len(pixels), size*size, channels)
			}
		}
	})
}
