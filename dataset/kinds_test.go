package dataset

import (
	"bytes"
	"errors"
	"image"
	"image/color"
	"image/gif"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func encodePNG(t *testing.T, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encodeGIF(t *testing.T, frames int) []byte {
	t.Helper()
	g := &gif.GIF{}
	for range frames {
		g.Image = append(g.Image, image.NewPaletted(image.Rect(0, 0, 28, 28), color.Palette{color.RGBA{200, 100, 50, 255}, color.Black}))
		g.Delay = append(g.Delay, 10)
	}
	var b bytes.Buffer
	if err := gif.EncodeAll(&b, g); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func readTestdata(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// filled paints every pixel of an image.
func filled(img interface {
	image.Image
	Set(x, y int, c color.Color)
}, c color.Color) image.Image {
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			img.Set(x, y, c)
		}
	}
	return img
}

// The kinds of picture that people have: each is read as the colour it shows,
// or refused with a reason.
func TestKindsOfPictures(t *testing.T) {
	box := image.Rect(0, 0, 28, 28)
	c := color.RGBA{200, 100, 50, 255}
	colour, grey := []byte{200, 100, 50}, []byte{100, 100, 100}
	half := color.NRGBA{200, 100, 50, 128}
	hole := filled(image.NewNRGBA(box), c).(*image.NRGBA)
	hole.SetNRGBA(13, 5, color.NRGBA{})
	whole := encodePNG(t, filled(image.NewRGBA(box), c))
	for _, k := range []struct {
		name, file string
		data       []byte
		want       []byte // Colour of every pixel; nil where it is refused.
		problem    string
	}{
		{"16-bit grey", "a.png", encodePNG(t, filled(image.NewGray16(box), color.Gray16{100<<8 | 17})), grey, ""},
		{"16-bit colour", "a.png", encodePNG(t, filled(image.NewRGBA64(box), color.RGBA64{200<<8 | 3, 100<<8 | 200, 50 << 8, 0xffff})), colour, ""},
		{"palette", "a.png", encodePNG(t, filled(image.NewPaletted(box, color.Palette{color.Black, c}), c)), colour, ""},
		{"palette of greys", "a.png", encodePNG(t, filled(image.NewPaletted(box, color.Palette{color.Gray{100}}), color.Gray{100})), grey, ""},
		{"alpha, opaque", "a.png", encodePNG(t, filled(image.NewNRGBA(box), c)), colour, ""},
		{"alpha, half", "a.png", encodePNG(t, filled(image.NewNRGBA(box), half)), nil, "transparent pixels"},
		{"alpha, one pixel", "a.png", encodePNG(t, hole), nil, "transparent pixels"},
		{"16-bit alpha, half", "a.png", encodePNG(t, filled(image.NewNRGBA64(box), half)), nil, "transparent pixels"},
		{"palette with a hole", "a.png", encodePNG(t, image.NewPaletted(box, color.Palette{color.Transparent, c})), nil, "transparent pixels"},
		{"CMYK JPEG", "a.jpg", readTestdata(t, "cmyk-red-28.jpg"), []byte{255, 0, 0}, ""},
		{"PNG named jpg", "a.jpg", whole, colour, ""},
		{"capitals", "A.PNG", whole, colour, ""},
		{"one-frame GIF named png", "a.png", encodeGIF(t, 1), colour, ""},
		{"animated GIF named png", "a.png", encodeGIF(t, 2), nil, "the image is animated, want one frame"},
		{"GIF cut behind its frame", "a.gif", encodeGIF(t, 2)[:len(encodeGIF(t, 2))-10], nil, "animated"},
		{"animated PNG", "a.png", readTestdata(t, "animated.png"), nil, "the image is animated, want one frame"},
		{"empty file", "a.png", []byte{}, nil, "the file is empty"},
		{"cut", "a.png", whole[:len(whole)/2], nil, "unreadable image"},
		{"cut to its header", "a.png", whole[:8], nil, "unreadable image"},
		{"text", "a.png", []byte("no picture"), nil, "not a png"},
		{"TIFF", "a.tif", []byte("II*\x00"), nil, "not an image we read"},
		{"Thumbs.db", "Thumbs.db", []byte("x"), grey, ""},
		{"desktop.ini", "desktop.ini", []byte("x"), grey, ""},
		{"hidden", ".a.png", []byte("x"), grey, ""},
		{"other file", "README.txt", []byte("x"), nil, "not an image we read"},
	} {
		t.Run(k.name, func(t *testing.T) {
			files := tree{"b c/0.png": encodePNG(t, filled(image.NewGray(box), color.Gray{100})), "é/0.png": encodePNG(t, filled(image.NewGray(box), color.Gray{100}))}
			files["b c/"+k.file] = k.data
			s, err := Open(files.write(t), Options{Channels: 3})
			if k.want == nil {
				var bad *Error
				if !errors.As(err, &bad) || filepath.Base(bad.Path) != k.file || !strings.Contains(err.Error(), k.problem) {
					t.Fatalf("error is %v, want one that names %s and says %q", err, k.file, k.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			got := s.Image(0)
			if s.Len() == 3 { // It comes after 0.png.
				got = s.Image(1)
			}
			for i, v := range got {
				// JPEG rounds in another colour space.
				if d := int(v) - int(k.want[i%3]); d < -3 || d > 3 {
					t.Fatalf("value %d is %d, want %d", i, v, k.want[i%3])
				}
			}
			if s.Classes[0] != "b c" || s.Classes[1] != "é" {
				t.Errorf("classes are %q", s.Classes)
			}
		})
	}
}

// What is not a file of its own: links are followed, to images and to class
// folders; folders, pipes and links to nowhere are refused by name.
func TestFoldersLinksAndPipes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("left out: links and pipes differ on Windows")
	}
	ok := greyPNG(28, 28)
	for _, k := range []struct {
		name    string
		make    func(dir string) error
		problem string // "" where it is taken.
	}{
		{"link to an image", func(dir string) error {
			return os.Symlink(filepath.Join(dir, "b", "0.png"), filepath.Join(dir, "a", "x.png"))
		}, ""},
		{"link to a class", func(dir string) error { return os.Symlink(filepath.Join(dir, "b"), filepath.Join(dir, "c")) }, ""},
		{"link to nowhere", func(dir string) error {
			return os.Symlink(filepath.Join(dir, "gone.png"), filepath.Join(dir, "a", "x.png"))
		}, "no such file or folder"},
		{"link to itself", func(dir string) error { return os.Symlink("x.png", filepath.Join(dir, "a", "x.png")) }, "a link that leads to itself"},
		{"folder named png", func(dir string) error { return os.Mkdir(filepath.Join(dir, "a", "x.png"), 0o755) }, "a folder within a class"},
		{"pipe named png", func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "a", "x.png"), 0o644) }, "not a file"},
	} {
		t.Run(k.name, func(t *testing.T) {
			dir := tree{"a/0.png": ok, "b/0.png": ok}.write(t)
			if err := k.make(dir); err != nil {
				t.Fatal(err)
			}
			s, err := Open(dir, Options{})
			if k.problem == "" {
				if err != nil || s.Len() != 3 {
					t.Errorf("got %v, want three images", err)
				}
				return
			}
			var bad *Error
			if !errors.As(err, &bad) || filepath.Base(bad.Path) != "x.png" || !strings.Contains(err.Error(), k.problem) {
				t.Errorf("error is %v, want one that names x.png and says %q", err, k.problem)
			}
		})
	}
}

func TestClassNames(t *testing.T) {
	ok := greyPNG(28, 28)
	pixels := idx(8, []uint32{2, 28, 28}, make([]byte, 2*28*28))
	for _, k := range []struct {
		name    string
		files   tree
		want    string // Names, separated by commas.
		problem string
	}{
		{"folders", tree{"10/x.png": ok, "9/x.png": ok, "cat food/x.png": ok, ".git/x": ok, "Thumbs.db": ok}, "9,10,cat food", ""},
		{"idx", tree{"train-images-idx3-ubyte": pixels}, "", ""},
		{"idx beside a folder", tree{"train-images-idx3-ubyte.gz": pixels, "raw/x": ok}, "", ""},
		{"images without classes", tree{"x.png": ok}, "", "neither class folders nor IDX files"},
		{"nothing", tree{}, "", "neither class folders nor IDX files"},
	} {
		t.Run(k.name, func(t *testing.T) {
			got, err := ClassNames(k.files.write(t))
			if strings.Join(got, ",") != k.want {
				t.Errorf("names are %q, want %s", got, k.want)
			}
			if (k.problem == "") != (err == nil) || err != nil && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), k.problem)) {
				t.Errorf("error is %v, want %q", err, k.problem)
			}
		})
	}
}

// A name that CheckClassName takes can be written and read back.
func TestCheckClassName(t *testing.T) {
	for _, name := range []string{"", ".", "..", ".x", "a/b", `a\b`, "a\nb", "a\x00b", " a", "a ", "\xff", strings.Repeat("x", 201), "thumbs.DB"} {
		if err := CheckClassName(name); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q gives %v, want ErrInvalid", name, err)
		}
	}
	for _, name := range []string{"0", "cat food", "été", "猫", "a.b", "con'd", "<b>", "a,b", strings.Repeat("x", 200)} {
		if err := CheckClassName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		s := &Set{Height: 28, Width: 28, Channels: 1, Pixels: make([]byte, 2*784), Labels: []int{0, 1}, Classes: []string{name, "other"}}
		dir := filepath.Join(t.TempDir(), "set")
		if err := WriteFolder(dir, s); err != nil {
			t.Fatal(err)
		}
		if again, err := Open(dir, Options{Classes: s.Classes}); err != nil || again.Len() != 2 {
			t.Errorf("%q does not come back: %v", name, err)
		}
	}
}
