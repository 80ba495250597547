package finetune

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/pipeline"
)

// What frozen networks made of private data lies in private/, readable by nobody
// else; a run that goes on takes it if it is of the same data and networks.
func TestEncodedOnce(t *testing.T) {
	b := backendtest.Open(t, "go")
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "run")
	c := textConfig(Attention, captionedData(t, 12))
	c.Data.Examples, c.Attention.FreezeEmbedder = 12, true
	base := tinyTextBase(t, b)
	if _, err := Run(ctx, b, c, base, options(dir)); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, PrivateDir, encodedFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("file is %v (%v), want mode 0600", info, err)
	}
	set, err := dataset.Open(c.Data.Path, dataset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := options(dir)
	o.Resume = true
	encodeAgain := func(change func(target *target, set *dataset.Set)) *encoded {
		m := tinyTextBase(t, b)
		_, target, err := NewPlan(b, c, m)
		if err != nil {
			t.Fatal(err)
		}
		canvas, err := pipeline.NewCanvas(m, 28, 1)
		if err != nil {
			t.Fatal(err)
		}
		other := set.Subset([]int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11})
		change(target, other)
		e, err := target.encodeData(ctx, b, canvas, other, c.Training.Augment, o)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	read := encodeAgain(func(*target, *dataset.Set) {})
	if read.fresh {
		t.Error("the same data are encoded again")
	}
	o.Resume = false
	made := encodeAgain(func(*target, *dataset.Set) {})
	rows := []int{3, dropped, 0, padding}
	if !made.fresh || !slices.Equal(made.grids, read.grids) || !made.told.tensor(rows).Equal(read.told.tensor(rows)) {
		t.Error("what was read is not what is made")
	}
	o.Resume = true
	for name, change := range map[string]func(target *target, set *dataset.Set){
		"caption": func(_ *target, set *dataset.Set) { set.Captions[3] += "!" },
		"pixel":   func(_ *target, set *dataset.Set) { set.Pixels[5]++ },
		"weight": func(target *target, _ *dataset.Set) {
			target.model.Weights.Get("text_encoder.final_layer_norm.bias").Data[0]++
		},
	} {
		if !encodeAgain(change).fresh {
			t.Errorf("another %s, and the old file is taken", name)
		}
	}
}
