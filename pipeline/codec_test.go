package pipeline

import (
	"bytes"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/unet"
)

// images draws a set of n random square images.
func images(rng *rand.Rand, n, size, channels int) *dataset.Set {
	s := &dataset.Set{Height: size, Width: size, Channels: channels, Pixels: make([]byte, n*size*size*channels)}
	for i := range s.Pixels {
		s.Pixels[i] = byte(rng.Uint32())
	}
	return s
}

func pixelModel(channels, unshuffle int) *checkpoint.Model {
	return &checkpoint.Model{Channels: channels, PixelUnshuffle: unshuffle,
		UNet: &unet.Config{InChannels: channels * unshuffle * unshuffle}}
}

// TestPixelsRoundTrip: images → canvas → grid → canvas → images gives every
// byte back, whatever the size and the padding, through the parts and through
// the codec.
func TestPixelsRoundTrip(t *testing.T) {
	b := backendtest.Open(t, "go")
	rapid.Check(t, func(t *rapid.T) {
		size, channels := rapid.IntRange(1, 9).Draw(t, "size"), rapid.SampledFrom([]int{1, 3}).Draw(t, "channels")
		unshuffle, n := rapid.IntRange(1, 4).Draw(t, "unshuffle"), rapid.IntRange(0, 70).Draw(t, "images")
		set := images(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)), n, size, channels)
		m := pixelModel(channels, unshuffle)
		canvas, err := NewCanvas(m, size, channels)
		if err != nil {
			t.Fatal(err)
		}
		if canvas.Padded%unshuffle != 0 || canvas.Padded < size || canvas.Padded >= size+unshuffle ||
			canvas.Size() != canvas.Padded*canvas.Padded*channels {
			t.Fatalf("canvas is %+v", canvas)
		}
		all := make([]int, n)
		for i := range all {
			all[i] = i
		}
		floats := canvas.Floats(set, all)
		for _, v := range floats {
			if !(v >= -1 && v <= 1) {
				t.Fatalf("value %g is outside [-1, 1]", v)
			}
		}
		if got := canvas.Bytes(canvas.FromGrid(canvas.ToGrid(floats, unshuffle), unshuffle)); !bytes.Equal(got, set.Pixels) {
			t.Fatal("images come back changed")
		}
		codec, err := NewCodec(b, nn.Patches, 3, m, canvas)
		if err != nil {
			t.Fatal(err)
		}
		defer codec.Close()
		grids, err := codec.Encode(context.Background(), set)
		if err != nil {
			t.Fatal(err)
		}
		back, err := codec.Decode(context.Background(), grids)
		if err != nil {
			t.Fatal(err)
		}
		if len(grids) != n*canvas.Size() || !bytes.Equal(back, set.Pixels) {
			t.Fatal("codec: images come back changed")
		}
	})
}

func TestCanvasRefuses(t *testing.T) {
	m := pixelModel(1, 4)
	if _, err := NewCanvas(m, 28, 3); err == nil {
		t.Error("three channels are taken by a model of one")
	}
	m.UNet.InChannels = 15
	if _, err := NewCanvas(m, 28, 1); err == nil {
		t.Error("a UNet of 15 channels takes 16")
	}
}

func TestPaddingRepeatsTheEdge(t *testing.T) {
	set := &dataset.Set{Height: 2, Width: 2, Channels: 1, Pixels: []byte{0, 255, 51, 102}}
	c := Canvas{Image: 2, Padded: 3, Channels: 1}
	want := []float32{-1, 1, 1, -0.6, -0.2, -0.2, -0.6, -0.2, -0.2}
	for i, v := range c.Floats(set, []int{0}) {
		if math.Abs(float64(v-want[i])) > 1e-6 {
			t.Fatalf("value %d is %g, want %g", i, v, want[i])
		}
	}
}

func TestQuantise(t *testing.T) {
	for _, c := range []struct {
		v    float32
		want byte
	}{{-1, 0}, {1, 255}, {0, 128}, {-7, 0}, {7, 255}, {float32(math.NaN()), 0}, {float32(math.Inf(1)), 255}, {float32(math.Inf(-1)), 0},
		{-1 + 1.9/255, 1}, {1 - 1.1/255, 254}} {
		if got := quantise(c.v); got != c.want {
			t.Errorf("%g becomes %d, want %d", c.v, got, c.want)
		}
	}
}

// latentModel has a tiny autoencoder with random weights.
func latentModel(t *testing.T) *checkpoint.Model {
	t.Helper()
	a := autoencoder.DefaultConfig()
	a.InChannels, a.OutChannels, a.BlockOutChannels, a.LatentChannels, a.NormNumGroups = 1, 1, []int{4, 8}, 2, 2
	a.LatentScalingFactor, a.LatentShift = 0.7, 0.1
	m := &checkpoint.Model{Channels: 1, PixelUnshuffle: 1, Autoencoder: a, UNet: &unet.Config{InChannels: 2}, Weights: nn.NewWeights()}
	specs, err := a.Specs(backendtest.Open(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, s := range specs {
		s.Name = "vae." + s.Name
		m.Weights.Add(nn.NewTensor(s, rng))
	}
	return m
}

// TestCodecBatches: an image's latent does not depend on the batch it is in, nor
// on the number of images or workers, and padding goes nowhere.
func TestCodecBatches(t *testing.T) {
	b := backendtest.Open(t, "go")
	m := latentModel(t)
	canvas, err := NewCanvas(m, 7, 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := (Canvas{Image: 7, Padded: 8, Channels: 1, Grid: 4, Depth: 2}); canvas != want {
		t.Fatalf("canvas is %+v, want %+v", canvas, want)
	}
	ctx := context.Background()
	set := images(rand.New(rand.NewPCG(2, 2)), 37, 7, 1)
	var want []float32
	var pictures []byte
	for _, workers := range []int{1, 3} {
		codec, err := NewCodec(b, nn.Patches, workers, m, canvas)
		if err != nil {
			t.Fatal(err)
		}
		defer codec.Close()
		latents, err := codec.Encode(ctx, set)
		if err != nil {
			t.Fatal(err)
		}
		decoded, err := codec.Decode(ctx, latents)
		if err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want, pictures = latents, decoded
		}
		if !slices.Equal(latents, want) || !bytes.Equal(decoded, pictures) {
			t.Errorf("%d workers change the latents or the images", workers)
		}
		if len(latents) != 37*canvas.Size() || len(decoded) != 37*7*7 {
			t.Fatalf("%d latent values and %d bytes for 37 images", len(latents), len(decoded))
		}
		for _, some := range [][]int{{36}, {5, 0, 34}} {
			part, err := codec.Encode(ctx, set.Subset(some))
			if err != nil {
				t.Fatal(err)
			}
			for k, i := range some {
				if !slices.Equal(part[k*canvas.Size():(k+1)*canvas.Size()], want[i*canvas.Size():(i+1)*canvas.Size()]) {
					t.Errorf("latent of image %d depends on its batch", i)
				}
			}
		}
		if none, err := codec.Encode(ctx, set.Subset(nil)); err != nil || len(none) != 0 {
			t.Errorf("no images: %v, %v", none, err)
		}
		stopped, cancel := context.WithCancel(ctx)
		cancel()
		if _, err := codec.Encode(stopped, set); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: error is %v", err)
		}
	}
}

func TestComponent(t *testing.T) {
	w := nn.NewWeights()
	for _, name := range []string{"vae.a", "vae", "vaes.b", "unet.c", "class_embedder.weight"} {
		w.Add(&nn.Tensor{Name: name, Shape: []int{1}, Data: []float32{1}})
	}
	if got := Component(w, "vae", "class_embedder").Names(); !slices.Equal(got, []string{"vae.a", "class_embedder.weight"}) {
		t.Errorf("component is %v", got)
	}
}

// TestExampleLoss: the loss of K draws is the mean of the draws' own losses,
// with clean images given once.
func TestExampleLoss(t *testing.T) {
	b := backendtest.Open(t, "go")
	for _, prediction := range []diffusion.Prediction{diffusion.PredictNoise, diffusion.PredictV, diffusion.PredictX0} {
		m, weights := tinyModel(t, prediction)
		schedule, err := diffusion.NewSchedule(m.Scheduler)
		if err != nil {
			t.Fatal(err)
		}
		p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Lowering: nn.Patches}, Weights: weights,
			Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
				return []*graph.Node{ExampleLoss(m, schedule, s, NewLossInputs(in))}
			}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		rng := rand.New(rand.NewPCG(3, 3))
		const examples, draws, per = 3, 2, 4 * 4 * 2
		random := func(n int) []float32 {
			v := make([]float32, n)
			for i := range v {
				v[i] = float32(rng.NormFloat64())
			}
			return v
		}
		clean, noise := random(examples*per), random(examples*draws*per)
		steps, class := make([]int32, examples*draws), make([]int32, examples*draws)
		for i := range steps {
			steps[i], class[i] = rng.Int32N(1000), rng.Int32N(3)
		}
		loss := func(clean, noise []float32, t32, class []int32) []float32 {
			out, err := p.Run(nil, tensors.FromFlatDataAndDimensions(clean, len(clean)/per, 4, 4, 2),
				tensors.FromFlatDataAndDimensions(noise, len(noise)/per, 4, 4, 2),
				tensors.FromFlatDataAndDimensions(t32, len(t32)), tensors.FromFlatDataAndDimensions(class, len(class)))
			if err != nil {
				t.Fatal(err)
			}
			return tensors.MustCopyFlatData[float32](out[0])
		}
		got := loss(clean, noise, steps, class)
		if len(got) != examples {
			t.Fatalf("%d losses, want %d", len(got), examples)
		}
		for i, v := range got {
			want := 0.0
			for k := range draws {
				row := i*draws + k
				one := loss(clean[i*per:(i+1)*per], noise[row*per:(row+1)*per], steps[row:row+1], class[row:row+1])
				want += float64(one[0]) / draws
			}
			if !(math.Abs(float64(v)-want) <= 1e-5*want) {
				t.Errorf("%s: loss %d is %g, want %g", prediction, i, v, want)
			}
		}
	}
}

func tinyModel(t *testing.T, prediction diffusion.Prediction) (*checkpoint.Model, *nn.Weights) {
	t.Helper()
	config, err := unet.ParseConfig([]byte(`{"_class_name": "UNet2DConditionModel", "sample_size": 4, "in_channels": 2, "out_channels": 2,
		"block_out_channels": [8], "layers_per_block": 1, "down_block_types": ["CrossAttnDownBlock2D"],
		"mid_block_type": "UNetMidBlock2DCrossAttn", "up_block_types": ["CrossAttnUpBlock2D"],
		"cross_attention_dim": 6, "attention_head_dim": [2], "norm_num_groups": 4}`))
	if err != nil {
		t.Fatal(err)
	}
	m := &checkpoint.Model{UNet: config, ClassEmbedder: &checkpoint.ClassEmbedder{Entries: 3, Channels: 6},
		Channels: 2, PixelUnshuffle: 1, Scheduler: diffusion.DefaultConfig()}
	m.Scheduler.Prediction = prediction
	b := backendtest.Open(t, "go")
	specs, err := config.Specs(b)
	if err != nil {
		t.Fatal(err)
	}
	w := nn.NewWeights()
	rng := rand.New(rand.NewPCG(4, 4))
	for _, s := range append(specs, nn.Spec{Name: "weight", Kind: nn.KindTable, Shape: []int{3, 6}, Init: nn.InitNormal}) {
		s.Name = "unet." + s.Name
		if s.Name == "unet.weight" {
			s.Name = "class_embedder.weight"
		}
		if s.Init == nn.InitZeros {
			s.Init = nn.InitFanIn
		}
		w.Add(nn.NewTensor(s, rng))
	}
	return m, w
}
