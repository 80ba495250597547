package diffusion

import (
	"fmt"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// LossPerExample returns the mean squared error over pixels, channels and the
// draws of each example: [rows/draws] (Ho et al. 2020, Eq. 14; the mean over
// draws as in Dockhorn et al. 2023, Eq. 7, https://arxiv.org/abs/2210.09929).
//
//   - output, target: [rows, height, width, channels], rows example-major.
//   - draws: noise draws per example, K.
func LossPerExample(output, target *Node, draws int) *Node {
	output.AssertRank(4)
	target.AssertDims(output.Shape().Dimensions...)
	rows := output.Shape().Dimensions[0]
	if draws < 1 || rows%draws != 0 {
		panic(fmt.Errorf("diffusion: %d rows with %d draws per example, want a multiple", rows, draws))
	}
	errors := Sub(output, target)
	return ReduceMean(Reshape(Mul(errors, errors), rows/draws, -1), -1)
}

// Repeat repeats each row of x [examples, ...] draws times in a row:
// [examples·draws, ...], example-major.
func Repeat(x *Node, draws int) *Node {
	if draws == 1 {
		return x
	}
	dims := x.Shape().Dimensions
	spread := append([]int{dims[0], draws}, dims[1:]...)
	flat := append([]int{dims[0] * draws}, dims[1:]...)
	return Reshape(BroadcastToDims(ExpandAxes(x, 1), spread...), flat...)
}
