package dpsgd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/gomlx/compute"

	devices "github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/internal/wholefile"
)

// key names everything that a choice depends on: backend, machine, program and
// the shapes of the step. Equal keys may share a choice.
func (o *TuneOptions) key(backend compute.Backend, free bool) (string, error) {
	type tensor struct {
		Name  string
		Shape []int
	}
	k := struct {
		Format                   int
		Backend, Device          string
		Cores, Workers, Lowering int
		Program, Compute, Base   string
		Recompute, Mimalloc      bool
		Method                   Method
		Free                     bool
		Size, Draws              int
		Expected                 float64
		Weights                  []tensor
		Trainable, Inputs        []string
	}{Format: 7, Backend: backend.Description(), Device: backend.DeviceDescription(0), Cores: runtime.NumCPU(),
		Workers: orInt(o.Engine.Workers, 1), Lowering: int(o.Engine.NN.Lowering), Method: o.Engine.Method, Free: free,
		Compute: string(o.Engine.NN.Compute), Recompute: o.Engine.NN.Recompute, Mimalloc: devices.UsesMimalloc(), Base: string(o.Engine.Base.Precision),
		Size: o.Engine.PhysicalBatchSize, Draws: orInt(o.Draws, 1), Expected: o.ExpectedBatchSize, Trainable: o.Engine.Trainable}
	if info, ok := debug.ReadBuildInfo(); ok {
		k.Program = info.Main.Version + info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" || s.Key == "vcs.modified" || s.Key == "GOAMD64" {
				k.Program += " " + s.Value
			}
		}
	}
	for _, w := range o.Engine.Weights.All() {
		k.Weights = append(k.Weights, tensor{w.Name, w.Shape})
	}
	inputs, err := o.Public(nil, 1)
	if err != nil {
		return "", err
	}
	for _, t := range inputs {
		k.Inputs = append(k.Inputs, t.Shape().String())
		_ = t.FinalizeAll()
	}
	data, err := json.Marshal(k)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

// parseChoice reads a choice that was kept.
func parseChoice(data []byte) (*Choice, error) {
	var c Choice
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	found := false
	for _, t := range c.Trials {
		switch {
		case t.Method != BookKeeping && t.Method != PerExampleLoop, t.Method == PerExampleLoop && t.Size != 1:
			return nil, fmt.Errorf("trial of engine %q with %d examples, want %q, or %q of 1", t.Method, t.Size, BookKeeping, PerExampleLoop)
		case t.Size < 1 || t.Size > mostSize:
			return nil, fmt.Errorf("trial of %d examples, want 1 to %d", t.Size, mostSize)
		case !(t.Seconds > 0) || math.IsInf(t.Seconds, 1) || t.Bytes < 0:
			return nil, fmt.Errorf("trial took %g s and %d bytes, want positive and finite", t.Seconds, t.Bytes)
		}
		found = found || t.Method == c.Method && t.Size == c.Size
	}
	if !found {
		return nil, errors.New("what was chosen was not tried")
	}
	return &c, nil
}

// mostSize bounds what a file may ask for.
const mostSize = 1 << 20

// loadChoice returns nil where no choice is kept, or none that can be read: it
// is then made again.
func loadChoice(folder, key string) *Choice {
	if folder == "" {
		return nil
	}
	data, err := os.ReadFile(filepath.Join(folder, key+".json"))
	if err != nil {
		return nil
	}
	c, err := parseChoice(data)
	if err != nil {
		return nil
	}
	return c
}

// saveChoice keeps a choice, if it can.
func saveChoice(folder, key string, c *Choice) {
	if folder == "" || os.MkdirAll(folder, 0o755) != nil {
		return
	}
	if data, err := json.Marshal(c); err == nil {
		_ = wholefile.Write(filepath.Join(folder, key+".json"), 0o644, data)
	}
}
