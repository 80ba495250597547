package models

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The bundled models load, have a card that says how to remake them, are
// small, and know the demo's classes.
func TestBundledModels(t *testing.T) {
	for _, name := range Names() {
		t.Run(name, func(t *testing.T) {
			m, err := Load(name)
			if err != nil {
				t.Fatal(err)
			}
			channels, size := 1, 28
			if name == "colour" {
				channels, size = 3, 32
			}
			if m.Channels != channels || m.Size != size {
				t.Errorf("model has %d channels and %d pixels", m.Channels, m.Size)
			}
			if (name == "text") != (m.TextEncoder != nil) {
				t.Errorf("model takes text: %t", m.TextEncoder != nil)
			}
			classes, eighth := 36, "7"
			if strings.HasPrefix(name, "shapes") {
				classes, eighth = 20, "sneaker"
			}
			if m.TextEncoder == nil && (len(m.Classes) != classes || m.Classes[7] != eighth) {
				t.Errorf("model has classes %v", m.Classes)
			}
			if strings.HasSuffix(name, "pixel") == (m.Autoencoder != nil) {
				t.Errorf("model has an autoencoder: %t", m.Autoencoder != nil)
			}
			if m.Card == "" || m.Info["recipe"] == "" || m.Info["public_data"] == "" {
				t.Error("model lacks its card, recipe or provenance")
			}
			dir := filepath.Join(t.TempDir(), "model")
			if err := Extract(name, dir); err != nil {
				t.Fatal(err)
			}
			var bytes int64
			if err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				info, err := d.Info()
				bytes += info.Size()
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if bytes > 8<<20 {
				t.Errorf("model takes %d bytes, want at most 8 MiB", bytes)
			}
		})
	}
	if _, err := Load("nothing"); err == nil {
		t.Error("a model that is not bundled loaded")
	}
	if _, err := os.Stat("latent/README.md"); err != nil {
		t.Error(err)
	}
}

// Folders of diffusers ship the Python that draws from them: each bundled model has
// the files that saving a model would write today.
func TestPythonIsThatOfCheckpoint(t *testing.T) {
	for _, name := range Names() {
		for _, file := range []string{"pipeline.py", "class_embedder/class_embedder.py"} {
			got, err := os.ReadFile(filepath.Join(name, filepath.FromSlash(file)))
			if os.IsNotExist(err) && file != "pipeline.py" { // Of models with a class table of their own.
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join("..", "checkpoint", filepath.Base(file)))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("%s/%s differs from checkpoint/%s; copy it again", name, file, filepath.Base(file))
			}
		}
	}
}
