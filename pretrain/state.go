package pretrain

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
)

// ErrUnfinished is that of an unfinished training that cannot go on.
var ErrUnfinished = errors.New("unfinished training cannot go on")

// state is what a training that was interrupted goes on from: images, noise and
// timesteps are functions of the seed and the step, so it ends with the weights that it would
// have had.
type state struct {
	Recipe  string // Digest of the recipe and of the model that lends weights.
	Stage   string
	Step    int
	Weights []float32 // Of the whole model, as they were before this stage.
	Trainer optim.TrainerState
}

// progressFile keeps the state of a training on disk.
type progressFile struct {
	path    string // "" keeps none.
	recipe  string
	weights *nn.Weights // Of the whole model.

	found *state // What training goes on from, until its stage begins.
	saved time.Time
	took  time.Duration // Of the last time it was written.
}

// saveEvery is the least time between two states; with large models, whose states take
// long to write, it is more.
const saveEvery = 2 * time.Minute

// openProgress reads the state at a path, if there is one, into the weights.
func openProgress(path string, c *Config, base *checkpoint.Model, weights *nn.Weights) (*progressFile, error) {
	p := &progressFile{path: path, weights: weights, saved: time.Now()}
	if path == "" {
		return p, nil
	}
	var err error
	if p.recipe, err = recipeDigest(c, base); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var s state
	if err := gob.NewDecoder(f).Decode(&s); err != nil {
		return nil, fmt.Errorf("%w: %s: %w; remove it to begin again", ErrUnfinished, path, err)
	}
	if s.Recipe != p.recipe || len(s.Weights) != weights.Size() {
		return nil, fmt.Errorf("%w: %s is of another recipe, or of another model that lends its autoencoder; remove it to begin again", ErrUnfinished, path)
	}
	weights.SetFlat(weights.Names(), s.Weights)
	p.found = &s
	return p, nil
}

// recipeDigest names what decides the weights, apart from rounding.
func recipeDigest(c *Config, base *checkpoint.Model) (string, error) {
	h := sha256.New()
	if err := json.NewEncoder(h).Encode(c); err != nil {
		return "", err
	}
	if base != nil {
		for _, t := range base.Weights.All() {
			fmt.Fprintln(h, t.Name, t.Shape)
			if err := binary.Write(h, binary.LittleEndian, t.Data); err != nil {
				return "", err
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// begin returns the step from which a stage goes on, and whether it was finished before.
func (p *progressFile) begin(stage string, t *optim.Trainer) (step int, done bool, err error) {
	switch s := p.found; {
	case s == nil:
		return 0, false, nil
	case s.Stage != stage:
		return 0, true, nil
	default:
		p.found = nil
		if err := t.Restore(s.Trainer); err != nil {
			return 0, false, fmt.Errorf("%w: %s: %w", ErrUnfinished, p.path, err)
		}
		return s.Step, false, nil
	}
}

// keep writes the state after a step, if it is time to, or the training ends or was interrupted.
func (p *progressFile) keep(ctx context.Context, stage string, step int, last bool, t *optim.Trainer) error {
	if p.path == "" || !last && ctx.Err() == nil && time.Since(p.saved) < saveEvery+20*p.took {
		return nil
	}
	start := time.Now()
	s := state{p.recipe, stage, step, p.weights.Flatten(p.weights.Names()), t.State()}
	if err := wholefile.Create(p.path, 0o644, func(w io.Writer) error { return gob.NewEncoder(w).Encode(s) }); err != nil {
		return fmt.Errorf("save unfinished training: %w", err)
	}
	p.saved, p.took = time.Now(), time.Since(start)
	return nil
}
