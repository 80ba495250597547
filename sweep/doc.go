// Package sweep says what settings of a run are tried on public images that play
// the private ones, and what came of them. Hyperparameters that were chosen on private
// images are a function of them that no ledger holds; chosen on a stand-in they cost
// nothing.
//
// A sweep is a file. Each of its rows is the config of a run with some keys set; each
// is run as often as it says, with new noise every time, and scored by a classifier that
// is trained on its synthetic images and tested on other images of the stand-in.
package sweep
