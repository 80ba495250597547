package optim

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// line fits y = x·w + b to data without noise.
func line(t *testing.T, edit func(o *TrainerOptions)) (*Trainer, *nn.Weights, func([]int) ([]*tensors.Tensor, error)) {
	t.Helper()
	w := nn.NewWeights()
	w.Add(&nn.Tensor{Name: "weight", Shape: []int{2, 1}, Data: []float32{0, 0}})
	w.Add(&nn.Tensor{Name: "bias", Shape: []int{1}, Data: []float32{0}})
	o := TrainerOptions{NN: nn.Options{Lowering: nn.Patches}, Weights: w, Trainable: w.Names(), ShardSize: 4, Workers: 2,
		Loss: func(s *nn.Scope, in []*graph.Node) *graph.Node {
			return graph.ReduceSum(graph.Square(graph.Sub(nn.Dense(s, in[0], 1, nn.DenseOptions{}), in[1])), 1)
		},
		Adam: AdamW{LearningRate: 0.1}}
	if edit != nil {
		edit(&o)
	}
	trainer, err := NewTrainer(backendtest.Open(t, "go"), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(trainer.Close)
	return trainer, w, func(positions []int) ([]*tensors.Tensor, error) {
		x, y := make([]float32, 2*len(positions)), make([]float32, len(positions))
		for i, p := range positions {
			rng := rand.New(rand.NewPCG(1, uint64(p)))
			x[2*i], x[2*i+1] = float32(rng.NormFloat64()), float32(rng.NormFloat64())
			y[i] = 2*x[2*i] - x[2*i+1] + 0.5
		}
		return []*tensors.Tensor{tensors.FromFlatDataAndDimensions(x, len(positions), 2), tensors.FromFlatDataAndDimensions(y, len(positions), 1)}, nil
	}
}

func TestTrainerFits(t *testing.T) {
	trainer, w, fetch := line(t, nil)
	var loss float64
	for step := range 150 {
		var err error
		if loss, err = trainer.Step(context.Background(), 16, Cosine.Factor(step, 150, 5), fetch); err != nil {
			t.Fatal(err)
		}
	}
	trainer.Finish()
	got := w.Flatten(w.Names())
	for i, want := range []float64{2, -1, 0.5} {
		if math.Abs(float64(got[i])-want) > 0.02 {
			t.Fatalf("weights are %v, want 2, -1, 0.5", got)
		}
	}
	if loss > 1e-3 {
		t.Errorf("loss is %g after training", loss)
	}
}

// TestTrainerShards: shards and workers change a step only by rounding.
func TestTrainerShards(t *testing.T) {
	var want []float32
	var wantLoss float64
	for _, shard := range []int{8, 4, 2, 1} {
		trainer, w, fetch := line(t, func(o *TrainerOptions) { o.ShardSize = shard; o.ClipNorm = 0.7 })
		for range 3 {
			loss, err := trainer.Step(context.Background(), 8, 1, fetch)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil && wantLoss == 0 {
				wantLoss = loss
			}
		}
		trainer.Finish()
		got := w.Flatten(w.Names())
		if want == nil {
			want = got
		}
		for i := range got {
			if math.Abs(float64(got[i]-want[i])) > 1e-5 {
				t.Errorf("shards of %d: weights are %v, want %v", shard, got, want)
			}
		}
	}
}

func TestTrainerRefuses(t *testing.T) {
	trainer, _, fetch := line(t, nil)
	ctx := context.Background()
	if _, err := trainer.Step(ctx, 6, 1, fetch); err == nil || !strings.Contains(err.Error(), "multiple of the shard size 4") {
		t.Errorf("batch of 6: error is %v", err)
	}
	broken := errors.New("no data")
	if _, err := trainer.Step(ctx, 8, 1, func(p []int) ([]*tensors.Tensor, error) {
		if p[0] == 4 {
			return nil, broken
		}
		return fetch(p)
	}); !errors.Is(err, broken) {
		t.Errorf("error is %v, want that of fetch", err)
	}
	before := append([]float32(nil), trainer.vector...)
	if _, err := trainer.Step(ctx, 4, 1, func(p []int) ([]*tensors.Tensor, error) {
		in, err := fetch(p)
		in[1] = tensors.FromFlatDataAndDimensions([]float32{1, float32(math.NaN()), 0, 0}, 4, 1)
		return in, err
	}); err == nil || !strings.Contains(err.Error(), "lower the learning rate") {
		t.Errorf("NaN loss: error is %v", err)
	}
	for i := range before {
		if trainer.vector[i] != before[i] {
			t.Error("a failed step moved the weights")
		}
	}
	stopped, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := trainer.Step(stopped, 8, 1, fetch); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: error is %v", err)
	}
	if _, err := NewTrainer(backendtest.Open(t, "go"), TrainerOptions{}); err == nil {
		t.Error("a shard size of zero is taken")
	}
}

// TestMemoryDoesNotGrowWithTheBatch: what a batch keeps alive is a few vectors
// of all parameters, however many shards it is cut into.
func TestMemoryDoesNotGrowWithTheBatch(t *testing.T) {
	const in, out = 256, 1024
	w := nn.NewWeights()
	w.Add(&nn.Tensor{Name: "weight", Shape: []int{in, out}, Data: make([]float32, in*out)})
	w.Add(&nn.Tensor{Name: "bias", Shape: []int{out}, Data: make([]float32, out)})
	trainer, err := NewTrainer(backendtest.Open(t, "go"), TrainerOptions{NN: nn.Options{Lowering: nn.Patches}, Weights: w,
		Trainable: w.Names(), ShardSize: 1, Workers: 2, Adam: AdamW{LearningRate: 1e-3},
		Loss: func(s *nn.Scope, in []*graph.Node) *graph.Node {
			return graph.ReduceSum(graph.Square(graph.OnePlus(nn.Dense(s, in[0], out, nn.DenseOptions{}))), 1)
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer trainer.Close()
	// live returns the bytes that are alive when the last example is fetched.
	live := func(n int) (bytes uint64) {
		_, err := trainer.Step(context.Background(), n, 1, func(positions []int) ([]*tensors.Tensor, error) {
			if positions[0] == n-1 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				bytes = m.HeapAlloc
			}
			return []*tensors.Tensor{tensors.FromFlatDataAndDimensions(make([]float32, in), 1, in)}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	live(2)
	small, large := live(4), live(64)
	if vector := uint64(4 * in * out); large > small+8*vector {
		t.Errorf("4 examples keep %d MiB alive, 64 keep %d MiB, want no more than %d MiB above", small>>20, large>>20, 8*vector>>20)
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct{ bound, want float64 }{{0, 5}, {10, 5}, {5, 5}, {1, 1}} {
		g := []float64{3, 4}
		clip(g, c.bound)
		if math.Abs(Norm(g)-c.want) > 1e-12 || math.Abs(g[0]/g[1]-0.75) > 1e-12 {
			t.Errorf("clipped to %g: %v", c.bound, g)
		}
	}
}
