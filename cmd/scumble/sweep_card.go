package main

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/sweep"
)

// distances adds FID and KID of synthetic images to the test images.
func (w *sweeping) distances(ctx context.Context, r *sweep.Result, synthetic *dataset.Set) error {
	if w.network == nil {
		network, err := eval.Glyphs(w.session.backend, eval.NetworkOptions{Lowering: w.session.lowering, Workers: w.session.workers})
		if err != nil {
			return err
		}
		w.network = network
	}
	if w.real == nil {
		real, err := w.network.Features(ctx, w.test, nil)
		if err != nil {
			return err
		}
		w.real = real
	}
	features, err := w.network.Features(ctx, synthetic, nil)
	if err != nil {
		return err
	}
	fid, err := eval.FID(features, w.real)
	if err != nil {
		return err
	}
	kid, _, err := eval.KID(features, w.real, eval.KIDOptions{})
	if err != nil {
		return err
	}
	r.FID, r.KID = &fid, &kid
	return nil
}

func (w *sweeping) close() {
	if w.network != nil {
		w.network.Close()
	}
}

// card is the table with what is needed to make it again.
func (w *sweeping) card(all []sweep.Summary) string {
	build := thisBuild()
	var b strings.Builder
	fmt.Fprintf(&b, "# Sweep %s\n\n", w.path)
	line := func(format string, args ...any) { fmt.Fprintf(&b, "- "+format+"\n", args...) }
	line("Command: `scumble sweep %s --out DIR`, scumble %s, revision %s", w.path, build.Version, build.revision())
	line("Machine: %d cores, %s, %s; peak memory %.1f GiB; %s", runtime.NumCPU(), build.Platform, w.session.info, float64(peakBytes())/(1<<30), time.Now().UTC().Format(time.DateOnly))
	line("Runs of each row: %d, each with new noise and batches; the classifier's seed is the number of the run, samples have seed %d", w.sweep.Repeats, sampleSeed)
	line("Accuracy: `cnn` trained on the synthetic images, on %s", images(w.sweep.Public.Test))
	line("Playing the private images: %s", images(w.sweep.Public.Train))
	line("Epsilon: of each run's ledger by the PLD accountant (in brackets by contour integral), add-or-remove, rounded up")
	if w.sweep.Metrics {
		line("FID and KID: to the same test images, by the feature network that scumble carries: for comparisons within this table")
	}
	b.WriteString("\n" + sweep.Table(all))
	return b.String()
}

// images says which images.
func images(i sweep.Images) string {
	if i.Path != "" {
		return i.Path
	}
	of := "rendered " + i.Renderer
	if i.Held {
		of = "held-out " + of
	}
	if i.Count > 0 {
		of = fmt.Sprintf("%d %s", i.Count, of)
	}
	return fmt.Sprintf("%s, seed %d", of, i.Seed)
}
