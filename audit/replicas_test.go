package audit

import (
	"math/rand/v2"
	"testing"

	"github.com/scumble-dp/scumble/dataset"
)

// blobs are images of one bright square each.
func blobs(n int, rng *rand.Rand) *dataset.Set {
	s := &dataset.Set{Height: 28, Width: 28, Channels: 1, Pixels: make([]byte, n*784)}
	for i := range n {
		x, y, size := rng.IntN(20), rng.IntN(20), 4+rng.IntN(4)
		for dy := range size {
			for dx := range size {
				s.Pixels[i*784+(y+dy)*28+x+dx] = byte(150 + rng.IntN(100))
			}
		}
	}
	return s
}

// Images of the same kind are no replicas; copies of training images are, also with
// a little noise.
func TestFindReplicas(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	training, held, fresh := blobs(300, rng), blobs(300, rng), blobs(300, rng)
	r, err := FindReplicas(t.Context(), training, held, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if r.Found() {
		t.Errorf("images of the same kind: %+v", r)
	}
	copies := training.Subset(rng.Perm(300))
	for i := range copies.Pixels {
		if i/784%3 > 0 { // Every third image is fresh.
			copies.Pixels[i] = byte(min(255, int(copies.Pixels[i])+rng.IntN(6)))
		} else {
			copies.Pixels[i] = fresh.Pixels[i]
		}
	}
	if r, err = FindReplicas(t.Context(), training, held, copies); err != nil {
		t.Fatal(err)
	}
	if !r.Found() || r.Rate.Value < 0.6 || r.Rate.Value > 0.7 {
		t.Errorf("two thirds are copies: %+v", r)
	}
	if _, err := FindReplicas(t.Context(), blobs(5, rng), held, fresh); err == nil {
		t.Error("5 training images are accepted")
	}
	wide := &dataset.Set{Height: 32, Width: 32, Channels: 1, Pixels: make([]byte, 30*1024)}
	if _, err := FindReplicas(t.Context(), training, held, wide); err == nil {
		t.Error("images of another size are accepted")
	}
}
