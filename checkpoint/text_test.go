package checkpoint

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/autoencoder"
	"github.com/scumble-dp/scumble/diffusion"
	"github.com/scumble-dp/scumble/safetensors"
	"github.com/scumble-dp/scumble/textencoder"
	"github.com/scumble-dp/scumble/tokenizer"
)

// textModel is conditioned on text, with an autoencoder.
func textModel(t testing.TB) *Model {
	t.Helper()
	tok, err := tokenizer.Build([]string{"a", "bold", "seven", ","}, 6)
	if err != nil {
		t.Fatal(err)
	}
	c := textencoder.Default(textencoder.CLIP)
	c.Vocabulary, c.Positions, c.Width, c.Layers, c.Heads, c.HeadWidth, c.Hidden, c.EndToken = tok.Size(), 8, 24, 2, 4, 6, 20, tok.Size()-1
	m := &Model{UNet: readUNet(t, crossUNet), Autoencoder: autoencoder.DefaultConfig(), TextEncoder: c, Tokenizer: tok,
		Scheduler: diffusion.DefaultConfig(), Channels: 3, Size: 16, PixelUnshuffle: 1}
	m.Autoencoder.BlockOutChannels, m.Autoencoder.NormNumGroups = []int{8, 16}, 4
	return withWeights(t, m)
}

func sameModel(t *testing.T, got, want *Model) {
	t.Helper()
	if !reflect.DeepEqual(got.Weights.Names(), want.Weights.Names()) {
		t.Fatalf("tensors are %q, want %q", got.Weights.Names(), want.Weights.Names())
	}
	for _, w := range want.Weights.All() {
		if !reflect.DeepEqual(got.Weights.Get(w.Name), w) {
			t.Errorf("tensor %q changed", w.Name)
		}
	}
	if !reflect.DeepEqual(got.Tokenizer.Files(), want.Tokenizer.Files()) {
		t.Error("the tokenizer's files changed")
	}
	if text := []string{"a bold seven, 7"}; !slices.Equal(got.Tokens(text), want.Tokens(text)) {
		t.Errorf("tokens are %v, want %v", got.Tokens(text), want.Tokens(text))
	}
}

func TestSaveLoadText(t *testing.T) {
	m := textModel(t)
	dir := saved(t, m)
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	sameModel(t, got, m)
	if got.TextLength() != 6 || len(got.Classes) != 0 {
		t.Errorf("texts have %d tokens and there are %d classes, want 6 and none", got.TextLength(), len(got.Classes))
	}
	again := saved(t, got)
	if a, b := files(t, dir), files(t, again); !slices.Equal(a, b) {
		t.Fatalf("files are %q, then %q", a, b)
	}
	for _, file := range files(t, dir) {
		if read(t, dir, file) != read(t, again, file) {
			t.Errorf("%s differs when saved again", file)
		}
	}
	// The spelling that transformers of all versions read.
	f, err := safetensors.Open(filepath.Join(dir, "text_encoder", textFile))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if !f.Has("text_model.embeddings.token_embedding.weight") {
		t.Errorf("the text encoder's file has %q", f.Names()[:2])
	}
}

// stableDiffusion turns a saved folder into one of StableDiffusionPipeline.
func stableDiffusion(t *testing.T, m *Model) string {
	t.Helper()
	dir := saved(t, m)
	put(t, dir, indexFile, `{"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0",
		"unet": ["diffusers", "UNet2DConditionModel"], "scheduler": ["diffusers", "DDPMScheduler"], "vae": ["diffusers", "AutoencoderKL"],
		"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
		"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "feature_extractor": ["transformers", "CLIPImageProcessor"],
		"requires_safety_checker": true, "a_later_key": {"x": [1]}}`)
	if err := os.Remove(filepath.Join(dir, scumbleFile)); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(dir, "unet", configFile), map[string]any{"sample_size": 8})
	return dir
}

// TestStableDiffusionFolder: the spellings of all ages load to the same model, and
// the folder stays a pipeline of diffusers, with unknown keys as they were.
func TestStableDiffusionFolder(t *testing.T) {
	m := textModel(t)
	tensors := func(t *testing.T, dir string, change func([]safetensors.Tensor) []safetensors.Tensor) {
		path := filepath.Join(dir, "text_encoder", textFile)
		list, metadata, err := safetensors.Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := safetensors.Write(path, change(list), metadata); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(t *testing.T, dir string){
		"transformers 4": func(*testing.T, string) {},
		"transformers 5": func(t *testing.T, dir string) {
			tensors(t, dir, func(list []safetensors.Tensor) []safetensors.Tensor {
				for i := range list {
					list[i].Name = strings.TrimPrefix(list[i].Name, textPrefix)
				}
				return list
			})
		},
		"position ids": func(t *testing.T, dir string) {
			tensors(t, dir, func(list []safetensors.Tensor) []safetensors.Tensor {
				return append(list, safetensors.FromInt64s("text_model.embeddings.position_ids", []int{1, 8}, []int64{0, 1, 2, 3, 4, 5, 6, 7}))
			})
		},
		"shards": func(t *testing.T, dir string) {
			path := filepath.Join(dir, "text_encoder", textFile)
			list, _, err := safetensors.Read(path)
			if err != nil {
				t.Fatal(err)
			}
			names := []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"}
			where := map[string]string{}
			for i, part := range [][]safetensors.Tensor{list[:5], list[5:]} {
				if err := safetensors.Write(filepath.Join(dir, "text_encoder", names[i]), part, nil); err != nil {
					t.Fatal(err)
				}
				for _, tensor := range part {
					where[tensor.Name] = names[i]
				}
			}
			index, err := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 1}, "weight_map": where})
			if err != nil {
				t.Fatal(err)
			}
			put(t, dir, "text_encoder/model.safetensors.index.json", string(index))
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := stableDiffusion(t, m)
			change(t, dir)
			got, err := Load(dir)
			if err != nil {
				t.Fatal(err)
			}
			sameModel(t, got, m)
			if got.Size != 16 || got.Channels != 3 {
				t.Errorf("images are %d pixels with %d channels, want 16 and 3", got.Size, got.Channels)
			}
			var index map[string]any
			if err := json.Unmarshal([]byte(read(t, saved(t, got), indexFile)), &index); err != nil {
				t.Fatal(err)
			}
			if index["_class_name"] != "StableDiffusionPipeline" || index["requires_safety_checker"] != true ||
				!reflect.DeepEqual(index["a_later_key"], map[string]any{"x": []any{1.0}}) ||
				!reflect.DeepEqual(index["safety_checker"], []any{nil, nil}) {
				t.Errorf("index is %v", index)
			}
		})
	}
}

// TestLatentDiffusionFolder: CompVis' text-to-image model has its text encoder in
// bert/ and its autoencoder in vqvae/, and keeps them there.
func TestLatentDiffusionFolder(t *testing.T) {
	m := textModel(t)
	var err error
	if m.Tokenizer, err = tokenizer.Open("../tokenizer/testdata/bert_files"); err != nil {
		t.Fatal(err)
	}
	c := textencoder.Default(textencoder.LDMBert)
	c.Vocabulary, c.Positions, c.Width, c.Layers, c.Heads, c.HeadWidth, c.Hidden = m.Tokenizer.Size(), 8, 24, 2, 3, 5, 20
	m.TextEncoder = c
	vq := autoencoder.DefaultVQConfig()
	vq.BlockOutChannels, vq.NormNumGroups, vq.LatentChannels, vq.Codebook = []int{8, 16}, 4, 5, &autoencoder.Codebook{Entries: 7, Channels: 4}
	m.Autoencoder = vq
	withWeights(t, m)
	dir := saved(t, m)
	for from, to := range map[string]string{"vae": "vqvae", "text_encoder": "bert"} {
		if err := os.Rename(filepath.Join(dir, from), filepath.Join(dir, to)); err != nil {
			t.Fatal(err)
		}
	}
	put(t, dir, indexFile, `{"_class_name": "LDMTextToImagePipeline", "unet": ["diffusers", "UNet2DConditionModel"],
		"scheduler": ["diffusers", "DDPMScheduler"], "vqvae": ["diffusers", "VQModel"],
		"bert": ["latent_diffusion", "LDMBertModel"], "tokenizer": ["transformers", "BertTokenizer"]}`)
	got, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	sameModel(t, got, m)
	again := saved(t, got)
	if a, b := files(t, dir), files(t, again); !slices.Equal(a, b) {
		t.Errorf("files are %q, then %q", a, b)
	}
	for _, file := range []string{"bert/model.safetensors", "vqvae/diffusion_pytorch_model.safetensors", "bert/config.json", "vqvae/config.json"} {
		if read(t, dir, file) != read(t, again, file) {
			t.Errorf("%s differs when saved again", file)
		}
	}
}

func TestTextModelRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(m *Model)
		want   string
	}{
		"no tokenizer": {func(m *Model) { m.Tokenizer = nil }, "tokenizer false"},
		"two tables":   {func(m *Model) { m.ClassEmbedder = &ClassEmbedder{Entries: 3, Channels: 24} }, "table of classes"},
		"width":        {func(m *Model) { m.TextEncoder.Width, m.TextEncoder.HeadWidth = 32, 8 }, "cross_attention_dim"},
		"vocabulary":   {func(m *Model) { m.TextEncoder.Vocabulary = 9 }, "vocabulary"},
		"classes":      {func(m *Model) { m.Classes = []string{"a"} }, "no part of it takes a class"},
	} {
		m := textModel(t)
		tc.change(m)
		if err := m.Validate(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error is %v, want one with %q", name, err, tc.want)
		}
	}
}
