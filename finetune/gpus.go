package finetune

import (
	"fmt"
	"slices"
	"strings"
)

// GPU is what an estimate knows of a graphics card: its makers' figures.
type GPU struct {
	Name     string  `json:"name"`
	Float32  float64 `json:"float32_tflops"`  // Peak without tensor cores, which round factors of products by more than clipping allows for (TF32).
	BFloat16 float64 `json:"bfloat16_tflops"` // Peak of dense products, sums in float32, no sparsity. Zero: the card has none.
	Memory   int64   `json:"memory_bytes"`
}

const gib = 1 << 30

// GPUs are the cards that Estimate knows, by NVIDIA's data sheets. Marketing
// counts gigabytes of a card's memory as we count GiB.
var GPUs = []GPU{
	{"h200", 66.9, 989, 141 * gib},
	{"h100", 66.9, 989, 80 * gib}, // SXM5; the PCIe card has 51.2 and 756.
	{"a100-80", 19.5, 312, 80 * gib},
	{"a100-40", 19.5, 312, 40 * gib},
	{"l40s", 91.6, 362, 48 * gib},
	{"a10", 31.2, 125, 24 * gib},
	{"l4", 30.3, 121, 24 * gib},
	{"rtx4090", 82.6, 165, 24 * gib},
	{"rtx3090", 35.6, 71, 24 * gib},
	{"v100", 15.7, 0, 16 * gib}, // SXM2.
	{"t4", 8.1, 0, 16 * gib},
}

// FindGPU returns the card of a name.
func FindGPU(name string) (GPU, error) {
	i := slices.IndexFunc(GPUs, func(g GPU) bool { return g.Name == strings.ToLower(name) })
	if i < 0 {
		var names []string
		for _, g := range GPUs {
			names = append(names, g.Name)
		}
		return GPU{}, fmt.Errorf("graphics card is %q, want one of %s", name, strings.Join(names, ", "))
	}
	return GPUs[i], nil
}
