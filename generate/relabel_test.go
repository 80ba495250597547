package generate

import (
	"encoding/binary"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/dataset"
)

// Whatever a classifier says: as many images as labels, none twice, no class empty, none of a class thrown
// away while the class has places, and a label is the classifier's or the one that was drawn for.
func TestRelabelKeepsItsRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, rounds := rapid.IntRange(1, 12).Draw(t, "images"), rapid.IntRange(1, 4).Draw(t, "rounds")
		labels := rapid.SliceOfN(rapid.IntRange(0, 3), n, n).Draw(t, "labels")
		var drawn, said []int // By the number of the image, which is its two pixels.
		draw := func(wanted []int, round int) (*dataset.Set, error) {
			set := &dataset.Set{Height: 1, Width: 2, Channels: 1, Labels: slices.Clone(wanted), Classes: []string{"a", "b", "c", "d", "e"}}
			for range wanted {
				set.Pixels = binary.BigEndian.AppendUint16(set.Pixels, uint16(len(drawn)+set.Len()))
			}
			drawn = append(drawn, wanted...)
			return set, nil
		}
		classify := func(set *dataset.Set) ([]int, error) {
			now := rapid.SliceOfN(rapid.IntRange(0, 4), set.Len(), set.Len()).Draw(t, "said")
			said = append(said, now...)
			return now, nil
		}
		got, a, err := Relabel(labels, rounds, draw, classify)
		if err != nil {
			t.Fatal(err)
		}
		if got.Len() != n || len(got.Labels) != n || len(drawn) > rounds*n {
			t.Fatalf("%d images and %d labels of %d that were drawn, want %d of at most %d", got.Len(), len(got.Labels), len(drawn), n, rounds*n)
		}
		used := map[int]bool{}
		want := Agreement{Drawn: len(drawn)}
		for i, label := range got.Labels {
			k := int(binary.BigEndian.Uint16(got.Image(i)))
			if used[k] {
				t.Fatalf("image %d is there twice", k)
			}
			used[k] = true
			switch {
			case label == said[k]:
				if label != drawn[k] {
					want.Labelled++
				}
			case label != drawn[k]:
				t.Fatalf("image %d has label %d, drawn for %d and taken for %d", k, label, drawn[k], said[k])
			default:
				want.Disputed++
			}
		}
		if a != want {
			t.Fatalf("agreement is %+v, want %+v", a, want)
		}
		for c := range 5 {
			asked, has := countOf(labels, c), countOf(got.Labels, c)
			if asked > 0 && has == 0 {
				t.Fatalf("class %d is empty: asked for %v, got %v", c, labels, got.Labels)
			}
			if asked == 0 && has > 0 {
				t.Fatalf("class %d was not asked for: asked for %v, got %v", c, labels, got.Labels)
			}
			for k := range said {
				// An image that keeps an empty class may have been taken for this one.
				if has < asked && said[k] == c && !used[k] {
					t.Fatalf("image %d of class %d is thrown away, with places left: asked for %v, got %v", k, c, labels, got.Labels)
				}
			}
		}
	})
}

func countOf(labels []int, label int) (n int) {
	for _, l := range labels {
		if l == label {
			n++
		}
	}
	return n
}

// Images keep the classifier's label where it has places, are drawn again for those that are left, and
// fill what then is left.
func TestRelabel(t *testing.T) {
	labels := []int{0, 0, 1, 1}
	said := [][]int{{0, 0, 0, 0}, {0, 1}, {0}} // By round: one of class 1 in the second.
	next := byte(0)
	draw := func(wanted []int, round int) (*dataset.Set, error) {
		if round == 0 {
			next = 0
		} else if len(wanted) != len(said[round]) || slices.Contains(wanted, 0) {
			t.Fatalf("round %d draws for %v, want %d of class 1", round, wanted, len(said[round]))
		}
		set := &dataset.Set{Height: 1, Width: 1, Channels: 1, Labels: slices.Clone(wanted), Classes: []string{"a", "b"}}
		for range wanted {
			set.Pixels = append(set.Pixels, next)
			next++
		}
		return set, nil
	}
	round := 0
	got, a, err := Relabel(labels, 3, draw, func(*dataset.Set) ([]int, error) { round++; return said[round-1], nil })
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{0, 1, 5, 2}; !slices.Equal(got.Pixels, want) || !slices.Equal(got.Labels, []int{0, 0, 1, 0}) {
		t.Errorf("images are %v of classes %v, want %v of 0, 0, 1, 0", got.Pixels, got.Labels, want)
	}
	if a != (Agreement{Drawn: 7, Labelled: 1}) {
		t.Errorf("agreement is %+v, want 7 drawn, 1 labelled", a)
	}
	got, a, err = Relabel(labels, 1, draw, func(*dataset.Set) ([]int, error) { return []int{1, 1, 1, 1}, nil })
	if err != nil || a != (Agreement{Drawn: 4, Disputed: 2}) || !slices.Equal(got.Labels, labels) {
		t.Errorf("a class that the classifier never names: %+v, %+v (%v), want its images under its label", got, a, err)
	}
	if _, _, err := Relabel(labels, 1, draw, func(*dataset.Set) ([]int, error) { return []int{0}, nil }); err == nil {
		t.Error("one label for four images is taken")
	}
	broken := errors.New("broken")
	if _, _, err := Relabel(labels, 1, draw, func(*dataset.Set) ([]int, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("error is %v, want the classifier's", err)
	}
}
