// Package torchfile reads the tensors of files that PyTorch's torch.save wrote
// (.ckpt, .pt, .bin since version 1.6), without PyTorch and without running
// anything that the file asks for.
//
// Such a file is a zip archive: data.pkl, a program for Python's pickle machine
// that rebuilds the saved object, and the values of each storage. A pickle may call
// any function of Python; this reader has a machine of its own, which knows only how
// to build dictionaries, lists and tensors. Every other opcode, and every function
// but those that rebuild tensors, is an error that names it ([ErrRefused]).
package torchfile
