package checkpoint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scumble-dp/scumble/tokenizer"
	"github.com/scumble-dp/scumble/unet"
)

// Components of models that are conditioned on text. The weights are below
// "text_encoder." in Model.Weights.
const (
	textName      = "text_encoder"
	tokenizerName = "tokenizer"

	textPrefix = "text_model." // Before CLIP's names up to transformers 4, and in what we write: 5 reads it, too.
)

// folderNames are what other pipelines call a component's folder.
var folderNames = map[string]string{
	"vqvae": vaeName,  // LDMPipeline and LDMTextToImagePipeline.
	"bert":  textName, // LDMTextToImagePipeline.
}

// passedOver are components that do not change the images: they are not read, and
// saved as absent.
var passedOver = []string{"safety_checker", "feature_extractor"}

// TextLength returns the number of tokens that a text has for this model, padded
// or cut: what the text encoder and the tokenizer both allow.
func (m *Model) TextLength() int {
	n := m.TextEncoder.Positions
	if longest := m.Tokenizer.Longest(); longest > 0 {
		n = min(n, longest)
	}
	return n
}

// Tokens returns the token numbers of texts, [len(texts), TextLength].
func (m *Model) Tokens(texts []string) []int32 {
	n := m.TextLength()
	out := make([]int32, 0, len(texts)*n)
	for _, text := range texts {
		out = append(out, m.Tokenizer.Padded(text, n)...)
	}
	return out
}

// validateText checks that tokenizer, text encoder and UNet fit together.
func (m *Model) validateText() error {
	if m.TextEncoder == nil && m.Tokenizer == nil {
		return nil
	}
	if m.TextEncoder == nil || m.Tokenizer == nil {
		return fmt.Errorf("model has text encoder %v and tokenizer %v, want both or none", m.TextEncoder != nil, m.Tokenizer != nil)
	}
	if err := m.TextEncoder.Validate(); err != nil {
		return err
	}
	if m.ClassEmbedder != nil || m.UNet.NumClassEmbeds > 0 {
		return fmt.Errorf("model has a text encoder and a table of classes, want one of them")
	}
	if m.UNet.Class != unet.Conditional || len(m.UNet.CrossAttentionDim) == 0 {
		return fmt.Errorf("model has a text encoder and a unet of class %q without cross attention, want %q with it", m.UNet.Class, unet.Conditional)
	}
	for _, channels := range m.UNet.CrossAttentionDim {
		if channels != m.TextEncoder.Width {
			return fmt.Errorf("text encoder's width is %d, want the unet's cross_attention_dim %d", m.TextEncoder.Width, channels)
		}
	}
	if size := m.Tokenizer.Size(); size > m.TextEncoder.Vocabulary {
		return fmt.Errorf("tokenizer has %d tokens, the text encoder's vocabulary %d, want at most as many", size, m.TextEncoder.Vocabulary)
	}
	if m.TextLength() < 2 {
		return fmt.Errorf("texts have %d tokens, want at least 2, for start and end", m.TextLength())
	}
	return nil
}

// textTensor returns today's name of a tensor in a text encoder's file, "" for
// one that holds no weights.
func textTensor(name string) string {
	name = strings.TrimPrefix(name, textPrefix)
	if strings.HasSuffix(name, ".position_ids") { // 0, 1, 2, …: written up to transformers 4.30.
		return ""
	}
	return name
}

// writeTokenizer writes the files that the tokenizer was read from.
func writeTokenizer(folder string, t *tokenizer.Tokenizer) error {
	for name, data := range t.Files() {
		if err := writeFile(filepath.Join(folder, name), data); err != nil {
			return err
		}
	}
	return syncFolder(folder)
}

// tokenizerClass is the class that model_index.json names.
func (m *Model) tokenizerClass() string {
	files := m.Tokenizer.Files()
	for _, name := range []string{"vocab.txt"} {
		if files[name] != nil {
			return "BertTokenizer"
		}
	}
	if files["tokenizer_config.json"] != nil && strings.Contains(string(files["tokenizer_config.json"]), "BertTokenizer") {
		return "BertTokenizer"
	}
	return "CLIPTokenizer"
}

// keepsPipeline reports whether the folder stays what it was for diffusers: one of
// its own pipelines for text. Other pipelines do not take our conditions, and none
// knows of our branches: those models get pipeline.py.
func (m *Model) keepsPipeline() bool {
	return m.index != nil && m.TextEncoder != nil && m.Adapter == nil
}

// folder returns the name of the folder that a component is written to.
func (m *Model) folder(component string) string {
	if m.keepsPipeline() {
		return m.readFrom(component)
	}
	return component
}

// kept returns the keys of the model_index.json that the model was read from,
// other than those that are written anew.
func (x index) kept() index {
	out := index{}
	for key, value := range x {
		if !slices.Contains([]string{unetName, schedulerName, vaeName, embedderName, textName, tokenizerName}, key) && folderNames[key] == "" {
			out[key] = value
		}
	}
	return out
}

// openTokenizer reads a folder, if it is there.
func openTokenizer(folder string) (*tokenizer.Tokenizer, error) {
	if _, err := os.Stat(folder); err != nil {
		return nil, fmt.Errorf("read model: %w", err)
	}
	return tokenizer.Open(folder)
}
