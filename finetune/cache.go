package finetune

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"path/filepath"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/pipeline"
	"github.com/scumble-dp/scumble/safetensors"
)

// encodedFile keeps, in a run's private folder, what frozen networks made of the
// private images and captions, so that a run that goes on need not make it again.
const encodedFile = "encoded.safetensors"

// encodedMark names, in the file, what it was made of.
const encodedMark = "made_of"

// encoded is the private data in the form that the loss takes.
type encoded struct {
	grids []float32
	told  conditions
	mark  string
	fresh bool // Made now, not read.
}

// encodeData encodes images and captions once: from the private folder of a run
// that goes on, where it has them.
func (t *target) encodeData(ctx context.Context, backend compute.Backend, canvas pipeline.Canvas, set *dataset.Set, a Augment, o Options) (*encoded, error) {
	e := &encoded{mark: markOf(t.model, canvas, set, a)}
	if o.Resume && e.load(t, filepath.Join(o.Dir, PrivateDir, encodedFile), set, canvas, a) {
		return e, nil
	}
	var err error
	if e.grids, err = encode(ctx, backend, t.model, canvas, set, a, o); err != nil {
		return nil, err
	}
	e.told, err = t.conditions(ctx, backend, o.Lowering, set)
	e.fresh = true
	return e, err
}

// load reads the file; false means that it is not there, or of something else.
func (e *encoded) load(t *target, path string, set *dataset.Set, canvas pipeline.Canvas, a Augment) bool {
	list, metadata, err := safetensors.Read(path)
	if err != nil || metadata[encodedMark] != e.mark {
		return false
	}
	values := map[string][]float32{}
	for _, tensor := range list {
		if values[tensor.Name], err = tensor.Float32s(); err != nil {
			return false
		}
	}
	variants := a.cached(t.model.Autoencoder != nil)
	if e.grids = values["latents"]; len(e.grids) != variants*set.Len()*canvas.Size() {
		return false
	}
	if t.model.TextEncoder == nil {
		e.told = labels{set.Labels, t.model.NullClass()}
		return true
	}
	c := &captions{length: t.model.TextLength(), width: t.model.TextEncoder.Width, contexts: values["contexts"], noContext: values["no_context"]}
	if size := c.length * c.width; !t.trainsText() && (len(c.noContext) != size || len(c.contexts) != set.Len()*size) {
		return false
	}
	if t.trainsText() {
		c.contexts, c.noContext = nil, nil
		c.tokens, c.noTokens = t.model.Tokens(set.Captions), t.model.Tokens([]string{""})
	}
	e.told = c
	return true
}

// save writes what was made now, if a network made it.
func (e *encoded) save(m *checkpoint.Model, private string) error {
	if !e.fresh || m.Autoencoder == nil && m.TextEncoder == nil {
		return nil
	}
	list := []safetensors.Tensor{safetensors.FromFloat32s("latents", []int{len(e.grids)}, e.grids)}
	if c, ok := e.told.(*captions); ok && c.noContext != nil {
		list = append(list, safetensors.FromFloat32s("contexts", []int{len(c.contexts)}, c.contexts),
			safetensors.FromFloat32s("no_context", []int{len(c.noContext)}, c.noContext))
	}
	err := wholefile.Create(filepath.Join(private, encodedFile), 0o600, func(w io.Writer) error {
		return safetensors.Encode(w, list, map[string]string{encodedMark: e.mark})
	})
	if err != nil {
		return fmt.Errorf("save encoded images: %w", err)
	}
	return nil
}

// markOf is a digest of the data and of the networks that encode them. It stays
// in the private folder.
func markOf(m *checkpoint.Model, canvas pipeline.Canvas, set *dataset.Set, a Augment) string {
	h := sha256.New()
	fmt.Fprintf(h, "%+v %d %d %d\n", canvas, set.Len(), set.Height, set.Channels)
	if a.on() {
		fmt.Fprintf(h, "%+v\n", a)
	}
	h.Write(set.Pixels)
	for _, text := range set.Captions {
		fmt.Fprintf(h, "%d %s", len(text), text)
	}
	if m.Autoencoder != nil {
		fmt.Fprintf(h, "%v %v", m.Autoencoder.LatentScalingFactor, m.Autoencoder.LatentShift)
	}
	var word [4]byte
	for _, w := range pipeline.Component(m.Weights, "vae", textPrefix).All() {
		fmt.Fprintln(h, w.Name, w.Shape)
		for _, v := range w.Data {
			binary.LittleEndian.PutUint32(word[:], math.Float32bits(v))
			h.Write(word[:])
		}
	}
	return hex.EncodeToString(h.Sum(nil))
}
