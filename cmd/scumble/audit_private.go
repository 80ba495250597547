package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/audit"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
)

// privateFlags are those of audits that compare private images with others.
type privateFlags struct {
	session       sessionFlags
	data, heldOut string
	control       bool
	controlImages int
	controlSteps  int
}

func (f *privateFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&f.heldOut, "held-out", "", "`PATH` of like images that were not trained on: class folders, or IDX (its test split)")
	c.Flags().StringVar(&f.data, "data", "", "`PATH` of the private images, if not where the config says")
	c.Flags().BoolVar(&f.control, "control", false, "also attack a model that is trained without privacy, which must be caught")
	c.Flags().IntVar(&f.controlImages, "control-images", 100, "`COUNT` of private images that the control is trained on")
	c.Flags().IntVar(&f.controlSteps, "control-steps", 600, "`UPDATES` of the control, 32 images each")
	f.session.add(c)
}

// privateAudit is an audit of a run with its private images at hand.
type privateAudit struct {
	flags    *privateFlags
	session  *session
	run      string
	config   *finetune.Config
	claim    float64
	delta    float64
	training *dataset.Set // Private.
	heldOut  *dataset.Set
}

// open reads the run and both sets of images.
func (f *privateFlags) open(c *cobra.Command, run string) (*privateAudit, error) {
	if f.heldOut == "" {
		return nil, misuse(errors.New("--held-out is missing, want images like the private ones that were not trained on"))
	}
	if f.controlImages < 20 || f.controlSteps < 1 {
		return nil, misuse(fmt.Errorf("--control-images is %d and --control-steps %d, want at least 20 and 1", f.controlImages, f.controlSteps))
	}
	if !dirExists(filepath.Join(run, finetune.PrivateDir)) {
		return nil, invalid(fmt.Errorf("%s is not a run directory, want the --out of scumble finetune", run))
	}
	config, err := finetune.ReadConfig(filepath.Join(run, finetune.ConfigFile))
	if err != nil {
		return nil, err
	}
	p := &privateAudit{flags: f, run: run, config: config, delta: config.Privacy.Delta}
	r, err := loadResults(run)
	if err != nil {
		return nil, err
	}
	p.claim = r.Plan.Epsilon
	data := f.data
	if data == "" {
		data = config.Data.Path
	}
	o := config.Data.Options(r.Plan.Size, r.Plan.Channels, r.Plan.Classes)
	if p.training, err = dataset.Open(data, o); err != nil {
		if f.session.json {
			err = conceal(err, data, r.Plan)
		}
		return nil, err
	}
	o.Split, o.Labels, o.AllowEmpty = dataset.Test, "", true
	if p.heldOut, err = dataset.Open(f.heldOut, o); err != nil {
		if f.session.json {
			err = conceal(err, f.heldOut, r.Plan)
		}
		return nil, err
	}
	p.session, err = f.session.open(c)
	return p, err
}

func (p *privateAudit) close() { p.session.close() }

// model loads the run's released model.
func (p *privateAudit) model() (*checkpoint.Model, error) {
	return checkpoint.Load(filepath.Join(p.run, finetune.ReleaseDir, "model"))
}

// pick returns up to count images, chosen at random by a fixed seed.
func pick(s *dataset.Set, count int, seed uint64) *dataset.Set {
	if s.Len() <= count {
		return s
	}
	return s.Subset(rand.New(rand.NewPCG(seed, 1)).Perm(s.Len())[:count])
}

// trainControl makes a model without privacy from the run's, on a few private
// images, which it returns too. It is never written anywhere.
func (p *privateAudit) trainControl(ctx context.Context) (*checkpoint.Model, *dataset.Set, error) {
	m, err := p.model()
	if err != nil {
		return nil, nil, err
	}
	branches, err := finetune.Branches(m)
	if err != nil {
		return nil, nil, err
	}
	images := pick(p.training, p.flags.controlImages, 1)
	start := time.Now()
	err = audit.TrainControl(ctx, p.session.backend, m, images, audit.ControlOptions{
		Steps: p.flags.controlSteps, Lowering: p.session.lowering, Adapter: branches, Workers: p.session.workers, Seed: sampleSeed,
		Report: func(step, steps int) {
			left := time.Since(start).Seconds() / float64(step) * float64(steps-step)
			p.session.talk.progress(step == steps, "control, without privacy: step %d/%d, %s left", step, steps, short(time.Duration(left*float64(time.Second))))
		},
	})
	return m, images, err
}
