package safetensors

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

// TestReference reads a file of the reference implementation (see
// testdata/README.md) and writes it again, to the byte.
func TestReference(t *testing.T) {
	path := filepath.Join("testdata", "peft_adapter.safetensors")
	tensors, metadata, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"format": "pt"}, metadata); diff != "" {
		t.Error(diff)
	}
	if len(tensors) != 32 {
		t.Errorf("%d tensors, want 32", len(tensors))
	}
	sum := 0.0
	for _, x := range tensors {
		values, err := x.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range values {
			sum += float64(v)
		}
	}
	// Summed by Python's struct.unpack and math.fsum.
	if want := -8.203364599309058; math.Abs(sum-want) > 1e-9 {
		t.Errorf("sum of all values is %v, want %v", sum, want)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	x, err := f.Tensor("base_model.model.down_blocks.1.attentions.0.to_k.lora_A.weight")
	if err != nil {
		t.Fatal(err)
	}
	values, err := x.Float32s()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]float32{-0.035609714686870575, 0.0359761007130146, -0.029859056696295738}, values[:3]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{3, 32}, x.Shape); diff != "" {
		t.Error(diff)
	}
	slices.Reverse(tensors)
	again := filepath.Join(t.TempDir(), "again.safetensors")
	if err := Write(again, tensors, nil); err != nil {
		t.Fatal(err)
	}
	want, _ := os.ReadFile(path)
	got, _ := os.ReadFile(again)
	if !bytes.Equal(got, want) {
		t.Errorf("written again, the file differs: %q, want %q", got[8:200], want[8:200])
	}
}

// TestFixtures opens files that Python wrote.
func TestFixtures(t *testing.T) {
	paths, _ := filepath.Glob(filepath.Join("..", "parity", "testdata", "small", "*", "*.safetensors"))
	if len(paths) == 0 {
		t.Fatal("no fixtures in parity/testdata")
	}
	for _, path := range paths {
		tensors, _, err := Read(path)
		if err != nil {
			t.Error(err)
		}
		for _, x := range tensors {
			if _, err := x.Float32s(); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
}

func drawTensors(t *rapid.T) []Tensor {
	names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-zA-Zé"\\<&. ]{0,12}`), 0, 6, rapid.ID[string]).Draw(t, "names")
	var out []Tensor
	for i, name := range names {
		x := Tensor{Name: name, DType: rapid.SampledFrom([]DType{F64, F32, F16, BF16, I64, I32, U8, Bool}).Draw(t, "dtype"),
			Shape: rapid.SliceOfN(rapid.IntRange(0, 4), 0, 4).Draw(t, "shape")}
		n := x.DType.Size()
		for _, size := range x.Shape {
			n *= size
		}
		x.Data = bytes.Repeat([]byte{byte(i + 1)}, n)
		out = append(out, x)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tensors := drawTensors(t)
		metadata := rapid.MapOf(rapid.StringMatching(`[a-z.]{0,8}`), rapid.StringMatching(`.{0,8}`)).Draw(t, "metadata")
		var file, same bytes.Buffer
		if err := Encode(&file, tensors, metadata); err != nil {
			t.Fatal(err)
		}
		slices.Reverse(tensors)
		if err := Encode(&same, tensors, metadata); err != nil || !bytes.Equal(file.Bytes(), same.Bytes()) {
			t.Fatalf("the order of tensors changes the file: %v", err)
		}
		if n := binary.LittleEndian.Uint64(file.Bytes()); n%8 != 0 {
			t.Fatalf("header of %d bytes, want a multiple of 8", n)
		}
		f, err := newFile(bytes.NewReader(file.Bytes()), int64(file.Len()))
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Names()) != len(tensors) {
			t.Fatalf("%d tensors, want %d", len(f.Names()), len(tensors))
		}
		for _, want := range tensors {
			got, err := f.Tensor(want.Name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
		if metadata["format"] == "" {
			metadata["format"] = f.Metadata()["format"]
		}
		if diff := cmp.Diff(metadata, f.Metadata()); diff != "" {
			t.Fatal(diff)
		}
	})
}

// build makes a file of a header and a number of values.
func build(header string, values int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, values)...)
}

func TestRefuses(t *testing.T) {
	one := `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}`
	for _, c := range []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, "0 bytes, want at least 8"},
		{"no header", build("", 0), "does not start"},
		{"header longer than file", []byte{9, 0, 0, 0, 0, 0, 0, 0, '{', '}'}, "header of 9 bytes in a file of 10"},
		{"header beyond bound", []byte{0, 0, 0, 0, 0, 0, 0, 0x80, '{', '}'}, "want at most"},
		{"not json", build("{nope}", 0), "header"},
		{"not utf-8", build("{\"\xff\":{}}", 0), "UTF-8"},
		{"list", build("[]", 0), "does not start"},
		{"cut", build(`{"a":{"dtype":"F32"`, 0), "a"},
		{"text after", build("{} {}", 0), "after its end"},
		{"twice", build(one+`,"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16), `"a" occurs twice`},
		{"twice, escaped", build(one+`,"\u0061":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 16), `"a" occurs twice`},
		{"overlap", build(one+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`, 12), "begins at 4, but the one before it ends at 8"},
		{"same place", build(one+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8), "begins at 0"},
		{"hole", build(one+`,"b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}}`, 20), "begins at 12"},
		{"bytes left over", build(one+`}`, 12), "fill 8 bytes of values, the file has 12"},
		{"bytes missing", build(one+`}`, 4), "want an interval in [0, 4]"},
		{"negative offset", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}}`, 0), "want an interval"},
		{"backwards", build(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[8,0]}}`, 8), "want an interval"},
		{"offset overflow", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551615]}}`, 8), "a"},
		{"size overflow", build(`{"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}}`, 0), "larger than the file"},
		{"negative size", build(`{"a":{"dtype":"U8","shape":[-1,-8],"data_offsets":[0,8]}}`, 8), "below 0"},
		{"shape of another size", build(`{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}`, 8), "8 bytes of values, want 3 elements of 32 bits"},
		{"fraction", build(`{"a":{"dtype":"F32","shape":[2.5],"data_offsets":[0,8]}}`, 8), "a"},
		{"null size", build(`{"a":{"dtype":"F32","shape":[2,null],"data_offsets":[0,8]}}`, 8), "null"},
		{"no shape", build(`{"a":{"dtype":"F32","data_offsets":[0,8]}}`, 8), "want dtype, shape"},
		{"capitals", build(`{"a":{"dtype":"F32","Shape":[2],"data_offsets":[0,8]}}`, 8), "want dtype, shape"},
		{"one offset", build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8]}}`, 8), "two data_offsets"},
		{"shape twice", build(`{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}`, 8), "shape occurs twice"},
		{"no type", build(`{"a":{"dtype":"F99","shape":[2],"data_offsets":[0,8]}}`, 8), "no such element type"},
		{"metadata of numbers", build(`{"__metadata__":{"a":1}}`, 0), "not a map"},
		{"metadata of null", build(`{"__metadata__":{"a":null}}`, 0), "not a map"},
		{"metadata twice", build(`{"__metadata__":{},"__metadata__":{}}`, 0), "occurs twice"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := newFile(bytes.NewReader(c.file), int64(len(c.file)))
			if !errors.Is(err, ErrBroken) || errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want ErrBroken with %q", err, c.want)
			}
		})
	}
}

func TestAccepts(t *testing.T) {
	for name, file := range map[string][]byte{
		"nothing":       build("{}", 0),
		"null metadata": build(`{"__metadata__":null}`, 0),
		"spaces":        build("{}      ", 0),
		"unknown key":   build(`{"a":{"dtype":"U8","shape":[],"new":{"x":[1]},"data_offsets":[0,1]}}`, 1),
		"empty tensors": build(`{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"I64","shape":[0,4611686018427387904],"data_offsets":[0,0]}}`, 1),
	} {
		f, err := newFile(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, n := range f.Names() {
			if _, err := f.Tensor(n); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestUnsupported checks that a type we lack spoils its own tensor alone.
func TestUnsupported(t *testing.T) {
	file := build(`{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}}`, 5)
	f, err := newFile(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Tensor("a"); !errors.Is(err, ErrUnsupported) || errors.Is(err, ErrBroken) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
	if _, err := f.Tensor("b"); err != nil {
		t.Error(err)
	}
	if _, err := f.Tensor("c"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if dtype, shape, err := f.Info("a"); dtype != "F8_E4M3" || !slices.Equal(shape, []int{4}) || err != nil {
		t.Errorf("info is %s %v, %v", dtype, shape, err)
	}
	if f.Has("c") || !f.Has("a") {
		t.Error("Has is wrong")
	}
}

func TestWriteRefuses(t *testing.T) {
	ok := Tensor{Name: "a", DType: U8, Shape: []int{1}, Data: []byte{1}}
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	for want, tensors := range map[string][]Tensor{
		"occurs twice":     {ok, ok},
		"want another":     {{Name: "__metadata__", DType: U8, Shape: []int{1}, Data: []byte{1}}},
		"not supported":    {{Name: "a", DType: "I16", Shape: []int{1}, Data: []byte{1, 2}}},
		"want 4 of shape":  {{Name: "a", DType: U8, Shape: []int{4}, Data: make([]byte, 5)}},
		"does not fit":     {{Name: "a", DType: U8, Shape: []int{-1}, Data: []byte{1}}},
		"shape [1048576 1": {{Name: "a", DType: U8, Shape: []int{1 << 20, 1 << 44}, Data: nil}},
	} {
		if err := Write(path, tensors, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestOpenCut opens a file that loses its end before a tensor is read.
func TestOpenCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	if err := Write(path, []Tensor{FromFloat32s("a", []int{2}, []float32{1, 2})}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, _ := os.Stat(path)
	os.Truncate(path, info.Size()-1)
	if _, err := f.Tensor("a"); err == nil {
		t.Error("a cut tensor is read without error")
	}
	if _, err := Open(path); !errors.Is(err, ErrBroken) {
		t.Errorf("got %v, want ErrBroken", err)
	}
	if _, err := Open(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want os.ErrNotExist", err)
	}
}

func FuzzFile(f *testing.F) {
	f.Add(build(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F16","shape":[],"data_offsets":[8,10]}}`, 10))
	f.Add(build(`{"__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0))
	f.Add(build(`{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,8]}}`, 8))
	f.Add(build(`{"a":{"dtype":"BOOL","shape":[1,1],"data_offsets":[0,1]}}  `, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		var file *File
		var err error
		parsebound.Check(t, len(data), func() { file, err = newFile(bytes.NewReader(data), int64(len(data))) })
		if err != nil {
			if !errors.Is(err, ErrBroken) {
				t.Fatalf("error of a broken file is not ErrBroken: %v", err)
			}
			return
		}
		var tensors []Tensor
		total := 0
		for _, name := range file.Names() {
			x, err := file.Tensor(name)
			if errors.Is(err, ErrUnsupported) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := x.Float32s(); err != nil && x.DType != I64 && x.DType != I32 {
				t.Fatal(err)
			}
			tensors = append(tensors, x)
			total += len(x.Data)
		}
		if total > len(data) {
			t.Fatalf("%d bytes of values in a file of %d", total, len(data))
		}
		var again bytes.Buffer
		if err := Encode(&again, tensors, file.Metadata()); err != nil {
			t.Fatal(err)
		}
		second, err := newFile(bytes.NewReader(again.Bytes()), int64(again.Len()))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range tensors {
			got, err := second.Tensor(want.Name)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}

func Example() {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "model.safetensors")
	weight := FromFloat32s("linear.weight", []int{1, 2}, []float32{0.5, -1})
	if err := Write(path, []Tensor{weight}, map[string]string{"dp.epsilon": "10"}); err != nil {
		panic(err)
	}
	f, err := Open(path)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	t, err := f.Tensor("linear.weight")
	if err != nil {
		panic(err)
	}
	values, err := t.Float32s()
	fmt.Println(t.DType, t.Shape, values, err, f.Metadata())
	// Output: F32 [1 2] [0.5 -1] <nil> map[dp.epsilon:10 format:pt]
}

func BenchmarkWriteRead(b *testing.B) {
	path := filepath.Join(b.TempDir(), "x.safetensors")
	x := Tensor{Name: "a", DType: F32, Shape: []int{1 << 20}, Data: make([]byte, 4<<20)}
	b.SetBytes(int64(len(x.Data)))
	for b.Loop() {
		if err := Write(path, []Tensor{x}, nil); err != nil {
			b.Fatal(err)
		}
		if _, _, err := Read(path); err != nil {
			b.Fatal(err)
		}
	}
}
