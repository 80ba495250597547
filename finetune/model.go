package finetune

import (
	"fmt"
	"math/rand/v2"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/nn"
)

// target is the model that a run trains: the base with the run's classes, its
// adapters, and the names of the trainable parameters. It depends on public
// inputs only.
type target struct {
	model     *checkpoint.Model
	adapter   nn.Adapter // Nil without one.
	trainable []string

	public *publicClasses // Of the base model; nil for one that takes text.
}

// newTarget prepares the base model, which it changes, for a run over the
// named classes.
func newTarget(backend compute.Backend, base *checkpoint.Model, classes []string, c *Config) (*target, error) {
	t := &target{model: base}
	if base.TextEncoder == nil {
		t.public = newPublicClasses(base)
		if err := t.setClasses(classes); err != nil {
			return nil, err
		}
	}
	if (c.Method == LoDA || c.Method == LoRA) && base.Adapter != nil {
		return nil, fmt.Errorf("%w: base model has an adapter already; choose one without", ErrConfig)
	}
	switch c.Method {
	case LoRA:
		targets := c.LoRA.Targets
		if len(targets) == 0 {
			targets = []string{"to_q", "to_k", "to_v", "to_out.0"}
		}
		base.Adapter = &adapter.Config{Rank: c.LoRA.Rank, Alpha: c.LoRA.Alpha, Targets: targets}
	case LoDA:
		base.Adapter = &adapter.Config{Rank: c.LoDA.Rank, Alpha: c.LoDA.Alpha, Core: c.LoDA.Core, Kernel: c.LoDA.Kernel, Layers: c.LoDA.Layers}
	}
	var err error
	if t.adapter, err = Branches(base); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	specs, err := base.Specs(backend)
	if err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(1, 1)) // Where adapters start is public: a constant.
	for _, s := range specs {
		if adapter.IsAdapter(s.Name) && base.Weights.Get(s.Name) == nil {
			base.Weights.Add(nn.NewTensor(s, rng))
		}
	}
	t.trainable, err = trainableNames(specs, base, c)
	return t, err
}

// embedderName is the parameter that holds one row per class.
func embedderName(m *checkpoint.Model) string {
	if m.ClassEmbedder != nil {
		return "class_embedder.weight"
	}
	return "unet.class_embedding.weight"
}

// setClasses gives the conditioning embedder a row for each class of the run
// and one for the null class. A class that the base model knows by name keeps
// its row; another starts from a row of the base, each from its own, so that no
// two begin alike.
func (t *target) setClasses(classes []string) error {
	m := t.model
	if len(classes) == 0 {
		return fmt.Errorf("%w: no classes", ErrConfig)
	}
	old := m.Weights.Get(embedderName(m))
	if old == nil || len(old.Shape) != 2 || old.Shape[0] != len(m.Classes)+1 {
		return fmt.Errorf("base model has no class table with a row for each of its %d classes and the null class; it cannot be conditioned on classes", len(m.Classes))
	}
	width := old.Shape[1]
	row := func(i int) []float32 { return old.Data[i*width : (i+1)*width] }
	known := map[string]int{}
	for i, name := range m.Classes {
		known[name] = i
	}
	used := make([]bool, len(m.Classes))
	from := make([]int, len(classes))
	for i, name := range classes {
		from[i] = -1
		if k, ok := known[name]; ok {
			from[i], used[k] = k, true
		}
	}
	var data []float32
	next := 0
	for i := range classes {
		if from[i] < 0 {
			for next < len(used) && used[next] {
				next++
			}
			from[i] = i % len(used)
			if next < len(used) {
				from[i], used[next] = next, true
			}
		}
		data = append(data, row(from[i])...)
	}
	data = append(data, row(len(m.Classes))...)
	old.Shape, old.Data = []int{len(classes) + 1, width}, data
	m.Classes = append([]string(nil), classes...)
	if m.ClassEmbedder != nil {
		m.ClassEmbedder.Entries = len(classes) + 1
	} else {
		m.UNet.NumClassEmbeds = len(classes) + 1
	}
	return nil
}
