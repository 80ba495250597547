package parquetfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

// line is a row of the files that another library writes for us.
type line struct {
	Image struct {
		Bytes []byte `parquet:"bytes,optional"`
		Path  string `parquet:"path"`
	} `parquet:"image"`
	Text  *string  `parquet:"text,optional"`
	Word  string   `parquet:"word,dict"`
	Delta string   `parquet:"delta,delta"`
	Label int64    `parquet:"label,delta"`
	Small *int32   `parquet:"small,optional,dict"`
	Many  []string `parquet:"many,list"`
}

var codecsOf = map[string]compress.Codec{"none": &parquet.Uncompressed, "snappy": &parquet.Snappy, "gzip": &parquet.Gzip, "zstd": &parquet.Zstd, "lz4": &parquet.Lz4Raw}

func written(t interface{ Fatal(...any) }, rows []line, version, perGroup int, codec compress.Codec) []byte {
	var b bytes.Buffer
	w := parquet.NewGenericWriter[line](&b, parquet.DataPageVersion(version), parquet.MaxRowsPerRowGroup(int64(perGroup)), parquet.Compression(codec),
		parquet.PageBufferSize(256), parquet.KeyValueMetadata("k", "v"))
	if _, err := w.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(data []byte) (*File, error) { return New(bytes.NewReader(data), int64(len(data))) }

// TestRead: what parquet-go writes reads back, whatever the codec, the version of
// pages and the sizes.
func TestRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := make([]line, rapid.IntRange(1, 300).Draw(t, "rows"))
		for i := range rows {
			r := &rows[i]
			if rapid.IntRange(0, 9).Draw(t, "null") > 0 {
				r.Image.Bytes = rapid.SliceOfN(rapid.Byte(), 1, 40).Draw(t, "image")
				r.Text = new(rapid.StringN(0, 20, 40).Draw(t, "text"))
				r.Small = new(rapid.Int32Range(-3, 3).Draw(t, "small"))
			}
			r.Image.Path, r.Word = fmt.Sprint(i), rapid.SampledFrom([]string{"a", "bb", ""}).Draw(t, "word")
			r.Delta, r.Label = "same "+fmt.Sprint(i), rapid.Int64().Draw(t, "label")
		}
		codec := rapid.SampledFrom([]string{"none", "snappy", "gzip", "zstd", "lz4"}).Draw(t, "codec")
		data := written(t, rows, rapid.IntRange(1, 2).Draw(t, "version"), rapid.IntRange(7, 400).Draw(t, "group"), codecsOf[codec])
		f, err := open(data)
		if err != nil {
			t.Fatal(err)
		}
		if v, _ := f.Lookup("k"); v != "v" || f.Rows() != len(rows) {
			t.Fatalf("key %q, %d rows", v, f.Rows())
		}
		at := 0
		for g := range f.Groups() {
			column := func(path ...string) [][]byte {
				v, err := f.Bytes(g, f.Find(path...))
				if err != nil {
					t.Fatalf("%v: %v", path, err)
				}
				return v
			}
			images, paths, texts, words, deltas := column("image", "bytes"), column("image", "path"), column("text"), column("word"), column("delta")
			labels, err := f.Ints(g, f.Find("label"))
			if err != nil {
				t.Fatal(err)
			}
			small, err := f.Ints(g, f.Find("small"))
			if err != nil {
				t.Fatal(err)
			}
			for i := range f.GroupRows(g) {
				want := rows[at]
				at++
				if !bytes.Equal(images[i], want.Image.Bytes) || string(paths[i]) != want.Image.Path || (texts[i] == nil) != (want.Text == nil) ||
					want.Text != nil && string(texts[i]) != *want.Text || string(words[i]) != want.Word || string(deltas[i]) != want.Delta ||
					*labels[i] != want.Label || (small[i] == nil) != (want.Small == nil) || want.Small != nil && *small[i] != int64(*want.Small) {
					t.Fatalf("row %d differs", at-1)
				}
			}
		}
		if at != len(rows) {
			t.Fatalf("%d rows of %d", at, len(rows))
		}
	})
}

func TestRefuses(t *testing.T) {
	row := line{Text: new("a")}
	row.Image.Bytes = []byte("x")
	good := written(t, []line{row}, 2, 10, &parquet.Snappy)
	for name, c := range map[string]struct {
		data []byte
		is   error
		want string
	}{
		"nothing":   {nil, ErrBroken, "0 bytes"},
		"a PNG":     {[]byte("\x89PNG\r\n\x1a\n0000"), ErrBroken, "another kind"},
		"cut":       {good[:len(good)-20], ErrBroken, "it was cut"},
		"encrypted": {append(bytes.Clone(good[:len(good)-4]), "PARE"...), ErrUnsupported, "encrypted"},
		"length":    {append(bytes.Clone(good[:len(good)-8]), "\xff\xff\xff\x7fPAR1"...), ErrBroken, "metadata have"},
	} {
		if _, err := open(c.data); !errors.Is(err, c.is) || !strings.Contains(fmt.Sprint(err), c.want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, c.want)
		}
	}
	f, err := open(good)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Bytes(0, f.Find("many", "list", "element")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a list: error is %v", err)
	}
	if _, err := f.Bytes(0, f.Find("label")); !errors.Is(err, ErrUnsupported) {
		t.Errorf("integers as bytes: error is %v", err)
	}
	if _, err := f.Ints(0, f.Find("nothing")); err == nil {
		t.Error("a column that is not there is read")
	}
	brotli := written(t, []line{row}, 2, 10, &parquet.Brotli)
	if f, err = open(brotli); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Bytes(0, f.Find("text")); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "brotli") {
		t.Errorf("brotli: error is %v", err)
	}
	// Some megabytes of zeros take a few bytes compressed. The footer holds one value
	// as it is, as the largest.
	row.Image.Bytes = make([]byte, 1<<16)
	for name, codec := range map[string]compress.Codec{"zstd": &parquet.Zstd, "gzip": &parquet.Gzip} {
		var b bytes.Buffer
		w := parquet.NewGenericWriter[line](&b, parquet.Compression(codec), parquet.ColumnIndexSizeLimit(func([]string) int { return 16 }))
		if _, err := w.Write(slices.Repeat([]line{row}, 100)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if f, err = open(b.Bytes()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Bytes(0, f.Find("image", "bytes")); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "unfold") {
			t.Errorf("%s bomb: error is %v", name, err)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, codec := range codecsOf {
		for version := 1; version <= 2; version++ {
			rows := make([]line, 20)
			for i := range rows {
				if i%3 > 0 {
					rows[i].Image.Bytes, rows[i].Text, rows[i].Small = []byte{1, 2, byte(i)}, new("a bold seven"), new(int32(i%4))
				}
				rows[i].Image.Path, rows[i].Delta, rows[i].Label = fmt.Sprint(i), fmt.Sprint("x", i), int64(i)
			}
			f.Add(written(f, rows, version, 15, codec))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parsebound.Check(t, len(data), func() {
			file, err := open(data)
			if err != nil {
				return
			}
			for i, c := range file.Columns() {
				for g := range file.Groups() {
					if c.Kind == ByteArray {
						if v, err := file.Bytes(g, i); err == nil && len(v) != file.GroupRows(g) {
							t.Errorf("%d values for %d rows", len(v), file.GroupRows(g))
						}
					} else if v, err := file.Ints(g, i); err == nil && len(v) != file.GroupRows(g) {
						t.Errorf("%d integers for %d rows", len(v), file.GroupRows(g))
					}
				}
			}
		})
	})
}
