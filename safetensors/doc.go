// Package safetensors reads and writes the safetensors file format
// (https://github.com/huggingface/safetensors), and nothing above it: names,
// element types, shapes and bytes.
//
// A file is a little-endian uint64 N, a JSON header of N bytes, and the values:
//
//	{"__metadata__": {"format": "pt"},
//	 "conv_in.weight": {"dtype": "F32", "shape": [32, 1, 3, 3], "data_offsets": [0, 1152]}, …}
//
// Offsets count from the end of the header. The reader takes no file on trust:
// tensors must fill the values without overlap or hole, each as long as its
// shape and type say. A broken file gives [ErrBroken]; a sound one with an
// element type that we lack gives [ErrUnsupported].
package safetensors
