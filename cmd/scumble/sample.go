package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/generate"
)

func newSample() *cobra.Command {
	var flags sessionFlags
	var o finetune.Sampling
	var out, classes, sheet, sampler, taughtBy string
	var seed uint64
	var disputed bool
	c := &cobra.Command{
		Use:   "sample MODEL|RUN --count N --out DIR",
		Short: "Draw images from a model",
		Long: `sample draws images from a model folder, a run directory (its released model) or
a bundled model (latent, pixel, colour, text, shapes, shapes-pixel), with guidance. A model of
classes gives DIR/CLASS/NUMBER.png; one that takes text gives DIR/NUMBER.png and
metadata.jsonl for the prompts, which are public. Sampling from a released model
costs no privacy. An image depends on the seed and its number alone. The teacher of a
run, if it has one, chooses among them or labels them: see --disputed; with
--teacher it does so with images of another model, such as the base as it was.`,
		Example: "  scumble sample runs/demo --count 100 --out digits --guidance 1.5",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case out == "":
				return misuse(fmt.Errorf("--out is missing, want the folder to write the images to"))
			case o.Count < 1:
				return misuse(fmt.Errorf("--count is %d, want at least 1", o.Count))
			case o.Steps < 1:
				return misuse(fmt.Errorf("--steps is %d, want at least 1", o.Steps))
			case !(o.Eta >= 0 && o.Eta <= 1):
				return misuse(fmt.Errorf("--eta is %g, want in [0, 1]", o.Eta))
			case !(o.GuidanceScale > 0):
				return misuse(fmt.Errorf("--guidance is %g, want positive; 1 is off", o.GuidanceScale))
			}
			if disputed && taughtBy != "" {
				return misuse(errors.New("--disputed keeps what --teacher would judge, want one of them"))
			}
			if taughtBy != "" && !fileExists(teacherPath(taughtBy)) {
				return invalid(fmt.Errorf("--teacher %s is no run with a teacher", taughtBy))
			}
			if !slices.Contains(diffusion.SamplerNames(), sampler) {
				return misuse(fmt.Errorf("--sampler is %q, want one of %s", sampler, strings.Join(diffusion.SamplerNames(), ", ")))
			}
			o.Sampler = diffusion.SamplerName(sampler)
			if err := (diffusion.Stochastic{Eta: o.Eta, Churn: o.Churn}).Check(o.Sampler); err != nil {
				return misuse(err)
			}
			if _, err := os.Lstat(out); err == nil {
				return invalid(fmt.Errorf("output %s exists; choose another", out))
			}
			name, judge := args[0], ""
			if taughtBy == "" {
				taughtBy = name
			}
			if path := teacherPath(taughtBy); !disputed && fileExists(path) {
				judge = path
			}
			if released := filepath.Join(name, finetune.ReleaseDir, "model"); dirExists(released) {
				name = released
			}
			m, err := loadBase(name)
			if err != nil {
				return err
			}
			if err := checkPrompts(m, o, classes); err != nil {
				return err
			}
			labels, err := chooseLabels(m.Classes, classes, o.Count)
			if err != nil {
				return err
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			var set *dataset.Set
			var agreement *generate.Agreement
			if judge != "" {
				set, agreement, err = s.taught(c.Context(), "images", judge, m, labels, seed, o)
			} else {
				set, err = s.draw(c.Context(), "images", m, labels, seed, o)
			}
			if err != nil {
				return err
			}
			if classes != "" {
				set = onlyNamed(set, strings.Split(classes, ","))
			}
			if err := writeSamples(out, set); err != nil {
				return err
			}
			if sheet != "" {
				if err := dataset.WritePNG(sheet, sheetOf(set, len(o.Prompts))); err != nil {
					return err
				}
			}
			s.talk.say("wrote %d images to %s", set.Len(), out)
			if flags.json {
				result := map[string]any{"images": set.Len(), "out": out, "classes": set.Classes, "prompts": o.Prompts, "backend": s.info.String()}
				if agreement != nil {
					result["agreement"] = agreement
				}
				return printJSON(c, result)
			}
			return nil
		},
	}
	c.Flags().IntVar(&o.Count, "count", 100, "`IMAGES` to draw, spread evenly over the classes")
	c.Flags().StringVar(&out, "out", "", "`DIR` to write to; must not exist")
	c.Flags().StringVar(&classes, "classes", "", "`NAMES` of the classes to draw, separated by commas; default all")
	c.Flags().StringArrayVar(&o.Prompts, "prompt", nil, "public `TEXT` that images should show; may be repeated, images are spread evenly")
	c.Flags().StringVar(&o.NegativePrompt, "negative-prompt", "", "public `TEXT` that guidance leads away from; default no text")
	c.Flags().StringVar(&sampler, "sampler", string(diffusion.UseDDIM), "`NAME`: ddim, ddpm, dpm++, euler, heun, the last three also with -karras, dpm++-3m, dpm++-sde, edm, or auto, the model's own")
	c.Flags().IntVar(&o.Steps, "steps", 50, "network `CALLS` per image; noise levels for heun and edm, which make nearly two at each")
	c.Flags().Float64Var(&o.Eta, "eta", 0, "`SHARE` of fresh noise per step, 0 (DDIM) to 1 (DDPM)")
	c.Flags().Float64Var(&o.Churn.Amount, "churn", 0, "`AMOUNT` of fresh noise of sampler edm (S_churn), spread over the steps")
	c.Flags().Float64Var(&o.Churn.Min, "churn-min", 0, "noise `LEVEL` below which there is no churn (S_tmin)")
	c.Flags().Float64Var(&o.Churn.Max, "churn-max", 0, "noise `LEVEL` above which there is no churn (S_tmax); 0 is no bound")
	c.Flags().Float64Var(&o.Churn.Noise, "churn-noise", 0, "`DEVIATION` of churn's noise (S_noise); 0 is 1")
	c.Flags().Float64Var(&o.GuidanceScale, "guidance", 1, "`SCALE` of classifier-free guidance; 1 is off")
	c.Flags().Uint64Var(&seed, "seed", sampleSeed, "`NUMBER` that decides the images")
	c.Flags().BoolVar(&disputed, "disputed", false, "keep all images as they were drawn, whatever a run's teacher takes them for")
	c.Flags().StringVar(&taughtBy, "teacher", "", "`RUN` whose teacher judges the images, where MODEL is another")
	c.Flags().StringVar(&sheet, "sheet", "", "also write a contact sheet to this PNG `FILE`")
	flags.add(c)
	return c
}

// chooseLabels spreads count images over the named classes, all for "".
func chooseLabels(all []string, names string, count int) ([]int, error) {
	if names == "" {
		return generate.Balanced(count, len(all)), nil
	}
	var chosen []int
	for _, name := range strings.Split(names, ",") {
		i := slices.Index(all, name)
		if i < 0 {
			return nil, misuse(fmt.Errorf("--classes names %q, the model has %s", name, strings.Join(all, ", ")))
		}
		chosen = append(chosen, i)
	}
	labels := generate.Balanced(count, len(chosen))
	for i := range labels {
		labels[i] = chosen[labels[i]]
	}
	return labels, nil
}

// onlyNamed leaves the other classes out of a set that has no image of them: their
// folders would be empty.
func onlyNamed(set *dataset.Set, names []string) *dataset.Set {
	kept := *set
	kept.Classes, kept.Labels = nil, make([]int, len(set.Labels))
	for _, name := range set.Classes {
		if slices.Contains(names, name) {
			kept.Classes = append(kept.Classes, name)
		}
	}
	for i, label := range set.Labels {
		kept.Labels[i] = slices.Index(kept.Classes, set.Classes[label])
	}
	return &kept
}

// gridColumns is how many images of a class a contact sheet shows.
const gridColumns = 12

// firstPerClass keeps the first n images of each class.
func firstPerClass(set *dataset.Set, n int) *dataset.Set {
	seen := make([]int, len(set.Classes))
	var keep []int
	for i, label := range set.Labels {
		if seen[label] < n {
			seen[label]++
			keep = append(keep, i)
		}
	}
	return set.Subset(keep)
}

func dirExists(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
