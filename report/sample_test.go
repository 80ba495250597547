package report

import (
	"bytes"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/scumble-dp/scumble/accountant"
)

// glyphSheet draws rings and strokes, one kind in each row, so that a sheet
// looks somewhat like one of digits.
func glyphSheet(t testing.TB, rows, columns, size int, seed uint64) []byte {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	img := image.NewGray(image.Rect(0, 0, columns*(size+1)+1, rows*(size+1)+1))
	for i := range img.Pix {
		img.Pix[i] = 0x60
	}
	for row := range rows {
		for column := range columns {
			a, b := 0.2+0.25*random.Float64(), 0.2+0.25*random.Float64()
			for y := range size {
				for x := range size {
					u, v := (float64(x)+0.5)/float64(size)-0.5, (float64(y)+0.5)/float64(size)-0.5
					turn := math.Atan2(v, u)
					ring := math.Hypot(u/a, v/b) - 1 - 0.25*math.Sin(turn*float64(row+1))
					ink := 255 * math.Exp(-40*ring*ring)
					img.SetGray(column*(size+1)+1+x, row*(size+1)+1+y, color.Gray{Y: uint8(ink)})
				}
			}
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sampleRun is a run with one of everything, covered and not.
func sampleRun(t testing.TB) *Run {
	t.Helper()
	classes := strings.Split("0 1 2 3 4 5 6 7 8 9", " ")
	start := time.Date(2026, 11, 22, 9, 14, 3, 0, time.UTC)
	hash := strings.Repeat("0123456789abcdef", 4)
	r := &Run{
		Title: "Synthetic handwritten digits", Version: "scumble v0.1.0 (commit 3f9d2c1)", Created: start.Add(7 * time.Minute),
		Method: "attention", Base: "glyphs-latent, from the scumble repository",
		BaseProvenance: "Trained on characters rendered from the Go fonts (BSD-3-Clause) by scumble data glyphs; Apache-2.0.",
		Weights: []Weight{
			{Name: "autoencoder", TrainedOn: "characters rendered from the Go fonts", Licence: "Apache-2.0", SHA256: hash, Public: true},
			{Name: "denoiser", TrainedOn: "characters rendered from the Go fonts", Licence: "Apache-2.0", SHA256: hash, Public: true},
		},
		Claim: Claim{
			Epsilon: 9.99871, Delta: 1e-5, EpsilonRDP: 10.8312, EpsilonLower: 9.99862, Neighboring: accountant.AddOrRemove, Unit: "image",
			NoiseMultiplier: 1.184301, SamplingProbability: 0.064, ExpectedBatchSize: 512, ClippingNorm: 0.01, Steps: 400, StepsPlanned: 400, Multiplicity: 4,
			Accountant: "scumble PLD 1, pessimistic, both directions", Slack: 1e-9, Mesh: 5e-4, PublicExamples: 8000,
			RDP: []RDP{{2, 0.71}, {4, 1.63}, {8, 3.9}},
		},
		Classes: classes, ImageSize: 28, Channels: 1,
		PublicInputs: []Item{{"Number of private images", "8,000"}, {"Image size", "28 × 28, one channel"}, {"Class names", strings.Join(classes, ", ")}, {"Hyperparameters", "all of config.yaml"}},
		Ledger: Ledger{
			Rows: []LedgerRow{
				{What: "DP-SGD step", Event: accountant.DPSGD(1.184301, 0.064, 400), First: start, Last: start.Add(5 * time.Minute)},
				{What: "noisy accuracy", Event: accountant.Event{Mechanism: accountant.Gaussian, NoiseMultiplier: 40, SamplingProbability: 1, Count: 1}, First: start.Add(6 * time.Minute), Last: start.Add(6 * time.Minute)},
			},
			Entries: 402, Head: hash,
		},
		TrainableParameters: 182_304, TotalParameters: 1_204_553,
		Grid: &Picture{PNG: glyphSheet(t, 10, 10, 28, 1), Alt: "Ten rows of ten synthetic digits, one row for each class from 0 to 9.",
			Caption: "First ten samples of each class; not selected.", RowLabels: classes, Covered: PostProcessing},
		PublicGrid: &Picture{PNG: glyphSheet(t, 10, 10, 28, 2), Alt: "The same classes sampled from the base model: printed characters.",
			Caption: "No private image was used for these.", RowLabels: classes, Covered: Public},
		Neighbors: &Picture{PNG: glyphSheet(t, 10, 12, 28, 3), Alt: "Pairs of a synthetic image and the nearest public one.",
			Caption: "To the right of each synthetic image, the nearest public one.", RowLabels: classes, Covered: PostProcessing},
		Scores: []Score{
			{Name: "Classifier trained on synthetic images", Value: 0.9231, Spread: 0.0042, Seeds: 3, Tests: 2000, PerClass: []float64{.97, .98, .91, .9, .93, .89, .95, .93, .86, .91},
				TrainedOn: "12,000 synthetic images", TestedOn: "2,000 held-out digits, declared public", Covered: PostProcessing},
			{Name: "Classifier trained on samples of the public base model", Value: 0.6612, Spread: 0.011, Seeds: 3, PerClass: []float64{.8, .7, .66, .61, .6, .59, .7, .71, .55, .69},
				TrainedOn: "12,000 samples of the base model", TestedOn: "2,000 held-out digits, declared public", Covered: Public},
			{Name: "Classifier trained on the real images", Value: 0.9704, Spread: 0.002, Seeds: 3, PerClass: []float64{.98, .99, .97, .97, .97, .96, .98, .97, .95, .96},
				TrainedOn: "8,000 private images", TestedOn: "2,000 held-out digits, declared public", Note: "the ceiling",
				Subgroups: []Subgroup{{Name: "written with a pen", Value: 0.98, Tests: 1400}, {Name: "written with a pencil", Value: 0.948, Tests: 600}}},
			{Name: "Distance to private images (FID, small network)", Value: 18.4132, Scale: Plain, TestedOn: "private images"},
			{Name: "Classifier cnn trained on synthetic images, noisy accuracy", Value: 0.918, Interval: []float64{0.899, 0.934}, TestedOn: "private reference images", Covered: Paid,
				LedgerEntry: "noisy accuracy", Note: "Gaussian noise of standard deviation 40 on 2 counts of images; the L2 sensitivity is 1."},
		},
		Curves: []Curve{{Title: "Training loss", X: "step", Y: "mean squared error", Series: []Series{wave("private images", 400, 0.7), wave("public images", 400, 0.5)}}},
		Facts: []Fact{
			{Name: "Fine-tuning", Value: "4 min 51 s", Covered: Public}, {Name: "Sampling", Value: "38 s", Covered: Public},
			{Name: "Peak memory", Value: "1.9 GiB", Covered: Public}, {Name: "Backend", Value: "go:ops_sequential, 2 cores, simd", Covered: Public},
			{Name: "Mean clipped fraction", Value: "0.8137"},
		},
		Limits: []string{"The bundled data set is public in truth; the demo treats it as private."},
		Config: "method: attention\nbase: latent\nprivacy:\n  epsilon: 10\n  delta: 1.0e-05\ntraining:\n  steps: 400\n  expected_batch_size: 512\n",
		Files:  []File{{Path: "model/unet/diffusion_pytorch_model.safetensors", SHA256: hash, Bytes: 4_818_212}},
	}
	for step := 0; step <= 400; step += 20 {
		r.Claim.Spent = append(r.Claim.Spent, Spent{step, 9.99871 * math.Sqrt(float64(step)/400)})
	}
	return r
}

func wave(name string, n int, level float64) Series {
	s := Series{Name: name}
	for x := 0; x <= n; x += 5 {
		s.X = append(s.X, float64(x))
		s.Y = append(s.Y, level*math.Exp(-float64(x)/150)+0.1+0.02*math.Sin(float64(x)))
	}
	return s
}
