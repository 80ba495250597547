package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/checkpoint"
	"github.com/scumble-dp/scumble/models"
	"github.com/scumble-dp/scumble/parity"
)

// tried runs the command and returns its exit code and both outputs.
func tried(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, &o, &e)
	return code, o.String(), e.String()
}

func TestParityCommand(t *testing.T) {
	dir := t.TempDir()
	for _, part := range []string{"clip_text", "unet2d"} {
		if err := os.CopyFS(filepath.Join(dir, part), os.DirFS(filepath.Join("..", "..", "parity", "testdata", "small", part))); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errs := tried("parity", dir, "--backend", "go", "--json")
	var r parity.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != exitDone || !r.OK || len(r.Entries) < 5 {
		t.Fatalf("exit code %d, %v\n%s%s", code, err, out, errs)
	}
	var keys struct{ Entries []map[string]any }
	if err := json.Unmarshal([]byte(out), &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"path", "what", "max_relative_error", "tolerance", "ok"} {
		if _, ok := keys.Entries[0][key]; !ok {
			t.Errorf("an entry lacks %s", key)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "unet2d", "strange.bin"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, _ = tried("parity", dir, "--backend", "go", "--quiet")
	if code != exitVerification || !strings.Contains(out, "unet2d/strange.bin") {
		t.Errorf("with a file of another kind: exit code %d\n%s", code, out)
	}
	if code, _, _ := tried("parity", filepath.Join(dir, "none")); code != exitInvalid {
		t.Errorf("no folder: exit code %d, want %d", code, exitInvalid)
	}
}

func TestImportCommand(t *testing.T) {
	data := filepath.Join("..", "..", "compvis", "testdata")
	out := filepath.Join(t.TempDir(), "model")
	args := []string{"import", filepath.Join(data, "classes.ckpt"), "--config", filepath.Join(data, "classes.yaml"), "--out", out}
	text := runOK(t, append(args, "--classes", "cat,dog,cow", "--half", "--json")...)
	m, err := checkpoint.Load(out)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(m.Classes, ",") != "cat,dog,cow" || m.Size != 16 || !strings.Contains(text, `"parameters"`) {
		t.Errorf("model of %d pixels with classes %v; %s", m.Size, m.Classes, text)
	}
	for what, args := range map[string][]string{
		"there already": args,
		"another file":  {"import", filepath.Join(data, "make.py"), "--config", filepath.Join(data, "classes.yaml"), "--out", out + "2"},
		"no such file":  {"import", "none.ckpt", "--config", filepath.Join(data, "classes.yaml"), "--out", out + "2"},
	} {
		if code, _, _ := tried(args...); code != exitInvalid {
			t.Errorf("%s: exit code %d, want %d", what, code, exitInvalid)
		}
	}
	if code, _, _ := tried("import", "x.ckpt"); code != exitMisuse {
		t.Error("no --config is taken")
	}
}

func TestPullOffline(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HF_HOME", home)
	t.Setenv("HF_HUB_CACHE", "")
	t.Setenv("HF_ENDPOINT", "")
	t.Setenv("HF_HUB_OFFLINE", "1")
	if code, _, errs := tried("pull", "org/tiny"); code != exitInvalid || !strings.Contains(errs, "not in the cache") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	// As another program's cache has it.
	const commit = "0123456789abcdef0123456789abcdef01234567"
	root := filepath.Join(home, "hub", "models--org--tiny")
	if err := os.MkdirAll(filepath.Join(root, "refs"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "snapshots"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "refs", "main"), []byte(commit), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := models.Extract("pixel", filepath.Join(root, "snapshots", commit)); err != nil {
		t.Fatal(err)
	}
	dir := strings.TrimSpace(runOK(t, "pull", "org/tiny"))
	if _, err := checkpoint.Load(dir); err != nil {
		t.Error(err)
	}
}

func TestExportModelCommand(t *testing.T) {
	base := filepath.Join(t.TempDir(), "pixel")
	if err := models.Extract("pixel", base); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	text := runOK(t, "export", base, "--format", "diffusers", "--out", out, "--json")
	if _, err := checkpoint.Load(out); err != nil || !strings.Contains(text, "largest_difference") {
		t.Errorf("%v; %s", err, text)
	}
	if code, _, errs := tried("export", base, "--format", "kohya", "--out", out+"2"); code == exitDone || !strings.Contains(errs, "no adapter") {
		t.Errorf("kohya of a model without adapter: exit code %d, %s", code, errs)
	}
	if code, _, _ := tried("export", base, "--format", "onnx", "--out", out+"2"); code != exitMisuse {
		t.Errorf("an unknown format: exit code %d", code)
	}
	if code, _, _ := tried("sample", base, "--sampler", "magic", "--out", out+"3"); code != exitMisuse {
		t.Errorf("an unknown sampler: exit code %d", code)
	}
}
