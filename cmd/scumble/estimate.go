package main

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/internal/ram"
	"github.com/scumble-dp/scumble/nn"
)

// estimate is what a run should take: counted, not measured.
type estimate struct {
	Work       *finetune.Work       `json:"work"`
	Machines   []finetune.Estimated `json:"machines"`    // The graphics card, then this machine.
	Efficiency float64              `json:"efficiency"`  // Share of the peak that is assumed.
	HereGFLOPS float64              `json:"here_gflops"` // Measured, of products, all workers together.
	Assumes    string               `json:"assumes"`
}

const estimateAssumes = "an estimate, not a measurement: operations are counted from shapes, and a step is assumed to reach 30 % of the peak rate. " +
	"Memory is weights, sums and the arrays of a call, less what a compiler saves or wastes. " +
	"Compiling, encoding of images, noise, the optimizer and sampling are not in it. No graphics card was at hand to check it"

// counted is the model of a plan.
type counted interface {
	Estimate(backend compute.Backend, lowering nn.Lowering, c *finetune.Config, plan *finetune.Plan) (*finetune.Work, error)
}

// estimate counts a plan's work, and says what it takes on a card and here.
func (s *session) estimate(c *finetune.Config, plan *finetune.Plan, model counted, card finetune.GPU) (*estimate, error) {
	work, err := model.Estimate(s.backend, s.lowering, c, plan)
	if err != nil {
		return nil, err
	}
	rate, err := s.productRate()
	if err != nil {
		return nil, fmt.Errorf("time a product: %w", err)
	}
	free, _ := ram.Free()
	here := work.Here(fmt.Sprintf("this machine as busy as it is, backend %s, %d cores", s.info.Name, runtime.NumCPU()), rate, free)
	return &estimate{Work: work, Machines: []finetune.Estimated{work.On(card), here}, Efficiency: finetune.Efficiency,
		HereGFLOPS: rate / 1e9, Assumes: estimateAssumes}, nil
}

// productRate measures what products of 1024x1024 matrices reach, in operations a
// second, all workers together: the fastest of several rounds.
func (s *session) productRate() (float64, error) {
	const n, rounds = 1024, 5
	exec, err := graph.NewExec(s.backend, func(x *graph.Node) *graph.Node {
		return graph.ReduceAllSum(graph.Dot(x, graph.AddScalar(x, 1)).Product())
	})
	if err != nil {
		return 0, err
	}
	defer exec.Finalize()
	values := make([][]float32, n)
	for i := range values {
		values[i] = make([]float32, n)
	}
	if _, err := exec.Exec(values); err != nil { // Compiles.
		return 0, err
	}
	best := 0.0
	for range rounds {
		start := time.Now()
		var wg sync.WaitGroup
		errs := make([]error, s.workers)
		for w := range s.workers {
			wg.Go(func() { _, errs[w] = exec.Exec(values) })
		}
		wg.Wait()
		for _, err := range errs {
			if err != nil {
				return 0, err
			}
		}
		best = max(best, float64(s.workers)*2*n*n*n/time.Since(start).Seconds())
	}
	return best, nil
}

// estimateText says what an estimate holds.
func estimateText(e *estimate) string {
	var b strings.Builder
	for i, m := range e.Machines {
		name := ""
		if i == 0 {
			name = "estimate"
		}
		memory := fmt.Sprintf("%s on the card for %d examples a call, %s beside it", size(m.DeviceBytes), m.PhysicalBatch, size(m.HostBytes))
		switch {
		case i > 0:
			memory = fmt.Sprintf("%s for one example a call", size(m.DeviceBytes))
			if !m.Fits {
				memory += ", more than is free"
			}
		case !m.Fits:
			memory = fmt.Sprintf("not even one example a call fits: %s", size(m.DeviceBytes))
		}
		fmt.Fprintf(&b, "%-12s %s: %s for all steps; %s\n", name, m.Machine, hours(m.Hours), memory)
	}
	fmt.Fprintf(&b, "%-12s %.3g TFLOP an example, %.0f of them; %s.\n", "", e.Work.PerExample/1e12, e.Work.Examples, e.Assumes)
	return b.String()
}

// size writes bytes as people say them.
func size(bytes int64) string {
	if bytes < 1<<30 {
		return fmt.Sprintf("%d MiB", (bytes+(1<<20)-1)>>20)
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// hours writes a duration of any length to two digits.
func hours(h float64) string {
	if h < 1 {
		return fmt.Sprintf("%.2g minutes", 60*h)
	}
	return fmt.Sprintf("%.2g hours", h)
}
