package dataset

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

const secret = "quetzalcoatl"

// captionedSet has n images and captions.
func captionedSet(n int) *Set {
	s := &Set{Height: 28, Width: 28, Channels: 1, Pixels: make([]byte, n*28*28)}
	for i := range s.Pixels {
		s.Pixels[i] = byte(i * 7)
	}
	for range n {
		s.Captions = append(s.Captions, secret+" \"quoted\" <b> 日本 \\ \u2028")
	}
	return s
}

func TestCaptionsRoundTrip(t *testing.T) {
	want := captionedSet(5)
	dir := filepath.Join(t.TempDir(), "set")
	if err := WriteCaptions(dir, want); err != nil {
		t.Fatal(err)
	}
	got, err := Open(dir, Options{Size: 28, Channels: 1})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Pixels, want.Pixels) || !slices.Equal(got.Captions, want.Captions) || got.Labels != nil || got.Classes != nil {
		t.Errorf("read %d images with captions %q, labels %v", got.Len(), got.Captions, got.Labels)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
	part := got.Subset([]int{3, 1})
	if len(part.Captions) != 2 || part.Len() != 2 {
		t.Errorf("a part has %d captions of %d images", len(part.Captions), part.Len())
	}
	if err := WriteCaptions(dir, want); err == nil {
		t.Error("a folder that exists is overwritten")
	}
	got.Captions = got.Captions[1:]
	if err := got.Check(); !errors.Is(err, ErrInvalid) {
		t.Errorf("a caption less: %v", err)
	}
}

func TestCaptionsRefuse(t *testing.T) {
	line := func(file, text string) string { return `{"file_name": "` + file + `", "text": "` + text + `"}` + "\n" }
	good := line("000001.png", secret) + line("000002.png", secret)
	for name, tc := range map[string]struct{ list, want string }{
		"not JSON":     {secret + "\n", "line 1 is not a JSON object"},
		"number":       {`{"file_name": "000001.png", "text": 1, "x": "` + secret + `"}`, "line 1 is not a JSON object"},
		"no text":      {`{"file_name": "000001.png", "caption": "` + secret + `"}`, "line 1 has no file_name or no text"},
		"null text":    {`{"file_name": "000001.png", "text": null}`, "no text"},
		"outside":      {line("../000001.png", secret), "outside the folder"},
		"absolute":     {line("/000001.png", secret), "outside the folder"},
		"twice":        {good + line("./000001.png", secret), "line 3 names an image that an earlier line names"},
		"missing":      {good + line("none.png", secret), "no such image, though line 3 names it"},
		"unlisted":     {line("000001.png", secret), "no line in metadata.jsonl"},
		"empty":        {"\n\n", "no images"},
		"long caption": {line("000001.png", strings.Repeat(secret, 6000)), "bytes, want at most"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "set")
			if err := WriteCaptions(dir, captionedSet(2)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, captionsFile), []byte(tc.list), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir, Options{})
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want one with %q", err, tc.want)
			}
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("error holds a caption: %v", err)
			}
		})
	}
}

// Captions are part of what a ledger knows a data set by; sets without them keep
// the fingerprints that they had.
func TestFingerprintCountsCaptions(t *testing.T) {
	key := []byte("key")
	rapid.Check(t, func(t *rapid.T) {
		s := captionedSet(3)
		for i := range s.Captions {
			s.Captions[i] = rapid.StringN(0, 8, -1).Draw(t, "caption")
		}
		all := s.Fingerprint(key)
		if again := s.Subset([]int{2, 0, 1}).Fingerprint(key); again != all {
			t.Fatal("the order counts")
		}
		i := rapid.IntRange(0, 2).Draw(t, "image")
		s.Captions[i] += "x"
		if s.Fingerprint(key) == all {
			t.Fatal("a caption does not count")
		}
		s.Captions = nil
		if s.Fingerprint(key) == all {
			t.Fatal("captions do not count")
		}
	})
}

func FuzzParseCaptions(f *testing.F) {
	f.Add([]byte(`{"file_name": "a.png", "text": "a \ud800 b"}` + "\n\n" + `{"file_name": "b/c.png", "text": "", "label": 3}`))
	f.Add([]byte("{\"file_name\": \"\xff\", \"text\": \"\xff\"}\r\n"))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var names, texts []string
		var bad *Error
		parsebound.Check(t, len(data), func() { names, texts, bad = parseCaptions(data) })
		if bad != nil {
			return
		}
		if len(names) != len(texts) || len(names) == 0 {
			t.Fatalf("%d names, %d texts", len(names), len(texts))
		}
		for _, name := range names {
			if !filepath.IsLocal(filepath.FromSlash(name)) {
				t.Fatalf("name %q leads out of the folder", name)
			}
		}
	})
}
