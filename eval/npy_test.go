package eval

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

// Files that numpy wrote (testdata/record.py): float16 compressed, with logits in
// float64 and an array of names beside them; float32 alone; moments.
func TestReadFeaturesOfNumpy(t *testing.T) {
	want := hashUniform("arrays", 15)
	for name, tolerance := range map[string]float64{"features.npz": 1e-3, "features.npy": 0} {
		f, err := ReadFeatures(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if f.Rows != 5 || f.Dim != 3 {
			t.Fatalf("%s: %d rows of %d, want 5 of 3", name, f.Rows, f.Dim)
		}
		for i, v := range f.Values {
			if math.Abs(float64(v)-want[i]) > tolerance {
				t.Errorf("%s: value %d is %v, want %v", name, i, v, want[i])
			}
		}
		if zipped := name == "features.npz"; zipped != (f.Classes == 2) || (zipped && float64(f.Logits[2]) != want[3]) {
			t.Errorf("%s: logits are %v of %d classes", name, f.Logits, f.Classes)
		}
	}
	moments, err := ReadMoments("testdata/statistics.npz")
	if err != nil || moments == nil {
		t.Fatalf("moments are %v (%v)", moments, err)
	}
	f, err := ReadFeatures("testdata/features.npy")
	if err != nil {
		t.Fatal(err)
	}
	own, err := NewMoments(f)
	if err != nil {
		t.Fatal(err)
	}
	if d, err := FrechetDistance(own, moments); err != nil || math.Abs(d) > 1e-9 {
		t.Errorf("distance to numpy's own moments is %v (%v), want 0", d, err)
	}
	if m, err := ReadMoments("testdata/features.npz"); m != nil || err != nil {
		t.Errorf("moments of a file of features are %v (%v), want none", m, err)
	}
	if _, err := ReadFeatures("testdata/statistics.npz"); !errors.Is(err, ErrInvalid) {
		t.Errorf("features of a file of moments: error is %v, want ErrInvalid", err)
	}
}

// npy writes an array of float32 or float64 as NEP 1 says.
func npy(descr string, shape []int, values []float64) []byte {
	dims := ""
	for _, d := range shape {
		dims += fmt.Sprintf("%d, ", d)
	}
	text := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }\n", descr, strings.TrimSuffix(dims, " "))
	var b bytes.Buffer
	b.WriteString("\x93NUMPY\x01\x00")
	b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(text))))
	b.WriteString(text)
	for _, v := range values {
		if descr == "<f4" {
			b.Write(binary.LittleEndian.AppendUint32(nil, math.Float32bits(float32(v))))
		} else {
			b.Write(binary.LittleEndian.AppendUint64(nil, math.Float64bits(v)))
		}
	}
	return b.Bytes()
}

func TestNPYRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, dim := rapid.IntRange(0, 9).Draw(t, "rows"), rapid.IntRange(0, 9).Draw(t, "dim")
		values := rapid.SliceOfN(rapid.Float64(), rows*dim, rows*dim).Draw(t, "values")
		a, err := parseNPY(bytes.NewReader(npy("<f8", []int{rows, dim}, values)))
		if err != nil || len(a.shape) != 2 || a.shape[0] != rows || a.shape[1] != dim || len(a.values) != len(values) {
			t.Fatalf("array is %+v (%v), want %d×%d", a, err, rows, dim)
		}
		for i, v := range values {
			if a.values[i] != v {
				t.Fatalf("value %d is %v, want %v", i, a.values[i], v)
			}
		}
	})
}

func TestNPYRefuses(t *testing.T) {
	whole := npy("<f4", []int{2, 2}, []float64{1, 2, 3, 4})
	for name, data := range map[string][]byte{
		"empty":    nil,
		"magic":    []byte("NUMPY...."),
		"version":  append([]byte("\x93NUMPY\x09\x00"), whole[8:]...),
		"cut":      whole[:len(whole)-1],
		"header":   whole[:20],
		"type":     npy("<i8", []int{1}, []float64{1}),
		"fortran":  bytes.Replace(whole, []byte("False"), []byte("True "), 1),
		"huge":     npy("<f8", []int{1 << 30, 1 << 30}, nil),
		"long":     npy("<f8", []int{1 << 20}, []float64{1}),
		"overflow": npy("<f8", []int{1 << 20, 1 << 62}, nil),
	} {
		if _, err := parseNPY(bytes.NewReader(data)); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: error is %v, want ErrInvalid", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "three.npy")
	if err := os.WriteFile(path, npy("<f8", []int{1, 1, 1}, []float64{1}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFeatures(path); !errors.Is(err, ErrInvalid) {
		t.Errorf("three axes: error is %v, want ErrInvalid", err)
	}
	if err := os.WriteFile(path, npy("<f8", []int{1, 1}, []float64{math.NaN()}), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFeatures(path); !errors.Is(err, ErrInvalid) {
		t.Errorf("not a number: error is %v, want ErrInvalid", err)
	}
}

func TestHalfValues(t *testing.T) {
	for bits, want := range map[uint16]float64{0: 0, 0x3c00: 1, 0xc000: -2, 0x0001: math.Ldexp(1, -24), 0x7bff: 65504, 0xfc00: math.Inf(-1)} {
		if got := halfValue(bits); got != want {
			t.Errorf("half %#x is %v, want %v", bits, got, want)
		}
	}
	if !math.IsNaN(halfValue(0x7e00)) {
		t.Error("half 0x7e00 is a number")
	}
}

// Whatever a file holds, reading it gives arrays that are whole, or ErrInvalid.
func FuzzParseArrays(f *testing.F) {
	for _, name := range []string{"features.npz", "statistics.npz", "features.npy"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, strings.HasSuffix(name, "z"))
	}
	f.Fuzz(func(t *testing.T, data []byte, zipped bool) {
		var arrays map[string]array
		var err error
		parsebound.Check(t, len(data), func() { arrays, err = parseArrays(bytes.NewReader(data), int64(len(data)), zipped) })
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error is %v, want ErrInvalid", err)
			}
			return
		}
		for name, a := range arrays {
			size := 1
			for _, d := range a.shape {
				size *= d
			}
			if size != len(a.values) {
				t.Fatalf("array %q has %d values for shape %v", name, len(a.values), a.shape)
			}
		}
	})
}
