package dataset

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Format names a layout of files. Those of published data sets also fix the
// names of the classes, and check files against published checksums.
type Format string

const (
	AnyFormat     Format = ""              // Whatever is there; see [Detect].
	FolderFormat  Format = "folder"        // One folder of images for each class.
	CaptionFormat Format = "captions"      // metadata.jsonl beside the images.
	ParquetFormat Format = "parquet"       // Hugging Face's, with captions.
	IDXFormat     Format = "idx"           // Files in the format of MNIST, of any origin.
	MNIST         Format = "mnist"         // LeCun, Cortes and Burges.
	FashionMNIST  Format = "fashion-mnist" // Zalando Research.
	EMNIST        Format = "emnist"        // NIST's, the gzip version, six parts.
	CIFAR10       Format = "cifar10"       // Krizhevsky, binary or Python version.
	CIFAR100      Format = "cifar100"      // The same.
	SVHN          Format = "svhn"          // Cropped digits, .mat files.
	CelebA        Format = "celeba"        // img_align_celeba with its lists.
	CelebAHQ      Format = "celeba-hq"     // CelebA-HQ-img with the list of CelebAMask-HQ.
	Camelyon17    Format = "camelyon17"    // The patches of WILDS.
	MedMNIST      Format = "medmnist"      // One .npz of the collection, two-dimensional.
)

// Formats returns all names, in the order of the documentation.
func Formats() []Format {
	return []Format{FolderFormat, CaptionFormat, ParquetFormat, IDXFormat, MNIST, FashionMNIST, EMNIST, CIFAR10, CIFAR100,
		SVHN, CelebA, CelebAHQ, Camelyon17, MedMNIST}
}

// fashionPackage is where Debian's package dataset-fashion-mnist has its files.
const fashionPackage = "/usr/share/datasets/fashion-mnist"

// Detect returns the layout of what lies at path and where in it the files are,
// going by names alone; no image is opened. The path "fashion-mnist", where
// nothing of that name exists, is the data of Debian's package.
func Detect(path string) (Format, string, error) {
	if path == string(FashionMNIST) && !exists(path) {
		if !exists(fashionPackage) {
			return "", "", invalid(path, "install it with apt-get install dataset-fashion-mnist, or give the folder of its four IDX files with format fashion-mnist",
				"no such file or folder, and Debian's package dataset-fashion-mnist is not installed")
		}
		return FashionMNIST, fashionPackage, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", "", openError(path, err)
	}
	if filepath.Clean(path) == fashionPackage {
		return FashionMNIST, path, nil
	}
	if !info.IsDir() {
		return detectFile(path), path, nil
	}
	if f := detectFolder(path); f != "" {
		return f, path, nil
	}
	// What the archives and torchvision put a level deeper.
	for _, inner := range []string{"cifar-10-batches-py", "cifar-10-batches-bin", "cifar-100-python", "cifar-100-binary",
		"celeba", "CelebAMask-HQ", "camelyon17_v1.0", filepath.Join("EMNIST", "raw"), "gzip",
		filepath.Join("MNIST", "raw"), filepath.Join("FashionMNIST", "raw")} {
		at := filepath.Join(path, inner)
		if !exists(at) {
			continue
		}
		switch f := detectFolder(at); {
		case f == IDXFormat && strings.HasPrefix(inner, "FashionMNIST"):
			return FashionMNIST, at, nil
		case f == IDXFormat && strings.HasPrefix(inner, "MNIST"):
			return MNIST, at, nil
		case f != "":
			return f, at, nil
		}
	}
	return FolderFormat, path, nil
}

func detectFile(path string) Format {
	name := filepath.Base(path)
	switch {
	case isParquet(path):
		return ParquetFormat
	case strings.HasSuffix(name, ".npz"):
		return MedMNIST
	case strings.HasSuffix(name, ".mat"):
		return SVHN
	case emnistFile.MatchString(name):
		return EMNIST
	}
	return IDXFormat
}

// detectFolder is "" where nothing tells the folder from one of class folders.
func detectFolder(dir string) Format {
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return !exists(filepath.Join(dir, n)) })
	}
	switch {
	case hasCaptions(dir):
		return CaptionFormat
	case has("metadata.csv", "patches"):
		return Camelyon17
	case has(celebaAttributes), has(filepath.Join("Anno", celebaAttributes)):
		return CelebA
	case has(celebaHQAttributes):
		return CelebAHQ
	case has("data_batch_1"), has("data_batch_1.bin"), has("test_batch"), has("test_batch.bin"):
		return CIFAR10
	case has("train.bin"), has("test.bin"), has("meta", "train"), has("meta", "test"):
		return CIFAR100
	case has("train_32x32.mat"), has("test_32x32.mat"):
		return SVHN
	case len(emnistIn(dir)) > 0:
		return EMNIST
	case holdsIDX(dir):
		return IDXFormat
	}
	if files, err := parquetIn(dir, Train); err != nil || files != nil {
		return ParquetFormat
	}
	if found, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.npz")); err == nil && len(found) > 0 {
		return MedMNIST
	}
	return ""
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// resolve returns the format to read path as: the one asked for, or what is
// there.
func resolve(path string, o Options) (Format, string, error) {
	found, at, err := Detect(path)
	if err != nil {
		return "", "", err
	}
	if o.Format == AnyFormat {
		return found, at, nil
	}
	if !slices.Contains(Formats(), o.Format) {
		return "", "", fmt.Errorf("format is %q, want one of %v: %w", o.Format, Formats(), ErrInvalid)
	}
	// Fewer names than formats: MNIST's are those of every IDX file.
	family := func(f Format) Format {
		if f == MNIST || f == FashionMNIST {
			return IDXFormat
		}
		return f
	}
	if family(found) != family(o.Format) {
		return "", "", invalid(path, "name the format that it has, or leave the format out", "holds files of format %s, want %s", found, o.Format)
	}
	return o.Format, at, nil
}

// ClassNamesOf returns the class names of what lies at path, in the order of the
// labels, without opening an image: those of the class folders, or those that
// were published with the format. It is nil where the files have numbers or
// captions only.
func ClassNamesOf(path string, o Options) ([]string, error) {
	format, at, err := resolve(path, o)
	if err != nil {
		return nil, err
	}
	switch format {
	case FolderFormat:
		return folderNames(at)
	case MNIST:
		return slices.Clone(digitNames), nil
	case FashionMNIST:
		return slices.Clone(fashionNames), nil
	case EMNIST:
		file, err := findEMNIST(at, o)
		if err != nil {
			return nil, err
		}
		return file.classes(), nil
	case CIFAR10:
		return slices.Clone(cifar10Names), nil
	case CIFAR100:
		return cifar100Names(o)
	case SVHN:
		return slices.Clone(digitNames), nil
	case CelebA, CelebAHQ:
		return attributeNames(o), nil
	case Camelyon17:
		return slices.Clone(camelyonNames), nil
	case MedMNIST:
		set, _, err := findMedMNIST(at, o)
		if err != nil || set == nil {
			return nil, err
		}
		return slices.Clone(set.classes), nil
	}
	return nil, nil
}
