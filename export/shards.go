package export

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/scumble-dp/scumble/dataset"
)

const (
	folder = "imagefolder/train"
	// perShard is how many images a WebDataset shard holds.
	perShard = 10_000
)

// writeFolder writes CLASS/000001.png and so on, which load_dataset("imagefolder")
// and torchvision's ImageFolder read.
func (w *writer) writeFolder() error {
	path := filepath.Join(w.dir, filepath.FromSlash(folder))
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := dataset.WriteFolder(path, w.Set); err != nil {
		return err
	}
	back, err := dataset.OpenFolder(path, dataset.Options{Classes: w.Classes, Channels: w.Channels, AllowEmpty: true})
	if err != nil {
		return err
	}
	// By class, and within a class in order: as the set was read.
	if !slices.Equal(back.Labels, w.Labels) || !bytes.Equal(back.Pixels, w.Pixels) {
		return errors.New("images read back differ")
	}
	return nil
}

func shardName(i int) string { return fmt.Sprintf("webdataset/train-%06d.tar", i) }

// writeShards writes tar files of pairs KEY.png and KEY.cls, the label in digits,
// as the WebDataset format has it (https://github.com/webdataset/webdataset).
func (w *writer) writeShards() error {
	for shard := 0; shard*perShard < w.Len(); shard++ {
		from, to := shard*perShard, min(w.Len(), (shard+1)*perShard)
		var b bytes.Buffer
		t := tar.NewWriter(&b)
		for i := from; i < to; i++ {
			key := fmt.Sprintf("%06d", i)
			for _, f := range []struct {
				name string
				data []byte
			}{{key + ".cls", strconv.AppendInt(nil, int64(w.Labels[i]), 10)}, {key + ".png", w.pictures[i]}} {
				h := tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: 0o644, Size: int64(len(f.data)), ModTime: w.time(), Format: tar.FormatUSTAR}
				if err := t.WriteHeader(&h); err != nil {
					return err
				}
				if _, err := t.Write(f.data); err != nil {
					return err
				}
			}
		}
		if err := t.Close(); err != nil {
			return err
		}
		if err := w.put(shardName(shard), b.Bytes()); err != nil {
			return err
		}
		if err := w.checkShard(shardName(shard), from, to); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) checkShard(name string, from, to int) error {
	f, err := os.Open(filepath.Join(w.dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer f.Close()
	t := tar.NewReader(f)
	next := func(want string) ([]byte, error) {
		h, err := t.Next()
		if err != nil {
			return nil, err
		}
		if h.Name != want {
			return nil, fmt.Errorf("%s reads back as %s", want, h.Name)
		}
		return io.ReadAll(t)
	}
	for i := from; i < to; i++ {
		key := fmt.Sprintf("%06d", i)
		label, err := next(key + ".cls")
		if err != nil {
			return err
		}
		if string(label) != strconv.Itoa(w.Labels[i]) {
			return fmt.Errorf("label %d reads back as %q", i, label)
		}
		data, err := next(key + ".png")
		if err != nil {
			return err
		}
		if err := w.sameAs(i, data); err != nil {
			return err
		}
	}
	if _, err := t.Next(); err != io.EOF {
		return fmt.Errorf("%s goes on after its last image", name)
	}
	return nil
}
