package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

const (
	weightsFile = "diffusion_pytorch_model.safetensors"
	textFile    = "model.safetensors" // Of a text encoder: transformers' name.
)

// fileOf returns the name of a component's file of weights.
func fileOf(component string) string {
	if component == textName {
		return textFile
	}
	return weightsFile
}

// weightFiles returns the paths of a component's weights: one file, or shards.
func weightFiles(folder, file string) ([]string, error) {
	stem := strings.TrimSuffix(file, ".safetensors")
	index := filepath.Join(folder, file+".index.json")
	data, err := os.ReadFile(index)
	if err == nil {
		return shards(folder, index, data)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read shards: %w", err)
	}
	for _, name := range []string{file, stem + ".fp16.safetensors"} {
		path := filepath.Join(folder, name)
		if _, err := os.Stat(path); err == nil {
			return []string{path}, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("find weights: %w", err)
		}
	}
	path := filepath.Join(folder, file)
	binary := stem + ".bin"
	if file == textFile {
		binary = "pytorch_model.bin"
	}
	if _, err := os.Stat(filepath.Join(folder, binary)); err == nil {
		return nil, fmt.Errorf("%s is missing, though its .bin form is there, which is not read since it can run code: "+
			"save the model with safe_serialization=True", path)
	}
	return nil, fmt.Errorf("read weights: %w", &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist})
}

// shards lists the files that an index names.
func shards(folder, index string, data []byte) ([]string, error) {
	var content struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, fmt.Errorf("read %s: %w", index, err)
	}
	if len(content.WeightMap) == 0 {
		return nil, fmt.Errorf("read %s: weight_map is empty, want a file for each tensor", index)
	}
	var paths []string
	for _, name := range slices.Compact(slices.Sorted(maps.Values(content.WeightMap))) {
		if name != filepath.Base(name) || !filepath.IsLocal(name) || strings.ContainsAny(name, `/\`) {
			return nil, fmt.Errorf("read %s: shard %q, want a file in the same folder", index, name)
		}
		paths = append(paths, filepath.Join(folder, name))
	}
	return paths, nil
}

// readWeights adds a component's tensors to w, in the order of specs, whose names
// begin with the component and a dot.
func readWeights(w *nn.Weights, folder, component string, specs []nn.Spec) error {
	paths, err := weightFiles(folder, fileOf(component))
	if err != nil {
		return err
	}
	bySpec := map[string]nn.Spec{}
	for _, spec := range specs {
		bySpec[spec.Name] = spec
	}
	read := map[string]*nn.Tensor{}
	for _, path := range paths {
		if err := readFile(read, path, "", component, bySpec); err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
	}
	for _, spec := range specs {
		t := read[spec.Name]
		if t == nil {
			return fmt.Errorf("read %s: tensor %q is missing, want shape %v",
				strings.Join(paths, ", "), spec.Name[len(component)+1:], fileShape(spec))
		}
		w.Add(t)
	}
	return nil
}

// readFile reads one file of a component, whose names begin with filePrefix.
func readFile(read map[string]*nn.Tensor, path, filePrefix, component string, specs map[string]nn.Spec) error {
	f, err := safetensors.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	for _, name := range f.Names() {
		full := component + "." + currentName(strings.TrimPrefix(name, filePrefix))
		if component == textName {
			tensor := textTensor(name)
			if tensor == "" {
				continue
			}
			full = component + "." + tensor
		}
		spec, ok := specs[full]
		dtype, shape, err := f.Info(name)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("tensor %q of shape %v has no place in the model that config.json describes", name, shape)
		}
		if read[full] != nil {
			return fmt.Errorf("tensor %q is there twice", name)
		}
		switch dtype {
		case safetensors.F32, safetensors.F16, safetensors.BF16, safetensors.F64:
		default:
			return fmt.Errorf("tensor %q is %s, want F32, F16 or BF16", name, dtype)
		}
		want := fileShape(spec)
		if spec.Kind == nn.KindDense && len(shape) == 4 && shape[2] == 1 && shape[3] == 1 {
			shape = shape[:2] // Old attention modules have 1×1 convolutions.
		}
		if !slices.Equal(shape, want) {
			return fmt.Errorf("tensor %q has shape %v, want %v", name, shape, want)
		}
		raw, err := f.View(name)
		if err != nil {
			return err
		}
		data, err := raw.Float32s()
		if err != nil {
			return err
		}
		for i, v := range data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("tensor %q has value %g at %d, want finite ones", name, v, i)
			}
		}
		shape, data = FromDiffusers(spec.Kind, shape, data)
		read[full] = &nn.Tensor{Name: full, Kind: spec.Kind, Shape: shape, Data: data}
	}
	return nil
}

// writeWeights writes a component's tensors, in diffusers' layout. Adapter
// branches have a file of their own.
func writeWeights(folder, component string, w *nn.Weights, half bool) error {
	prefix := ""
	if component == textName && w.Get(textName+".embeddings.token_embedding.weight") != nil {
		prefix = textPrefix
	}
	list, err := fileTensors(w, component+".", prefix, false)
	if err != nil {
		return err
	}
	for i := range list {
		if !half {
			break
		}
		if list[i], err = list[i].Float16s(); err != nil {
			return fmt.Errorf("tensor %q: %w", list[i].Name, err)
		}
	}
	return safetensors.Write(filepath.Join(folder, fileOf(component)), list, nil)
}

// fileTensors returns the tensors below a prefix as a file holds them, named
// with another prefix: those of adapter branches, or all others.
func fileTensors(w *nn.Weights, prefix, filePrefix string, branches bool) ([]safetensors.Tensor, error) {
	var list []safetensors.Tensor
	for _, t := range w.All() {
		name, ok := strings.CutPrefix(t.Name, prefix)
		if !ok || adapter.IsAdapter(name) != branches {
			continue
		}
		for i, v := range t.Data {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return nil, fmt.Errorf("tensor %q has value %g at %d, want finite ones", t.Name, v, i)
			}
		}
		shape, data := ToDiffusers(t.Kind, t.Shape, t.Data)
		list = append(list, safetensors.FromFloat32s(filePrefix+name, shape, data))
	}
	return list, nil
}
