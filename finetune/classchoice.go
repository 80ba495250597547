package finetune

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// ClassChoice begins each class at the public class that its images look like, by a
// paid histogram (PrivImage, Li et al. 2024, https://arxiv.org/abs/2311.12850). The
// public model itself is the classifier: an image's public class is the one under
// which its noise is predicted best (Li et al. 2023,
// https://arxiv.org/abs/2303.16203).
type ClassChoice struct {
	NoiseMultiplier float64 `yaml:"noise_multiplier,omitempty" json:"noise_multiplier,omitempty"` // Of the counts, in images. This or Share; neither is no choice.
	Share           float64 `yaml:"share,omitempty" json:"share,omitempty"`                       // The part of privacy.epsilon that the histogram would cost alone, in (0, 1).
	// SamplingProbability is the chance that an image is counted. Zero means 1: all are.
	SamplingProbability float64 `yaml:"sampling_probability,omitempty" json:"sampling_probability,omitempty"`
	Draws               int     `yaml:"draws,omitempty" json:"draws,omitempty"` // Noise draws that the classifier averages over. Zero means 8.
}

const (
	classRun  = queryPrefix + "class-choice"
	classFile = "class-choice.json" // In release/.
	maxDraws  = 1024
)

func (c ClassChoice) sampled() float64 { return cmp.Or(c.SamplingProbability, 1) }

func (c ClassChoice) cost() cost { return cost{c.NoiseMultiplier, c.Share} }

func (c ClassChoice) validate(of *Config) error {
	if c.Draws < 0 || c.Draws > maxDraws {
		return fmt.Errorf("class_choice.draws is %d, want 0 to %d", c.Draws, maxDraws)
	}
	if q := c.SamplingProbability; q != 0 && !(q >= 1e-9 && q <= 1) {
		return fmt.Errorf("class_choice.sampling_probability is %g, want in [1e-9, 1], or 0 for 1", q)
	}
	if err := c.cost().validate("class_choice"); err != nil {
		return err
	}
	if (c.Draws != 0 || c.SamplingProbability != 0) && !c.cost().on() {
		return errors.New("class_choice needs noise_multiplier or share")
	}
	frozen := map[Method]bool{Attention: of.Attention.FreezeEmbedder, LoDA: of.LoDA.FreezeEmbedder, LoRA: of.LoRA.FreezeEmbedder, Full: of.Full.FreezeEmbedder}
	if c.cost().on() && frozen[of.Method] {
		return errors.New("class_choice needs an embedder that trains: leave freeze_embedder out")
	}
	return nil
}

// classQuery returns the query of a config's class choice, nil without one.
func (c *Config) classQuery(plan *Plan) (*Query, error) {
	if !c.ClassChoice.cost().on() {
		return nil, nil
	}
	if plan.Text {
		return nil, errors.New("class_choice is among public classes, and the base model takes text: leave it out")
	}
	event, err := c.ClassChoice.cost().noise(accountant.DPSGD(0, c.ClassChoice.sampled(), 1), c.Privacy)
	if err != nil {
		return nil, fmt.Errorf("class_choice: %w", err)
	}
	return &Query{Run: classRun, Event: event, What: fmt.Sprintf(
		"noisy histogram: in each of %d classes, how many images look like each public class; an image adds 1 to one count, the sensitivity", len(plan.Classes))}, nil
}

// publicClasses are the base model's, as they were before the run's took their
// place.
type publicClasses struct {
	names []string
	table nn.Tensor // A row for each and one for the null class.
}

func newPublicClasses(m *checkpoint.Model) *publicClasses {
	w := m.Weights.Get(embedderName(m))
	if w == nil { // setClasses says so.
		return nil
	}
	table := *w
	table.Shape, table.Data = slices.Clone(w.Shape), slices.Clone(w.Data)
	return &publicClasses{names: slices.Clone(m.Classes), table: table}
}

// classifier tells which public class an image looks like. It has seen public data
// only.
//
// What it says depends on nothing but the image: every image gets the same
// timesteps and noise, and is computed in a call of its own, so that one more or less
// among them leaves the votes of all others as they are.
type classifier struct {
	program *nn.Program
	canvas  pipeline.Canvas
	classes int
	draws   int

	noise []float32 // [classes, draws, Grid, Grid, Depth].
	t     []int32
	class []int32
}

func newClassifier(backend compute.Backend, lowering nn.Lowering, t *target, canvas pipeline.Canvas, draws int) (*classifier, error) {
	schedule, err := diffusion.NewSchedule(t.model.Scheduler)
	if err != nil {
		return nil, err
	}
	m := *t.model // With the public classes, and without adapters.
	m.Adapter, m.Classes = nil, t.public.names
	entries := len(m.Classes) + 1
	if m.ClassEmbedder != nil {
		e := *m.ClassEmbedder
		e.Entries = entries
		m.ClassEmbedder = &e
	} else {
		u := *m.UNet
		u.NumClassEmbeds = entries
		m.UNet = &u
	}
	weights := nn.NewWeights()
	for _, w := range denoiserWeights(t.model).All() {
		if w.Name == t.public.table.Name {
			w = &t.public.table
		}
		weights.Add(w)
	}
	c := &classifier{canvas: canvas, classes: len(m.Classes), draws: draws}
	n := canvas.Size()
	for k := range draws {
		rng := rand.New(rand.NewPCG(6, uint64(k))) // Public: a constant.
		noise := make([]float32, n)
		for i := range noise {
			noise[i] = float32(rng.NormFloat64())
		}
		c.noise = append(c.noise, noise...)
		// Where the class tells most: neither nearly clean nor nearly noise.
		c.t = append(c.t, int32((0.1+0.7*(float64(k)+0.5)/float64(draws))*float64(schedule.Steps())))
	}
	c.noise, c.t = slices.Repeat(c.noise, c.classes), slices.Repeat(c.t, c.classes)
	for i := range c.classes {
		c.class = append(c.class, slices.Repeat([]int32{int32(i)}, draws)...)
	}
	c.program, err = nn.NewProgram(backend, nn.ProgramOptions{NN: nn.Options{Lowering: lowering}, Weights: weights,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			return []*graph.Node{pipeline.ExampleLoss(&m, schedule, s, pipeline.NewLossInputs(in))}
		}})
	return c, err
}

// vote returns the public class of one image, given as the UNet's input.
func (c *classifier) vote(grid []float32) (int, error) {
	g, d := c.canvas.Grid, c.canvas.Depth
	inputs := []*tensors.Tensor{
		tensors.FromFlatDataAndDimensions(slices.Repeat(grid, c.classes), c.classes, g, g, d),
		tensors.FromFlatDataAndDimensions(slices.Clone(c.noise), len(c.t), g, g, d),
		tensors.FromFlatDataAndDimensions(slices.Clone(c.t), len(c.t)),
		tensors.FromFlatDataAndDimensions(slices.Clone(c.class), len(c.class)),
	}
	out, err := c.program.Run(nil, inputs...)
	if err != nil {
		return 0, err
	}
	losses, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		return 0, err
	}
	for _, x := range append(out, inputs...) {
		_ = x.FinalizeAll()
	}
	best := 0
	for i, loss := range losses {
		if loss < losses[best] {
			best = i
		}
	}
	return best, nil
}

// votes returns the public classes of the images of a batch. They are private.
func (c *classifier) votes(ctx context.Context, grids []float32, batch []int, workers int) ([]int, error) {
	n := len(batch)
	out := make([]int, n)
	errs := make([]error, max(1, workers))
	size := c.canvas.Size()
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for i := w; i < n && errs[w] == nil; i += len(errs) {
				if errs[w] = ctx.Err(); errs[w] == nil {
					at := batch[i] * size
					out[i], errs[w] = c.vote(grids[at : at+size])
				}
			}
		})
	}
	wg.Wait()
	return out, errors.Join(errs...)
}

// ClassCounts is the noisy histogram of a class choice, and what was chosen by it.
// The claim covers it.
type ClassCounts struct {
	Classes       []string    `json:"classes"`
	PublicClasses []string    `json:"public_classes"`
	Counts        [][]float64 `json:"noisy_counts"` // [classes, public classes].
	Chosen        []int       `json:"chosen"`       // Public class where each class begins.
}

// choose gives every class a public class by the noisy counts, the surest first, each
// public class once while there are enough.
func choose(counts [][]float64) []int {
	type pair struct {
		class, public int
		count         float64
	}
	var pairs []pair
	for i, row := range counts {
		for j, count := range row {
			pairs = append(pairs, pair{i, j, count})
		}
	}
	slices.SortStableFunc(pairs, func(a, b pair) int { return cmp.Compare(b.count, a.count) })
	chosen := slices.Repeat([]int{-1}, len(counts))
	for left := len(counts); left > 0; {
		used := map[int]bool{}
		for _, p := range pairs {
			if chosen[p.class] < 0 && !used[p.public] {
				chosen[p.class], used[p.public] = p.public, true
				left--
			}
		}
	}
	return chosen
}

// chooseClasses asks for the histogram, or reads the one that was asked for, and
// begins each class's row of the embedder at that of its public class.
func (r *run) chooseClasses(ctx context.Context, backend compute.Backend, t *target, tr *trainer, set *dataset.Set, o Options) error {
	path := r.released(classFile)
	data, err := os.ReadFile(path)
	counts := &ClassCounts{}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if counts, err = r.classCounts(ctx, backend, t, tr, set, o); err != nil {
			return err
		}
		if data, err = json.MarshalIndent(counts, "", "  "); err != nil {
			return err
		}
		if err := wholefile.Write(path, 0o644, append(data, '\n')); err != nil {
			return err
		}
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(data, counts); err != nil {
			return fmt.Errorf("%s: %w: %w", classFile, errDamaged, err)
		}
	}
	return t.begin(counts)
}

// begin copies rows of the public table.
func (t *target) begin(counts *ClassCounts) error {
	row := t.model.Weights.Get(embedderName(t.model))
	width := row.Shape[1]
	if len(counts.Chosen) != len(t.model.Classes) {
		return fmt.Errorf("%s chooses for %d classes, want %d: %w", classFile, len(counts.Chosen), len(t.model.Classes), errDamaged)
	}
	for i, public := range counts.Chosen {
		if public < 0 || public >= len(t.public.names) {
			return fmt.Errorf("%s chooses public class %d, want 0 to %d: %w", classFile, public, len(t.public.names)-1, errDamaged)
		}
		copy(row.Data[i*width:(i+1)*width], t.public.table.Data[public*width:(public+1)*width])
	}
	return nil
}

// classCounts asks for the histogram.
//
// Guarantee: an image is counted once, in the bin of its class and its public class,
// which depends on the image and public weights only: one more or less changes one
// count by 1 ([dpsgd.Counts]). Who is counted is decided by a coin for each image: this
// is the Poisson-sampled Gaussian mechanism of sensitivity 1.
func (r *run) classCounts(ctx context.Context, backend compute.Backend, t *target, tr *trainer, set *dataset.Set, o Options) (*ClassCounts, error) {
	q := r.plan.query(classRun)
	if r.left(classRun) == 0 {
		return nil, r.lostResult(q)
	}
	draws := r.config.ClassChoice.Draws
	if draws == 0 {
		draws = 8
	}
	c, err := newClassifier(backend, o.Lowering, t, tr.draws.canvas, draws)
	if err != nil {
		return nil, err
	}
	defer c.program.Close()
	noise, sampler, err := querySecrets(q, set.Len(), o)
	if err != nil {
		return nil, err
	}
	batch := sampler.Draw()
	votes, err := c.votes(ctx, tr.draws.grids, batch, o.Workers)
	if err != nil {
		return nil, err
	}
	public := len(t.public.names)
	bins := make([]int, len(votes))
	for i, vote := range votes {
		bins[i] = set.Labels[batch[i]]*public + vote
	}
	histogram, err := dpsgd.NewCounts(len(t.model.Classes)*public, bins)
	if err != nil {
		return nil, err
	}
	values, err := histogram.Release(noise, q.Event.NoiseMultiplier, r.ask(q))
	if err != nil {
		return nil, err
	}
	out := &ClassCounts{Classes: t.model.Classes, PublicClasses: t.public.names}
	for row := range slices.Chunk(values, public) {
		out.Counts = append(out.Counts, row)
	}
	out.Chosen = choose(out.Counts)
	return out, nil
}
