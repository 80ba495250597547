package main

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
)

func newData() *cobra.Command {
	c := &cobra.Command{
		Use:   "data",
		Short: "Make, check, convert and look at data sets",
		Long: `data handles sets of labelled square images, in one of two forms, or with captions
(metadata.jsonl beside the images, or Parquet):

  folder   one folder for each class: CLASS/NAME.png (or jpg, gif, bmp, webp)
  idx      the files of MNIST: train-images-idx3-ubyte[.gz] and its labels

and reads published sets as they are distributed: mnist, fashion-mnist, emnist,
cifar10, cifar100, svhn, celeba, celeba-hq, camelyon17, medmnist (docs/data.md).
fashion-mnist as a path is Debian's package dataset-fashion-mnist.

Sizes are 28 to 256 pixels, channels 1 (grey) or 3 (colour), classes 2 to 100.`,
		Example: "  scumble data check photos --size 28 --channels 1",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newDataGlyphs(), newDataShapes(), newDataCheck(), newDataConvert(), newDataSheet())
	return c
}

// reading holds the flags of commands that open a data set.
type reading struct {
	size, channels int
	split, labels  string
	classes        []string
	format         string
	attribute      string
	anyChecksum    bool
}

func (r *reading) addSplit(c *cobra.Command) {
	c.Flags().StringVar(&r.split, "split", string(dataset.Train), "which `PART` of files that tell one: train or test")
	c.Flags().StringVar(&r.labels, "labels", "", "IDX `FILE` of the labels, if not beside the images")
	c.Flags().StringVar(&r.format, "format", "", "`NAME` of the format that the files must have (default: what is there)")
	c.Flags().StringVar(&r.attribute, "attribute", "", "`NAME` that the format leaves open, such as CelebA's Smiling or EMNIST's balanced")
	c.Flags().BoolVar(&r.anyChecksum, "any-checksum", false, "take files that differ from those published under their names")
}

// options checks the flags, so that what the reader refuses is the data.
func (r *reading) options() (dataset.Options, error) {
	o := dataset.Options{
		Size: r.size, Channels: r.channels, Split: dataset.Split(r.split), Labels: r.labels, Classes: r.classes,
		Format: dataset.Format(r.format), Attribute: r.attribute, AnyChecksum: r.anyChecksum,
	}
	if o.Size != 0 && (o.Size < dataset.MinSize || o.Size > dataset.MaxSize) {
		return o, misuse(fmt.Errorf("--size is %d, want %d to %d pixels", o.Size, dataset.MinSize, dataset.MaxSize))
	}
	if o.Channels != 0 && o.Channels != 1 && o.Channels != 3 {
		return o, misuse(fmt.Errorf("--channels is %d, want 1 (grey) or 3 (colour)", o.Channels))
	}
	if o.Split != dataset.Train && o.Split != dataset.Test {
		return o, misuse(fmt.Errorf("--split is %q, want train or test", r.split))
	}
	if o.Format != "" && !slices.Contains(dataset.Formats(), o.Format) {
		return o, misuse(fmt.Errorf("--format is %q, want one of %v", r.format, dataset.Formats()))
	}
	if n := len(o.Classes); n != 0 && (n < dataset.MinClasses || n > dataset.MaxClasses) {
		return o, misuse(fmt.Errorf("--classes has %d names, want %d to %d", n, dataset.MinClasses, dataset.MaxClasses))
	}
	return o, nil
}

// formOf returns the name of the format, going by the names of files alone.
func formOf(path string, asked string) string {
	if asked != "" {
		return asked
	}
	format, _, err := dataset.Detect(path)
	if err != nil {
		return string(dataset.IDXFormat) // Open gives the error.
	}
	return string(format)
}

// setFacts describes a data set on standard output.
type setFacts struct {
	Path     string   `json:"path"`
	Form     string   `json:"form"` // One of dataset.Formats.
	Images   int      `json:"images"`
	Size     int      `json:"size"` // Pixels.
	Channels int      `json:"channels"`
	Classes  []string `json:"classes"`
	Counts   []int    `json:"counts,omitempty"`   // Images of each class.
	Captions bool     `json:"captions,omitempty"` // Each image has a text, and no class.
}

func factsOf(path, form string, s *dataset.Set) setFacts {
	f := setFacts{
		Path: path, Form: form, Images: s.Len(), Size: s.Width, Channels: s.Channels,
		Classes: s.Classes, Counts: make([]int, len(s.Classes)), Captions: s.Captions != nil,
	}
	for _, l := range s.Labels {
		f.Counts[l]++
	}
	return f
}

func (f setFacts) print(c *cobra.Command) {
	out := c.OutOrStdout()
	colour := "grey"
	if f.Channels == 3 {
		colour = "colour"
	}
	fmt.Fprintf(out, "path      %s (%s)\n", f.Path, f.Form)
	fmt.Fprintf(out, "images    %d, %dx%d pixels, %s\n", f.Images, f.Size, f.Size, colour)
	if f.Captions {
		fmt.Fprintf(out, "captions  one for each image\n")
		return
	}
	fmt.Fprintf(out, "classes   %d: %s\n", len(f.Classes), strings.Join(f.Classes, " "))
	if f.Counts == nil {
		return
	}
	width := len("class")
	for _, name := range f.Classes {
		width = max(width, len([]rune(name)))
	}
	fmt.Fprintf(out, "\n%-*s  images\n", width, "class")
	for i, name := range f.Classes {
		fmt.Fprintf(out, "%-*s  %6d\n", width, name, f.Counts[i])
	}
}

func newDataCheck() *cobra.Command {
	var r reading
	var asJSON bool
	var config string
	c := &cobra.Command{
		Use:   "check PATH",
		Short: "Say whether a data set can be used, and what it holds",
		Long: `check reads all of a data set, as finetune would, and says what it holds. What
cannot be used is named, with what to do about it, and the exit code is 3.
--config takes size, channels, classes and labels from the config of a run.

The counts it prints are private if the images are: they are for your own
terminal. A config may hold only what you decide to make public.`,
		Example: "  scumble data check photos --size 28 --channels 1",
		Args:    exactly("PATH"),
		RunE: func(c *cobra.Command, args []string) error {
			o, err := r.options()
			if err != nil {
				return err
			}
			if config != "" {
				if o, err = optionsOf(config); err != nil {
					return err
				}
			}
			set, err := dataset.Open(args[0], o)
			if err != nil {
				return err
			}
			facts := factsOf(args[0], formOf(args[0], string(o.Format)), set)
			if asJSON {
				err = printJSON(c, facts)
			} else {
				facts.print(c)
			}
			fmt.Fprintln(c.ErrOrStderr(), "scumble: these counts are as private as the images; no other command prints them")
			return err
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.IntVar(&r.size, "size", 0, "height and width that images must have, in `PIXELS`, 28 to 256 (default that of the first image)")
	f.IntVar(&r.channels, "channels", 0, "`COUNT` of channels, 1 (grey) or 3 (colour); others are converted (default that of the first image)")
	r.addSplit(c)
	f.StringVar(&config, "config", "", "check as scumble finetune `CONFIG` would")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// optionsOf returns how a fine-tuning run with that config reads its images.
func optionsOf(path string) (dataset.Options, error) {
	c, err := finetune.ReadConfig(path)
	if err != nil {
		return dataset.Options{}, err
	}
	base, err := loadBase(c.Base)
	if err != nil {
		return dataset.Options{}, err
	}
	return c.Data.Options(cmp.Or(c.Data.Size, base.Size), cmp.Or(c.Data.Channels, base.Channels), c.Data.Classes), nil
}

func newDataConvert() *cobra.Command {
	var r reading
	var to string
	var force, asJSON bool
	c := &cobra.Command{
		Use:   "convert IN OUT",
		Short: "Convert IDX files to a folder of images, or back",
		Long: `convert reads the data set IN and writes OUT in the other form: class folders of
PNG images from IDX files and all other formats, IDX files from class folders. IDX knows classes by
number only; the names are printed in the order of the numbers, and --classes
gives them back. --to captions writes white characters on black as a folder with
metadata.jsonl, in which each has a caption that says what is seen, such as "a
bold seven, tilted left", to try out models that take text.

OUT is not more open to other users of the machine than IN.`,
		Example: "  scumble data convert photos photos-idx",
		Args:    exactly("IN", "OUT"),
		RunE: func(c *cobra.Command, args []string) error {
			in, out := args[0], args[1]
			o, err := r.options()
			if err != nil {
				return err
			}
			o.AllowEmpty = true
			if to == "" {
				to = "folder"
				if formOf(in, r.format) == "folder" {
					to = "idx"
				}
			}
			if to != "folder" && to != "idx" && to != "captions" {
				return misuse(fmt.Errorf("--to is %q, want folder, idx or captions", to))
			}
			if inside, err := within(out, in); err != nil || inside {
				return misuse(errors.Join(err, fmt.Errorf("%s lies in %s, want a place outside the data set", out, in)))
			}
			if err := checkFree(filepath.Clean(out), force); err != nil {
				return err
			}
			set, err := dataset.Open(in, o)
			if err != nil {
				return err
			}
			if set.Captions != nil {
				return invalid(fmt.Errorf("%s has captions, which no form of convert keeps: want class folders or IDX files", in))
			}
			if to == "captions" {
				if err := describe(set); err != nil {
					return err
				}
			}
			err = place(c.Context(), out, force, func(path string) error {
				if err := writeSet(path, to, o.Split, set); err != nil {
					return err
				}
				return keepClosed(path, in)
			})
			if err != nil {
				return err
			}
			facts := factsOf(out, to, set)
			facts.Counts = nil
			if asJSON {
				return printJSON(c, facts)
			}
			facts.print(c)
			return nil
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&to, "to", "", "`FORM` of OUT: folder or idx (default folder, of a folder idx), or captions")
	f.StringSliceVar(&r.classes, "classes", nil, "`NAMES` of the classes of IDX files, in the order of the numbers: cat,dog,owl")
	f.IntVar(&r.channels, "channels", 0, "`COUNT` of channels, 1 (grey) or 3 (colour); others are converted (default that of the first image)")
	f.IntVar(&r.size, "size", 0, "height and width in `PIXELS` of images that the format has resized (default that of the format)")
	r.addSplit(c)
	f.BoolVar(&force, "force", false, "replace OUT if it is a data set")
	f.BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// within says whether path is dir or in it.
func within(path, dir string) (bool, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return false, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return false, err
	}
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)), nil
}

func newDataSheet() *cobra.Command {
	var r reading
	var columns int
	var force bool
	c := &cobra.Command{
		Use:   "sheet PATH OUT.png",
		Short: "Draw a contact sheet: one row of images for each class",
		Long: `sheet writes a picture with the first images of each class, a row each. A sheet
of private images is private, and no more open to other users than they are.`,
		Example: "  scumble data sheet photos sheet.png --columns 20",
		Args:    exactly("PATH", "OUT.png"),
		RunE: func(c *cobra.Command, args []string) error {
			in, out := args[0], args[1]
			o, err := r.options()
			if err != nil {
				return err
			}
			o.AllowEmpty = true
			if columns < 1 || columns > 100 {
				return misuse(fmt.Errorf("--columns is %d, want 1 to 100 images", columns))
			}
			if strings.ToLower(filepath.Ext(out)) != ".png" {
				return misuse(fmt.Errorf("%s does not end in .png, which is what sheet writes", out))
			}
			if inside, err := within(out, in); err != nil || inside {
				return misuse(errors.Join(err, fmt.Errorf("%s lies in %s, want a place outside the data set", out, in)))
			}
			if err := checkFree(filepath.Clean(out), force); err != nil {
				return err
			}
			set, err := dataset.Open(in, o)
			if err != nil {
				return err
			}
			return place(c.Context(), out, force, func(path string) error {
				if err := dataset.WritePNG(path, dataset.Grid(set, columns)); err != nil {
					return err
				}
				return keepClosed(path, in)
			})
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.IntVar(&columns, "columns", 10, "`IMAGES` in a row")
	r.addSplit(c)
	f.BoolVar(&force, "force", false, "replace OUT.png")
	return c
}
