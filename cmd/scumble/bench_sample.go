package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/bench"
	"github.com/scumble-dp/scumble/diffusion"
)

func newBenchSample() *cobra.Command {
	var flags sessionFlags
	var o bench.SampleOptions
	var sampler string
	c := &cobra.Command{
		Use:   "sample",
		Short: "Time the drawing of images",
		Long: `sample times the drawing of images, without guidance, from the UNet of a workload
with random weights: from initial noise to the last step. The first batch, with
which programs are compiled, is not counted.

Workloads are those of bench step.`,
		Example: "  scumble bench sample --workload pixel --steps 50 --batch 64 --json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o.Sampler = diffusion.SamplerName(sampler)
			if !slices.Contains(bench.Workloads, o.Workload) {
				return misuse(fmt.Errorf("--workload is %q, want %s", o.Workload, strings.Join(bench.Workloads, " or ")))
			}
			if err := o.Validate(); err != nil {
				return misuse(err)
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			o.Workers, o.Lowering = s.workers, s.lowering
			o.Report = func(done, total int) { s.talk.progress(done == total, "image %d of %d", done, total) }
			r, err := bench.Sample(c.Context(), s.backend, o)
			s.talk.endLine()
			if err != nil {
				return err
			}
			r.Backend = s.info.Name
			if flags.json {
				return printJSON(c, r)
			}
			fmt.Fprintf(c.OutOrStdout(), "%.3g images a second: %.3g s for %d of %d steps (processor time %.3g s); backend %s, %d images a call; first call %.1f s more; peak memory %d MiB\n",
				r.ImagesPerSecond, r.SecondsPerBatch, r.Batch, r.Steps, r.CPUSecondsPerBatch, r.Backend, r.PhysicalBatch, r.CompileSeconds, r.PeakRSS>>20)
			return nil
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.Workload, "workload", bench.Pixel, "`NAME`: pixel or latent")
	f.StringVar(&sampler, "sampler", string(diffusion.UseDDIM), "`NAME` of the sampler, as in scumble sample")
	f.IntVar(&o.Steps, "steps", 50, "network calls per image, a `COUNT`")
	f.IntVar(&o.Batch, "batch", 64, "`IMAGES` of a round")
	f.IntVar(&o.Rounds, "rounds", 3, "timed batches, a `COUNT`")
	f.IntVar(&o.PhysicalBatch, "physical-batch", 0, "`IMAGES` per call, which divide the batch; 0 is what scumble sample takes")
	flags.add(c)
	return c
}
