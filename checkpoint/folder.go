package checkpoint

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	indexFile     = "model_index.json"
	configFile    = "config.json"
	schedulerFile = "scheduler_config.json"
	schedulerName = "scheduler"
	scumbleFile   = "scumble.json"
	cardFile      = "README.md"
	pipelineFile  = "pipeline.py"
	embedderFile  = "class_embedder.py"

	// diffusersVersion is the version of diffusers whose layout we write.
	diffusersVersion = "0.42.1"
	embedderClass    = "ClassEmbedder"
	pipelineClass    = "ScumblePipeline"
)

// index is model_index.json: component → [library, class].
type index map[string]json.RawMessage

// ours reports whether scumble wrote the folder.
func (x index) ours() bool { return strings.Contains(string(x["_class_name"]), pipelineClass) }

// components returns the names of the components that are really there.
func (x index) components() ([]string, error) {
	var names []string
	for key, value := range x {
		if len(key) > 0 && key[0] == '_' {
			continue
		}
		var pair []*string
		if err := json.Unmarshal(value, &pair); err != nil {
			continue // A setting of the pipeline, such as requires_safety_checker.
		}
		if len(pair) != 2 {
			return nil, fmt.Errorf("component %q has %d entries, want [library, class]", key, len(pair))
		}
		if pair[0] != nil && pair[1] != nil {
			names = append(names, key)
		}
	}
	slices.Sort(names)
	return names, nil
}

// description is scumble.json: what diffusers' files have no place for.
type description struct {
	Format         int               `json:"format"`
	Channels       int               `json:"channels"`
	Size           int               `json:"size"`
	PixelUnshuffle int               `json:"pixel_unshuffle"`
	Classes        []string          `json:"classes"`
	Info           map[string]string `json:"info"`
}

const descriptionFormat = 1

func parseDescription(data []byte) (*description, error) {
	var d description
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("text after the object, want none")
	}
	if d.Format != descriptionFormat {
		return nil, fmt.Errorf("format is %d, want %d; a newer scumble may read it", d.Format, descriptionFormat)
	}
	return &d, nil
}

// embedderConfig is class_embedder/config.json.
type embedderConfig struct {
	Class    string `json:"_class_name"`
	Version  string `json:"_diffusers_version"`
	Channels int    `json:"channels"`
	Entries  int    `json:"entries"`
}

func parseEmbedder(data []byte) (*ClassEmbedder, error) {
	var c embedderConfig
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	if c.Class != embedderClass {
		return nil, fmt.Errorf("_class_name is %q, want %q", c.Class, embedderClass)
	}
	if c.Entries < 1 || c.Channels < 1 {
		return nil, fmt.Errorf("class embedder has %d entries of %d channels, want at least 1 of each", c.Entries, c.Channels)
	}
	return &ClassEmbedder{Entries: c.Entries, Channels: c.Channels}, nil
}
