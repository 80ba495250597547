package main

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/nn"
)

// noiseDraws is the number of coordinates that testNoise draws.
const noiseDraws = 1 << 18

// noiseFacts is what testNoise measured.
type noiseFacts struct {
	draws     int
	deviation float64 // Standard deviation, in units of the one asked for.
	expected  float64 // Standard error of deviation, √(1/2n).
}

// testNoise releases the clipped sum of an empty batch, which is noise alone,
// under two fresh keys, and judges it.
func testNoise(ctx context.Context) (noiseFacts, error) {
	first, err := drawNoise(ctx)
	if err != nil {
		return noiseFacts{}, err
	}
	second, err := drawNoise(ctx)
	if err != nil {
		return noiseFacts{}, err
	}
	return judgeNoise(first, second)
}

// judgeNoise tests two draws of noise, of the same length, for standard
// deviation 1, mean 0 and independence. Each limit is 6 standard errors of what
// it limits: together they raise less than one false alarm in 10^8 runs.
func judgeNoise(first, second []float64) (noiseFacts, error) {
	n := float64(len(first))
	facts := noiseFacts{draws: len(first), expected: math.Sqrt(1 / (2 * n))}
	sum, squares, product, neighbours := 0.0, 0.0, 0.0, 0.0
	for i, v := range first {
		sum += v
		squares += v * v
		product += v * second[i]
		if i > 0 {
			neighbours += v * first[i-1]
		}
	}
	facts.deviation = math.Sqrt(squares / n)
	for _, test := range []struct {
		name       string
		got, limit float64
	}{
		{"standard deviation differs from the one asked for by a share of", facts.deviation - 1, 6 * facts.expected},
		{"mean, in standard deviations, is", sum / n, 6 / math.Sqrt(n)},
		{"correlation of neighbours is", neighbours / n, 6 / math.Sqrt(n)},
		{"correlation of two keys is", product / n, 6 / math.Sqrt(n)},
	} {
		if !(math.Abs(test.got) <= test.limit) {
			return facts, fmt.Errorf("noise is not what was asked for: its %s %.4g, want within %.4g of 0", test.name, test.got, test.limit)
		}
	}
	return facts, nil
}

// drawNoise returns noise of a fresh key in units of its standard deviation.
func drawNoise(ctx context.Context) ([]float64, error) {
	b, _, err := backend.Open(backend.Go)
	if err != nil {
		return nil, err
	}
	defer b.Finalize()
	weights := nn.NewWeights()
	weights.Add(&nn.Tensor{Name: "noise", Kind: nn.KindVector, Shape: []int{noiseDraws}, Data: make([]float32, noiseDraws)})
	engine, err := dpsgd.NewEngine(b, dpsgd.EngineOptions{
		ClippingNorm: 1, Weights: weights, Trainable: []string{"noise"},
		Loss: func(*nn.Scope, []*graph.Node) *graph.Node { panic("an empty batch has no loss") },
	})
	if err != nil {
		return nil, err
	}
	defer engine.Close()
	sum, _, err := engine.Sum(ctx, make([]float32, noiseDraws), 0, nil)
	if err != nil {
		return nil, err
	}
	deviation := sum.Sensitivity(1)
	key, err := dpsgd.NewNoise()
	if err != nil {
		return nil, err
	}
	if key.Insecure() {
		return nil, errors.New("noise has a known seed, want a fresh secret key")
	}
	// There is no ledger: an empty batch saw no data.
	values, err := sum.Release(key, 1, func() error { return nil })
	for i := range values {
		values[i] /= deviation
	}
	return values, err
}
