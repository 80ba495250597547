package checkpoint

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

// AdapterFormat is a way to store an adapter without its base model.
type AdapterFormat string

const (
	PEFT          AdapterFormat = "peft"           // Folder with adapter_config.json and adapter_model.safetensors.
	DiffusersLoRA AdapterFormat = "diffusers-lora" // Folder with pytorch_lora_weights.safetensors.
	Kohya         AdapterFormat = "kohya"          // Folder with a file under the names of kohya's scripts and LyCORIS.
)

// KohyaFile is the name of the file that WriteAdapter makes for Kohya.
const KohyaFile = "lycoris.safetensors"

// WriteAdapter writes the adapter of a model to the folder dir, which must be
// there, without the model. Its branches must be linear. The metadata are those
// of the caller and what the format wants. [ReadAdapter] reads the result.
func WriteAdapter(dir string, m *Model, format AdapterFormat, metadata map[string]string) error {
	if m.Adapter == nil {
		return fmt.Errorf("model has no adapter to write; export the model itself")
	}
	if !m.Adapter.IsLinear() {
		return fmt.Errorf("adapter core is %q, want %q: no other program has its format; export the model itself", m.Adapter.Core, adapter.LinearCore)
	}
	var layers []string
	for _, layer := range adapter.Branches(m.Weights) {
		name, ok := strings.CutPrefix(layer, unetName+".")
		if !ok {
			return fmt.Errorf("layer %q has a branch but is not the UNet's", layer)
		}
		layers = append(layers, name)
	}
	if len(layers) == 0 {
		return fmt.Errorf("model has an adapter but no branches")
	}
	config, err := m.Adapter.PEFT(layers)
	if err != nil {
		return err
	}
	all := map[string]string{}
	for k, v := range metadata {
		all[k] = v
	}
	switch format {
	case PEFT:
		list, err := fileTensors(m.Weights, unetName+".", peftPrefix, true)
		if err != nil {
			return err
		}
		if err := wholefile.Write(filepath.Join(dir, adapterConfigFile), 0o644, config); err != nil {
			return err
		}
		return safetensors.Write(filepath.Join(dir, adapterWeightsFile), list, all)
	case DiffusersLoRA:
		// Only lora_A and lora_B are read whole: diffusers' own mixture with
		// lora.down and lora.up loses layers.
		list, err := fileTensors(m.Weights, unetName+".", unetName+".", true)
		if err != nil {
			return err
		}
		if all["lora_adapter_metadata"], err = diffusersMetadata(config); err != nil {
			return err
		}
		return safetensors.Write(filepath.Join(dir, DiffusersAdapterFile), list, all)
	case Kohya:
		list, err := kohyaTensors(m, layers)
		if err != nil {
			return err
		}
		all["ss_network_module"], all["ss_network_dim"] = "lycoris.kohya", strconv.Itoa(m.Adapter.Rank)
		scale, rank, err := m.Adapter.Scale(layers[0])
		if err != nil {
			return err
		}
		all["ss_network_alpha"] = strconv.FormatFloat(scale*float64(rank), 'g', -1, 64)
		args, _ := json.Marshal(map[string]string{"algo": "locon", "conv_dim": all["ss_network_dim"], "conv_alpha": all["ss_network_alpha"]})
		all["ss_network_args"] = string(args)
		return safetensors.Write(filepath.Join(dir, KohyaFile), list, all)
	}
	return fmt.Errorf("adapter format is %q, want %s, %s or %s", format, PEFT, DiffusersLoRA, Kohya)
}

// diffusersMetadata returns PEFT's config as diffusers keeps it in a file.
func diffusersMetadata(config []byte) (string, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(config, &keys); err != nil {
		return "", err
	}
	out := map[string]json.RawMessage{}
	for _, key := range []string{"r", "lora_alpha", "target_modules", "lora_dropout", "bias", "rank_pattern", "alpha_pattern", "exclude_modules", "use_rslora"} {
		if v, ok := keys[key]; ok {
			out[unetName+"."+key] = v
		}
	}
	data, err := json.Marshal(out)
	return string(data), err
}

// kohyaTensors returns the branches under kohya's names, each with its alpha.
func kohyaTensors(m *Model, layers []string) ([]safetensors.Tensor, error) {
	var list []safetensors.Tensor
	flat := map[string]bool{}
	for _, layer := range layers {
		name := "lora_unet_" + strings.ReplaceAll(layer, ".", "_")
		if flat[name] {
			return nil, fmt.Errorf("two layers have the name %q in kohya's format", name)
		}
		flat[name] = true
		scale, rank, err := m.Adapter.Scale(layer)
		if err != nil {
			return nil, err
		}
		for part, end := range map[string]string{"lora_A": ".lora_down.weight", "lora_B": ".lora_up.weight"} {
			one := nn.NewWeights()
			t := m.Weights.Get(unetName + "." + layer + "." + part + ".weight")
			if t == nil {
				return nil, fmt.Errorf("layer %q lacks %s", layer, part)
			}
			one.Add(t)
			tensors, err := fileTensors(one, unetName+".", "", true)
			if err != nil {
				return nil, err
			}
			tensors[0].Name = name + end
			list = append(list, tensors[0])
		}
		list = append(list, safetensors.FromFloat32s(name+".alpha", nil, []float32{float32(scale * float64(rank))}))
	}
	return list, nil
}

// Merged returns the model with its branches merged into the UNet's weights and
// no adapter. Tensors are shared.
func Merged(m *Model) (*Model, error) {
	if m.Adapter == nil {
		return m, nil
	}
	weights, err := adapter.Merge(m.Weights, m.Adapter, unetName)
	if err != nil {
		return nil, err
	}
	out := *m
	out.Adapter, out.Weights = nil, weights
	return &out, nil
}

// AdapterPath returns where WriteAdapter puts what ReadAdapter reads.
func AdapterPath(dir string, format AdapterFormat) string {
	if format == Kohya {
		return filepath.Join(dir, KohyaFile)
	}
	return filepath.Clean(dir) + string(os.PathSeparator)
}
