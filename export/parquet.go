package export

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/parquet-go/parquet-go"
)

// parquetFile is named as Hugging Face names shards.
const parquetFile = "data/train-00000-of-00001.parquet"

// pictureCell is the struct that the Image feature of Hugging Face datasets is
// stored as.
type pictureCell struct {
	Bytes []byte `parquet:"bytes"`
	Path  string `parquet:"path"`
}

// Rows of images with a label, and with a prompt.
type (
	row struct {
		Image pictureCell `parquet:"image"`
		Label int64       `parquet:"label"` // Not optional: a zero would be written as null.
	}
	promptRow struct {
		Image pictureCell `parquet:"image"`
		Text  string      `parquet:"text"`
	}
)

// features is the value of the key huggingface, from which load_dataset takes the types.
type features struct {
	Info struct {
		Features struct {
			Image typeFeature   `json:"image"`
			Label *labelFeature `json:"label,omitempty"`
			Text  *textFeature  `json:"text,omitempty"`
		} `json:"features"`
	} `json:"info"`
}

type typeFeature struct {
	Type string `json:"_type"`
}

type labelFeature struct {
	Names []string `json:"names"`
	Type  string   `json:"_type"`
}

type textFeature struct {
	DType string `json:"dtype"`
	Type  string `json:"_type"`
}

// rowsPerGroup keeps groups small enough to be read one at a time.
const rowsPerGroup = 1000

func (w *writer) writeParquet() error {
	var f features
	f.Info.Features.Image.Type = "Image"
	if w.told() {
		f.Info.Features.Text = &textFeature{DType: "string", Type: "Value"}
	} else {
		f.Info.Features.Label = &labelFeature{Names: w.Classes, Type: "ClassLabel"}
	}
	info, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if w.told() {
		err = parquetRows(w, string(info), func(i int) promptRow { return promptRow{w.cell(i), w.Captions[i]} })
	} else {
		err = parquetRows(w, string(info), func(i int) row { return row{w.cell(i), int64(w.Labels[i])} })
	}
	if err != nil {
		return err
	}
	return w.checkParquet(string(info))
}

// cell is image i as a cell of the table.
func (w *writer) cell(i int) pictureCell { return pictureCell{w.pictures[i], fileName(i)} }

// parquetRows writes the file, a row of each image.
func parquetRows[R any](w *writer, info string, of func(i int) R) error {
	var b bytes.Buffer
	p := parquet.NewGenericWriter[R](&b, parquet.KeyValueMetadata("huggingface", info),
		parquet.MaxRowsPerRowGroup(rowsPerGroup), parquet.CreatedBy("scumble", "1", ""))
	for i := range w.pictures {
		if _, err := p.Write([]R{of(i)}); err != nil {
			return err
		}
	}
	if err := p.Close(); err != nil {
		return err
	}
	return w.put(parquetFile, b.Bytes())
}

// fileName names an image of the whole set, from 0.
func fileName(i int) string { return fmt.Sprintf("%06d.png", i) }

// checkParquet reads the file back and compares.
func (w *writer) checkParquet(info string) error {
	if w.told() {
		return checkRows(w, info, func(i int, r promptRow) (pictureCell, bool) { return r.Image, r.Text == w.Captions[i] })
	}
	return checkRows(w, info, func(i int, r row) (pictureCell, bool) { return r.Image, r.Label == int64(w.Labels[i]) })
}

// checkRows is checkParquet for one kind of rows. same returns the picture of a row,
// and whether the rest is that of image i.
func checkRows[R any](w *writer, info string, same func(i int, r R) (pictureCell, bool)) error {
	data, err := os.ReadFile(filepath.Join(w.dir, filepath.FromSlash(parquetFile)))
	if err != nil {
		return err
	}
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	if got, _ := f.Lookup("huggingface"); got != info {
		return fmt.Errorf("features read back as %q", got)
	}
	rows, err := parquet.Read[R](bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	if len(rows) != w.Len() {
		return fmt.Errorf("%d rows read back, want %d", len(rows), w.Len())
	}
	for i, r := range rows {
		picture, ok := same(i, r)
		if !ok || picture.Path != fileName(i) {
			return fmt.Errorf("row %d reads back with another label, text or name", i)
		}
		if err := w.sameAs(i, picture.Bytes); err != nil {
			return err
		}
	}
	return nil
}
