package eval

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

// writeInception writes record.py's random weights under pytorch-fid's names.
func writeInception(t *testing.T) string {
	t.Helper()
	specs, err := nn.Collect(backendtest.Open(t, "go"), nn.Options{}, func(s *nn.Scope) {
		inceptionForward(s, graph.Zeros(s.Graph(), shapes.Make(dtypes.Float32, 1, inceptionPixels, inceptionPixels, 3)))
	})
	if err != nil {
		t.Fatal(err)
	}
	var list []safetensors.Tensor
	add := func(name string, shape []int, scale, offset float64) {
		n := nn.Spec{Shape: shape}.Size()
		values := make([]float32, n)
		for i, u := range hashUniform(name, n) {
			values[i] = float32(offset + scale*u)
		}
		list = append(list, safetensors.FromFloat32s(name, shape, values))
	}
	in := kernelShapes()
	for _, spec := range specs {
		layer, leaf, _ := cutLast(spec.Name)
		switch {
		case layer == "fc":
			add("fc.weight", []int{spec.Shape[1], spec.Shape[0]}, math.Sqrt(3/float64(spec.Shape[0])), 0)
		case leaf == "weight":
			rows, out := spec.Shape[0], spec.Shape[1]
			k := in(layer)
			add(layer+".conv.weight", []int{out, rows / (k[0] * k[1]), k[0], k[1]}, math.Sqrt(6/float64(rows)), 0)
			add(layer+".bn.weight", []int{out}, 0.5, 1)
			add(layer+".bn.bias", []int{out}, 0.25, 0)
			add(layer+".bn.running_mean", []int{out}, 0.25, 0)
			add(layer+".bn.running_var", []int{out}, 0.25, 1)
		}
	}
	path := filepath.Join(t.TempDir(), "inception.safetensors")
	if err := safetensors.Write(path, list, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// kernelShapes returns the height and width of each layer's kernel.
func kernelShapes() func(layer string) [2]int {
	special := map[string][2]int{
		"Conv2d_1a_3x3": {3, 3}, "Conv2d_2a_3x3": {3, 3}, "Conv2d_2b_3x3": {3, 3}, "Conv2d_4a_3x3": {3, 3},
		"branch5x5_2": {5, 5}, "branch3x3dbl_2": {3, 3}, "branch3x3dbl_3": {3, 3}, "branch3x3": {3, 3}, "branch3x3_2": {3, 3},
		"branch7x7_2": {1, 7}, "branch7x7_3": {7, 1}, "branch7x7dbl_2": {7, 1}, "branch7x7dbl_3": {1, 7}, "branch7x7dbl_4": {7, 1},
		"branch7x7dbl_5": {1, 7}, "branch7x7x3_2": {1, 7}, "branch7x7x3_3": {7, 1}, "branch7x7x3_4": {3, 3},
		"branch3x3_2a": {1, 3}, "branch3x3_2b": {3, 1}, "branch3x3dbl_3a": {1, 3}, "branch3x3dbl_3b": {3, 1},
	}
	return func(layer string) [2]int {
		_, leaf, _ := cutLast(layer)
		if k, ok := special[leaf]; ok {
			return k
		}
		return [2]int{1, 1}
	}
}

func hashSet(name string, n, size int) *dataset.Set {
	s := &dataset.Set{Height: size, Width: size, Channels: 3}
	for i := range n {
		s.Pixels = append(s.Pixels, hashPixels(name+"."+string(rune('0'+i)), size, size, 3)...)
	}
	return s
}

// The whole way, images to figures, against torch-fidelity (its resizing) and
// clean-fid, with the same random weights in Inception v3. The quick test runs
// two images on torch-fidelity's path; the slow one all of both.
func TestInceptionIsThatOfPeers(t *testing.T) {
	b := backendtest.Open(t, "go")
	want := loadRecorded(t).Inception
	path := writeInception(t)
	hash, err := FileSHA256(path)
	if err != nil {
		t.Fatal(err)
	}
	o := NetworkOptions{Lowering: nn.Patches, Workers: 2}
	e, err := OpenInception(b, path, strings.ToUpper(hash), ResizeTensorFlow, o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	slow := os.Getenv("SCUMBLE_SLOW") != ""
	n := 2
	if slow {
		n = 8
	}
	synthetic, err := e.Features(context.Background(), hashSet("synthetic", n, want.Size), nil)
	if err != nil {
		t.Fatal(err)
	}
	checkRecordedFeatures(t, synthetic, want.Synthetic)
	if !slow {
		return
	}
	reference, err := e.Features(context.Background(), hashSet("reference", n, want.Size), nil)
	if err != nil {
		t.Fatal(err)
	}
	checkRecordedFeatures(t, reference, want.Reference)
	got, err := Compare(synthetic, reference, FidelityOptions{KID: KIDOptions{SubsetSize: want.KIDSubsetSize}, ISCSplits: want.ISCSplits})
	if err != nil {
		t.Fatal(err)
	}
	ours := got.byName()
	for name, w := range want.TorchFidelity {
		if name == "kernel_inception_distance_std" {
			continue // Each subset is the whole set: rounding alone.
		}
		if v := ours[name]; v == nil || !near(*v, w, 1e-3) {
			t.Errorf("%s is %v, torch-fidelity has %v", name, show(v), w)
		}
	}
	clean, err := OpenInception(b, path, hash, ResizeClean, o)
	if err != nil {
		t.Fatal(err)
	}
	defer clean.Close()
	if synthetic, err = clean.Features(context.Background(), hashSet("synthetic", n, want.Size), nil); err != nil {
		t.Fatal(err)
	}
	if reference, err = clean.Features(context.Background(), hashSet("reference", n, want.Size), nil); err != nil {
		t.Fatal(err)
	}
	fid, err := FID(synthetic, reference)
	if err != nil || !near(fid, want.CleanFID, 1e-3) {
		t.Errorf("FID is %v (%v), clean-fid has %v", fid, err, want.CleanFID)
	}
}

// checkRecordedFeatures allows for float32 sums in another order through 94
// layers: 1e-3 of the value, or of the mean feature where that is larger.
func checkRecordedFeatures(t *testing.T, got *Features, want recordedFeatures) {
	t.Helper()
	for i, row := range want.Features {
		for k, w := range row {
			if v := float64(got.Row(i)[64*k]); math.Abs(v-w) > 1e-3*max(1, math.Abs(w)) {
				t.Errorf("feature %d of image %d is %v, want %v", 64*k, i, v, w)
			}
		}
		for k, w := range want.Logits[i] {
			if v := float64(got.Logits[i*got.Classes+64*k]); math.Abs(v-w) > 1e-3*max(1, math.Abs(w)) {
				t.Errorf("logit %d of image %d is %v, want %v", 64*k, i, v, w)
			}
		}
	}
}

func TestInceptionRefusesOtherFiles(t *testing.T) {
	b := backendtest.Open(t, "go")
	path := filepath.Join(t.TempDir(), "other.safetensors")
	if err := safetensors.Write(path, []safetensors.Tensor{safetensors.FromFloat32s("x", []int{1}, []float32{1})}, nil); err != nil {
		t.Fatal(err)
	}
	hash, err := FileSHA256(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		path, hash, want string
		resize           Resize
	}{
		"hash":    {path, strings.Repeat("0", 64), "has SHA-256 " + hash, ResizeClean},
		"tensors": {path, hash, "want the FID Inception v3", ResizeClean},
		"resize":  {path, hash, `resizing is "lanczos"`, "lanczos"},
		"missing": {path + ".no", hash, "no such file", ResizeClean},
	} {
		if _, err := OpenInception(b, c.path, c.hash, c.resize, NetworkOptions{}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, c.want)
		}
	}
}
