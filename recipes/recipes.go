// Package recipes carries the configs of this folder inside the binary: those
// that made the bundled models, and those of the demo.
package recipes

import "embed"

//go:embed *.yaml
var Files embed.FS
