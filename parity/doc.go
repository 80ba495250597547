// Package parity compares this implementation with recorded inputs and outputs of
// others: diffusers' models, schedulers and adapters, transformers' text encoders,
// and per-example gradients. It walks a folder of such records and says how far
// each is off.
//
// It knows a record by what is in it, not by its name, and takes every shape and
// setting from the files. What it does not know is an entry with an error: nothing
// is passed over in silence.
//
// Records are public; this package must not be given private data.
package parity
