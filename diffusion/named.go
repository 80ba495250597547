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
	UseDPM3        SamplerName = "dpm++-3m"  // DPM-Solver++(3M).
	UseDPMSDE      SamplerName = "dpm++-sde" // SDE-DPM-Solver++(2M), with fresh noise.
	UseEuler       SamplerName = "euler"
	UseEulerKarras SamplerName = "euler-karras"
	UseHeun        SamplerName = "heun"
	UseHeunKarras  SamplerName = "heun-karras"
	UseEDM         SamplerName = "edm"  // Heun on Karras levels, with churn.
	UseConfig      SamplerName = "auto" // That of the config's class.
)

// samplers holds the class whose settings a sampler takes, and whether it is the
// variant on Karras levels. The order and the algorithm of a DPM-Solver are those of
// its name, where that says so.
var samplers = map[SamplerName]struct {
	class  string
	karras bool
}{
	UseDDIM: {"DDIMScheduler", false}, UseDDPM: {"DDPMScheduler", false},
	UseDPM: {"DPMSolverMultistepScheduler", false}, UseDPMKarras: {"DPMSolverMultistepScheduler", true},
	UseDPM3: {"DPMSolverMultistepScheduler", false}, UseDPMSDE: {"DPMSolverMultistepScheduler", false},
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

// Check says whether a sampler takes these settings, as far as its name tells.
func (o Stochastic) Check(name SamplerName) error {
	if name == "" {
		name = UseDDIM
	}
	if !(o.Eta >= 0 && o.Eta <= 1) {
		return fmt.Errorf("eta is %g, want in [0, 1]", o.Eta)
	}
	if o.Eta != 0 && name != UseDDIM && name != UseConfig {
		return fmt.Errorf("eta is %g with sampler %s, want 0: only ddim has it", o.Eta, name)
	}
	if err := o.Churn.validate(); err != nil {
		return err
	}
	if o.Churn != (Churn{}) && name != UseEDM {
		return fmt.Errorf("churn is %g with sampler %s, want none: only edm has it", o.Churn.Amount, name)
	}
	return nil
}

// solverOf returns what a name says of DPM-Solver++; 0 for nothing.
func solverOf(name SamplerName) (order int, algorithm string) {
	switch name {
	case UseDPM3:
		return 3, "dpmsolver++"
	case UseDPMSDE:
		return 2, "sde-dpmsolver++"
	}
	return 0, ""
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
	if err := o.Check(name); err != nil {
		return nil, err
	}
	if o.Eta != 0 && name == UseConfig && c.Class != "DDIMScheduler" {
		return nil, fmt.Errorf("eta is %g and the model's scheduler %s, want 0: only ddim has it", o.Eta, c.Class)
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
	if order, algorithm := solverOf(name); order > 0 {
		with := *c
		with.Solver.Order, with.Solver.Algorithm = order, algorithm
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
