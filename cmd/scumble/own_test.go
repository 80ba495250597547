package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
)

// call runs the command in this process.
func call(args ...string) (code int, out, talk string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, &o, &e)
	return code, o.String(), e.String()
}

// ownBase makes base models of a few thousand parameters: base1 (grey) and
// base3 (colour) in the current folder.
func ownBase(t *testing.T, channels ...int) {
	t.Helper()
	for _, c := range channels {
		recipe := strings.Replace(killBase, "channels: 1", fmt.Sprintf("channels: %d", c), 1)
		recipe = strings.ReplaceAll(recipe, "_channels: 16", fmt.Sprintf("_channels: %d", 16*c))
		write(t, "base.yaml", []byte(recipe))
		if code, _, talk := call("pretrain", "base.yaml", "--out", fmt.Sprintf("base%d", c), "--backend", "go", "--quiet"); code != exitDone {
			t.Fatalf("pretrain: exit code %d\n%s", code, talk)
		}
	}
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// picture is a square of one colour.
func picture(t *testing.T, size, channels, shade int) []byte {
	t.Helper()
	var img image.Image
	if channels == 1 {
		g := image.NewGray(image.Rect(0, 0, size, size))
		for i := range g.Pix {
			g.Pix[i] = byte(shade)
		}
		img = g
	} else {
		c := image.NewNRGBA(image.Rect(0, 0, size, size))
		for i := range size * size {
			c.Set(i%size, i/size, color.NRGBA{byte(shade), 90, byte(255 - shade), 255})
		}
		img = c
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// idxFile is an IDX file of bytes, by the format's description alone.
func idxFile(shape []int, values []byte) []byte {
	b := []byte{0, 0, 8, byte(len(shape))}
	for _, n := range shape {
		b = binary.BigEndian.AppendUint32(b, uint32(n))
	}
	return append(b, values...)
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	return b.Bytes()
}

// ownConfig is a run of two steps.
func ownConfig(base, path string, examples int, data, privacy string) string {
	return fmt.Sprintf(`base: %s
method: loda
data: {path: %s, examples: %d%s}
privacy: {%s}
training: {steps: 2, expected_batch_size: 4, clipping_norm: 1, learning_rate: 1.0e-3}
sampling: {count: 4, steps: 1}
`, base, path, examples, data, privacy)
}

const ownClaim = "epsilon: 5, delta: 1.0e-3"

// Images of any size, channels, classes and form go the whole way. (Scoring
// with eval takes minutes; way.txt has it once.)
func TestOwnImagesOfEveryShape(t *testing.T) {
	slow := os.Getenv("SCUMBLE_SLOW") != ""
	t.Chdir(t.TempDir())
	ownBase(t, 1, 3)
	for _, k := range []struct {
		size, channels, classes int
		form                    string // "folder", "idx" or "gz".
		always                  bool
	}{
		{28, 1, 2, "idx", false},
		{32, 3, 10, "folder", true},
		{48, 1, 100, "gz", true},
		{64, 3, 2, "idx", false},
		{28, 3, 100, "folder", false},
		{32, 1, 100, "idx", false},
		{48, 3, 10, "gz", false},
		{64, 1, 2, "folder", true},
		{64, 1, 10, "gz", false},
	} {
		name := fmt.Sprintf("%d-%d-%d-%s", k.size, k.channels, k.classes, k.form)
		t.Run(name, func(t *testing.T) {
			if !k.always && !slow {
				t.Skip("left out: SCUMBLE_SLOW is not set")
			}
			names := make([]string, k.classes)
			for i := range names {
				names[i] = []string{"benign tumour", "höher", "猫", "a.b"}[i%4] + fmt.Sprint(i)
			}
			slices.Sort(names) // As the reader orders folders.
			data := name + ".data"
			var pixels, labels []byte
			n := 2 * k.classes
			for i := range n {
				labels = append(labels, byte(i%k.classes))
				for j := range k.size * k.size * k.channels {
					pixels = append(pixels, byte(7*i+j))
				}
				if k.form == "folder" {
					write(t, filepath.Join(data, names[i%k.classes], fmt.Sprintf("patient %d.png", i)), picture(t, k.size, k.channels, 2*i))
				}
			}
			shape := []int{n, k.size, k.size, k.channels}
			kind := "idx4"
			if k.channels == 1 {
				shape, kind = shape[:3], "idx3"
			}
			images, marks := idxFile(shape, pixels), idxFile([]int{n}, labels)
			switch k.form {
			case "idx":
				write(t, filepath.Join(data, "train-images-"+kind+"-ubyte"), images)
				write(t, filepath.Join(data, "train-labels-idx1-ubyte"), marks)
			case "gz":
				write(t, filepath.Join(data, "train-images-"+kind+"-ubyte.gz"), zipped(images))
				write(t, filepath.Join(data, "train-labels-idx1-ubyte.gz"), zipped(marks))
			}
			public := fmt.Sprintf(", size: %d", k.size)
			if k.form != "folder" {
				quoted, err := json.Marshal(names)
				if err != nil {
					t.Fatal(err)
				}
				public += ", classes: " + string(quoted)
			}
			config := strings.Replace(ownConfig(fmt.Sprintf("base%d", k.channels), data, max(4, n), public, ownClaim), "count: 4", fmt.Sprintf("count: %d", n), 1)
			write(t, name+".yaml", []byte(config))
			for _, args := range [][]string{
				{"data", "check", data},
				{"plan", name + ".yaml", "--backend", "go"},
				{"finetune", name + ".yaml", "--out", name + ".run", "--backend", "go", "--quiet"},
				{"sample", name + ".run", "--count", fmt.Sprint(k.classes), "--steps", "1", "--out", name + ".more", "--backend", "go", "--quiet"},
				{"report", name + ".run"},
			} {
				if code, _, talk := call(args...); code != exitDone {
					t.Fatalf("scumble %s: exit code %d\n%s", strings.Join(args, " "), code, talk)
				}
			}
			set, err := dataset.Open(filepath.Join(name+".run", "release", "synthetic"), dataset.Options{})
			if err != nil {
				t.Fatal(err)
			}
			if set.Len() != n || set.Width != k.size || set.Channels != k.channels || !slices.Equal(set.Classes, names) {
				t.Errorf("synthetic set has %d images of %dx%dx%d, classes %q", set.Len(), set.Width, set.Height, set.Channels, set.Classes)
			}
		})
	}
}

// What is wrong with images or config stops a run before it spends anything,
// with its exit code and a sentence, and leaves nothing behind.
func TestOwnImagesThatCannotBeUsed(t *testing.T) {
	t.Chdir(t.TempDir())
	ownBase(t, 1)
	ok := picture(t, 28, 1, 50)
	pixels := make([]byte, 4*28*28)
	idx := func(labels ...byte) map[string][]byte {
		return map[string][]byte{"train-images-idx3-ubyte": idxFile([]int{4, 28, 28}, pixels), "train-labels-idx1-ubyte": idxFile([]int{len(labels)}, labels)}
	}
	folder := func(name string, data []byte) map[string][]byte {
		return map[string][]byte{"a/1.png": ok, "b/2.png": ok, name: data}
	}
	ab := ", classes: [a, b]"
	for _, k := range []struct {
		name          string
		files         map[string][]byte
		data, privacy string // Of the config.
		out           string // "" means run.
		code          int
		want          string
	}{
		{"cut image", folder("b/3.png", ok[:50]), "", ownClaim, "", exitInvalid, "b/3.png: unreadable image"},
		{"empty file", folder("b/3.png", []byte{}), "", ownClaim, "", exitInvalid, "b/3.png: the file is empty"},
		{"not an image", folder("b/notes.txt", []byte("x")), "", ownClaim, "", exitInvalid, "b/notes.txt: not an image we read"},
		{"other size", folder("b/3.png", picture(t, 32, 1, 9)), "", ownClaim, "", exitInvalid, "mogrify -resize '28x28!'"},
		{"not square", folder("b/3.png", picture(t, 40, 1, 9)), ", size: 40", ownClaim, "", exitInvalid, "28x28 pixels, but the size asked for is 40x40"},
		{"one class", map[string][]byte{"a/1.png": ok}, "", ownClaim, "", exitInvalid, "1 names, want 2 to 100"},
		{"no classes", map[string][]byte{"1.png": ok}, "", ownClaim, "", exitInvalid, "holds neither class folders nor IDX files"},
		{"empty class", folder("a/.keep", nil), ", classes: [a, b, c]", ownClaim, "", exitInvalid, `class "c" has no images`},
		{"class not named", folder("c/1.png", ok), ab, ownClaim, "", exitInvalid, `class "c" is not among the 2 wanted`},
		{"class twice", folder("a/2.png", ok), ", classes: [a, a]", ownClaim, "", exitInvalid, `"a" is there twice`},
		{"class with a slash", idx(0, 1, 1, 0), ", classes: [a, b/c]", ownClaim, "", exitInvalid, `class "b/c" has a slash`},
		{"class with a line break", folder("a\nb/1.png", ok), "", ownClaim, "", exitInvalid, `class "a\nb" has characters that do not print`},
		{"label out of range", idx(0, 1, 2, 1), ab, ownClaim, "", exitInvalid, "label 2 of image 2 is out of range, want 0 to 1"},
		{"too few labels", idx(0, 1, 1), ab, ownClaim, "", exitInvalid, "3 labels for the 4 images"},
		{"class without label", idx(0, 0, 0, 0), ab, ownClaim, "", exitInvalid, `class "b" has no images`},
		{"no names for labels", idx(0, 1, 1, 0), "", ownClaim, "", exitInvalid, "data.classes is missing"},
		{"cut idx", map[string][]byte{"train-images-idx3-ubyte.gz": zipped(idxFile([]int{4, 28, 28}, pixels))[:30], "train-labels-idx1-ubyte": idxFile([]int{4}, []byte{0, 1, 1, 0})}, ab, ownClaim, "", exitInvalid, "cannot read the"},
		{"nothing there", nil, "", ownClaim, "", exitInvalid, "no such file or folder"},
		{"colour asked of a grey base", folder("a/2.png", ok), ", channels: 3", ownClaim, "", exitInvalid, "choose a base model with 3"},
		{"size of no kind", folder("a/2.png", ok), ", size: 257", ownClaim, "", exitInvalid, "data.size is 257 pixels, want 28 to 256"},
		{"epsilon zero", folder("a/2.png", ok), "", "epsilon: 0, delta: 1.0e-3", "", exitInvalid, "privacy.epsilon is 0, want positive"},
		{"epsilon negative", folder("a/2.png", ok), "", "epsilon: -1, delta: 1.0e-3", "", exitInvalid, "privacy.epsilon is -1, want positive"},
		{"epsilon nan", folder("a/2.png", ok), "", "epsilon: .nan, delta: 1.0e-3", "", exitInvalid, "privacy.epsilon is NaN, want positive"},
		{"epsilon infinite", folder("a/2.png", ok), "", "epsilon: .inf, delta: 1.0e-3", "", exitInvalid, "privacy.epsilon is +Inf, want at most"},
		{"delta of one in n", folder("a/2.png", ok), "", "epsilon: 5, delta: 0.25", "", exitInvalid, "below 1/data.examples = 0.25"},
		{"place under a file", folder("a/2.png", ok), "", ownClaim, "base.yaml/run", exitResources, "base.yaml is a file; choose another place"},
		{"place that cannot be written", folder("a/2.png", ok), "", ownClaim, "/proc/scumble/run", exitResources, "choose a place that can be written"},
		{"place among the images", folder("a/2.png", ok), "", ownClaim, "DATA/run", exitMisuse, "lies in"},
	} {
		t.Run(k.name, func(t *testing.T) {
			data := strings.ReplaceAll(k.name, " ", "-")
			for name, text := range k.files {
				write(t, filepath.Join(data, name), text)
			}
			write(t, data+".yaml", []byte(ownConfig("base1", data, 4, k.data, k.privacy)))
			out := strings.Replace(k.out, "DATA", data, 1)
			if out == "" {
				out = "run"
			}
			before := everything(t)
			code, stdout, talk := call("finetune", data+".yaml", "--out", out, "--backend", "go")
			if code != k.code {
				t.Errorf("exit code is %d, want %d:\n%s", code, k.code, talk)
			}
			if !strings.Contains(talk, k.want) {
				t.Errorf("want %q in\n%s", k.want, talk)
			}
			if stdout != "" {
				t.Errorf("standard output is %q", stdout)
			}
			if after := everything(t); !slices.Equal(before, after) {
				t.Errorf("left behind: %v, before %v", after, before)
			}
		})
	}
}

// everything lists all files below the current folder.
func everything(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.Walk(".", func(path string, _ os.FileInfo, err error) error {
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
