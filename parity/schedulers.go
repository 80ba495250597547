package parity

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/scumble-dp/scumble/diffusion"
)

// scheduler compares a sampler with a recorded trajectory, a step at a time: each
// step gets the recorded state and network output.
func (w *walker) scheduler(dir string) error {
	path := filepath.Join(dir, "trajectory.safetensors")
	run, err := readArrays(path)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "scheduler_config.json"))
	if err != nil {
		return err
	}
	var edm struct {
		Class string   `json:"_class_name"`
		Data  *float64 `json:"sigma_data"`
		Min   float64  `json:"sigma_min"`
		Max   float64  `json:"sigma_max"`
		Rho   float64  `json:"rho"`
	}
	if json.Unmarshal(text, &edm) == nil && edm.Class == "" && edm.Data != nil {
		c, err := diffusion.ParseConfig([]byte(`{"_class_name": "EDMEulerScheduler"}`))
		if err != nil {
			return err
		}
		c.Levels.Data, c.Levels.Min, c.Levels.Max, c.Levels.Rho = *edm.Data, edm.Min, edm.Max, edm.Rho
		return w.edm(path, c, run)
	}
	c, err := diffusion.ParseConfig(text)
	if err != nil {
		return err
	}
	if err := w.forward(path, c, run, dir); err != nil {
		return err
	}
	in, err := want(run, "input", "model_output", "output")
	if err != nil {
		return err
	}
	steps := in[0].shape[0]
	if c.Class == "HeunDiscreteScheduler" {
		steps = (steps + 1) / 2
	}
	s, err := diffusion.NewSampler(diffusion.UseConfig, c, steps, diffusion.Stochastic{})
	if err != nil {
		return err
	}
	calls := s.Calls()
	if len(calls) != in[0].shape[0] {
		return fmt.Errorf("%d network calls with %d steps, %d are recorded", len(calls), steps, in[0].shape[0])
	}
	w.levels(path, calls, run)
	first := in[0].row(0)
	if x0, ok := w.start(filepath.Dir(dir)); ok && len(x0.data) == len(first.data) {
		x := x0.float32s()
		s.NewRun().Begin(x, nil)
		w.near(path, c.Class+" first state", fromFloat32s(first.shape, x), first)
	}
	r := s.NewRun()
	got, seen := array{shape: in[2].shape}, array{shape: in[0].shape}
	for i := range calls {
		x := in[0].row(i).float32s()
		input := make([]float32, len(x))
		r.Input(i, input, x)
		seen.data = append(seen.data, fromFloat32s(nil, input).data...)
		var noise diffusion.Normal
		if recorded, ok := run["noise"]; ok {
			noise = &replay{recorded.row(i).data}
		}
		r.Step(i, x, in[1].row(i).float32s(), noise)
		got.data = append(got.data, fromFloat32s(nil, x).data...)
	}
	if recorded, ok := run["model_input"]; ok {
		w.steps(path, c.Class+" network input", seen, recorded)
	}
	w.steps(path, c.Class+" step", got, in[2])
	return nil
}

// steps compares stacked steps, each relative to its own largest entry.
func (w *walker) steps(path, what string, got, recorded array) {
	worst := 0.0
	for i := range recorded.shape[0] {
		a, b := got.row(i).data, recorded.row(i).data
		var off, scale float64
		for j := range b {
			if d := math.Abs(a[j] - b[j]); !(d <= off) {
				off = d
			}
			scale = max(scale, math.Abs(b[j]))
		}
		if d := off / scale; !(d <= worst) {
			worst = d
		}
	}
	w.add(path, what, worst, Tolerance)
}

// replay gives recorded noise in order.
type replay struct{ values []float64 }

func (r *replay) NormFloat64() float64 {
	v := r.values[0]
	r.values = r.values[1:]
	return v
}

// start returns the recorded start of all trajectories, if there is one.
func (w *walker) start(dir string) (array, bool) {
	if w.shared == nil {
		w.shared = map[string]array{}
	}
	a, ok := w.shared[dir]
	if !ok {
		arrays, err := readArrays(filepath.Join(dir, "shared.safetensors"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.fail(filepath.Join(dir, "shared.safetensors"), "start of trajectories", err)
		}
		a = arrays["x0"]
		w.shared[dir] = a
	}
	return a, a.data != nil
}

// levels compares timesteps and noise levels.
func (w *walker) levels(path string, calls []diffusion.Call, run map[string]array) {
	if recorded, ok := run["timesteps"]; ok {
		got := array{shape: []int{len(calls)}}
		for _, c := range calls {
			got.data = append(got.data, c.Timestep)
		}
		w.near(path, "timesteps", got, recorded)
	}
	if recorded, ok := run["sigmas"]; ok && len(recorded.data) > len(calls) {
		got := array{shape: []int{len(calls)}}
		for _, c := range calls {
			got.data = append(got.data, c.Sigma)
		}
		w.near(path, "noise levels", got, array{shape: got.shape, data: recorded.data[:len(calls)]})
	}
}

// forward compares the forward process, where it is recorded.
func (w *walker) forward(path string, c *diffusion.Config, run map[string]array, dir string) error {
	recorded, ok := run["alphas_cumprod"]
	if !ok {
		return nil
	}
	s, err := diffusion.NewSchedule(c)
	if err != nil {
		return err
	}
	w.near(path, "alphas_cumprod", array{shape: []int{s.Steps()}, data: s.AlphasCumprod}, recorded)
	if _, ok := run["noised"]; !ok {
		return nil
	}
	in, err := want(run, "noised", "noised_eps", "noised_t")
	if err != nil {
		return err
	}
	x0, ok := w.start(filepath.Dir(dir))
	if !ok {
		return errors.New("noised is recorded without shared.safetensors, where x0 is")
	}
	got := array{shape: in[0].shape}
	for i := range in[0].shape[0] {
		x := make([]float32, len(x0.row(i).data))
		s.AddNoise(x, x0.row(i).float32s(), in[1].row(i).float32s(), int(in[2].data[i]))
		got.data = append(got.data, fromFloat32s(nil, x).data...)
	}
	w.near(path, "noised", got, in[0])
	return nil
}

// edm compares Algorithm 1 of Karras et al. 2022, whose record has denoised
// images in place of network outputs.
func (w *walker) edm(path string, c *diffusion.Config, run map[string]array) error {
	in, err := want(run, "input", "denoised", "euler", "denoised2", "output")
	if err != nil {
		return err
	}
	s, err := diffusion.NewEDM(c, in[0].shape[0], diffusion.Churn{})
	if err != nil {
		return err
	}
	// D = c_skip·x + c_out·F.
	output := func(x []float32, denoised array, sigma float64) []float32 {
		d := c.Levels.Data
		r, out := math.Hypot(sigma, d), make([]float32, len(x))
		for i := range x {
			out[i] = float32((denoised.data[i] - d*d/(r*r)*float64(x[i])) * r / (sigma * d))
		}
		return out
	}
	r := s.NewRun()
	guess, got := array{shape: in[0].shape}, array{shape: in[0].shape}
	for i := range in[0].shape[0] {
		x := in[0].row(i).float32s()
		r.Step(2*i, x, output(x, in[1].row(i), s.Calls()[2*i].Sigma), nil)
		guess.data = append(guess.data, fromFloat32s(nil, x).data...)
		if i < in[0].shape[0]-1 {
			x = in[2].row(i).float32s()
			r.Step(2*i+1, x, output(x, in[3].row(i), s.Calls()[2*i+1].Sigma), nil)
		}
		got.data = append(got.data, fromFloat32s(nil, x).data...)
	}
	if recorded, ok := run["sigmas"]; ok {
		var levels array
		for i := range in[0].shape[0] {
			levels.data = append(levels.data, s.Calls()[max(0, 2*i-1)].Sigma)
		}
		levels.shape = []int{len(levels.data)}
		w.near(path, "noise levels", levels, array{shape: levels.shape, data: recorded.data[:len(levels.data)]})
	}
	w.steps(path, "EDM first-order guess", guess, in[2])
	w.steps(path, "EDM step", got, in[4])
	return nil
}
