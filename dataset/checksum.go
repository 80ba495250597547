package dataset

import (
	"bufio"
	"compress/gzip"
	"crypto/md5" // What was published; it tells damage, not malice.
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// publishedMD5 holds the checksums of published files by format and name; of
// IDX files those of the contents without gzip, since mirrors and distributions
// compress them anew. Sources:
//
//   - MNIST, Fashion-MNIST: the uncompressed files, as several readers of both
//     list them, and as the files of Debian's package dataset-fashion-mnist are;
//   - CIFAR, Python version, SVHN and the lists of CelebA: torchvision/datasets/
//     cifar.py, svhn.py and celeba.py of github.com/pytorch/vision;
//   - CIFAR-100, binary version: github.com/rai-project/dldataset;
//   - MedMNIST: medmnist/info.py of github.com/MedMNIST/MedMNIST, see medmnist.go.
//
// No checksums were published for single files of EMNIST, CIFAR-10's binary
// version, CelebA-HQ and Camelyon17: there only the format is checked.
var publishedMD5 = map[Format]map[string]string{
	MNIST: {
		"train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
		"train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
		"t10k-images-idx3-ubyte":  "2646ac647ad5339dbf082846283269ea",
		"t10k-labels-idx1-ubyte":  "27ae3e4e09519cfbb04c329615203637",
	},
	FashionMNIST: {
		"train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
		"train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
		"t10k-images-idx3-ubyte":  "8181f5470baa50b63fa0f6fddb340f0a",
		"t10k-labels-idx1-ubyte":  "15d484375f8d13e6eb1aabb0c3f46965",
	},
	CIFAR10: {
		"data_batch_1": "c99cafc152244af753f735de768cd75f",
		"data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
		"data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
		"data_batch_4": "634d18415352ddfa80567beed471001a",
		"data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
		"test_batch":   "40351d587109b95175f43aff81a1287e",
	},
	CIFAR100: {
		"train":     "16019d7e3df5f24257cddd939b257f8d",
		"test":      "f0ef6b0ae62326f3e7ffdfab6717acfc",
		"train.bin": "6172c7755cfe09b2fe270c85cebc1b15",
		"test.bin":  "4499cfba6c016c1be1438163640a0898",
	},
	SVHN: {
		"train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
		"test_32x32.mat":  "eb5a983be6a315427106f1b164d9cef3",
		"extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7",
	},
	CelebA: {
		celebaAttributes: "75e246fa4810816ffd6ee81facbd244c",
		celebaPartition:  "d32c9cbf5e040fd4025c592c306e6668",
	},
}

// verify compares a file with the checksum published under its name, if any.
func (o Options) verify(path string, format Format) error {
	return o.compare(path, publishedMD5[format][filepath.Base(path)], false)
}

// verifyContents is verify for what a file holds without gzip.
func (o Options) verifyContents(path string, format Format) error {
	name := strings.TrimSuffix(filepath.Base(path), ".gz")
	for dotted, dashed := range map[string]string{"images.idx3": "images-idx3", "labels.idx1": "labels-idx1"} {
		name = strings.Replace(name, dotted, dashed, 1)
	}
	return o.compare(path, publishedMD5[format][name], true)
}

// compare is nil where the checksum is one of those wanted, or none is known. A
// checksum tells the whole of a public file from another one, and is said; what
// a user's own file sums to is not.
func (o Options) compare(path, wanted string, unzip bool) error {
	if wanted == "" || o.AnyChecksum {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return openError(path, err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 1<<16)
	var from io.Reader = in
	if head, err := in.Peek(2); unzip && err == nil && head[0] == 0x1f && head[1] == 0x8b {
		z, err := gzip.NewReader(in)
		if err != nil {
			return &Error{Path: path, Problem: "cannot read the gzip", Err: err, Next: "fetch it again"}
		}
		from = io.LimitReader(z, idxMaxBytes)
	}
	h := md5.New()
	if _, err := io.Copy(h, from); err != nil {
		if bad, ok := broken("gzip", err).(*Error); ok {
			bad.Path = path
			return bad
		}
		return openError(path, err)
	}
	if !slices.Contains(strings.Fields(wanted), hex.EncodeToString(h.Sum(nil))) {
		return invalid(path, "fetch it again; or, if it is meant to differ, allow any checksum (data.any_checksum: true, --any-checksum)",
			"the file is not the one published under its name: its MD5 is not %s", strings.ReplaceAll(wanted, " ", " or "))
	}
	return nil
}
