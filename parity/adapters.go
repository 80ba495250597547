package parity

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/unet"
)

// adapted is a UNet with an adapter.
type adapted struct {
	base    string // Folder.
	unet    *unet.Config
	adapter *adapter.Config
	weights *nn.Weights // With the branches.
}

// baseOf returns the folder of the model that an adapter goes onto: what its config
// says, or the one beside it whose name its own ends in.
func baseOf(dir string) (string, error) {
	var config struct {
		Base string `json:"base_model_name_or_path"`
	}
	if err := readJSON(filepath.Join(dir, "adapter_config.json"), &config); err != nil {
		return "", err
	}
	if config.Base != "" && !filepath.IsAbs(config.Base) {
		if base := filepath.Join(dir, config.Base); exists(filepath.Join(base, "config.json")) {
			return base, nil
		}
	}
	best := ""
	siblings, err := os.ReadDir(filepath.Dir(dir))
	if err != nil {
		return "", err
	}
	for _, s := range siblings {
		if strings.HasSuffix(filepath.Base(dir), s.Name()) && len(s.Name()) > len(best) && s.Name() != filepath.Base(dir) {
			best = s.Name()
		}
	}
	if best == "" {
		return "", fmt.Errorf("base_model_name_or_path is %q, want the folder of the base model from here", config.Base)
	}
	return filepath.Join(filepath.Dir(dir), best), nil
}

// readAdapted reads an adapter, from a folder or a file, with its base.
func (w *walker) readAdapted(base, path string) (*adapted, error) {
	a := &adapted{base: base}
	var err error
	if a.unet, a.weights, err = w.readUNet(base); err != nil {
		return nil, fmt.Errorf("base model %s: %w", w.relative(base), err)
	}
	specs, err := a.unet.Specs(w.backend)
	if err != nil {
		return nil, err
	}
	config, branches, err := checkpoint.ReadAdapter(path, specs, unetPrefix)
	if err != nil {
		return nil, err
	}
	a.adapter = config
	for _, t := range branches {
		a.weights.Add(t)
	}
	return a, nil
}

// adapter compares a PEFT folder: applied, and merged into the base.
func (w *walker) adapter(dir string) error {
	path := filepath.Join(dir, ioFile)
	io, err := readArrays(path)
	if err != nil {
		return err
	}
	base, err := baseOf(dir)
	if err != nil {
		return err
	}
	a, err := w.readAdapted(base, dir)
	if err != nil {
		return err
	}
	// Inputs are those of the base, unless the record has its own.
	inputs, err := readArrays(filepath.Join(base, ioFile))
	if err != nil {
		return err
	}
	for name, v := range io {
		inputs[name] = v
	}
	recorded, err := want(io, "output")
	if err != nil {
		return err
	}
	branches, err := a.adapter.Adapter(unetPrefix)
	if err != nil {
		return err
	}
	out, err := w.runUNet(a.unet, a.weights, branches, inputs)
	if err != nil {
		return err
	}
	w.near(path, "adapter applied", out, recorded[0])
	merged, err := adapter.Merge(a.weights, a.adapter, unetPrefix)
	if err != nil {
		return err
	}
	if out, err = w.runUNet(a.unet, merged, nil, inputs); err != nil {
		return err
	}
	w.near(path, "adapter merged", out, recorded[0])
	names := map[string]bool{}
	for name := range io {
		names[name] = true
	}
	for _, name := range sorted(names) {
		layer, ok := strings.CutPrefix(name, "merged.")
		if !ok {
			continue
		}
		t := merged.Get(unetPrefix + "." + layer)
		if t == nil {
			w.fail(path, name, fmt.Errorf("the model has no tensor %q", layer))
			continue
		}
		shape, data := checkpoint.ToDiffusers(t.Kind, t.Shape, t.Data)
		w.near(path, "merged weight "+layer, fromFloat32s(shape, data), io[name])
	}
	return nil
}

// adapterFile compares a file of another format beside a PEFT folder: it must
// hold the same adapter.
func (w *walker) adapterFile(dir, name string) error {
	base, err := baseOf(dir)
	if err != nil {
		return err
	}
	peft, err := w.readAdapted(base, dir)
	if err != nil {
		return err
	}
	other, err := w.readAdapted(base, filepath.Join(dir, name))
	if err != nil {
		return err
	}
	var got, want array
	for _, layer := range adapter.Branches(peft.weights) {
		for _, part := range []string{".lora_A.weight", ".lora_B.weight"} {
			a, b := peft.weights.Get(layer+part), other.weights.Get(layer+part)
			if b == nil {
				return fmt.Errorf("layer %q has a branch in the PEFT folder and none here", layer)
			}
			want.data = append(want.data, fromFloat32s(nil, a.Data).data...)
			got.data = append(got.data, fromFloat32s(nil, b.Data).data...)
		}
	}
	if a, b := len(adapter.Branches(peft.weights)), len(adapter.Branches(other.weights)); a != b {
		return fmt.Errorf("%d layers have a branch in the PEFT folder and %d here", a, b)
	}
	got.shape, want.shape = []int{len(got.data)}, []int{len(want.data)}
	w.near(filepath.Join(dir, name), "adapter file against PEFT's", got, want)
	return nil
}
