package dataset

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// put writes files below a folder and returns it.
func put(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// planes returns image i of a made-up set of CIFAR, as planes of three colours.
func planes(i int) []byte {
	out := make([]byte, cifarImage)
	for at := range out {
		colour, y, x := at/1024, at/32%32, at%32
		out[at] = byte(7*i + 80*colour + 2*y + x)
	}
	return out
}

// checkPlanes says whether image i of a set is planes(i).
func checkPlanes(t *testing.T, s *Set, i int, from []byte) {
	t.Helper()
	img := s.Image(i)
	for _, at := range []struct{ y, x, c int }{{0, 0, 0}, {0, 1, 0}, {1, 0, 1}, {31, 30, 2}, {5, 17, 1}} {
		if got, want := img[(at.y*32+at.x)*3+at.c], from[at.c*1024+at.y*32+at.x]; got != want {
			t.Errorf("image %d has %d at row %d, column %d, colour %d, want %d", i, got, at.y, at.x, at.c, want)
		}
	}
}

func TestCIFARBinary(t *testing.T) {
	files := map[string][]byte{}
	for b := range 5 {
		record := append([]byte{byte(2 * b)}, planes(2*b)...)
		record = append(append(record, byte(2*b+1)), planes(2*b+1)...)
		files[fmt.Sprintf("cifar-10-batches-bin/data_batch_%d.bin", b+1)] = record
	}
	dir := put(t, files)
	s, err := Open(dir, Options{Channels: 3})
	if err != nil {
		t.Fatal(err)
	}
	if want := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}; !slices.Equal(s.Labels, want) || s.Classes[3] != "cat" {
		t.Errorf("labels are %v of %v, want 0 to 9 of airplane to truck", s.Labels, s.Classes)
	}
	for i := range 10 {
		checkPlanes(t, s, i, planes(i))
	}
	if _, err := Open(dir, Options{Split: Test}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "test_batch.bin") {
		t.Errorf("test split: %v, want an error that names the missing file", err)
	}
	if err := os.Remove(filepath.Join(dir, "cifar-10-batches-bin", "data_batch_4.bin")); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "has no data_batch_4.bin") {
		t.Errorf("without a file: %v, want an error that names it", err)
	}
}

func TestCIFAR100(t *testing.T) {
	binaryFile := append(append([]byte{4, 0}, planes(1)...), append([]byte{19, 99}, planes(2)...)...)
	dir := put(t, map[string][]byte{"train.bin": binaryFile})
	o := Options{AnyChecksum: true, AllowEmpty: true}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if s.Classes[s.Labels[0]] != "apple" || s.Classes[s.Labels[1]] != "worm" || len(s.Classes) != 100 {
		t.Errorf("labels are %v of %d classes, want apple and worm of 100", s.Labels, len(s.Classes))
	}
	checkPlanes(t, s, 1, planes(2))
	o.Attribute = "coarse"
	if s, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	if s.Classes[s.Labels[0]] != "fruit_and_vegetables" || s.Classes[s.Labels[1]] != "vehicles_2" || len(s.Classes) != 20 {
		t.Errorf("groups are %v of %v", s.Labels, s.Classes)
	}
	// Without leave, a file that is not the published one is refused.
	if _, err := Open(dir, Options{AllowEmpty: true}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "not the one published") {
		t.Errorf("error is %v, want one about the checksum", err)
	}
	o.Attribute = "medium"
	if _, err := Open(dir, o); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "coarse") {
		t.Errorf("error is %v, want one that names the attribute", err)
	}
}

// pickleOf writes a batch as Python 2 does with protocol 2.
func pickleOf(labels []byte, field string, pixels []byte) []byte {
	var b bytes.Buffer
	text := func(s string) { b.WriteByte('U'); b.WriteByte(byte(len(s))); b.WriteString(s) }
	number := func(n int) { b.WriteByte('J'); b.Write(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
	b.WriteString("\x80\x02}q\x01(")
	text("batch_label")
	text("training batch 1 of 5")
	text(field)
	b.WriteString("]q\x04(")
	for _, l := range labels {
		b.Write([]byte{'K', l})
	}
	b.WriteString("e")
	text("data")
	b.WriteString("cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85q\x09U\x01bq\x0a\x87q\x0bRq\x0c(K\x01")
	number(len(labels))
	number(cifarImage)
	b.WriteString("\x86q\x0dcnumpy\ndtype\nq\x0eU\x02u1q\x0fK\x00K\x01\x87q\x10Rq\x11(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T")
	b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(pixels))))
	b.Write(pixels)
	b.WriteString("tb")
	text("filenames")
	b.WriteString("](")
	text("leptodactylus_pentadactylus_s_000004.png")
	b.WriteString("eu.")
	return b.Bytes()
}

func TestCIFARPickle(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		labels := rapid.SliceOfN(rapid.ByteRange(0, 9), 1, 4).Draw(rt, "labels")
		var pixels []byte
		for i := range labels {
			pixels = append(pixels, planes(i)...)
		}
		dir := put(t, map[string][]byte{"test_batch": pickleOf(labels, "labels", pixels)})
		s, err := Open(dir, Options{Split: Test, AnyChecksum: true, AllowEmpty: true})
		if err != nil {
			rt.Fatal(err)
		}
		for i, l := range labels {
			if s.Labels[i] != int(l) {
				rt.Fatalf("labels are %v, want %v", s.Labels, labels)
			}
			checkPlanes(t, s, i, planes(i))
		}
	})
}

// A pickle that asks for anything else is refused, and nothing of it is run.
func TestPickleRefuses(t *testing.T) {
	good := pickleOf([]byte{1}, "labels", planes(0))
	for name, k := range map[string]struct{ old, new, want string }{
		"another function": {"cnumpy\ndtype\n", "cposix\nsystem\n", "no need of"},
		"column by column": {"\x89T", "\x88T", "row by row"},
		"another type":     {"U\x02u1", "U\x02f4", "row by row"},
		"wrong shape":      {"J\x00\x0c\x00\x00", "J\x01\x0c\x00\x00", "3072 bytes"},
		"another call":     {"U\x01b", "U\x01c", ""},
		"unknown opcode":   {"\x80\x02", "\x80\x02i", "no need of"},
		"future":           {"\x80\x02", "\x80\x09", "protocol is 9"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := unpickleBatch(bytes.Replace(good, []byte(k.old), []byte(k.new), 1))
			if k.want == "" {
				if err != nil {
					t.Errorf("error is %v, want none: the value is not used", err)
				}
			} else if err == nil || !strings.Contains(err.Error(), k.want) {
				t.Errorf("error is %v, want one with %q", err, k.want)
			}
		})
	}
	for n := range len(good) {
		if n > 400 && n < len(good)-100 {
			continue
		}
		if _, err := unpickleBatch(good[:n]); err == nil {
			t.Fatalf("a pickle cut to %d of %d bytes is read", n, len(good))
		}
	}
}

// The files were written by SciPy: one compressed with an array of another kind
// in it, one plain with labels as floating-point numbers.
func TestSVHN(t *testing.T) {
	data, err := os.ReadFile("testdata/scipy.mat")
	if err != nil {
		t.Fatal(err)
	}
	dir := put(t, map[string][]byte{"train_32x32.mat": data})
	s, err := Open(dir, Options{AnyChecksum: true, AllowEmpty: true})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Labels, []int{0, 1, 9}) {
		t.Errorf("labels are %v, want 0 (stored as 10), 1, 9", s.Labels)
	}
	for i := range 3 {
		for y := range 32 {
			for x := range 32 {
				for c := range 3 {
					if got, want := s.Image(i)[(y*32+x)*3+c], byte(y/4*16+x/8+50*c+7*i); got != want {
						t.Fatalf("image %d has %d at row %d, column %d, colour %d, want %d", i, got, y, x, c, want)
					}
				}
			}
		}
	}
	one, err := Open("testdata/scipy-double.mat", Options{AllowEmpty: true})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Pixels, s.Image(0)) || one.Labels[0] != 0 {
		t.Error("the plain file differs from the compressed one")
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "not the one published") {
		t.Errorf("error is %v, want one about the checksum", err)
	}
	copy(data[124:], []byte{0, 2})
	if _, err := Open(put(t, map[string][]byte{"test_32x32.mat": data}), Options{Split: Test, AnyChecksum: true}); err == nil || !strings.Contains(err.Error(), "version 7.3") {
		t.Errorf("error is %v, want one about version 7.3", err)
	}
}

// The file was written by NumPy: bytes, and labels of eight bytes, high one first.
func TestMedMNIST(t *testing.T) {
	data, err := os.ReadFile("testdata/numpy.npz")
	if err != nil {
		t.Fatal(err)
	}
	dir := put(t, map[string][]byte{"pneumoniamnist.npz": data})
	names, err := ClassNames(dir)
	if err != nil || !slices.Equal(names, []string{"normal", "pneumonia"}) {
		t.Errorf("classes are %v, %v", names, err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "not the one published") {
		t.Errorf("error is %v, want one about the checksum", err)
	}
	for split, n := range map[Split]int{Train: 4, Test: 2} {
		s, err := Open(dir, Options{AnyChecksum: true, Split: split})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Labels, []int{1, 0, 1, 0}[:n]) || s.Height != 28 || s.Channels != 1 {
			t.Errorf("%s: %d labels %v, %dx%d", split, s.Len(), s.Labels, s.Height, s.Width)
		}
		if got, want := s.Image(1)[8*28+15], byte(60+1*9+2); got != want {
			t.Errorf("%s: a pixel is %d, want %d", split, got, want)
		}
	}
	// A file of another name has numbers for classes.
	s, err := Open(filepath.Join(put(t, map[string][]byte{"mine.npz": data}), "mine.npz"), Options{})
	if err != nil || !slices.Equal(s.Classes, []string{"0", "1"}) {
		t.Errorf("classes are %v, %v", s, err)
	}
	for name, want := range map[string]string{"chestmnist.npz": "several labels", "organmnist3d.npz": "volumes"} {
		if _, err := Open(put(t, map[string][]byte{name: data}), Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, want)
		}
	}
}

func TestEMNIST(t *testing.T) {
	// An image whose upper right corner is lit, stored column by column: the first
	// row in the file is the first column.
	var pixels []byte
	for i := range 26 {
		img := make([]byte, 28*28)
		img[27*28] = byte(100 + i) // Stored: row 27, column 0. Meant: row 0, column 27.
		pixels = append(pixels, img...)
	}
	var labels []byte
	for l := range byte(26) {
		labels = append(labels, l+1)
	}
	files := map[string][]byte{
		"gzip/emnist-letters-train-images-idx3-ubyte": idx(8, []uint32{26, 28, 28}, pixels),
		"gzip/emnist-letters-train-labels-idx1-ubyte": idx(8, []uint32{26}, labels),
	}
	dir := put(t, files)
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if s.Labels[0] != 0 || s.Labels[25] != 25 || s.Classes[2] != "C" || len(s.Classes) != 26 {
		t.Errorf("labels %v of %v, want 0 to 25 of A to Z", s.Labels, s.Classes)
	}
	if got := s.Image(3)[27]; got != 103 {
		t.Errorf("upper right corner is %d, want 103: images must be turned", got)
	}
	if names, err := ClassNames(dir); err != nil || !slices.Equal(names, s.Classes) {
		t.Errorf("ClassNames is %v, %v", names, err)
	}
	// Two parts need a choice.
	for _, kind := range []string{"images-idx3-ubyte", "labels-idx1-ubyte"} {
		files["gzip/emnist-digits-train-"+kind] = files["gzip/emnist-letters-train-"+kind]
	}
	dir = put(t, files)
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "several parts") {
		t.Errorf("error is %v, want one about the parts", err)
	}
	if _, err := Open(dir, Options{Attribute: "letters"}); err != nil {
		t.Error(err)
	}
	if _, err := Open(dir, Options{Attribute: "digits"}); err == nil || !strings.Contains(err.Error(), "out of range") {
		t.Errorf("error is %v, want one about labels above 9", err)
	}
	for part, n := range map[string]int{"byclass": 62, "bymerge": 47, "balanced": 47, "letters": 26, "digits": 10, "mnist": 10} {
		if names := (&emnistImages{part: part}).classes(); len(names) != n {
			t.Errorf("%s has %d classes, want %d", part, len(names), n)
		}
	}
}

func TestCelebA(t *testing.T) {
	attributes := "4\nSmiling Male Young\n" +
		"000001.jpg -1  1  1\n000002.jpg  1 -1  1\n000003.jpg  1  1 -1\n000004.jpg -1 -1 -1\n"
	partition := "000001.jpg 0\n000002.jpg 0\n000003.jpg 2\n000004.jpg 2\n"
	files := map[string][]byte{celebaAttributes: []byte(attributes), "Eval/" + celebaPartition: []byte(partition)}
	for i := range 4 {
		files[fmt.Sprintf("img_align_celeba/00000%d.png", i+1)] = tallPNG(178, 218, byte(40*i))
	}
	dir := put(t, files)
	o := Options{AnyChecksum: true, Size: 32}
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Labels, []int{1, 0}) || !slices.Equal(s.Classes, []string{"not-Male", "Male"}) || s.Width != 32 || s.Channels != 3 {
		t.Errorf("labels %v of %v, %d pixels, %d channels", s.Labels, s.Classes, s.Width, s.Channels)
	}
	// tallPNG marks what the cut takes away: none of it may be left.
	for i, p := range s.Image(1) {
		if p != 40 {
			t.Fatalf("byte %d is %d, want 40: the centre alone", i, p)
		}
	}
	o.Split, o.Attribute = Test, "Smiling"
	if s, err = Open(dir, o); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Labels, []int{1, 0}) || s.Classes[1] != "Smiling" {
		t.Errorf("labels %v of %v", s.Labels, s.Classes)
	}
	o.Attribute = "Bald"
	if _, err := Open(dir, o); err == nil || !strings.Contains(err.Error(), `no attribute "Bald"`) {
		t.Errorf("error is %v, want one about the attribute", err)
	}
	if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), "not the one published") {
		t.Errorf("error is %v, want one about the checksum", err)
	}
	os.Remove(filepath.Join(dir, "img_align_celeba", "000002.png"))
	if _, err := Open(dir, Options{AnyChecksum: true}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "000002.jpg") {
		t.Errorf("error is %v, want one that names the missing image", err)
	}
}

func TestCelebAHQ(t *testing.T) {
	files := map[string][]byte{
		celebaHQAttributes: []byte("3\nMale Young\n0.jpg  -1 1\n1.jpg  1 1\n2.jpg  1 -1\n"),
	}
	for i := range 3 {
		files[fmt.Sprintf("CelebA-HQ-img/%d.png", i)] = greyPNG(128, 128)
	}
	dir := put(t, files)
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Labels, []int{0, 1, 1}) || s.Width != celebaSize {
		t.Errorf("labels %v, %d pixels", s.Labels, s.Width)
	}
	if _, err := Open(dir, Options{Split: Test}); err == nil || !strings.Contains(err.Error(), "which images are for testing") {
		t.Errorf("error is %v, want one about the split", err)
	}
	files[celebaHQMapping] = []byte("idx  orig_idx  orig_file\n0  119613  119614.jpg\n1  99094  099095.jpg\n2  200120  200121.jpg\n")
	files[celebaPartition] = []byte("119614.jpg 0\n099095.jpg 2\n200121.jpg 2\n")
	s, err = Open(put(t, files), Options{Split: Test, AnyChecksum: true, AllowEmpty: true, Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(s.Labels, []int{1, 1}) || s.Channels != 1 {
		t.Errorf("labels %v, %d channels, want those of images 1 and 2, grey", s.Labels, s.Channels)
	}
}

func TestCamelyon(t *testing.T) {
	head := ",patient,node,x_coord,y_coord,tumor,slide,center,split\n"
	files := map[string][]byte{"metadata.csv": []byte(head +
		"0,004,4,3328,21792,1,0,0,0\n" + // Training.
		"1,004,4,3200,22272,0,0,0,0\n" + // Training.
		"2,010,1,10,20,1,5,0,1\n" + // Validation within.
		"3,051,2,640,960,1,30,1,0\n" + // Validation hospital, whatever its split says.
		"4,061,0,512,512,0,35,2,0\n" + // Test hospital.
		"5,061,0,512,608,1,35,2,1\n")}
	for _, p := range []string{"patient_004_node_4_x_3328_y_21792", "patient_004_node_4_x_3200_y_22272", "patient_061_node_0_x_512_y_512", "patient_061_node_0_x_512_y_608"} {
		slide, _, _ := strings.Cut(p, "_x_")
		files["patches/"+slide+"/patch_"+p+".png"] = greyPNG(96, 96)
	}
	dir := put(t, files)
	for split, want := range map[Split][]int{Train: {1, 0}, Test: {0, 1}} {
		s, err := Open(dir, Options{Split: split, Channels: 3})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(s.Labels, want) || s.Width != camelyonSize {
			t.Errorf("%s: labels %v, %d pixels, want %v, %d", split, s.Labels, s.Width, want, camelyonSize)
		}
	}
	for name, k := range map[string]struct{ csv, want string }{
		"column":  {"a,b\n", "no column patient"},
		"place":   {head + "0,../..,4,1,2,1,0,0,0\n", "line 2 does not say where"},
		"label":   {head + "0,004,4,1,2,7,0,0,0\n", "neither 0 nor 1"},
		"fields":  {head + "0,004\n", "line 2"},
		"nothing": {head, "no patches"},
	} {
		if _, err := Open(put(t, map[string][]byte{"metadata.csv": []byte(k.csv), "patches/x": nil}), Options{}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), k.want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, k.want)
		}
	}
}

func TestDetect(t *testing.T) {
	for name, k := range map[string]struct {
		files []string
		want  Format
	}{
		"class folders": {[]string{"cat/1.png", "dog/1.png"}, FolderFormat},
		"idx":           {[]string{"train-images-idx3-ubyte.gz"}, IDXFormat},
		"torchvision":   {[]string{"FashionMNIST/raw/train-images-idx3-ubyte"}, FashionMNIST},
		"captions":      {[]string{"metadata.jsonl"}, CaptionFormat},
		"python":        {[]string{"cifar-10-batches-py/data_batch_1", "cifar-10-batches-py/batches.meta"}, CIFAR10},
		"a hundred":     {[]string{"cifar-100-python/train", "cifar-100-python/test", "cifar-100-python/meta"}, CIFAR100},
		"svhn":          {[]string{"test_32x32.mat"}, SVHN},
		"celeba":        {[]string{"Anno/list_attr_celeba.txt"}, CelebA},
		"celeba-hq":     {[]string{"CelebAMask-HQ/" + celebaHQAttributes}, CelebAHQ},
		"camelyon17":    {[]string{"camelyon17_v1.0/metadata.csv", "camelyon17_v1.0/patches/x"}, Camelyon17},
		"medmnist":      {[]string{"bloodmnist.npz"}, MedMNIST},
		"emnist":        {[]string{"emnist-balanced-test-images-idx3-ubyte.gz"}, EMNIST},
		"two classes":   {[]string{"train/1.png", "test/1.png"}, FolderFormat},
	} {
		files := map[string][]byte{}
		for _, f := range k.files {
			files[f] = []byte("x")
		}
		if got, _, err := Detect(put(t, files)); err != nil || got != k.want {
			t.Errorf("%s: detected %q, %v, want %q", name, got, err, k.want)
		}
	}
	if _, err := Open(put(t, map[string][]byte{"a/1.png": greyPNG(28, 28)}), Options{Format: CIFAR10}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "format folder, want cifar10") {
		t.Errorf("error is %v, want one about the format", err)
	}
}

// The data of Debian's package are those that were published. No image is looked
// at: only that the files are the right ones, and how many there are.
func TestFashionPackage(t *testing.T) {
	if !exists(fashionPackage) {
		t.Skip("Debian's package dataset-fashion-mnist is not installed")
	}
	s, err := Open(string(FashionMNIST), Options{Split: Test, Size: 28, Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	if s.Len() != 10000 || !slices.Equal(s.Classes, fashionNames) {
		t.Errorf("%d images of %v", s.Len(), s.Classes)
	}
	if _, err := Open(fashionPackage, Options{Split: Test, Format: MNIST}); err == nil || !strings.Contains(err.Error(), "not the one published") {
		t.Errorf("as MNIST: error is %v, want one about the checksum", err)
	}
}

// A run may name the published classes in another order, as class folders come
// in that of the alphabet: labels follow the names. Other names replace them.
func TestPublishedNamesInAnotherOrder(t *testing.T) {
	images, labels := idx(8, []uint32{10, 28, 28}, make([]byte, 10*28*28)), idx(8, []uint32{10}, []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	dir := put(t, map[string][]byte{"train-images-idx3-ubyte": images, "train-labels-idx1-ubyte": labels})
	cifar := map[string][]byte{"test_batch.bin": nil}
	for i := range 10 {
		cifar["test_batch.bin"] = append(append(cifar["test_batch.bin"], byte(i)), planes(i)...)
	}
	for name, k := range map[string]struct {
		path      string
		o         Options
		published []string
	}{
		"idx":   {dir, Options{Format: FashionMNIST, AnyChecksum: true}, fashionNames},
		"array": {put(t, cifar), Options{Split: Test}, cifar10Names},
	} {
		for _, classes := range [][]string{nil, slices.Sorted(slices.Values(k.published)), {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}} {
			k.o.Classes = classes
			s, err := Open(k.path, k.o)
			if err != nil {
				t.Fatal(err)
			}
			for i, l := range s.Labels {
				want := k.published[i]
				if classes != nil && classes[0] == "a" {
					want = classes[i]
				}
				if s.Classes[l] != want {
					t.Errorf("%s, classes %v: image %d is %s, want %s", name, classes, i, s.Classes[l], want)
				}
			}
			if classes != nil && !slices.Equal(s.Classes, classes) {
				t.Errorf("%s: classes are %v, want %v", name, s.Classes, classes)
			}
		}
		k.o.Classes = []string{"a", "b"}
		if _, err := Open(k.path, k.o); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "2 class names") {
			t.Errorf("%s: error is %v, want one about the number of names", name, err)
		}
	}
}

// Averaging keeps the mean, and of a whole factor is the mean of each square.
func TestAverage(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size, factor := rapid.IntRange(1, 6).Draw(t, "size"), rapid.IntRange(1, 5).Draw(t, "factor")
		side := size * factor
		src := rapid.SliceOfN(rapid.Byte(), side*side, side*side).Draw(t, "src")
		dst := make([]byte, size*size)
		average(dst, src, size, side, 1)
		for i, got := range dst {
			sum := 0
			for y := range factor {
				for x := range factor {
					sum += int(src[(i/size*factor+y)*side+i%size*factor+x])
				}
			}
			if want := (sum + factor*factor/2) / (factor * factor); int(got) != want {
				t.Fatalf("pixel %d is %d, want %d", i, got, want)
			}
		}
	})
	// 3 to 2: each pixel is one of its own, halves of two and a quarter of one.
	dst := make([]byte, 4)
	average(dst, []byte{9, 18, 27, 36, 45, 54, 63, 72, 81}, 2, 3, 1)
	if diff := cmp.Diff([]byte{21, 33, 57, 69}, dst); diff != "" { // (4·9+2·18+2·36+45)/9 = 21 and so on.
		t.Error(diff)
	}
}

// readNPZ takes what archive/zip writes as well.
func TestReadNPZErrors(t *testing.T) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, _ := z.Create("train_images.npy")
	head := "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 28, 28), }"
	w.Write(append([]byte("\x93NUMPY\x01\x00"), byte(len(head)), 0))
	w.Write([]byte(head))
	z.Close()
	path := filepath.Join(put(t, map[string][]byte{"a.npz": b.Bytes()}), "a.npz")
	if _, err := Open(path, Options{}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "type f8") {
		t.Errorf("error is %v, want one about the type", err)
	}
	if _, err := Open(path, Options{Split: Test}); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "no array test_images") {
		t.Errorf("error is %v, want one about the array", err)
	}
}
