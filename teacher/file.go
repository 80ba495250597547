package teacher

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/safetensors"
)

// ErrDamaged is what errors of a teacher's file wrap.
var ErrDamaged = errors.New("file of a teacher is damaged")

// Role is what a teacher is for.
type Role string

const (
	Choose Role = "choose" // Synthetic images that it takes for another class than they were drawn for are drawn again.
	Label  Role = "label"  // They are kept under the class that it takes them for, as many of each as were asked for.
)

// Save writes a teacher for images like those of a set, of which the size and the
// names of the classes are kept.
func Save(path string, net *eval.Untrained, like *dataset.Set, role Role) error {
	classes, err := json.Marshal(like.Classes)
	if err != nil {
		return err
	}
	var list []safetensors.Tensor
	for _, t := range net.Weights().All() {
		list = append(list, safetensors.FromFloat32s(t.Name, t.Shape, t.Data))
	}
	metadata := map[string]string{"classifier": string(net.Kind()), "role": string(role), "height": strconv.Itoa(like.Height), "width": strconv.Itoa(like.Width),
		"channels": strconv.Itoa(like.Channels), "classes": string(classes)}
	if err := wholefile.Create(path, 0o644, func(w io.Writer) error { return safetensors.Encode(w, list, metadata) }); err != nil {
		return fmt.Errorf("save the teacher: %w", err)
	}
	return nil
}

// Teacher is a trained classifier. Close it after use.
type Teacher struct {
	like      *dataset.Set // Without images.
	role      Role
	predictor *eval.Predictor
}

// Load reads a teacher.
func Load(backend compute.Backend, lowering nn.Lowering, path string) (*Teacher, error) {
	list, metadata, err := safetensors.Read(path)
	if err != nil {
		return nil, fmt.Errorf("read the teacher: %w", err)
	}
	damaged := func(format string, args ...any) error {
		return fmt.Errorf("%s: %s: %w", filepath.Base(path), fmt.Sprintf(format, args...), ErrDamaged)
	}
	like := &dataset.Set{Labels: []int{}}
	for key, to := range map[string]*int{"height": &like.Height, "width": &like.Width, "channels": &like.Channels} {
		n, err := strconv.Atoi(metadata[key])
		if err != nil || n < 1 || n > dataset.MaxSize {
			return nil, damaged("%s is %q, want pixels", key, metadata[key])
		}
		*to = n
	}
	if err := json.Unmarshal([]byte(metadata["classes"]), &like.Classes); err != nil || len(like.Classes) < dataset.MinClasses || len(like.Classes) > dataset.MaxClasses {
		return nil, damaged("classes are %q, want a list of names", metadata["classes"])
	}
	role := cmp.Or(Role(metadata["role"]), Choose) // Files of scumble before it had roles.
	if role != Choose && role != Label {
		return nil, damaged("role is %q, want %s or %s", role, Choose, Label)
	}
	net, err := eval.NewUntrained(backend, like, eval.ClassifierOptions{Kind: eval.Classifier(metadata["classifier"]), Lowering: lowering})
	if err != nil {
		return nil, damaged("%v", err)
	}
	weights := net.Weights()
	if len(list) != len(weights.All()) {
		return nil, damaged("%d tensors, want %d", len(list), len(weights.All()))
	}
	for _, t := range list {
		into := weights.Get(t.Name)
		if into == nil || !slices.Equal(into.Shape, t.Shape) {
			return nil, damaged("tensor %s %v is not the classifier's", t.Name, t.Shape)
		}
		values, err := t.Float32s()
		if err != nil {
			return nil, damaged("%v", err)
		}
		copy(into.Data, values)
	}
	predictor, err := net.Predictor()
	if err != nil {
		return nil, err
	}
	return &Teacher{like: like, role: role, predictor: predictor}, nil
}

// Classes returns the names of the classes, in the order of the labels.
func (t *Teacher) Classes() []string { return slices.Clone(t.like.Classes) }

// Role says what the run that it was trained for wanted it for.
func (t *Teacher) Role() Role { return t.role }

// Label returns what the teacher takes each image for, as indices into the classes,
// which must be the teacher's.
func (t *Teacher) Label(ctx context.Context, set *dataset.Set) ([]int, error) {
	return t.predictor.Predict(ctx, set)
}

// Close frees the compiled classifier.
func (t *Teacher) Close() { t.predictor.Close() }
