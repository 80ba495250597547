package diffusion

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// SamplerName names a sampler of this package.
type SamplerName string

const (
	UseDDIM        SamplerName = "ddim"
	UseDDPM        SamplerName = "ddpm"
	UseDPM         SamplerName = "dpm++" // DPM-Solver++(2M).
	UseDPMKarras   SamplerName = "dpm++-karras"
	UseEuler       SamplerName = "euler"
	UseEulerKarras SamplerName = "euler-karras"
	UseHeun        SamplerName = "heun"
	UseHeunKarras  SamplerName = "heun-karras"
	UseEDM         SamplerName = "edm"  // Heun on Karras levels, with churn.
	UseConfig      SamplerName = "auto" // That of the config's class.
)

// samplers holds the class whose settings a sampler takes, and whether it is the
// variant on Karras levels.
var samplers = map[SamplerName]struct {
	class  string
	karras bool
}{
	UseDDIM: {"DDIMScheduler", false}, UseDDPM: {"DDPMScheduler", false},
	UseDPM: {"DPMSolverMultistepScheduler", false}, UseDPMKarras: {"DPMSolverMultistepScheduler", true},
	UseEuler: {"EulerDiscreteScheduler", false}, UseEulerKarras: {"EulerDiscreteScheduler", true},
	UseHeun: {"HeunDiscreteScheduler", false}, UseHeunKarras: {"HeunDiscreteScheduler", true},
	UseEDM: {"", false}, UseConfig: {"", false},
}

// SamplerNames returns the names that NewSampler knows, sorted.
func SamplerNames() []string {
	var names []string
	for name := range maps.Keys(samplers) {
		names = append(names, string(name))
	}
	slices.Sort(names)
	return names
}

// Stochastic is what only some samplers take.
type Stochastic struct {
	Eta   float64 // DDIM: share of DDPM's noise, in [0, 1].
	Churn Churn   // EDM.
}

// NewSampler returns a sampler by name on the schedule of c, whatever class that
// is of, as diffusers does when it makes one scheduler from the config of
// another. Steps are network calls; noise levels for the Heun and EDM samplers,
// which call the network twice per step but the last.
func NewSampler(name SamplerName, c *Config, steps int, o Stochastic) (Sampler, error) {
	kind, ok := samplers[name]
	if !ok {
		return nil, fmt.Errorf("sampler is %q, want one of %s", name, strings.Join(SamplerNames(), ", "))
	}
	if o.Eta != 0 && name != UseDDIM && !(name == UseConfig && c.Class == "DDIMScheduler") {
		return nil, fmt.Errorf("eta is %g with sampler %s, want 0: only ddim has it", o.Eta, name)
	}
	if o.Churn != (Churn{}) && name != UseEDM {
		return nil, fmt.Errorf("churn is %g with sampler %s, want 0: only edm has it", o.Churn.Amount, name)
	}
	if name == UseEDM {
		return NewEDM(c, steps, o.Churn)
	}
	class := kind.class
	if name == UseConfig {
		class = c.Class
	}
	if c.IsEDM() && class != edmClass {
		if class != "EulerDiscreteScheduler" && class != "HeunDiscreteScheduler" {
			return nil, fmt.Errorf("sampler is %q, but the model's scheduler is %s, want auto, edm, euler or heun", name, c.Class)
		}
	} else {
		var err error
		if c, err = c.As(class); err != nil {
			return nil, err
		}
	}
	if kind.karras && !c.IsEDM() { // EDM's levels are Karras' anyway.
		with := *c
		with.Levels.Karras, with.Levels.Exponential, with.Levels.Beta, with.Levels.Lu = true, false, false, false
		c = &with
	}
	switch class {
	case "DDIMScheduler":
		return NewDDIM(c, steps, o.Eta)
	case "DDPMScheduler":
		return NewDDPM(c, steps)
	case "DPMSolverMultistepScheduler":
		return NewDPMSolver(c, steps)
	case "EulerDiscreteScheduler", edmClass:
		return NewEuler(c, steps)
	case "HeunDiscreteScheduler":
		return NewHeun(c, steps)
	}
	return nil, fmt.Errorf("the model's scheduler is %s, which we cannot sample with; want one of %s", class, strings.Join(SamplerNames(), ", "))
}
