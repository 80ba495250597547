package checkpoint

import (
	"bytes"
	_ "embed" // Python files of a folder.
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/scumble-dp/scumble/textencoder"
)

//go:embed pipeline.py
var pipelineSource []byte

//go:embed class_embedder.py
var embedderSource []byte

// Save writes a model folder, which appears whole or not at all. It refuses to
// overwrite: the error then matches fs.ErrExist.
func Save(dir string, m *Model) error { return save(dir, m, false) }

// SaveHalf is Save with the weights rounded to float16, half the size. Load
// gives them back as float32.
func SaveHalf(dir string, m *Model) error { return save(dir, m, true) }

func save(dir string, m *Model, half bool) (err error) {
	if _, err := os.Lstat(dir); err == nil {
		return fmt.Errorf("save model: %w", &fs.PathError{Op: "create", Path: dir, Err: fs.ErrExist})
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("save model: %w", err)
	}
	specs, err := m.specs()
	if err != nil {
		return fmt.Errorf("save %s: %w", dir, err)
	}
	if m.Weights == nil {
		return fmt.Errorf("save %s: model has no weights", dir)
	}
	if err := checkWeights(m.Weights, specs); err != nil {
		return fmt.Errorf("save %s: %w", dir, err)
	}
	parent, name := filepath.Split(filepath.Clean(dir))
	if parent == "" {
		parent = "."
	}
	temp, err := os.MkdirTemp(parent, "."+name+".writing-*")
	if err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	defer func() {
		if err != nil {
			os.RemoveAll(temp)
		}
	}()
	if err := m.write(temp, half); err != nil {
		return fmt.Errorf("save %s: %w", dir, err)
	}
	if err := os.Chmod(temp, 0o755); err != nil {
		return fmt.Errorf("save %s: %w", dir, err)
	}
	if err := os.Rename(temp, dir); err != nil {
		return fmt.Errorf("save model: %w", err)
	}
	return syncFolder(parent)
}

// write fills an empty folder.
func (m *Model) write(dir string, half bool) error {
	index := map[string]any{
		"_class_name":        []string{"pipeline", pipelineClass}, // Unless another is kept.
		"_diffusers_version": diffusersVersion,
		unetName:             []string{"diffusers", string(m.UNet.Class)},
		schedulerName:        []string{"diffusers", m.Scheduler.Class},
	}
	if m.keepsPipeline() {
		for key, value := range m.index.kept() {
			index[key] = value
		}
		for _, component := range passedOver {
			if _, ok := m.index[component]; ok {
				index[component] = []any{nil, nil}
			}
		}
	} else {
		for _, component := range []string{vaeName, embedderName, textName, tokenizerName} {
			index[component] = []any{nil, nil}
		}
	}
	files := map[string]any{
		filepath.Join(unetName, configFile):         m.UNet,
		filepath.Join(schedulerName, schedulerFile): m.Scheduler,
		pipelineFile: pipelineSource,
		scumbleFile: description{Format: descriptionFormat, Channels: m.Channels, Size: m.Size,
			PixelUnshuffle: m.PixelUnshuffle, Classes: m.Classes, Info: m.Info},
	}
	components := []string{unetName}
	if m.Autoencoder != nil {
		index[m.folder(vaeName)] = []string{"diffusers", m.Autoencoder.Class()}
		files[filepath.Join(m.folder(vaeName), configFile)] = m.Autoencoder
		components = append(components, vaeName)
	}
	if m.TextEncoder != nil {
		library := "transformers"
		if m.TextEncoder.Class == textencoder.LDMBert {
			library = "latent_diffusion" // The module of diffusers that has the class.
		}
		index[m.folder(textName)] = []string{library, string(m.TextEncoder.Class)}
		index[tokenizerName] = []string{"transformers", m.tokenizerClass()}
		files[filepath.Join(m.folder(textName), configFile)] = m.TextEncoder
		components = append(components, textName)
		if err := writeTokenizer(filepath.Join(dir, tokenizerName), m.Tokenizer); err != nil {
			return err
		}
	}
	if e := m.ClassEmbedder; e != nil {
		index[embedderName] = []string{embedderName, embedderClass}
		files[filepath.Join(embedderName, configFile)] = embedderConfig{embedderClass, diffusersVersion, e.Channels, e.Entries}
		files[filepath.Join(embedderName, embedderFile)] = embedderSource
		components = append(components, embedderName)
	}
	files[indexFile] = index
	if m.Card != "" {
		files[cardFile] = []byte(m.Card)
	}
	for path, content := range files {
		data, err := encode(content)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := writeFile(filepath.Join(dir, path), data); err != nil {
			return err
		}
	}
	for _, component := range components {
		folder := filepath.Join(dir, m.folder(component))
		if err := writeWeights(folder, component, m.Weights, half); err != nil {
			return err
		}
		if err := syncFolder(folder); err != nil {
			return err
		}
	}
	if m.Adapter != nil {
		if err := writeAdapter(filepath.Join(dir, adapterName), m); err != nil {
			return err
		}
	}
	return syncFolder(dir)
}

// encode returns bytes as they are and anything else as indented JSON. Configs
// are asked directly, since json.Marshal refuses the infinities that they may hold.
func encode(content any) ([]byte, error) {
	var data []byte
	var err error
	switch c := content.(type) {
	case []byte:
		return c, nil
	case json.Marshaler:
		data, err = c.MarshalJSON()
	default:
		data, err = json.Marshal(c)
	}
	if err != nil {
		return nil, err
	}
	var indented bytes.Buffer
	if json.Indent(&indented, data, "", "  ") != nil {
		return append(data, '\n'), nil
	}
	indented.WriteByte('\n')
	return indented.Bytes(), nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	if err := f.Sync(); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
