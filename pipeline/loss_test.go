package pipeline

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// An example's loss with weights, and with an image for each draw, is the mean of
// each draw's own loss on its own image times the weight of its timestep.
func TestExampleLossWithWeightsAndImages(t *testing.T) {
	b := backendtest.Open(t, "go")
	m, parameters := tinyModel(t, diffusion.PredictV)
	schedule, err := diffusion.NewSchedule(m.Scheduler)
	if err != nil {
		t.Fatal(err)
	}
	weights := make([]float64, schedule.Steps())
	for i := range weights {
		weights[i] = float64(i%7) / 3 // 0, too.
	}
	program := func(draws int, weights []float64) *nn.Program {
		p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Lowering: nn.Patches}, Weights: parameters,
			Build: func(s *nn.Scope, _, inputs []*graph.Node) []*graph.Node {
				in := NewLossInputs(inputs)
				in.Draws, in.Weights = draws, weights
				return []*graph.Node{ExampleLoss(m, schedule, s, in)}
			}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const examples, draws, per = 3, 2, 4 * 4 * 2
	plain, varied := program(0, nil), program(draws, weights)
	defer plain.Close()
	defer varied.Close()
	rng := rand.New(rand.NewPCG(3, 3))
	random := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(rng.NormFloat64())
		}
		return v
	}
	clean, noise := random(examples*draws*per), random(examples*draws*per)
	steps, class := make([]int32, examples*draws), make([]int32, examples*draws)
	for i := range steps {
		steps[i], class[i] = rng.Int32N(1000), rng.Int32N(3)
	}
	loss := func(p *nn.Program, from, to int) []float32 {
		n := to - from
		out, err := p.Run(nil, tensors.FromFlatDataAndDimensions(clean[from*per:to*per], n, 4, 4, 2),
			tensors.FromFlatDataAndDimensions(noise[from*per:to*per], n, 4, 4, 2),
			tensors.FromFlatDataAndDimensions(steps[from:to], n), tensors.FromFlatDataAndDimensions(class[from:to], n))
		if err != nil {
			t.Fatal(err)
		}
		return tensors.MustCopyFlatData[float32](out[0])
	}
	got := loss(varied, 0, examples*draws)
	if len(got) != examples {
		t.Fatalf("%d losses, want %d", len(got), examples)
	}
	for i, v := range got {
		want := 0.0
		for row := i * draws; row < (i+1)*draws; row++ {
			want += weights[steps[row]] * float64(loss(plain, row, row+1)[0]) / draws
		}
		if !(math.Abs(float64(v)-want) <= 1e-5*want) {
			t.Errorf("loss %d is %g, want %g", i, v, want)
		}
	}
}
