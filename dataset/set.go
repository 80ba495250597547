package dataset

// Set is a list of images of one size, with or without labels.
type Set struct {
	Height, Width int // Pixels.
	Channels      int // 1 (grey) or 3 (red, green, blue).

	// Pixels holds [n, height, width, channels] bytes, 0 (black) to 255.
	Pixels []byte

	// Labels holds [n] indices into Classes; nil where the images have no labels.
	Labels []int

	// Classes names the classes; nil where the images have no labels.
	Classes []string

	// Captions holds a text for each image, [n]; nil where the images have none.
	// Private ones never leave the set: no error, log or release holds one.
	Captions []string
}

// ImageSize returns the number of bytes of one image, height·width·channels.
func (s *Set) ImageSize() int { return s.Height * s.Width * s.Channels }

// Len returns the number of images. A Set whose images have no bytes has none.
func (s *Set) Len() int {
	size := s.ImageSize()
	if size <= 0 {
		return 0
	}
	return len(s.Pixels) / size
}

// Image returns the [height, width, channels] bytes of image i. It is a view:
// writing to it changes the set.
func (s *Set) Image(i int) []byte {
	size := s.ImageSize()
	return s.Pixels[i*size : (i+1)*size : (i+1)*size]
}

// Subset returns a copy of the images at the indices, in their order; an index
// may occur more than once. It shares Classes with s. It panics, as indexing
// does, when an index is outside [0, Len).
func (s *Set) Subset(indices []int) *Set {
	size := s.ImageSize()
	out := &Set{Height: s.Height, Width: s.Width, Channels: s.Channels, Classes: s.Classes}
	out.Pixels = make([]byte, 0, len(indices)*size)
	if s.Labels != nil {
		out.Labels = make([]int, 0, len(indices))
	}
	if s.Captions != nil {
		out.Captions = make([]string, 0, len(indices))
	}
	for _, i := range indices {
		out.Pixels = append(out.Pixels, s.Image(i)...)
		if s.Labels != nil {
			out.Labels = append(out.Labels, s.Labels[i])
		}
		if s.Captions != nil {
			out.Captions = append(out.Captions, s.Captions[i])
		}
	}
	return out
}
