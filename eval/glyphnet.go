package eval

import (
	"crypto/sha256"
	_ "embed" // The weights.
	"encoding/hex"
	"fmt"
	"io"
	"os"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

// The feature network that scumble carries, for images of 28 to 256 pixels. Its
// card, glyphnet.md, says what it was trained on and how to remake it.
//
//go:embed glyphnet.safetensors
var glyphWeights []byte

const (
	glyphName     = "glyphs-features"
	glyphPixels   = 32
	glyphFeatures = 128
	glyphClasses  = 36

	// Mean and standard deviation of each feature, beside the weights.
	glyphMean, glyphStd = "features.mean", "features.std"
)

// Glyphs opens the feature network that scumble carries: five convolutions,
// trained on rendered characters to tell which character an image shows and how
// much it was blurred and how much noise was added. Features are the means over
// positions of the last maps, brought to mean 0 and variance 1 over rendered
// characters; logits are those of the 36 characters. Images are
// resized to 32 pixels the clean way.
func Glyphs(backend compute.Backend, o NetworkOptions) (*Extractor, error) {
	return openGlyphs(backend, glyphWeights, o)
}

func openGlyphs(backend compute.Backend, file []byte, o NetworkOptions) (*Extractor, error) {
	weights, err := decodeGlyphs(file)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256(file)
	mean, std := weights.Get(glyphMean), weights.Get(glyphStd)
	network := nn.NewWeights()
	for _, t := range weights.All() {
		if t != mean && t != std {
			network.Add(t)
		}
	}
	about := Network{Name: glyphName, SHA256: hex.EncodeToString(hash[:]), Resize: ResizeClean, Pixels: glyphPixels}
	e, err := newExtractor(backend, about, network, glyphFeatures, glyphClasses, 32, func(s *nn.Scope, x *graph.Node) (*graph.Node, *graph.Node) {
		features := glyphBody(s, x)
		return features, glyphLogits(s, features)
	}, o)
	if err != nil || mean == nil || std == nil { // While it is made it has no scale yet.
		return e, err
	}
	if len(mean.Data) != glyphFeatures || len(std.Data) != glyphFeatures {
		e.Close()
		return nil, fmt.Errorf("feature network: scale of %d and %d features, want %d", len(mean.Data), len(std.Data), glyphFeatures)
	}
	e.mean, e.std = mean.Data, std.Data
	return e, nil
}

// glyphBody maps [batch, 32, 32, 3] to features [batch, 128].
func glyphBody(s *nn.Scope, x *graph.Node) *graph.Node {
	down := nn.Conv{Kernel: 3, Stride: 2, Pad: [2]int{1, 1}}
	for i, layer := range []struct {
		conv     nn.Conv
		channels int
	}{{nn.Same(3), 24}, {down, 48}, {down, 96}, {nn.Same(3), 96}, {down, glyphFeatures}} {
		x = nn.SiLU(nn.Conv2D(s.In("conv%d", i+1), x, layer.channels, layer.conv, nn.ConvOptions{}))
	}
	return graph.ReduceMean(x, 1, 2)
}

// glyphLogits has no bias, as the inception score wants.
func glyphLogits(s *nn.Scope, features *graph.Node) *graph.Node {
	return nn.Dense(s.In("characters"), features, glyphClasses, nn.DenseOptions{NoBias: true})
}

// encodeGlyphs writes the weights in half precision. Layouts are ours: kernels
// [height, width, in, out], dense weights [in, out].
func encodeGlyphs(out io.Writer, w *nn.Weights, metadata map[string]string) error {
	var list []safetensors.Tensor
	for _, t := range w.All() {
		full := safetensors.FromFloat32s(t.Name, t.Shape, t.Data)
		half, err := full.Float16s()
		if err != nil {
			return err
		}
		list = append(list, half)
	}
	return safetensors.Encode(out, list, metadata)
}

// decodeGlyphs reads what encodeGlyphs wrote.
func decodeGlyphs(file []byte) (*nn.Weights, error) {
	// The reader takes files; this one is half a megabyte.
	temp, err := os.CreateTemp("", "scumble-features-*.safetensors")
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp.Name())
	_, err = temp.Write(file)
	if closed := temp.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	list, _, err := safetensors.Read(temp.Name())
	if err != nil {
		return nil, fmt.Errorf("feature network: %w", err)
	}
	w := nn.NewWeights()
	for _, t := range list {
		values, err := t.Float32s()
		if err != nil {
			return nil, err
		}
		w.Add(&nn.Tensor{Name: t.Name, Shape: t.Shape, Data: values})
	}
	return w, nil
}
