package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/scumble-dp/scumble/internal/wholefile"
	"github.com/scumble-dp/scumble/report"
)

// Names of files in a release.
const (
	ManifestFile  = "manifest.json"
	SignatureFile = "manifest.sig"
	StatementFile = "statement.json"
	WordsFile     = "statement.md"
	LedgerFile    = "ledger.jsonl"
	ConfigFile    = "config.yaml"
	SyntheticDir  = "synthetic"
)

// Kind says what a folder with a manifest holds.
type Kind string

const (
	Model   Kind = "release" // The whole release of a run.
	Dataset Kind = "dataset" // An exported data set, with the statement of its release.
)

// Manifest names every file of a folder but itself and its signature. Its
// bytes are fixed by those files and the signer: there is nothing else in it.
type Manifest struct {
	Format string        `json:"format"` // "scumble-manifest/1"
	Kind   Kind          `json:"kind"`
	Signer string        `json:"signer,omitempty"` // Public key in base64. Missing: not signed.
	Files  []report.File `json:"files"`            // Sorted by path.
}

const formatManifest = "scumble-manifest/1"

// encode returns the one way to write a manifest.
func (m *Manifest) encode() ([]byte, error) {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(data, '\n'), nil
}

// ParseManifest reads a manifest. It refuses every byte that [WriteManifest] and
// [Sign] would not have written.
func ParseManifest(data []byte) (*Manifest, error) {
	var m Manifest
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	if m.Format != formatManifest {
		return nil, fmt.Errorf("read manifest: format is %q, want %q", m.Format, formatManifest)
	}
	if m.Kind != Model && m.Kind != Dataset {
		return nil, fmt.Errorf("read manifest: kind is %q, want %q or %q", m.Kind, Model, Dataset)
	}
	for i, f := range m.Files {
		switch b, err := hex.DecodeString(f.SHA256); {
		case !fs.ValidPath(f.Path) || f.Path == "." || strings.Contains(f.Path, `\`):
			return nil, fmt.Errorf("read manifest: file %d has path %q, want one inside the folder", i, f.Path)
		case f.Path == ManifestFile || f.Path == SignatureFile:
			return nil, fmt.Errorf("read manifest: it lists %s", f.Path)
		case i > 0 && f.Path <= m.Files[i-1].Path:
			return nil, fmt.Errorf("read manifest: %q comes after %q, want paths in order", f.Path, m.Files[i-1].Path)
		case err != nil || len(b) != sha256.Size:
			return nil, fmt.Errorf("read manifest: hash of %q is not a SHA-256 in hex", f.Path)
		case f.Bytes < 0:
			return nil, fmt.Errorf("read manifest: size of %q is %d bytes", f.Path, f.Bytes)
		}
	}
	again, err := m.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, data) {
		return nil, errors.New("read manifest: it is not written as scumble writes it")
	}
	return &m, nil
}

// Files hashes every regular file below dir, but the manifest and its signature, in
// order of path. Links, devices and the like are an error: a release is made of files.
func Files(dir string) ([]report.File, error) {
	var all []report.File
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if name == ManifestFile || name == SignatureFile {
			return nil
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file, want nothing else in a release", name)
		}
		f, err := hashFile(path)
		f.Path = name
		all = append(all, f)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("hash the files of %s: %w", dir, err)
	}
	slices.SortFunc(all, func(a, b report.File) int { return strings.Compare(a.Path, b.Path) })
	return all, nil
}

func hashFile(path string) (report.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return report.File{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return report.File{SHA256: hex.EncodeToString(h.Sum(nil)), Bytes: n}, err
}

// Named returns the files that a statement names: all but the documents that are
// made from it, and the pictures of synthetic/ as one entry "synthetic/", whose
// hash is that of the lines "HASH  PATH\n" of its files, as sha256sum prints them.
func Named(files []report.File) []report.File {
	var named []report.File
	var lines bytes.Buffer
	tree := report.File{Path: SyntheticDir + "/"}
	for _, f := range files {
		switch {
		case strings.HasPrefix(f.Path, tree.Path):
			fmt.Fprintf(&lines, "%s  %s\n", f.SHA256, f.Path)
			tree.Bytes += f.Bytes
		case !madeFromStatement(f.Path):
			named = append(named, f)
		}
	}
	if lines.Len() > 0 {
		sum := sha256.Sum256(lines.Bytes())
		tree.SHA256 = hex.EncodeToString(sum[:])
		named = append(named, tree)
	}
	return named
}

func madeFromStatement(path string) bool {
	switch path {
	case StatementFile, WordsFile, "report.html", "report.md":
		return true
	}
	return false
}

// WriteManifest writes the manifest of a folder as it is now, unsigned. An
// earlier signature is removed: it was of another manifest.
func WriteManifest(dir string, kind Kind) error {
	files, err := Files(dir)
	if err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, SignatureFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("write manifest: %w", err)
	}
	m := Manifest{Format: formatManifest, Kind: kind, Files: files}
	return m.write(dir)
}

func (m *Manifest) write(dir string) error {
	data, err := m.encode()
	if err != nil {
		return err
	}
	if err := wholefile.Write(filepath.Join(dir, ManifestFile), 0o644, data); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}
