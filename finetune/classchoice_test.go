package finetune

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/dataset/glyphs"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/nn"
	"github.com/scumble-dp/scumble/pipeline"
)

// An image's vote does not depend on which others there are: one image less takes 1
// from one count.
func TestVotesAreOfOneImage(t *testing.T) {
	b := backendtest.Open(t, "go")
	base := tinyBase(t, b)
	_, target, err := NewPlan(b, tinyConfig(Full, "nowhere"), base)
	if err != nil {
		t.Fatal(err)
	}
	canvas, err := pipeline.NewCanvas(base, 28, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := newClassifier(b, nn.Patches, target, canvas, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer c.program.Close()
	const n = 9
	rng := rand.New(rand.NewPCG(8, 8))
	grids := make([]float32, n*canvas.Size())
	for i := range grids {
		grids[i] = 2*rng.Float32() - 1
	}
	upTo := func(n int) (batch []int) {
		for i := range n {
			batch = append(batch, i)
		}
		return batch
	}
	all, err := c.votes(context.Background(), grids, upTo(n), 3)
	if err != nil {
		t.Fatal(err)
	}
	for out := range n {
		rest := slices.Delete(slices.Clone(grids), out*canvas.Size(), (out+1)*canvas.Size())
		votes, err := c.votes(context.Background(), rest, upTo(n-1), 2)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(votes, slices.Delete(slices.Clone(all), out, out+1)) {
			t.Fatalf("without image %d the others vote %v, with it %v", out, votes, all)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.votes(ctx, grids, upTo(n), 2); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Every class gets a public class, the surest first, none twice while there are
// enough; and its row of the embedder begins as that class's.
func TestChoose(t *testing.T) {
	if got := choose([][]float64{{5, 9, 1}, {2, 8, 0}}); !slices.Equal(got, []int{1, 0}) {
		t.Errorf("chosen are %v, want 1 and 0", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		classes, public := rapid.IntRange(1, 6).Draw(t, "classes"), rapid.IntRange(1, 6).Draw(t, "public")
		counts := make([][]float64, classes)
		for i := range counts {
			counts[i] = rapid.SliceOfN(rapid.Float64Range(-9, 9), public, public).Draw(t, "counts")
		}
		times := map[int]int{}
		for _, c := range choose(counts) {
			if c < 0 || c >= public {
				t.Fatalf("public class %d of %d", c, public)
			}
			times[c]++
		}
		for c, n := range times {
			if n > (classes+public-1)/public {
				t.Fatalf("public class %d begins %d of %d classes, there are %d", c, n, classes, public)
			}
		}
	})
	b := backendtest.Open(t, "go")
	c := tinyConfig(Full, "nowhere")
	c.Data.Classes = []string{"cat", "2", "dog"}
	base := tinyBase(t, b)
	before := slices.Clone(base.Weights.Get("unet.class_embedding.weight").Data)
	_, target, err := NewPlan(b, c, base)
	if err != nil {
		t.Fatal(err)
	}
	counts := &ClassCounts{Chosen: []int{3, 0, 2}}
	if err := target.begin(counts); err != nil {
		t.Fatal(err)
	}
	row := base.Weights.Get("unet.class_embedding.weight")
	for i, public := range append(counts.Chosen, 4) { // The null class stays.
		width := row.Shape[1]
		if !slices.Equal(row.Data[i*width:(i+1)*width], before[public*width:(public+1)*width]) {
			t.Errorf("row %d does not begin at public class %d", i, public)
		}
	}
	for _, bad := range [][]int{{0, 1}, {0, 1, 4}, {-1, 0, 1}} {
		if err := target.begin(&ClassCounts{Chosen: bad}); !errors.Is(err, errDamaged) {
			t.Errorf("choice %v: %v", bad, err)
		}
	}
	if text, err := json.Marshal(counts); err != nil || len(text) == 0 {
		t.Error(err)
	}
}

// The bundled model tells the characters that it knows apart: nearly all images of a
// class vote for it, so that classes under other names begin at the right ones.
func TestVotesAreRight(t *testing.T) {
	if os.Getenv("SCUMBLE_SLOW") == "" {
		t.Skip("takes a minute; SCUMBLE_SLOW=1 runs it")
	}
	b := backendtest.Open(t, "go")
	base, err := models.Load("latent")
	if err != nil {
		t.Fatal(err)
	}
	known := []string{"4", "1", "2", "3", "7", "A", "K", "X"}
	const each = 6
	set, err := glyphs.Render(glyphs.Options{Count: each * len(known), Seed: 99, Classes: known})
	if err != nil {
		t.Fatal(err)
	}
	c := tinyConfig(Attention, "nowhere")
	c.Data.Classes = []string{"c", "d", "e", "f", "g", "h", "i", "j"}
	_, target, err := NewPlan(b, c, base)
	if err != nil {
		t.Fatal(err)
	}
	canvas, err := pipeline.NewCanvas(base, 28, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	grids, err := encode(ctx, b, base, canvas, set, Augment{}, options(""))
	if err != nil {
		t.Fatal(err)
	}
	classifier, err := newClassifier(b, nn.Patches, target, canvas, 6)
	if err != nil {
		t.Fatal(err)
	}
	defer classifier.program.Close()
	batch := make([]int, set.Len())
	counts := make([][]float64, len(known))
	for i := range counts {
		counts[i] = make([]float64, len(target.public.names))
	}
	for i := range batch {
		batch[i] = i
	}
	votes, err := classifier.votes(ctx, grids, batch, 2)
	if err != nil {
		t.Fatal(err)
	}
	right := 0
	for i, vote := range votes {
		counts[set.Labels[i]][vote]++
		if target.public.names[vote] == known[set.Labels[i]] {
			right++
		}
	}
	t.Logf("%d of %d votes are right", right, len(votes))
	if 10*right < 6*len(votes) {
		t.Errorf("%d of %d votes are right, want 6 in 10 at least", right, len(votes))
	}
	for i, public := range choose(counts) {
		if got := target.public.names[public]; got != known[i] {
			t.Errorf("class of images of %s begins at %s", known[i], got)
		}
	}
}
