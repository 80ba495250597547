package pretrain

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"

	"go.yaml.in/yaml/v4"

	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/dataset/shapes"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/textencoder"
	"github.com/scumble-dp/scumble/tokenizer"
	"github.com/scumble-dp/scumble/unet"
)

// Config is a recipe for a base model. Everything in it is public.
type Config struct {
	Name   string `yaml:"name" json:"name"`
	Seed   uint64 `yaml:"seed" json:"seed"`
	Images Images `yaml:"images" json:"images"`

	// Autoencoder, if set, makes a latent model. Exactly one of Autoencoder
	// and PixelUnshuffle is given.
	Autoencoder *Autoencoder `yaml:"autoencoder" json:"autoencoder,omitempty"`
	// PixelUnshuffle makes a pixel-space model whose UNet sees each square of
	// that many pixels as channels of one cell; 1 is plain pixels.
	PixelUnshuffle int `yaml:"pixel_unshuffle" json:"pixel_unshuffle,omitempty"`

	// ClassEmbedder is the width of the class token that a latent model
	// attends to; zero puts classes into the UNet's own class table.
	ClassEmbedder int `yaml:"class_embedder" json:"class_embedder,omitempty"`

	// TextEncoder, if set, makes a model that is conditioned on text: keys of a
	// CLIPTextModel's config.json, less those that the captions decide. The images
	// are then drawn with captions, and the model has no classes.
	TextEncoder map[string]any `yaml:"text_encoder" json:"text_encoder,omitempty"`

	UNet      map[string]any `yaml:"unet" json:"unet"`           // Keys of diffusers' config.json.
	Scheduler map[string]any `yaml:"scheduler" json:"scheduler"` // Keys of scheduler_config.json.
	Denoiser  []Phase        `yaml:"denoiser" json:"denoiser"`

	// ContinueUNet starts the UNet from that of the model that lends its
	// autoencoder.
	ContinueUNet bool `yaml:"continue_unet" json:"continue_unet,omitempty"`

	// HalfPrecision writes the weights as float16, half the size.
	HalfPrecision bool `yaml:"half_precision" json:"half_precision,omitempty"`
}

// Renderer names what draws the public images.
type Renderer string

const (
	Glyphs Renderer = "glyphs" // Characters, package dataset/glyphs.
	Shapes Renderer = "shapes" // Silhouettes, shapes and textures, package dataset/shapes.
)

// Images are rendered, of characters unless Renderer says otherwise.
type Images struct {
	Renderer Renderer `yaml:"renderer" json:"renderer,omitempty"` // Empty means Glyphs.
	Size     int      `yaml:"size" json:"size"`                   // Pixels. Zero means 28.
	Channels int      `yaml:"channels" json:"channels"`           // 1 or 3. Zero means 1.

	DigitShare float64  `yaml:"digit_share" json:"digit_share"` // Of glyphs, as the two below.
	PenShare   float64  `yaml:"pen_share" json:"pen_share"`
	FontDirs   []string `yaml:"font_dirs" json:"font_dirs,omitempty"`

	GarmentShare float64  `yaml:"garment_share" json:"garment_share,omitempty"` // Of shapes, as the one below.
	Classes      []string `yaml:"classes" json:"classes,omitempty"`
}

func (im *Images) validate() error {
	switch im.Renderer {
	case "", Glyphs:
		if im.GarmentShare != 0 || im.Classes != nil {
			return fmt.Errorf("pretrain config: images: garment_share and classes go with renderer: shapes")
		}
	case Shapes:
		if im.DigitShare != 0 || im.PenShare != 0 || im.FontDirs != nil {
			return fmt.Errorf("pretrain config: images: digit_share, pen_share and font_dirs go with renderer: glyphs")
		}
	default:
		return fmt.Errorf("pretrain config: images: renderer is %q, want glyphs or shapes", im.Renderer)
	}
	return nil
}

// Autoencoder of a latent model.
type Autoencoder struct {
	Training `yaml:",inline"`
	KLWeight float64        `yaml:"kl_weight" json:"kl_weight"` // Weight of the divergence per latent value.
	Latents  int            `yaml:"latents" json:"latents"`     // Public images that are encoded for the denoiser.
	Model    map[string]any `yaml:"model" json:"model"`         // Keys of diffusers' config.json.
}

// ReadConfig reads a recipe. Unknown keys are errors.
func ReadConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseConfig(data)
}

// ParseConfig is ReadConfig on the file's contents.
func ParseConfig(data []byte) (*Config, error) {
	var c Config
	d := yaml.NewDecoder(bytes.NewReader(data))
	d.KnownFields(true)
	if err := d.Decode(&c); err != nil {
		return nil, fmt.Errorf("pretrain config: %w", err)
	}
	return &c, c.validate()
}

func (c *Config) validate() error {
	switch {
	case (c.Autoencoder == nil) == (c.PixelUnshuffle == 0):
		return fmt.Errorf("pretrain config: want exactly one of autoencoder (latent model) and pixel_unshuffle (pixel model)")
	case c.PixelUnshuffle < 0:
		return fmt.Errorf("pretrain config: pixel_unshuffle is %d, want at least 1", c.PixelUnshuffle)
	case c.ClassEmbedder < 0:
		return fmt.Errorf("pretrain config: class_embedder is %d, want at least 1, or 0 for none", c.ClassEmbedder)
	case c.TextEncoder != nil && c.ClassEmbedder > 0:
		return fmt.Errorf("pretrain config: text_encoder and class_embedder are set, want one of them")
	case len(c.Denoiser) == 0:
		return fmt.Errorf("pretrain config: denoiser has no steps")
	case c.TextEncoder != nil && c.Images.Renderer == Shapes:
		return fmt.Errorf("pretrain config: text_encoder is set, but shapes have no captions; use renderer: glyphs")
	}
	if err := c.Images.validate(); err != nil {
		return err
	}
	if a := c.Autoencoder; a != nil {
		if err := a.validate("pretrain config: autoencoder"); err != nil {
			return err
		}
		if a.Latents < 1 {
			return fmt.Errorf("pretrain config: autoencoder: latents is %d, want at least 1", a.Latents)
		}
	}
	for i, p := range c.Denoiser {
		if err := p.validate(fmt.Sprintf("pretrain config: denoiser step %d", i+1)); err != nil {
			return err
		}
		if !(p.LabelDrop >= 0 && p.LabelDrop <= 1) {
			return fmt.Errorf("pretrain config: denoiser step %d: label_drop is %g, want in [0, 1]", i+1, p.LabelDrop)
		}
	}
	return nil
}

func (c *Config) glyphs() glyphs.Options {
	return glyphs.Options{Size: c.Images.Size, Channels: c.Images.Channels, Seed: c.Seed,
		DigitShare: c.Images.DigitShare, PenShare: c.Images.PenShare, FontDirs: c.Images.FontDirs}
}

func (c *Config) shapes() shapes.Options {
	return shapes.Options{Size: c.Images.Size, Channels: c.Images.Channels, Seed: c.Seed,
		GarmentShare: c.Images.GarmentShare, Classes: c.Images.Classes}
}

func parseVia[T any](what string, keys map[string]any, parse func([]byte) (*T, error)) (*T, error) {
	data, err := json.Marshal(keys)
	if err != nil {
		return nil, fmt.Errorf("pretrain config: %s: %w", what, err)
	}
	v, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("pretrain config: %s: %w", what, err)
	}
	return v, nil
}

func (c *Config) unet() (*unet.Config, error) { return parseVia("unet", c.UNet, unet.ParseConfig) }

// text returns the text encoder for captions of the classes, and their tokenizer.
func (c *Config) text(classes []string) (*textencoder.Config, *tokenizer.Tokenizer, error) {
	keys := maps.Clone(c.TextEncoder)
	keys["architectures"] = []string{string(textencoder.CLIP)}
	first, err := parseVia("text_encoder", keys, textencoder.ParseConfig)
	if err != nil {
		return nil, nil, err
	}
	t, err := tokenizer.Build(glyphs.CaptionWords(classes), first.Positions)
	if err != nil {
		return nil, nil, fmt.Errorf("pretrain config: text_encoder: %w", err)
	}
	end := t.Size() - 1
	keys["vocab_size"], keys["bos_token_id"], keys["eos_token_id"], keys["pad_token_id"] = t.Size(), end-1, end, end
	encoder, err := parseVia("text_encoder", keys, textencoder.ParseConfig)
	return encoder, t, err
}

func (c *Config) scheduler() (*diffusion.Config, error) {
	return parseVia("scheduler", c.Scheduler, diffusion.ParseConfig)
}

func (a *Autoencoder) config() (*autoencoder.Config, error) {
	return parseVia("autoencoder", a.Model, autoencoder.ParseConfig)
}
