package finetune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/generate"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/teacher"
)

// TeacherConfig trains a classifier on the private images by DP-SGD before the first step,
// which then chooses or labels synthetic images (see package teacher).
type TeacherConfig struct {
	NoiseMultiplier   float64 `yaml:"noise_multiplier,omitempty" json:"noise_multiplier,omitempty"`       // Of its steps. This or Share; neither is no teacher.
	Share             float64 `yaml:"share,omitempty" json:"share,omitempty"`                             // The part of privacy.epsilon that the teacher would cost alone, in (0, 1).
	Steps             int     `yaml:"steps,omitempty" json:"steps,omitempty"`                             // Zero means 200.
	ExpectedBatchSize float64 `yaml:"expected_batch_size,omitempty" json:"expected_batch_size,omitempty"` // Zero means a twentieth of data.examples.
	ClippingNorm      float64 `yaml:"clipping_norm,omitempty" json:"clipping_norm,omitempty"`             // Zero means 1.
	LearningRate      float64 `yaml:"learning_rate,omitempty" json:"learning_rate,omitempty"`             // Zero means 1e-2.
	// PublicImages is how many samples of the base model the teacher learns first, without
	// noise. It helps where the base model knows the classes. Zero means none.
	PublicImages int             `yaml:"public_images,omitempty" json:"public_images,omitempty"`
	Classifier   eval.Classifier `yaml:"classifier,omitempty" json:"classifier,omitempty"` // cnn or scattering. Empty means cnn.
	Role         teacher.Role    `yaml:"role,omitempty" json:"role,omitempty"`             // Empty means choose.
}

// TeacherFile is the teacher of a run, in its release folder.
const TeacherFile = "teacher.safetensors"

const (
	teacherRun      = queryPrefix + "teacher"
	maxPublicImages = 1_000_000
)

// On says whether there is a teacher.
func (c TeacherConfig) On() bool { return c.cost().on() }

func (c TeacherConfig) cost() cost { return cost{c.NoiseMultiplier, c.Share} }

// options returns the training with its defaults.
func (c TeacherConfig) options(examples int) teacher.Options {
	return teacher.Options{
		Steps: cmp.Or(c.Steps, 200), ExpectedBatchSize: cmp.Or(c.ExpectedBatchSize, max(1, float64(examples)/20)),
		ClippingNorm: cmp.Or(c.ClippingNorm, 1), LearningRate: cmp.Or(c.LearningRate, 1e-2), EMA: 0.95, Seed: 1, Classifier: c.Classifier,
	}
}

func (c TeacherConfig) validate(examples int) error {
	if c != (TeacherConfig{}) && !c.On() {
		return errors.New("teacher needs noise_multiplier or share")
	}
	if err := c.cost().validate("teacher"); err != nil || !c.On() {
		return err
	}
	if c.PublicImages < 0 || c.PublicImages > maxPublicImages {
		return fmt.Errorf("teacher.public_images is %d, want 0 to %d", c.PublicImages, maxPublicImages)
	}
	if c.Role != "" && c.Role != teacher.Choose && c.Role != teacher.Label {
		return fmt.Errorf("teacher.role is %q, want %s or %s", c.Role, teacher.Choose, teacher.Label)
	}
	if err := c.options(examples).Validate(examples); err != nil {
		return fmt.Errorf("teacher: %w", err)
	}
	return nil
}

// teacherQuery returns the query of a config's teacher, nil without one.
func (c *Config) teacherQuery(plan *Plan) (*Query, error) {
	if !c.Teacher.On() {
		return nil, nil
	}
	if plan.Text {
		return nil, errors.New("teacher tells classes apart, and the base model takes text: leave it out")
	}
	if err := c.Teacher.Classifier.Takes(plan.Size, plan.Size); err != nil {
		return nil, fmt.Errorf("teacher: %w", err)
	}
	o := c.Teacher.options(c.Data.Examples)
	event, err := c.Teacher.cost().noise(accountant.DPSGD(0, o.ExpectedBatchSize/float64(c.Data.Examples), o.Steps), c.Privacy)
	if err != nil {
		return nil, fmt.Errorf("teacher: %w", err)
	}
	var features int64
	if c.Teacher.Classifier == eval.Scattering {
		features = 4 * int64(c.Data.Examples) * int64(nn.ScatteringValues(plan.Size, plan.Size, plan.Channels))
	}
	return &Query{Run: teacherRun, Event: event, HostBytes: features, What: fmt.Sprintf(
		"classifier of %d classes trained by DP-SGD: %d steps on clipped gradients of norm at most %g, the sensitivity; %s",
		len(plan.Classes), o.Steps, o.ClippingNorm, c.Teacher.does())}, nil
}

// does says in words what the teacher is for.
func (c TeacherConfig) does() string {
	if c.Role == teacher.Label {
		return "it labels synthetic images"
	}
	return "it chooses among synthetic images"
}

// publicLesson are samples of the base model, of the run's classes, as it is before the
// first step: of public images, and of what queries gave, if they moved its weights.
func (r *run) publicLesson(ctx context.Context, backend compute.Backend, t *target, o Options) (*dataset.Set, error) {
	count := r.config.Teacher.PublicImages
	if count == 0 {
		return nil, nil
	}
	branches, err := Branches(t.model)
	if err != nil {
		return nil, err
	}
	s := r.config.Sampling
	set, err := generate.Images(ctx, backend, t.model, r.plan.Size, generate.Balanced(count, len(t.model.Classes)), generate.Options{
		Sampler: s.Sampler, Steps: s.Steps, Eta: s.Eta, Churn: s.Churn, GuidanceScale: s.GuidanceScale, Seed: publicLessonSeed,
		Lowering: o.Lowering, Adapter: branches, Workers: o.Workers})
	if err != nil {
		return nil, err
	}
	return set, nil
}

// publicLessonSeed is another than those of synthetic images.
const publicLessonSeed = 1 << 63

// teach trains the teacher of a run, which its ledger pays for, unless it is there
// already.
func (r *run) teach(ctx context.Context, backend compute.Backend, t *target, set *dataset.Set, o Options) error {
	q, path := r.plan.query(teacherRun), r.released(TeacherFile)
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	options := r.config.Teacher.options(r.config.Data.Examples)
	if r.left(teacherRun) < options.Steps { // It was interrupted: its weights were in memory only.
		return r.lostResult(q)
	}
	public, err := r.publicLesson(ctx, backend, t, o)
	if err != nil {
		return err
	}
	noise, sampler, err := querySecrets(q, set.Len(), o)
	if err != nil {
		return err
	}
	options.Lowering, options.Workers, options.Report, options.Prepare, options.Public = o.Lowering, o.Workers, o.Taught, o.Prepared, public
	net, err := teacher.Train(ctx, backend, set, teacher.Mechanism{
		NoiseMultiplier: q.Event.NoiseMultiplier, Noise: noise, Sampler: sampler, Record: r.ask(q)}, options)
	if err != nil {
		return err
	}
	return teacher.Save(path, net, set, cmp.Or(r.config.Teacher.Role, teacher.Choose))
}
