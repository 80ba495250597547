package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/generate"
	"github.com/scumble-dp/scumble/nn"
)

// SampleOptions of Sample.
type SampleOptions struct {
	Workload string
	Batch    int // Images of a round. Zero means 64.
	Steps    int // Network calls per image. Zero means 50.
	Sampler  diffusion.SamplerName
	Rounds   int // Timed batches. Zero means 3.

	PhysicalBatch int
	Workers       int // Calls to the backend at the same time, which share a batch. Zero means 1.
	Lowering      nn.Lowering
	Report        func(done, total int) // If not nil, is told of images sampled.
}

// SampleResult is what Sample measured.
type SampleResult struct {
	ImagesPerSecond    float64 `json:"images_per_second"`
	SecondsPerBatch    float64 `json:"seconds_per_batch"`
	CPUSecondsPerBatch float64 `json:"cpu_seconds_per_batch"` // Processor time, user and system.
	CompileSeconds     float64 `json:"compile_seconds"`       // By which the first batch took longer.
	PeakRSS            int64   `json:"peak_rss_bytes"`        // Of the process so far; 0 where the system does not say.
	Backend            string  `json:"backend"`

	Workload      string                `json:"workload"`
	Sampler       diffusion.SamplerName `json:"sampler"`
	Steps         int                   `json:"steps"`
	Batch         int                   `json:"batch"`
	Rounds        int                   `json:"rounds"`
	Workers       int                   `json:"workers"`
	PhysicalBatch int                   `json:"physical_batch"`
}

func (o *SampleOptions) setDefaults() {
	o.Batch, o.Steps, o.Rounds, o.Workers = orElse(o.Batch, 64), orElse(o.Steps, 50), orElse(o.Rounds, 3), orElse(o.Workers, 1)
	if o.Sampler == "" {
		o.Sampler = diffusion.UseDDIM
	}
}

func orElse(v, zero int) int {
	if v == 0 {
		return zero
	}
	return v
}

// Validate reports the first option that is out of range.
func (o *SampleOptions) Validate() error {
	switch {
	case !slices.Contains(Workloads, o.Workload):
		return fmt.Errorf("workload is %q, want one of %q", o.Workload, Workloads)
	case min(o.Batch, o.Steps, o.Rounds, o.Workers, o.PhysicalBatch) < 0:
		return fmt.Errorf("batch %d, steps %d, rounds %d, workers %d, images per call %d: want none negative", o.Batch, o.Steps, o.Rounds, o.Workers, o.PhysicalBatch)
	case o.PhysicalBatch > 0 && o.Batch%o.PhysicalBatch != 0:
		return fmt.Errorf("batch %d is not divided by %d images per call", o.Batch, o.PhysicalBatch)
	}
	return nil
}

// Sample times sampling without guidance from the UNet of a workload with random
// weights: from initial noise to images, or to latents for the latent one. The first
// batch, with which programs are compiled, is not counted.
func Sample(ctx context.Context, backend compute.Backend, o SampleOptions) (*SampleResult, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	w, err := NewWorkload(backend, o.Workload, None)
	if err != nil {
		return nil, err
	}
	m, size := w.generator()
	if o.PhysicalBatch == 0 {
		o.PhysicalBatch = min(generate.BatchSize(o.Lowering, size), max(1, o.Batch/o.Workers))
		for o.Batch%o.PhysicalBatch != 0 {
			o.PhysicalBatch--
		}
	}
	var at []time.Time
	var spent []time.Duration
	mark := func() { at, spent = append(at, time.Now()), append(spent, cpuTime()) }
	total := (o.Rounds + 1) * o.Batch
	mark()
	_, err = generate.Images(ctx, backend, m, size, generate.Balanced(total, len(m.Classes)), generate.Options{
		Sampler: o.Sampler, Steps: o.Steps, Lowering: o.Lowering, Workers: o.Workers, BatchSize: o.PhysicalBatch, Seed: 1,
		Report: func(done, total int) {
			if done >= len(at)*o.Batch {
				mark()
			}
			if o.Report != nil {
				o.Report(done, total)
			}
		},
	})
	if err != nil {
		return nil, err
	}
	rounds := float64(len(at) - 2)
	r := &SampleResult{
		SecondsPerBatch:    at[len(at)-1].Sub(at[1]).Seconds() / rounds,
		CPUSecondsPerBatch: (spent[len(at)-1] - spent[1]).Seconds() / rounds,
		PeakRSS:            peakRSS(), Backend: backend.Name(),
		Workload: o.Workload, Sampler: o.Sampler, Steps: o.Steps, Batch: o.Batch, Rounds: o.Rounds, Workers: o.Workers, PhysicalBatch: o.PhysicalBatch,
	}
	r.ImagesPerSecond = float64(o.Batch) / r.SecondsPerBatch
	r.CompileSeconds = max(0, at[1].Sub(at[0]).Seconds()-r.SecondsPerBatch)
	return r, nil
}
