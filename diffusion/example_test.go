package diffusion_test

import (
	"fmt"
	"math/rand/v2"

	"github.com/scumble-dp/scumble/diffusion"
)

// A network that always answers "x_0 is 0.5", sampled in ten steps.
func Example() {
	config := diffusion.DefaultConfig()
	config.Prediction = diffusion.PredictX0
	sampler, err := diffusion.NewDDIM(config, 10, 0)
	if err != nil {
		panic(err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	x := []float32{float32(rng.NormFloat64())}
	run := sampler.NewRun()
	run.Begin(x, rng)
	for i := range sampler.Calls() {
		run.Step(i, x, []float32{0.5}, rng)
	}
	fmt.Println(x)
	// Output: [0.5]
}
