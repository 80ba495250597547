package eval

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

func openBundled(t *testing.T, b compute.Backend, lowering nn.Lowering) *Extractor {
	t.Helper()
	e, err := Glyphs(b, NetworkOptions{Lowering: lowering, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func renderGlyphs(t *testing.T, o glyphs.Options) *dataset.Set {
	t.Helper()
	set, err := glyphs.Render(o)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func featuresOf(t *testing.T, e *Extractor, set *dataset.Set) *Features {
	t.Helper()
	f, err := e.Features(context.Background(), set, nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// worn returns a copy of a set with each image changed.
func worn(set *dataset.Set, change func(i int, p picture) picture) *dataset.Set {
	out := *set
	out.Pixels = nil
	for i := range set.Len() {
		for _, v := range change(i, newPicture(set.Height, set.Width, set.Channels, set.Image(i))).values {
			out.Pixels = append(out.Pixels, byte(min(max(v, 0), 255)+0.5))
		}
	}
	return &out
}

// The network that is shipped does what a feature network is for: it reads
// characters it never saw, and its distances grow with blur, with noise and with
// lost classes, far above those of two draws of one distribution.
func TestGlyphsMeasureDamage(t *testing.T) {
	if testing.Short() {
		t.Skip("left out by -short: 3,500 images")
	}
	e := openBundled(t, backendtest.Open(t, "go"), nn.Patches)
	reference := renderGlyphs(t, glyphs.Options{Count: 500, Seed: 901})
	fresh := renderGlyphs(t, glyphs.Options{Count: 500, Seed: 902})
	base := featuresOf(t, e, reference)
	freshFeatures := featuresOf(t, e, fresh)
	right := 0
	for i, label := range fresh.Labels {
		row := freshFeatures.Logits[i*glyphClasses : (i+1)*glyphClasses]
		if slices.Index(row, slices.Max(row)) == label {
			right++
		}
	}
	if right < 350 {
		t.Errorf("%d of 500 characters are read, want 350 at least", right)
	}
	figures := func(f *Features) (fid, kid float64) {
		fid, err := FID(f, base)
		if err != nil {
			t.Fatal(err)
		}
		kid, _, err = KID(f, base, KIDOptions{Subsets: 20, SubsetSize: 250})
		if err != nil {
			t.Fatal(err)
		}
		return fid, kid
	}
	fid0, kid0 := figures(freshFeatures)
	t.Logf("fresh draws: fid %.3f, kid %.4f; %d of 500 read", fid0, kid0, right)
	fidBefore, kidBefore := fid0, kid0
	for _, deviation := range []float64{0.7, 1.4} {
		fid, kid := figures(featuresOf(t, e, worn(fresh, func(_ int, p picture) picture { return p.blurred(deviation) })))
		t.Logf("blur %g: fid %.3f, kid %.4f", deviation, fid, kid)
		if fid < 1.05*fidBefore || kid <= kidBefore {
			t.Errorf("blur by %g: fid %g and kid %g, want above %g and %g", deviation, fid, kid, fidBefore, kidBefore)
		}
		fidBefore, kidBefore = fid, kid
	}
	fidBefore, kidBefore = fid0, kid0
	for _, strength := range []float64{20, 60} {
		noise := hashUniform("noise", 500*28*28)
		fid, kid := figures(featuresOf(t, e, worn(fresh, func(i int, p picture) picture {
			for k := range p.values {
				p.values[k] += float32(strength * noise[i*784+k])
			}
			return p
		})))
		t.Logf("noise %g: fid %.3f, kid %.4f", strength, fid, kid)
		if fid < 1.05*fidBefore || kid <= kidBefore {
			t.Errorf("noise of %g: fid %g and kid %g, want above %g and %g", strength, fid, kid, fidBefore, kidBefore)
		}
		fidBefore, kidBefore = fid, kid
	}
	few := renderGlyphs(t, glyphs.Options{Count: 500, Seed: 903, Classes: []string{"0", "1", "2", "3", "4", "5"}})
	fewFeatures := featuresOf(t, e, few)
	fid, kid := figures(fewFeatures)
	pr, err := NewPrecisionRecall(fewFeatures, base, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("six of 36 classes: fid %.3f, kid %.4f, precision %.3f, recall %.3f", fid, kid, pr.Precision, pr.Recall)
	if fid < 2*fid0 || pr.Recall > pr.Precision-0.2 {
		t.Errorf("six of 36 classes: fid %g, precision %g, recall %g, want a large fid and a low recall", fid, pr.Precision, pr.Recall)
	}
}

// Backends and lowerings agree.
func TestGlyphsOnEachBackend(t *testing.T) {
	set := renderGlyphs(t, glyphs.Options{Count: 20, Seed: 3})
	var first *Features
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		lowering := nn.Patches
		if strings.HasSuffix(t.Name(), "/xla") {
			lowering = nn.Native
		}
		f := featuresOf(t, openBundled(t, b, lowering), set)
		if first == nil {
			first = f
		}
		for i, v := range f.Values {
			// Features have variance 1; sums of float32 in another order.
			if math.Abs(float64(v-first.Values[i])) > 1e-3 {
				t.Fatalf("feature %d of image %d is %g, on the first backend %g", i%f.Dim, i/f.Dim, v, first.Values[i])
			}
		}
	})
}

// Sizes and channels of all data that we read are taken, and each image's
// features are its own, whatever its neighbours and place in a batch.
func TestGlyphsTakeEachImageAlone(t *testing.T) {
	e := openBundled(t, backendtest.Open(t, "go"), nn.Patches)
	for _, o := range []glyphs.Options{{Size: 28}, {Size: 64, Channels: 3}, {Size: 33}} {
		o.Count, o.Seed = 37, 5
		set := renderGlyphs(t, o)
		all := featuresOf(t, e, set)
		if all.Rows != 37 || all.Dim != glyphFeatures || e.About().Dim != glyphFeatures {
			t.Fatalf("features are %d rows of %d, want 37 of %d", all.Rows, all.Dim, glyphFeatures)
		}
		alone := featuresOf(t, e, set.Subset([]int{36, 3}))
		for k, i := range []int{36, 3} {
			if !slices.EqualFunc(alone.Row(k), all.Row(i), func(a, b float32) bool { return near(float64(a), float64(b), 1e-4) }) {
				t.Errorf("size %d: features of image %d change with its batch", o.Size, i)
			}
		}
	}
	stopped, stop := context.WithCancel(context.Background())
	stop()
	if _, err := e.Features(stopped, renderGlyphs(t, glyphs.Options{Count: 3}), nil); err == nil {
		t.Error("stopped: no error")
	}
	if _, err := e.Features(context.Background(), &dataset.Set{Height: 28, Width: 28, Channels: 1}, nil); err == nil {
		t.Error("no images: no error")
	}
}

// Training writes a file that opens, and the shipped file is below the limit.
func TestTrainGlyphs(t *testing.T) {
	if len(glyphWeights) >= 1<<20 {
		t.Errorf("weights are %d bytes, want less than 1 MiB", len(glyphWeights))
	}
	b := backendtest.Open(t, "go")
	path := filepath.Join(t.TempDir(), "net.safetensors")
	var losses []float64
	o := NetworkOptions{Lowering: nn.Patches, Workers: 2}
	err := TrainGlyphs(context.Background(), b, path, GlyphRecipe{Steps: 3, BatchSize: 16, ScaleImages: 8}, o, func(_, _ int, loss float64) { losses = append(losses, loss) })
	if err != nil || len(losses) != 3 {
		t.Fatalf("training: %v, %d losses", err, len(losses))
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	e, err := openGlyphs(b, file, o)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if f := featuresOf(t, e, renderGlyphs(t, glyphs.Options{Count: 4})); f.Rows != 4 {
		t.Errorf("features have %d rows, want 4", f.Rows)
	}
	if _, err := openGlyphs(b, file[:100], o); err == nil {
		t.Error("broken weights: no error")
	}
}

// TestFeaturesOfNeighbours: apart, an image's features are the same to the last bit
// without another image.
func TestFeaturesOfNeighbours(t *testing.T) {
	set, err := glyphs.Render(glyphs.Options{Count: 40, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	less := *set
	less.Pixels, less.Labels = set.Pixels[set.ImageSize():], set.Labels[1:]
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		n, err := Glyphs(b, NetworkOptions{Lowering: nn.Small, Apart: true})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		all, err := n.Features(t.Context(), set, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := n.Features(t.Context(), &less, nil)
		if err != nil || !slices.Equal(got.Values, all.Values[all.Dim:]) {
			t.Errorf("features change with the image before (%v)", err)
		}
	})
}
