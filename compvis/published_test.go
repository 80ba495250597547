package compvis

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/tokenizer"
	"github.com/scumble-dp/scumble/torchfile"
)

// key is a tensor of a checkpoint: its name and shape there, and ours; several of
// ours where it is cut into equal parts.
type key struct {
	name  string
	shape []int
	ours  []string
}

// published lists the tensors of a checkpoint by walking its networks as their
// constructors do (openaimodel.py, model.py, x_transformer.py of latent-diffusion;
// transformers' and OpenCLIP's text encoders). It shares nothing with names.go.
type published struct {
	width, context, heads int // UNet.
	linear                bool
	first                 int // Channels of the autoencoder.
	keys                  []key
}

func (p *published) add(name, ours string, shape ...int) {
	p.keys = append(p.keys, key{name, shape, []string{ours}})
}

// affine adds weight and bias, of which the first axis is the bias's.
func (p *published) affine(name, ours string, shape ...int) {
	p.add(name+".weight", ours+".weight", shape...)
	p.add(name+".bias", ours+".bias", shape[0])
}

func (p *published) resnet(name, ours string, in, out int) {
	p.affine(name+".in_layers.0", ours+".norm1", in)
	p.affine(name+".in_layers.2", ours+".conv1", out, in, 3, 3)
	p.affine(name+".emb_layers.1", ours+".time_emb_proj", out, 4*p.width)
	p.affine(name+".out_layers.0", ours+".norm2", out)
	p.affine(name+".out_layers.3", ours+".conv2", out, out, 3, 3)
	if in != out {
		p.affine(name+".skip_connection", ours+".conv_shortcut", out, in, 1, 1)
	}
}

func (p *published) transformer(name, ours string, c int) {
	ends := []int{c, c, 1, 1}
	if p.linear {
		ends = ends[:2]
	}
	p.affine(name+".norm", ours+".norm", c)
	p.affine(name+".proj_in", ours+".proj_in", ends...)
	block, mine := name+".transformer_blocks.0", ours+".transformer_blocks.0"
	for i, context := range []int{c, p.context} {
		attention := fmt.Sprintf(".attn%d", i+1)
		p.add(block+attention+".to_q.weight", mine+attention+".to_q.weight", c, c)
		p.add(block+attention+".to_k.weight", mine+attention+".to_k.weight", c, context)
		p.add(block+attention+".to_v.weight", mine+attention+".to_v.weight", c, context)
		p.affine(block+attention+".to_out.0", mine+attention+".to_out.0", c, c)
	}
	p.affine(block+".ff.net.0.proj", mine+".ff.net.0.proj", 8*c, c)
	p.affine(block+".ff.net.2", mine+".ff.net.2", c, 4*c)
	for i := 1; i <= 3; i++ {
		p.affine(fmt.Sprintf("%s.norm%d", block, i), fmt.Sprintf("%s.norm%d", mine, i), c)
	}
	p.affine(name+".proj_out", ours+".proj_out", ends...)
}

// unet is UNetModel with num_res_blocks 2, channel_mult 1, 2, 4, 4 and
// attention_resolutions 4, 2, 1.
func (p *published) unet() {
	const at, mine = "model.diffusion_model.", "unet."
	mults, attends := []int{1, 2, 4, 4}, []bool{true, true, true, false}
	p.affine(at+"time_embed.0", mine+"time_embedding.linear_1", 4*p.width, p.width)
	p.affine(at+"time_embed.2", mine+"time_embedding.linear_2", 4*p.width, 4*p.width)
	p.affine(at+"input_blocks.0.0", mine+"conv_in", p.width, 4, 3, 3)
	c, n := p.width, 1
	skips := []int{c}
	for level, mult := range mults {
		for i := range 2 {
			p.resnet(fmt.Sprintf("%sinput_blocks.%d.0", at, n), fmt.Sprintf("%sdown_blocks.%d.resnets.%d", mine, level, i), c, mult*p.width)
			if c = mult * p.width; attends[level] {
				p.transformer(fmt.Sprintf("%sinput_blocks.%d.1", at, n), fmt.Sprintf("%sdown_blocks.%d.attentions.%d", mine, level, i), c)
			}
			skips, n = append(skips, c), n+1
		}
		if level < len(mults)-1 {
			p.affine(fmt.Sprintf("%sinput_blocks.%d.0.op", at, n), fmt.Sprintf("%sdown_blocks.%d.downsamplers.0.conv", mine, level), c, c, 3, 3)
			skips, n = append(skips, c), n+1
		}
	}
	p.resnet(at+"middle_block.0", mine+"mid_block.resnets.0", c, c)
	p.transformer(at+"middle_block.1", mine+"mid_block.attentions.0", c)
	p.resnet(at+"middle_block.2", mine+"mid_block.resnets.1", c, c)
	n = 0
	for up := range mults {
		level := len(mults) - 1 - up
		for i := range 3 {
			skip := skips[len(skips)-1]
			skips = skips[:len(skips)-1]
			p.resnet(fmt.Sprintf("%soutput_blocks.%d.0", at, n), fmt.Sprintf("%sup_blocks.%d.resnets.%d", mine, up, i), c+skip, mults[level]*p.width)
			c = mults[level] * p.width
			next := 1
			if attends[level] {
				p.transformer(fmt.Sprintf("%soutput_blocks.%d.1", at, n), fmt.Sprintf("%sup_blocks.%d.attentions.%d", mine, up, i), c)
				next = 2
			}
			if level > 0 && i == 2 {
				p.affine(fmt.Sprintf("%soutput_blocks.%d.%d.conv", at, n, next), fmt.Sprintf("%sup_blocks.%d.upsamplers.0.conv", mine, up), c, c, 3, 3)
			}
			n++
		}
	}
	p.affine(at+"out.0", mine+"conv_norm_out", c)
	p.affine(at+"out.2", mine+"conv_out", 4, c, 3, 3)
}

func (p *published) block(name, ours string, in, out int) {
	p.affine(name+".norm1", ours+".norm1", in)
	p.affine(name+".conv1", ours+".conv1", out, in, 3, 3)
	p.affine(name+".norm2", ours+".norm2", out)
	p.affine(name+".conv2", ours+".conv2", out, out, 3, 3)
	if in != out {
		p.affine(name+".nin_shortcut", ours+".conv_shortcut", out, in, 1, 1)
	}
}

func (p *published) middle(name, ours string, c int) {
	p.block(name+".mid.block_1", ours+".mid_block.resnets.0", c, c)
	p.affine(name+".mid.attn_1.norm", ours+".mid_block.attentions.0.group_norm", c)
	for theirs, mine := range map[string]string{"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"} {
		p.affine(name+".mid.attn_1."+theirs, ours+".mid_block.attentions.0."+mine, c, c, 1, 1)
	}
	p.block(name+".mid.block_2", ours+".mid_block.resnets.1", c, c)
}

// autoencoder is AutoencoderKL with ch_mult 1, 2, 4, 4, num_res_blocks 2.
func (p *published) autoencoder() {
	const at, mine = "first_stage_model.", "vae."
	mults := []int{1, 2, 4, 4}
	c := p.first
	p.affine(at+"encoder.conv_in", mine+"encoder.conv_in", c, 3, 3, 3)
	for level, mult := range mults {
		for i := range 2 {
			p.block(fmt.Sprintf("%sencoder.down.%d.block.%d", at, level, i), fmt.Sprintf("%sencoder.down_blocks.%d.resnets.%d", mine, level, i), c, mult*p.first)
			c = mult * p.first
		}
		if level < 3 {
			p.affine(fmt.Sprintf("%sencoder.down.%d.downsample.conv", at, level), fmt.Sprintf("%sencoder.down_blocks.%d.downsamplers.0.conv", mine, level), c, c, 3, 3)
		}
	}
	p.middle(at+"encoder", mine+"encoder", c)
	p.affine(at+"encoder.norm_out", mine+"encoder.conv_norm_out", c)
	p.affine(at+"encoder.conv_out", mine+"encoder.conv_out", 8, c, 3, 3)
	p.affine(at+"quant_conv", mine+"quant_conv", 8, 8, 1, 1)
	p.affine(at+"post_quant_conv", mine+"post_quant_conv", 4, 4, 1, 1)
	p.affine(at+"decoder.conv_in", mine+"decoder.conv_in", c, 4, 3, 3)
	p.middle(at+"decoder", mine+"decoder", c)
	for up := range mults {
		level := 3 - up
		for i := range 3 {
			p.block(fmt.Sprintf("%sdecoder.up.%d.block.%d", at, level, i), fmt.Sprintf("%sdecoder.up_blocks.%d.resnets.%d", mine, up, i), c, mults[level]*p.first)
			c = mults[level] * p.first
		}
		if level > 0 {
			p.affine(fmt.Sprintf("%sdecoder.up.%d.upsample.conv", at, level), fmt.Sprintf("%sdecoder.up_blocks.%d.upsamplers.0.conv", mine, up), c, c, 3, 3)
		}
	}
	p.affine(at+"decoder.norm_out", mine+"decoder.conv_norm_out", c)
	p.affine(at+"decoder.conv_out", mine+"decoder.conv_out", 3, c, 3, 3)
}

// bert is the BERTEmbedder of the text-to-image model, 32 layers.
func (p *published) bert(words int) {
	const at, mine = "cond_stage_model.transformer.", "text_encoder.model."
	const inner = 64 // One head.
	c := p.context
	p.add(at+"token_emb.weight", mine+"embed_tokens.weight", words, c)
	p.add(at+"pos_emb.emb.weight", mine+"embed_positions.weight", 77, c)
	for i := range 32 {
		layer := fmt.Sprintf("%slayers.%d.", mine, i)
		attention, network := fmt.Sprintf("%sattn_layers.layers.%d.", at, 2*i), fmt.Sprintf("%sattn_layers.layers.%d.", at, 2*i+1)
		p.affine(attention+"0", layer+"self_attn_layer_norm", c)
		for theirs, ours := range map[string]string{"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj"} {
			p.add(attention+"1."+theirs+".weight", layer+"self_attn."+ours+".weight", inner, c)
		}
		p.affine(attention+"1.to_out", layer+"self_attn.out_proj", c, inner)
		p.affine(network+"0", layer+"final_layer_norm", c)
		p.affine(network+"1.net.0.0", layer+"fc1", 4*c, c)
		p.affine(network+"1.net.2", layer+"fc2", c, 4*c)
	}
	p.affine(at+"norm", mine+"layer_norm", c)
	p.affine(at+"to_logits", "text_encoder.to_logits", words, c)
}

// clip is the FrozenCLIPEmbedder of Stable Diffusion 1, 12 layers, with a buffer of
// position numbers.
func (p *published) clip(words int) {
	const at, mine = "cond_stage_model.transformer.text_model.", "text_encoder."
	c := p.context
	p.keys = append(p.keys, key{at + "embeddings.position_ids", []int{1, 77}, nil})
	p.add(at+"embeddings.token_embedding.weight", mine+"embeddings.token_embedding.weight", words, c)
	p.add(at+"embeddings.position_embedding.weight", mine+"embeddings.position_embedding.weight", 77, c)
	for i := range 12 {
		layer := fmt.Sprintf("encoder.layers.%d.", i)
		for _, part := range []string{"q_proj", "k_proj", "v_proj", "out_proj"} {
			p.affine(at+layer+"self_attn."+part, mine+layer+"self_attn."+part, c, c)
		}
		p.affine(at+layer+"layer_norm1", mine+layer+"layer_norm1", c)
		p.affine(at+layer+"layer_norm2", mine+layer+"layer_norm2", c)
		p.affine(at+layer+"mlp.fc1", mine+layer+"mlp.fc1", 4*c, c)
		p.affine(at+layer+"mlp.fc2", mine+layer+"mlp.fc2", c, 4*c)
	}
	p.affine(at+"final_layer_norm", mine+"final_layer_norm", c)
}

// open is the FrozenOpenCLIPEmbedder of Stable Diffusion 2, 24 layers of which the
// last is not used.
func (p *published) open(words int) {
	const at, mine = "cond_stage_model.model.", "text_encoder."
	c := p.context
	p.keys = append(p.keys, key{at + "text_projection", []int{c, c}, nil}, key{at + "logit_scale", []int{}, nil})
	p.add(at+"token_embedding.weight", mine+"embeddings.token_embedding.weight", words, c)
	p.add(at+"positional_embedding", mine+"embeddings.position_embedding.weight", 77, c)
	for i := range 24 {
		from := len(p.keys)
		block, layer := fmt.Sprintf("%stransformer.resblocks.%d.", at, i), fmt.Sprintf("%sencoder.layers.%d.", mine, i)
		parts := func(leaf string) []string {
			return []string{layer + "self_attn.q_proj." + leaf, layer + "self_attn.k_proj." + leaf, layer + "self_attn.v_proj." + leaf}
		}
		p.keys = append(p.keys, key{block + "attn.in_proj_weight", []int{3 * c, c}, parts("weight")}, key{block + "attn.in_proj_bias", []int{3 * c}, parts("bias")})
		p.affine(block+"attn.out_proj", layer+"self_attn.out_proj", c, c)
		p.affine(block+"ln_1", layer+"layer_norm1", c)
		p.affine(block+"ln_2", layer+"layer_norm2", c)
		p.affine(block+"mlp.c_fc", layer+"mlp.fc1", 4*c, c)
		p.affine(block+"mlp.c_proj", layer+"mlp.fc2", c, 4*c)
		if i == 23 {
			for j := from; j < len(p.keys); j++ {
				p.keys[j].ours = nil
			}
		}
	}
	p.affine(at+"ln_final", mine+"final_layer_norm", c)
}

// write makes a file of torch.save with a state dictionary of the keys, and returns
// the values.
func (p *published) write(t *testing.T, path string, rng *rand.Rand) map[string][]float32 {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	put := func(name string, data []byte) {
		w, err := z.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	var b bytes.Buffer
	text := func(s string) {
		b.WriteByte('X')
		b.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
		b.WriteString(s)
	}
	number := func(v int) {
		b.WriteByte('J')
		b.Write(binary.LittleEndian.AppendUint32(nil, uint32(v)))
	}
	values := map[string][]float32{}
	b.WriteString("\x80\x02}(")
	text("global_step")
	number(1)
	text("state_dict")
	b.WriteString("}(")
	for i, k := range p.keys {
		n := 1
		for _, d := range k.shape {
			n *= d
		}
		scale := 1 / math.Sqrt(float64(max(1, n/max(1, slices.Max(append(slices.Clone(k.shape), 1))))))
		v := make([]float32, n)
		data := make([]byte, 0, 4*n)
		for j := range v {
			v[j] = float32(scale * rng.NormFloat64())
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v[j]))
		}
		values[k.name] = v
		text(k.name)
		b.WriteString("ctorch._utils\n_rebuild_tensor_v2\n((")
		text("storage")
		b.WriteString("ctorch\nFloatStorage\n")
		text(fmt.Sprint(i))
		text("cpu")
		number(n)
		b.WriteString("tQ")
		number(0)
		stride := n
		strides := make([]int, len(k.shape))
		for j, d := range k.shape {
			stride /= d
			strides[j] = stride
		}
		for _, list := range [][]int{k.shape, strides} {
			b.WriteByte('(')
			for _, d := range list {
				number(d)
			}
			b.WriteByte('t')
		}
		b.WriteString("\x89ccollections\nOrderedDict\n)RtR")
		put(fmt.Sprintf("data/%d", i), data)
	}
	b.WriteString("uu.")
	put("data.pkl", b.Bytes())
	put("version", []byte("3\n"))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return values
}

// config is the YAML file of the model.
func (p *published) config(conditioning, more string) string {
	heads := fmt.Sprintf("num_heads: %d", p.heads)
	if p.linear {
		heads = "num_head_channels: 32\n        use_linear_in_transformer: true"
	}
	return fmt.Sprintf(`model:
  target: ldm.models.diffusion.ddpm.LatentDiffusion
  params:
    linear_start: 0.00085
    linear_end: 0.0120
    timesteps: 1000
    image_size: 8
    channels: 4
    conditioning_key: crossattn
    scale_factor: 0.18215
%s
    unet_config:
      target: ldm.modules.diffusionmodules.openaimodel.UNetModel
      params:
        image_size: 8
        in_channels: 4
        out_channels: 4
        model_channels: %d
        attention_resolutions: [4, 2, 1]
        num_res_blocks: 2
        channel_mult: [1, 2, 4, 4]
        %s
        use_spatial_transformer: True
        transformer_depth: 1
        context_dim: %d
        legacy: False
    first_stage_config:
      target: ldm.models.autoencoder.AutoencoderKL
      params:
        embed_dim: 4
        ddconfig: {double_z: true, z_channels: 4, resolution: 64, in_channels: 3, out_ch: 3, ch: %d, ch_mult: [1, 2, 4, 4], num_res_blocks: 2, attn_resolutions: []}
    cond_stage_config:
      target: ldm.modules.encoders.modules.%s
`, more, p.width, heads, p.context, p.first, conditioning)
}

// TestPublishedModels: a checkpoint with every tensor of a published text-to-image
// model, at small widths, comes in whole: each tensor is the one it should be, none
// is left over on either side, and the model runs. With SCUMBLE_KEEP set to a folder
// the checkpoints and folders stay there, for testdata/text.py.
func TestPublishedModels(t *testing.T) {
	b := backendtest.Open(t, "go")
	words, err := tokenizer.Build([]string{"a", "bold", "seven"}, 77)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		p                  published
		text               func(p *published, words int)
		conditioning, more string
	}{
		"ldm":  {published{width: 32, context: 32, heads: 8, first: 32}, (*published).bert, "BERTEmbedder\n      params: {n_embed: 32, n_layer: 32}", ""},
		"sd-1": {published{width: 32, context: 64, heads: 8, first: 32}, (*published).clip, "FrozenCLIPEmbedder", ""},
		"sd-2": {published{width: 32, context: 64, heads: 0, linear: true, first: 32}, (*published).open, "FrozenOpenCLIPEmbedder\n      params: {freeze: True, layer: penultimate}", "    parameterization: v"},
	} {
		t.Run(name, func(t *testing.T) {
			p := c.p
			p.unet()
			p.autoencoder()
			c.text(&p, words.Size())
			dir := t.TempDir()
			if keep := os.Getenv("SCUMBLE_KEEP"); keep != "" {
				dir = keep
			}
			path := filepath.Join(dir, name+".ckpt")
			want := p.write(t, path, rand.New(rand.NewPCG(1, 2)))
			config, err := ParseConfig([]byte(p.config(c.conditioning, c.more)))
			if err != nil {
				t.Fatal(err)
			}
			f, err := torchfile.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			m, err := Import(b, f, config, Options{Tokenizer: words})
			if err != nil {
				t.Fatal(err)
			}
			p.compare(t, m, want)
			folder := filepath.Join(dir, name)
			if err := checkpoint.Save(folder, m); err != nil {
				t.Fatal(err)
			}
			again, err := checkpoint.Load(folder)
			if err != nil {
				t.Fatal(err)
			}
			p.compare(t, again, want)
			first, second := denoised(t, b, m), denoised(t, b, again)
			for i, v := range first {
				if math.IsNaN(float64(v)) || v != second[i] {
					t.Fatalf("output %d is %g, after saving %g", i, v, second[i])
				}
			}
			// One tensor less, and one more.
			for _, prefix := range []string{unetPrefix, firstPrefix, condPrefix} {
				at := slices.IndexFunc(p.keys, func(k key) bool { return strings.HasPrefix(k.name, prefix) && k.ours != nil })
				for _, a := range []altered{{f, p.keys[at].name, ""}, {f, "", prefix + "extra.weight"}} {
					if _, err := Import(b, a, config, Options{Tokenizer: words}); err == nil || !strings.Contains(err.Error(), a.less+a.more) {
						t.Errorf("less %q, more %q: error is %v", a.less, a.more, err)
					}
				}
			}
		})
	}
}

// altered is a checkpoint with one name less or more.
type altered struct {
	Weights
	less, more string
}

func (a altered) Names() []string {
	names := slices.DeleteFunc(slices.Clone(a.Weights.Names()), func(name string) bool { return name == a.less })
	if a.more != "" {
		names = append(names, a.more)
	}
	return names
}

func (a altered) Float32s(name string) ([]int, []float32, error) {
	if name == a.less {
		return nil, nil, fmt.Errorf("tensor %q: %w", name, torchfile.ErrNotFound)
	}
	return a.Weights.Float32s(name)
}

// compare holds each tensor of a model to what was written.
func (p *published) compare(t *testing.T, m *checkpoint.Model, want map[string][]float32) {
	t.Helper()
	seen := map[string]bool{}
	for _, k := range p.keys {
		for i, name := range k.ours {
			w := m.Weights.Get(name)
			if w == nil {
				t.Fatalf("%s of the checkpoint is not there as %s", k.name, name)
			}
			seen[name] = true
			_, got := checkpoint.ToDiffusers(w.Kind, w.Shape, w.Data)
			n := len(want[k.name]) / len(k.ours)
			if !slices.Equal(got, want[k.name][i*n:(i+1)*n]) {
				t.Errorf("%s is not %s", name, k.name)
			}
		}
	}
	for _, w := range m.Weights.All() {
		if !seen[w.Name] {
			t.Errorf("%s comes from nowhere", w.Name)
		}
	}
}

// denoised runs text encoder, UNet and decoder once.
func denoised(t *testing.T, b compute.Backend, m *checkpoint.Model) []float32 {
	t.Helper()
	program, err := nn.NewProgram(b, nn.ProgramOptions{NN: nn.Options{Lowering: nn.LoweringFor("go")}, Weights: m.Weights,
		Build: func(s *nn.Scope, _, in []*graph.Node) []*graph.Node {
			context := m.TextEncoder.Forward(s.In("text_encoder"), in[2]).Last
			y := m.UNet.Forward(s.In("unet"), pipeline.UNetInputs(m.UNet, []*graph.Node{in[0], in[1], context}))
			return []*graph.Node{y, m.Autoencoder.Decode(s.In("vae"), y)}
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	x := make([]float32, 8*8*4)
	for i := range x {
		x[i] = float32(math.Sin(float64(i)))
	}
	out, err := program.Run(nil, tensors.FromFlatDataAndDimensions(x, 1, 8, 8, 4), tensors.FromFlatDataAndDimensions([]float32{500}, 1),
		tensors.FromFlatDataAndDimensions(m.Tokens([]string{"a bold seven"}), 1, m.TextLength()))
	if err != nil {
		t.Fatal(err)
	}
	return append(tensors.MustCopyFlatData[float32](out[0]), tensors.MustCopyFlatData[float32](out[1])...)
}
