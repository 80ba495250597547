// Package eval turns images into numbers: so far the accuracy of a classifier
// trained on one set of images and scored on another.
//
// This package sees private data when it is given private images. Numbers
// computed from them are not covered by the privacy claim; the caller keeps
// them in a run's private folder.
package eval
