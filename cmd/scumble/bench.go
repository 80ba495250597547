package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/bench"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
)

func newBench() *cobra.Command {
	c := &cobra.Command{
		Use:   "bench",
		Short: "Time the standard workloads on this machine",
		Long: `bench times what scumble does on models and data of its own, so that machines,
backends and versions compare. It opens no data. classifier and evolution are baselines at a guarantee, on the data of a config.`,
		Example: "  scumble bench step --workload latent --trainable attention --batch 256",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newBenchStep(), newBenchSample(), newBenchClassifier(), newBenchEvolution())
	return c
}

func newBenchStep() *cobra.Command {
	var flags sessionFlags
	var o bench.StepOptions
	var set, engine, compute, precision string
	c := &cobra.Command{
		Use:   "step",
		Short: "Time a private training step beside an ordinary one",
		Long: `step times one step of DP-SGD on a trainable set and one of ordinary training of
the whole model, alternately, in one process: everything from the noising of the
images to the optimizer's update. Seconds are medians over the rounds.

Workloads: pixel is a UNet of 6.8 million parameters on 32x32 images, latent one
of 24.5 million on 8x8x4 latents. celebahq-vq-f4, ldm-text2img, sd15 and sd21 have
the geometry of published models of 256x256 images at full size, with random
weights: they need gigabytes, so ask for --private-only and a small batch. Trainable sets: full, attention (modules and
class embedding), lora and loda (rank 4), none (the ordinary step alone).

The figure of memory is that of the whole process: --private-only leaves the
ordinary step out, and an --engine that is named the trials of auto.`,
		Example: "  scumble bench step --workload latent --trainable attention --batch 256 --json",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			o.Set, o.Engine, o.Compute, o.BasePrecision = bench.Set(set), dpsgd.Method(engine), nn.Precision(compute), nn.Precision(precision)
			if err := checkBench(&o); err != nil {
				return misuse(err)
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			o.Workers, o.Lowering = s.workers, s.lowering
			o.TuneCache = tuneCache()
			o.Report = func(what string) { s.talk.progress(false, "%s", what) }
			r, err := bench.Step(c.Context(), s.backend, o)
			s.talk.endLine()
			if err != nil {
				return err
			}
			r.Backend = s.info.Name
			if r.Choice != nil {
				s.talk.say("engine: %s", r.Choice)
			}
			if flags.json {
				return printJSON(c, r)
			}
			printStep(c, r)
			return nil
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.Workload, "workload", bench.Latent, "`NAME`: pixel, latent, celebahq-vq-f4, ldm-text2img, sd15 or sd21")
	f.StringVar(&set, "trainable", string(bench.Attention), "what trains, a `SET`: full, attention, lora, loda or none")
	f.IntVar(&o.Batch, "batch", 64, "`EXAMPLES` of a step")
	f.IntVar(&o.Multiplicity, "multiplicity", 1, "`DRAWS` of noise and timestep per example")
	f.IntVar(&o.Rounds, "rounds", 3, "timed steps of each kind, a `COUNT`")
	f.StringVar(&engine, "engine", string(dpsgd.Auto), "how to clip, a `METHOD`: book-keeping, loop, or auto for the faster one")
	f.StringVar(&compute, "compute", string(nn.Float32), "`PRECISION` of the private step's dense products: float32 or bfloat16")
	f.StringVar(&precision, "base-precision", string(nn.Float32), "`PRECISION` that weights which do not train are kept in: float32 or bfloat16")
	f.BoolVar(&o.Recompute, "recompute", false, "let the private step's backward pass compute the UNet's blocks again: less memory, more time")
	f.BoolVar(&o.FreezeEmbedder, "freeze-embedder", false, "leave the conditioning embedder of a published model frozen")
	f.IntVar(&o.PhysicalBatch, "physical-batch", 0, "`EXAMPLES` per call, or the next divisor of the batch below; 0 is 16 draws, and auto searches")
	f.BoolVar(&o.PrivateOnly, "private-only", false, "leave the ordinary step out: for the memory of the private one")
	flags.add(c)
	return c
}

// checkBench reports the first flag that is out of range, before a backend is
// opened.
func checkBench(o *bench.StepOptions) error {
	switch {
	case !slices.Contains(bench.Workloads, o.Workload) && !slices.Contains(bench.PublishedModels, o.Workload):
		return fmt.Errorf("--workload is %q, want one of %s", o.Workload, strings.Join(append(slices.Clone(bench.Workloads), bench.PublishedModels...), ", "))
	case !slices.Contains(bench.Sets, o.Set):
		return fmt.Errorf("--trainable is %q, want one of %v", o.Set, bench.Sets)
	}
	return o.Validate()
}

func printStep(c *cobra.Command, r *bench.StepResult) {
	out := c.OutOrStdout()
	line := func(name string, wall, cpu *float64) {
		if wall != nil {
			fmt.Fprintf(out, "%-12s %.3g s a step (processor time %.3g s)\n", name, *wall, *cpu)
		}
	}
	line("private", r.SecondsDP, r.CPUSecondsDP)
	line("ordinary", r.SecondsNonPrivate, r.CPUSecondsNonPrivate)
	if r.Ratio != nil {
		fmt.Fprintf(out, "%-12s %.2f (processor time %.2f)\n", "ratio", *r.Ratio, *r.CPURatio)
	}
	fmt.Fprintf(out, "%-12s %d of %d parameters, %d examples of %d draws, %d examples a call, backend %s\n",
		"workload", r.TrainableParameters, r.Parameters, r.Batch, r.Multiplicity, r.PhysicalBatch, r.Backend)
	if r.Engine != "" {
		fmt.Fprintf(out, "%-12s %s\n", "engine", r.Engine)
	}
	fmt.Fprintf(out, "%-12s %.1f GFLOP a step, %.1f GFLOP/s; first call %.1f s; peak memory %d MiB\n",
		"speed", r.GFLOPPerStep, r.GFLOPS, r.CompileSeconds, r.PeakRSS>>20)
}
