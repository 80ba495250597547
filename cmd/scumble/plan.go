package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/finetune"
)

func newPlan() *cobra.Command {
	var flags sessionFlags
	var layers, measure bool
	var gpu string
	c := &cobra.Command{
		Use:   "plan CONFIG",
		Short: "Say what a fine-tuning run would do and cost; opens no image",
		Long: `plan computes what scumble finetune CONFIG would do: the privacy claim by two
accountants, noise multiplier, steps and parameters; and, where the config names
earlier runs on the same images, what they have spent and what is left. It reads
their ledgers and the names of class folders, and opens no image. Exit code 4
says that nothing is left.

--gpu NAME adds hours and memory of all steps on a graphics card, and on this
machine's processor: an estimate from counted operations and makers' figures, not
a measurement. NAME is h100, h200, a100-80, a100-40, l40s, l4, a10, rtx4090,
rtx3090, v100 or t4.`,
		Example: "  scumble plan clinic.yaml --json\n  scumble plan clinic.yaml --gpu a100-40",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			var card finetune.GPU
			if gpu != "" {
				var err error
				if card, err = finetune.FindGPU(gpu); err != nil {
					return misuse(fmt.Errorf("--gpu: %w", err))
				}
			}
			config, err := finetune.ReadConfig(args[0])
			if err != nil {
				return err
			}
			base, err := loadBase(config.Base)
			if err != nil {
				return err
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			plan, target, err := finetune.NewPlan(s.backend, config, base)
			if err != nil && flags.json {
				err = conceal(err, config.Data.Path, nil)
			}
			if err != nil {
				return err
			}
			if layers {
				return printLayers(c, s, plan, target, flags.json)
			}
			out := planned{Plan: plan}
			if gpu != "" {
				if out.Estimate, err = s.estimate(config, plan, target, card); err != nil {
					return err
				}
			}
			if measure {
				if out.Measured, err = s.measure(c.Context(), config); err != nil {
					return err
				}
			}
			if flags.json {
				return printJSON(c, out)
			}
			text := planText(plan, config)
			if gpu != "" {
				text += estimateText(out.Estimate)
			}
			if measure {
				text += measuredText(out.Measured)
			}
			_, err = io.WriteString(c.OutOrStdout(), text)
			return err
		},
	}
	c.Flags().BoolVar(&layers, "layers", false, "instead, list each trainable layer: shapes, clipping rule and what clipping adds")
	c.Flags().BoolVar(&measure, "measure", false, "also measure time, memory and gradient norms, on samples of the public base model")
	c.Flags().StringVar(&gpu, "gpu", "", "also estimate hours and memory on a graphics card, by `NAME`")
	flags.add(c)
	return c
}

// planned is what plan --json prints.
type planned struct {
	*finetune.Plan
	Measured *finetune.Measured `json:"measured,omitempty"` // With --measure.
	Estimate *estimate          `json:"estimate,omitempty"` // With --gpu.
}

// planText says what a plan does and costs.
func planText(plan *finetune.Plan, config *finetune.Config) string {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-12s %s\n", name, fmt.Sprintf(format, args...))
	}
	m := plan.Mechanism
	line("privacy", "epsilon %.4f at delta %g, %s, unit one image", plan.Epsilon, plan.Delta, plan.Neighboring)
	line("", "RDP accountant: epsilon %.4f", plan.EpsilonRDP)
	if len(plan.Previous) > 0 {
		line("", "that is this run (alone %.4f) and the %s below, together", plan.EpsilonAlone, earlierRuns(len(plan.Previous)))
		for _, p := range plan.Previous {
			line("earlier run", "epsilon %.4f, ledger %s, run %s", p.Epsilon, p.Ledger, p.Run)
			if p.Unfinished {
				line("", "not finished: charged in full, since it can be resumed")
			}
		}
		line("left", "epsilon %.4f of %g before this run, %.4f after it", config.Privacy.Epsilon-plan.EpsilonPrevious, config.Privacy.Epsilon,
			config.Privacy.Epsilon-plan.Epsilon)
	}
	for _, q := range plan.Queries {
		line("asks first", "%s", q.What)
		line("", "%d times, sampling probability %g, noise multiplier %g", q.Event.Count, q.Event.SamplingProbability, q.Event.NoiseMultiplier)
		if q.HostBytes > 0 {
			line("", "features of its classifier take %s of memory meanwhile", size(q.HostBytes))
		}
	}
	line("mechanism", "%d steps, sampling probability %.6g, expected batch %g", m.Steps, m.SamplingProbability, m.ExpectedBatchSize)
	line("", "noise multiplier %g, clipping norm %g, %d draws per example", m.NoiseMultiplier, m.ClippingNorm, plan.Multiplicity)
	line("trains", "%s: %d of %d parameters of the denoiser", plan.Method, plan.TrainableParameters, plan.TotalParameters)
	line("images", "%dx%d pixels, %d channels, %s", plan.Size, plan.Size, plan.Channels, toldWord(plan))
	return b.String()
}

func earlierRuns(n int) string {
	if n == 1 {
		return "earlier run"
	}
	return fmt.Sprintf("%d earlier runs", n)
}
