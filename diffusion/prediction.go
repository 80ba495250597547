package diffusion

import (
	"fmt"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Prediction says what the network outputs. Its text is diffusers'.
type Prediction string

const (
	PredictNoise Prediction = "epsilon"      // The noise in x_t (Ho et al. 2020).
	PredictV     Prediction = "v_prediction" // v = √ᾱ_t·noise - √(1-ᾱ_t)·x_0 (Salimans & Ho 2022, https://arxiv.org/abs/2202.00512).
	PredictX0    Prediction = "sample"       // x_0 itself.
)

// Target returns what the network should output in training. Shapes as in
// [AddNoise].
func (p Prediction) Target(x0, noise, signalRate, noiseRate *Node) *Node {
	switch p {
	case PredictNoise:
		return noise
	case PredictV:
		return Sub(Mul(perRow(signalRate, x0), noise), Mul(perRow(noiseRate, x0), x0))
	case PredictX0:
		return x0
	}
	panic(p.unknown())
}

// Output returns what a network that knew x0 and noise would output: Target for
// one value on the host.
func (p Prediction) Output(x0, noise, signalRate, noiseRate float64) float64 {
	switch p {
	case PredictNoise:
		return noise
	case PredictV:
		return signalRate*noise - noiseRate*x0
	case PredictX0:
		return x0
	}
	panic(p.unknown())
}

// Split returns the x_0 and the noise that the network's output says x =
// signalRate·x_0 + noiseRate·noise is made of.
func (p Prediction) Split(x, output, signalRate, noiseRate float64) (x0, noise float64) {
	switch p {
	case PredictNoise:
		return (x - noiseRate*output) / signalRate, output
	case PredictV: // The rates are cosine and sine of one angle, so this inverts a rotation.
		return signalRate*x - noiseRate*output, signalRate*output + noiseRate*x
	case PredictX0:
		return output, (x - signalRate*output) / noiseRate
	}
	panic(p.unknown())
}

func (p Prediction) unknown() error {
	return fmt.Errorf("diffusion: prediction is %q, want %q, %q or %q", string(p), PredictNoise, PredictV, PredictX0)
}
