package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/audit"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/report"
)

// miaAudit is what audit mia prints and keeps. All of it is private.
type miaAudit struct {
	Claim      float64        `json:"claim"`
	Delta      float64        `json:"delta"`
	Members    int            `json:"members"`
	NonMembers int            `json:"non_members"`
	Attacks    []attackResult `json:"attacks"`
	Control    *controlMade   `json:"control,omitempty"`
	Broken     []string       `json:"broken,omitempty"`
	Notes      []string       `json:"notes,omitempty"`
	Covered    bool           `json:"covered"` // Never.
	Note       string         `json:"note"`
}

// attackResult is one attack on the run's model, on the public base model, which
// saw neither set, and on the control.
type attackResult struct {
	Attack  audit.Attack `json:"attack"`
	Model   *audit.ROC   `json:"model"`
	Base    *audit.ROC   `json:"base,omitempty"`
	Control *audit.ROC   `json:"control,omitempty"`
}

// controlMade says how the control was made.
type controlMade struct {
	Images int  `json:"images"`
	Steps  int  `json:"steps"`
	Caught bool `json:"caught"`
}

// controlAUC is what the best attack must reach on the control.
const controlAUC = 0.7

// miaFlags of audit mia.
type miaFlags struct {
	private privateFlags
	attacks []string
	count   int
}

func newAuditMIA() *cobra.Command {
	var f miaFlags
	c := &cobra.Command{
		Use:   "mia RUN --held-out REAL",
		Short: "Test whether a run's model tells its training images from others",
		Long: `mia scores training images and held-out images by four membership tests of the
model (loss, secmi, pia, sima), and prints for each the area under the curve with a
95 % interval (0.5 is a coin), and the share of training images that is recognised
at 1 % and 0.1 % false alarms.

The held-out images must be of the same kind as the private ones, split off at
random: otherwise the tests tell the kinds apart. The public base model saw neither;
its figures stand beside, and should be 0.5.

--control also trains a model without privacy on a few of the private images, for
many steps, which the tests must catch: an area above 0.7. It is thrown away.

Everything is computed from private images: it is not covered by the claim and
stays in private/. Exit code 6: a test is better than the claim allows. Exit code 1:
the control was not caught, so the tests say nothing.`,
		Example: "  scumble audit mia runs/clinic --held-out clinic-test --control",
		Args:    exactly("RUN"),
		RunE:    func(c *cobra.Command, args []string) error { return f.run(c, args[0]) },
	}
	c.Flags().SortFlags = false
	c.Flags().StringSliceVar(&f.attacks, "attack", []string{"all"}, "`NAMES` of tests: loss,secmi,pia,sima, or all")
	c.Flags().IntVar(&f.count, "count", 1000, "`IMAGES` of either kind that are scored, chosen at random")
	f.private.add(c)
	return c
}

func (f *miaFlags) run(c *cobra.Command, run string) error {
	names := make([]string, 0, 4)
	for _, k := range audit.Attacks() {
		names = append(names, string(k))
	}
	chosen, err := choose("--attack", f.attacks, names)
	if err != nil {
		return err
	}
	if len(chosen) == 0 {
		return misuse(fmt.Errorf("--attack is none, want some of %v", names))
	}
	if f.count < 20 {
		return misuse(fmt.Errorf("--count is %d, want at least 20: fewer say nothing", f.count))
	}
	var attacks []audit.Attack
	for _, n := range chosen {
		attacks = append(attacks, audit.Attack(n))
	}
	p, err := f.private.open(c, run)
	if err != nil {
		return err
	}
	defer p.close()
	found, err := p.membership(c.Context(), attacks, f.count)
	if err != nil {
		return err
	}
	if err := keepAudit(run, miaFile, found, false); err != nil {
		return err
	}
	if f.private.session.json {
		err = printJSON(c, found)
	} else {
		err = found.print(c.OutOrStdout())
	}
	if err != nil {
		return err
	}
	if err := broken(found.Broken); err != nil {
		return err
	}
	return found.Control.check()
}

// check is an error where a control was not caught.
func (m *controlMade) check() error {
	if m == nil || m.Caught {
		return nil
	}
	return withHint(fmt.Errorf("the control, a model without privacy, was not caught: this audit says nothing about the run"),
		"train it longer or on fewer images: --control-steps, --control-images")
}

// membership runs the tests on the run's model, the base model and the control.
func (p *privateAudit) membership(ctx context.Context, attacks []audit.Attack, count int) (*miaAudit, error) {
	found := &miaAudit{Claim: p.claim, Delta: p.delta, Note: notCoveredNote}
	members, others := pick(p.training, count, 1), pick(p.heldOut, count, 2)
	found.Members, found.NonMembers = members.Len(), others.Len()
	model, err := p.model()
	if err != nil {
		return nil, err
	}
	rocs, err := p.attack(ctx, "run's model", model, members, others, attacks)
	if err != nil {
		return nil, err
	}
	for i, k := range attacks {
		found.Attacks = append(found.Attacks, attackResult{Attack: k, Model: rocs[i]})
		for _, at := range rocs[i].Above(p.claim, p.delta) {
			found.Broken = append(found.Broken, fmt.Sprintf("attack %s recognises %.3g of the training images at a false positive rate of %g, more than epsilon %.4g allows", k, at.TruePositiveRate, at.FalsePositiveRate, p.claim))
		}
	}
	if base := p.baseline(); base != nil {
		if rocs, err = p.attack(ctx, "base model", base, members, others, attacks); err != nil {
			return nil, err
		}
		for i, k := range attacks {
			found.Attacks[i].Base = rocs[i]
			if !rocs[i].Covers() {
				found.Notes = append(found.Notes, fmt.Sprintf("attack %s tells the two sets apart by the public base model already (area %.3f), which saw neither: they may be of different kinds, or chance", k, rocs[i].AUC))
			}
		}
	}
	if !p.flags.control {
		return found, nil
	}
	control, images, err := p.trainControl(ctx)
	if err != nil {
		return nil, err
	}
	if rocs, err = p.attack(ctx, "control", control, images, pick(p.heldOut, max(count, images.Len()), 2), attacks); err != nil {
		return nil, err
	}
	found.Control = &controlMade{Images: images.Len(), Steps: p.flags.controlSteps}
	for i := range attacks {
		found.Attacks[i].Control = rocs[i]
		found.Control.Caught = found.Control.Caught || rocs[i].AUCLow > controlAUC
	}
	return found, nil
}

// attack runs the tests on a model.
func (p *privateAudit) attack(ctx context.Context, what string, m *checkpoint.Model, members, others *dataset.Set, attacks []audit.Attack) ([]*audit.ROC, error) {
	branches, err := finetune.Branches(m)
	if err != nil {
		return nil, err
	}
	set := "training"
	a, err := audit.NewMembership(p.session.backend, m, audit.MembershipOptions{
		Lowering: p.session.lowering, Adapter: branches, Workers: p.session.workers, Seed: sampleSeed,
		Report: func(done, total int) {
			p.session.talk.progress(done == total, "tests of the %s: %s images, %d %%", what, set, 100*done/total)
		},
	})
	if err != nil {
		return nil, err
	}
	defer a.Close()
	in, err := a.Scores(ctx, relabel(members, m), attacks)
	if err != nil {
		return nil, err
	}
	set = "held-out"
	out, err := a.Scores(ctx, relabel(others, m), attacks)
	if err != nil {
		return nil, err
	}
	var rocs []*audit.ROC
	for _, k := range attacks {
		rocs = append(rocs, audit.NewROC(in[k], out[k]))
	}
	return rocs, nil
}

// print writes the figures for people.
func (a *miaAudit) print(out io.Writer) error {
	text := fmt.Sprintf("%d training and %d held-out images; claim epsilon %.4f at delta %g\n", a.Members, a.NonMembers, a.Claim, a.Delta)
	line := func(attack audit.Attack, what string, r *audit.ROC) {
		if r == nil {
			return
		}
		text += fmt.Sprintf("  %-6s %-12s AUC %.4f (%.4f to %.4f)", attack, what, r.AUC, r.AUCLow, r.AUCHigh)
		for _, at := range r.At {
			text += fmt.Sprintf(", %.2f %% (%.2f to %.2f) at %g %% false alarms", 100*at.TruePositiveRate, 100*at.Low, 100*at.High, 100*at.FalsePositiveRate)
		}
		text += "\n"
	}
	for _, k := range a.Attacks {
		line(k.Attack, "run", k.Model)
		line(k.Attack, "base model", k.Base)
		line(k.Attack, "control", k.Control)
	}
	for _, n := range a.Notes {
		text += "note: " + n + "\n"
	}
	_, err := io.WriteString(out, text+"note: "+a.Note+"\n")
	return err
}

// fillMembership adds the tests to the private report.
func fillMembership(run *report.Run, dir string) error {
	var m miaAudit
	ok, err := readAudit(dir, miaFile, &m)
	if !ok || err != nil {
		return err
	}
	a := report.Audit{Name: "Membership tests", Note: brokenNote(m.Broken, m.Note)}
	add := func(what string, r *audit.ROC, want string, leaks bool) {
		if r == nil {
			return
		}
		a.Rows = append(a.Rows, report.AuditRow{What: what + ", area under the curve", Value: fmt.Sprintf("%.4f", r.AUC),
			Interval: fmt.Sprintf("%.4f to %.4f", r.AUCLow, r.AUCHigh), Want: want})
		for _, at := range r.At {
			expected := fmt.Sprintf("%g %%", 100*at.FalsePositiveRate)
			if leaks {
				expected = "more than " + expected
			}
			a.Rows = append(a.Rows, report.AuditRow{What: fmt.Sprintf("%s, recognised at %g %% false alarms", what, 100*at.FalsePositiveRate), Want: expected,
				Value: fmt.Sprintf("%.2f %%", 100*at.TruePositiveRate), Interval: fmt.Sprintf("%.2f to %.2f %%", 100*at.Low, 100*at.High)})
		}
	}
	for _, k := range m.Attacks {
		add("attack "+string(k.Attack), k.Model, "0.5", false)
		add("attack "+string(k.Attack)+" on the base model", k.Base, "0.5", false)
		add("attack "+string(k.Attack)+" on the control", k.Control, fmt.Sprintf("above %g: it has no privacy", controlAUC), true)
	}
	run.Audits = append(run.Audits, a)
	return nil
}

// baseline returns the public base model with the run's classes, or nil where it
// does not know them all.
func (p *privateAudit) baseline() *checkpoint.Model {
	m, err := loadBase(p.config.Base)
	if err != nil || !slices.Equal(p.training.Classes, commonClasses(m.Classes, p.training.Classes)) {
		return nil
	}
	return m
}

// commonClasses returns those of want that have has.
func commonClasses(have, want []string) []string {
	var out []string
	for _, name := range want {
		if slices.Contains(have, name) {
			out = append(out, name)
		}
	}
	return out
}

// relabel returns the set with the labels that the model has for its classes.
func relabel(set *dataset.Set, m *checkpoint.Model) *dataset.Set {
	if slices.Equal(set.Classes, m.Classes) {
		return set
	}
	out := *set
	out.Classes, out.Labels = m.Classes, make([]int, len(set.Labels))
	for i, l := range set.Labels {
		out.Labels[i] = max(0, slices.Index(m.Classes, set.Classes[l]))
	}
	return &out
}
