package dataset

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// captionsFile lists the images of a folder with their captions, as Hugging
// Face's imagefolder has it.
const captionsFile = "metadata.jsonl"

// Bounds that keep a broken file from asking for absurd amounts of memory.
const (
	maxCaptionsFile = 1 << 30 // Bytes.
	maxCaption      = 1 << 16 // Bytes of one caption.
)

// hasCaptions reports whether a folder holds images with captions.
func hasCaptions(dir string) bool { return isFile(filepath.Join(dir, captionsFile)) }

// captioned is a line of metadata.jsonl. Other keys are passed over.
type captioned struct {
	File *string `json:"file_name"`
	Text *string `json:"text"`
}

// OpenCaptions reads a folder of images with a file metadata.jsonl that has a
// line for each: {"file_name": "0001.png", "text": "a bold seven"}. Names are
// relative to the folder. The images must be as those of [OpenFolder], and each
// image in the folder itself must have its line. The set has captions and no
// labels. No error holds a caption.
func OpenCaptions(dir string, o Options) (*Set, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, captionsFile)
	info, err := os.Stat(path)
	if err != nil {
		return nil, openError(path, err)
	}
	if info.Size() > maxCaptionsFile {
		return nil, invalid(path, "", "the file has %d bytes, want at most %d", info.Size(), maxCaptionsFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, openError(path, err)
	}
	names, texts, bad := parseCaptions(data)
	if bad != nil {
		bad.Path = path
		return nil, bad
	}
	if err := checkListed(dir, names); err != nil {
		return nil, err
	}
	b := builder{Set: &Set{Channels: o.Channels}, size: o.Size}
	for i, name := range names {
		image := filepath.Join(dir, filepath.FromSlash(name))
		if _, err := os.Stat(image); errors.Is(err, fs.ErrNotExist) {
			return nil, invalid(image, "names in metadata.jsonl are relative to its own folder", "no such image, though line %d names it", i+1)
		}
		if err := b.add(image, 0); err != nil {
			return nil, err
		}
	}
	b.Labels, b.Captions = nil, texts
	return b.Set, nil
}

// parseCaptions reads metadata.jsonl. Empty lines are passed over. Its errors
// name lines by their number only.
func parseCaptions(data []byte) (names, texts []string, bad *Error) {
	seen := map[string]bool{}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		var c captioned
		if err := json.Unmarshal(line, &c); err != nil { // Whose words may hold contents.
			return nil, nil, invalid("", "write one JSON object per line, with file_name and text", "line %d is not a JSON object with two strings", number)
		}
		switch {
		case c.File == nil || c.Text == nil:
			return nil, nil, invalid("", "each line needs both", "line %d has no file_name or no text", number)
		case !filepath.IsLocal(filepath.FromSlash(*c.File)) || strings.ContainsAny(*c.File, "\\\x00"):
			return nil, nil, invalid("", "names are relative to the folder of the file", "line %d names a file outside the folder", number)
		case len(*c.Text) > maxCaption:
			return nil, nil, invalid("", "shorten it: encoders cut texts after some dozens of words", "the text of line %d has %d bytes, want at most %d", number, len(*c.Text), maxCaption)
		}
		clean := filepath.ToSlash(filepath.Clean(filepath.FromSlash(*c.File)))
		if seen[clean] {
			return nil, nil, invalid("", "give each image one line", "line %d names an image that an earlier line names", number)
		}
		seen[clean] = true
		names, texts = append(names, clean), append(texts, strings.ToValidUTF8(*c.Text, "\ufffd"))
	}
	if len(names) == 0 {
		return nil, nil, invalid("", "", "no images, want at least one")
	}
	return names, texts, nil
}

// checkListed refuses an image in the folder that has no line: half of a set
// would be left out without a word.
func checkListed(dir string, names []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return openError(dir, err)
	}
	listed := map[string]bool{}
	for _, name := range names {
		listed[name] = true
	}
	for _, e := range entries {
		if e.IsDir() || passedOver(e.Name()) || listed[e.Name()] || !slices.Contains(imageEndings, strings.ToLower(filepath.Ext(e.Name()))) {
			continue
		}
		return invalid(filepath.Join(dir, e.Name()), "give it a line, or move it away", "the image has no line in %s", captionsFile)
	}
	return nil
}

// WriteCaptions writes the captioned images as dir/000001.png and so on, with
// their captions in metadata.jsonl. The folder must not exist; it appears when
// all is written. The captions are written as they are: for images made from
// public prompts, and for sets that stay where they are.
func WriteCaptions(dir string, s *Set) error {
	if err := s.Check(); err != nil {
		return err
	}
	if s.Captions == nil {
		return fmt.Errorf("write %s: the images have no captions: %w", dir, ErrInvalid)
	}
	return writeWhole(dir, func(temp string) error {
		var lines bytes.Buffer
		encoder := json.NewEncoder(&lines)
		encoder.SetEscapeHTML(false)
		for i, text := range s.Captions {
			name := fmt.Sprintf("%06d.png", i+1)
			if err := s.writeImage(filepath.Join(temp, name), i); err != nil {
				return err
			}
			if err := encoder.Encode(captioned{File: &name, Text: &text}); err != nil {
				return err
			}
		}
		return os.WriteFile(filepath.Join(temp, captionsFile), lines.Bytes(), 0o644)
	})
}
