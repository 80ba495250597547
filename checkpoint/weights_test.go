package checkpoint

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/parsebound"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

// rewrite changes the tensors of a component's file.
func rewrite(t testing.TB, dir, component string, change func([]safetensors.Tensor) []safetensors.Tensor) {
	t.Helper()
	path := filepath.Join(dir, component, weightsFile)
	list, metadata, err := safetensors.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := safetensors.Write(path, change(list), metadata); err != nil {
		t.Fatal(err)
	}
}

func TestLoadOtherForms(t *testing.T) {
	want, err := Load(foreign(t))
	if err != nil {
		t.Fatal(err)
	}
	halves := func(t *testing.T, dir string) {
		rewrite(t, dir, "unet", func(list []safetensors.Tensor) []safetensors.Tensor {
			for i := range list {
				half, err := list[i].Float16s()
				if err != nil {
					t.Fatal(err)
				}
				list[i] = half
			}
			return list
		})
	}
	for name, test := range map[string]struct {
		change    func(t *testing.T, dir string)
		tolerance float64 // Relative.
	}{
		"float16": {halves, 1e-3},
		"float16 variant": {func(t *testing.T, dir string) {
			halves(t, dir)
			unet := filepath.Join(dir, "unet")
			if err := os.Rename(filepath.Join(unet, weightsFile), filepath.Join(unet, "diffusion_pytorch_model.fp16.safetensors")); err != nil {
				t.Fatal(err)
			}
		}, 1e-3},
		"bfloat16": {func(t *testing.T, dir string) {
			rewrite(t, dir, "unet", func(list []safetensors.Tensor) []safetensors.Tensor {
				for i := range list {
					short := safetensors.Tensor{Name: list[i].Name, DType: safetensors.BF16, Shape: list[i].Shape}
					for b := 0; b < len(list[i].Data); b += 4 { // Truncation: the upper half.
						short.Data = append(short.Data, list[i].Data[b+2], list[i].Data[b+3])
					}
					list[i] = short
				}
				return list
			})
		}, 1.0 / 128},
		"old names": {func(t *testing.T, dir string) {
			rewrite(t, dir, "unet", func(list []safetensors.Tensor) []safetensors.Tensor {
				old := strings.NewReplacer(".to_q.", ".query.", ".to_k.", ".key.", ".to_v.", ".value.", ".to_out.0.", ".proj_attn.")
				for i := range list {
					list[i].Name = old.Replace(list[i].Name)
					if strings.HasSuffix(list[i].Name, ".query.weight") {
						list[i].Shape = append(list[i].Shape, 1, 1)
					}
				}
				return list
			})
		}, 0},
		"shards": {func(t *testing.T, dir string) {
			path := filepath.Join(dir, "unet", weightsFile)
			list, metadata, err := safetensors.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			places := map[string]string{}
			for i, part := range [][]safetensors.Tensor{list[:10], list[10:]} {
				name := fmt.Sprintf("diffusion_pytorch_model-%05d-of-00002.safetensors", i+1)
				if err := safetensors.Write(filepath.Join(dir, "unet", name), part, metadata); err != nil {
					t.Fatal(err)
				}
				for _, tensor := range part {
					places[tensor.Name] = name
				}
			}
			index, err := json.Marshal(map[string]any{"metadata": map[string]int{"total_size": 1}, "weight_map": places})
			if err != nil {
				t.Fatal(err)
			}
			put(t, dir, "unet/"+weightsFile+".index.json", string(index))
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			dir := foreign(t)
			test.change(t, dir)
			got, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range want.Weights.All() {
				for i, v := range got.Weights.Get(w.Name).Data {
					// Values below float16's normal range lose more.
					if d := math.Abs(float64(v - w.Data[i])); d > test.tolerance*math.Abs(float64(w.Data[i]))+test.tolerance*1e-4 {
						t.Fatalf("tensor %q has %g at %d, want %g", w.Name, v, i, w.Data[i])
					}
				}
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	first := func(change func(*safetensors.Tensor)) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			rewrite(t, dir, "unet", func(list []safetensors.Tensor) []safetensors.Tensor {
				for i := range list {
					if list[i].Name == "conv_in.weight" {
						change(&list[i])
					}
				}
				return list
			})
		}
	}
	config := func(file, key string, value any) func(*testing.T, string) {
		return func(t *testing.T, dir string) { edit(t, filepath.Join(dir, file), map[string]any{key: value}) }
	}
	remove := func(file string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(file, content string) func(*testing.T, string) {
		return func(t *testing.T, dir string) { put(t, dir, file, content) }
	}
	weights := "unet/" + weightsFile
	for name, test := range map[string]struct {
		change func(*testing.T, string)
		want   []string
	}{
		"missing tensor": {first(func(x *safetensors.Tensor) { x.Name = "conv_in.wait" }),
			[]string{weights, `"conv_in.wait" of shape [16 4 3 3] has no place`}},
		"no such tensor": {func(t *testing.T, dir string) {
			rewrite(t, dir, "unet", func(list []safetensors.Tensor) []safetensors.Tensor { return list[1:] })
		}, []string{weights, "is missing, want shape"}},
		"misshapen tensor": {first(func(x *safetensors.Tensor) { x.Shape = []int{16, 3, 3, 4} }),
			[]string{weights, `"conv_in.weight" has shape [16 3 3 4], want [16 4 3 3]`}},
		"integers": {first(func(x *safetensors.Tensor) { x.DType = safetensors.I32 }), []string{weights, `"conv_in.weight" is I32`}},
		"not a number": {first(func(x *safetensors.Tensor) { x.Data[3], x.Data[2] = 0x7f, 0xc0 }),
			[]string{weights, `"conv_in.weight" has value NaN at 0`}},
		"two names":       {rename("unet", "up_blocks.0.attentions.0.to_q.weight", "up_blocks.0.attentions.0.query.weight"), nil},
		"no weights":      {remove(weights), []string{weights, "file does not exist"}},
		"cut off":         {write(weights, "abc"), []string{weights, "3 bytes"}},
		"no index":        {remove(indexFile), []string{indexFile}},
		"broken index":    {write(indexFile, "{"), []string{indexFile}},
		"bad entry":       {config(indexFile, "unet", []string{"diffusers"}), []string{indexFile, `"unet" has 1 entries`}},
		"no unet":         {config(indexFile, "unet", nil), []string{indexFile, "want unet and scheduler"}},
		"other component": {config(indexFile, "prior", []string{"diffusers", "PriorTransformer"}), []string{indexFile, `"prior" is not implemented`}},
		"no config":       {remove("unet/config.json"), []string{"unet/config.json"}},
		"broken config":   {write("unet/config.json", "[]"), []string{"unet/config.json"}},
		"scheduler":       {config("scheduler/scheduler_config.json", "thresholding", true), []string{"scheduler/scheduler_config.json", "thresholding"}},
		"no vae folder":   {config(indexFile, "vae", []string{"diffusers", "AutoencoderKL"}), []string{"vae/config.json"}},
		"channels":        {config("scumble.json", "channels", 3), []string{"unet takes 4 and gives 4 channels, want 12"}},
		"classes":         {config("scumble.json", "classes", []string{"a", "b", "c", "d", "e"}), []string{"num_class_embeds is 5, want 6"}},
		"same class":      {config("scumble.json", "classes", []string{"a", "a"}), []string{`class name "a"`}},
		"description":     {config("scumble.json", "colour", "red"), []string{"scumble.json", "colour"}},
		"format":          {config("scumble.json", "format", 2), []string{"scumble.json", "format is 2"}},
		"shard elsewhere": {write(weights+".index.json", `{"weight_map": {"conv_in.weight": "../x.safetensors"}}`), []string{".index.json", "../x.safetensors"}},
		"empty shards":    {write(weights+".index.json", `{}`), []string{".index.json", "weight_map is empty"}},
		"missing shard":   {write(weights+".index.json", `{"weight_map": {"conv_in.weight": "x.safetensors"}}`), []string{"x.safetensors"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := saved(t, pixelModel(t))
			test.change(t, dir)
			_, err := Load(dir)
			if test.want == nil { // The change alone is fine.
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range append(test.want, dir) {
				if !strings.Contains(filepath.ToSlash(err.Error()), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func rename(component, from, to string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		rewrite(t, dir, component, func(list []safetensors.Tensor) []safetensors.Tensor {
			for i := range list {
				if list[i].Name == from {
					list[i].Name = to
				}
			}
			return list
		})
	}
}

func TestSaveRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Model)
		want   string
	}{
		"no weights":        {func(m *Model) { m.Weights = nil }, "no weights"},
		"missing tensor":    {func(m *Model) { m.Weights = without(m.Weights, "unet.conv_in.bias") }, `"unet.conv_in.bias" is missing, want shape [16]`},
		"extra tensor":      {func(m *Model) { m.Weights.Add(&nn.Tensor{Name: "x", Shape: []int{1}, Data: []float32{1}}) }, `"x" of shape [1] has no place`},
		"other shape":       {func(m *Model) { m.Weights.Get("unet.conv_in.bias").Shape = []int{4, 4} }, "has shape [4 4], want [16]"},
		"no scheduler":      {func(m *Model) { m.Scheduler = nil }, "scheduler false"},
		"no size":           {func(m *Model) { m.Size = 0 }, "0 pixels"},
		"two channels":      {func(m *Model) { m.Channels = 2 }, "2 channels"},
		"embedder":          {func(m *Model) { m.ClassEmbedder = &ClassEmbedder{5, 8} }, "class embedder"},
		"classes too many":  {func(m *Model) { m.Classes = append(m.Classes, "x") }, "num_class_embeds is 5, want 6"},
		"unshuffle is zero": {func(m *Model) { m.PixelUnshuffle = 0 }, "unshuffle factor is 0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := pixelModel(t)
			test.change(m)
			dir := filepath.Join(t.TempDir(), "model")
			if err := Save(dir, m); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error is %v, want one with %q and the folder", err, test.want)
			}
		})
	}
}

func without(w *nn.Weights, name string) *nn.Weights {
	out := nn.NewWeights()
	for _, t := range w.All() {
		if t.Name != name {
			out.Add(t)
		}
	}
	return out
}

func TestLayoutsAreInverse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := rapid.SampledFrom([]nn.Kind{nn.KindVector, nn.KindDense, nn.KindKernel, nn.KindTable}).Draw(t, "kind")
		rank := map[nn.Kind]int{nn.KindVector: 1, nn.KindDense: 2, nn.KindKernel: 4, nn.KindTable: 2}[kind]
		spec := nn.Spec{Kind: kind}
		for range rank {
			spec.Shape = append(spec.Shape, rapid.IntRange(1, 5).Draw(t, "dimension"))
		}
		data := make([]float32, spec.Size())
		for i := range data {
			data[i] = float32(i)
		}
		shape, out := ToDiffusers(kind, spec.Shape, data)
		if !reflect.DeepEqual(shape, fileShape(spec)) {
			t.Fatalf("shape in a file is %v, want %v", shape, fileShape(spec))
		}
		shape, back := FromDiffusers(kind, shape, out)
		if !reflect.DeepEqual(shape, spec.Shape) || !reflect.DeepEqual(back, data) {
			t.Fatalf("there and back gives shape %v", shape)
		}
	})
}

func FuzzParseIndexAndDescription(f *testing.F) {
	f.Add([]byte(`{"unet": ["diffusers", "UNet2DModel"], "_class_name": "X", "vae": [null, null]}`))
	f.Add([]byte(`{"format": 1, "channels": 3, "size": 32, "classes": ["a"], "info": {"x": "y"}}`))
	f.Add([]byte(`{"_class_name": "ClassEmbedder", "entries": 3, "channels": 4}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		parsebound.Check(t, len(data), func() {
			var x index
			if json.Unmarshal(data, &x) == nil {
				if names, err := x.components(); err == nil && len(names) > len(x) {
					t.Fatal("more components than keys")
				}
			}
		})
		if d, err := parseDescription(data); err == nil && d.Format != descriptionFormat {
			t.Fatal("accepted another format")
		}
		if e, err := parseEmbedder(data); err == nil && (e.Entries < 1 || e.Channels < 1) {
			t.Fatal("accepted an empty class embedder")
		}
	})
}
