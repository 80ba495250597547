package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/audit"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/generate"
	"github.com/scumble-dp/scumble/report"
)

// replicaAudit is what audit replicas prints and keeps. All of it is private.
type replicaAudit struct {
	Run     *audit.Replicas `json:"run"`
	Found   bool            `json:"found"`
	Control *audit.Replicas `json:"control,omitempty"`
	Made    *controlMade    `json:"control_made,omitempty"`
	Covered bool            `json:"covered"` // Never.
	Note    string          `json:"note"`
}

func newAuditReplicas() *cobra.Command {
	var f privateFlags
	var samples int
	c := &cobra.Command{
		Use:   "replicas RUN --held-out REAL",
		Short: "Look for training images among a run's synthetic ones",
		Long: `replicas measures how near each released synthetic image is to the private
training images: the distance to the nearest one as a share of the mean distance to
the nearest 50. The threshold is the share that one held-out image in a hundred falls
below, so that without copying about 1 % of the images are below it, or fewer. It
also counts the images that are nearer to a training image than to any of as many
held-out images: half of them without copying.

--control also trains a model without privacy on a few private images and looks for
those among its samples, where it must find them.

Everything is computed from private images: it is not covered by the claim and
stays in private/. Exit code 1: the control was not caught.`,
		Example: "  scumble audit replicas runs/clinic --held-out clinic-test --control",
		Args:    exactly("RUN"),
		RunE: func(c *cobra.Command, args []string) error {
			if samples < 20 {
				return misuse(fmt.Errorf("--control-samples is %d, want at least 20", samples))
			}
			p, err := f.open(c, args[0])
			if err != nil {
				return err
			}
			defer p.close()
			found, err := p.replicas(c.Context(), samples)
			if err != nil {
				return err
			}
			if err := keepAudit(args[0], replicasFile, found, false); err != nil {
				return err
			}
			if f.session.json {
				err = printJSON(c, found)
			} else {
				err = found.print(c.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return found.Made.check()
		},
	}
	c.Flags().SortFlags = false
	f.add(c)
	c.Flags().IntVar(&samples, "control-samples", 500, "`COUNT` of images that are drawn from the control")
	return c
}

// replicas searches the run's synthetic images, and the control's.
func (p *privateAudit) replicas(ctx context.Context, samples int) (*replicaAudit, error) {
	folder := filepath.Join(p.run, finetune.ReleaseDir, syntheticDir)
	if !dirExists(folder) {
		return nil, invalid(withHint(fmt.Errorf("run %s has no synthetic images", p.run), "set sampling.count in the config of the run"))
	}
	synthetic, err := dataset.Open(folder, dataset.Options{})
	if err != nil {
		return nil, err
	}
	found := &replicaAudit{Note: notCoveredNote}
	p.session.talk.say("comparing %d synthetic images with the training images and the held-out ones", synthetic.Len())
	if found.Run, err = audit.FindReplicas(ctx, p.training, p.heldOut, synthetic); err != nil {
		return nil, err
	}
	found.Found = found.Run.Found()
	if !p.flags.control {
		return found, nil
	}
	m, images, err := p.trainControl(ctx)
	if err != nil {
		return nil, err
	}
	drawn, err := p.sample(ctx, m, samples)
	if err != nil {
		return nil, err
	}
	if found.Control, err = audit.FindReplicas(ctx, images, p.heldOut, drawn); err != nil {
		return nil, err
	}
	found.Made = &controlMade{Images: images.Len(), Steps: p.flags.controlSteps, Caught: found.Control.Found()}
	return found, nil
}

// sample draws from the control. The images are never written.
func (p *privateAudit) sample(ctx context.Context, m *checkpoint.Model, count int) (*dataset.Set, error) {
	return p.session.sample(ctx, "samples of the control", m, generate.Balanced(count, len(m.Classes)), sampleSeed, p.config.Sampling)
}

// replicaRows describes a search.
func replicaRows(what string, r *audit.Replicas) []report.AuditRow {
	if r == nil {
		return nil
	}
	row := func(name string, s audit.Share, want string) report.AuditRow {
		return report.AuditRow{What: what + name, Value: fmt.Sprintf("%.2f %%", 100*s.Value), Interval: fmt.Sprintf("%.2f to %.2f %%", 100*s.Low, 100*s.High), Want: want}
	}
	return []report.AuditRow{
		row(", below the threshold", r.Rate, fmt.Sprintf("at most %.2f %%, as of held-out images", 100*r.HeldOutRate.Value)),
		row(", nearer to training images than to held-out ones", r.Nearer, "50 %"),
	}
}

// print writes the shares for people.
func (a *replicaAudit) print(out io.Writer) error {
	text := ""
	for _, part := range []struct {
		what string
		*audit.Replicas
	}{{"run", a.Run}, {"control", a.Control}} {
		if r := part.Replicas; r != nil {
			text += fmt.Sprintf("%s: %d synthetic, %d training, %d held-out images; threshold %.4f\n", part.what, r.Synthetic, r.Training, r.HeldOut, r.Threshold)
			for _, row := range replicaRows("", r) {
				text += fmt.Sprintf("  %-50s %s (%s), want %s\n", row.What[2:], row.Value, row.Interval, row.Want)
			}
		}
	}
	if a.Found {
		text += "note: more synthetic images are near training images than chance allows; look at them before you release\n"
	}
	_, err := io.WriteString(out, text+"note: "+a.Note+"\n")
	return err
}

// fillReplicas adds the search to the private report.
func fillReplicas(run *report.Run, dir string) error {
	var a replicaAudit
	ok, err := readAudit(dir, replicasFile, &a)
	if !ok || err != nil {
		return err
	}
	rows := append(replicaRows("synthetic images", a.Run), replicaRows("images of the control", a.Control)...)
	run.Audits = append(run.Audits, report.Audit{Name: "Search for replicas", Rows: rows, Note: a.Note})
	return nil
}
