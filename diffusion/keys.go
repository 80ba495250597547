package diffusion

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
)

const edmClass = "EDMEulerScheduler"

// classKeys holds the keys of each class with diffusers' defaults: all of them
// for the classes that we sample with, for the others those that say something
// about the forward process. Flow matching is another process.
var classKeys = map[string]map[string]json.RawMessage{
	"DDPMScheduler": with(schedule, `{"timestep_spacing": "leading", "clip_sample": true, "clip_sample_range": 1.0, "variance_type": "fixed_small",
		"thresholding": false, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "rescale_betas_zero_snr": false}`),
	"DDIMScheduler": with(schedule, `{"timestep_spacing": "leading", "clip_sample": true, "clip_sample_range": 1.0, "set_alpha_to_one": true,
		"thresholding": false, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0, "rescale_betas_zero_snr": false}`),
	"DPMSolverMultistepScheduler": with(schedule, `{"solver_order": 2, "thresholding": false, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0,
		"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "lower_order_final": true, "euler_at_final": false,
		"use_karras_sigmas": false, "use_exponential_sigmas": false, "use_beta_sigmas": false, "use_lu_lambdas": false,
		"use_flow_sigmas": false, "flow_shift": 1.0, "final_sigmas_type": "zero", "lambda_min_clipped": "\u0000-Infinity",
		"variance_type": null, "rescale_betas_zero_snr": false, "use_dynamic_shifting": false, "time_shift_type": "exponential"}`),
	"EulerDiscreteScheduler": with(schedule, `{"interpolation_type": "linear", "use_karras_sigmas": false, "use_exponential_sigmas": false,
		"use_beta_sigmas": false, "sigma_min": null, "sigma_max": null, "timestep_type": "discrete", "rescale_betas_zero_snr": false, "final_sigmas_type": "zero"}`),
	"HeunDiscreteScheduler": with(schedule, `{"beta_start": 0.00085, "beta_end": 0.012, "use_karras_sigmas": false, "use_exponential_sigmas": false,
		"use_beta_sigmas": false, "clip_sample": false, "clip_sample_range": 1.0}`),
	edmClass: with(`{"_diffusers_version": "0.42.1"}`, `{"sigma_min": 0.002, "sigma_max": 80.0, "sigma_data": 0.5, "sigma_schedule": "karras", "num_train_timesteps": 1000,
		"prediction_type": "epsilon", "rho": 7.0, "final_sigmas_type": "zero"}`),

	"PNDMScheduler":                   with(schedule, `{"timestep_spacing": "leading", "set_alpha_to_one": false}`),
	"DPMSolverSinglestepScheduler":    with(schedule, `{}`),
	"UniPCMultistepScheduler":         with(schedule, `{"rescale_betas_zero_snr": false}`),
	"EulerAncestralDiscreteScheduler": with(schedule, `{"rescale_betas_zero_snr": false}`),
	"LMSDiscreteScheduler":            with(schedule, `{}`),
	"KDPM2DiscreteScheduler":          with(schedule, `{"beta_start": 0.00085, "beta_end": 0.012}`),
	"KDPM2AncestralDiscreteScheduler": with(schedule, `{"beta_start": 0.00085, "beta_end": 0.012}`),
	"DEISMultistepScheduler":          with(schedule, `{}`),
}

// schedule holds the keys of every class with β_t.
const schedule = `{"_diffusers_version": "0.42.1", "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
	"trained_betas": null, "prediction_type": "epsilon", "timestep_spacing": "linspace", "steps_offset": 0}`

// fixedKeys are those that change results and of which only one value is
// implemented.
var fixedKeys = map[string]string{"thresholding": "false", "use_flow_sigmas": "false", "use_dynamic_shifting": "false"}

func with(base, more string) map[string]json.RawMessage {
	keys := map[string]json.RawMessage{}
	for _, text := range []string{base, more} {
		if err := json.Unmarshal([]byte(text), &keys); err != nil {
			panic(err)
		}
	}
	return keys
}

// defaults returns the config of a class without keys.
func defaults(class string) (*Config, error) {
	keys, ok := classKeys[class]
	if !ok {
		return nil, unknownClass(class)
	}
	c := &Config{Class: class, BetaSchedule: Linear, BetaStart: 1e-4, BetaEnd: 0.02, ClipSampleRange: 1, SetAlphaToOne: true, Variance: FixedSmall,
		Spacing: Linspace, Prediction: PredictNoise,
		Levels: Levels{Final: FinalZero, Interpolation: "linear", TimestepType: Discrete, Data: 0.5, Rho: 7, Schedule: "karras", LambdaMinClipped: math.Inf(-1)},
		Solver: Solver{Order: 2, Algorithm: "dpmsolver++", Type: "midpoint", LowerOrderFinal: true}}
	return c, c.set(keys)
}

// file holds pointers to the fields of c by key: reading through them fills c.
func (c *Config) file() map[string]any {
	l, s := &c.Levels, &c.Solver
	return map[string]any{
		"num_train_timesteps": &c.Steps, "beta_schedule": &c.BetaSchedule, "beta_start": &c.BetaStart, "beta_end": &c.BetaEnd,
		"trained_betas": (*trainedBetas)(&c.TrainedBetas), "rescale_betas_zero_snr": &c.RescaleZeroSNR, "prediction_type": &c.Prediction,
		"timestep_spacing": &c.Spacing, "steps_offset": &c.StepsOffset,
		"clip_sample": &c.ClipSample, "clip_sample_range": &c.ClipSampleRange, "set_alpha_to_one": &c.SetAlphaToOne, "variance_type": &c.Variance,
		"use_karras_sigmas": &l.Karras, "use_exponential_sigmas": &l.Exponential, "use_beta_sigmas": &l.Beta, "use_lu_lambdas": &l.Lu,
		"sigma_min": (*orNull)(&l.Min), "sigma_max": (*orNull)(&l.Max), "sigma_data": &l.Data, "rho": &l.Rho, "sigma_schedule": &l.Schedule,
		"final_sigmas_type": &l.Final, "interpolation_type": &l.Interpolation, "timestep_type": &l.TimestepType,
		"lambda_min_clipped": (*orInfinite)(&l.LambdaMinClipped),
		"solver_order":       &s.Order, "algorithm_type": &s.Algorithm, "solver_type": &s.Type, "lower_order_final": &s.LowerOrderFinal, "euler_at_final": &s.EulerAtFinal,
	}
}

// set reads the keys that c's class has. Null leaves a field as it is.
func (c *Config) set(keys map[string]json.RawMessage) error {
	known, fields := classKeys[c.Class], c.file()
	for key, value := range keys {
		if _, ok := known[key]; !ok {
			continue
		}
		if want, ok := fixedKeys[key]; ok && string(value) != want && string(value) != "null" {
			return fmt.Errorf("scheduler config: %s is %s, want %s; it is not implemented", key, value, want)
		}
		field, ok := fields[key]
		if !ok || string(value) == "null" {
			continue
		}
		if err := json.Unmarshal(value, field); err != nil {
			return fmt.Errorf("scheduler config: %s: %w", key, err)
		}
	}
	if c.Variance == "fixed_small_log" { // Another way to compute the same number.
		c.Variance = FixedSmall
	}
	return nil
}

// MarshalJSON writes all keys of the class, default or not, and every other key
// as read. Where one of those was -Infinity the result has it again: call the
// method, since json.Marshal refuses such text.
func (c *Config) MarshalJSON() ([]byte, error) {
	known, ok := classKeys[c.Class]
	if !ok {
		return nil, unknownClass(c.Class)
	}
	keys := maps.Clone(known)
	maps.Copy(keys, c.read)
	keys["_class_name"], _ = json.Marshal(c.Class)
	for key, field := range c.file() {
		if _, ok := known[key]; !ok || key == "variance_type" && string(known[key]) == "null" {
			continue
		}
		value, err := json.Marshal(field)
		if err != nil {
			return nil, fmt.Errorf("scheduler config: %s: %w", key, err)
		}
		keys[key] = value
	}
	data, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("scheduler config: %w", err)
	}
	return unquoteInfinities(data), nil
}

// trainedBetas is written as null when empty.
type trainedBetas []float64

// orNull is a number that is written as null when it is zero.
type orNull float64

// MarshalJSON implements json.Marshaler.
func (v orNull) MarshalJSON() ([]byte, error) {
	if v == 0 {
		return []byte("null"), nil
	}
	return json.Marshal(float64(v))
}

// orInfinite is a number that may be infinite.
type orInfinite float64

// UnmarshalJSON implements json.Unmarshaler.
func (v *orInfinite) UnmarshalJSON(data []byte) error {
	for _, s := range strange {
		if bytes.Equal(data, []byte(s.quoted)) {
			*v = orInfinite(s.value)
			return nil
		}
	}
	return json.Unmarshal(data, (*float64)(v))
}

// MarshalJSON implements json.Marshaler.
func (v orInfinite) MarshalJSON() ([]byte, error) {
	switch {
	case math.IsInf(float64(v), -1):
		return []byte(`"\u0000-Infinity"`), nil
	case math.IsInf(float64(v), 1):
		return []byte(`"\u0000Infinity"`), nil
	case math.IsNaN(float64(v)):
		return []byte(`"\u0000NaN"`), nil
	}
	return json.Marshal(float64(v))
}
