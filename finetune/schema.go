package finetune

import (
	_ "embed"
	"slices"
)

//go:embed schema.json
var schema []byte

// Schema returns the JSON Schema (draft 2020-12) of a config file. What it
// cannot say, since it compares two keys, Validate checks: delta is below
// 1/examples, for one.
func Schema() []byte { return slices.Clone(schema) }
