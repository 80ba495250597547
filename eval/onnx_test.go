package eval

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/internal/parsebound"
	"github.com/scumble-dp/scumble/safetensors"
)

// proto is a Protocol Buffers message in the making, by the format's description.
type proto []byte

func (p proto) number(field int, v uint64) proto {
	return binary.AppendUvarint(binary.AppendUvarint(p, uint64(field)<<3), v)
}

func (p proto) bytes(field int, data []byte) proto {
	return append(binary.AppendUvarint(binary.AppendUvarint(p, uint64(field)<<3|2), uint64(len(data))), data...)
}

func floatBytes(values []float32) []byte {
	var b []byte
	for _, v := range values {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return b
}

// onnxModel wraps tensors into a model with a graph that has nodes, which are
// passed over.
func onnxModel(tensors ...proto) []byte {
	graph := proto{}.bytes(1, []byte("a node")).bytes(2, []byte("graph"))
	for _, t := range tensors {
		graph = graph.bytes(5, t)
	}
	return proto{}.number(1, 8).bytes(2, []byte("pytorch")).bytes(7, graph)
}

func TestONNXReadsEveryWayToWriteATensor(t *testing.T) {
	want := []float32{0.5, -2, 3, 0, 65504, 0x1p-24}
	dims := proto{}.bytes(1, []byte{2, 3}) // Packed.
	halves := []uint16{0x3800, 0xc000, 0x4200, 0, 0x7bff, 1}
	var raw16, packed16, raw64, rawB []byte
	for i, h := range halves {
		raw16 = binary.LittleEndian.AppendUint16(raw16, h)
		packed16 = binary.AppendUvarint(packed16, uint64(h))
		raw64 = binary.LittleEndian.AppendUint64(raw64, math.Float64bits(float64(want[i])))
		rawB = binary.LittleEndian.AppendUint16(rawB, uint16(math.Float32bits(want[i])>>16))
	}
	unpacked := proto{}.number(1, 2).number(1, 3).number(2, 1).bytes(8, []byte("x"))
	for _, v := range want {
		unpacked = binary.LittleEndian.AppendUint32(append(unpacked, 4<<3|5), math.Float32bits(v))
	}
	for name, tensor := range map[string]proto{
		"raw":           dims.number(2, 1).bytes(9, floatBytes(want)).bytes(8, []byte("x")),
		"float field":   dims.number(2, 1).bytes(4, floatBytes(want)).bytes(8, []byte("x")),
		"unpacked":      unpacked,
		"half":          dims.number(2, 10).bytes(9, raw16).bytes(8, []byte("x")),
		"half in int32": dims.number(2, 10).bytes(5, packed16).bytes(8, []byte("x")),
		"double":        dims.number(2, 11).bytes(9, raw64).bytes(8, []byte("x")),
		"double field":  dims.number(2, 11).bytes(10, raw64).bytes(8, []byte("x")),
	} {
		f, err := parseONNX(onnxModel(tensor))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		shape, values, err := f.tensor("x")
		if err != nil || cmp.Diff([]int{2, 3}, shape) != "" || cmp.Diff(want, values) != "" {
			t.Errorf("%s: shape %v, values %v (%v), want %v", name, shape, values, err, want)
		}
	}
	f, err := parseONNX(onnxModel(dims.number(2, 16).bytes(9, rawB).bytes(8, []byte("x"))))
	if err != nil {
		t.Fatal(err)
	}
	if _, v, err := f.tensor("x"); err != nil || v[0] != 0.5 || v[1] != -2 {
		t.Errorf("bfloat16 gives %v (%v)", v, err)
	}
}

// Every half-precision number that is finite is that of safetensors, which reads
// them too.
func TestHalfFloats(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := rapid.Uint16().Draw(t, "bits")
		sign, exponent, fraction := 1.0, int(h>>10&31), float64(h&1023)
		if h>>15 == 1 {
			sign = -1
		}
		want := sign * math.Ldexp(fraction/1024+1, exponent-15)
		if exponent == 0 {
			want = sign * math.Ldexp(fraction/1024, -14)
		}
		if got := halfFloat(h); exponent != 31 && float64(got) != want {
			t.Fatalf("%#x is %v, want %v", h, got, want)
		} else if exponent == 31 && !math.IsNaN(float64(got)) && !math.IsInf(float64(got), int(sign)) {
			t.Fatalf("%#x is %v, want no finite number", h, got)
		}
	})
}

func TestONNXRefuses(t *testing.T) {
	x := []byte("x")
	good := proto{}.number(1, 1).number(2, 1).bytes(8, x).bytes(9, floatBytes([]float32{1}))
	whole := onnxModel(good)
	for name, data := range map[string][]byte{
		"nothing": {}, "no graph": proto{}.number(1, 8), "two graphs": append(whole[:len(whole):len(whole)], whole...),
		"cut": whole[:len(whole)-1], "no message": []byte("this is no ONNX"), "twice the name": onnxModel(good, good),
		"no name": onnxModel(proto{}.number(1, 1)), "nine dimensions": onnxModel(proto{}.bytes(1, make([]byte, 9))),
	} {
		if _, err := parseONNX(data); !errors.Is(err, errBrokenONNX) {
			t.Errorf("%s: error is %v, want errBrokenONNX", name, err)
		}
	}
	for name, c := range map[string]struct {
		tensor proto
		want   string
	}{
		"shape":         {proto{}.number(1, 2).number(2, 1).bytes(8, x).bytes(9, floatBytes([]float32{1})), "shape [2] of 1 values"},
		"element type":  {proto{}.number(1, 1).number(2, 7).bytes(8, x).bytes(9, make([]byte, 8)), "element type 7"},
		"half elements": {proto{}.number(1, 1).number(2, 1).bytes(8, x).bytes(9, make([]byte, 5)), "5 bytes of elements of 4"},
		"another file":  {proto{}.number(1, 1).number(2, 1).bytes(8, x).number(14, 1), "in another file"},
	} {
		f, err := parseONNX(onnxModel(c.tensor))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.tensor("x"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, c.want)
		}
	}
}

// Weights in ONNX are those in safetensors: every tensor of Inception, folded.
func TestInceptionFromONNX(t *testing.T) {
	b := backendtest.Open(t, "go")
	path := writeInception(t)
	f, err := safetensors.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var tensors []proto
	for _, name := range f.Names() {
		source, err := f.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		values, err := source.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		p := proto{}
		for _, n := range source.Shape {
			p = p.number(1, uint64(n))
		}
		tensors = append(tensors, p.number(2, 1).bytes(8, []byte(name)).bytes(9, floatBytes(values)))
	}
	onnx := filepath.Join(t.TempDir(), "inception.onnx")
	if err := os.WriteFile(onnx, onnxModel(tensors...), 0o600); err != nil {
		t.Fatal(err)
	}
	want, err := readInception(b, path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readInception(b, onnx)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(want.Names(), got.Names()) {
		t.Fatal("the tensors are others")
	}
	for _, w := range want.All() {
		if !slices.Equal(w.Data, got.Get(w.Name).Data) {
			t.Errorf("%s differs", w.Name)
		}
	}
	// Names that torch.onnx.export makes up say what to do.
	bad := filepath.Join(t.TempDir(), "folded.onnx")
	if err := os.WriteFile(bad, onnxModel(proto{}.number(1, 1).number(2, 1).bytes(8, []byte("onnx::Conv_12")).bytes(9, floatBytes([]float32{1}))), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readInception(b, bad); err == nil || !strings.Contains(err.Error(), "want the FID Inception v3 with the names") {
		t.Errorf("folded file: error is %v", err)
	}
}

// No bytes make the reader fail otherwise than by an error, or take more memory
// than they have.
func FuzzONNX(f *testing.F) {
	f.Add(onnxModel(proto{}.number(1, 1).number(2, 1).bytes(8, []byte("x")).bytes(9, floatBytes([]float32{1}))))
	f.Add(onnxModel(proto{}.bytes(1, []byte{2, 3}).number(2, 10).bytes(5, []byte{1, 2, 3, 4, 5, 6}).bytes(8, []byte("y"))))
	f.Fuzz(func(t *testing.T, data []byte) {
		var file onnxFile
		var err error
		parsebound.Check(t, len(data), func() {
			if file, err = parseONNX(data); err != nil {
				return
			}
			for name := range file {
				_, _, _ = file.tensor(name)
			}
		})
		if err != nil {
			return
		}
		for name := range file {
			shape, values, err := file.tensor(name)
			if err != nil {
				continue
			}
			size := 1
			for _, n := range shape {
				size *= n
			}
			if size != len(values) || len(values) > 4*len(data) {
				t.Errorf("tensor %q of shape %v has %d values from %d bytes", name, shape, len(values), len(data))
			}
		}
	})
}
