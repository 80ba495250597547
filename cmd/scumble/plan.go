package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/finetune"
)

func newPlan() *cobra.Command {
	var flags sessionFlags
	c := &cobra.Command{
		Use:   "plan CONFIG",
		Short: "Say what a fine-tuning run would do and cost; opens no image",
		Long: `plan computes what scumble finetune CONFIG would do: the privacy claim by two
accountants, noise multiplier, steps and parameters. It reads the names of class
folders and opens no image.`,
		Example: "  scumble plan clinic.yaml --json",
		Args:    arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
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
			plan, _, err := finetune.NewPlan(s.backend, config, base)
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c, plan)
			}
			m := plan.Mechanism
			_, err = fmt.Fprintf(c.OutOrStdout(), `privacy      epsilon %.4f at delta %g, %s, unit one image
             RDP accountant: epsilon %.4f
mechanism    %d steps, sampling probability %.6g, expected batch %g
             noise multiplier %g, clipping norm %g, %d draws per example
trains       %s: %d of %d parameters of the denoiser
images       %dx%d pixels, %d channels, %d classes
`, plan.Epsilon, plan.Delta, plan.Neighboring, plan.EpsilonRDP, m.Steps, m.SamplingProbability, m.ExpectedBatchSize,
				m.NoiseMultiplier, m.ClippingNorm, plan.Multiplicity, plan.Method, plan.TrainableParameters, plan.TotalParameters,
				plan.Size, plan.Size, plan.Channels, len(plan.Classes))
			return err
		},
	}
	flags.add(c)
	return c
}
