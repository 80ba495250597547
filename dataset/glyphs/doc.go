// Package glyphs draws public images of characters, so that a base model can be
// pre-trained without any private or downloaded image.
//
// Two hands draw. The font hand takes outlines of open fonts; the pen hand
// follows single-line skeletons of each character in the ways people write it
// (a 7 with and without its bar, a 2 with and without its loop), with a pen of
// varying width. Both bend, slant, stretch and place the character at random
// and frame it as MNIST does: the ink's box is about 20 of 28 pixels, and its
// centre of mass is the centre of the image.
//
// The skeletons and every range were written by hand from general knowledge of
// handwriting. None was fitted to, or chosen by looking at, a private data set.
//
// Image i is a function of the options, the seed and i alone: any part of a data
// set can be made again, on any number of goroutines. Compilers that fuse
// multiply and add (arm64, GOAMD64=v3) may round a pixel to its neighbour value.
//
// The embedded fonts are the Go fonts of golang.org/x/image/font/gofont, by
// Bigelow & Holmes, under the same BSD-style licence as the Go project.
package glyphs
