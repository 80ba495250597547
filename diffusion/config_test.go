package diffusion_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/internal/parsebound"
)

func TestConfigKeepsEveryKey(t *testing.T) {
	for name, run := range trajectories(t) {
		if name == "edm_heun" {
			continue // Constants of a paper, no config of diffusers.
		}
		t.Run(name, func(t *testing.T) {
			var want, got map[string]any
			finite := func(text string) []byte { return []byte(strings.ReplaceAll(text, "-Infinity", `"-inf"`)) }
			if err := json.Unmarshal(finite(run.Config), &want); err != nil {
				t.Fatal(err)
			}
			written, err := parse(t, []byte(run.Config)).MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(finite(string(written)), &got); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("written config is\n%v\nwant\n%v", got, want)
			}
		})
	}
}

func TestConfigWithInfinity(t *testing.T) {
	const text = `{"_class_name":"DPMSolverMultistepScheduler","lambda_min_clipped":-Infinity,` +
		`"note":"-Infinity \" NaN","sigma_max":Infinity,"solver_order":2}`
	c := parse(t, []byte(text))
	if c.ClipSample {
		t.Error("DPM-Solver clips, want it not to")
	}
	written, err := c.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"lambda_min_clipped":-Infinity,`, `"note":"-Infinity \" NaN"`, `"sigma_max":Infinity`, `"solver_order":2`} {
		if !strings.Contains(string(written), want) {
			t.Errorf("written config lacks %s: %s", want, written)
		}
	}
	if strings.Contains(string(written), "fixed_small") {
		t.Error("written config has DDPM's variance_type")
	}
}

func TestConfigDefaults(t *testing.T) {
	c := parse(t, []byte(`{"_class_name":"DDPMScheduler"}`))
	got, err := c.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	want, err := diffusion.DefaultConfig().MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestConfigRefuses(t *testing.T) {
	for name, test := range map[string]struct{ body, want string }{
		"other process":      {`"_class_name":"FlowMatchEulerDiscreteScheduler"`, "_class_name"},
		"no class":           {`"beta_end":0.02`, `_class_name is ""`},
		"thresholding":       {`"thresholding":true`, "thresholding"},
		"noise at zero SNR":  {`"rescale_betas_zero_snr":true`, "rescale_betas_zero_snr"},
		"learned variance":   {`"variance_type":"learned_range"`, "variance_type"},
		"prediction":         {`"prediction_type":"flow"`, "prediction_type"},
		"schedule":           {`"beta_schedule":"sigmoid"`, "beta_schedule"},
		"spacing":            {`"timestep_spacing":"log"`, "timestep_spacing"},
		"no steps":           {`"num_train_timesteps":0`, "num_train_timesteps is 0"},
		"offset":             {`"steps_offset":1000`, "steps_offset"},
		"clip range":         {`"clip_sample_range":0`, "clip_sample_range"},
		"betas too many":     {`"trained_betas":[0.1,0.2]`, "2 trained_betas"},
		"beta out of range":  {`"beta_end":1.5`, "beta of timestep"},
		"negative beta":      {`"beta_start":-0.1`, "beta of timestep 0"},
		"alpha_bar vanishes": {`"beta_start":0.9,"beta_end":0.99`, "alpha_bar of timestep"},
		"type":               {`"beta_end":"x"`, "beta_end"},
		"infinite beta":      {`"beta_end":Infinity`, "beta_end"},
		"algorithm":          {`"_class_name":"DPMSolverMultistepScheduler","algorithm_type":"sde-dpmsolver"`, "algorithm_type"},
		"order":              {`"_class_name":"DPMSolverMultistepScheduler","solver_order":4`, "solver_order is 4"},
		"third with noise":   {`"_class_name":"DPMSolverMultistepScheduler","solver_order":3,"algorithm_type":"sde-dpmsolver++"`, "solver_order is 3 with"},
		"flow":               {`"_class_name":"DPMSolverMultistepScheduler","use_flow_sigmas":true`, "use_flow_sigmas"},
		"shifting":           {`"_class_name":"DPMSolverMultistepScheduler","use_dynamic_shifting":true`, "use_dynamic_shifting"},
		"two spacings":       {`"_class_name":"EulerDiscreteScheduler","use_karras_sigmas":true,"use_beta_sigmas":true`, "use_karras_sigmas and use_beta_sigmas"},
		"bounds":             {`"_class_name":"EulerDiscreteScheduler","sigma_min":2,"sigma_max":1`, "sigma_min is 2"},
		"final level":        {`"_class_name":"EulerDiscreteScheduler","final_sigmas_type":"half"`, "final_sigmas_type"},
		"interpolation":      {`"_class_name":"EulerDiscreteScheduler","interpolation_type":"cubic"`, "interpolation_type"},
		"EDM predicts x0":    {`"_class_name":"EDMEulerScheduler","prediction_type":"sample"`, "prediction_type"},
		"EDM levels":         {`"_class_name":"EDMEulerScheduler","sigma_schedule":"linear"`, "sigma_schedule"},
	} {
		t.Run(name, func(t *testing.T) {
			body := test.body
			if !strings.Contains(body, "_class_name") && name != "no class" {
				body = `"_class_name":"DDPMScheduler",` + body
			}
			_, err := diffusion.ParseConfig([]byte("{" + body + "}"))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error is %v, want one with %q", err, test.want)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	data, err := os.ReadFile("testdata/trajectories.json")
	if err != nil {
		f.Fatal(err)
	}
	var runs map[string]struct{ Config string }
	if err := json.Unmarshal(data, &runs); err != nil {
		f.Fatal(err)
	}
	for _, run := range runs {
		f.Add([]byte(run.Config))
	}
	f.Add([]byte(`{"_class_name":"EulerDiscreteScheduler","x":-Infinity,"num_train_timesteps":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var c *diffusion.Config
		var err error
		parsebound.Check(t, len(data), func() { c, err = diffusion.ParseConfig(data) })
		if err != nil {
			return
		}
		written, err := c.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		again, err := diffusion.ParseConfig(written)
		if err != nil {
			t.Fatalf("cannot read what was written: %v\n%s", err, written)
		}
		twice, err := again.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if string(twice) != string(written) {
			t.Fatalf("read, written, read, written:\n%s\n%s", written, twice)
		}
	})
}
