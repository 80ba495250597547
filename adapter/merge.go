package adapter

import (
	"fmt"
	"strings"

	"github.com/scumble-dp/scumble/nn"
)

// Branches returns the names of the layers of w that have a branch, without
// ".weight", in the order of w.
func Branches(w *nn.Weights) []string {
	var names []string
	for _, t := range w.All() {
		if layer, ok := strings.CutSuffix(t.Name, ".lora_A.weight"); ok {
			names = append(names, layer)
		}
	}
	return names
}

// Merge returns the weights with scale·B·A added to each layer and the branches
// gone: the same model without an adapter. Names below prefix and a dot are those
// of the config's UNet. Only linear branches can be merged. Tensors without a
// branch are shared with w.
func Merge(w *nn.Weights, c *Config, prefix string) (*nn.Weights, error) {
	if !c.IsLinear() {
		return nil, fmt.Errorf("adapter core is %q, want %q: another cannot be merged", c.Core, LinearCore)
	}
	out := nn.NewWeights()
	for _, t := range w.All() {
		if IsAdapter(t.Name) {
			continue
		}
		layer, ok := strings.CutSuffix(t.Name, ".weight")
		a := w.Get(layer + ".lora_A.weight")
		if !ok || a == nil {
			out.Add(t)
			continue
		}
		b := w.Get(layer + ".lora_B.weight")
		if b == nil {
			return nil, fmt.Errorf("layer %q has lora_A but no lora_B", layer)
		}
		scale, _, err := c.Scale(strings.TrimPrefix(layer, prefix+"."))
		if err != nil {
			return nil, err
		}
		merged, err := product(a, b, scale)
		if err != nil {
			return nil, fmt.Errorf("layer %q: %w", layer, err)
		}
		if len(merged) != len(t.Data) {
			return nil, fmt.Errorf("layer %q: branch gives %d values, want %d as its weight", layer, len(merged), len(t.Data))
		}
		for i, v := range t.Data {
			merged[i] += float64(v)
		}
		data := make([]float32, len(merged))
		for i, v := range merged {
			data[i] = float32(v)
		}
		out.Add(&nn.Tensor{Name: t.Name, Kind: t.Kind, Shape: t.Shape, Data: data})
	}
	return out, nil
}

// product returns scale·A·B, where A is [..., rank] and B [..., rank, out] in our
// layout, B of size 1 in the leading axes.
func product(a, b *nn.Tensor, scale float64) ([]float64, error) {
	rank, n := a.Shape[len(a.Shape)-1], b.Shape[len(b.Shape)-1]
	if len(b.Data) != rank*n || len(a.Data)%rank != 0 {
		return nil, fmt.Errorf("lora_A is %v and lora_B %v, want [..., rank] and [rank, out]", a.Shape, b.Shape)
	}
	out := make([]float64, len(a.Data)/rank*n)
	for i := range len(a.Data) / rank {
		row := out[i*n : (i+1)*n]
		for k := range rank {
			v := scale * float64(a.Data[i*rank+k])
			for j, w := range b.Data[k*n : (k+1)*n] {
				row[j] += v * float64(w)
			}
		}
	}
	return out, nil
}
