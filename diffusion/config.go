package diffusion

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
)

// BetaSchedule is how β_t runs from BetaStart to BetaEnd.
type BetaSchedule string

const (
	Linear        BetaSchedule = "linear"            // β_t evenly spaced (Ho et al. 2020).
	ScaledLinear  BetaSchedule = "scaled_linear"     // √β_t evenly spaced (latent diffusion).
	SquaredCosine BetaSchedule = "squaredcos_cap_v2" // ᾱ a squared cosine (Nichol & Dhariwal 2021); no bounds.
)

// Spacing is how a sampler picks its timesteps out of the training ones.
type Spacing string

const (
	Leading  Spacing = "leading"  // 0, r, 2r, ...: never the noisiest step.
	Linspace Spacing = "linspace" // Both ends.
	Trailing Spacing = "trailing" // The noisiest step, not the cleanest.
)

// StepVariance is the variance of DDPM's reverse steps (Ho et al. 2020, Section 3.2).
type StepVariance string

const (
	FixedSmall StepVariance = "fixed_small" // The posterior variance β̃_t.
	FixedLarge StepVariance = "fixed_large" // β_t.
)

// Config is a noise schedule with the settings of its samplers: a diffusers
// scheduler_config.json. [DefaultConfig] gives diffusers' defaults. A sampler
// reads the fields of its own class; [Config.As] turns the config of one class
// into that of another.
type Config struct {
	Class          string // Diffusers' name of the sampler that the folder asks for: "DDIMScheduler".
	Steps          int    // Training timesteps.
	BetaSchedule   BetaSchedule
	BetaStart      float64
	BetaEnd        float64
	TrainedBetas   []float64 // If not nil, β_t themselves, Steps of them.
	RescaleZeroSNR bool      // Shift the schedule so that ᾱ of the last timestep is 0 (Lin et al. 2024, Algorithm 1).
	Prediction     Prediction

	Spacing     Spacing
	StepsOffset int // Added to leading timesteps: 1 in Stable Diffusion.

	ClipSample      bool    // Clip predicted images to ±ClipSampleRange in each step; off for latents.
	ClipSampleRange float64 // Usually 1.
	SetAlphaToOne   bool    // DDIM: ᾱ after the last step is 1; if not, ᾱ_0.
	Variance        StepVariance

	Levels Levels // Of samplers that work on noise levels σ.
	Solver Solver // Of DPM-Solver++.

	read map[string]json.RawMessage // All keys as read.
}

// Levels says which noise levels σ a sampler visits. At most one of the four
// switches is on; with none, the levels are those of the timesteps.
type Levels struct {
	Karras, Exponential, Beta, Lu bool

	Min, Max         float64      // Bounds of Karras, Exponential and Beta; zero means those of the schedule.
	Final            FinalSigma   // After the last step.
	Interpolation    string       // Euler: "linear" in the timestep, or "log_linear" in log σ.
	TimestepType     TimestepType // Euler: what the network is told with v prediction.
	Data, Rho        float64      // EDM: standard deviation of the data; curvature of the levels.
	Schedule         string       // EDM: "karras" or "exponential".
	LambdaMinClipped float64      // DPM-Solver++: least log(α/σ) to start at; -Inf for any.
}

// FinalSigma is the noise level after the last step.
type FinalSigma string

const (
	FinalZero FinalSigma = "zero"
	FinalMin  FinalSigma = "sigma_min" // That of timestep 0.
)

// TimestepType is what an Euler sampler tells the network.
type TimestepType string

const (
	Discrete   TimestepType = "discrete"   // The timestep, perhaps between two.
	Continuous TimestepType = "continuous" // With v prediction: ln(σ)/4.
)

// Solver holds the settings of DPM-Solver++.
type Solver struct {
	Order           int    // 1, 2 or 3; 3 without noise only.
	Algorithm       string // "dpmsolver++", or "sde-dpmsolver++", which adds noise.
	Type            string // Second-order step: "midpoint" or "heun".
	LowerOrderFinal bool   // With fewer than 15 steps, the last is of first order, the one before at most of second.
	EulerAtFinal    bool   // The last step is of first order.
}

// maxSteps is far above the 1000 to 4000 of published models; a schedule holds
// several values for each.
const maxSteps = 1 << 14

// DefaultConfig returns what diffusers assumes for keys that a file lacks, with
// class DDPMScheduler.
func DefaultConfig() *Config {
	c, err := defaults("DDPMScheduler")
	if err != nil {
		panic(err) // A constant.
	}
	return c
}

// ParseConfig reads a scheduler_config.json, also one with Python's -Infinity.
// Absent keys take the defaults of diffusers' class, unknown ones are kept for
// [Config.MarshalJSON], and settings that change results but are not
// implemented are errors that name the key.
func ParseConfig(data []byte) (*Config, error) {
	data = quoteInfinities(data)
	var read map[string]json.RawMessage
	if err := json.Unmarshal(data, &read); err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	var class string
	if raw, ok := read["_class_name"]; ok {
		if err := json.Unmarshal(raw, &class); err != nil {
			return nil, fmt.Errorf("scheduler config: _class_name: %w", err)
		}
	}
	c, err := defaults(class)
	if err != nil {
		return nil, err
	}
	if err := c.set(read); err != nil {
		return nil, err
	}
	c.read = read
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// As returns the config of another class on the same noise schedule, as
// diffusers' from_config does: keys that both classes have carry over, the
// others take the defaults of the new class. The class of c itself gives c.
func (c *Config) As(class string) (*Config, error) {
	if class == c.Class {
		return c, nil
	}
	data, err := c.MarshalJSON()
	if err != nil {
		return nil, err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(quoteInfinities(data), &keys); err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	known, ok := classKeys[class]
	if !ok {
		return nil, unknownClass(class)
	}
	maps.DeleteFunc(keys, func(key string, _ json.RawMessage) bool { _, ok := known[key]; return !ok })
	if v, ok := keys["variance_type"]; ok && (string(v) == "null") != (string(known["variance_type"]) == "null") {
		delete(keys, "variance_type") // DDPM's and DPM-Solver's key of that name mean different things.
	}
	keys["_class_name"], _ = json.Marshal(class)
	if data, err = json.Marshal(keys); err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	return ParseConfig(data)
}

// Validate returns an error naming the first field that is out of range.
func (c *Config) Validate() error {
	if _, ok := classKeys[c.Class]; !ok {
		return unknownClass(c.Class)
	}
	if c.Steps < 1 || c.Steps > maxSteps {
		return fmt.Errorf("scheduler config: num_train_timesteps is %d, want 1 to %d", c.Steps, maxSteps)
	}
	if c.StepsOffset < 0 || c.StepsOffset >= c.Steps {
		return fmt.Errorf("scheduler config: steps_offset is %d, want 0 to num_train_timesteps-1 = %d", c.StepsOffset, c.Steps-1)
	}
	if !(c.ClipSampleRange > 0) || math.IsInf(c.ClipSampleRange, 1) {
		return fmt.Errorf("scheduler config: clip_sample_range is %g, want positive and finite", c.ClipSampleRange)
	}
	l, s := c.Levels, c.Solver
	for _, choice := range []struct {
		key, got string
		want     []string
	}{
		{"beta_schedule", string(c.BetaSchedule), []string{string(Linear), string(ScaledLinear), string(SquaredCosine)}},
		{"prediction_type", string(c.Prediction), []string{string(PredictNoise), string(PredictV), string(PredictX0)}},
		{"timestep_spacing", string(c.Spacing), []string{string(Leading), string(Linspace), string(Trailing)}},
		{"variance_type", string(c.Variance), []string{string(FixedSmall), string(FixedLarge)}},
		{"final_sigmas_type", string(l.Final), []string{string(FinalZero), string(FinalMin)}},
		{"interpolation_type", l.Interpolation, []string{"linear", "log_linear"}},
		{"timestep_type", string(l.TimestepType), []string{string(Discrete), string(Continuous)}},
		{"sigma_schedule", l.Schedule, []string{"karras", "exponential"}},
		{"algorithm_type", s.Algorithm, []string{"dpmsolver++", "sde-dpmsolver++"}},
		{"solver_type", s.Type, []string{"midpoint", "heun"}},
	} {
		if !slices.Contains(choice.want, choice.got) {
			return fmt.Errorf("scheduler config: %s is %q, want one of %q; no other is implemented",
				choice.key, choice.got, choice.want)
		}
	}
	if s.Order < 1 || s.Order > 3 {
		return fmt.Errorf("scheduler config: solver_order is %d, want 1, 2 or 3; no other is implemented", s.Order)
	}
	if s.Order == 3 && s.adds() {
		// Diffusers' own has a term of another sign than its source (k-diffusion's
		// 3M SDE), which does not vanish for short steps.
		return fmt.Errorf("scheduler config: solver_order is 3 with algorithm_type %q, want 1 or 2 there; it is not implemented", s.Algorithm)
	}
	if err := l.validate(); err != nil {
		return err
	}
	if c.IsEDM() {
		if !(l.Min > 0 && l.Max > 0) {
			return fmt.Errorf("scheduler config: sigma_min is %g and sigma_max %g, want both positive in %s", l.Min, l.Max, c.Class)
		}
		if c.Prediction == PredictX0 {
			return fmt.Errorf("scheduler config: prediction_type is %q, want %q or %q in %s", c.Prediction, PredictNoise, PredictV, c.Class)
		}
		return nil
	}
	if c.RescaleZeroSNR && c.Prediction == PredictNoise {
		return fmt.Errorf("scheduler config: rescale_betas_zero_snr is true with prediction_type %q, want %q or %q: from pure noise the noise says nothing about the image", PredictNoise, PredictV, PredictX0)
	}
	_, err := NewSchedule(c)
	return err
}

func (l *Levels) validate() error {
	var on []string
	for _, s := range []struct {
		key string
		on  bool
	}{{"use_karras_sigmas", l.Karras}, {"use_exponential_sigmas", l.Exponential}, {"use_beta_sigmas", l.Beta}, {"use_lu_lambdas", l.Lu}} {
		if s.on {
			on = append(on, s.key)
		}
	}
	if len(on) > 1 {
		return fmt.Errorf("scheduler config: %s are true, want at most one of them", strings.Join(on, " and "))
	}
	for _, v := range []struct {
		key   string
		value float64
		least float64
	}{{"sigma_min", l.Min, 0}, {"sigma_max", l.Max, 0}, {"sigma_data", l.Data, math.SmallestNonzeroFloat64}, {"rho", l.Rho, math.SmallestNonzeroFloat64}} {
		if !(v.value >= v.least) || math.IsInf(v.value, 1) {
			return fmt.Errorf("scheduler config: %s is %g, want positive and finite", v.key, v.value)
		}
	}
	if l.Min > 0 && l.Max > 0 && l.Min >= l.Max {
		return fmt.Errorf("scheduler config: sigma_min is %g, want below sigma_max %g", l.Min, l.Max)
	}
	if math.IsNaN(l.LambdaMinClipped) || math.IsInf(l.LambdaMinClipped, 1) {
		return fmt.Errorf("scheduler config: lambda_min_clipped is %g, want a number or -Infinity", l.LambdaMinClipped)
	}
	return nil
}

// IsEDM reports whether the config is of the EDM process (Karras et al. 2022),
// x = x_0 + σ·noise with preconditioning, which has no β_t.
func (c *Config) IsEDM() bool { return c.Class == edmClass }

func unknownClass(class string) error {
	return fmt.Errorf("scheduler config: _class_name is %q, want one of %s", class, strings.Join(slices.Sorted(maps.Keys(classKeys)), ", "))
}
