package finetune

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/subsample"
)

// queryPrefix begins the names of runs in a ledger that ask something of the
// private images before a run's first step.
const queryPrefix = "query-"

// Query is what a run asks of the private images before its first step. It is
// public, and has a declaration of its own in the ledger.
type Query struct {
	Run   string           `json:"run"`  // Its name in the ledger.
	What  string           `json:"what"` // In public words, with its sensitivity.
	Event accountant.Event `json:"event"`
	// HostBytes is the memory that it takes for as long as it asks, beside images and model.
	HostBytes int64 `json:"host_bytes,omitempty"`
}

func queryEvents(queries []Query) []accountant.Event {
	var all []accountant.Event
	for _, q := range queries {
		all = append(all, q.Event)
	}
	return all
}

// Queries returns the runs of a ledger that asked something before the first step.
func Queries(record *accountant.Record) []accountant.RunStatus {
	var all []accountant.RunStatus
	for _, s := range record.Runs() {
		if strings.HasPrefix(s.ID, queryPrefix) && len(s.Spent) > 0 {
			all = append(all, s)
		}
	}
	return all
}

// queries returns what a config asks before the first step, with its noise.
func (c *Config) queries(plan *Plan) ([]Query, error) {
	var all []Query
	for _, of := range []func(*Plan) (*Query, error){c.classQuery, c.meansQuery, c.teacherQuery} {
		q, err := of(plan)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrConfig, err)
		}
		if q != nil {
			all = append(all, *q)
		}
	}
	return all, nil
}

// cost says what a query may spend: one of the two is set.
type cost struct {
	NoiseMultiplier float64 // Noise standard deviation / sensitivity.
	Share           float64 // The part of privacy.epsilon that the query would cost alone, in (0, 1).
}

func (c cost) on() bool { return c != (cost{}) }

// Bounds of the noise of a query.
const (
	minQueryNoise = 1e-2
	maxQueryNoise = 1e5
)

func (c cost) validate(key string) error {
	if nm := c.NoiseMultiplier; nm != 0 && !(nm >= minQueryNoise && nm <= maxQueryNoise) {
		return fmt.Errorf("%s.noise_multiplier is %g, want %g to %g", key, nm, minQueryNoise, float64(maxQueryNoise))
	}
	if !(c.Share >= 0 && c.Share < 1) {
		return fmt.Errorf("%s.share is %g, want in [0, 1)", key, c.Share)
	}
	if c.NoiseMultiplier != 0 && c.Share != 0 {
		return fmt.Errorf("%s needs noise_multiplier or share, not both", key)
	}
	return nil
}

// noise sets the noise multiplier of an event: the one asked for, or the least with
// which the event alone costs the share of epsilon.
func (c cost) noise(e accountant.Event, p Privacy) (accountant.Event, error) {
	e.NoiseMultiplier = c.NoiseMultiplier
	if c.Share == 0 {
		return e, nil
	}
	var err error
	e.NoiseMultiplier, err = accountant.CalibrateNoiseMultiplier(accountant.PLD{}, nil, e, accountant.AddOrRemove, c.Share*p.Epsilon, p.Delta)
	if err == nil && e.NoiseMultiplier > maxQueryNoise {
		err = fmt.Errorf("share %g of epsilon %g leaves nothing to ask for: the noise would be %g times the sensitivity", c.Share, p.Epsilon, e.NoiseMultiplier)
	}
	return e, err
}

// query returns the query of that name, nil if the plan has none.
func (plan *Plan) query(id string) *Query {
	for i := range plan.Queries {
		if plan.Queries[i].Run == id {
			return &plan.Queries[i]
		}
	}
	return nil
}

// declareQueries gives a new ledger the queries of a run, before the run itself.
func (r *run) declareQueries(dataset, notice string) error {
	for _, q := range r.plan.Queries {
		note := q.What
		if notice != "" {
			note = notice
		}
		if err := r.ledger.Begin(accountant.Run{ID: q.Run, Dataset: dataset, Unit: unit, Neighboring: accountant.AddOrRemove,
			Epsilon: r.config.Privacy.Epsilon, Delta: r.config.Privacy.Delta, Plan: []accountant.Event{q.Event}, Note: note}); err != nil {
			return err
		}
	}
	return nil
}

// authoriseQueries checks that the ledger of a run that goes on declares the
// queries of the plan, and no other, and takes over their noise.
func (plan *Plan) authoriseQueries(record *accountant.Record, dir string) error {
	declared := 0
	for _, s := range record.Runs() {
		if !strings.HasPrefix(s.ID, queryPrefix) {
			continue
		}
		declared++
		q := plan.query(s.ID)
		if q == nil || len(s.Plan) != 1 {
			return fmt.Errorf("%w: the ledger of %s declares %s, which the config does not ask for", ErrConfig, dir, s.ID)
		}
		want := q.Event
		want.NoiseMultiplier = s.Plan[0].NoiseMultiplier
		if s.Plan[0] != want {
			return fmt.Errorf("%w: the ledger of %s declares %+v for %s, the config asks for %+v: one was changed", ErrConfig, dir, s.Plan[0], s.ID, want)
		}
		q.Event = want
	}
	if declared != len(plan.Queries) {
		return fmt.Errorf("%w: the config asks for %d queries before the first step, the ledger of %s declares %d: one was changed", ErrConfig, len(plan.Queries), dir, declared)
	}
	return nil
}

// left returns how often the ledger allows to ask a query still.
func (r *run) left(id string) int {
	n := 0
	for _, s := range r.ledger.Record().Runs() {
		if s.ID == id {
			n = countSteps(s.Left)
		}
	}
	return n
}

// lostResult is the error of a query whose result did not survive.
func (r *run) lostResult(q *Query) error {
	return fmt.Errorf("%w: %s is charged to the ledger of %s, and its result is lost: start a new run with privacy.previous_runs: [%s], or without the query",
		accountant.ErrBudget, q.Run, r.dir, r.dir)
}

// ask records that a query is asked once, before its noise exists.
func (r *run) ask(q *Query) func() error {
	event := q.Event
	event.Count = 1
	return func() error { return r.ledger.Append(accountant.Entry{Run: q.Run, Event: &event}) }
}

// querySecrets returns sources for a query: fresh keys, unless a test asks for a
// seed.
func querySecrets(q *Query, examples int, o Options) (*dpsgd.Noise, *subsample.Poisson, error) {
	if o.InsecureSeed != 0 {
		sampler, err := subsample.NewInsecurePoisson(examples, q.Event.SamplingProbability, o.InsecureSeed+2)
		return dpsgd.NewInsecureNoise(o.InsecureSeed + 3), sampler, err
	}
	noise, err := dpsgd.NewNoise()
	if err != nil {
		return nil, nil, err
	}
	sampler, err := subsample.NewPoisson(examples, q.Event.SamplingProbability)
	return noise, sampler, err
}

// released returns the place of a file in the run's release folder.
func (r *run) released(name string) string { return filepath.Join(r.dir, ReleaseDir, name) }

var errDamaged = errors.New("file of a query is damaged")

// prepare asks what a run asks before its first step, and moves the weights where
// the steps begin. A run that has made a step goes on without.
func (r *run) prepare(ctx context.Context, backend compute.Backend, t *target, tr *trainer, canvas pipeline.Canvas, set *dataset.Set, o Options) error {
	if len(r.plan.Queries) == 0 || r.state != nil {
		return nil
	}
	if r.plan.query(classRun) != nil {
		if err := r.chooseClasses(ctx, backend, t, tr, set, o); err != nil {
			return fmt.Errorf("class_choice: %w", err)
		}
	}
	if r.plan.query(meansRun) != nil {
		w := r.config.WarmStart.resolved(r.plan.Size, r.plan.Channels)
		m, err := r.means(w, set, o)
		if err != nil {
			return fmt.Errorf("warm_start: %w", err)
		}
		if err := r.warmUp(ctx, backend, t, canvas, w, m, o); err != nil {
			return fmt.Errorf("warm_start: %w", err)
		}
	}
	if r.plan.query(teacherRun) != nil {
		if err := r.teach(ctx, backend, t, set, o); err != nil {
			return fmt.Errorf("teacher: %w", err)
		}
	}
	tr.initial = t.weights().Flatten(t.trainable)
	return nil
}
