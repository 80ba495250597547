package finetune

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/safetensors"
	"github.com/scumble-dp/scumble/subsample"
)

// WarmStart trains on noisy mean images of the classes before the first step
// (DP-FETA, Gong et al. 2025, https://arxiv.org/abs/2504.01395).
type WarmStart struct {
	Means               int     `yaml:"means,omitempty" json:"means,omitempty"`                               // Noisy mean images of each class. Zero is no warm start.
	NoiseMultiplier     float64 `yaml:"noise_multiplier,omitempty" json:"noise_multiplier,omitempty"`         // Noise standard deviation / clipping norm of each mean. This or Share.
	Share               float64 `yaml:"share,omitempty" json:"share,omitempty"`                               // The part of privacy.epsilon that all means would cost alone, in (0, 1).
	SamplingProbability float64 `yaml:"sampling_probability,omitempty" json:"sampling_probability,omitempty"` // That an image joins a mean. Zero means 0.1.
	Cell                int     `yaml:"cell,omitempty" json:"cell,omitempty"`                                 // Squares of so many pixels are averaged first. Zero means 2.
	Background          float64 `yaml:"background,omitempty" json:"background,omitempty"`                     // Grey level that is taken off first, -1 (black) to 1.
	ClippingNorm        float64 `yaml:"clipping_norm,omitempty" json:"clipping_norm,omitempty"`               // Bound on what is left of an image. Zero means half of the most it can be.

	// Ordinary training on the means, which costs no more privacy.
	Steps        int     `yaml:"steps,omitempty" json:"steps,omitempty"`                 // Zero means 200.
	BatchSize    int     `yaml:"batch_size,omitempty" json:"batch_size,omitempty"`       // Zero means 64.
	LearningRate float64 `yaml:"learning_rate,omitempty" json:"learning_rate,omitempty"` // Zero means 1e-3.
	// NoiseAware trains on timesteps only whose noise is above that of the means, with
	// targets that know it is there. It needs a pixel model, and cells of 1 pixel.
	NoiseAware  bool    `yaml:"noise_aware,omitempty" json:"noise_aware,omitempty"`
	MinTimestep float64 `yaml:"min_timestep,omitempty" json:"min_timestep,omitempty"` // Train on timesteps from this share of the schedule on.
}

const (
	meansRun  = queryPrefix + "class-means"
	meansFile = "noisy-means.safetensors" // In release/.
	maxMeans  = 1000
)

func (w WarmStart) on() bool { return w.Means > 0 }

func (w WarmStart) cost() cost { return cost{w.NoiseMultiplier, w.Share} }

func (w WarmStart) validate() error {
	bad := func(format string, args ...any) error { return fmt.Errorf("warm_start."+format, args...) }
	switch {
	case w.Means < 0 || w.Means > maxMeans:
		return bad("means is %d, want 0 to %d", w.Means, maxMeans)
	case !(w.SamplingProbability >= 0 && w.SamplingProbability <= 1):
		return bad("sampling_probability is %g, want in (0, 1], or 0 for 0.1", w.SamplingProbability)
	case w.SamplingProbability != 0 && w.SamplingProbability < 1e-9:
		return bad("sampling_probability is %g, want at least 1e-9", w.SamplingProbability)
	case w.NoiseAware && w.Cell != 1:
		return errors.New("warm_start needs cell: 1 to be noise_aware: noise of wider cells is not independent between pixels")
	case w.Cell < 0 || w.Cell > dataset.MaxSize:
		return bad("cell is %d pixels, want 0 to %d", w.Cell, dataset.MaxSize)
	case !(w.Background >= -1 && w.Background <= 1):
		return bad("background is %g, want -1 (black) to 1 (white)", w.Background)
	case w.ClippingNorm != 0 && !(w.ClippingNorm >= 1e-6 && w.ClippingNorm <= 1e6):
		return bad("clipping_norm is %g, want 1e-6 to 1e6, or 0 for half of the most that an image can be", w.ClippingNorm)
	case w.Steps < 0:
		return bad("steps is %d, want at least 1, or 0 for 200", w.Steps)
	case w.BatchSize < 0:
		return bad("batch_size is %d, want at least 1, or 0 for 64", w.BatchSize)
	case !(w.LearningRate >= 0) || math.IsInf(w.LearningRate, 1):
		return bad("learning_rate is %g, want positive and finite, or 0 for 1e-3", w.LearningRate)
	case !(w.MinTimestep >= 0 && w.MinTimestep < 1):
		return bad("min_timestep is %g, want in [0, 1)", w.MinTimestep)
	}
	if err := w.cost().validate("warm_start"); err != nil {
		return err
	}
	if w.on() != w.cost().on() {
		return errors.New("warm_start needs means and one of noise_multiplier and share")
	}
	return nil
}

// resolved returns w with its defaults for square images of a size.
func (w WarmStart) resolved(size, channels int) WarmStart {
	set := func(v *float64, to float64) {
		if *v == 0 {
			*v = to
		}
	}
	if w.Cell == 0 {
		w.Cell = 2
	}
	if w.Steps == 0 {
		w.Steps = 200
	}
	if w.BatchSize == 0 {
		w.BatchSize = 64
	}
	set(&w.SamplingProbability, 0.1)
	set(&w.LearningRate, 1e-3)
	side := size / w.Cell
	set(&w.ClippingNorm, (1+math.Abs(w.Background))*math.Sqrt(float64(side*side*channels))/2)
	return w
}

// meansQuery returns the query of a config's warm start, nil without one.
func (c *Config) meansQuery(plan *Plan) (*Query, error) {
	if !c.WarmStart.on() {
		return nil, nil
	}
	if plan.Text {
		return nil, errors.New("warm_start takes means of classes, and the base model takes text: leave it out")
	}
	w := c.WarmStart.resolved(plan.Size, plan.Channels)
	if plan.Size%w.Cell != 0 {
		return nil, fmt.Errorf("warm_start.cell is %d pixels, want one that divides images of %d", w.Cell, plan.Size)
	}
	if c.Training.MaxTimestep <= w.MinTimestep {
		return nil, fmt.Errorf("warm_start.min_timestep is %g, want below training.max_timestep = %g", w.MinTimestep, c.Training.MaxTimestep)
	}
	event := accountant.DPSGD(0, w.SamplingProbability, w.Means)
	event, err := w.cost().noise(event, c.Privacy)
	if err != nil {
		return nil, fmt.Errorf("warm_start: %w", err)
	}
	side := plan.Size / w.Cell
	return &Query{Run: meansRun, Event: event, What: fmt.Sprintf(
		"noisy mean images of %d classes, %dx%d cells each: an image adds a vector of norm at most %g, the sensitivity, to its own class; divided by a public number",
		len(plan.Classes), side, side, w.ClippingNorm)}, nil
}

// meanImages are noisy mean images: [means, classes, side, side, channels], in
// [-1, 1] but for the noise. The claim covers them.
type meanImages struct {
	classes, side, channels int
	values                  []float32
}

// cells returns an image's cells, less the background.
func (w WarmStart) cells(image []byte, size, channels int) []float64 {
	side := size / w.Cell
	out := make([]float64, side*side*channels)
	scale := 1 / (127.5 * float64(w.Cell*w.Cell))
	for y := range side * w.Cell {
		for x := range side * w.Cell {
			for k := range channels {
				out[((y/w.Cell)*side+x/w.Cell)*channels+k] += scale * float64(image[(y*size+x)*channels+k])
			}
		}
	}
	for i := range out {
		out[i] -= 1 + w.Background
	}
	return out
}

// noisyMeans asks the query as often as count says.
//
// Guarantee: each time it is the Poisson-sampled Gaussian mechanism with the noise
// multiplier and the sampling probability of the event, under add-or-remove. An image
// adds a vector of norm at most the clipping norm to the sum of its own class and
// to no other, so that the sums of all classes together move by at most that
// ([dpsgd.Vectors]), whatever the labels. The divisor is the public number of examples
// times the sampling probability over the public number of classes: no count of a
// class or batch enters, and a class without an image gives noise.
//
//   - w is resolved.
func noisyMeans(w WarmStart, set *dataset.Set, classes, examples, count int, event accountant.Event, noise *dpsgd.Noise,
	sampler *subsample.Poisson, record func() error, wrong mistake) (*meanImages, error) {
	m := &meanImages{classes: classes, side: set.Width / w.Cell, channels: set.Channels}
	per := m.side * m.side * m.channels
	for range count {
		sum, err := dpsgd.NewVectors(classes*per, w.ClippingNorm, event.NoiseMultiplier)
		if err != nil {
			return nil, err
		}
		drawn := make([]float64, classes)
		for _, i := range sampler.Draw() {
			if err := sum.Add(i, set.Labels[i]*per, w.cells(set.Image(i), set.Width, set.Channels)); err != nil {
				return nil, err
			}
			drawn[set.Labels[i]]++
		}
		values, err := sum.Release(noise, record)
		if err != nil {
			return nil, err
		}
		public := w.divisor(event, examples, classes)
		for i, v := range values {
			divisor := wrong.classDivisor(public, drawn[i/per])
			m.values = append(m.values, float32(v/divisor+w.Background))
		}
	}
	return m, nil
}

// means returns the noisy means of a run: those that it released before, or new ones
// that the ledger pays for.
func (r *run) means(w WarmStart, set *dataset.Set, o Options) (*meanImages, error) {
	q, path := r.plan.query(meansRun), r.released(meansFile)
	side := r.plan.Size / w.Cell
	m, err := readMeans(path, len(r.plan.Classes), side, r.plan.Channels)
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	left := r.left(meansRun)
	if left == 0 {
		return nil, r.lostResult(q)
	}
	noise, sampler, err := querySecrets(q, set.Len(), o)
	if err != nil {
		return nil, err
	}
	m, err = noisyMeans(w, set, len(r.plan.Classes), r.config.Data.Examples, left, q.Event, noise, sampler, r.ask(q), o.wrong)
	if err != nil {
		return nil, err
	}
	return m, m.write(path)
}

// write keeps the means in a release folder.
func (m *meanImages) write(path string) error {
	shape := []int{len(m.values) / (m.classes * m.side * m.side * m.channels), m.classes, m.side, m.side, m.channels}
	list := []safetensors.Tensor{safetensors.FromFloat32s("means", shape, m.values)}
	err := wholefile.Create(path, 0o644, func(w io.Writer) error { return safetensors.Encode(w, list, nil) })
	if err != nil {
		return fmt.Errorf("save noisy means: %w", err)
	}
	return nil
}

func readMeans(path string, classes, side, channels int) (*meanImages, error) {
	list, _, err := safetensors.Read(path)
	if err != nil {
		return nil, fmt.Errorf("read noisy means: %w", err)
	}
	m := &meanImages{classes: classes, side: side, channels: channels}
	if len(list) != 1 {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), errDamaged)
	}
	if m.values, err = list[0].Float32s(); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	if per := classes * side * side * channels; len(m.values) == 0 || len(m.values)%per != 0 {
		return nil, fmt.Errorf("%s has %d values, want a multiple of %d: %w", filepath.Base(path), len(m.values), per, errDamaged)
	}
	return m, nil
}

// deviation of the noise on a mean, in grey levels of [-1, 1].
func (w WarmStart) deviation(q *Query, examples, classes int) float64 {
	return q.Event.NoiseMultiplier * w.ClippingNorm / w.divisor(q.Event, examples, classes)
}

// divisor is what the noised sum of a class is divided by, from public numbers: as
// many of its images as would be expected if the classes were equal.
func (w WarmStart) divisor(e accountant.Event, examples, classes int) float64 {
	return e.SamplingProbability * float64(examples) / float64(classes)
}

// images returns the means as images of a size, between the cells' centres
// linearly, so that noise is no chessboard.
func (m *meanImages) images(size int, classes []string) *dataset.Set {
	per := m.side * m.side * m.channels
	n := len(m.values) / per
	set := &dataset.Set{Height: size, Width: size, Channels: m.channels, Classes: classes, Pixels: make([]byte, n*size*size*m.channels)}
	scale := float64(m.side) / float64(size)
	near := func(p int) (low, high int, w float64) {
		at := min(max((float64(p)+0.5)*scale-0.5, 0), float64(m.side-1))
		low = int(at)
		return low, min(low+1, m.side-1), at - float64(low)
	}
	for i := range n {
		set.Labels = append(set.Labels, i%m.classes)
		v, image := m.values[i*per:(i+1)*per], set.Image(i)
		for y := range size {
			y0, y1, wy := near(y)
			for x := range size {
				x0, x1, wx := near(x)
				for k := range m.channels {
					at := func(y, x int) float64 { return float64(v[(y*m.side+x)*m.channels+k]) }
					top, bottom := at(y0, x0)*(1-wx)+at(y0, x1)*wx, at(y1, x0)*(1-wx)+at(y1, x1)*wx
					grey := (top*(1-wy)+bottom*wy+1)*127.5 + 0.5
					image[(y*size+x)*m.channels+k] = byte(min(max(grey, 0), 255))
				}
			}
		}
	}
	return set
}
