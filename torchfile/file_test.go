package torchfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/parsebound"
	"github.com/scumble-dp/scumble/internal/pickle"
	"github.com/scumble-dp/scumble/safetensors"
)

// archive makes a file as torch.save lays it out.
func archive(t testing.TB, method uint16, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for name, data := range files {
		f, err := w.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(data []byte) (*File, error) { return newFile(bytes.NewReader(data), int64(len(data))) }

// program writes pickles.
type program struct{ bytes.Buffer }

func start() *program { p := &program{}; p.WriteString("\x80\x02"); return p }

func (p *program) op(code string) *program { p.WriteString(code); return p }

func (p *program) text(s string) *program {
	p.WriteByte('X')
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	p.WriteString(s)
	return p
}

func (p *program) int(v int) *program {
	p.WriteByte('J')
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(int32(v))))
	return p
}

func (p *program) global(module, name string) *program {
	return p.op("c" + module + "\n" + name + "\n")
}

// tensor rebuilds a view of float storage "0".
func (p *program) tensor(kind string, elements, offset int, shape, strides []int) *program {
	p.global("torch._utils", "_rebuild_tensor_v2").op("((").text("storage").global("torch", kind).text("0").text("cpu").int(elements).op("tQ").int(offset)
	for _, list := range [][]int{shape, strides} {
		p.op("(")
		for _, v := range list {
			p.int(v)
		}
		p.op("t")
	}
	return p.op("\x89").global("collections", "OrderedDict").op(")RtR")
}

func values(v ...float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func TestViews(t *testing.T) {
	program := start().op("}(").text("a").tensor("FloatStorage", 6, 0, []int{2, 3}, []int{3, 1}).
		text("turned").tensor("FloatStorage", 6, 0, []int{3, 2}, []int{1, 3}).
		text("part").tensor("FloatStorage", 6, 4, []int{2}, []int{1}).
		text("scalar").tensor("FloatStorage", 6, 5, nil, nil).
		text("none").tensor("FloatStorage", 6, 6, []int{0, 4}, []int{4, 1}).op("u.")
	f, err := open(archive(t, zip.Store, map[string][]byte{"data.pkl": program.Bytes(), "data/0": values(1, 2, 3, 4, 5, 6)}))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]float32{"a": {1, 2, 3, 4, 5, 6}, "turned": {1, 4, 2, 5, 3, 6}, "part": {5, 6}, "scalar": {6}, "none": {}} {
		_, got, err := f.Float32s(name)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s is %v (%v), want %v", name, got, err, want)
		}
	}
	if _, _, err := f.Float32s("b"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such tensor: %v", err)
	}
}

// A state dictionary inside a checkpoint of Lightning, with the class that it names.
func TestStateDict(t *testing.T) {
	program := start().op("}(").text("callbacks").op("}").global("pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint").text("x").op("s").
		text("state_dict").global("collections", "OrderedDict").op(")R(").text("w").tensor("FloatStorage", 1, 0, []int{1}, []int{1}).op("u}(").text("_metadata").op("}ub").op("u.")
	f, err := open(archive(t, zip.Store, map[string][]byte{"data.pkl": program.Bytes(), "data/0": values(7)}))
	if err != nil {
		t.Fatal(err)
	}
	if _, got, err := f.Float32s("w"); err != nil || got[0] != 7 {
		t.Errorf("w is %v (%v)", got, err)
	}
}

// What a hostile file may ask for: each is refused by name, and nothing happens.
func TestRefuses(t *testing.T) {
	proof := filepath.Join(t.TempDir(), "ran")
	good := start().op("}(").text("a").tensor("FloatStorage", 2, 0, []int{2}, []int{1}).op("u.")
	tensor := func(kind string, elements, offset int, shape, strides []int) []byte {
		return start().op("}(").text("a").tensor(kind, elements, offset, shape, strides).op("u.").Bytes()
	}
	for name, c := range map[string]struct {
		program []byte
		want    string
		refused bool
	}{
		"system":          {start().global("posix", "system").op("(").text("touch " + proof).op("tR.").Bytes(), `"posix.system"`, true},
		"builtins":        {start().global("builtins", "eval").op("(").text("1").op("tR.").Bytes(), `"builtins.eval"`, true},
		"stack global":    {start().text("os").text("system").op("\x93.").Bytes(), `"os.system"`, true},
		"storage called":  {start().global("torch", "FloatStorage").op(")R.").Bytes(), `"torch.FloatStorage"`, true},
		"class called":    {start().global("pytorch_lightning.x", "Y").op(")R.").Bytes(), `"pytorch_lightning.x.Y"`, true},
		"new object":      {start().global("collections", "OrderedDict").op(")\x81.").Bytes(), "opcode", true},
		"instance":        {start().op("(i__main__\nx\n.").Bytes(), "opcode", true},
		"extension":       {start().op("\x82\x01.").Bytes(), "opcode", true},
		"text persistent": {start().op("Pabc\n.").Bytes(), "opcode", true},
		"persistent":      {start().op("(").text("module").op("tQ.").Bytes(), "persistent id", true},
		"attributes":      {start().op("]}b.").Bytes(), "attributes", true},
		"other storage":   {tensor("ComplexFloatStorage", 2, 0, []int{2}, []int{1}), "ComplexFloatStorage", true},
		"beyond":          {tensor("FloatStorage", 2, 1, []int{2}, []int{1}), "beyond its storage", false},
		"negative stride": {tensor("FloatStorage", 2, 1, []int{2}, []int{-1}), "stride", false},
		"repeating":       {tensor("FloatStorage", 2, 0, []int{1 << 30}, []int{0}), "shape", false},
		"huge storage":    {tensor("FloatStorage", 1<<30, 0, []int{1 << 30}, []int{1}), "", false},
		"no end":          {[]byte("\x80\x02}"), "without STOP", false},
		"nothing":         {[]byte("\x80\x02."), "0 values", false},
		"empty stack":     {[]byte("\x80\x02R."), "not there", false},
		"mark":            {[]byte("\x80\x02t."), "no mark", false},
		"protocol":        {[]byte("\x80\x09."), "protocol", false},
		"text":            {[]byte("\x80\x02X\xff\xff\xff\x7f"), "string of", false},
		"no tensors":      {start().op("}.").Bytes(), "no tensors", false},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := open(archive(t, zip.Store, map[string][]byte{"data.pkl": c.program, "data/0": values(1, 2)}))
			if err == nil {
				_, _, err = f.Float32s("a")
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
			if errors.Is(err, ErrRefused) != c.refused {
				t.Errorf("error is %v; refused: want %v", err, c.refused)
			}
		})
	}
	if _, err := os.Stat(proof); err == nil {
		t.Error("the command of a pickle ran")
	}
	if _, err := open(archive(t, zip.Deflate, map[string][]byte{"data.pkl": good.Bytes()})); err == nil || !strings.Contains(err.Error(), "compressed") {
		t.Errorf("compressed: %v", err)
	}
	if _, err := open([]byte("\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")); err == nil || !strings.Contains(err.Error(), "save it again") {
		t.Errorf("an old file: %v", err)
	}
	if _, err := open(archive(t, zip.Store, map[string][]byte{"a": nil})); err == nil {
		t.Error("an archive without program is taken")
	}
}

// Dictionaries that hold each other twice per level have 2^n paths.
func TestSharedDictionaries(t *testing.T) {
	p := start().op("}(").text("a").tensor("FloatStorage", 1, 0, []int{1}, []int{1}).op("uq\x00")
	for range 60 {
		p.op("0}(").text("x").op("h\x00").text("y").op("h\x00uq\x00")
	}
	f, err := open(archive(t, zip.Store, map[string][]byte{"data.pkl": p.op(".").Bytes(), "data/0": values(1)}))
	if err != nil || len(f.Names()) != 1 {
		t.Errorf("%v", err)
	}
}

// What torch 2.15.0 wrote (../compvis/testdata/make.py).
func TestTorch(t *testing.T) {
	for name, want := range map[string]map[string]safetensors.DType{
		"classes": {"model.diffusion_model.time_embed.0.weight": safetensors.BF16, "cond_stage_model.embedding.weight": safetensors.F32},
		"plain":   {"model.diffusion_model.time_embed.0.weight": safetensors.F16, "scale_factor": safetensors.F32},
	} {
		f, err := Open(filepath.Join("..", "compvis", "testdata", name+".ckpt"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for key, dtype := range want {
			if got, _, err := f.Info(key); err != nil || got != dtype {
				t.Errorf("%s is of type %s (%v), want %s", key, got, err, dtype)
			}
		}
		for _, key := range f.Names() {
			if _, _, err := f.Float32s(key); err != nil {
				t.Error(err)
			}
		}
	}
}

func FuzzUnpickle(f *testing.F) {
	f.Add(start().op("}(").text("a").tensor("FloatStorage", 6, 0, []int{2, 3}, []int{3, 1}).op("u.").Bytes())
	f.Add(start().text("os").text("system").op("\x93)R.").Bytes())
	f.Add(start().op("}q\x00(").text("x").op("h\x00N\x88G????????]K\x01aK\x02Ka\x86C\x01au.").Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		var root any
		var err error
		parsebound.Check(t, len(data), func() { root, err = unpickle(data) })
		if err != nil {
			return
		}
		file := &File{tensors: map[string]*Tensor{}}
		file.collect("", root, map[*pickle.Dict]bool{})
		for _, x := range file.tensors {
			if x.elements < 1<<12 { // As many bytes as the archive would have to hold.
				if got := x.gather(make([]byte, int(x.elements)*x.DType.Size())); len(got) != x.count()*x.DType.Size() {
					t.Fatalf("%d bytes of a tensor of shape %v", len(got), x.Shape)
				}
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	program := start().op("}(").text("a").tensor("HalfStorage", 2, 0, []int{2}, []int{1}).op("u.")
	f.Add(archive(f, zip.Store, map[string][]byte{"data.pkl": program.Bytes(), "data/0": {1, 2, 3, 4}, "byteorder": []byte("big")}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var file *File
		var err error
		parsebound.Check(t, len(data), func() { file, err = open(data) })
		if err != nil {
			return
		}
		for _, name := range file.Names() {
			shape, values, err := file.Float32s(name)
			if err != nil {
				continue
			}
			n := 1
			for _, d := range shape {
				n *= d
			}
			if n != len(values) {
				t.Fatalf("%d values of shape %v", len(values), shape)
			}
		}
	})
}
