package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/eval"
)

// newEvalNetwork remakes the feature network that scumble carries.
func newEvalNetwork() *cobra.Command {
	var flags sessionFlags
	var out string
	var recipe eval.GlyphRecipe
	c := &cobra.Command{
		Use:   "train-network --out FILE",
		Short: "Train the bundled feature network again, on rendered characters",
		Long: `train-network trains the small feature network of eval on characters that it
renders and writes it as safetensors in half precision. Without flags it follows
the recipe of the one that scumble carries (eval/glyphnet.md is its card). No
image is read: everything it sees is public.`,
		Example: "  scumble eval train-network --out glyphnet.safetensors",
		Args:    arguments(cobra.NoArgs),
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return misuse(fmt.Errorf("--out is missing, want the file to write the network to"))
			}
			if _, err := os.Lstat(out); err == nil {
				return invalid(fmt.Errorf("output %s exists; choose another", out))
			}
			if recipe.Steps < 0 || recipe.BatchSize < 0 || !(recipe.LearningRate >= 0) {
				return misuse(fmt.Errorf("--steps is %d, --batch %d, --learning-rate %g, want none below 0; 0 is the recipe's", recipe.Steps, recipe.BatchSize, recipe.LearningRate))
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			defer s.close()
			start := time.Now()
			err = eval.TrainGlyphs(c.Context(), s.backend, out, recipe, s.network(), func(step, steps int, loss float64) {
				left := time.Since(start).Seconds() / float64(step) * float64(steps-step)
				s.talk.progress(step == steps, "feature network: step %d/%d, loss %.3f, %s left", step, steps, loss, short(time.Duration(left*float64(time.Second))))
			})
			if err != nil {
				return err
			}
			s.talk.say("wrote %s in %s", out, short(time.Since(start)))
			if flags.json {
				return printJSON(c, map[string]any{"network": out, "seconds": time.Since(start).Seconds(), "backend": s.info.String()})
			}
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "`FILE` to write; must not exist")
	c.Flags().IntVar(&recipe.Steps, "steps", 0, "`COUNT` of updates (default that of the recipe, 1200)")
	c.Flags().IntVar(&recipe.BatchSize, "batch", 0, "`IMAGES` in an update (default 64)")
	c.Flags().Float64Var(&recipe.LearningRate, "learning-rate", 0, "`RATE` of Adam (default 0.002)")
	c.Flags().Uint64Var(&recipe.Seed, "seed", 0, "`NUMBER` that decides weights and images (default 7)")
	flags.add(c)
	return c
}

// network is the session as a feature network takes it.
func (s *session) network() eval.NetworkOptions {
	return eval.NetworkOptions{Lowering: s.lowering, Workers: s.workers}
}
