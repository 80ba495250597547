package autoencoder

import (
	"fmt"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// epsilon of every group norm of the autoencoder; UNets have 1e-5.
const epsilon = 1e-6

// Bounds that diffusers puts on the log-variance.
const minLogvar, maxLogvar = -30.0, 20.0

// Encode returns the diagonal Gaussian q(z|x) of each image; of a VQModel the
// latents before they are rounded, and no logvar.
//
//   - image: [rows, height, width, InChannels] in [-1, 1]; height and width are
//     multiples of Factor.
//   - mean, logvar: [rows, height/Factor, width/Factor, Depth], logvar in
//     [-30, 20], or nil.
func (c *Config) Encode(s *nn.Scope, image *Node) (mean, logvar *Node) {
	image.AssertRank(4)
	dims := image.Shape().Dimensions
	if f := c.Factor(); dims[1]%f != 0 || dims[2]%f != 0 || dims[3] != c.InChannels {
		panic(fmt.Errorf("autoencoder: image is %v, want height and width in multiples of %d and %d channels",
			dims, f, c.InChannels))
	}
	e := s.In("encoder")
	x := nn.Conv2D(e.In("conv_in"), image, c.BlockOutChannels[0], nn.Same(3), nn.ConvOptions{})
	for i, channels := range c.BlockOutChannels {
		b := e.In("down_blocks.%d", i)
		for j := range c.LayersPerBlock {
			x = c.resnet(b.In("resnets.%d", j), x, channels)
		}
		if i < len(c.BlockOutChannels)-1 {
			// Zeros after only, unlike a UNet's downsampler.
			half := nn.Conv{Kernel: 3, Stride: 2, Pad: [2]int{0, 1}}
			x = nn.Conv2D(b.In("downsamplers.0.conv"), x, channels, half, nn.ConvOptions{})
		}
	}
	x = c.mid(e.In("mid_block"), x)
	x = nn.SiLU(nn.GroupNorm(e.In("conv_norm_out"), x, c.NormNumGroups, epsilon))
	if c.Codebook != nil {
		x = nn.Conv2D(e.In("conv_out"), x, c.LatentChannels, nn.Same(3), nn.ConvOptions{})
		return nn.Conv2D(s.In("quant_conv"), x, c.Codebook.Channels, nn.Same(1), nn.ConvOptions{}), nil
	}
	x = nn.Conv2D(e.In("conv_out"), x, 2*c.LatentChannels, nn.Same(3), nn.ConvOptions{})
	if c.QuantConv {
		x = nn.Conv2D(s.In("quant_conv"), x, 2*c.LatentChannels, nn.Same(1), nn.ConvOptions{})
	}
	halves := Split(x, -1, 2)
	return halves[0], MinScalar(MaxScalar(halves[1], minLogvar), maxLogvar)
}

// Decode returns the image of each latent, in about [-1, 1] (not clipped).
//
//   - latent: [rows, height, width, Depth], as Encode's mean: before Normalize,
//     or after Denormalize. A VQModel rounds it to its codebook.
//   - image: [rows, height·Factor, width·Factor, OutChannels].
func (c *Config) Decode(s *nn.Scope, latent *Node) *Node {
	latent.AssertRank(4)
	if c.Codebook != nil {
		_, latent = c.Quantize(s, latent)
	}
	return c.decode(s, latent)
}

// decode is Decode without rounding.
func (c *Config) decode(s *nn.Scope, latent *Node) *Node {
	x := latent
	if c.PostQuantConv {
		x = nn.Conv2D(s.In("post_quant_conv"), x, c.LatentChannels, nn.Same(1), nn.ConvOptions{})
	}
	d := s.In("decoder")
	widths := c.reversed()
	x = nn.Conv2D(d.In("conv_in"), x, widths[0], nn.Same(3), nn.ConvOptions{})
	x = c.mid(d.In("mid_block"), x)
	for i, channels := range widths {
		b := d.In("up_blocks.%d", i)
		for j := range c.LayersPerBlock + 1 {
			x = c.resnet(b.In("resnets.%d", j), x, channels)
		}
		if i < len(widths)-1 {
			x = nn.Conv2D(b.In("upsamplers.0.conv"), nn.Upsample2(x), channels, nn.Same(3), nn.ConvOptions{})
		}
	}
	x = nn.SiLU(nn.GroupNorm(d.In("conv_norm_out"), x, c.NormNumGroups, epsilon))
	return nn.Conv2D(d.In("conv_out"), x, c.OutChannels, nn.Same(3), nn.ConvOptions{})
}

// mid is the bottleneck: residual block, self-attention, residual block.
func (c *Config) mid(s *nn.Scope, x *Node) *Node {
	channels := x.Shape().Dimensions[3]
	x = c.resnet(s.In("resnets.0"), x, channels)
	if c.MidAttention {
		x = c.attention(s.In("attentions.0"), x)
	}
	return c.resnet(s.In("resnets.1"), x, channels)
}

// resnet is a residual block without time embedding.
func (c *Config) resnet(s *nn.Scope, x *Node, out int) *Node {
	h := nn.SiLU(nn.GroupNorm(s.In("norm1"), x, c.NormNumGroups, epsilon))
	h = nn.Conv2D(s.In("conv1"), h, out, nn.Same(3), nn.ConvOptions{})
	h = nn.SiLU(nn.GroupNorm(s.In("norm2"), h, c.NormNumGroups, epsilon))
	h = nn.Conv2D(s.In("conv2"), h, out, nn.Same(3), nn.ConvOptions{})
	if x.Shape().Dimensions[3] != out {
		x = nn.Conv2D(s.In("conv_shortcut"), x, out, nn.Same(1), nn.ConvOptions{})
	}
	return Add(x, h)
}

// attention is residual self-attention over positions, with one head.
func (c *Config) attention(s *nn.Scope, x *Node) *Node {
	dims := x.Shape().Dimensions
	rows, channels := dims[0], dims[3]
	h := Reshape(nn.GroupNorm(s.In("group_norm"), x, c.NormNumGroups, epsilon), rows, -1, channels)
	q := nn.Dense(s.In("to_q"), h, channels, nn.DenseOptions{})
	k := nn.Dense(s.In("to_k"), h, channels, nn.DenseOptions{})
	v := nn.Dense(s.In("to_v"), h, channels, nn.DenseOptions{})
	h = nn.Dense(s.In("to_out.0"), nn.Attention(q, k, v, 1), channels, nn.DenseOptions{})
	return Add(x, Reshape(h, dims...))
}

// Sample returns mean + exp(logvar/2)·noise, a draw of q(z|x). All have one shape.
func Sample(mean, logvar, noise *Node) *Node {
	return Add(mean, Mul(Exp(MulScalar(logvar, 0.5)), noise))
}

// Divergence returns KL(q(z|x) ‖ N(0, 1)) of each row, summed over positions and
// channels: [rows] (Kingma & Welling 2014, Appendix B).
func Divergence(mean, logvar *Node) *Node {
	terms := AddScalar(Sub(Add(Mul(mean, mean), Exp(logvar)), logvar), -1)
	return MulScalar(ReduceSum(terms, 1, 2, 3), 0.5)
}

// Normalize returns (latent - LatentShift)·LatentScalingFactor: what the
// diffusion model sees.
func (c *Config) Normalize(latent *Node) *Node {
	return MulScalar(AddScalar(latent, -c.LatentShift), c.LatentScalingFactor)
}

// Denormalize undoes Normalize.
func (c *Config) Denormalize(x *Node) *Node {
	return AddScalar(MulScalar(x, 1/c.LatentScalingFactor), c.LatentShift)
}

// Specs returns the parameters in the order of the code: encoder, quant_conv,
// post_quant_conv, decoder. Nothing runs on the backend.
func (c *Config) Specs(backend compute.Backend) ([]nn.Spec, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	specs, err := nn.Collect(backend, nn.Options{}, func(s *nn.Scope) {
		image := Zeros(s.Graph(), shape(1, c.Factor(), c.Factor(), c.InChannels))
		mean, _ := c.Encode(s, image)
		c.Decode(s, mean)
	})
	if err != nil {
		return nil, fmt.Errorf("autoencoder: %w", err)
	}
	return specs, nil
}

func shape(dims ...int) shapes.Shape { return shapes.Make(dtypes.Float32, dims...) }
