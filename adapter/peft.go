package adapter

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// peftKeys holds, for keys of PEFT's adapter_config.json that change what a LoRA
// computes, the values that we have. Keys that are neither here nor fields
// concern training, or how a base model is found, and are kept.
var peftKeys = map[string][]string{
	"peft_type": {`"LORA"`}, "bias": {`"none"`}, "fan_in_fan_out": {"false", "null"}, "lora_bias": {"false", "null"},
	"use_dora": {"false", "null"}, "use_qalora": {"false", "null"}, "use_bdlora": {"false", "null"}, "modules_to_save": {"null", "[]"},
	"layers_to_transform": {"null"}, "layers_pattern": {"null", "[]"}, "layer_replication": {"null"}, "trainable_token_indices": {"null"},
	"target_parameters": {"null", "[]"}, "alora_invocation_tokens": {"null"}, "arrow_config": {"null"}, "kasa_config": {"null"},
	"monteclora_config": {"null"}, "velora_config": {"null"},
}

// ParsePEFT reads an adapter_config.json of PEFT's LoRA. A key that changes
// results and has a value that we lack is an error that names it; unknown keys
// are kept for [Config.PEFT].
func ParsePEFT(data []byte) (*Config, error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("adapter config: %w", err)
	}
	for _, key := range slices.Sorted(maps.Keys(peftKeys)) {
		value, ok := keys[key]
		if !ok && key != "peft_type" {
			continue
		}
		if !slices.Contains(peftKeys[key], string(value)) {
			return nil, fmt.Errorf("adapter config: %s is %s, want %s; no other is implemented", key, orMissing(value), peftKeys[key][0])
		}
	}
	c := &Config{Rank: 8, Alpha: 8, extra: keys} // PEFT's defaults.
	for key, field := range map[string]any{"r": &c.Rank, "lora_alpha": &c.Alpha, "rank_pattern": &c.RankPattern,
		"alpha_pattern": &c.AlphaPattern, "use_rslora": &c.RankStabilized, "exclude_modules": &c.Exclude} {
		if value, ok := keys[key]; ok {
			if err := json.Unmarshal(value, field); err != nil {
				return nil, fmt.Errorf("adapter config: %s: %w", key, err)
			}
		}
	}
	switch targets := keys["target_modules"]; {
	case len(targets) > 0 && targets[0] == '"':
		if err := json.Unmarshal(targets, &c.TargetPattern); err != nil {
			return nil, fmt.Errorf("adapter config: target_modules: %w", err)
		}
	case len(targets) > 0:
		if err := json.Unmarshal(targets, &c.Targets); err != nil {
			return nil, fmt.Errorf("adapter config: target_modules: %w", err)
		}
	}
	if !c.IsLoRA() {
		return nil, fmt.Errorf("adapter config: target_modules is %s, want names of layers or a pattern", orMissing(keys["target_modules"]))
	}
	if !(c.Alpha > 0) {
		return nil, fmt.Errorf("adapter config: lora_alpha is %g, want positive", c.Alpha)
	}
	if _, err := c.lora(""); err != nil {
		return nil, fmt.Errorf("adapter config: %w", err)
	}
	return c, nil
}

func orMissing(value json.RawMessage) string {
	if value == nil {
		return "missing"
	}
	return string(value)
}

// PEFT returns the config as PEFT's adapter_config.json, indented, with the other
// keys as read. Only linear branches can be written so; targets are the names of
// all layers with a branch where the config itself does not name them.
func (c *Config) PEFT(targets []string) ([]byte, error) {
	if !c.IsLinear() {
		return nil, fmt.Errorf("adapter core is %q, want %q: PEFT has no other; export merged weights", c.Core, LinearCore)
	}
	alpha := c.Alpha
	if alpha == 0 {
		alpha = float64(c.Rank)
	}
	keys := map[string]any{
		"peft_type": "LORA", "auto_mapping": nil, "base_model_name_or_path": nil, "revision": nil, "task_type": nil, "inference_mode": true,
		"bias": "none", "fan_in_fan_out": false, "init_lora_weights": true, "layers_pattern": nil, "layers_to_transform": nil,
		"lora_dropout": 0.0, "modules_to_save": nil, "use_dora": false,
	}
	for key, value := range c.extra {
		keys[key] = value
	}
	keys["r"], keys["lora_alpha"], keys["use_rslora"] = c.Rank, alpha, c.RankStabilized
	keys["rank_pattern"], keys["alpha_pattern"] = orEmpty(c.RankPattern), orEmpty(c.AlphaPattern)
	keys["exclude_modules"] = c.Exclude
	switch {
	case len(c.Targets) > 0:
		keys["target_modules"] = c.Targets
	case c.TargetPattern != "":
		keys["target_modules"] = c.TargetPattern
	default:
		keys["target_modules"] = targets
	}
	data, err := json.MarshalIndent(keys, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("adapter config: %w", err)
	}
	return append(data, '\n'), nil
}

func orEmpty[T any](m map[string]T) map[string]T {
	if m == nil {
		return map[string]T{}
	}
	return m
}
