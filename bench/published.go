package bench

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/textencoder"
	"github.com/scumble-dp/scumble/unet"
)

// Names of the published models that work on images of 256x256 pixels.
const (
	CelebAHQ    = "celebahq-vq-f4" // DP-LDM's class-conditional model: latents 64x64x3.
	LDMText2Img = "ldm-text2img"   // CompVis' text-to-image model, with LDMBert: 32x32x4.
	SD15        = "sd15"           // Stable Diffusion 1.5.
	SD21        = "sd21"           // Stable Diffusion 2.1 base.
)

// PublishedModels lists them.
var PublishedModels = []string{CelebAHQ, LDMText2Img, SD15, SD21}

// Published is the geometry of a published model. It has no weights, and no
// tokenizer.
type Published struct {
	Name   string
	Source string // Where the configuration is from.
	Model  *checkpoint.Model

	// TrainsEmbedder says that the conditioning embedder trains with the attention
	// modules where the model was fine-tuned with DP. False where no one published
	// such a run.
	TrainsEmbedder bool
}

// OpenPublished returns the geometry of one of PublishedModels.
func OpenPublished(name string) (*Published, error) {
	if !slices.Contains(PublishedModels, name) {
		return nil, fmt.Errorf("published model is %q, want one of %q", name, PublishedModels)
	}
	raw, err := configs.ReadFile("workloads/" + name + ".json")
	if err != nil {
		return nil, err
	}
	return parsePublished(name, raw)
}

// parsePublished reads a file of workloads that holds a whole model.
func parsePublished(name string, raw []byte) (*Published, error) {
	var file struct {
		Source string `json:"source"`
		Image  struct {
			Size     int `json:"size"`
			Channels int `json:"channels"`
		} `json:"image"`
		UNet          json.RawMessage `json:"unet"`
		Autoencoder   json.RawMessage `json:"vae"`
		TextEncoder   json.RawMessage `json:"text_encoder"`
		ClassEmbedder *struct {
			Entries  int `json:"entries"`
			Channels int `json:"channels"`
		} `json:"class_embedder"`
		Scheduler      json.RawMessage `json:"scheduler"`
		TrainsEmbedder bool            `json:"trains_embedder"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", name, err)
	}
	m := &checkpoint.Model{Size: file.Image.Size, Channels: file.Image.Channels, PixelUnshuffle: 1}
	var err error
	if m.UNet, err = unet.ParseConfig(file.UNet); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", name, err)
	}
	if m.Autoencoder, err = autoencoder.ParseConfig(file.Autoencoder); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", name, err)
	}
	if m.Scheduler, err = diffusion.ParseConfig(file.Scheduler); err != nil {
		return nil, fmt.Errorf("configuration of %s: %w", name, err)
	}
	if file.TextEncoder != nil {
		if m.TextEncoder, err = textencoder.ParseConfig(file.TextEncoder); err != nil {
			return nil, fmt.Errorf("configuration of %s: %w", name, err)
		}
	}
	if e := file.ClassEmbedder; e != nil {
		m.ClassEmbedder = &checkpoint.ClassEmbedder{Entries: e.Entries, Channels: e.Channels}
	}
	if grid := m.Size / m.Autoencoder.Factor(); grid != m.UNet.SampleSize.At(0) || m.Autoencoder.Depth() != m.UNet.InChannels {
		return nil, fmt.Errorf("configuration of %s: latents are %dx%dx%d, the unet takes %dx%dx%d", name,
			grid, grid, m.Autoencoder.Depth(), m.UNet.SampleSize.At(0), m.UNet.SampleSize.At(0), m.UNet.InChannels)
	}
	return &Published{Name: name, Source: file.Source, Model: m, TrainsEmbedder: file.TrainsEmbedder}, nil
}

// quickWeights are starting values for hundreds of millions of parameters: pieces
// of one table of normal numbers.
func quickWeights(specs []nn.Spec) *nn.Weights {
	rng := rand.New(rand.NewPCG(1, 0))
	normal := make([]float32, 1<<20)
	for i := range normal {
		normal[i] = float32(rng.NormFloat64())
	}
	w := nn.NewWeights()
	for _, spec := range specs {
		random, scale := spec.Init == nn.InitFanIn || spec.Init == nn.InitNormal, float32(1)
		if spec.Init == nn.InitFanIn {
			scale = float32(math.Sqrt(float64(spec.Shape[len(spec.Shape)-1]) / float64(spec.Size())))
			spec.Init = nn.InitZeros
		} else if spec.Init == nn.InitNormal {
			spec.Init = nn.InitZeros
		}
		t := nn.NewTensor(spec, rng)
		for at := 0; random && at < len(t.Data); {
			from := normal[rng.IntN(len(normal)):]
			n := min(len(from), len(t.Data)-at)
			for i, v := range from[:n] {
				t.Data[at+i] = scale * v
			}
			at += n
		}
		w.Add(t)
	}
	return w
}

// Parameters returns the number of parameters of each component, by its folder's
// name in a model folder.
func (p *Published) Parameters(backend compute.Backend) (map[string]int, error) {
	counts := map[string]int{}
	add := func(component string, specs []nn.Spec, err error) error {
		for _, s := range specs {
			counts[component] += s.Size()
		}
		return err
	}
	m := p.Model
	specs, err := m.UNet.Specs(backend)
	if err := add("unet", specs, err); err != nil {
		return nil, err
	}
	specs, err = m.Autoencoder.Specs(backend)
	if err := add("vae", specs, err); err != nil {
		return nil, err
	}
	if m.TextEncoder != nil {
		specs, err = m.TextEncoder.Specs(backend)
		if err := add("text_encoder", specs, err); err != nil {
			return nil, err
		}
	}
	if e := m.ClassEmbedder; e != nil {
		counts["class_embedder"] = e.Entries * e.Channels
	}
	return counts, nil
}
