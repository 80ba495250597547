// Package shapes draws public images of things that are not characters, so that
// a base model for photographs can be pre-trained without any private or
// downloaded image: silhouettes of garments, shoes and bags as a shop shows
// them, and simple shapes, symmetric figures, leaves, vessels, arrangements and
// textures.
//
// What an image shows is its class ([Classes]). Every class is a parametric
// outline (sleeves, necklines, legs, soles, heels, straps, handles) with inner
// lines (seams, plackets, buttons, pockets, laces), painted with a pattern
// (stripes, checks, prints, knits, noise), bent a little, shaded by folds and a
// light, and framed so that its longer side about fills the image, on black
// where images are grey. Edges have exact coverage.
//
// Outlines, patterns and ranges were written by hand from general knowledge of
// clothing and of product photographs. None was fitted to, or chosen by looking
// at, an image of Fashion-MNIST or of any other data set.
//
// Held draws another style: parameters at and beyond the ends of the public
// ranges, other patterns, another light, more crumple and grain. It plays the
// private data where hyperparameters are chosen.
//
// Image i is a function of the options, the seed and i alone: any part of a data
// set can be made again, on any number of goroutines. Compilers that fuse
// multiply and add (arm64, GOAMD64=v3) may round a pixel to its neighbour value.
//
// The letters of the class "letter" are those of the Go Bold font of
// golang.org/x/image/font/gofont, by Bigelow & Holmes, under the same BSD-style
// licence as the Go project.
package shapes
