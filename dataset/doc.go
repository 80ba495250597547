// Package dataset reads, checks and writes labelled images.
//
// This package sees private data. It follows three rules for it: an error names
// files, sizes and labels of the user's own data set but never pixel values or
// captions;
// nothing here computes a statistic (mean, class counts, best size) of what it
// reads; and everything written appears whole or not at all.
//
// Images are bytes, channels last: [n, height, width, channels], 0 is black.
// The readers are [Open], which looks at the path and picks one of [OpenIDX]
// (the format of MNIST), [OpenFolder] (one folder of pictures per class),
// [OpenCaptions] and [OpenParquet] (pictures with a text for each), and the formats
// of published sets ([Formats]).
// Whatever they refuse about the data itself is an [*Error], so that a command
// can tell the user's data from its own failures.
//
// The subpackages glyphs and shapes make public images of characters and of
// other things.
package dataset
