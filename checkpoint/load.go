package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gomlx/compute/gobackend"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/textencoder"
	"github.com/scumble-dp/scumble/unet"
)

// Load reads a model folder, ours or one of diffusers. Weights may be float32,
// float16 or bfloat16, in one file or in shards. Components that we lack, and
// missing, extra or misshapen tensors are errors; each names its file.
//
// Without scumble.json the image size comes from the UNet's sample_size, the
// last entry of the class table is taken to be the null class, and classes are
// named by their numbers.
func Load(dir string) (*Model, error) {
	read, names, err := readIndex(filepath.Join(dir, indexFile))
	if err != nil {
		return nil, err
	}
	m := &Model{folders: map[string]string{}}
	if !read.ours() {
		m.index = read
	}
	parsers := map[string]func([]byte) error{
		unetName:      func(data []byte) (err error) { m.UNet, err = unet.ParseConfig(data); return },
		vaeName:       func(data []byte) (err error) { m.Autoencoder, err = autoencoder.ParseConfig(data); return },
		textName:      func(data []byte) (err error) { m.TextEncoder, err = textencoder.ParseConfig(data); return },
		embedderName:  func(data []byte) (err error) { m.ClassEmbedder, err = parseEmbedder(data); return },
		schedulerName: func(data []byte) (err error) { m.Scheduler, err = diffusion.ParseConfig(data); return },
	}
	for _, folder := range names {
		name := folder
		if other, ok := folderNames[folder]; ok {
			name = other
			m.folders[name] = folder
		}
		if name == tokenizerName {
			if m.Tokenizer, err = openTokenizer(filepath.Join(dir, folder)); err != nil {
				return nil, err
			}
			continue
		}
		parse, file := parsers[name], configFile
		if parse == nil {
			return nil, fmt.Errorf("read %s: component %q is not implemented, want only unet, scheduler, vae, text_encoder, tokenizer and class_embedder",
				filepath.Join(dir, indexFile), name)
		}
		if name == schedulerName {
			file = schedulerFile
		}
		path := filepath.Join(dir, folder, file)
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read model: %w", err)
		}
		if err := parse(data); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
	}
	if m.UNet == nil || m.Scheduler == nil {
		return nil, fmt.Errorf("read %s: components are %q, want unet and scheduler among them", filepath.Join(dir, indexFile), names)
	}
	if err := m.describe(filepath.Join(dir, scumbleFile)); err != nil {
		return nil, err
	}
	card, err := os.ReadFile(filepath.Join(dir, cardFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read model card: %w", err)
	}
	m.Card = string(card)

	if m.Adapter, err = readAdapterConfig(filepath.Join(dir, adapterName)); err != nil {
		return nil, err
	}
	specs, err := m.specs()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", dir, err)
	}
	m.Weights = nn.NewWeights()
	for _, component := range []string{unetName, vaeName, textName, embedderName} {
		folder := m.readFrom(component)
		if !slices.Contains(names, folder) {
			continue
		}
		var own []nn.Spec
		for _, spec := range specs {
			if strings.HasPrefix(spec.Name, component+".") && !adapter.IsAdapter(spec.Name) {
				own = append(own, spec)
			}
		}
		if err := readWeights(m.Weights, filepath.Join(dir, folder), component, own); err != nil {
			return nil, err
		}
	}
	if m.Adapter != nil {
		if err := readAdapter(m.Weights, filepath.Join(dir, adapterName), specs); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// readFrom returns the name of the folder that a component was read from.
func (m *Model) readFrom(component string) string {
	if name, ok := m.folders[component]; ok {
		return name
	}
	return component
}

// readIndex returns model_index.json and the components that it lists, less those
// that are passed over.
func readIndex(path string) (index, []string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read model: %w", err)
	}
	var x index
	if err := json.Unmarshal(data, &x); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	names, err := x.components()
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", path, err)
	}
	return x, slices.DeleteFunc(names, func(name string) bool { return slices.Contains(passedOver, name) }), nil
}

// describe fills in what diffusers' files do not say.
func (m *Model) describe(path string) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m.guess(path)
	}
	if err != nil {
		return fmt.Errorf("read model: %w", err)
	}
	d, err := parseDescription(data)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	m.Channels, m.Size, m.PixelUnshuffle, m.Classes, m.Info = d.Channels, d.Size, d.PixelUnshuffle, d.Classes, d.Info
	return nil
}

// guess describes a folder that another program wrote.
func (m *Model) guess(path string) error {
	m.Channels, m.PixelUnshuffle = m.UNet.InChannels, 1
	factor := 1
	if m.Autoencoder != nil {
		m.Channels, factor = m.Autoencoder.InChannels, m.Autoencoder.Factor()
	}
	if len(m.UNet.SampleSize) == 0 {
		return fmt.Errorf("%s is not there and the unet has no sample_size: the image size is not known; set sample_size in unet/config.json", path)
	}
	m.Size = m.UNet.SampleSize.At(0) * factor
	entries := m.UNet.NumClassEmbeds
	if m.ClassEmbedder != nil {
		entries = m.ClassEmbedder.Entries
	}
	for i := range entries - 1 {
		m.Classes = append(m.Classes, strconv.Itoa(i))
	}
	return nil
}

// specs returns m.Specs, which needs a backend but runs nothing on it.
func (m *Model) specs() ([]nn.Spec, error) {
	backend, err := gobackend.New("")
	if err != nil {
		return nil, err
	}
	defer backend.Finalize()
	return m.Specs(backend)
}
