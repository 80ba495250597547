package export

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/release"
	"github.com/scumble-dp/scumble/report"
)

// Layout is a way to store the images.
type Layout string

const (
	Parquet     Layout = "parquet"
	ImageFolder Layout = "imagefolder"
	WebDataset  Layout = "webdataset"
)

// Layouts returns all of them.
func Layouts() []Layout { return []Layout{Parquet, ImageFolder, WebDataset} }

// Options of Dataset.
type Options struct {
	Name    string   // Of the data set, for people. Empty means the title of the statement.
	License string   // SPDX identifier of the licence that the publisher gives. Empty: none is stated.
	Layouts []Layout // Nil means all.
}

// Result says what was written.
type Result struct {
	Images  int      `json:"images"`
	Classes []string `json:"classes,omitempty"`
	Prompts int      `json:"prompts,omitempty"` // How many, of images that were drawn from words.
	Files   int      `json:"files"`
	Bytes   int64    `json:"bytes"`
}

// table is the data set in memory.
type table struct {
	*dataset.Set
	pictures [][]byte // PNG of each image, without metadata.
}

// told reports whether the images have prompts in place of labels.
func (t *table) told() bool { return t.Captions != nil }

// prompts returns the prompts in the order that they come first, and how many
// images each has.
func (t *table) prompts() (texts []string, counts []int) {
	at := map[string]int{}
	for _, text := range t.Captions {
		i, ok := at[text]
		if !ok {
			i = len(texts)
			at[text] = i
			texts, counts = append(texts, text), append(counts, 0)
		}
		counts[i]++
	}
	return texts, counts
}

// Dataset writes the synthetic images of a release folder to out, which must
// not exist, and which appears when all is written, read back and found to hold the
// same pixels and labels.
//
// The release must verify (package release): of one without a guarantee no data
// set is made.
func Dataset(out, from string, o Options) (*Result, error) {
	if len(o.Layouts) == 0 {
		o.Layouts = Layouts()
	}
	for _, l := range o.Layouts {
		if !slices.Contains(Layouts(), l) {
			return nil, fmt.Errorf("layout is %q, want one of %v", l, Layouts())
		}
	}
	if _, err := os.Lstat(out); err == nil {
		return nil, fmt.Errorf("export to %s: %w; choose another folder", out, fs.ErrExist)
	}
	v, err := release.Verify(from, release.Options{})
	if err != nil {
		return nil, err
	}
	if !v.OK {
		return nil, &RefusedError{v}
	}
	set, err := openSynthetic(filepath.Join(from, release.SyntheticDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("release %s holds no synthetic images; set sampling.count in the config", from)
	}
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(filepath.Join(from, release.StatementFile))
	if err != nil {
		return nil, err
	}
	statement, err := report.ReadStatement(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if o.Name == "" {
		o.Name = statement.Title
	}
	out = filepath.Clean(out)
	temp, err := os.MkdirTemp(filepath.Dir(out), ".scumble-export-*")
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", out, err)
	}
	defer os.RemoveAll(temp) // Nothing is there any more when all went well.
	w := &writer{dir: temp, from: from, statement: statement, options: o}
	if w.table, err = newTable(set); err != nil {
		return nil, err
	}
	r, err := w.write()
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", out, err)
	}
	if err := os.Rename(temp, out); err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return r, nil
}

// openSynthetic reads the images of a release: in class folders, or with the
// public prompts that they were drawn from.
func openSynthetic(dir string) (*dataset.Set, error) {
	if _, err := os.Stat(filepath.Join(dir, "metadata.jsonl")); err == nil {
		return dataset.OpenCaptions(dir, dataset.Options{})
	}
	return dataset.OpenFolder(dir, dataset.Options{AllowEmpty: true})
}

// RefusedError says that a release does not verify.
type RefusedError struct{ Verdict *release.Verdict }

func (e *RefusedError) Error() string {
	return fmt.Sprintf("%s does not verify: %s", e.Verdict.Dir, strings.Join(e.Verdict.Problems, "; "))
}

func newTable(set *dataset.Set) (*table, error) {
	if err := set.Check(); err != nil {
		return nil, err
	}
	t := &table{Set: set}
	for i := range set.Len() {
		var b bytes.Buffer
		if err := png.Encode(&b, picture(set, i)); err != nil {
			return nil, err
		}
		t.pictures = append(t.pictures, b.Bytes())
	}
	return t, nil
}

// picture returns image i of a set.
func picture(s *dataset.Set, i int) image.Image {
	box := image.Rect(0, 0, s.Width, s.Height)
	if s.Channels == 1 {
		return &image.Gray{Pix: s.Image(i), Stride: s.Width, Rect: box}
	}
	img := image.NewRGBA(box)
	for p, pixels := 0, s.Image(i); p < s.Width*s.Height; p++ {
		copy(img.Pix[4*p:], pixels[3*p:3*p+3])
		img.Pix[4*p+3] = 0xff
	}
	return img
}

// sameAs says whether a PNG decodes to image i.
func (t *table) sameAs(i int, data []byte) error {
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("image %d does not read back: %w", i, err)
	}
	if img.Bounds() != image.Rect(0, 0, t.Width, t.Height) {
		return fmt.Errorf("image %d reads back with %v pixels", i, img.Bounds().Size())
	}
	want := t.Image(i)
	for p := range t.Width * t.Height {
		r, g, b, _ := img.At(p%t.Width, p/t.Width).RGBA()
		got := []byte{byte(r >> 8), byte(g >> 8), byte(b >> 8)}
		if t.Channels == 1 && (got[0] != want[p] || got[1] != want[p]) || t.Channels == 3 && !bytes.Equal(got, want[3*p:3*p+3]) {
			return fmt.Errorf("image %d reads back with another pixel", i)
		}
	}
	return nil
}

// writer fills an export folder.
type writer struct {
	*table
	dir, from string
	statement *report.Statement
	options   Options

	files []report.File // Of the data, for the card and Croissant.
}

func (w *writer) write() (*Result, error) {
	for _, l := range w.options.Layouts {
		var err error
		switch l {
		case Parquet:
			err = w.writeParquet()
		case ImageFolder:
			err = w.writeFolder()
		case WebDataset:
			err = w.writeShards()
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l, err)
		}
	}
	if err := w.copyProof(); err != nil {
		return nil, err
	}
	var err error
	if w.files, err = release.Files(w.dir); err != nil {
		return nil, err
	}
	if err := w.writeCard(); err != nil {
		return nil, fmt.Errorf("data card: %w", err)
	}
	if err := w.writeCroissant(); err != nil {
		return nil, fmt.Errorf("Croissant: %w", err)
	}
	if err := release.WriteManifest(w.dir, release.Dataset); err != nil {
		return nil, err
	}
	v, err := release.Verify(w.dir, release.Options{})
	if err != nil {
		return nil, err
	}
	if !v.OK {
		return nil, fmt.Errorf("what was written does not verify: %s", strings.Join(v.Problems, "; "))
	}
	if err := w.setTimes(); err != nil {
		return nil, err
	}
	prompts, _ := w.prompts()
	return &Result{Images: w.Len(), Classes: w.Classes, Prompts: len(prompts), Files: v.Files, Bytes: v.Bytes}, nil
}

// file returns what is known of a file of the data.
func (w *writer) file(path string) (report.File, bool) {
	i := slices.IndexFunc(w.files, func(f report.File) bool { return f.Path == path })
	if i < 0 {
		return report.File{}, false
	}
	return w.files[i], true
}

// copyProof copies what verification needs.
func (w *writer) copyProof() error {
	for _, name := range []string{release.StatementFile, release.WordsFile, release.LedgerFile, release.ConfigFile} {
		data, err := os.ReadFile(filepath.Join(w.from, name))
		if err != nil {
			return err
		}
		if err := w.put(name, data); err != nil {
			return err
		}
	}
	earlier := filepath.Join(w.from, finetune.PreviousDir)
	if _, err := os.Stat(earlier); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.CopyFS(filepath.Join(w.dir, finetune.PreviousDir), os.DirFS(earlier))
}

func (w *writer) put(name string, data []byte) error {
	path := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// setTimes gives every file and folder the date of the statement: when they
// were written is nobody's business, and two exports are the same.
func (w *writer) setTimes() error {
	var all []string
	err := filepath.WalkDir(w.dir, func(path string, _ fs.DirEntry, err error) error {
		all = append(all, path)
		return err
	})
	slices.Reverse(all) // Folders after what is in them.
	for _, path := range all {
		if err == nil {
			err = os.Chtimes(path, w.time(), w.time())
		}
	}
	if err == nil {
		err = os.Chmod(w.dir, 0o755)
	}
	return err
}

func (w *writer) time() time.Time { return w.statement.Created.UTC() }
