package finetune

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"math"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/optim"
)

// ErrConfig is what errors of a config wrap: the command exits 3.
var ErrConfig = errors.New("config is not valid")

// Method says which weights train.
type Method string

const (
	Attention Method = "attention" // Attention modules and conditioning embedder (DP-LDM).
	LoDA      Method = "loda"      // Low-dimensional adapters on convolutions (DP-LoDA).
	LoRA      Method = "lora"      // Low-rank adapters on chosen layers (DP-LoRA).
	Full      Method = "full"      // Every weight of the denoiser.
)

// Config of a run. All of it is public: it is copied into the run directory
// and into the statement, so nothing in it may be computed from private data.
type Config struct {
	Base   string `yaml:"base" json:"base"`     // Folder of the base model, or "latent", "pixel", "colour", "text", "shapes" or "shapes-pixel" for a bundled one.
	Method Method `yaml:"method" json:"method"` // Required.

	Data      Data            `yaml:"data" json:"data"`
	Privacy   Privacy         `yaml:"privacy" json:"privacy"`
	Attention AttentionConfig `yaml:"attention" json:"attention"`
	LoDA      LoDAConfig      `yaml:"loda" json:"loda"`
	LoRA      LoRAConfig      `yaml:"lora" json:"lora"`
	Full      FullConfig      `yaml:"full,omitempty" json:"full,omitzero"`
	Training  Training        `yaml:"training" json:"training"`
	Sampling  Sampling        `yaml:"sampling" json:"sampling"`

	// What is asked of the private images before the first step, each paid for.
	ClassChoice ClassChoice   `yaml:"class_choice,omitempty" json:"class_choice,omitzero"`
	WarmStart   WarmStart     `yaml:"warm_start,omitempty" json:"warm_start,omitzero"`
	Teacher     TeacherConfig `yaml:"teacher,omitempty" json:"teacher,omitzero"`
}

// Data says where the private images are and what is public about them.
type Data struct {
	Path     string   `yaml:"path" json:"path"`         // Folder or file, of any of dataset.Formats. Required.
	Labels   string   `yaml:"labels" json:"labels"`     // IDX labels, where not beside the images.
	Examples int      `yaml:"examples" json:"examples"` // Public number of examples. Required; the true count need not match.
	Size     int      `yaml:"size" json:"size"`         // Pixels. Zero means the base model's.
	Channels int      `yaml:"channels" json:"channels"` // 1 or 3. Zero means the base model's.
	Classes  []string `yaml:"classes" json:"classes"`   // Empty means the folder names, which are then public.

	Format      dataset.Format `yaml:"format,omitempty" json:"format,omitempty"`             // Layout of the files. "" means the one that is there.
	Split       dataset.Split  `yaml:"split,omitempty" json:"split,omitempty"`               // Part to train on, where the files tell one. "" means train.
	Attribute   string         `yaml:"attribute,omitempty" json:"attribute,omitempty"`       // What the format leaves open, see dataset.Options.
	AnyChecksum bool           `yaml:"any_checksum,omitempty" json:"any_checksum,omitempty"` // Take files that differ from those published under their names.
}

// Options says how the images are read, at a size and number of channels.
func (d *Data) Options(size, channels int, classes []string) dataset.Options {
	return dataset.Options{Size: size, Channels: channels, Classes: classes, Labels: d.Labels,
		Format: d.Format, Split: d.Split, Attribute: d.Attribute, AnyChecksum: d.AnyChecksum}
}

// Privacy is the claim. None of it has a default but the relation.
type Privacy struct {
	Epsilon     float64 `yaml:"epsilon" json:"epsilon"`
	Delta       float64 `yaml:"delta" json:"delta"`
	Neighboring string  `yaml:"neighboring" json:"neighboring"` // "" means add-or-remove.

	// PreviousRuns names earlier runs on the same private images, by run
	// directory or ledger file. Epsilon and Delta are then the budget of all of
	// them and this run together.
	PreviousRuns []string `yaml:"previous_runs,omitempty" json:"previous_runs,omitempty"`

	// Reserve is the part of Epsilon that training leaves for figures about the
	// private images (OpenFigure). Zero means none.
	Reserve float64 `yaml:"reserve,omitempty" json:"reserve,omitempty"`
}

// AttentionConfig of method attention.
type AttentionConfig struct {
	FirstLayer     int  `yaml:"first_layer" json:"first_layer"`         // 0-based index of the first attention module that trains.
	FreezeEmbedder bool `yaml:"freeze_embedder" json:"freeze_embedder"` // Leave the conditioning embedder frozen.

	// Blocks are the parts of the UNet whose attention modules train. Empty means all.
	Blocks []Block `yaml:"blocks,omitempty" json:"blocks,omitempty"`
}

// LoDAConfig of method loda.
type LoDAConfig struct {
	Rank           int          `yaml:"rank" json:"rank"`     // Zero means 4.
	Alpha          float64      `yaml:"alpha" json:"alpha"`   // Zero means the rank.
	Core           adapter.Core `yaml:"core" json:"core"`     // "" means non-linear.
	Kernel         int          `yaml:"kernel" json:"kernel"` // Smallest kernel that gets an adapter: 1 is every convolution. Zero means 3.
	Layers         []string     `yaml:"layers" json:"layers"` // Prefixes of the layers; empty is the whole UNet.
	FreezeEmbedder bool         `yaml:"freeze_embedder" json:"freeze_embedder"`
}

// LoRAConfig of method lora.
type LoRAConfig struct {
	Rank           int      `yaml:"rank" json:"rank"`       // Zero means 4.
	Alpha          float64  `yaml:"alpha" json:"alpha"`     // Zero means the rank.
	Targets        []string `yaml:"targets" json:"targets"` // Last parts of layers' names. Empty means those of attention.
	FreezeEmbedder bool     `yaml:"freeze_embedder" json:"freeze_embedder"`
}

// FullConfig of method full.
type FullConfig struct {
	Blocks         []Block    `yaml:"blocks,omitempty" json:"blocks,omitempty"`                   // Parts of the UNet that train. Empty means all of it.
	Parameters     Parameters `yaml:"parameters,omitempty" json:"parameters,omitempty"`           // Of their layers. "" means all.
	FreezeEmbedder bool       `yaml:"freeze_embedder,omitempty" json:"freeze_embedder,omitempty"` // Leave the conditioning embedder frozen.
}

// Training fixes the updates.
type Training struct {
	Steps             int            `yaml:"steps" json:"steps"`                             // Noisy updates. Required.
	ExpectedBatchSize float64        `yaml:"expected_batch_size" json:"expected_batch_size"` // Mean logical batch. Required.
	Multiplicity      int            `yaml:"multiplicity" json:"multiplicity"`               // Noise draws per example, K. Zero means 1.
	ClippingNorm      float64        `yaml:"clipping_norm" json:"clipping_norm"`             // Required.
	LearningRate      float64        `yaml:"learning_rate" json:"learning_rate"`             // Of AdamW on gradients in units of the clipping norm. Required.
	Schedule          optim.Schedule `yaml:"schedule" json:"schedule"`                       // "" means constant.
	Warmup            int            `yaml:"warmup" json:"warmup"`                           // Steps.
	EMA               float64        `yaml:"ema" json:"ema"`                                 // Decay of the weight average per step, in [0, 1).
	LabelDrop         float64        `yaml:"label_drop" json:"label_drop"`                   // Chance of the null class, in [0, 1).
	MaxTimestep       float64        `yaml:"max_timestep" json:"max_timestep"`               // Train on this lower share of the timesteps. Zero means 1: all.
	Compute           nn.Precision   `yaml:"compute" json:"compute"`                         // Of dense products. "" means float32.

	// BasePrecision is what weights that do not train are kept in: bfloat16 takes
	// half of their memory, and the released model has them rounded. "" means float32.
	BasePrecision nn.Precision `yaml:"base_precision,omitempty" json:"base_precision,omitempty"`

	// Recompute has the backward pass compute the blocks of the UNet and of a text
	// encoder again instead of keeping what is in them: less memory, more time, the
	// same numbers.
	Recompute bool `yaml:"recompute,omitempty" json:"recompute,omitempty"`

	Augment    Augment    `yaml:"augment,omitempty" json:"augment,omitzero"`
	Timesteps  Timesteps  `yaml:"timesteps,omitempty" json:"timesteps,omitzero"`
	LossWeight LossWeight `yaml:"loss_weight,omitempty" json:"loss_weight,omitempty"` // Of timesteps. "" means that all count alike.
}

// Sampling of the synthetic data set.
type Sampling struct {
	Count         int                   `yaml:"count" json:"count"`                    // Images. Zero means none.
	Sampler       diffusion.SamplerName `yaml:"sampler" json:"sampler"`                // "" means ddim.
	Steps         int                   `yaml:"steps" json:"steps"`                    // Zero means 50.
	Eta           float64               `yaml:"eta" json:"eta"`                        // Of DDIM, in [0, 1].
	GuidanceScale float64               `yaml:"guidance_scale" json:"guidance_scale"`  // Zero means 1: off.
	Churn         diffusion.Churn       `yaml:"churn,omitempty" json:"churn,omitzero"` // Of edm. Zero means none.

	// Prompts say in public words what the images of a model that takes text
	// should show; the images are spread evenly over them. NegativePrompt is what
	// guidance leads away from.
	Prompts        []string `yaml:"prompts,omitempty" json:"prompts,omitempty"`
	NegativePrompt string   `yaml:"negative_prompt,omitempty" json:"negative_prompt,omitempty"`
}

func (s Sampling) stochastic() diffusion.Stochastic {
	return diffusion.Stochastic{Eta: s.Eta, Churn: s.Churn}
}

// ReadConfig reads and validates a config file.
func ReadConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	return ParseConfig(data)
}

// ParseConfig is ReadConfig on the file's contents. Unknown keys are errors
// that name the nearest known one.
func ParseConfig(data []byte) (*Config, error) {
	var c Config
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrConfig, explain(err))
	}
	c.setDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &c, nil
}

// YAML returns the resolved config as a file.
func (c *Config) YAML() ([]byte, error) { return yaml.Marshal(c) }

func (c *Config) setDefaults() {
	if c.Privacy.Neighboring == "" {
		c.Privacy.Neighboring = accountant.AddOrRemove.String()
	}
	if c.LoDA.Rank == 0 {
		c.LoDA.Rank = 4
	}
	if c.LoDA.Core == "" {
		c.LoDA.Core = adapter.NonLinearCore
	}
	if c.LoDA.Kernel == 0 {
		c.LoDA.Kernel = 3
	}
	if c.LoRA.Rank == 0 {
		c.LoRA.Rank = 4
	}
	if c.Training.Multiplicity == 0 {
		c.Training.Multiplicity = 1
	}
	if c.Training.Schedule == "" {
		c.Training.Schedule = optim.Constant
	}
	if c.Training.Compute == "" {
		c.Training.Compute = nn.Float32
	}
	if c.Training.MaxTimestep == 0 {
		c.Training.MaxTimestep = 1
	}
	if c.Sampling.Sampler == "" {
		c.Sampling.Sampler = diffusion.UseDDIM
	}
	if c.Sampling.Steps == 0 {
		c.Sampling.Steps = 50
	}
	if c.Sampling.GuidanceScale == 0 {
		c.Sampling.GuidanceScale = 1
	}
}

// Validate reports the first key that is out of range. Every error wraps
// ErrConfig.
func (c *Config) Validate() error {
	t, p := c.Training, c.Privacy
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrConfig, fmt.Sprintf(format, args...))
	}
	switch {
	case c.Base == "":
		return bad("base is missing, want the folder of a base model, or latent, pixel, colour, text or shapes")
	case c.Method != Attention && c.Method != LoDA && c.Method != LoRA && c.Method != Full:
		return bad("method is %q, want attention, loda, lora or full", c.Method)
	case c.Data.Path == "":
		return bad("data.path is missing, want a folder of images or IDX files")
	case c.Data.Examples < 1:
		return bad("data.examples is %d, want the public number of examples, at least 1", c.Data.Examples)
	case c.Data.Format != "" && !slices.Contains(dataset.Formats(), c.Data.Format):
		return bad("data.format is %q, want one of %v, or nothing for the one that is there", c.Data.Format, dataset.Formats())
	case c.Data.Split != "" && c.Data.Split != dataset.Train && c.Data.Split != dataset.Test:
		return bad("data.split is %q, want %s or %s", c.Data.Split, dataset.Train, dataset.Test)
	case c.Data.Size != 0 && (c.Data.Size < dataset.MinSize || c.Data.Size > dataset.MaxSize):
		return bad("data.size is %d pixels, want %d to %d, or 0 for the base model's", c.Data.Size, dataset.MinSize, dataset.MaxSize)
	case c.Data.Channels != 0 && c.Data.Channels != 1 && c.Data.Channels != 3:
		return bad("data.channels is %d, want 1 or 3", c.Data.Channels)
	case !(p.Epsilon > 0):
		return bad("privacy.epsilon is %g, want positive", p.Epsilon)
	case p.Epsilon > maxEpsilon:
		return bad("privacy.epsilon is %g, want at most %g: above that nothing is protected", p.Epsilon, float64(maxEpsilon))
	case !(p.Delta > 0 && p.Delta < 1):
		return bad("privacy.delta is %g, want in (0, 1)", p.Delta)
	case p.Delta < minDelta:
		return bad("privacy.delta is %g, want at least %g", p.Delta, minDelta)
	case p.Delta >= 1/float64(c.Data.Examples):
		return bad("privacy.delta is %g, want below 1/data.examples = %.3g: a larger one would allow releasing whole examples", p.Delta, 1/float64(c.Data.Examples))
	case p.Neighboring != accountant.AddOrRemove.String():
		return bad("privacy.neighboring is %q, want add-or-remove: Poisson sampling is accounted under it", p.Neighboring)
	case t.Steps < 1:
		return bad("training.steps is %d, want at least 1", t.Steps)
	case !(t.ExpectedBatchSize > 0 && t.ExpectedBatchSize <= float64(c.Data.Examples)):
		return bad("training.expected_batch_size is %g, want in (0, data.examples = %d]", t.ExpectedBatchSize, c.Data.Examples)
	case t.ExpectedBatchSize/float64(c.Data.Examples)*float64(t.Steps) <= p.Delta:
		return bad("privacy.delta is %g, not below the chance %.3g that an image is drawn at all: such a claim would hold without noise", p.Delta, t.ExpectedBatchSize/float64(c.Data.Examples)*float64(t.Steps))
	case t.Multiplicity < 1:
		return bad("training.multiplicity is %d, want at least 1", t.Multiplicity)
	case !(t.ClippingNorm > 0) || math.IsInf(t.ClippingNorm, 1):
		return bad("training.clipping_norm is %g, want positive and finite", t.ClippingNorm)
	case !(t.LearningRate > 0) || math.IsInf(t.LearningRate, 1):
		return bad("training.learning_rate is %g, want positive and finite", t.LearningRate)
	case t.Schedule != optim.Constant && t.Schedule != optim.Cosine && t.Schedule != optim.Linear:
		return bad("training.schedule is %q, want constant, cosine or linear", t.Schedule)
	case t.Warmup < 0 || t.Warmup >= t.Steps:
		return bad("training.warmup is %d, want in [0, training.steps = %d)", t.Warmup, t.Steps)
	case !(t.EMA >= 0 && t.EMA < 1):
		return bad("training.ema is %g, want in [0, 1)", t.EMA)
	case !(t.LabelDrop >= 0 && t.LabelDrop < 1):
		return bad("training.label_drop is %g, want in [0, 1)", t.LabelDrop)
	case t.Compute != "" && t.Compute != nn.Float32 && t.Compute != nn.BFloat16:
		return bad("training.compute is %q, want %s or %s", t.Compute, nn.Float32, nn.BFloat16)
	case t.BasePrecision != "" && t.BasePrecision != nn.Float32 && t.BasePrecision != nn.BFloat16:
		return bad("training.base_precision is %q, want %s or %s", t.BasePrecision, nn.Float32, nn.BFloat16)
	case !(t.MaxTimestep > 0 && t.MaxTimestep <= 1):
		return bad("training.max_timestep is %g, want in (0, 1]", t.MaxTimestep)
	case t.LossWeight != EqualWeight && t.LossWeight != MinSNRWeight && t.LossWeight != EDMWeight:
		return bad("training.loss_weight is %q, want min-snr or edm, or nothing for equal weights", t.LossWeight)
	case c.Attention.FirstLayer < 0:
		return bad("attention.first_layer is %d, want at least 0", c.Attention.FirstLayer)
	case c.LoDA.Rank < 1:
		return bad("loda.rank is %d, want at least 1", c.LoDA.Rank)
	case !(c.LoDA.Alpha >= 0) || math.IsInf(c.LoDA.Alpha, 1):
		return bad("loda.alpha is %g, want positive and finite, or 0 for the rank", c.LoDA.Alpha)
	case c.LoDA.Core != adapter.LinearCore && c.LoDA.Core != adapter.NonLinearCore:
		return bad("loda.core is %q, want linear or non-linear", c.LoDA.Core)
	case c.LoDA.Kernel < 1:
		return bad("loda.kernel is %d, want at least 1", c.LoDA.Kernel)
	case c.LoRA.Rank < 1:
		return bad("lora.rank is %d, want at least 1", c.LoRA.Rank)
	case !(c.LoRA.Alpha >= 0) || math.IsInf(c.LoRA.Alpha, 1):
		return bad("lora.alpha is %g, want positive and finite, or 0 for the rank", c.LoRA.Alpha)
	case slices.Contains(c.LoRA.Targets, ""):
		return bad("lora.targets has an empty name, want last parts of layers' names such as to_q")
	case c.Full.Parameters != AllParameters && c.Full.Parameters != NormAndBias:
		return bad("full.parameters is %q, want %s, or nothing for all", c.Full.Parameters, NormAndBias)
	case c.Sampling.Count < 0:
		return bad("sampling.count is %d, want at least 0", c.Sampling.Count)
	case !slices.Contains(diffusion.SamplerNames(), string(c.Sampling.Sampler)):
		return bad("sampling.sampler is %q, want one of %s", c.Sampling.Sampler, strings.Join(diffusion.SamplerNames(), ", "))
	case c.Sampling.Steps < 1:
		return bad("sampling.steps is %d, want at least 1", c.Sampling.Steps)
	case !(c.Sampling.Eta >= 0 && c.Sampling.Eta <= 1):
		return bad("sampling.eta is %g, want in [0, 1]", c.Sampling.Eta)
	case c.Sampling.stochastic().Check(c.Sampling.Sampler) != nil:
		return bad("sampling: %s", c.Sampling.stochastic().Check(c.Sampling.Sampler))
	case !(c.Sampling.GuidanceScale >= 0) || math.IsInf(c.Sampling.GuidanceScale, 1):
		return bad("sampling.guidance_scale is %g, want at least 0 and finite", c.Sampling.GuidanceScale)
	}
	if !(p.Reserve >= 0) {
		return bad("privacy.reserve is %g, want at least 0", p.Reserve)
	}
	if p.Reserve >= p.Epsilon {
		return bad("privacy.reserve is %g, want below privacy.epsilon = %g", p.Reserve, p.Epsilon)
	}
	if err := cmp.Or(checkBlocks("attention.blocks", c.Attention.Blocks), checkBlocks("full.blocks", c.Full.Blocks),
		t.Augment.validate(), t.Timesteps.validate(), c.ClassChoice.validate(c), c.WarmStart.validate(), c.Teacher.validate(c.Data.Examples)); err != nil {
		return bad("%s", err)
	}
	for i, path := range p.PreviousRuns {
		if path == "" {
			return bad("privacy.previous_runs has no path at place %d, want a run directory or its %s", i+1, LedgerFile)
		}
	}
	if len(c.Data.Classes) > 0 {
		if err := checkClassNames(c.Data.Classes); err != nil {
			return bad("data.classes: %s", err)
		}
	}
	return nil
}

// Limits of the accountant.
const (
	maxEpsilon = 1e6
	minDelta   = 1e-100
)

// checkClassNames refuses names that the released images could not be filed
// under, before anything is spent: each names a folder.
func checkClassNames(names []string) error {
	if n := len(names); n < dataset.MinClasses || n > dataset.MaxClasses {
		return fmt.Errorf("%d names, want %d to %d", n, dataset.MinClasses, dataset.MaxClasses)
	}
	seen := map[string]bool{}
	for _, name := range names {
		if err := dataset.CheckClassName(name); err != nil {
			return err
		}
		if seen[name] {
			return fmt.Errorf("%q is there twice, want different names", name)
		}
		seen[name] = true
	}
	return nil
}

var unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)

// explain adds the nearest known key to the decoder's message about an unknown
// one.
func explain(err error) string {
	text := strings.ReplaceAll(err.Error(), "\n", " ")
	match := unknownField.FindStringSubmatch(text)
	if match == nil {
		return text
	}
	best, distance := "", 1<<30
	for _, key := range keys(reflect.TypeFor[Config]()) {
		if d := editDistance(match[1], key); d < distance {
			best, distance = key, d
		}
	}
	text = unknownField.ReplaceAllString(text, "key $1 is not known")
	if distance <= 1+len(match[1])/3 {
		text += fmt.Sprintf("; did you mean %s?", best)
	}
	return text
}

func keys(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		out = append(out, strings.Split(f.Tag.Get("yaml"), ",")[0])
		if f.Type.Kind() == reflect.Struct {
			out = append(out, keys(f.Type)...)
		}
	}
	return out
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
