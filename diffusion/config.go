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
// scheduler_config.json. [DefaultConfig] gives diffusers' defaults.
type Config struct {
	Class        string // Diffusers' name of the sampler that the folder asks for: "DDIMScheduler".
	Steps        int    // Training timesteps.
	BetaSchedule BetaSchedule
	BetaStart    float64
	BetaEnd      float64
	TrainedBetas []float64 // If not nil, β_t themselves, Steps of them.
	Prediction   Prediction

	Spacing     Spacing
	StepsOffset int // Added to leading timesteps: 1 in Stable Diffusion.

	ClipSample      bool    // Clip predicted images to ±ClipSampleRange in each step; off for latents.
	ClipSampleRange float64 // Usually 1.
	SetAlphaToOne   bool    // DDIM: ᾱ after the last step is 1; if not, ᾱ_0.
	Variance        StepVariance

	read map[string]json.RawMessage // All keys as read.
}

// The classes that share the variance-preserving forward process of this
// package. EDM's and flow matching's are other processes.
var classes = []string{
	"DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
	"UniPCMultistepScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler",
	"LMSDiscreteScheduler", "KDPM2DiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler",
}

const maxSteps = 1 << 20

// DefaultConfig returns what diffusers assumes for keys that a file lacks.
func DefaultConfig() *Config {
	return &Config{
		Class: "DDPMScheduler", Steps: 1000, BetaSchedule: Linear, BetaStart: 1e-4, BetaEnd: 0.02,
		Prediction: PredictNoise, Spacing: Leading, ClipSample: true, ClipSampleRange: 1,
		SetAlphaToOne: true, Variance: FixedSmall,
	}
}

// file is scheduler_config.json. A nil pointer is an absent key.
type file struct {
	Class           *string       `json:"_class_name,omitempty"`
	BetaEnd         *float64      `json:"beta_end,omitempty"`
	BetaSchedule    *BetaSchedule `json:"beta_schedule,omitempty"`
	BetaStart       *float64      `json:"beta_start,omitempty"`
	ClipSample      *bool         `json:"clip_sample,omitempty"`
	ClipSampleRange *float64      `json:"clip_sample_range,omitempty"`
	Steps           *int          `json:"num_train_timesteps,omitempty"`
	Prediction      *Prediction   `json:"prediction_type,omitempty"`
	SetAlphaToOne   *bool         `json:"set_alpha_to_one,omitempty"`
	StepsOffset     *int          `json:"steps_offset,omitempty"`
	Spacing         *Spacing      `json:"timestep_spacing,omitempty"`
	TrainedBetas    *trainedBetas `json:"trained_betas,omitempty"`
	Variance        *StepVariance `json:"variance_type,omitempty"`
}

// trainedBetas is written as null when empty.
type trainedBetas []float64

// file returns pointers to the fields of c: reading through them fills c.
func (c *Config) file() *file {
	return &file{
		Class: &c.Class, BetaEnd: &c.BetaEnd, BetaSchedule: &c.BetaSchedule, BetaStart: &c.BetaStart,
		ClipSample: &c.ClipSample, ClipSampleRange: &c.ClipSampleRange, Steps: &c.Steps, Prediction: &c.Prediction,
		SetAlphaToOne: &c.SetAlphaToOne, StepsOffset: &c.StepsOffset, Spacing: &c.Spacing,
		TrainedBetas: (*trainedBetas)(&c.TrainedBetas), Variance: &c.Variance,
	}
}

// ParseConfig reads a scheduler_config.json, also one with Python's -Infinity.
// Absent keys take diffusers' defaults, unknown ones are kept for
// [Config.MarshalJSON], and settings that change results but are not
// implemented are errors that name the key.
func ParseConfig(data []byte) (*Config, error) {
	data = quoteInfinities(data)
	var read map[string]json.RawMessage
	if err := json.Unmarshal(data, &read); err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	c := DefaultConfig()
	c.Class = ""
	if err := json.Unmarshal(data, c.file()); err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	if _, ok := read["clip_sample"]; !ok && c.Class != "DDPMScheduler" && c.Class != "DDIMScheduler" {
		c.ClipSample = false // The other classes never clip.
	}
	if _, ok := read["set_alpha_to_one"]; !ok && c.Class == "PNDMScheduler" {
		c.SetAlphaToOne = false
	}
	if c.Variance == "fixed_small_log" { // Another way to compute the same number.
		c.Variance = FixedSmall
	}
	c.read = read
	for _, key := range []string{"thresholding", "rescale_betas_zero_snr", "use_flow_sigmas"} {
		if v, ok := read[key]; ok && string(v) != "false" && string(v) != "null" {
			return nil, fmt.Errorf("scheduler config: %s is %s, want false; it is not implemented", key, v)
		}
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// Validate returns an error naming the first field that is out of range.
func (c *Config) Validate() error {
	if !slices.Contains(classes, c.Class) {
		return fmt.Errorf("scheduler config: _class_name is %q, want one of %s", c.Class, strings.Join(classes, ", "))
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
	for _, choice := range []struct {
		key, got string
		want     []string
	}{
		{"beta_schedule", string(c.BetaSchedule), []string{string(Linear), string(ScaledLinear), string(SquaredCosine)}},
		{"prediction_type", string(c.Prediction), []string{string(PredictNoise), string(PredictV), string(PredictX0)}},
		{"timestep_spacing", string(c.Spacing), []string{string(Leading), string(Linspace), string(Trailing)}},
		{"variance_type", string(c.Variance), []string{string(FixedSmall), string(FixedLarge)}},
	} {
		if !slices.Contains(choice.want, choice.got) {
			return fmt.Errorf("scheduler config: %s is %q, want one of %q; no other is implemented",
				choice.key, choice.got, choice.want)
		}
	}
	_, err := NewSchedule(c)
	return err
}

// Keys with a field that only some of diffusers' classes take, so that each gets
// only its own.
var classKeys = map[string][]string{
	"clip_sample":       {"DDPMScheduler", "DDIMScheduler"},
	"clip_sample_range": {"DDPMScheduler", "DDIMScheduler"},
	"variance_type":     {"DDPMScheduler"},
	"set_alpha_to_one":  {"DDIMScheduler", "PNDMScheduler"},
}

// What diffusers writes for settings that we do not have.
var otherKeys = map[string]json.RawMessage{
	"_diffusers_version":         json.RawMessage(`"0.42.1"`),
	"dynamic_thresholding_ratio": json.RawMessage("0.995"),
	"rescale_betas_zero_snr":     json.RawMessage("false"),
	"sample_max_value":           json.RawMessage("1.0"),
	"thresholding":               json.RawMessage("false"),
}

// MarshalJSON writes all keys of the class, default or not, and every other key
// as read. Where one of those was -Infinity the result has it again: call the
// method, since json.Marshal refuses such text.
func (c *Config) MarshalJSON() ([]byte, error) {
	ours, err := keysOf(c.file())
	if err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	keys := map[string]json.RawMessage{}
	if c.Class == "DDPMScheduler" || c.Class == "DDIMScheduler" {
		maps.Copy(keys, otherKeys)
	}
	maps.Copy(keys, c.read)
	for key, v := range ours {
		takers, some := classKeys[key]
		if _, wasRead := c.read[key]; !some || wasRead || slices.Contains(takers, c.Class) {
			keys[key] = v
		}
	}
	data, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	return unquoteInfinities(data), nil
}
