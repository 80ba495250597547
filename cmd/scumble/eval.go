package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/eval"
	"github.com/scumble-dp/scumble/finetune"
)

// evaluating holds the flags of eval.
type evaluating struct {
	session           sessionFlags
	reference, labels string
	public            bool
	seed              uint64
	runDir            string   // Of which the synthetic images are; empty for others.
	classes           []string // In the order of the labels, where asked.
	seeds             int
	metrics           []string
	classifiers       []string
	every             bool // All classifiers that can take the images.
	features, hash    string
	resize            string
	options           eval.FidelityOptions
	wrn               string
	steps             int           // Of classifiers.
	geometry          eval.Geometry // Of wrn.
	subgroups         []string
	protocol          string
	benchmark         eval.Protocol
	nets              string
	paid              paidFlags
	labelOf           []string
	rules             *labelRules // Of --label-of; nil for none.
	chosen            bool        // --classifiers was given.
	note              string      // Of what was left away.
}

func newEval() *cobra.Command {
	var e evaluating
	c := &cobra.Command{
		Use:   "eval SYNTHETIC|RUN --reference REAL",
		Short: "Score synthetic images against real ones",
		Long: `eval compares synthetic images with reference images and prints

  fid   Fréchet distance           prc   precision, recall and F-score
  kid   kernel distance            dc    density and coverage
  is    inception score            fld   feature likelihood divergence

on the features of a network, under the names of torch-fidelity, and the accuracy
on the reference images of classifiers that are trained on the synthetic ones:
cnn, mlp, logistic, scattering, wrn, resnet and resnext by steps; knn, nearest-mean and lda at once.
--protocol dpimagebench trains those of DPImageBench the way it does, on 60,000 images.

SYNTHETIC and REAL are folders of class folders, or IDX files. They may also be
two .npy or .npz files of features, or REAL a .npz of "mu" and "sigma" for fid.
Images with captions (metadata.jsonl, Parquet) have all metrics, and accuracy where
--label-of says which words of a caption mean which class.

--features takes the small network that scumble carries (glyphs), which is for 28
to 64 pixels and fits characters best, or a safetensors or ONNX file of the Inception
v3 of FID, named by its SHA-256. Scores by different networks, resizings or numbers
of images cannot be compared; --json tells them all.

A figure computed from private reference images is not covered by the privacy
claim: it says so, and in a run directory it stays in private/. With
--reference-public the figures go into release/evaluation.json too.

--paid buys one figure about private images (those of --reference, or without it those
that the run was trained on): Gaussian noise of --paid-noise images is added, the ledger
is charged first, and release and claim are written again. It needs budget that
privacy.reserve of the config kept back; exit code 4 says that there is too little.`,
		Example: `  scumble eval runs/clinic --reference clinic-test --classifiers cnn,knn --seeds 3
  scumble eval runs/clinic --paid histogram --paid-noise 20`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(c *cobra.Command, args []string) error {
			e.chosen = c.Flags().Changed("classifiers")
			return e.run(c, args[0])
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&e.reference, "reference", "", "`PATH` of labelled real images: class folders or IDX; or a file of features")
	f.StringVar(&e.labels, "reference-labels", "", "IDX `FILE` of the labels, where not beside the images")
	f.StringSliceVar(&e.classes, "classes", nil, "`NAMES` of the classes in the order of the reference's labels, where those are numbers")
	f.BoolVar(&e.public, "reference-public", false, "declare the reference images public")
	f.StringSliceVar(&e.metrics, "metrics", []string{"all"}, "`NAMES` of metrics: fid,kid,is,prc,dc,fld, or all, or none")
	f.StringSliceVar(&e.classifiers, "classifiers", []string{"cnn"}, "`NAMES` of classifiers, or all, or none")
	f.StringVar(&e.wrn, "wrn", "10-1", "`DEPTH-WIDTH` of classifier wrn; DPImageBench's is 40-4")
	f.StringArrayVar(&e.subgroups, "subgroup", nil, "`NAME=PATH` of reference images to score by themselves too; may be repeated")
	f.StringSliceVar(&e.labelOf, "label-of", nil, "`CLASS=WORDS` that captions of a class have in them, such as 7=seven; commas between several")
	f.IntVar(&e.steps, "classifier-steps", 0, "`UPDATES` of 64 images that train a classifier; 0 is 1200, of wrn, resnet and resnext 300")
	f.IntVar(&e.seeds, "seeds", 1, "`COUNT` of times that each classifier is trained")
	f.Uint64Var(&e.seed, "seed", 1, "`NUMBER` that decides the classifiers' starts and batches; the first of --seeds")
	f.StringVar(&e.features, "features", "glyphs", "what gives features: glyphs, or the `FILE` (safetensors, ONNX) of Inception v3")
	f.StringVar(&e.hash, "features-sha256", "", "SHA-256 that the file of --features must have, in `HEX`")
	f.StringVar(&e.resize, "resize", "clean", "`WAY` to resize for Inception: clean, tensorflow (torch-fidelity) or pytorch")
	f.IntVar(&e.options.KID.Subsets, "kid-subsets", 100, "`COUNT` of subsets of kid")
	f.IntVar(&e.options.KID.SubsetSize, "kid-subset-size", 0, "`IMAGES` in each (default 1000, or all of the smaller set)")
	f.IntVar(&e.options.Neighbours, "neighbours", 3, "`COUNT` of nearest neighbours of prc; DPImageBench takes 4")
	f.StringVar(&e.protocol, "protocol", "", "`NAME` of a benchmark's way to score: dpimagebench")
	f.IntVar(&e.benchmark.Images, "protocol-images", 0, "synthetic `IMAGES` that it takes (default 60000), a twelfth to choose the epoch")
	f.IntVar(&e.benchmark.Epochs, "protocol-epochs", 0, "`COUNT` of its epochs (default 50)")
	f.IntVar(&e.benchmark.BatchSize, "protocol-batch", 0, "`IMAGES` in its updates (default 256)")
	f.StringVar(&e.nets, "protocol-nets", "full", "`SIZE` of its networks: full (ResNet-110, WRN-40-4, ResNeXt-29) or small")
	e.paid.add(c)
	e.session.add(c)
	c.AddCommand(newEvalNetwork())
	return c
}

func (e *evaluating) run(c *cobra.Command, path string) error {
	if err := e.check(path); err != nil {
		return err
	}
	if e.paid.kind != "" {
		return e.pay(c, path)
	}
	start := time.Now()
	run := ""
	if dir := filepath.Join(path, finetune.ReleaseDir, syntheticDir); dirExists(dir) {
		path, run = dir, path
	}
	e.runDir = run
	var out *evaluation
	var err error
	if eval.IsFeatureFile(path) {
		out, err = e.compareFiles(path)
	} else {
		out, err = e.compareImages(c, path)
	}
	if errors.Is(err, eval.ErrInvalid) {
		return invalid(err)
	}
	if err != nil && e.session.json && !e.public {
		err = e.concealAll(err)
	}
	if err != nil {
		return err
	}
	out.mark(e.public)
	if run != "" {
		if err := out.keep(run); err != nil {
			return err
		}
	}
	out.Seconds = time.Since(start).Seconds()
	if e.session.json {
		return printJSON(c, out)
	}
	out.print(c.OutOrStdout())
	return nil
}

// check refuses flags that contradict each other before anything is read.
func (e *evaluating) check(path string) error {
	if e.reference == "" && e.paid.kind == "" {
		return misuse(fmt.Errorf("--reference is missing, want a folder of class folders or IDX files"))
	}
	if e.seeds < 1 || e.seeds > 100 {
		return misuse(fmt.Errorf("--seeds is %d, want 1 to 100", e.seeds))
	}
	if e.steps < 0 || e.steps > 1_000_000 {
		return misuse(fmt.Errorf("--classifier-steps is %d, want 0 to 1000000", e.steps))
	}
	if o := e.options; o.KID.Subsets < 1 || o.KID.SubsetSize < 0 || o.Neighbours < 1 {
		return misuse(fmt.Errorf("--kid-subsets is %d, --kid-subset-size %d, --neighbours %d, want 1, 0 and 1 at least", o.KID.Subsets, o.KID.SubsetSize, o.Neighbours))
	}
	all := make([]string, 0, 6)
	for _, m := range eval.Metrics() {
		all = append(all, string(m))
	}
	metrics, err := choose("--metrics", e.metrics, all)
	if err != nil {
		return err
	}
	e.options.Metrics = nil
	if !slices.Equal(e.metrics, []string{"all"}) {
		e.options.Metrics = []eval.Metric{}
		for _, m := range metrics {
			e.options.Metrics = append(e.options.Metrics, eval.Metric(m))
		}
	}
	all = all[:0]
	for _, k := range eval.Classifiers() {
		all = append(all, string(k))
	}
	e.every = slices.Equal(e.classifiers, []string{"all"})
	if e.classifiers, err = choose("--classifiers", e.classifiers, all); err != nil {
		return err
	}
	if err := e.checkNetworks(); err != nil {
		return err
	}
	if e.rules, err = parseLabelRules(e.labelOf); err != nil {
		return err
	}
	if err := e.paid.check(e); err != nil {
		return err
	}
	if !slices.Contains(eval.Resizes(), eval.Resize(e.resize)) {
		return misuse(fmt.Errorf("--resize is %q, want one of %q", e.resize, eval.Resizes()))
	}
	if e.reference != "" && eval.IsFeatureFile(path) != eval.IsFeatureFile(e.reference) {
		return misuse(fmt.Errorf("%s and %s: want two files of features or two sets of images", path, e.reference))
	}
	if e.features == "glyphs" && e.hash != "" {
		return misuse(errors.New("--features-sha256 names a file, but --features is the network that scumble carries; give --features FILE"))
	}
	return nil
}

// checkNetworks reads the sizes of networks and the names of subgroups.
func (e *evaluating) checkNetworks() error {
	if n, err := fmt.Sscanf(e.wrn+"\n", "%d-%d\n", &e.geometry.Depth, &e.geometry.Width); n != 2 || err != nil || e.geometry.Depth < 10 || e.geometry.Depth%6 != 4 || e.geometry.Width < 1 || e.geometry.Width > 16 {
		return misuse(fmt.Errorf("--wrn is %q, want a depth of 6n+4 and a width of 1 to 16, such as 10-1 or 40-4", e.wrn))
	}
	b := &e.benchmark
	switch {
	case e.protocol != "" && e.protocol != "dpimagebench":
		return misuse(fmt.Errorf("--protocol is %q, want dpimagebench", e.protocol))
	case e.protocol == "" && (b.Images != 0 || b.Epochs != 0 || b.BatchSize != 0 || e.nets != "full"):
		return misuse(errors.New("--protocol-images, -epochs, -batch and -nets go with --protocol"))
	case b.Images < 0 || b.Epochs < 0 || b.BatchSize < 0:
		return misuse(fmt.Errorf("--protocol-images is %d, -epochs %d, -batch %d, want none below 0; 0 is the benchmark's", b.Images, b.Epochs, b.BatchSize))
	case e.nets != "full" && e.nets != "small":
		return misuse(fmt.Errorf("--protocol-nets is %q, want full or small", e.nets))
	case e.nets == "small":
		b.Geometries = map[eval.Classifier]eval.Geometry{} // Each its own default.
	}
	seen := map[string]bool{}
	for _, g := range e.subgroups {
		name, path, ok := strings.Cut(g, "=")
		if !ok || name == "" || path == "" || seen[name] {
			return misuse(fmt.Errorf("--subgroup is %q, want NAME=PATH, each name once", g))
		}
		seen[name] = true
	}
	return nil
}

// choose checks a list of names; all and none stand for those.
func choose(flag string, names, all []string) ([]string, error) {
	switch {
	case slices.Equal(names, []string{"all"}):
		return slices.Clone(all), nil
	case slices.Equal(names, []string{"none"}):
		return nil, nil
	}
	for _, n := range names {
		if !slices.Contains(all, n) {
			return nil, misuse(fmt.Errorf("%s has %q, want some of %s, or all, or none", flag, n, strings.Join(all, ",")))
		}
	}
	return names, nil
}

// wantsFidelity says whether any metric is asked for.
func (e *evaluating) wantsFidelity() bool {
	return e.options.Metrics == nil || len(e.options.Metrics) > 0
}

// compareFiles compares features that another program wrote.
func (e *evaluating) compareFiles(path string) (*evaluation, error) {
	synthetic, err := eval.ReadFeatures(path)
	if err != nil {
		return nil, err
	}
	moments, err := eval.ReadMoments(e.reference)
	if err != nil {
		return nil, err
	}
	if moments != nil {
		own, err := eval.NewMoments(synthetic)
		if err != nil {
			return nil, err
		}
		fid, err := eval.FrechetDistance(own, moments)
		if err != nil {
			return nil, err
		}
		f := &eval.Fidelity{FID: &fid, Notes: []string{"the reference is a mean and a covariance, so there is fid alone"}}
		f.Settings = eval.FidelitySettings{SyntheticImages: synthetic.Rows, Network: eval.Network{Name: "features from a file", Dim: synthetic.Dim}}
		return &evaluation{Fidelity: f}, nil
	}
	reference, err := eval.ReadFeatures(e.reference)
	if err != nil {
		return nil, err
	}
	f, err := eval.Compare(synthetic, reference, e.options)
	if err != nil {
		return nil, err
	}
	f.Settings.Network.Name = "features from a file"
	return &evaluation{Fidelity: f}, nil
}

// compareImages runs the network and the classifiers.
func (e *evaluating) compareImages(c *cobra.Command, path string) (*evaluation, error) {
	train, err := dataset.Open(path, dataset.Options{Classes: e.labelOrder(), AllowEmpty: e.runDir != ""})
	if err != nil {
		return nil, err
	}
	if err := e.checkOrder(path, train); err != nil {
		return nil, err
	}
	if train.Captions != nil && e.rules != nil {
		if err := e.rules.apply(train, path, true); err != nil {
			return nil, err
		}
	}
	like := dataset.Options{Size: train.Height, Channels: train.Channels, Classes: train.Classes, AllowEmpty: true, Labels: e.labels, Split: dataset.Test}
	test, err := dataset.Open(e.reference, like)
	if err != nil {
		return nil, err
	}
	same, err := e.match(train, test, e.reference)
	if err == nil && !same && (len(e.classifiers) > 0 || e.protocol != "") {
		err = e.unlabelled(test)
	}
	if err != nil {
		return nil, err
	}
	var subgroups []eval.Subgroup
	for _, g := range e.subgroups {
		name, pathOf, _ := strings.Cut(g, "=")
		like.Labels = ""
		set, err := dataset.Open(pathOf, like)
		if err != nil {
			return nil, fmt.Errorf("subgroup %q: %w", name, err)
		}
		if ok, err := e.match(train, set, pathOf); err != nil {
			return nil, fmt.Errorf("subgroup %q: %w", name, err)
		} else if !ok && len(e.classifiers) > 0 {
			return nil, misuse(fmt.Errorf("subgroup %q has no classes to score; --label-of CLASS=WORDS says which captions show which", name))
		}
		subgroups = append(subgroups, eval.Subgroup{Name: name, Images: set})
	}
	s, err := e.session.open(c)
	if err != nil {
		return nil, err
	}
	defer s.close()
	out := &evaluation{Fidelity: &eval.Fidelity{Settings: eval.FidelitySettings{SyntheticImages: train.Len(), ReferenceImages: test.Len()}}}
	if e.wantsFidelity() {
		if out.Fidelity, err = e.fidelity(c.Context(), s, train, test); err != nil {
			return nil, err
		}
	}
	if e.note != "" {
		out.Notes = append(out.Notes, e.note)
	}
	if len(e.classifiers) > 0 || e.protocol != "" {
		out.Classes, out.Tests, out.Training = train.Classes, test.Len(), train.Len()
	}
	for _, name := range e.classifiers {
		kind := eval.Classifier(name)
		if err := kind.Takes(train.Height, train.Width); err != nil && e.every {
			out.Notes = append(out.Notes, err.Error())
			continue
		}
		a, err := eval.ScoreClassifier(c.Context(), s.backend, kind, train, test, e.seeds, s.classifierOptions(kind, e, e.seeds), subgroups...)
		if err != nil {
			return nil, err
		}
		out.Classifiers = append(out.Classifiers, a)
		if out.Accuracy == nil {
			out.Accuracy, out.PerClass = &a.Mean, a.PerClass
		}
		if out.Best == nil || a.Mean > *out.Best {
			out.Best = &a.Mean
		}
	}
	if e.protocol != "" {
		out.Protocol, err = e.runProtocol(c.Context(), s, train, test)
	}
	return out, err
}

// concealAll keeps names of private files out of an error.
func (e *evaluating) concealAll(err error) error {
	err = conceal(err, e.reference, nil)
	for _, g := range e.subgroups {
		_, path, _ := strings.Cut(g, "=")
		err = conceal(err, path, nil)
	}
	return err
}

// runProtocol scores the way that a benchmark does.
func (e *evaluating) runProtocol(ctx context.Context, s *session, train, test *dataset.Set) (*eval.ProtocolScore, error) {
	start, last := time.Now(), eval.Classifier("")
	score, err := eval.RunProtocol(ctx, s.backend, e.benchmark, train, test, e.seeds,
		eval.ClassifierOptions{Seed: e.seed, Lowering: s.lowering, Workers: s.workers}, func(kind eval.Classifier, step, steps int) {
			if kind != last {
				start, last = time.Now(), kind
			}
			left := time.Since(start).Seconds() / float64(step) * float64(steps-step)
			s.talk.progress(step == steps, "protocol, %s: step %d/%d, %s left", kind, step, steps, short(time.Duration(left*float64(time.Second))))
		})
	if errors.Is(err, eval.ErrInvalid) {
		return nil, withHint(err, "scumble sample RUN --count 60000 --out DIR draws them; --protocol-images takes fewer")
	}
	return score, err
}

// fidelity takes features of both sets and compares them.
func (e *evaluating) fidelity(ctx context.Context, s *session, synthetic, reference *dataset.Set) (*eval.Fidelity, error) {
	network, err := e.openNetwork(s)
	if err != nil {
		return nil, err
	}
	defer network.Close()
	var sets [2]*eval.Features
	for i, part := range []struct {
		what string
		set  *dataset.Set
	}{{"synthetic", synthetic}, {"reference", reference}} {
		start := time.Now()
		sets[i], err = network.Features(ctx, part.set, func(done, total int) {
			left := time.Since(start).Seconds() / float64(done) * float64(total-done)
			// In percent: how many reference images there are may be private.
			s.talk.progress(done == total, "features of %s images: %d %%, %s left", part.what, 100*done/total, short(time.Duration(left*float64(time.Second))))
		})
		if err != nil {
			return nil, err
		}
	}
	f, err := eval.Compare(sets[0], sets[1], e.options)
	if err != nil {
		return nil, err
	}
	f.Settings.Network = network.About()
	return f, nil
}

// openNetwork opens what --features names.
func (e *evaluating) openNetwork(s *session) (*eval.Extractor, error) {
	if e.features == "glyphs" {
		return eval.Glyphs(s.backend, s.network())
	}
	if e.hash == "" {
		hash, err := eval.FileSHA256(e.features)
		if err != nil {
			return nil, invalid(err)
		}
		return nil, misuse(withHint(fmt.Errorf("--features-sha256 is missing: a score has to name its network"),
			fmt.Sprintf("if %s is the file you mean, add --features-sha256 %s", e.features, hash)))
	}
	n, err := eval.OpenInception(s.backend, e.features, e.hash, eval.Resize(e.resize), s.network())
	if err != nil {
		return nil, invalid(err)
	}
	return n, nil
}

// classifierOptions are those of one kind of classifier over seeds.
func (s *session) classifierOptions(kind eval.Classifier, e *evaluating, seeds int) eval.ClassifierOptions {
	start, nth := time.Now(), 1
	o := eval.ClassifierOptions{Steps: e.steps, Seed: e.seed, Lowering: s.lowering, Workers: s.workers,
		Report: func(step, steps int) {
			left := time.Since(start).Seconds() / float64(step) * float64(steps-step)
			s.talk.progress(step == steps, "classifier %s, %d of %d: step %d/%d, %s left", kind, nth, seeds, step, steps, short(time.Duration(left*float64(time.Second))))
			if step == steps {
				start, nth = time.Now(), nth+1
			}
		}}
	if kind == eval.WRN {
		o.Geometry = e.geometry
	}
	return o
}
