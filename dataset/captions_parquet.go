package dataset

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/scumble-dp/scumble/internal/parquetfile"
)

const parquetEnding = ".parquet"

// maxShards bounds the files of a set.
const maxShards = 1 << 14

// isParquet says whether a file starts as Parquet does.
func isParquet(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [4]byte
	_, err = f.ReadAt(head[:], 0)
	return err == nil && string(head[:]) == "PAR1"
}

// shardName is how Hugging Face names the files of a split.
var shardName = regexp.MustCompile(`^(.+)-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?\.parquet$`)

// parquetIn lists the Parquet files of a folder, or of its folder data, in order;
// nil where there are none. Of files named SPLIT-00000-of-00002.parquet it takes
// those of the split, all of which must be there.
func parquetIn(dir string, split Split) ([]string, error) {
	var names []string
	for _, at := range []string{dir, filepath.Join(dir, "data")} {
		entries, err := os.ReadDir(at)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, openError(at, err)
		}
		for _, e := range entries {
			if !e.IsDir() && !passedOver(e.Name()) && strings.EqualFold(filepath.Ext(e.Name()), parquetEnding) {
				names = append(names, e.Name())
			}
		}
		if names != nil {
			dir = at
			break
		}
	}
	if names == nil {
		return nil, nil
	}
	if split == "" {
		split = Train
	}
	named := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !shardName.MatchString(name) })
	if len(named) > 0 {
		names = slices.DeleteFunc(named, func(name string) bool { return shardName.FindStringSubmatch(name)[1] != string(split) })
		if len(names) == 0 {
			return nil, invalid(dir, "give the file itself", "Parquet files of other splits only, want %s-00000-of-…", split)
		}
		if err := checkShards(dir, names); err != nil {
			return nil, err
		}
	}
	if len(names) > maxShards {
		return nil, invalid(dir, "", "%d Parquet files, want at most %d", len(names), maxShards)
	}
	var paths []string
	for _, name := range names { // As ReadDir has them: by name.
		paths = append(paths, filepath.Join(dir, name))
	}
	return paths, nil
}

// checkShards refuses half of a split.
func checkShards(dir string, names []string) error {
	last := shardName.FindStringSubmatch(names[0])[3]
	n, err := strconv.Atoi(last)
	if err != nil || n != len(names) {
		return invalid(dir, "fetch all of them", "%d Parquet files of a split of %s", len(names), last)
	}
	for i, name := range names {
		if part := shardName.FindStringSubmatch(name); part[3] != last || part[2] != fmt.Sprintf("%05d", i) {
			return invalid(filepath.Join(dir, name), "fetch all of them", "want part %d of %s of the split here", i, last)
		}
	}
	return nil
}

// OpenParquet reads images with captions from Parquet files, in their order: a
// column image of structs {bytes, path}, as Hugging Face writes it, or of bytes,
// each a whole png, jpg, gif, bmp or webp, and a column text, or caption. Another
// column of images is taken where there is no other; further columns are passed
// over. The images must be as those of [OpenFolder]. The set has captions and no
// labels. No error holds a caption.
func OpenParquet(paths []string, o Options) (*Set, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if len(paths) == 0 {
		return nil, invalid("", "give a file that ends in .parquet, or a folder of them", "no Parquet files")
	}
	b := builder{Set: &Set{Channels: o.Channels}, size: o.Size}
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return nil, openError(path, err)
		}
		err = b.addParquet(path, f)
		f.Close()
		if err != nil {
			return nil, err
		}
	}
	if b.Len() == 0 {
		return nil, invalid(paths[0], "", "no images, want at least one")
	}
	b.Labels = nil
	return b.Set, nil
}

// addParquet adds the images and captions of a file, one row group at a time.
func (b *builder) addParquet(path string, in *os.File) error {
	info, err := in.Stat()
	if err != nil {
		return openError(path, err)
	}
	f, err := parquetfile.New(in, info.Size())
	if err != nil {
		return parquetError(path, err)
	}
	image, text, bad := findColumns(f)
	if bad != nil {
		bad.Path = path
		return bad
	}
	known := map[string]string{} // Captions that come again share memory.
	row := 0
	for g := range f.Groups() {
		images, err := f.Bytes(g, image)
		if err != nil {
			return parquetError(path, err)
		}
		texts, err := f.Bytes(g, text)
		if err != nil {
			return parquetError(path, err)
		}
		for i := range images {
			row++
			switch {
			case images[i] == nil:
				return invalid(path, "write the images into the file: Hugging Face's push_to_hub does, and to_parquet of images that were read", "row %d: no bytes of an image", row)
			case texts[i] == nil:
				return invalid(path, "each image needs a caption", "row %d: no text", row)
			case len(texts[i]) > maxCaption:
				return invalid(path, "shorten it: encoders cut texts after some dozens of words", "row %d: the text has %d bytes, want at most %d", row, len(texts[i]), maxCaption)
			}
			caption, ok := known[string(texts[i])]
			if !ok {
				caption = strings.ToValidUTF8(string(texts[i]), "\ufffd")
				known[string(texts[i])] = caption
			}
			if err := b.addImage(fmt.Sprintf("row %d of %s", row, filepath.Base(path)), images[i], 0); err != nil {
				var bad *Error
				if errors.As(err, &bad) { // Its path stays the file's: what hides private files goes by it.
					bad.Path, bad.Problem = path, fmt.Sprintf("row %d: %s", row, bad.Problem)
				}
				return err
			}
			b.Captions = append(b.Captions, caption)
		}
	}
	return nil
}

// findColumns returns the columns of images and of captions.
func findColumns(f *parquetfile.File) (image, text int, bad *Error) {
	var structs, texts []string
	for _, c := range f.Columns() {
		if c.Kind != parquetfile.ByteArray {
			continue
		}
		switch {
		case len(c.Path) == 2 && c.Path[1] == "bytes":
			structs = append(structs, c.Path[0])
		case len(c.Path) == 1 && (c.Path[0] == "text" || c.Path[0] == "caption"):
			texts = append(texts, c.Path[0])
		}
	}
	switch image = f.Find("image", "bytes"); {
	case image >= 0:
	case f.Find("image") >= 0:
		image = f.Find("image")
	case len(structs) == 1:
		image = f.Find(structs[0], "bytes")
	default:
		return 0, 0, invalid("", "rename the column", "no column image of bytes, or of structs with bytes")
	}
	switch len(texts) {
	case 0:
		return 0, 0, invalid("", "rename the column of captions", "no column text or caption")
	case 2:
		return 0, 0, invalid("", "keep the one that is meant", "columns text and caption, want one of them")
	}
	return image, f.Find(texts[0]), nil
}

// parquetError makes what is wrong with a file the user's mistake.
func parquetError(path string, err error) error {
	if errors.Is(err, parquetfile.ErrBroken) || errors.Is(err, parquetfile.ErrUnsupported) {
		return &Error{Path: path, Problem: "cannot read the Parquet file", Err: err}
	}
	return fmt.Errorf("read %s: %w", path, err)
}
