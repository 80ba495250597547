package backend

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// maxLibraryBytes bounds what Install unpacks from a file whose contents are not
// pinned; the largest plugin known, CUDA's, has 0.4 GiB.
const maxLibraryBytes = 2 << 30

// InstallOptions says how far Install may trust its source.
type InstallOptions struct {
	// SHA256 is the digest of the source in 64 hexadecimal digits, taken from where
	// its publisher states it. Required for a source that is not pinned; for a pinned
	// one it is checked too. Empty means that only pinned sources are taken.
	SHA256 string
}

// Install puts the XLA plugin from a local file into the user's data folder, where
// [Open] and [List] find it: $XDG_DATA_HOME/scumble/pjrt, or
// ~/.local/share/scumble/pjrt. It downloads nothing. The pinned wheel of the allocator
// goes the same way, for [UseAllocator].
//
// The source is a Python wheel, GoMLX's archive (.tar.gz or .zip) or the library
// itself. Its SHA-256 digest is compared with the table of pinned builds, or with
// InstallOptions.SHA256, before any of it is unpacked. One library is taken out of
// an archive, checked again, and moved into place together with a file
// provenance.json; whatever fails leaves nothing behind. Installing the same file
// twice changes nothing. A plugin for a card that this machine lacks is installed
// too: then Info.Available is false and Info.Reason says so.
func Install(source string, o InstallOptions) (Info, error) {
	info, err := install(source, o, pinned, dataFolder())
	if err != nil {
		return Info{}, fmt.Errorf("install backend from %s: %w", source, err)
	}
	return info, nil
}

func install(source string, o InstallOptions, pins []artifact, folder string) (Info, error) {
	if folder == "" {
		return Info{}, errors.New("no home folder is set; set XDG_DATA_HOME to an absolute path")
	}
	f, err := os.Open(source)
	if err != nil {
		return Info{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Info{}, err
	}
	if !st.Mode().IsRegular() {
		return Info{}, errors.New("not a regular file; want a wheel, GoMLX's archive or a PJRT plugin")
	}
	digest, err := digestOf(f)
	if err != nil {
		return Info{}, err
	}
	plan, err := trust(filepath.Base(source), st.Size(), digest, o, pins)
	if err != nil {
		return Info{}, err
	}
	lib, err := openLibrary(f, st.Size(), filepath.Base(source), plan.Member)
	if err != nil {
		return Info{}, err
	}
	defer lib.Close()
	if plan.Platform == "" {
		plan.Platform = platformOf(lib.name)
	}
	return place(lib, plan, folder)
}

// trust decides whether a source with this digest may be unpacked, and returns what
// it must contain.
func trust(name string, size int64, digest string, o InstallOptions, pins []artifact) (provenance, error) {
	asked := strings.ToLower(strings.TrimSpace(o.SHA256))
	if asked != "" {
		if raw, err := hex.DecodeString(asked); err != nil || len(raw) != sha256.Size {
			return provenance{}, fmt.Errorf("sha256 is %q, want %d hexadecimal digits", o.SHA256, 2*sha256.Size)
		}
		if asked != digest {
			return provenance{}, fmt.Errorf("its sha256 is %s, want %s; the file is damaged or another one, fetch it again", digest, asked)
		}
	}
	p := provenance{Source: name, SourceBytes: size, SourceSHA256: digest}
	for _, a := range pins {
		switch {
		case a.SHA256 == digest && (a.OS != runtime.GOOS || a.Arch != runtime.GOARCH):
			return provenance{}, fmt.Errorf("it is built for %s/%s, this machine is %s/%s", a.OS, a.Arch, runtime.GOOS, runtime.GOARCH)
		case a.SHA256 == digest && a.Size == size:
			p.Pinned, p.Project, p.Version, p.License = true, a.Project, a.Version, a.License
			p.Platform, p.Member = a.Platform, a.Member
			p.LibraryBytes, p.LibrarySHA256 = a.MemberSize, a.MemberSHA256
			return p, nil
		case asked == "" && a.File == name:
			return provenance{}, fmt.Errorf("its sha256 is %s (%d bytes), but %s %s has %s (%d bytes); the file is damaged or altered, fetch it again",
				digest, size, a.Project, a.Version, a.SHA256, a.Size)
		}
	}
	if asked == "" {
		return provenance{}, fmt.Errorf("it is not a build that scumble knows (its sha256 is %s); a plugin runs with your rights: compare with the digest that its publisher states and pass that with --sha256", digest)
	}
	return p, nil
}

// place writes the library and its provenance into a folder of their own, named by
// the content, in one rename.
func place(lib *library, p provenance, folder string) (Info, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return Info{}, err
	}
	tmp, err := os.MkdirTemp(folder, ".installing-")
	if err != nil {
		return Info{}, err
	}
	defer os.RemoveAll(tmp)

	staged := filepath.Join(tmp, "plugin")
	if err := os.Mkdir(staged, 0o755); err != nil {
		return Info{}, err
	}
	path := filepath.Join(staged, libraryName(p.Platform))
	export, look := pjrtSymbol, inspect
	if p.Platform == allocatorPlatform {
		export, look = allocatorSymbol, inspectAllocator
	}
	if err := writeLibrary(path, lib, &p); err != nil {
		return Info{}, err
	}
	if err := checkLibrary(path, export); err != nil {
		return Info{}, fmt.Errorf("%s: %w", lib.name, err)
	}
	p.InstalledAt = time.Now().UTC().Truncate(time.Second)
	if err := writeProvenance(staged, p); err != nil {
		return Info{}, err
	}

	final := filepath.Join(folder, p.Platform+"-"+p.LibrarySHA256[:16])
	installed := filepath.Join(final, libraryName(p.Platform))
	same, _ := digestOfFile(installed)
	if _, err := readProvenance(installed); err != nil || same != p.LibrarySHA256 {
		// Nothing there, or something damaged, which moves out of the way.
		if err := os.Rename(final, filepath.Join(tmp, "old")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return Info{}, err
		}
		if err := os.Rename(staged, final); err != nil {
			return Info{}, err
		}
		if err := syncFolder(folder); err != nil {
			return Info{}, err
		}
	}
	return look(installed), nil
}

// writeLibrary copies the library to path and checks it against p, or fills in p
// where the contents are not pinned.
func writeLibrary(path string, lib *library, p *provenance) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer out.Close() // Closed again below; this one is for the early returns.
	limit := int64(maxLibraryBytes)
	if p.Pinned {
		limit = p.LibraryBytes
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), io.LimitReader(lib, limit+1))
	if err != nil {
		return fmt.Errorf("unpack %s: %w", lib.name, err)
	}
	if n > limit {
		return fmt.Errorf("unpack %s: it has more than %d bytes", lib.name, limit)
	}
	digest := hex.EncodeToString(h.Sum(nil))
	if p.Pinned && (n != p.LibraryBytes || digest != p.LibrarySHA256) {
		return fmt.Errorf("%s has sha256 %s (%d bytes), want %s (%d bytes)", lib.name, digest, n, p.LibrarySHA256, p.LibraryBytes)
	}
	p.Member, p.LibraryBytes, p.LibrarySHA256 = lib.name, n, digest
	return errors.Join(out.Sync(), out.Close())
}

// libraryName is the file name of an installed library. GoMLX guesses the platform
// of a plugin from the path, so it must say it.
func libraryName(platform string) string {
	if platform == allocatorPlatform {
		return allocatorName
	}
	ext := ".so"
	switch runtime.GOOS {
	case "darwin":
		ext = ".dylib"
	case "windows":
		ext = ".dll"
	}
	return "pjrt_c_api_" + platform + "_plugin" + ext
}

// provenance records where an installed plugin came from. It lies beside the
// library as provenance.json.
type provenance struct {
	Platform      string    `json:"platform"`
	Project       string    `json:"project,omitempty"`
	Version       string    `json:"version,omitempty"`
	License       string    `json:"license,omitempty"`
	Pinned        bool      `json:"pinned"` // Known to scumble; else the user gave the digest.
	Source        string    `json:"source"` // File name, without its folder.
	SourceBytes   int64     `json:"source_bytes"`
	SourceSHA256  string    `json:"source_sha256"`
	Member        string    `json:"member"`
	LibraryBytes  int64     `json:"library_bytes"`
	LibrarySHA256 string    `json:"library_sha256"`
	InstalledAt   time.Time `json:"installed_at"`
}

const provenanceFile = "provenance.json"

func (p provenance) origin() string {
	if p.Project != "" {
		return p.Project + " " + p.Version
	}
	return p.Source
}

func writeProvenance(folder string, p provenance) error {
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, provenanceFile), append(text, '\n'), 0o644)
}

// readProvenance returns the record beside a library.
func readProvenance(path string) (provenance, error) {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(path), provenanceFile))
	if err != nil {
		return provenance{}, err
	}
	var p provenance
	return p, json.Unmarshal(text, &p)
}

// installedFolders returns the folders that place made, last installed first.
func installedFolders(folder string) []string {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil
	}
	type dated struct {
		path string
		at   time.Time
	}
	var found []dated
	for _, e := range entries {
		path := filepath.Join(folder, e.Name())
		p, err := readProvenance(filepath.Join(path, provenanceFile))
		if err != nil || strings.HasPrefix(e.Name(), ".") { // A dot: an installation under way or cut off.
			continue
		}
		found = append(found, dated{path, p.InstalledAt})
	}
	slices.SortStableFunc(found, func(a, b dated) int { return b.at.Compare(a.at) })
	paths := make([]string, len(found))
	for i, d := range found {
		paths[i] = d.path
	}
	return paths
}

func digestOf(r io.ReadSeeker) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	_, err := r.Seek(0, io.SeekStart)
	return hex.EncodeToString(h.Sum(nil)), err
}

func digestOfFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return digestOf(f)
}

// syncFolder makes a rename in folder survive a power cut, where the system can.
func syncFolder(folder string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
