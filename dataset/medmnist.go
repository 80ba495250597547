package dataset

import (
	"archive/zip"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// medSet is a two-dimensional, single-label set of MedMNIST: its classes, and
// the MD5 of its file of 28 pixels (medmnist/info.py, versions 2 and 3).
type medSet struct {
	classes []string
	md5     string
}

var organNames = []string{"bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right", "liver", "lung-left",
	"lung-right", "pancreas", "spleen"}

var medSets = map[string]medSet{
	"pathmnist": {[]string{"adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle", "normal colon mucosa",
		"cancer-associated stroma", "colorectal adenocarcinoma epithelium"}, "a8b06965200029087d5bd730944a56c1"},
	"dermamnist": {[]string{"actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma", "benign keratosis-like lesions",
		"dermatofibroma", "melanoma", "melanocytic nevi", "vascular lesions"}, "0744692d530f8e62ec473284d019b0c7"},
	"octmnist":       {[]string{"choroidal neovascularization", "diabetic macular edema", "drusen", "normal"}, "c68d92d5b585d8d81f7112f81e2d0842"},
	"pneumoniamnist": {[]string{"normal", "pneumonia"}, "28209eda62fecd6e6a2d98b1501bb15f"},
	"retinamnist":    {[]string{"0", "1", "2", "3", "4"}, "bd4c0672f1bba3e3a89f0e4e876791e4"},
	"breastmnist":    {[]string{"malignant", "normal, benign"}, "750601b1f35ba3300ea97c75c52ff8f6"},
	"bloodmnist": {[]string{"basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte", "monocyte", "neutrophil",
		"platelet"}, "7053d0359d879ad8a5505303e11de1dc"},
	"tissuemnist": {[]string{"collecting duct, connecting tubule", "distal convoluted tubule", "glomerular endothelial cells",
		"interstitial endothelial cells", "leukocytes", "podocytes", "proximal tubule segments", "thick ascending limb"},
		"ebe78ee8b05294063de985d821c1c34b"},
	"organamnist": {organNames, "866b832ed4eeba67bfb9edee1d5544e6 68e3f8846a6bd62f0c9bf841c0d9eacc"},
	"organcmnist": {organNames, "0afa5834fb105f7705a7d93372119a21 b9ceb9546e10131b32923c5bbeaea2b1"},
	"organsmnist": {organNames, "e5c39f1af030238290b9557d9503af9d 9ab87b696fb54e2a387ebe992d6ed5f1"},
}

// medLarge are the MD5s of the files of 64 pixels (the same, version 3).
var medLarge = map[string]string{
	"pathmnist":      "55aa9c1e0525abe5a6b9d8343a507616",
	"dermamnist":     "b70a2f5635c6199aeaa28c31d7202e1f",
	"octmnist":       "e229e9440236b774d9f0dfef9d07bdaf",
	"pneumoniamnist": "8f4eceb4ccffa70c672198ea285246c6",
	"retinamnist":    "afda852cc34dcda56f86ad2b2457dbcc",
	"breastmnist":    "742edef2a1fd1524b2efff4bd7ba9364",
	"bloodmnist":     "2b94928a2ae4916078ca51e05b6b800b",
	"tissuemnist":    "123ece2eba09d0aa5d698fda57103344",
	"organamnist":    "2dcccc29b88e6da5a01161ef20cda288",
	"organcmnist":    "3ce34a8724ea6f548e6db4744d03b6a9",
	"organsmnist":    "53a6d115339d874c25e309a994ff46d3",
}

// medFile is how MedMNIST names its files: the set, and its size but for 28.
var medFile = regexp.MustCompile(`^([a-z]+mnist(?:3d)?)(_64|_128|_224)?\.npz$`)

// findMedMNIST returns the set, nil where the name is not a published one, and
// the file.
func findMedMNIST(path string, o Options) (*medSet, string, error) {
	if !isFile(path) {
		found, err := filepath.Glob(filepath.Join(escapeGlob(path), "*.npz"))
		if err != nil || len(found) == 0 {
			return nil, "", invalid(path, "give the .npz file", "holds no .npz file")
		}
		if o.Attribute != "" {
			found = slices.DeleteFunc(found, func(f string) bool { return strings.TrimSuffix(filepath.Base(f), ".npz") != o.Attribute })
		}
		if len(found) != 1 {
			return nil, "", invalid(path, "give one as the path", "%d .npz files fit, want one", len(found))
		}
		path = found[0]
	}
	m := medFile.FindStringSubmatch(filepath.Base(path))
	switch {
	case m == nil:
		return nil, path, nil
	case m[1] == "chestmnist":
		return nil, "", invalid(path, "choose another set of the collection", "images have several labels each, want one")
	case strings.HasSuffix(m[1], "3d"):
		return nil, "", invalid(path, "choose a two-dimensional set of the collection", "images are volumes, want pictures")
	}
	set, ok := medSets[m[1]]
	if !ok {
		return nil, path, nil
	}
	switch m[2] {
	case "":
	case "_64":
		set.md5 = medLarge[m[1]]
	default: // Larger than we take.
		set.md5 = ""
	}
	return &set, path, nil
}

// openMedMNIST reads one file of MedMNIST (Yang et al. 2023): train_images,
// [n, height, width] or [n, height, width, 3], and train_labels, [n, 1], and the
// same for test. Its validation split is left alone. Any .npz with these arrays
// will do; the classes of one with another name are numbers.
func openMedMNIST(path string, o Options) (*Set, error) {
	set, file, err := findMedMNIST(path, o)
	if err != nil {
		return nil, err
	}
	var names []string
	if set != nil {
		names = set.classes
		if err := o.compare(file, set.md5, false); err != nil {
			return nil, err
		}
	}
	split := o.Split
	if split == "" {
		split = Train
	}
	z, err := zip.OpenReader(file)
	if err != nil {
		return nil, &Error{Path: file, Problem: "not a file of NumPy arrays (.npz)", Next: "the file is damaged or of another kind"}
	}
	defer z.Close()
	shape, pixels, err := readNPZ(&z.Reader, string(split)+"_images")
	if err != nil {
		return nil, &Error{Path: file, Problem: "cannot read the images", Err: err}
	}
	labelShape, labels, err := readNPZ(&z.Reader, string(split)+"_labels")
	if err != nil {
		return nil, &Error{Path: file, Problem: "cannot read the labels", Err: err}
	}
	a := &array{channels: 1, pixels: pixels, labels: make([]int, len(labels))}
	switch {
	case len(shape) == 4 && shape[3] == 3:
		a.channels = 3
	case len(shape) != 3:
		return nil, invalid(file, "", "images have shape %v, want [n, height, width] or [n, height, width, 3]", shape)
	}
	if len(labelShape) == 0 || len(labels) != labelShape[0] {
		return nil, invalid(file, "", "labels have shape %v, want one for each image", labelShape)
	}
	a.height, a.width = shape[1], shape[2]
	if a.height == 0 || a.width == 0 {
		return nil, invalid(file, "", "images have shape %v, want pixels", shape)
	}
	for i, l := range labels {
		a.labels[i] = int(l)
	}
	if names == nil {
		if names = o.Classes; names == nil && len(labels) > 0 {
			for i := range 1 + int(slices.Max(labels)) {
				names = append(names, strconv.Itoa(i))
			}
		}
		if err := checkClassCount(file, len(names)); err != nil {
			return nil, err
		}
	}
	return a.set(file, names, o)
}

// readNPZ reads one array of a file of arrays.
func readNPZ(z *zip.Reader, name string) (shape []int, values []byte, err error) {
	i := slices.IndexFunc(z.File, func(f *zip.File) bool { return f.Name == name+".npy" })
	if i < 0 {
		return nil, nil, fmt.Errorf("the file has no array %s", name)
	}
	f, err := z.File[i].Open()
	if err != nil {
		return nil, nil, fmt.Errorf("array %s: cannot decompress it", name)
	}
	defer f.Close()
	if shape, values, err = readNPY(f); err != nil {
		return nil, nil, fmt.Errorf("array %s: %w", name, err)
	}
	return shape, values, nil
}
