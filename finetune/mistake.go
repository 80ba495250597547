package finetune

import "github.com/scumble-dp/scumble/dpsgd"

// mistake is a known error of DP-SGD implementations beside those of package
// dpsgd. Tests inject one to prove that their checks would catch it; no exported
// name reaches it.
type mistake int

const (
	noMistake        mistake = iota
	realisedDivisor          // The sum is divided by the number of examples drawn.
	uncountNonFinite         // Examples whose gradient is not finite are taken off the divisor.
	shortLedger              // The first step is not recorded.
	realisedClasses          // Noisy class means are divided by the number of images drawn.
	drawsApart               // Each example of a batch is there twice: draws that are clipped apart.
)

// divisor returns what the noised sum is divided by: the public, expected batch
// size, unless a test injects a mistake.
func (w mistake) divisor(expected float64, private dpsgd.Stats) float64 {
	switch w {
	case realisedDivisor:
		return float64(private.Examples)
	case uncountNonFinite:
		return expected - float64(private.NonFinite)
	}
	return expected
}

// classDivisor returns what the noised sum of a class is divided by: a public
// number.
func (w mistake) classDivisor(public, drawn float64) float64 {
	if w == realisedClasses {
		return drawn
	}
	return public
}

// recorder returns the function that records a step.
func (w mistake) recorder(step int, record func() error) func() error {
	if w == shortLedger && step == 0 {
		return func() error { return nil }
	}
	return record
}

// batch returns the examples of a step as they were drawn.
func (w mistake) batch(drawn []int) []int {
	if w != drawsApart {
		return drawn
	}
	var twice []int
	for _, example := range drawn {
		twice = append(twice, example, example)
	}
	return twice
}
