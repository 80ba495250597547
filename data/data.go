// Package data carries the images that the demo and the tests need, inside the
// binary. See the README of each folder for source and licence.
package data

import (
	"embed"
	"os"
)

//go:embed mnist-10k
var folders embed.FS

// Extract writes the folders to dir: dir/mnist-10k/train-images-idx3-ubyte.gz
// and so on. dir must not hold them yet.
func Extract(dir string) error { return os.CopyFS(dir, folders) }
