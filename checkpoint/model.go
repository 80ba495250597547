package checkpoint

import (
	"fmt"
	"slices"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/adapter"
	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/textencoder"
	"github.com/scumble-dp/scumble/tokenizer"
	"github.com/scumble-dp/scumble/unet"
)

// PrivateRun is the key of [Model.Info] that says that a model was trained on
// private images: the head of the released ledger of that run, when it ended.
const PrivateRun = "private_run"

// Model is a diffusion model in memory: what a diffusers folder holds.
type Model struct {
	UNet          *unet.Config
	Autoencoder   *autoencoder.Config // Nil: the model works on pixels.
	ClassEmbedder *ClassEmbedder      // Nil: classes enter through the UNet's own class_embedding, or not at all.
	TextEncoder   *textencoder.Config // With Tokenizer: the model is conditioned on text. Nil: it is not.
	Tokenizer     *tokenizer.Tokenizer
	Scheduler     *diffusion.Config
	Adapter       *adapter.Config // Nil: the UNet has no adapter branches.

	Classes        []string // Class names in label order; label len(Classes) is the null class of classifier-free guidance.
	Channels, Size int      // Of the images: 1 or 3; height and width in pixels.
	PixelUnshuffle int      // Pixel models: space-to-depth factor before the UNet; 1 is none.

	// Weights holds every parameter, named by component: "unet.…" (adapter
	// branches included), "vae.…", "text_encoder.…", "class_embedder.weight".
	Weights *nn.Weights

	Card string            // README.md, verbatim.
	Info map[string]string // Provenance: recipe, seed, public data, PrivateRun.

	index   index             // Of a folder that another program wrote; nil for ours.
	folders map[string]string // Its names of the components' folders, where not ours.
}

// ClassEmbedder is a table that turns a label into a context of one token.
type ClassEmbedder struct {
	Entries  int // Classes and the null class.
	Channels int // The UNet's cross_attention_dim.
}

// Names of the components with weights: folders, and prefixes in Model.Weights.
const (
	unetName     = "unet"
	vaeName      = "vae"
	embedderName = "class_embedder"
)

// NullClass returns the label that means "no class".
func (m *Model) NullClass() int { return len(m.Classes) }

// Specs returns the parameters of all components, with the names that they have
// in Weights. Nothing runs on the backend. It is an error if the components do
// not fit together.
func (m *Model) Specs(backend compute.Backend) ([]nn.Spec, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	var branches nn.Adapter
	if m.Adapter != nil {
		var err error
		if branches, err = m.Adapter.Adapter(""); err != nil {
			return nil, fmt.Errorf("adapter: %w", err)
		}
	}
	specs, err := m.UNet.SpecsWith(backend, branches)
	if err != nil {
		return nil, fmt.Errorf("unet: %w", err)
	}
	all := prefixed(nil, unetName, specs)
	if m.Autoencoder != nil {
		if specs, err = m.Autoencoder.Specs(backend); err != nil {
			return nil, fmt.Errorf("vae: %w", err)
		}
		all = prefixed(all, vaeName, specs)
	}
	if m.TextEncoder != nil {
		if specs, err = m.TextEncoder.Specs(backend); err != nil {
			return nil, err
		}
		all = prefixed(all, textName, specs)
	}
	if e := m.ClassEmbedder; e != nil {
		all = prefixed(all, embedderName, []nn.Spec{
			{Name: "weight", Kind: nn.KindTable, Shape: []int{e.Entries, e.Channels}, Init: nn.InitNormal}})
	}
	return all, nil
}

func prefixed(all []nn.Spec, component string, specs []nn.Spec) []nn.Spec {
	for _, s := range specs {
		s.Name = component + "." + s.Name
		all = append(all, s)
	}
	return all
}

// Validate returns an error unless the components fit together. It does not look
// at the weights.
func (m *Model) Validate() error {
	if m.UNet == nil || m.Scheduler == nil {
		return fmt.Errorf("model has unet %v and scheduler %v, want both", m.UNet != nil, m.Scheduler != nil)
	}
	if err := m.UNet.Validate(); err != nil {
		return fmt.Errorf("unet: %w", err)
	}
	if err := m.Scheduler.Validate(); err != nil {
		return err
	}
	if m.Channels != 1 && m.Channels != 3 {
		return fmt.Errorf("model's images have %d channels, want 1 or 3", m.Channels)
	}
	if m.Size < 1 {
		return fmt.Errorf("model's images are %d pixels wide, want at least 1", m.Size)
	}
	if m.PixelUnshuffle < 1 || m.PixelUnshuffle > 64 {
		return fmt.Errorf("model's pixel unshuffle factor is %d, want 1 to 64", m.PixelUnshuffle)
	}
	depth, made := m.Channels*m.PixelUnshuffle*m.PixelUnshuffle, "pixels"
	if a := m.Autoencoder; a != nil {
		if err := a.Validate(); err != nil {
			return err
		}
		if m.PixelUnshuffle != 1 {
			return fmt.Errorf("model has an autoencoder and pixel unshuffle factor %d, want one of them; 1 is none", m.PixelUnshuffle)
		}
		if a.InChannels != m.Channels || a.OutChannels != m.Channels {
			return fmt.Errorf("vae takes %d and gives %d channels, want the images' %d", a.InChannels, a.OutChannels, m.Channels)
		}
		depth, made = a.Depth(), "latents"
	}
	if m.UNet.InChannels != depth || m.UNet.OutChannels != depth {
		return fmt.Errorf("unet takes %d and gives %d channels, want %d, as the %s have",
			m.UNet.InChannels, m.UNet.OutChannels, depth, made)
	}
	if err := m.validateText(); err != nil {
		return err
	}
	return m.validateClasses()
}

func (m *Model) validateClasses() error {
	sorted := slices.Sorted(slices.Values(m.Classes))
	for i, name := range sorted {
		if name == "" || i > 0 && name == sorted[i-1] {
			return fmt.Errorf("class name %q is empty or there twice, want distinct names", name)
		}
	}
	entries, where := m.UNet.NumClassEmbeds, "unet's num_class_embeds"
	if e := m.ClassEmbedder; e != nil {
		if m.UNet.Class != unet.Conditional || len(m.UNet.CrossAttentionDim) == 0 {
			return fmt.Errorf("model has a class embedder and a unet of class %q without cross attention, want %q with it",
				m.UNet.Class, unet.Conditional)
		}
		for _, channels := range m.UNet.CrossAttentionDim {
			if channels != e.Channels {
				return fmt.Errorf("class embedder has %d channels, want the unet's cross_attention_dim %d", e.Channels, channels)
			}
		}
		if entries > 0 {
			return fmt.Errorf("model has a class embedder and num_class_embeds %d, want one of them", entries)
		}
		entries, where = e.Entries, "class embedder's entries"
		if entries < 1 {
			return fmt.Errorf("class embedder has %d entries, want at least 1", entries)
		}
	}
	if entries == 0 && len(m.Classes) > 0 {
		return fmt.Errorf("model names %d classes, but no part of it takes a class", len(m.Classes))
	}
	if entries > 0 && entries < len(m.Classes)+1 {
		return fmt.Errorf("%s is %d, want %d: one for each class and one for the null class", where, entries, len(m.Classes)+1)
	}
	return nil
}

// checkWeights returns an error unless w has exactly the tensors of specs.
func checkWeights(w *nn.Weights, specs []nn.Spec) error {
	known := map[string]bool{}
	for _, spec := range specs {
		known[spec.Name] = true
		t := w.Get(spec.Name)
		switch {
		case t == nil:
			return fmt.Errorf("tensor %q is missing, want shape %v", spec.Name, spec.Shape)
		case !slices.Equal(t.Shape, spec.Shape):
			return fmt.Errorf("tensor %q has shape %v, want %v", spec.Name, t.Shape, spec.Shape)
		case t.Kind != spec.Kind:
			return fmt.Errorf("tensor %q is of kind %d, want %d", spec.Name, t.Kind, spec.Kind)
		case len(t.Data) != spec.Size():
			return fmt.Errorf("tensor %q has %d values, want %d", spec.Name, len(t.Data), spec.Size())
		}
	}
	for _, t := range w.All() {
		if !known[t.Name] {
			return fmt.Errorf("tensor %q of shape %v has no place in the model", t.Name, t.Shape)
		}
	}
	return nil
}
