package dataset

import (
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Open reads the data set at path in the format o.Format, or in the one that
// [Detect] finds there:
//
//   - a folder with a file metadata.jsonl, as [OpenCaptions];
//   - a Parquet file with captions, or a folder of them, as [OpenParquet];
//   - a folder with one folder of images for each class, as [OpenFolder];
//   - a folder of IDX files, such as train-images-idx3-ubyte.gz and
//     train-labels-idx1-ubyte.gz, as [OpenIDX], of which o.Split is read;
//   - an IDX file of images, whose labels are in o.Labels or beside it;
//   - the files of a published data set as they are distributed ([Formats]).
func Open(path string, o Options) (*Set, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	format, at, err := resolve(path, o)
	if err != nil {
		return nil, err
	}
	switch format {
	case CaptionFormat:
		return OpenCaptions(at, o)
	case ParquetFormat:
		if isFile(at) {
			return OpenParquet([]string{at}, o)
		}
		files, err := parquetIn(at, o.Split)
		if err != nil {
			return nil, err
		}
		return OpenParquet(files, o)
	case IDXFormat, MNIST, FashionMNIST:
		return openPair(at, format, o)
	case EMNIST:
		return openEMNIST(at, o)
	case CIFAR10, CIFAR100:
		return openCIFAR(at, format, o)
	case SVHN:
		return openSVHN(at, o)
	case CelebA, CelebAHQ:
		return openCelebA(at, format, o)
	case Camelyon17:
		return openCamelyon(at, o)
	case MedMNIST:
		return openMedMNIST(at, o)
	}
	return OpenFolder(at, o)
}

// openPair reads IDX files of images and labels.
func openPair(path string, format Format, o Options) (*Set, error) {
	images, labels := path, o.Labels
	var err error
	if !isFile(path) {
		if images, err = idxIn(path, o.Split); err != nil {
			return nil, err
		}
		labels = ""
	}
	if labels == "" {
		if labels, err = labelsBeside(images); err != nil {
			return nil, err
		}
	}
	asked := o
	if format != IDXFormat {
		if o.Classes, err = o.namesFor(images, map[Format][]string{MNIST: digitNames, FashionMNIST: fashionNames}[format]); err != nil {
			return nil, err
		}
		for _, path := range []string{images, labels} {
			if err := o.verifyContents(path, format); err != nil {
				return nil, err
			}
		}
	}
	s, err := OpenIDX(images, labels, o)
	if err == nil && format != IDXFormat {
		s.order(asked)
	}
	return s, err
}

// holdsIDX says whether a folder holds IDX files.
func holdsIDX(dir string) bool {
	for _, pattern := range []string{"*-idx?-ubyte", "*-idx?-ubyte.gz", "*.idx?-ubyte", "*.idx?-ubyte.gz"} {
		found, err := filepath.Glob(filepath.Join(escapeGlob(dir), pattern))
		if err == nil && len(found) > 0 {
			return true
		}
	}
	return false
}

// idxIn returns the IDX file of images of a split in a folder, "" where the
// folder holds no IDX files at all.
func idxIn(dir string, split Split) (string, error) {
	names := []string{"train-images"}
	if split == Test {
		names = []string{"test-images", "t10k-images"}
	}
	for _, name := range names {
		for _, kind := range []string{"-idx3-ubyte", ".idx3-ubyte", "-idx4-ubyte"} {
			for _, end := range []string{"", ".gz"} {
				path := filepath.Join(dir, name+kind+end)
				if isFile(path) {
					return path, nil
				}
			}
		}
	}
	if holdsIDX(dir) {
		return "", invalid(dir, "name the files as MNIST does or give the path of the images",
			"folder of IDX files without %s-idx3-ubyte or %[1]s-idx3-ubyte.gz", names[0])
	}
	return "", nil
}

// escapeGlob quotes what filepath.Glob would read as a pattern.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// labelsBeside returns the file of labels that belongs to a file of images.
func labelsBeside(images string) (string, error) {
	dir, name := filepath.Split(images)
	if !looksIDX(images) {
		return "", invalid(images, "give a folder with one folder of images for each class, or an IDX file", "neither a folder nor an IDX file")
	}
	plain := strings.TrimSuffix(name, ".gz")
	plain = strings.NewReplacer("images", "labels", "idx3", "idx1", "idx4", "idx1").Replace(plain)
	for _, end := range []string{"", ".gz"} {
		path := filepath.Join(dir, plain+end)
		if plain+end != name && isFile(path) {
			return path, nil
		}
	}
	return "", invalid(images, "put the labels beside the images or name their file", "no IDX file of labels %s or %[1]s.gz beside it", plain)
}

// looksIDX says whether a file starts as IDX or gzip does.
func looksIDX(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true // OpenIDX gives the error.
	}
	defer f.Close()
	var head [2]byte
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return false
	}
	return head == [2]byte{0, 0} || head == [2]byte{0x1f, 0x8b}
}
