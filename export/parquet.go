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

// row is one image: the struct that the Image feature of Hugging Face datasets is
// stored as, and its label.
type row struct {
	Image struct {
		Bytes []byte `parquet:"bytes"`
		Path  string `parquet:"path"`
	} `parquet:"image"`
	Label int64 `parquet:"label"` // Not optional: a zero would be written as null.
}

// features is the value of the key huggingface, from which load_dataset takes the types.
type features struct {
	Info struct {
		Features struct {
			Image imageFeature `json:"image"`
			Label labelFeature `json:"label"`
		} `json:"features"`
	} `json:"info"`
}

type imageFeature struct {
	Type string `json:"_type"`
}

type labelFeature struct {
	Names []string `json:"names"`
	Type  string   `json:"_type"`
}

// rowsPerGroup keeps groups small enough to be read one at a time.
const rowsPerGroup = 1000

func (w *writer) writeParquet() error {
	var f features
	f.Info.Features.Image.Type = "Image"
	f.Info.Features.Label = labelFeature{Names: w.Classes, Type: "ClassLabel"}
	info, err := json.Marshal(f)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	p := parquet.NewGenericWriter[row](&b, parquet.KeyValueMetadata("huggingface", string(info)),
		parquet.MaxRowsPerRowGroup(rowsPerGroup), parquet.CreatedBy("scumble", "1", ""))
	for i, picture := range w.pictures {
		var r row
		r.Image.Bytes, r.Image.Path, r.Label = picture, fileName(i), int64(w.Labels[i])
		if _, err := p.Write([]row{r}); err != nil {
			return err
		}
	}
	if err := p.Close(); err != nil {
		return err
	}
	if err := w.put(parquetFile, b.Bytes()); err != nil {
		return err
	}
	return w.checkParquet(string(info))
}

// fileName names an image of the whole set, from 0.
func fileName(i int) string { return fmt.Sprintf("%06d.png", i) }

func (w *writer) checkParquet(info string) error {
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
	rows, err := parquet.Read[row](bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return err
	}
	if len(rows) != w.Len() {
		return fmt.Errorf("%d rows read back, want %d", len(rows), w.Len())
	}
	for i, r := range rows {
		if r.Label != int64(w.Labels[i]) || r.Image.Path != fileName(i) {
			return fmt.Errorf("row %d reads back with another label or name", i)
		}
		if err := w.sameAs(i, r.Image.Bytes); err != nil {
			return err
		}
	}
	return nil
}
