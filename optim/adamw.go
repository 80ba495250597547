// Package optim turns gradients into weights on the host: AdamW, learning-rate
// schedules and an exponential moving average of the weights.
//
// Under differential privacy all of it is post-processing of gradients that
// are already noised, and costs nothing. This package sees no data.
package optim

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// AdamW is Adam with decoupled weight decay (Loshchilov & Hutter 2019,
// https://arxiv.org/abs/1711.05101). The zero value of a field other than
// LearningRate means the usual default.
type AdamW struct {
	LearningRate float64 // Required.
	Beta1, Beta2 float64 // Zero means 0.9 and 0.999.
	// Epsilon is added to the root of the second moment. Zero means 1e-8, which
	// suits gradients of order one: divide clipped gradients by the clipping
	// norm first, or a small norm would drown in it.
	Epsilon     float64
	WeightDecay float64

	State AdamState
}

// AdamState is what a checkpoint must keep.
type AdamState struct {
	Step          int
	First, Second []float64
}

// Update moves weights against the gradient, with the learning rate scaled by
// the given factor (1 is none).
func (a *AdamW) Update(weights []float32, gradient []float64, factor float64) error {
	if len(weights) != len(gradient) {
		return fmt.Errorf("gradient has %d values, want %d", len(gradient), len(weights))
	}
	b1, b2, eps := orDefault(a.Beta1, 0.9), orDefault(a.Beta2, 0.999), orDefault(a.Epsilon, 1e-8)
	if a.State.First == nil {
		a.State.First = make([]float64, len(weights))
		a.State.Second = make([]float64, len(weights))
	}
	if len(a.State.First) != len(weights) || len(a.State.Second) != len(weights) {
		return fmt.Errorf("optimizer state has %d values, want %d", len(a.State.First), len(weights))
	}
	a.State.Step++
	lr := a.LearningRate * factor
	c1 := 1 - math.Pow(b1, float64(a.State.Step))
	c2 := 1 - math.Pow(b2, float64(a.State.Step))
	inParts(len(weights), func(from, to int) {
		weights, gradient, first, second := weights[from:to], gradient[from:to], a.State.First[from:to], a.State.Second[from:to]
		for i, g := range gradient {
			m := b1*first[i] + (1-b1)*g
			v := b2*second[i] + (1-b2)*g*g
			first[i], second[i] = m, v
			w := float64(weights[i])
			weights[i] = float32(w - lr*(m/c1/(math.Sqrt(v/c2)+eps)+a.WeightDecay*w))
		}
	})
	return nil
}

// EMA is an exponential moving average of weights, with the usual warm-up: at
// update n the decay is at most (1+n)/(10+n).
type EMA struct {
	Decay  float64 // 0 keeps the latest weights.
	Step   int
	Values []float64
}

// Update folds the weights into the average.
func (e *EMA) Update(weights []float32) {
	if e.Values == nil {
		e.Values = make([]float64, len(weights))
		for i, w := range weights {
			e.Values[i] = float64(w)
		}
	}
	n := float64(e.Step)
	decay := math.Min(e.Decay, (1+n)/(10+n))
	inParts(len(weights), func(from, to int) {
		values := e.Values[from:to]
		for i, w := range weights[from:to] {
			values[i] = decay*values[i] + (1-decay)*float64(w)
		}
	})
	e.Step++
}

// Weights returns the average as float32.
func (e *EMA) Weights() []float32 {
	w := make([]float32, len(e.Values))
	for i, v := range e.Values {
		w[i] = float32(v)
	}
	return w
}

// partLength is the values that one core takes: enough to be worth waking it.
const partLength = 1 << 18

// inParts calls f for every stretch of n values, on all cores. What f does to a
// value must not depend on another.
func inParts(n int, f func(from, to int)) {
	var next atomic.Int64
	work := func() {
		for {
			to := int(next.Add(partLength))
			from := to - partLength
			if from >= n {
				return
			}
			f(from, min(to, n))
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), (n+partLength-1)/partLength) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
}

// Schedule names how the learning rate changes over a run.
type Schedule string

const (
	Constant Schedule = "constant"
	Cosine   Schedule = "cosine" // Down to a tenth along half a cosine.
	Linear   Schedule = "linear" // Down to a tenth in a straight line.
)

// Factor returns the learning-rate factor of a step in [0, steps), after a
// linear warm-up of the given number of steps.
func (s Schedule) Factor(step, steps, warmup int) float64 {
	if step < warmup {
		return float64(step+1) / float64(warmup+1)
	}
	done := float64(step-warmup) / math.Max(1, float64(steps-warmup))
	switch s {
	case Cosine:
		return 0.1 + 0.9*0.5*(1+math.Cos(math.Pi*done))
	case Linear:
		return 1 - 0.9*done
	default:
		return 1
	}
}

func orDefault(x, d float64) float64 {
	if x == 0 {
		return d
	}
	return x
}

// Norm returns the L2 norm of a vector.
func Norm(v []float64) float64 {
	var sum float64
	for _, x := range v {
		sum += x * x
	}
	return math.Sqrt(sum)
}
