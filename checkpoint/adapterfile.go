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
	"regexp"
	"slices"
	"strings"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

// DiffusersAdapterFile is the name that diffusers looks for.
const DiffusersAdapterFile = "pytorch_lora_weights.safetensors"

// filed is one branch as a file holds it.
type filed struct {
	down, mid, up *array  // mid is nil but for Tucker's form of a convolution.
	alpha         float64 // 0 if the file gives none.
}

// array is a tensor in PyTorch's layout.
type array struct {
	shape []int
	data  []float32
}

// ReadAdapter reads a LoRA for the UNet with the given parameters (those of
// unet.Config.Specs): a folder of PEFT, a file of diffusers
// (pytorch_lora_weights.safetensors) or one with kohya's and LyCORIS' names. The
// branches come back as tensors named below prefix and a dot.
//
// Branches for other parts of a pipeline, and kinds other than LoRA and LoCon,
// are errors that name the tensor: nothing is left out in silence.
func ReadAdapter(path string, specs []nn.Spec, prefix string) (*adapter.Config, []*nn.Tensor, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read adapter: %w", err)
	}
	kinds := map[string]nn.Kind{}
	for _, spec := range specs {
		if layer, ok := strings.CutSuffix(spec.Name, ".weight"); ok && (spec.Kind == nn.KindDense || spec.Kind == nn.KindKernel) {
			kinds[layer] = spec.Kind
		}
	}
	var config *adapter.Config
	file := path
	if info.IsDir() {
		file = filepath.Join(path, adapterWeightsFile)
		data, err := os.ReadFile(filepath.Join(path, adapterConfigFile))
		if errors.Is(err, fs.ErrNotExist) {
			file = filepath.Join(path, DiffusersAdapterFile)
		} else if err != nil {
			return nil, nil, fmt.Errorf("read adapter: %w", err)
		} else if config, err = adapter.ParsePEFT(data); err != nil {
			return nil, nil, fmt.Errorf("read %s: %w", filepath.Join(path, adapterConfigFile), err)
		}
	}
	f, err := safetensors.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	branches, err := readBranches(f, kinds)
	if err == nil && len(branches) == 0 {
		err = fmt.Errorf("file has no tensors")
	}
	if err == nil && config == nil {
		config, err = configOf(f.Metadata(), branches)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", file, err)
	}
	var tensors []*nn.Tensor
	for _, layer := range slices.Sorted(maps.Keys(branches)) {
		b := branches[layer]
		if _, rank, err := config.Scale(layer); err != nil || b.down.shape[0] != rank {
			return nil, nil, fmt.Errorf("read %s: branch of %q has rank %d, want the config's %d (%v)", file, layer, b.down.shape[0], rank, err)
		}
		for part, a := range map[string]*array{"lora_A": b.down, "lora_B": b.up} {
			shape, data := FromDiffusers(kinds[layer], a.shape, a.data)
			tensors = append(tensors, &nn.Tensor{Name: prefix + "." + layer + "." + part + ".weight", Kind: kinds[layer], Shape: shape, Data: data})
		}
	}
	slices.SortFunc(tensors, func(a, b *nn.Tensor) int { return strings.Compare(a.Name, b.Name) })
	return config, tensors, nil
}

// readBranches sorts the tensors of a file by layer.
func readBranches(f *safetensors.File, kinds map[string]nn.Kind) (map[string]*filed, error) {
	flat := map[string]string{} // kohya writes _ for each dot.
	for layer := range kinds {
		flat[strings.ReplaceAll(layer, ".", "_")] = layer
	}
	branches := map[string]*filed{}
	for _, name := range f.Names() {
		layer, part, err := parseBranch(name, flat)
		if err != nil {
			return nil, err
		}
		kind, ok := kinds[layer]
		if !ok {
			return nil, fmt.Errorf("tensor %q is for the layer %q, which the model lacks", name, layer)
		}
		t, err := f.Tensor(name)
		if err != nil {
			return nil, err
		}
		values, err := t.Float32s()
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return nil, fmt.Errorf("tensor %q has value %g, want finite ones", name, v)
			}
		}
		b := branches[layer]
		if b == nil {
			b = &filed{}
			branches[layer] = b
		}
		if part == "alpha" {
			if len(values) != 1 || !(values[0] > 0) {
				return nil, fmt.Errorf("tensor %q has %d values, want one positive", name, len(values))
			}
			b.alpha = float64(values[0])
			continue
		}
		a := &array{t.Shape, values}
		if kind == nn.KindDense && len(a.shape) == 4 && a.shape[2]*a.shape[3] == 1 {
			a.shape = a.shape[:2]
		}
		if want := map[nn.Kind]int{nn.KindDense: 2, nn.KindKernel: 4}[kind]; len(a.shape) != want || slices.Contains(a.shape, 0) {
			return nil, fmt.Errorf("tensor %q has shape %v, want %d axes", name, t.Shape, want)
		}
		place := map[string]**array{"down": &b.down, "mid": &b.mid, "up": &b.up}[part]
		if *place != nil {
			return nil, fmt.Errorf("layer %q has two tensors for its %s projection", layer, part)
		}
		*place = a
	}
	for layer, b := range branches {
		if b.down == nil || b.up == nil {
			return nil, fmt.Errorf("branch of %q lacks a projection, want down (A) and up (B)", layer)
		}
		if err := b.join(); err != nil {
			return nil, fmt.Errorf("branch of %q: %w", layer, err)
		}
	}
	return branches, nil
}

// join brings Tucker's form up·mid·down into up·down, and checks the ranks.
func (b *filed) join() error {
	if m := b.mid; m != nil {
		if len(m.shape) != 4 || m.shape[1] != b.down.shape[0] || len(b.down.shape) != 4 || b.down.shape[2]*b.down.shape[3] != 1 {
			return fmt.Errorf("lora_mid is %v and lora_down %v, want [rank, rank, height, width] and [rank, in, 1, 1]", m.shape, b.down.shape)
		}
		out, rank, in, area := m.shape[0], m.shape[1], b.down.shape[1], m.shape[2]*m.shape[3]
		data := make([]float32, out*in*area)
		for o := range out {
			for i := range in {
				for k := range area {
					sum := 0.0
					for r := range rank {
						sum += float64(m.data[(o*rank+r)*area+k]) * float64(b.down.data[r*in+i])
					}
					data[(o*in+i)*area+k] = float32(sum)
				}
			}
		}
		b.down, b.mid = &array{[]int{out, in, m.shape[2], m.shape[3]}, data}, nil
	}
	if b.up.shape[1] != b.down.shape[0] {
		return fmt.Errorf("down projection is %v and up %v, want one rank", b.down.shape, b.up.shape)
	}
	if len(b.up.shape) == 4 && b.up.shape[2]*b.up.shape[3] != 1 {
		return fmt.Errorf("up projection is %v, want a 1×1 convolution", b.up.shape)
	}
	return nil
}

// Endings of names, and what they are.
var branchParts = []struct{ ending, part string }{
	{".lora_A.weight", "down"}, {".lora_B.weight", "up"}, {".lora_A.default.weight", "down"}, {".lora_B.default.weight", "up"},
	{".lora.down.weight", "down"}, {".lora.up.weight", "up"}, {".lora_linear_layer.down.weight", "down"}, {".lora_linear_layer.up.weight", "up"},
	{".lora_down.weight", "down"}, {".lora_mid.weight", "mid"}, {".lora_up.weight", "up"}, {"_lora.down.weight", "down"}, {"_lora.up.weight", "up"},
	{".alpha", "alpha"},
}

// parseBranch tells the layer, below the UNet, and the part of its branch that a
// tensor is. flat maps names with _ for each dot to layers.
func parseBranch(name string, flat map[string]string) (layer, part string, err error) {
	for _, p := range branchParts {
		if rest, ok := strings.CutSuffix(name, p.ending); ok {
			layer, part = rest, p.part
			break
		}
	}
	if part == "" {
		return "", "", fmt.Errorf("tensor %q is no part of a LoRA or LoCon; LoHa, LoKr, DoRA and others are not implemented", name)
	}
	if rest, ok := strings.CutPrefix(layer, "lora_unet_"); ok {
		if layer, ok = flat[rest]; !ok {
			return "", "", fmt.Errorf("tensor %q is for the layer %q, which the model lacks", name, rest)
		}
		return layer, part, nil
	}
	for _, other := range []string{"text_encoder", "lora_te", "transformer.", "lora_transformer"} {
		if strings.HasPrefix(layer, other) {
			return "", "", fmt.Errorf("tensor %q is not for the UNet; adapters of other parts are not implemented", name)
		}
	}
	layer = strings.TrimPrefix(strings.TrimPrefix(layer, peftPrefix), unetName+".")
	if before, last, ok := strings.Cut(layer, ".processor."); ok { // Diffusers before 0.22.
		last = strings.TrimSuffix(last, "_lora")
		if last == "to_out" {
			last = "to_out.0"
		}
		layer = before + "." + last
	}
	return layer, part, nil
}

// configOf returns the config of a file without one beside it: from diffusers'
// metadata, or rank and alpha of each branch.
func configOf(metadata map[string]string, branches map[string]*filed) (*adapter.Config, error) {
	layers := slices.Sorted(maps.Keys(branches))
	first := branches[layers[0]]
	c := &adapter.Config{Rank: first.down.shape[0], Targets: layers, RankPattern: map[string]int{}, AlphaPattern: map[string]float64{}}
	c.Alpha = first.alpha
	if c.Alpha == 0 {
		c.Alpha = float64(c.Rank)
	}
	for _, layer := range layers {
		b := branches[layer]
		alpha, rank := b.alpha, b.down.shape[0]
		if alpha == 0 {
			alpha = float64(rank)
		}
		if rank != c.Rank {
			c.RankPattern[regexp.QuoteMeta(layer)] = rank
		}
		if alpha != c.Alpha {
			c.AlphaPattern[regexp.QuoteMeta(layer)] = alpha
		}
	}
	text, ok := metadata["lora_adapter_metadata"]
	if !ok {
		return c, nil
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		return nil, fmt.Errorf("metadata lora_adapter_metadata: %w", err)
	}
	own := map[string]json.RawMessage{"peft_type": json.RawMessage(`"LORA"`)}
	for key, value := range all {
		if key, ok := strings.CutPrefix(key, unetName+"."); ok {
			own[key] = value
		}
	}
	if own["target_modules"] == nil {
		return c, nil
	}
	data, err := json.Marshal(own)
	if err != nil {
		return nil, err
	}
	if c, err = adapter.ParsePEFT(data); err != nil {
		return nil, fmt.Errorf("metadata lora_adapter_metadata: %w", err)
	}
	return c, nil
}
