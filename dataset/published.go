package dataset

import (
	"os"
	"slices"
	"strconv"
)

// Names that were published with the data.
var (
	digitNames    = []string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}
	fashionNames  = []string{"t-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"}
	cifar10Names  = []string{"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}
	camelyonNames = []string{"normal", "tumor"}
)

// maxPublished bounds most files that are read whole, in bytes: over five times the
// largest of the kinds that are.
const maxPublished = 1 << 30

// readPublished checks a file against what was published under its name and reads
// it, if it has at most limit bytes.
func (o Options) readPublished(path string, format Format, limit int64) ([]byte, error) {
	if err := o.verify(path, format); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if info.Size() > limit {
		return nil, invalid(path, "the file is of another kind", "%d bytes, want at most %d", info.Size(), limit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, openError(path, err)
	}
	return data, nil
}

// array is what a file of images and labels holds.
type array struct {
	height, width, channels int
	pixels                  []byte // [n, height, width, channels]
	labels                  []int
}

// namesFor returns the names that labels have as they are stored: those of the
// run, as many and in the same order, or the published ones, which the run may
// also give in another order; see order.
func (o Options) namesFor(path string, published []string) ([]string, error) {
	if o.Classes == nil || o.reorders(published) {
		return published, nil
	}
	if len(o.Classes) != len(published) {
		return nil, invalid(path, "name them all in the order of the labels, or leave the names out to take the published ones",
			"%d class names, but the format has %d classes", len(o.Classes), len(published))
	}
	return o.Classes, nil
}

// reorders says whether the run names the published classes, in any order.
func (o Options) reorders(published []string) bool {
	return o.Classes != nil && slices.Equal(slices.Sorted(slices.Values(o.Classes)), slices.Sorted(slices.Values(published)))
}

// order gives the classes the order of the run, where it names them in another
// than the published one: a class folder's order is that of the alphabet.
func (s *Set) order(o Options) {
	if !o.reorders(s.Classes) {
		return
	}
	for i, l := range s.Labels {
		s.Labels[i] = slices.Index(o.Classes, s.Classes[l])
	}
	s.Classes = slices.Clone(o.Classes)
}

// set makes a Set of an array, as the options want it.
func (a *array) set(path string, published []string, o Options) (*Set, error) {
	names, err := o.namesFor(path, published)
	if err != nil {
		return nil, err
	}
	s := &Set{Height: a.height, Width: a.width, Channels: a.channels, Pixels: a.pixels, Labels: a.labels, Classes: slices.Clone(names)}
	if s.Len() == 0 {
		return nil, invalid(path, "", "no images, want at least one")
	}
	if len(s.Labels) != s.Len() {
		return nil, invalid(path, "the file was cut or is of another kind", "%d labels for %d images, want as many", len(s.Labels), s.Len())
	}
	if bad := checkSize(path, s.Width, s.Height, o.Size, "the size asked for"); bad != nil {
		bad.Next = "ask for the size that the images have (data.size: " + strconv.Itoa(s.Width) + "), with a base model of that size"
		return nil, bad
	}
	if i := slices.IndexFunc(s.Labels, func(l int) bool { return l < 0 || l >= len(names) }); i >= 0 {
		return nil, invalid(path, "the file is damaged or of another kind", "label %d of image %d is out of range, want 0 to %d", s.Labels[i], i, len(names)-1)
	}
	if o.Channels != 0 && o.Channels != s.Channels {
		s = s.convert(o.Channels)
	}
	if !o.AllowEmpty {
		if err := s.checkFull(path); err != nil {
			return nil, err
		}
	}
	s.order(o)
	return s, nil
}

// interleave turns planes, [channels, height, width], into [height, width,
// channels], and appends it.
func interleave(dst, planes []byte, channels int) []byte {
	n := len(planes) / channels
	for i := range n {
		for c := range channels {
			dst = append(dst, planes[c*n+i])
		}
	}
	return dst
}
