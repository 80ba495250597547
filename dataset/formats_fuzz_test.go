package dataset

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"os"
	"testing"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

// tallPNG is an image that is grey in its central square and white outside.
func tallPNG(width, height int, grey byte) []byte {
	img := image.NewGray(image.Rect(0, 0, width, height))
	for y := range height {
		for x := range width {
			v := byte(255)
			if y >= (height-width)/2 && y < (height+width)/2 {
				v = grey
			}
			img.SetGray(x, y, color.Gray{Y: v})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func FuzzUnpickleBatch(f *testing.F) {
	f.Add(pickleOf([]byte{1, 2}, "labels", append(planes(0), planes(1)...)))
	f.Add([]byte("\x80\x02}(U\x04dataNu."))
	f.Add([]byte("](((te."))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 { // Numbers take sixteen times their bytes: no bound for files of labels alone.
			return
		}
		var b *pickledBatch
		var err error
		parsebound.Check(t, len(data), func() { b, err = unpickleBatch(data) })
		if err == nil && len(b.data)%cifarImage != 0 {
			t.Fatalf("%d bytes of images are no whole images", len(b.data))
		}
	})
}

func FuzzReadMat(f *testing.F) {
	for _, name := range []string{"testdata/scipy.mat", "testdata/scipy-double.mat"} {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = readMat(data, func(a matArray) error {
			n := 1
			for _, d := range a.shape {
				n *= d
			}
			if n != len(a.bytes) {
				t.Fatalf("shape %v, %d values", a.shape, len(a.bytes))
			}
			return nil
		})
		a := &array{}
		if bad := a.addSVHN(data); bad == nil && len(a.pixels) != cifarImage*len(a.labels) {
			t.Fatalf("%d bytes for %d labels", len(a.pixels), len(a.labels))
		}
	})
}

func FuzzReadNPY(f *testing.F) {
	f.Add([]byte("\x93NUMPY\x01\x00\x3d\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2, 1), }  \nab"))
	f.Add([]byte("\x93NUMPY\x01\x00\x3d\x00{'descr': '>i2', 'fortran_order': False, 'shape': (2, 1), }  \n\x00a\x00b"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var shape []int
		var values []byte
		var err error
		parsebound.Check(t, len(data), func() { shape, values, err = readNPY(bytes.NewReader(data)) })
		if err != nil {
			return
		}
		n := 1
		for _, d := range shape {
			n *= d
		}
		if n != len(values) {
			t.Fatalf("shape %v, %d values", shape, len(values))
		}
	})
}

func FuzzCelebALists(f *testing.F) {
	f.Add([]byte("2\nSmiling Male\n000001.jpg -1  1\n000002.jpg  1 -1\n"))
	f.Add([]byte("000001.jpg 0\n000002.jpg 2\n"))
	f.Add([]byte("idx orig_idx orig_file\n0 119613 119614.jpg\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<14 { // Rows are several times their bytes.
			return
		}
		parsebound.Check(t, len(data), func() {
			if rows, bad := parseAttributes(data, "Male"); bad == nil {
				for _, r := range rows {
					if !safeName(r.name) || r.label != 0 && r.label != 1 {
						t.Fatalf("row %q, %d", r.name, r.label)
					}
				}
			}
			if part, bad := parsePartition(data); bad == nil {
				for name, p := range part {
					if !safeName(name) || p < '0' || p > '2' {
						t.Fatalf("part %q, %d", name, p)
					}
				}
			}
			if original, bad := parseMapping(data); bad == nil {
				for name, file := range original {
					if !safeName(name) || !safeName(file) {
						t.Fatalf("mapping %q, %q", name, file)
					}
				}
			}
		})
	})
}

func FuzzParseCamelyon(f *testing.F) {
	f.Add([]byte(",patient,node,x_coord,y_coord,tumor,slide,center,split\n0,004,4,3328,21792,1,0,0,0\n"), true)
	f.Add([]byte("split,center,tumor,y_coord,x_coord,node,patient\n0,2,1,1,1,1,1\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, train bool) {
		split := Test
		if train {
			split = Train
		}
		rows, bad, err := parseCamelyon(bytes.NewReader(data), split)
		if err != nil {
			t.Fatalf("an error of the machine, from memory: %v", err)
		}
		if bad != nil {
			return
		}
		for _, r := range rows {
			if r.label != 0 && r.label != 1 || bytes.Contains([]byte(r.path), []byte("..")) {
				t.Fatalf("row %q, %d", r.path, r.label)
			}
		}
	})
}

func FuzzCIFARRecords(f *testing.F) {
	f.Add(append([]byte{3}, planes(0)...), false)
	f.Add(append([]byte{3, 4}, planes(0)...), true)
	f.Fuzz(func(t *testing.T, data []byte, hundred bool) {
		format := CIFAR10
		if hundred {
			format = CIFAR100
		}
		a := &array{}
		var bad *Error
		parsebound.Check(t, len(data), func() {
			a = &array{}
			bad = a.addRecords(data, format, false)
		})
		if bad == nil && len(a.pixels) != cifarImage*len(a.labels) {
			t.Fatalf("%d bytes for %d labels", len(a.pixels), len(a.labels))
		}
	})
}
