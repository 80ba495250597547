package eval

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

const (
	inceptionName     = "inception-v3"
	inceptionPixels   = 299
	inceptionFeatures = 2048
	inceptionClasses  = 1008
)

// OpenInception opens the Inception v3 that FID is defined by (the TensorFlow
// network of 2015 in PyTorch's layout) from a safetensors file, or an ONNX one if its
// name ends in .onnx, with the names of pytorch-fid and torch-fidelity. hash is the SHA-256 of the file in hex: a
// figure is worth nothing where it is not known which weights it was taken with.
//
// The file is made from the .pth of either project, once, by
//
//	python -c "import sys,torch,safetensors.torch as s; s.save_file({k:v.contiguous() for k,v in
//	    torch.load(sys.argv[1]).items()}, sys.argv[2])" pt_inception-2015-12-05-6726825d.pth inception.safetensors
//
// Of an ONNX file only the initializers are read. torch.onnx.export keeps their
// names with do_constant_folding=False and training=TrainingMode.PRESERVE; names
// like onnx::Conv_123, which it gives otherwise, are refused.
//
// Features are those of the last average pool, logits those without the bias.
func OpenInception(backend compute.Backend, path, hash string, resize Resize, o NetworkOptions) (*Extractor, error) {
	if err := resize.check(); err != nil {
		return nil, err
	}
	got, err := FileSHA256(path)
	if err != nil {
		return nil, err
	}
	if !strings.EqualFold(got, hash) {
		return nil, fmt.Errorf("%s has SHA-256 %s, want %s: %w", path, got, hash, ErrInvalid)
	}
	weights, err := readInception(backend, path)
	if err != nil {
		return nil, err
	}
	about := Network{Name: inceptionName, SHA256: got, Resize: resize, Pixels: inceptionPixels}
	// Small batches: the windows of one image's first layers take 40 MB.
	return newExtractor(backend, about, weights, inceptionFeatures, inceptionClasses, 4, inceptionForward, o)
}

// FileSHA256 returns the SHA-256 of a file in hex.
func FileSHA256(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("feature network: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("feature network %s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// readInception reads the weights that the network asks for, and folds each
// batch norm, whose statistics are fixed, into the convolution before it.
func readInception(backend compute.Backend, path string) (*nn.Weights, error) {
	f, err := openWeights(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	specs, err := nn.Collect(backend, nn.Options{}, func(s *nn.Scope) {
		inceptionForward(s, graph.Zeros(s.Graph(), shapes.Make(dtypes.Float32, 1, inceptionPixels, inceptionPixels, 3)))
	})
	if err != nil {
		return nil, err
	}
	w := nn.NewWeights()
	for _, spec := range specs {
		layer, leaf, _ := cutLast(spec.Name)
		if layer == "fc" {
			values, err := readTensor(f, "fc.weight", spec.Shape[1], spec.Shape[0])
			if err != nil {
				return nil, err
			}
			w.Add(&nn.Tensor{Name: spec.Name, Kind: spec.Kind, Shape: spec.Shape, Data: transposed(values, spec.Shape[1], spec.Shape[0])})
			continue
		}
		if leaf != "weight" {
			continue // The bias comes with its weight.
		}
		weight, bias, err := foldedConvolution(f, layer, spec.Shape[0], spec.Shape[1])
		if err != nil {
			return nil, err
		}
		w.Add(&nn.Tensor{Name: spec.Name, Kind: spec.Kind, Shape: spec.Shape, Data: weight})
		w.Add(&nn.Tensor{Name: layer + ".bias", Kind: nn.KindVector, Shape: []int{spec.Shape[1]}, Data: bias})
	}
	return w, nil
}

func cutLast(name string) (before, after string, found bool) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name, false
	}
	return name[:i], name[i+1:], true
}

// foldedConvolution returns the weights of "conv" and "bn" of a layer as one
// matrix [window·in, out], rows in the order of the window's pixels, and a bias:
// batch norm is y = (x - mean)/√(variance + 0.001)·scale + shift.
func foldedConvolution(f weightFile, layer string, rows, out int) (weight, bias []float32, err error) {
	shape, values, err := f.tensor(layer + ".conv.weight")
	if err != nil {
		return nil, nil, inceptionError(layer, err)
	}
	if len(shape) != 4 || shape[0] != out || shape[1]*shape[2]*shape[3] != rows {
		return nil, nil, fmt.Errorf("feature network: %s.conv.weight has shape %v, want %d kernels of %d values; is it the FID Inception?: %w",
			layer, shape, out, rows, ErrInvalid)
	}
	norm := map[string][]float32{}
	for _, name := range []string{"weight", "bias", "running_mean", "running_var"} {
		if norm[name], err = readTensor(f, layer+".bn."+name, out); err != nil {
			return nil, nil, err
		}
	}
	weight, bias = make([]float32, rows*out), make([]float32, out)
	in, window := shape[1], shape[2]*shape[3]
	for o := range out {
		scale := float64(norm["weight"][o]) / math.Sqrt(float64(norm["running_var"][o])+0.001)
		bias[o] = float32(float64(norm["bias"][o]) - float64(norm["running_mean"][o])*scale)
		for i := range in {
			for p := range window {
				weight[(p*in+i)*out+o] = float32(float64(values[(o*in+i)*window+p]) * scale)
			}
		}
	}
	return weight, bias, nil
}

func readTensor(f weightFile, name string, shape ...int) ([]float32, error) {
	got, values, err := f.tensor(name)
	if err != nil {
		return nil, inceptionError(name, err)
	}
	size := 1
	for _, n := range shape {
		size *= n
	}
	if len(values) != size || len(got) != len(shape) {
		return nil, fmt.Errorf("feature network: %s has shape %v, want %v: %w", name, got, shape, ErrInvalid)
	}
	return values, nil
}

// weightFile is a file of named tensors.
type weightFile interface {
	// tensor returns a tensor as float32, or an error that wraps errNoTensor.
	tensor(name string) (shape []int, values []float32, err error)
	Close() error
}

var errNoTensor = errors.New("it is not there")

// openWeights opens a file by the end of its name.
func openWeights(path string) (weightFile, error) {
	if strings.EqualFold(filepath.Ext(path), ".onnx") {
		return readONNX(path)
	}
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, fmt.Errorf("feature network: %w: %w", err, ErrInvalid)
	}
	return safetensorsFile{f}, nil
}

type safetensorsFile struct{ *safetensors.File }

func (f safetensorsFile) tensor(name string) ([]int, []float32, error) {
	t, err := f.Tensor(name)
	if errors.Is(err, safetensors.ErrNotFound) {
		return nil, nil, errNoTensor
	}
	if err != nil {
		return nil, nil, err
	}
	values, err := t.Float32s()
	return t.Shape, values, err
}

func inceptionError(name string, err error) error {
	if errors.Is(err, errNoTensor) {
		return fmt.Errorf("feature network: no tensor for %s, want the FID Inception v3 with the names of pytorch-fid: %w: %w", name, err, ErrInvalid)
	}
	return fmt.Errorf("feature network: %s: %w: %w", name, err, ErrInvalid)
}

// transposed turns [rows, columns] into [columns, rows].
func transposed(values []float32, rows, columns int) []float32 {
	out := make([]float32, len(values))
	for i := range rows {
		for j := range columns {
			out[j*rows+i] = values[i*columns+j]
		}
	}
	return out
}
