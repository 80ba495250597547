package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
)

// hugging is a row as Hugging Face's datasets writes it, binaryRow one of bytes.
type (
	hugging struct {
		Image struct {
			Bytes []byte `parquet:"bytes,optional"`
			Path  string `parquet:"path,optional"`
		} `parquet:"image,optional"`
		Text *string `parquet:"text,optional"`
		ID   int64   `parquet:"id"`
	}
	binaryRow struct {
		Image   []byte `parquet:"image"`
		Caption string `parquet:"caption"`
	}
)

func writeParquet[T any](t testing.TB, path string, rows []T, o ...parquet.WriterOption) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := parquet.NewGenericWriter[T](f, append(o, parquet.MaxRowsPerRowGroup(3))...)
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// huggings returns the images and captions of a set as rows.
func huggings(t testing.TB, s *Set) []hugging {
	t.Helper()
	rows := make([]hugging, s.Len())
	for i := range rows {
		var b bytes.Buffer
		if err := png.Encode(&b, s.picture(i)); err != nil {
			t.Fatal(err)
		}
		rows[i].Image.Bytes, rows[i].Image.Path, rows[i].Text = b.Bytes(), "a.png", &s.Captions[i]
	}
	return rows
}

func TestParquetCaptions(t *testing.T) {
	want := captionedSet(8)
	for i := range want.Captions {
		want.Captions[i] += fmt.Sprint(i % 3)
		want.Pixels[i*28*28] = byte(i)
	}
	rows := huggings(t, want)
	var plain []binaryRow
	for _, r := range rows {
		plain = append(plain, binaryRow{r.Image.Bytes, *r.Text})
	}
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	writeParquet(t, at("one.parquet"), rows, parquet.Compression(&parquet.Snappy), parquet.DataPageVersion(1))
	writeParquet(t, at("plain.parquet"), plain, parquet.Compression(&parquet.Zstd))
	writeParquet(t, at("shards/data/train-00000-of-00002.parquet"), rows[:5])
	writeParquet(t, at("shards/data/train-00001-of-00002.parquet"), rows[5:])
	writeParquet(t, at("shards/data/test-00000-of-00001.parquet"), rows[:2])
	writeParquet(t, at("named/a.parquet"), rows[:4])
	writeParquet(t, at("named/b.parquet"), rows[4:])
	if err := os.WriteFile(at("shards/README.md"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"one.parquet", "plain.parquet", "shards", "named"} {
		got, err := Open(at(name), Options{Size: 28, Channels: 1})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !bytes.Equal(got.Pixels, want.Pixels) || !slices.Equal(got.Captions, want.Captions) || got.Labels != nil || got.Check() != nil {
			t.Errorf("%s: read %d images, captions %q, labels %v", name, got.Len(), got.Captions, got.Labels)
		}
		if got.Fingerprint([]byte("k")) != want.Fingerprint([]byte("k")) {
			t.Errorf("%s: a ledger would not know it again", name)
		}
	}
	if test, err := Open(at("shards"), Options{Split: Test}); err != nil || test.Len() != 2 {
		t.Errorf("the other split: %v", err)
	}
}

// What pyarrow 26.0.1 and datasets 5.2.0 wrote (testdata/parquet.py).
func TestParquetOfOthers(t *testing.T) {
	files, err := filepath.Glob("testdata/*.parquet")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, path := range files {
		s, err := Open(path, Options{})
		if err != nil {
			t.Error(err)
			continue
		}
		for i, text := range s.Captions {
			if want := fmt.Sprintf("caption %d, ünïcode", i%2); text != want || s.Image(i)[0] != byte(10*i) {
				t.Errorf("%s: image %d begins with %d, caption %q", path, i, s.Image(i)[0], text)
			}
		}
		if s.Len() != 5 || s.Channels != 1 || s.Height != 28 {
			t.Errorf("%s: %d images of %d pixels", path, s.Len(), s.Height)
		}
	}
}

func TestParquetRefuses(t *testing.T) {
	type noText struct {
		Image []byte `parquet:"image"`
		Label int64  `parquet:"label"`
	}
	type both struct {
		Image   []byte `parquet:"image"`
		Text    string `parquet:"text"`
		Caption string `parquet:"caption"`
	}
	good := func() []hugging { return huggings(t, captionedSet(4)) }
	change := func(f func(r *hugging)) []hugging {
		rows := good()
		f(&rows[2])
		return rows
	}
	long := strings.Repeat(secret, 6000)
	for name, c := range map[string]struct {
		write func(path string)
		want  string
	}{
		"no caption column": {func(p string) { writeParquet(t, p, []noText{{greyPNG(28, 28), 1}}) }, "no column text or caption"},
		"both":              {func(p string) { writeParquet(t, p, []both{{greyPNG(28, 28), secret, secret}}) }, "columns text and caption"},
		"no images":         {func(p string) { writeParquet(t, p, []hugging{}) }, "no images"},
		"no image column": {func(p string) { writeParquet(t, p, []struct{ Text string }{{secret}}) },
			"no column image"},
		"path only":   {func(p string) { writeParquet(t, p, change(func(r *hugging) { r.Image.Bytes = nil })) }, "row 3: no bytes of an image"},
		"no text":     {func(p string) { writeParquet(t, p, change(func(r *hugging) { r.Text = nil })) }, "row 3: no text"},
		"long":        {func(p string) { writeParquet(t, p, change(func(r *hugging) { r.Text = &long })) }, "row 3: the text has 72000 bytes"},
		"not a image": {func(p string) { writeParquet(t, p, change(func(r *hugging) { r.Image.Bytes = []byte(secret) })) }, "row 3: not a png"},
		"other size":  {func(p string) { writeParquet(t, p, change(func(r *hugging) { r.Image.Bytes = greyPNG(30, 30) })) }, "row 3: image is 30x30"},
		"colour": {func(p string) {
			writeParquet(t, p, change(func(r *hugging) { r.Image.Bytes = colourPNG(28, color.RGBA{1, 2, 3, 255}) }))
		}, "row 3: image has colour"},
		"cut": {func(p string) {
			writeParquet(t, p, good())
			data, err := os.ReadFile(p)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(p, data[:len(data)/2], 0o644); err != nil {
				t.Fatal(err)
			}
		}, "it was cut"},
		"half a split": {func(p string) {
			writeParquet(t, filepath.Join(filepath.Dir(p), "train-00000-of-00002.parquet"), good())
			os.Remove(p)
		}, "1 Parquet files of a split of 00002"},
		"another split": {func(p string) {
			writeParquet(t, filepath.Join(filepath.Dir(p), "validation-00000-of-00001.parquet"), good())
			os.Remove(p)
		}, "other splits only"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			c.write(filepath.Join(dir, "x.parquet"))
			_, err := Open(dir, Options{})
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
			var bad *Error
			if errors.As(err, &bad) && bad.Path != dir && !strings.HasPrefix(bad.Path, dir+string(filepath.Separator)) {
				t.Errorf("the error's path is %q, by which nobody knows that it is private", bad.Path)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("error holds a caption or an image: %v", err)
			}
		})
	}
}
