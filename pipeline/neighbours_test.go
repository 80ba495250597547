package pipeline

import (
	"testing"

	"github.com/gomlx/compute"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/shapes"
	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/nn"
)

// TestEncodeOfNeighbours: encoded apart, an image's latents are the same to the last
// bit whoever stands before it in the set. Were they not, one image less would change
// the gradients of all later ones a little. (Encoded together they are not, on the Go
// backend.)
func TestEncodeOfNeighbours(t *testing.T) {
	m, err := models.Load("latent")
	if err != nil {
		t.Fatal(err)
	}
	set, err := shapes.Render(shapes.Options{Count: 70, Seed: 1, Size: m.Size, Channels: m.Channels})
	if err != nil {
		t.Fatal(err)
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		lowering := nn.Small
		if b == backendtest.Open(t, "go") {
			lowering = nn.Patches
		}
		all := encoded(t, b, lowering, m, set)
		size := len(all) / set.Len()
		for _, without := range []int{0, 33, 69} {
			less := *set
			less.Pixels = append(append([]byte(nil), set.Pixels[:without*len(set.Image(0))]...), set.Pixels[(without+1)*len(set.Image(0)):]...)
			less.Labels = append(append([]int(nil), set.Labels[:without]...), set.Labels[without+1:]...)
			got := encoded(t, b, lowering, m, &less)
			want := append(append([]float32(nil), all[:without*size]...), all[(without+1)*size:]...)
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("without image %d, value %d of image %d is %g, not %g", without, i%size, i/size, got[i], want[i])
					break
				}
			}
		}
	})
}

// TestTextsOfNeighbours is the same for captions.
func TestTextsOfNeighbours(t *testing.T) {
	m, err := models.Load("text")
	if err != nil {
		t.Fatal(err)
	}
	texts := make([]string, 19)
	for i := range texts {
		texts[i] = []string{"a bold seven", "a thin letter, tilted left", "", "nine"}[i%4]
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		c, err := NewTextCodec(b, nn.Small, m)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.Apart = true
		all, err := c.Encode(t.Context(), texts)
		if err != nil {
			t.Fatal(err)
		}
		if want := len(texts) * c.Size(); len(all) != want {
			t.Fatalf("%d values, want %d", len(all), want)
		}
		for _, without := range []int{0, 7, 18} {
			got, err := c.Encode(t.Context(), append(append([]string(nil), texts[:without]...), texts[without+1:]...))
			if err != nil {
				t.Fatal(err)
			}
			want := append(append([]float32(nil), all[:without*c.Size()]...), all[(without+1)*c.Size():]...)
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("without text %d, value %d of text %d is %g, not %g", without, i%c.Size(), i/c.Size(), got[i], want[i])
					break
				}
			}
		}
	})
}

func encoded(t *testing.T, b compute.Backend, l nn.Lowering, m *checkpoint.Model, set *dataset.Set) []float32 {
	t.Helper()
	canvas, err := NewCanvas(m, set.Width, set.Channels)
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCodec(b, l, 1, m, canvas)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Apart = true
	values, err := c.Encode(t.Context(), set)
	if err != nil {
		t.Fatal(err)
	}
	return values
}
