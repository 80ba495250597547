package sweep

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
)

// ErrInvalid is what errors of a sweep's file wrap.
var ErrInvalid = errors.New("sweep is not valid")

// Sweep is what a file says.
type Sweep struct {
	Config          string         `yaml:"config"`           // Path of the config of a run, from the sweep's folder.
	Public          Public         `yaml:"public"`           // What plays the private images.
	Repeats         int            `yaml:"repeats"`          // Runs of each row. Zero means 1.
	ClassifierSteps int            `yaml:"classifier_steps"` // Zero means those of the classifier.
	Metrics         bool           `yaml:"metrics"`          // FID and KID to the test images, too, by the feature network that scumble carries.
	All             map[string]any `yaml:"all"`              // Keys of the config that every row sets, such as training.steps.
	Rows            []Row          `yaml:"rows"`             // What is tried. The others are compared with the first.

	base map[string]any // The config as it was read.
}

// Public are the images of a sweep. Nothing in a sweep may be private.
type Public struct {
	Train Images `yaml:"train"` // Their number is the largest data.examples of the rows: a smaller one takes the first.
	Test  Images `yaml:"test"`
}

// Images are drawn by a renderer, or lie somewhere.
type Images struct {
	Path string `yaml:"path"` // Any of dataset.Formats, with labels.

	Renderer string `yaml:"renderer"` // "glyphs" or "shapes".
	Held     bool   `yaml:"held"`     // In the style that base models never saw.
	Count    int    `yaml:"count"`    // Of a test set. A training set has as many as the config's data.examples.
	Seed     uint64 `yaml:"seed"`
}

// Row is one setting.
type Row struct {
	Name string         `yaml:"name"`
	Set  map[string]any `yaml:"set"` // Keys of the config, such as training.multiplicity.
	// PublicModel scores samples of the base model as it is, without a run.
	PublicModel bool `yaml:"public_model"`
}

// Read reads and validates a file and the config that it names.
func Read(path string) (*Sweep, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var s Sweep
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrInvalid, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	config := s.Config
	if !filepath.IsAbs(config) {
		config = filepath.Join(filepath.Dir(path), config)
	}
	if text, err = os.ReadFile(config); err != nil {
		return nil, fmt.Errorf("%w: config: %w", ErrInvalid, err)
	}
	if err := yaml.Unmarshal(text, &s.base); err != nil {
		return nil, fmt.Errorf("%w: config %s: %s", ErrInvalid, s.Config, strings.ReplaceAll(err.Error(), "\n", " "))
	}
	if s.Repeats == 0 {
		s.Repeats = 1
	}
	if err := s.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return &s, nil
}

// Limits of a sweep.
const (
	maxRows    = 1000
	maxRepeats = 100
)

func (s *Sweep) validate() error {
	switch {
	case len(s.Rows) == 0 || len(s.Rows) > maxRows:
		return fmt.Errorf("%d rows, want 1 to %d", len(s.Rows), maxRows)
	case s.Repeats < 1 || s.Repeats > maxRepeats:
		return fmt.Errorf("repeats is %d, want 1 to %d", s.Repeats, maxRepeats)
	case s.ClassifierSteps < 0:
		return fmt.Errorf("classifier_steps is %d, want at least 1, or 0 for those of the classifier", s.ClassifierSteps)
	}
	if err := s.Public.Train.validate(); err != nil {
		return fmt.Errorf("public.train: %w", err)
	}
	if err := s.Public.Test.validate(); err != nil {
		return fmt.Errorf("public.test: %w", err)
	}
	if s.Public.Test.Renderer != "" && s.Public.Test.Count < 1 {
		return fmt.Errorf("public.test: count is %d, want the number of images to draw", s.Public.Test.Count)
	}
	if s.Public.Train.Count != 0 {
		return errors.New("public.train has a count, want none: data.examples of the config is the number")
	}
	// A path may be a folder with a part for training and one for testing: see Apart.
	if s.Public.Train.Renderer != "" && s.Public.Train.Renderer == s.Public.Test.Renderer && s.Public.Train.Seed == s.Public.Test.Seed {
		return errors.New("public.test has the images of public.train, want others: another seed")
	}
	names := map[string]bool{}
	for i, r := range s.Rows {
		if r.Name == "" || strings.ContainsAny(r.Name, "\n|") {
			return fmt.Errorf("row %d has the name %q, want one line of text without |", i+1, r.Name)
		}
		if names[r.Name] {
			return fmt.Errorf("two rows are named %q", r.Name)
		}
		names[r.Name] = true
		c, err := s.ConfigOf(r)
		if err != nil {
			return err
		}
		if c.Sampling.Count < 1 {
			return fmt.Errorf("row %q: sampling.count is 0, want images to train the classifier on", r.Name)
		}
		if len(c.Data.Classes) == 0 {
			return fmt.Errorf("row %q: data.classes is missing, want the names of the classes of the images that play the private ones", r.Name)
		}
	}
	return nil
}

func (i Images) validate() error {
	switch {
	case i.Path != "" && i.Renderer != "":
		return errors.New("path and renderer are given, want one of them")
	case i.Path != "" && i != (Images{Path: i.Path}):
		return errors.New("held, count and seed are for a renderer, want a path alone")
	case i.Path == "" && i.Renderer != "glyphs" && i.Renderer != "shapes":
		return fmt.Errorf("renderer is %q, want glyphs or shapes, or a path of public images", i.Renderer)
	case i.Count < 0 || i.Count > 10_000_000:
		return fmt.Errorf("count is %d, want at most 10000000 images", i.Count)
	}
	return nil
}

// ConfigOf returns the config of a row. Its data.path is still that of the config: whoever
// runs it puts the public images there.
func (s *Sweep) ConfigOf(r Row) (*finetune.Config, error) {
	root := clone(s.base)
	for _, keys := range []map[string]any{s.All, r.Set} {
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			if key == "data" || key == "data.path" {
				return nil, fmt.Errorf("row %q sets %s, want the config's left: it says which images are private, and a sweep does not read them", r.Name, key)
			}
			if err := set(root, strings.Split(key, "."), keys[key]); err != nil {
				return nil, fmt.Errorf("row %q: %s: %w", r.Name, key, err)
			}
		}
	}
	text, err := yaml.Marshal(root)
	if err != nil {
		return nil, err
	}
	c, err := finetune.ParseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("row %q: %w", r.Name, err)
	}
	if len(c.Privacy.PreviousRuns) > 0 {
		return nil, fmt.Errorf("row %q: privacy.previous_runs are of private images, and a sweep has none", r.Name)
	}
	return c, nil
}

// clone copies the maps of a decoded file.
func clone(m map[string]any) map[string]any {
	out := maps.Clone(m)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range out {
		if inner, ok := v.(map[string]any); ok {
			out[k] = clone(inner)
		}
	}
	return out
}

// set puts a value under a path of keys. The config's own parser knows which exist.
func set(at map[string]any, path []string, value any) error {
	for _, key := range path[:len(path)-1] {
		inner, ok := at[key].(map[string]any)
		if !ok && at[key] != nil {
			return fmt.Errorf("%s is a value, not a group of keys", key)
		}
		if !ok {
			inner = map[string]any{}
			at[key] = inner
		}
		at = inner
	}
	at[path[len(path)-1]] = value
	return nil
}

// Apart refuses test images that are the training images again, as a folder gives
// them that has no parts.
func Apart(train, test *dataset.Set) error {
	if bytes.Equal(train.Pixels, test.Pixels) {
		return fmt.Errorf("%w: public.test has the images of public.train, want others", ErrInvalid)
	}
	return nil
}

// Subset returns the first n of labelled images, which must be there.
func Subset(set *dataset.Set, n int) (*dataset.Set, error) {
	if set.Len() < n {
		return nil, fmt.Errorf("%w: %d images are there, a row has data.examples %d", ErrInvalid, set.Len(), n)
	}
	first := make([]int, n)
	for i := range first {
		first[i] = i
	}
	return set.Subset(first), nil
}
