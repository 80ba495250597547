package scumble_test

import (
	"fmt"

	"github.com/scumble-dp/scumble"
	"github.com/scumble-dp/scumble/finetune"
)

// What a run would do and cost is known before an image is opened.
func ExampleEngine_Plan() {
	engine, err := scumble.Open("go")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer engine.Close()
	config, err := finetune.ParseConfig([]byte(`
base: latent
method: attention
data: {path: clinic, examples: 8000, classes: [benign, malignant]}
privacy: {epsilon: 3, delta: 1.0e-5}
training: {steps: 100, expected_batch_size: 500, clipping_norm: 1, learning_rate: 1.0e-3}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	plan, err := engine.Plan(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("epsilon %.2f at delta %g, sampling probability %.4f\n", plan.Epsilon, plan.Delta, plan.Mechanism.SamplingProbability)
	fmt.Printf("trains %d%% of the parameters\n", 100*plan.TrainableParameters/plan.TotalParameters)
	// Output:
	// epsilon 3.00 at delta 1e-05, sampling probability 0.0625
	// trains 37% of the parameters
}
