package unet

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// TestRowsDoNotSeeEachOther differentiates a random functional of row 0 of the
// output: by every input of row 1 the result must be exactly zero. Inputs without
// gradient, time and class, are changed instead.
func TestRowsDoNotSeeEachOther(t *testing.T) {
	for _, dir := range fixtures {
		t.Run(dir, func(t *testing.T) {
			c := loadConfig(t, dir, "config.json")
			w := loadWeights(t, c, dir)
			io := readArrays(t, dir, "io.safetensors")
			each(t, func(t *testing.T, b compute.Backend) {
				options := nn.ProgramOptions{NN: nn.Options{Lowering: lowering(t, b)}, Weights: w,
					Build: func(s *nn.Scope, _, nodes []*Node) []*Node {
						in := inputsOf(c, nodes)
						first := Slice(c.Forward(s, in), AxisRange(0, 1))
						// Weights that no symmetry of the network can cancel.
						functional := ReduceAllSum(Mul(first, Sin(MulScalar(Iota(s.Graph(), first.Shape(), 1), 1.7))))
						by := []*Node{in.Sample}
						if in.Context != nil {
							by = append(by, in.Context)
						}
						return append([]*Node{first}, Gradient(functional, by...)...)
					}}
				inputs := tensorsOf(c, io)
				out := run(t, b, options, inputs...)
				for _, g := range out[1:] {
					values := tensors.MustCopyFlatData[float32](g)
					half := len(values) / 2
					if !slices.ContainsFunc(values[:half], func(v float32) bool { return v != 0 }) {
						t.Error("row 0 of the output does not depend on its own input")
					}
					if i := slices.IndexFunc(values[half:], func(v float32) bool { return v != 0 }); i >= 0 {
						t.Errorf("derivative of row 0 by entry %d of row 1 is %g, want 0", i, values[half+i])
					}
				}
				changed := tensorsOf(c, io)
				for i, in := range changed {
					if in.DType().IsInt() {
						values := tensors.MustCopyFlatData[int32](in)
						values[1] = (values[1] + 1) % 5
						changed[i] = tensors.FromFlatDataAndDimensions(values, len(values))
					}
				}
				again := run(t, b, options, changed...)
				if !slices.Equal(tensors.MustCopyFlatData[float32](out[0]), tensors.MustCopyFlatData[float32](again[0])) {
					t.Error("row 0 of the output changes with time or class of row 1")
				}
			})
		})
	}
}

// TestOneTokenIsTwoEqualTokens: attention over one token is done without
// softmax; it must agree with attention over the same token twice, and leave
// gradients of zero, not none, for the queries.
func TestOneTokenIsTwoEqualTokens(t *testing.T) {
	c := loadConfig(t, "unet2d_condition", "config.json")
	w := loadWeights(t, c, "unet2d_condition")
	io := readArrays(t, "unet2d_condition", "io.safetensors")
	context := io["encoder_hidden_states"]
	width := context.shape[2]
	one := array{shape: []int{2, 1, width}}
	two := array{shape: []int{2, 2, width}}
	for i := range 2 {
		token := context.row(i).data[:width]
		one.data = append(one.data, token...)
		two.data = append(append(two.data, token...), token...)
	}
	const queries = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q.weight"
	b := backendtest.Open(t, "go")
	forward := func(context array) []*tensors.Tensor {
		io["encoder_hidden_states"] = context
		return run(t, b, nn.ProgramOptions{NN: nn.Options{Lowering: nn.Patches}, Weights: w, Trainable: []string{queries},
			Build: func(s *nn.Scope, trainable, nodes []*Node) []*Node {
				y := c.Forward(s, inputsOf(c, nodes))
				return append([]*Node{y}, Gradient(ReduceAllSum(Square(y)), trainable...)...)
			}}, tensorsOf(c, io)...)
	}
	got, want := forward(one), forward(two)
	checkNear(t, "output", got[0], arrayOf(want[0]), 1e-5)
	if slices.ContainsFunc(tensors.MustCopyFlatData[float32](got[1]), func(v float32) bool { return v != 0 }) {
		t.Error("queries of one token have a gradient, want zero")
	}
}

// TestOddSizes: upsampling to 7 goes back from 4, not to 8.
func TestOddSizes(t *testing.T) {
	for _, size := range []string{"7x7", "5x6", "1x1", "13x3"} {
		for _, padding := range []int{0, 1} {
			t.Run(fmt.Sprintf("%s padding %d", size, padding), func(t *testing.T) {
				var h, w int
				if _, err := fmt.Sscanf(size, "%dx%d", &h, &w); err != nil {
					t.Fatal(err)
				}
				if padding == 0 && (h == 1 || w == 1) {
					t.Skip("a map of one pixel has no half")
				}
				c := loadConfig(t, "unet2d", "config.json")
				c.DownsamplePadding = padding
				out := run(t, backendtest.Open(t, "go"), nn.ProgramOptions{NN: nn.Options{Lowering: nn.Patches},
					Weights: randomWeights(t, c, 1),
					Build: func(s *nn.Scope, _, nodes []*Node) []*Node {
						y := c.Forward(s, inputsOf(c, nodes))
						return []*Node{y, Gradient(ReduceAllSum(Square(y)), nodes[0])[0]}
					}},
					array{[]int{1, h, w, 1}, make([]float64, h*w)}.tensor(),
					array{[]int{1}, []float64{10}}.ints(), array{[]int{1}, []float64{3}}.ints())
				out[0].Shape().AssertDims(1, h, w, 1)
				out[1].Shape().AssertDims(1, h, w, 1)
			})
		}
	}
}

func TestUpsampleTakesTheNearest(t *testing.T) {
	for _, to := range [][2]int{{8, 6}, {7, 5}, {7, 6}, {9, 7}} {
		x := array{shape: []int{2, 4, 3, 2}}
		for i := range 2 * 4 * 3 * 2 {
			x.data = append(x.data, float64(i)+0.1)
		}
		want := array{shape: []int{2, to[0], to[1], 2}}
		for row := range 2 {
			for i := range to[0] {
				for j := range to[1] {
					for channel := range 2 {
						want.data = append(want.data, x.data[((row*4+i*4/to[0])*3+j*3/to[1])*2+channel])
					}
				}
			}
		}
		got := MustExecOnce(backendtest.Open(t, "go"), func(x *Node) *Node { return upsample(x, to[0], to[1]) }, x.tensor())
		checkNear(t, fmt.Sprintf("4x3 to %v", to), got, want, 1e-6)
	}
}

// TestScaleShift: with a projection that ignores the time, steering by scale and
// shift is a second affine map after the second norm.
func TestScaleShift(t *testing.T) {
	plain := loadConfig(t, "unet2d", "config.json")
	steered := loadConfig(t, "unet2d", "config.json")
	steered.ResnetTimeScaleShift = "scale_shift"
	steered.AttnNormNumGroups = steered.NormNumGroups // Else the middle attention would lose its norm.

	w := randomWeights(t, steered, 2)
	folded := nn.NewWeights()
	specs, err := plain.Specs(backendtest.Open(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs {
		from := w.Get(spec.Name)
		to := nn.NewTensor(spec, newRand(3))
		base, leaf, isNorm := strings.Cut(spec.Name, ".norm2.")
		switch {
		case strings.Contains(spec.Name, ".time_emb_proj."):
			if strings.HasSuffix(spec.Name, ".weight") {
				clear(from.Data)
			}
			clear(to.Data)
		case isNorm:
			bias := w.Get(base + ".time_emb_proj.bias").Data
			half := len(bias) / 2
			for i, v := range from.Data {
				to.Data[i] = v * (1 + bias[i])
				if leaf == "bias" {
					to.Data[i] += bias[half+i]
				}
			}
		default:
			copy(to.Data, from.Data)
		}
		folded.Add(to)
	}
	io := readArrays(t, "unet2d", "io.safetensors")
	forward := func(c *Config, w *nn.Weights) *tensors.Tensor {
		return run(t, backendtest.Open(t, "go"), nn.ProgramOptions{NN: nn.Options{Lowering: nn.Patches}, Weights: w,
			Build: func(s *nn.Scope, _, nodes []*Node) []*Node {
				return []*Node{c.Forward(s, inputsOf(c, nodes))}
			}}, tensorsOf(c, io)...)[0]
	}
	checkNear(t, "output", forward(steered, w), arrayOf(forward(plain, folded)), 1e-4)

	steered.AttnNormNumGroups = 0
	specs, err = steered.Specs(backendtest.Open(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, spec := range specs {
		if strings.HasPrefix(spec.Name, "mid_block.attentions.0.group_norm.") {
			t.Errorf("with scale_shift alone there is %s, diffusers has none", spec.Name)
		}
	}
}

// TestLinearProjection: a 1x1 convolution and a dense layer are one map.
func TestLinearProjection(t *testing.T) {
	c := loadConfig(t, "unet2d_condition", "config.json")
	w := loadWeights(t, c, "unet2d_condition")
	io := readArrays(t, "unet2d_condition", "io.safetensors")
	c.UseLinearProjection = true
	linear := nn.NewWeights()
	for _, from := range w.All() {
		to := *from
		if strings.HasSuffix(from.Name, ".proj_in.weight") || strings.HasSuffix(from.Name, ".proj_out.weight") {
			to.Kind, to.Shape = nn.KindDense, from.Shape[2:]
		}
		linear.Add(&to)
	}
	out := run(t, backendtest.Open(t, "go"), nn.ProgramOptions{NN: nn.Options{Lowering: nn.Patches}, Weights: linear,
		Build: func(s *nn.Scope, _, nodes []*Node) []*Node {
			return []*Node{c.Forward(s, inputsOf(c, nodes))}
		}}, tensorsOf(c, io)...)
	checkNear(t, "output", out[0], io["output"].channelsLast(), parity)
}

// TestParameterShapes has configurations without a recorded reference.
func TestParameterShapes(t *testing.T) {
	for _, tc := range []struct {
		name, config string
		want         map[string]string // Shape, or "" for no such parameter.
	}{
		{"no middle", `{"_class_name": "UNet2DModel", "mid_block_type": null}`,
			map[string]string{"mid_block.resnets.0.conv1.weight": "", "up_blocks.0.resnets.0.conv1.weight": "[3 3 1792 896]"}},
		{"no middle attention", `{"_class_name": "UNet2DModel", "add_attention": false}`,
			map[string]string{"mid_block.attentions.0.to_q.weight": "", "mid_block.resnets.1.conv2.bias": "[896]"}},
		{"time embedding", `{"_class_name": "UNet2DModel", "time_embedding_dim": 100, "num_class_embeds": 7}`,
			map[string]string{"time_embedding.linear_1.weight": "[224 100]", "class_embedding.weight": "[7 100]"}},
		{"stable diffusion 1.5", `{"_class_name": "UNet2DConditionModel", "cross_attention_dim": 768}`,
			map[string]string{
				"down_blocks.3.attentions.0.proj_in.weight":                             "",
				"up_blocks.3.attentions.2.transformer_blocks.0.attn2.to_k.weight":       "[768 320]",
				"up_blocks.1.resnets.2.conv_shortcut.weight":                            "[1 1 1920 1280]",
				"mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj.weight":      "[1280 10240]",
				"down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0.bias":   "[640]",
				"down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_out.0.weight": "[640 640]",
				"down_blocks.1.attentions.1.transformer_blocks.0.attn1.to_q.bias":       "",
				"up_blocks.2.upsamplers.0.conv.weight":                                  "[3 3 640 640]",
				"up_blocks.3.upsamplers.0.conv.weight":                                  "",
				"down_blocks.2.downsamplers.0.conv.weight":                              "[3 3 1280 1280]",
				"down_blocks.3.downsamplers.0.conv.weight":                              "",
				"mid_block.attentions.0.transformer_blocks.1.attn1.to_q.weight":         "",
				"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight":     "[320 320]",
				"down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight":     "[768 320]",
				"down_blocks.0.attentions.0.transformer_blocks.0.norm3.weight":          "[320]",
				"down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight":       "[1280 320]",
				"down_blocks.0.attentions.0.norm.weight":                                "[320]",
				"down_blocks.0.attentions.0.proj_out.weight":                            "[1 1 320 320]",
				"down_blocks.0.resnets.1.time_emb_proj.weight":                          "[1280 320]",
				"conv_out.weight": "[3 3 320 4]",
			}},
		{"only cross attention", `{"_class_name": "UNet2DConditionModel", "only_cross_attention": true, "cross_attention_dim": 24, "mid_block_type": "UNetMidBlock2D"}`,
			map[string]string{
				"down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight": "[24 320]",
				"mid_block.resnets.0.conv1.weight":                                  "[3 3 1280 1280]",
				"mid_block.resnets.1.conv1.weight":                                  "",
			}},
		{"no context, per block", `{"_class_name": "UNet2DConditionModel", "cross_attention_dim": null, "layers_per_block": [1, 2, 1, 3],
			"transformer_layers_per_block": [1, 2, 1, 3], "conv_in_kernel": 1, "conv_out_kernel": 5}`,
			map[string]string{
				"down_blocks.1.attentions.1.transformer_blocks.1.attn1.to_k.weight": "[640 640]",
				"down_blocks.1.attentions.1.transformer_blocks.1.attn2.to_k.weight": "",
				"up_blocks.2.attentions.2.transformer_blocks.1.attn1.to_k.weight":   "[640 640]",
				"up_blocks.0.resnets.3.conv1.weight":                                "[3 3 2560 1280]",
				"up_blocks.0.resnets.4.conv1.weight":                                "",
				"conv_in.weight":                                                    "[1 1 4 320]",
				"conv_out.weight":                                                   "[5 5 320 4]",
			}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := ParseConfig([]byte(tc.config))
			if err != nil {
				t.Fatal(err)
			}
			specs, err := c.Specs(backendtest.Open(t, "go"))
			if err != nil {
				t.Fatal(err)
			}
			got, size := map[string]string{}, 0
			for _, spec := range specs {
				got[spec.Name] = fmt.Sprint(spec.Shape)
				size += spec.Size()
			}
			for name, shape := range tc.want {
				if got[name] != shape {
					t.Errorf("%s is %q, want %q", name, got[name], shape)
				}
			}
			if tc.name == "stable diffusion 1.5" && size != 859_520_964 { // As published.
				t.Errorf("%d parameters, want 859520964", size)
			}
		})
	}
}

// TestFreshNetworkPredictsZero: the last convolution starts at zero, and each
// residual branch adds nothing before it.
func TestFreshNetworkPredictsZero(t *testing.T) {
	for _, dir := range fixtures {
		c := loadConfig(t, dir, "config.json")
		io := readArrays(t, dir, "io.safetensors")
		b := backendtest.Open(t, "go")
		specs, err := c.Specs(b)
		if err != nil {
			t.Fatal(err)
		}
		out := run(t, b, nn.ProgramOptions{NN: nn.Options{Lowering: nn.Patches}, Weights: nn.InitWeights(specs, newRand(4)),
			Build: func(s *nn.Scope, _, nodes []*Node) []*Node {
				var before []*Node
				y := c.forward(s, inputsOf(c, nodes), func(path string, y *Node) {
					if path == "down_blocks.0.resnets.0" || path == "conv_in" || path == "down_blocks.0.attentions.0" {
						before = append(before, y)
					}
				})
				return append([]*Node{y}, before...)
			}}, tensorsOf(c, io)...)
		for _, v := range tensors.MustCopyFlatData[float32](out[0]) {
			if v != 0 {
				t.Fatalf("%s: a fresh network predicts %g, want 0", dir, v)
			}
		}
		for _, y := range out[2:] {
			checkNear(t, dir+": first modules", y, arrayOf(out[1]), 0)
		}
	}
}

// TestSinusoid compares with the formula in float64 where float32 angles suffice.
func TestSinusoid(t *testing.T) {
	for _, tc := range []struct {
		cosFirst bool
		shift    int
	}{{true, 0}, {false, 0}, {true, 1}} {
		want := array{shape: []int{2, 8}}
		for _, step := range []float64{3, 40} {
			var sines, cosines []float64
			for i := range 4 {
				angle := step * math.Pow(10000, -float64(i)/float64(4-tc.shift))
				sines, cosines = append(sines, math.Sin(angle)), append(cosines, math.Cos(angle))
			}
			if tc.cosFirst {
				sines, cosines = cosines, sines
			}
			want.data = append(append(want.data, sines...), cosines...)
		}
		got := MustExecOnce(backendtest.Open(t, "go"), func(x *Node) *Node { return Sinusoid(x, 8, tc.cosFirst, tc.shift) },
			array{[]int{2}, []float64{3, 40}}.ints())
		checkNear(t, fmt.Sprint(tc), got, want, 1e-5)
	}
}

func TestForwardRefusesMisfitInputs(t *testing.T) {
	c := loadConfig(t, "unet2d", "config.json")
	_, err := nn.Collect(backendtest.Open(t, "go"), nn.Options{}, func(s *nn.Scope) {
		c.Forward(s, Inputs{
			Sample:    Const(s.Graph(), [][][][]float32{{{{0}}}}),
			Timesteps: Const(s.Graph(), []int32{0}),
		})
	})
	if err == nil || !strings.Contains(err.Error(), "classes") {
		t.Errorf("error is %v, want one about the missing classes", err)
	}
}

func arrayOf(t *tensors.Tensor) array {
	a := array{shape: t.Shape().Dimensions}
	for _, v := range tensors.MustCopyFlatData[float32](t) {
		a.data = append(a.data, float64(v))
	}
	return a
}
