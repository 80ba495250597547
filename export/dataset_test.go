package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"go.yaml.in/yaml/v4"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/internal/releasetest"
	"github.com/scumble-dp/scumble/release"
	"github.com/scumble-dp/scumble/report"
)

// tree reads every file below dir.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		all[filepath.ToSlash(name)] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDataset(t *testing.T) {
	from := releasetest.New(t, nil)
	out := filepath.Join(t.TempDir(), "digits")
	r, err := Dataset(out, from, Options{Name: "Digits | *all*", License: "CC-BY-4.0"})
	if err != nil {
		t.Fatal(err)
	}
	if r.Images != 3 || len(r.Classes) != 2 {
		t.Errorf("result is %+v, want 3 images in 2 classes", r)
	}
	v, err := release.Verify(out, release.Options{})
	if err != nil || !v.OK || v.Kind != release.Dataset {
		t.Errorf("the data set does not verify: %+v, %v", v, err)
	}
	files := tree(t, out)
	for _, name := range []string{"README.md", "croissant.json", parquetFile, "imagefolder/train/0/000001.png", "imagefolder/train/1/000002.png",
		"webdataset/train-000000.tar", "statement.json", "statement.md", "ledger.jsonl", "config.yaml", "manifest.json"} {
		if files[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if !json.Valid([]byte(files["croissant.json"])) {
		t.Error("croissant.json is no JSON")
	}
	top, text, ok := strings.Cut(strings.TrimPrefix(files["README.md"], "---\n"), "---\n")
	var head map[string]any
	if err := yaml.Unmarshal([]byte(top), &head); err != nil || !ok || head["pretty_name"] != "Digits | *all*" || head["license"] != "cc-by-4.0" {
		t.Errorf("head of the card is %v, %v", head, err)
	}
	if !strings.Contains(text, `# Digits \| \*all\*`) {
		t.Error("the name is not escaped in the card")
	}
	// Names, order and times are made here, so that a second export is the same.
	again := filepath.Join(t.TempDir(), "elsewhere")
	if _, err := Dataset(again, from, Options{Name: "Digits | *all*", License: "CC-BY-4.0"}); err != nil {
		t.Fatal(err)
	}
	for name, data := range tree(t, again) {
		if files[name] != data {
			t.Errorf("%s of a second export differs", name)
		}
		a, _ := os.Stat(filepath.Join(out, name))
		b, _ := os.Stat(filepath.Join(again, name))
		if !a.ModTime().Equal(b.ModTime()) || a.ModTime().UTC().Hour() != 0 {
			t.Errorf("%s was written at %v and %v, want the date of the statement", name, a.ModTime(), b.ModTime())
		}
	}
}

// Images drawn from prompts have them as captions, in every layout, and no labels.
func TestDatasetOfPrompts(t *testing.T) {
	out := filepath.Join(t.TempDir(), "prompts")
	r, err := Dataset(out, releasetest.NewPrompts(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Images != 3 || r.Prompts != 2 || len(r.Classes) != 0 {
		t.Errorf("result is %+v, want 3 images of 2 prompts", r)
	}
	if v, err := release.Verify(out, release.Options{}); err != nil || !v.OK || v.Kind != release.Dataset {
		t.Errorf("the data set does not verify: %+v, %v", v, err)
	}
	for _, path := range []string{filepath.Join(out, "data"), filepath.Join(out, "imagefolder", "train")} { // Our own readers take both.
		set, err := dataset.Open(path, dataset.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(set.Captions, releasetest.Prompts) || set.Labels != nil {
			t.Errorf("%s: captions are %q", filepath.Base(path), set.Captions)
		}
	}
	files := tree(t, out)
	if !strings.Contains(files["webdataset/train-000000.tar"], "000001.txt") || strings.Contains(files["webdataset/train-000000.tar"], ".cls") {
		t.Error("the shard has no prompts, or labels")
	}
	for _, want := range []string{`| a bold seven \| \*x\* | 2 |`, "drawn from 2 prompts", "- text-to-image", "dtype: string"} {
		if !strings.Contains(files["README.md"], want) {
			t.Errorf("the card lacks %q", want)
		}
	}
	if text := files["croissant.json"]; !json.Valid([]byte(text)) || strings.Contains(text, "label") || !strings.Contains(text, "images/text") {
		t.Errorf("Croissant is %s", text)
	}
}

// A data set that was changed is refused as a release is.
func TestDatasetEdits(t *testing.T) {
	out := filepath.Join(t.TempDir(), "digits")
	if _, err := Dataset(out, releasetest.New(t, nil), Options{}); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for name, text := range tree(t, out) {
		data := []byte(text)
		at := random.IntN(len(data))
		data[at] ^= byte(1 + random.IntN(255))
		releasetest.Put(t, out, name, data)
		if v, err := release.Verify(out, release.Options{}); err != nil || v.OK {
			t.Errorf("byte %d of %s changed: verdict %+v, %v", at, name, v, err)
		}
		releasetest.Put(t, out, name, []byte(text))
	}
}

func TestRefuses(t *testing.T) {
	good := releasetest.New(t, nil)
	here := t.TempDir()
	seeded := releasetest.New(t, func(r *report.Run) { r.Claim.Insecure = true })
	changed := releasetest.New(t, nil)
	releasetest.Put(t, changed, "synthetic/0/000001.png", []byte("x"))
	for name, c := range map[string]struct {
		out, from string
		o         Options
		is        func(error) bool
	}{
		"existing folder": {here, good, Options{}, func(err error) bool { return errors.Is(err, fs.ErrExist) }},
		"unknown layout":  {filepath.Join(here, "a"), good, Options{Layouts: []Layout{"csv"}}, func(err error) bool { return strings.Contains(err.Error(), "csv") }},
		"seeded run":      {filepath.Join(here, "b"), seeded, Options{}, refusedError},
		"changed release": {filepath.Join(here, "c"), changed, Options{}, refusedError},
		"no release":      {filepath.Join(here, "d"), t.TempDir(), Options{}, func(err error) bool { return errors.Is(err, release.ErrNotRelease) }},
	} {
		_, err := Dataset(c.out, c.from, c.o)
		if err == nil || !c.is(err) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
	if left := tree(t, here); len(left) != 0 {
		t.Errorf("it left %v behind", left)
	}
}

func refusedError(err error) bool {
	var no *RefusedError
	return errors.As(err, &no)
}

// randomSet draws a labelled set whose class names are hostile, in the order in which
// a folder is read.
func randomSet(t *rapid.T) *dataset.Set {
	s := &dataset.Set{Height: 28, Width: 28, Channels: rapid.SampledFrom([]int{1, 3}).Draw(t, "channels"), Classes: []string{"0", "<x>&\"'|", "a b"}}
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "pixels"), 1))
	for label := range s.Classes {
		for range rapid.IntRange(1, 4).Draw(t, "images") {
			s.Labels = append(s.Labels, label)
		}
	}
	s.Pixels = make([]byte, len(s.Labels)*s.ImageSize())
	for i := range s.Pixels {
		s.Pixels[i] = byte(random.Uint32())
	}
	return s
}

func newWriter(t failer, dir string, s *dataset.Set) *writer {
	table, err := newTable(s)
	if err != nil {
		t.Fatal(err)
	}
	return &writer{table: table, dir: dir, statement: &report.Statement{}, options: Options{Name: "x"}}
}

type failer interface{ Fatal(...any) }

// Every layout reads back as the pixels and labels that went in, and says so
// where it does not.
func TestLayoutsReadBack(t *testing.T) {
	base := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		w := newWriter(t, filepath.Join(base, fmt.Sprint(n)), randomSet(t))
		for _, write := range []func() error{w.writeParquet, w.writeFolder, w.writeShards} {
			if err := write(); err != nil {
				t.Fatal(err)
			}
		}
		// Nothing is null: other readers would show a missing label.
		data, err := os.ReadFile(filepath.Join(w.dir, parquetFile))
		if err != nil {
			t.Fatal(err)
		}
		f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
		if err != nil {
			t.Fatal(err)
		}
		for _, column := range [][]string{{"image", "bytes"}, {"image", "path"}, {"label"}} {
			if leaf, ok := f.Schema().Lookup(column...); !ok || !leaf.Node.Required() {
				t.Errorf("column %v may be null, or is not there", column)
			}
		}
		info, _ := f.Lookup("huggingface")
		w.Labels[0]++
		if err := w.checkParquet(info); err == nil {
			t.Error("another label in Parquet went unseen")
		}
		if err := w.checkShard(shardName(0), 0, w.Len()); err == nil {
			t.Error("another label in a shard went unseen")
		}
		w.Labels[0]--
		w.Pixels[rapid.IntRange(0, len(w.Pixels)-1).Draw(t, "changed")] ^= 1
		if err := w.checkParquet(info); err == nil {
			t.Error("another pixel in Parquet went unseen")
		}
		if err := w.checkShard(shardName(0), 0, w.Len()); err == nil {
			t.Error("another pixel in a shard went unseen")
		}
	})
}

func TestSizeCategory(t *testing.T) {
	for n, want := range map[int]string{1: "n<1K", 999: "n<1K", 1000: "1K<n<10K", 9999: "1K<n<10K", 10_000: "10K<n<100K", 2_000_000: "1M<n<10M"} {
		if got := sizeCategory(n); got != want {
			t.Errorf("category of %d images is %s, want %s", n, got, want)
		}
	}
}
