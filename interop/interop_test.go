package interop

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/export"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/safetensors"
)

// python runs a script of this folder.
func python(t *testing.T, script string, args ...string) {
	t.Helper()
	out, err := exec.Command(os.Getenv("SCUMBLE_PYTHON"), append([]string{script}, args...)...).CombinedOutput()
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		t.Log(line)
	}
	if err != nil {
		t.Errorf("%s: %v", script, err)
	}
}

const skipped = "left out, since it needs diffusers, peft and transformers; interop/check.sh installs them and runs it"

func needPython(t *testing.T) {
	t.Helper()
	if os.Getenv("SCUMBLE_PYTHON") == "" {
		t.Skip(skipped)
	}
}

// grid is a batch of arrays, channels last.
type grid struct {
	n, size, depth int
	data           []float32
}

func noise(seed uint64, n, size, depth int) grid {
	rng := rand.New(rand.NewPCG(seed, 1))
	g := grid{n, size, depth, make([]float32, n*size*size*depth)}
	for i := range g.data {
		g.data[i] = float32(rng.NormFloat64())
	}
	return g
}

func (g grid) tensor() *tensors.Tensor {
	return tensors.FromFlatDataAndDimensions(append([]float32(nil), g.data...), g.n, g.size, g.size, g.depth)
}

// channelsFirst is the array as PyTorch has it.
func (g grid) channelsFirst(name string) safetensors.Tensor {
	out, area := make([]float32, len(g.data)), g.size*g.size
	for i := range g.n {
		for p := range area {
			for c := range g.depth {
				out[(i*g.depth+c)*area+p] = g.data[(i*area+p)*g.depth+c]
			}
		}
	}
	return safetensors.FromFloat32s(name, []int{g.n, g.depth, g.size, g.size}, out)
}

func save(t *testing.T, dir, file string, list ...safetensors.Tensor) {
	t.Helper()
	if err := safetensors.Write(filepath.Join(dir, file), list, nil); err != nil {
		t.Fatal(err)
	}
}

func describe(t *testing.T, dir string, v any) {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "case.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// run is one way to sample.
type run struct {
	Name     string         `json:"name"`
	Class    string         `json:"class"`
	Options  map[string]any `json:"options"`
	Steps    int            `json:"steps"`
	Guidance float64        `json:"guidance"`
	sampler  diffusion.SamplerName
}

var runs = []run{
	{"ddim", "DDIMScheduler", map[string]any{}, 6, 1, diffusion.UseDDIM},
	{"ddim-guided", "DDIMScheduler", map[string]any{}, 4, 2.5, diffusion.UseDDIM},
	{"dpm++", "DPMSolverMultistepScheduler", map[string]any{}, 6, 1, diffusion.UseDPM},
	// No dpm++-karras: its levels at high noise round to one timestep, and diffusers
	// then begins at the second of them. Package parity compares it step by step.
	{"euler-karras", "EulerDiscreteScheduler", map[string]any{"use_karras_sigmas": true}, 6, 1, diffusion.UseEulerKarras},
	// No plain euler: its few steps from noise level 80 and more multiply float32's
	// rounding to some 1e-4, in either library.
	{"heun-karras", "HeunDiscreteScheduler", map[string]any{"use_karras_sigmas": true}, 12, 1, diffusion.UseHeunKarras},
}

// sample draws images as floats in [0, 1], from a given start.
func sample(t *testing.T, m *checkpoint.Model, r run, start grid, condition, null *tensors.Tensor) grid {
	t.Helper()
	b := backendtest.Open(t, "go")
	branches := nn.Adapter(nil)
	if m.Adapter != nil {
		var err error
		if branches, err = m.Adapter.Adapter("unet"); err != nil {
			t.Fatal(err)
		}
	}
	program := func(build func(s *nn.Scope, in []*graph.Node) *graph.Node) *nn.Program {
		p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Lowering: nn.LoweringFor("go"), Adapter: branches}, Weights: m.Weights,
			Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node { return []*graph.Node{build(s, in)} }})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	call := func(p *nn.Program, in ...*tensors.Tensor) []float32 {
		out, err := p.Run(nil, in...)
		if err != nil {
			t.Fatal(err)
		}
		return tensors.MustCopyFlatData[float32](out[0])
	}
	denoise := program(func(s *nn.Scope, in []*graph.Node) *graph.Node { return pipeline.Denoise(m, s, in[0], in[1], in[2]) })
	defer denoise.Close()
	sampler, err := diffusion.NewSampler(r.sampler, m.Scheduler, r.Steps, diffusion.Stochastic{})
	if err != nil {
		t.Fatal(err)
	}
	x, seen := append([]float32(nil), start.data...), grid{start.n, start.size, start.depth, make([]float32, len(start.data))}
	way := sampler.NewRun()
	way.Begin(x, nil)
	for i, c := range sampler.Calls() {
		way.Input(i, seen.data, x)
		steps := make([]float32, start.n)
		for k := range steps {
			steps[k] = float32(c.Timestep)
		}
		t32 := func() *tensors.Tensor { return tensors.FromFlatDataAndDimensions(steps, start.n) }
		output := call(denoise, seen.tensor(), t32(), condition)
		if r.Guidance != 1 {
			diffusion.Guide(output, call(denoise, seen.tensor(), t32(), null), output, r.Guidance)
		}
		way.Step(i, x, output, nil)
	}
	image := grid{start.n, m.Size, m.Channels, nil}
	var full grid
	if a := m.Autoencoder; a != nil {
		decode := program(func(s *nn.Scope, in []*graph.Node) *graph.Node { return a.Decode(s.In("vae"), a.Denormalize(in[0])) })
		defer decode.Close()
		full = grid{start.n, start.size * a.Factor(), m.Channels, call(decode, grid{start.n, start.size, start.depth, x}.tensor())}
	} else {
		side := start.size * m.PixelUnshuffle
		full = grid{start.n, side, m.Channels, diffusion.Shuffle(x, start.n, side, side, m.Channels, m.PixelUnshuffle)}
	}
	for i := range full.n {
		for y := range m.Size {
			for col := range m.Size {
				for c := range m.Channels {
					v := full.data[((i*full.size+y)*full.size+col)*m.Channels+c]
					image.data = append(image.data, min(1, max(0, v/2+0.5)))
				}
			}
		}
	}
	return image
}

// TestPipelines: the bundled models, and one with a bent LoDA branch, give the same
// images in diffusers, whichever sampler.
func TestPipelines(t *testing.T) {
	needPython(t)
	root := t.TempDir()
	for _, name := range append(models.Names(), "loda") {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		source := name
		if name == "loda" {
			source = "pixel"
		}
		m, err := models.Load(source)
		if err != nil {
			t.Fatal(err)
		}
		if name == "loda" {
			adapt(t, m, &adapter.Config{Rank: 2, Alpha: 3, Core: adapter.NonLinearCore, Kernel: 3, Layers: []string{"mid_block", "up_blocks"}})
		}
		if err := checkpoint.Save(filepath.Join(dir, "model"), m); err != nil {
			t.Fatal(err)
		}
		const n = 2
		factor := m.PixelUnshuffle
		if m.Autoencoder != nil {
			factor = m.Autoencoder.Factor()
		}
		start := noise(7, n, (m.Size+factor-1)/factor, m.UNet.InChannels)
		var condition, null *tensors.Tensor
		about := map[string]any{"kind": "pipeline", "runs": runs}
		inputs := []safetensors.Tensor{start.channelsFirst("latents")}
		if m.TextEncoder != nil {
			prompts := []string{"a bold seven", "a thin three, tilted left"}
			about["prompts"] = prompts
			condition = tensors.FromFlatDataAndDimensions(m.Tokens(prompts), n, m.TextLength())
			null = tensors.FromFlatDataAndDimensions(m.Tokens([]string{"", ""}), n, m.TextLength())
		} else {
			condition, null = tensors.FromFlatDataAndDimensions([]int32{0, 3}, n), tensors.FromFlatDataAndDimensions([]int32{int32(m.NullClass()), int32(m.NullClass())}, n)
			inputs = append(inputs, safetensors.FromInt64s("labels", []int{n}, []int64{0, 3}))
		}
		var outputs []safetensors.Tensor
		for _, r := range runs {
			image := sample(t, m, r, start, condition, null)
			outputs = append(outputs, safetensors.FromFloat32s(r.Name, []int{n, image.size, image.size, image.depth}, image.data))
		}
		describe(t, dir, about)
		save(t, dir, "in.safetensors", inputs...)
		save(t, dir, "out.safetensors", outputs...)
	}
	python(t, "read.py", root)
}

// adapt gives a model random branches.
func adapt(t *testing.T, m *checkpoint.Model, c *adapter.Config) {
	t.Helper()
	m.Adapter = c
	specs, err := m.Specs(backendtest.Open(t, "go"))
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(4, 4))
	for _, s := range specs {
		if adapter.IsAdapter(s.Name) {
			s.Init = nn.InitFanIn
			x := nn.NewTensor(s, rng)
			for i := range x.Data {
				x.Data[i] *= 0.5
			}
			m.Weights.Add(x)
		}
	}
}

// TestAdapters: an adapter in every format gives in diffusers and peft what it
// gives here, with a branch on every layer.
func TestAdapters(t *testing.T) {
	needPython(t)
	b := backendtest.Open(t, "go")
	root := t.TempDir()
	for name, c := range map[string]*adapter.Config{
		"attention": {Rank: 3, Alpha: 6, Targets: []string{"to_q", "to_k", "to_v", "to_out.0"}},
		"mixed":     {Rank: 2, Alpha: 5, Targets: []string{"to_q", "conv1", "conv2"}},
	} {
		dir := filepath.Join(root, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		m, err := models.Load("latent")
		if err != nil {
			t.Fatal(err)
		}
		if err := checkpoint.Save(filepath.Join(dir, "base"), m); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "base", "unet"), filepath.Join(dir, "unet")); err != nil {
			t.Fatal(err)
		}
		adapt(t, m, c)
		for _, format := range []export.ModelFormat{export.PEFT, export.DiffusersLoRA, export.Kohya} {
			if _, err := export.Model(b, nn.LoweringFor("go"), filepath.Join(dir, string(format)), m, format, nil); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := export.Model(b, nn.LoweringFor("go"), filepath.Join(dir, "merged"), m, export.Diffusers, nil); err != nil {
			t.Fatal(err)
		}
		branches, err := c.Adapter("unet")
		if err != nil {
			t.Fatal(err)
		}
		x, width := noise(9, 2, 8, m.UNet.InChannels), m.UNet.ContextWidth()
		context := make([]float32, 2*3*width)
		rng := rand.New(rand.NewPCG(2, 2))
		for i := range context {
			context[i] = float32(rng.NormFloat64())
		}
		steps := []float32{10, 900}
		p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Lowering: nn.LoweringFor("go"), Adapter: branches}, Weights: pipeline.Component(m.Weights, "unet"),
			Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
				return []*graph.Node{m.UNet.Forward(s.In("unet"), pipeline.UNetInputs(m.UNet, in))}
			}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		out, err := p.Run(nil, x.tensor(), tensors.FromFlatDataAndDimensions(steps, 2), tensors.FromFlatDataAndDimensions(context, 2, 3, width))
		if err != nil {
			t.Fatal(err)
		}
		y := grid{2, 8, m.UNet.OutChannels, tensors.MustCopyFlatData[float32](out[0])}
		describe(t, dir, map[string]any{"kind": "adapters", "layers": len(adapter.Branches(m.Weights))})
		save(t, dir, "in.safetensors", x.channelsFirst("sample"), safetensors.FromFloat32s("timestep", []int{2}, steps), safetensors.FromFloat32s("context", []int{2, 3, width}, context))
		var outputs []safetensors.Tensor
		for _, key := range []string{"peft", "merged", "diffusers-lora", "kohya"} {
			outputs = append(outputs, y.channelsFirst(key))
		}
		save(t, dir, "out.safetensors", outputs...)
	}
	python(t, "read.py", root)
}

// TestFromPython: folders that diffusers wrote load and give the same here.
func TestFromPython(t *testing.T) {
	needPython(t)
	root := t.TempDir()
	python(t, "write.py", root)
	b := backendtest.Open(t, "go")
	for _, name := range []string{"pixels", "sharded", "latents"} {
		m, err := checkpoint.Load(filepath.Join(root, name))
		if err != nil {
			t.Error(err)
			continue
		}
		io := map[string]grid{}
		list, _, err := safetensors.Read(filepath.Join(root, name+".io.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range list {
			v, err := x.Float32s()
			if err != nil {
				t.Fatal(err)
			}
			io[x.Name] = grid{data: v}
			if len(x.Shape) == 4 { // To channels last: the inverse is the same walk with axes swapped.
				n, c, area := x.Shape[0], x.Shape[1], x.Shape[2]*x.Shape[3]
				g := grid{n, x.Shape[2], c, make([]float32, len(v))}
				for i := range n {
					for k := range c {
						for p := range area {
							g.data[(i*area+p)*c+k] = v[(i*c+k)*area+p]
						}
					}
				}
				io[x.Name] = g
			}
		}
		p, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Lowering: nn.LoweringFor("go")}, Weights: pipeline.Component(m.Weights, "unet"),
			Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
				return []*graph.Node{m.UNet.Forward(s.In("unet"), pipeline.UNetInputs(m.UNet, in))}
			}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		out, err := p.Run(nil, io["sample"].tensor(), tensors.FromFlatDataAndDimensions(io["timestep"].data, 2))
		if err != nil {
			t.Fatal(err)
		}
		var off, scale float32
		for i, v := range tensors.MustCopyFlatData[float32](out[0]) {
			off, scale = max(off, v-io["output"].data[i], io["output"].data[i]-v), max(scale, io["output"].data[i], -io["output"].data[i])
		}
		if t.Logf("%s: largest difference %.1e of the largest entry", name, off/scale); !(off <= 1e-4*scale) {
			t.Errorf("%s is off by %.1e", name, off/scale)
		}
	}
}
