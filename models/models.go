// Package models holds the public base models that scumble carries, as
// diffusers folders inside the binary. Their cards say what they were trained on
// and how to remake them. It sees no private data.
package models

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/scumble-dp/scumble/checkpoint"
)

//go:embed latent pixel colour text shapes shapes-pixel
var folders embed.FS

// Names returns the names of the bundled models: "latent" is the base of
// DP-LDM, "pixel" that of DP-LoDA, "colour" a base of DP-LDM for colour images,
// "text" one for images with captions, "shapes" one of DP-LDM for grey photographs of
// things, "shapes-pixel" one for the same without an autoencoder.
func Names() []string { return []string{"latent", "pixel", "colour", "text", "shapes", "shapes-pixel"} }

// Bundled reports whether name is that of a bundled model.
func Bundled(name string) bool { return slices.Contains(Names(), name) }

// Load reads a bundled model.
func Load(name string) (*checkpoint.Model, error) {
	dir, err := os.MkdirTemp("", "scumble-model-*")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := Extract(name, filepath.Join(dir, name)); err != nil {
		return nil, err
	}
	return checkpoint.Load(filepath.Join(dir, name))
}

// Extract writes a bundled model's folder to dir, which must not exist.
func Extract(name, dir string) error {
	if !Bundled(name) {
		return fmt.Errorf("no bundled model %q, want one of %v", name, Names())
	}
	sub, err := fs.Sub(folders, name)
	if err != nil {
		return err
	}
	if err := os.CopyFS(dir, sub); err != nil {
		return fmt.Errorf("extract model %q: %w", name, err)
	}
	return nil
}
