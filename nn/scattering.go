package nn

import (
	"fmt"
	"math"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
)

// Orientations is the number of directions of a scattering transform's wavelets.
const Orientations = 8

// MaxScatteringSize is the largest height or width of images that Scattering takes: wavelets
// of larger ones would be wider than is worth convolving with.
const MaxScatteringSize = 64

// ScatteringScales is J, the number of octaves, for images of a height and a width: two up to
// 32 pixels, three up to 64.
func ScatteringScales(height, width int) int {
	if max(height, width) > 32 {
		return 3
	}
	return 2
}

// ScatteringChannels is the number of maps of J octaves: 1 + L·J + L²·J·(J-1)/2, for each
// channel of an image.
func ScatteringChannels(scales int) int {
	const l = Orientations
	return 1 + l*scales + l*l*scales*(scales-1)/2
}

// ScatteringValues is how many values Scattering gives for one image.
func ScatteringValues(height, width, channels int) int {
	scales := ScatteringScales(height, width)
	cells := func(n int) int { return (n + 1<<scales - 1) >> scales }
	return cells(height) * cells(width) * channels * ScatteringChannels(scales)
}

// Scattering is the scattering transform of x (Bruna & Mallat 2013,
// https://arxiv.org/abs/1203.1513): moduli of wavelet coefficients, of zero, one and two wavelets,
// averaged by a Gaussian. It has no weights, and is the same for all images, so it may be
// computed of private ones before any of it is private; classifiers on top of it learn more from few noisy
// gradients than networks that must find such features first (Tramèr & Boneh 2021,
// https://arxiv.org/abs/2011.11660).
//
//   - x: [rows, height, width, channels], 0 where nothing is: that is what lies around the image.
//   - returns [rows, ⌈height/2^J⌉, ⌈width/2^J⌉, channels·ScatteringChannels(J)], J of ScatteringScales.
//
// Each wavelet of scale j is computed at every 2^j-th pixel, so all of them, and the
// averages, are those of the first scales on a coarser grid.
func Scattering(s *Scope, x *Node) *Node {
	d := x.Shape().Dimensions
	rows, height, width, channels := d[0], d[1], d[2], d[3]
	if max(height, width) > MaxScatteringSize {
		panic(fmt.Errorf("nn: scattering %q: images are %dx%d, want at most %d", s.path, height, width, MaxScatteringSize))
	}
	scales := ScatteringScales(height, width)
	x = Reshape(TransposeAllAxes(x, 0, 3, 1, 2), rows*channels, height, width, 1)

	maps := []*Node{s.average(x, scales)}
	for j := range scales {
		first := s.wavelets(x, j)
		maps = append(maps, s.average(first, scales-j))
		for j2 := j + 1; j2 < scales; j2++ {
			maps = append(maps, s.average(s.wavelets(first, j2-j), scales-j2))
		}
	}
	y := Concatenate(maps, -1)
	d = y.Shape().Dimensions
	y = TransposeAllAxes(Reshape(y, rows, channels, d[1], d[2], d[3]), 0, 2, 3, 1, 4)
	return Reshape(y, rows, d[1], d[2], -1)
}

// each convolves every map of x by itself with the same kernels: [rows, height, width, maps] →
// [rows, height', width', maps·kernels].
func (s *Scope) each(x *Node, kernel [][]float32, c Conv) *Node {
	d := x.Shape().Dimensions
	flat := make([]float32, 0, c.Kernel*c.Kernel*len(kernel))
	for p := range c.Kernel * c.Kernel {
		for _, k := range kernel {
			flat = append(flat, k[p])
		}
	}
	w := Reshape(Const(x.Graph(), flat), c.Kernel, c.Kernel, 1, len(kernel))
	alone := Reshape(TransposeAllAxes(x, 0, 3, 1, 2), d[0]*d[3], d[1], d[2], 1)
	y := s.convolve(alone, w, nil, nil, c)
	h, wd := y.Shape().Dimensions[1], y.Shape().Dimensions[2]
	y = TransposeAllAxes(Reshape(y, d[0], d[3], h, wd, len(kernel)), 0, 2, 3, 1, 4)
	return Reshape(y, d[0], h, wd, d[3]*len(kernel))
}

// wavelets are the moduli of x's Morlet coefficients of scale j, at every 2^j-th pixel.
func (s *Scope) wavelets(x *Node, j int) *Node {
	c := Conv{Kernel: 2*morletRadius(j) + 1, Stride: 1 << j, Pad: [2]int{morletRadius(j), morletRadius(j)}}
	var parts [][]float32
	for o := range Orientations {
		re, im := morlet(j, math.Pi*float64(o)/Orientations)
		parts = append(parts, re, im)
	}
	y := s.each(x, parts, c)
	d := y.Shape().Dimensions
	pairs := Reshape(y, d[0], d[1], d[2], d[3]/2, 2)
	return Sqrt(ReduceSum(Mul(pairs, pairs), -1))
}

// average is x under a Gaussian of scale 2^octaves, at every 2^octaves-th pixel.
func (s *Scope) average(x *Node, octaves int) *Node {
	radius := int(math.Ceil(3 * averageSigma(octaves)))
	c := Conv{Kernel: 2*radius + 1, Stride: 1 << octaves, Pad: [2]int{radius, radius}}
	return s.each(x, [][]float32{gaussian(averageSigma(octaves), radius)}, c)
}

// averageSigma is the deviation of the average over 2^octaves pixels.
func averageSigma(octaves int) float64 { return 0.8 * math.Pow(2, float64(octaves-1)) }

// gaussian is a square of 2·radius+1 values that add up to 1.
func gaussian(sigma float64, radius int) []float32 {
	var values []float64
	sum := 0.0
	for y := -radius; y <= radius; y++ {
		for x := -radius; x <= radius; x++ {
			v := math.Exp(-float64(x*x+y*y) / (2 * sigma * sigma))
			values = append(values, v)
			sum += v
		}
	}
	out := make([]float32, len(values))
	for i, v := range values {
		out[i] = float32(v / sum)
	}
	return out
}

// morletRadius is three deviations of a wavelet across its direction, where it is widest.
func morletRadius(j int) int { return int(math.Ceil(3 * 1.6 * math.Pow(2, float64(j)))) }

// morlet is the Morlet wavelet of scale j and an angle:
//
//	ψ(u) = (exp(iξ·u∥) - κ)·exp(-(u∥² + u⊥²/4)/(2σ²))/(4πσ²), σ = 0.8·2^j, ξ = 3π/(4·2^j),
//
// u∥ and u⊥ along and across it, κ such that its values add up to zero.
func morlet(j int, angle float64) (re, im []float32) {
	radius, scale := morletRadius(j), math.Pow(2, float64(j))
	sigma, xi := 0.8*scale, 3*math.Pi/4/scale
	sin, cos := math.Sincos(angle)
	var wave []complex128
	var bell []float64
	var waves complex128
	bells := 0.0
	for y := -radius; y <= radius; y++ {
		for x := -radius; x <= radius; x++ {
			along, across := cos*float64(x)+sin*float64(y), -sin*float64(x)+cos*float64(y)
			b := math.Exp(-(along*along+across*across/4)/(2*sigma*sigma)) / (4 * math.Pi * sigma * sigma)
			w := complex(b*math.Cos(xi*along), b*math.Sin(xi*along))
			wave, bell = append(wave, w), append(bell, b)
			waves, bells = waves+w, bells+b
		}
	}
	kappa := waves / complex(bells, 0)
	re, im = make([]float32, len(wave)), make([]float32, len(wave))
	for i, w := range wave {
		v := w - kappa*complex(bell[i], 0)
		re[i], im[i] = float32(real(v)), float32(imag(v))
	}
	return re, im
}
