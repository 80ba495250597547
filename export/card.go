package export

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/scumble-dp/scumble/report"
)

// cardHead is the YAML at the top of README.md, as the Hugging Face hub and
// load_dataset read it.
type cardHead struct {
	PrettyName     string       `yaml:"pretty_name"`
	License        string       `yaml:"license,omitempty"`
	TaskCategories []string     `yaml:"task_categories"`
	SizeCategories []string     `yaml:"size_categories"`
	Tags           []string     `yaml:"tags"`
	Info           *datasetInfo `yaml:"dataset_info,omitempty"`
	Configs        []cardConfig `yaml:"configs,omitempty"`
}

type datasetInfo struct {
	Features     []cardFeature `yaml:"features"`
	Splits       []cardSplit   `yaml:"splits"`
	DownloadSize int64         `yaml:"download_size"`
	DatasetSize  int64         `yaml:"dataset_size"`
}

type cardFeature struct {
	Name string `yaml:"name"`
	Type any    `yaml:"dtype"` // "image", "string", or a classLabel.
}

type classLabel struct {
	ClassLabel struct {
		Names map[string]string `yaml:"names"` // By label.
	} `yaml:"class_label"`
}

type cardSplit struct {
	Name     string `yaml:"name"`
	Bytes    int64  `yaml:"num_bytes"`
	Examples int    `yaml:"num_examples"`
}

type cardConfig struct {
	Name  string     `yaml:"config_name"`
	Files []cardFile `yaml:"data_files"`
}

type cardFile struct {
	Split string `yaml:"split"`
	Path  string `yaml:"path"`
}

func (w *writer) writeCard() error {
	head := cardHead{
		PrettyName: w.options.Name, License: strings.ToLower(w.options.License), TaskCategories: []string{"image-classification"},
		SizeCategories: []string{sizeCategory(w.Len())}, Tags: []string{"synthetic", "differential-privacy", "scumble"},
	}
	if w.told() {
		head.TaskCategories = []string{"text-to-image"}
	}
	if f, ok := w.file(parquetFile); ok {
		var label classLabel
		label.ClassLabel.Names = make(map[string]string)
		for i, name := range w.Classes {
			label.ClassLabel.Names[strconv.Itoa(i)] = name
		}
		var size int64
		for i, p := range w.pictures {
			size += int64(len(p) + len(fileName(i)) + 8)
			if w.told() {
				size += int64(len(w.Captions[i])) - 8
			}
		}
		second := cardFeature{"label", label}
		if w.told() {
			second = cardFeature{"text", "string"}
		}
		head.Info = &datasetInfo{
			Features: []cardFeature{{"image", "image"}, second},
			Splits:   []cardSplit{{"train", size, w.Len()}}, DownloadSize: f.Bytes, DatasetSize: size,
		}
		head.Configs = []cardConfig{{"default", []cardFile{{"train", "data/train-*"}}}}
	}
	top, err := yaml.Marshal(head)
	if err != nil {
		return err
	}
	return w.put("README.md", []byte("---\n"+string(top)+"---\n\n"+w.cardText()))
}

// word is what the column beside the images is called.
func (w *writer) word() string {
	if w.told() {
		return "text"
	}
	return "label"
}

// kinds says what the images are of.
func (w *writer) kinds() string {
	if texts, _ := w.prompts(); w.told() {
		return fmt.Sprintf("drawn from %d prompts", len(texts))
	}
	return fmt.Sprintf("in %d classes", len(w.Classes))
}

// contents lists the classes or the prompts.
func (w *writer) contents(line func(format string, args ...any)) {
	if w.told() {
		texts, counts := w.prompts()
		line("| prompt (text) | images |\n| --- | ---: |")
		for i, text := range texts {
			line("| %s | %d |", report.EscapeMarkdown(text), counts[i])
		}
		line("\nThe publisher wrote the prompts and chose the number of images of each. Neither says anything about the private images or their captions.\n")
		return
	}
	line("| label | class | images |\n| ---: | --- | ---: |")
	counts := make([]int, len(w.Classes))
	for _, l := range w.Labels {
		counts[l]++
	}
	for i, name := range w.Classes {
		line("| %d | %s | %d |", i, report.EscapeMarkdown(name), counts[i])
	}
	line("\nThe number of images of each class was chosen by the publisher. It says nothing about the private images.\n")
}

// sizeCategory is one of the hub's.
func sizeCategory(n int) string {
	limits := []int{1000, 10_000, 100_000, 1_000_000}
	names := []string{"n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M"}
	i, _ := slices.BinarySearch(limits, n+1)
	return names[i]
}

func (w *writer) cardText() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	esc := report.EscapeMarkdown
	s := w.statement
	line("# %s\n", esc(w.options.Name))
	line("%d synthetic images of %d×%d pixels, %s, %s. Every one was drawn from a diffusion model that was fine-tuned on "+
		"private images with differential privacy. None of the private files is in it.\n",
		w.Len(), w.Width, w.Height, map[int]string{1: "grey", 3: "colour"}[w.Channels], w.kinds())
	line("## The guarantee\n\n%s\n", esc(s.Guarantee))
	line("It is stated in full in [statement.md](statement.md), and anyone can recompute it from the files here: `scumble verify DIR`.\n")
	line("## What is in it\n")
	w.contents(line)
	line("```python\nfrom datasets import load_dataset")
	if slices.Contains(w.options.Layouts, Parquet) {
		line(`load_dataset("DIR")["train"]  # image and %s`, w.word())
	}
	if slices.Contains(w.options.Layouts, ImageFolder) {
		line(`load_dataset("imagefolder", data_dir="DIR/imagefolder")["train"]`)
	}
	if slices.Contains(w.options.Layouts, WebDataset) {
		ending, _ := w.side(0)
		line(`load_dataset("webdataset", data_dir="DIR/webdataset")["train"]  # png and %s`, ending[1:])
	}
	line("```\n")
	line("## How it was made\n")
	line("By %s: %s, from the public base model %s. %s\n", esc(s.Software), esc(s.Mechanism.Method), esc(s.Base.Name), esc(s.Base.Value))
	line("## What it is not\n")
	for _, item := range s.Outside {
		line("- %s", esc(item))
	}
	line("- A substitute for the private images where a wrong picture could harm: the model makes mistakes, and rare cases come out worst.")
	if w.options.License == "" {
		line("\n## Licence\n\nNone is stated. Ask the publisher.")
	} else {
		line("\n## Licence\n\n%s", esc(w.options.License))
	}
	return b.String()
}
