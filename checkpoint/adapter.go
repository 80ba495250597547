package checkpoint

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

const (
	adapterName        = "adapter"
	adapterConfigFile  = "adapter_config.json"
	adapterWeightsFile = "adapter_model.safetensors"
	peftPrefix         = "base_model.model." // PEFT's, before the layer's name.
)

// readAdapterConfig returns nil where a model folder has no adapter.
func readAdapterConfig(folder string) (*adapter.Config, error) {
	path := filepath.Join(folder, adapterConfigFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read adapter: %w", err)
	}
	var kind struct {
		PEFT json.RawMessage `json:"peft_type"`
	}
	if err := json.Unmarshal(data, &kind); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if kind.PEFT != nil {
		c, err := adapter.ParsePEFT(data)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		return c, nil
	}
	var c adapter.Config
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if _, err := c.Adapter(""); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return &c, nil
}

// readAdapter adds the branches' tensors to w.
func readAdapter(w *nn.Weights, folder string, specs []nn.Spec) error {
	path := filepath.Join(folder, adapterWeightsFile)
	own := map[string]nn.Spec{}
	for _, spec := range specs {
		if adapter.IsAdapter(spec.Name) {
			own[spec.Name] = spec
		}
	}
	read := map[string]*nn.Tensor{}
	if err := readFile(read, path, peftPrefix, unetName, own); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	for _, spec := range specs {
		if !adapter.IsAdapter(spec.Name) {
			continue
		}
		t := read[spec.Name]
		if t == nil {
			return fmt.Errorf("read %s: tensor of %q is missing, want shape %v", path, spec.Name, fileShape(spec))
		}
		w.Add(t)
	}
	return nil
}

// writeAdapter writes the branches beside the UNet: names as PEFT writes them.
func writeAdapter(folder string, m *Model) error {
	var data []byte
	var err error
	if m.Adapter.IsLoRA() {
		data, err = m.Adapter.PEFT(nil)
	} else {
		data, err = encode(m.Adapter)
	}
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(folder, adapterConfigFile), data); err != nil {
		return err
	}
	list, err := fileTensors(m.Weights, unetName+".", peftPrefix, true)
	if err != nil {
		return err
	}
	if err := safetensors.Write(filepath.Join(folder, adapterWeightsFile), list, nil); err != nil {
		return err
	}
	return syncFolder(folder)
}
