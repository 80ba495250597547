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
	"strings"

	"github.com/scumble-dp/scumble/dataset"
)

// tarEntry is a file of a shard.
type tarEntry struct {
	name string
	data []byte
}

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
	if w.told() {
		return w.writeCaptions(path)
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

// writeCaptions writes 000001.png and so on with metadata.jsonl.
func (w *writer) writeCaptions(path string) error {
	if err := dataset.WriteCaptions(path, w.Set); err != nil {
		return err
	}
	back, err := dataset.OpenCaptions(path, dataset.Options{Channels: w.Channels})
	if err != nil {
		return err
	}
	if !slices.Equal(back.Captions, w.Captions) || !bytes.Equal(back.Pixels, w.Pixels) {
		return errors.New("images or prompts read back differ")
	}
	return nil
}

// side returns the ending and the contents of the file beside a picture: its label
// in digits, or its prompt.
func (w *writer) side(i int) (ending string, data []byte) {
	if w.told() {
		return ".txt", []byte(w.Captions[i])
	}
	return ".cls", strconv.AppendInt(nil, int64(w.Labels[i]), 10)
}

func shardName(i int) string { return fmt.Sprintf("webdataset/train-%06d.tar", i) }

// writeShards writes tar files of pairs KEY.png and KEY.cls, the label in digits, or
// KEY.txt, the prompt, as the WebDataset format has it (https://github.com/webdataset/webdataset).
func (w *writer) writeShards() error {
	for shard := 0; shard*perShard < w.Len(); shard++ {
		from, to := shard*perShard, min(w.Len(), (shard+1)*perShard)
		var b bytes.Buffer
		t := tar.NewWriter(&b)
		for i := from; i < to; i++ {
			key := fmt.Sprintf("%06d", i)
			ending, side := w.side(i)
			files := []tarEntry{{key + ".png", w.pictures[i]}, {key + ending, side}}
			slices.SortFunc(files, func(a, b tarEntry) int { return strings.Compare(a.name, b.name) })
			for _, f := range files {
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
		ending, want := w.side(i)
		endings := []string{ending, ".png"}
		slices.Sort(endings)
		for _, ending := range endings {
			data, err := next(key + ending)
			if err != nil {
				return err
			}
			if ending == ".png" {
				err = w.sameAs(i, data)
			} else if !bytes.Equal(data, want) {
				err = fmt.Errorf("the label or prompt of image %d reads back as %q", i, data)
			}
			if err != nil {
				return err
			}
		}
	}
	if _, err := t.Next(); err != io.EOF {
		return fmt.Errorf("%s goes on after its last image", name)
	}
	return nil
}
