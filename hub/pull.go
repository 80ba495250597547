package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/gomlx/go-huggingface/hub"

	"github.com/scumble-dp/scumble/internal/wholefile"
)

// ErrNotCached is matched by the error of a model that is not in the cache, where
// only the cache may be used.
var ErrNotCached = errors.New("not in the cache")

// Snapshot is a model at one commit, in the cache.
type Snapshot struct {
	Model  string   `json:"model"`
	Commit string   `json:"commit"`
	Dir    string   `json:"dir"` // A model folder.
	Files  []string `json:"files"`
	Bytes  int64    `json:"bytes"`
	Cached bool     `json:"cached"` // No network was used.
}

var (
	modelName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}(/[A-Za-z0-9][A-Za-z0-9._-]{0,95})?$`)
	revisions = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$`)
	commits   = regexp.MustCompile(`^[0-9a-f]{40}$`)
)

// Pull brings a model folder into the cache and returns where it is. revision is
// a branch, tag or commit; "" means main. Of a repository it takes what a model
// folder needs: configurations, tokenizers, safetensors, cards and licences.
func Pull(ctx context.Context, s *Settings, model, revision string) (*Snapshot, error) {
	if !modelName.MatchString(model) || strings.Contains(model, "..") || strings.Contains(model, "--") {
		return nil, fmt.Errorf("model is %q, want ORGANISATION/NAME", model)
	}
	if revision == "" {
		revision = "main"
	}
	if !revisions.MatchString(revision) || strings.Contains(revision, "..") {
		return nil, fmt.Errorf("revision is %q, want a branch, tag or commit", revision)
	}
	root := filepath.Join(s.Cache, "models--"+strings.ReplaceAll(model, "/", "--"))
	if s.Offline {
		return cached(root, model, revision)
	}
	if commits.MatchString(revision) { // A commit never changes.
		if snapshot, err := cached(root, model, revision); err == nil {
			return snapshot, nil
		}
	}
	return s.fetch(ctx, root, model, revision)
}

// cached returns a snapshot without network: one that Pull made, or another
// program.
func cached(root, model, revision string) (*Snapshot, error) {
	commit := revision
	if !commits.MatchString(revision) {
		data, err := os.ReadFile(filepath.Join(root, "refs", filepath.FromSlash(revision)))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("model %s at %s: %w; pull it where HF_HUB_OFFLINE is not set, or copy the cache here", model, revision, ErrNotCached)
		}
		if err != nil {
			return nil, err
		}
		if commit, err = parseRef(data); err != nil {
			return nil, fmt.Errorf("cache of %s at %s: %w; remove that file", model, revision, err)
		}
	}
	dir := filepath.Join(root, "snapshots", commit)
	if _, err := os.Stat(filepath.Join(dir, "model_index.json")); err != nil {
		return nil, fmt.Errorf("model %s at %s: %w (no model_index.json in it); pull it where HF_HUB_OFFLINE is not set", model, commit, ErrNotCached)
	}
	return list(dir, model, commit, true)
}

// parseRef returns the commit that a file in refs/ names.
func parseRef(data []byte) (string, error) {
	commit := strings.TrimSpace(string(data[:min(len(data), 80)]))
	if len(data) > 80 || !commits.MatchString(commit) {
		return "", fmt.Errorf("it names commit %q, want 40 hexadecimal digits", commit)
	}
	return commit, nil
}

// list describes a snapshot.
func list(dir, model, commit string, fromCache bool) (*Snapshot, error) {
	s := &Snapshot{Model: model, Commit: commit, Dir: dir, Cached: fromCache, Files: []string{}}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := os.Stat(p) // Through the link.
		if err != nil {
			return fmt.Errorf("cache is broken: %w; remove %s and pull again", err, dir)
		}
		name, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		s.Files, s.Bytes = append(s.Files, filepath.ToSlash(name)), s.Bytes+info.Size()
		return nil
	})
	return s, err
}

// fetch asks the hub.
func (s *Settings) fetch(ctx context.Context, root, model, revision string) (*Snapshot, error) {
	open := func(revision string) *hub.Repo {
		r := hub.New(model).WithEndpoint(s.Endpoint).WithCacheDir(s.Cache).WithAuth(s.Token).WithRevision(revision).WithProgressBar(false)
		r.Verbosity = 0 // It would write to standard output.
		return r
	}
	r := open(revision)
	if err := r.DownloadInfo(true); err != nil {
		return nil, fmt.Errorf("model %s at %s: ask %s: %w", model, revision, s.Endpoint, err)
	}
	commit := r.Info().CommitHash
	if !commits.MatchString(commit) {
		return nil, fmt.Errorf("model %s at %s: the hub gives commit %q, want 40 hexadecimal digits", model, revision, commit)
	}
	if commits.MatchString(revision) && commit != revision {
		return nil, fmt.Errorf("model %s: the hub gives commit %s for %s", model, commit, revision)
	}
	r = open(commit) // From here on nothing can move.
	if err := r.DownloadInfo(true); err != nil {
		return nil, fmt.Errorf("model %s at %s: ask %s: %w", model, commit, s.Endpoint, err)
	}
	var names []string
	infos := map[string]*hub.FileInfo{}
	for info, err := range r.IterFileInfos() {
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", model, err)
		}
		if !filepath.IsLocal(info.Name) || strings.ContainsAny(info.Name, `\:`) || path.Clean(info.Name) != info.Name {
			return nil, fmt.Errorf("model %s has a file named %q, want a path inside of it", model, info.Name)
		}
		names = append(names, info.Name)
		infos[info.Name] = info
	}
	if names = wanted(names); !slices.Contains(names, "model_index.json") {
		return nil, fmt.Errorf("model %s has no model_index.json, want a folder of diffusers; import a checkpoint of CompVis with scumble import", model)
	}
	if _, err := r.DownloadFilesCtx(ctx, names...); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("model %s: %w", model, err)
	}
	dir := filepath.Join(root, "snapshots", commit)
	for _, name := range names {
		if err := check(filepath.Join(dir, filepath.FromSlash(name)), infos[name]); err != nil {
			return nil, fmt.Errorf("model %s: %s: %w", model, name, err)
		}
	}
	if !commits.MatchString(revision) {
		ref := filepath.Join(root, "refs", filepath.FromSlash(revision))
		if err := os.MkdirAll(filepath.Dir(ref), 0o755); err != nil {
			return nil, err
		}
		if err := wholefile.Write(ref, 0o644, []byte(commit)); err != nil {
			return nil, err
		}
	}
	return list(dir, model, commit, false)
}

// Kinds of files that a model folder of ours has a use for.
var (
	useful  = []string{".json", ".txt", ".safetensors", ".md", ".model"}
	licence = regexp.MustCompile(`(?i)^(license|licence|notice)`)
	variant = regexp.MustCompile(`\.(fp16|bf16|non_ema|ema|int8|fp8)\.`)
)

// wanted picks the files of a model folder: no pickles, no other frameworks, no
// single files at the top that repeat the folders, no variants beside what they
// vary, no safety checker.
func wanted(names []string) []string {
	var out []string
	for _, name := range names {
		base, top := path.Base(name), !strings.Contains(name, "/")
		weights := strings.HasSuffix(base, ".safetensors")
		switch {
		case !slices.Contains(useful, path.Ext(base)) && !(top && licence.MatchString(base)):
		case weights && top, strings.HasPrefix(name, "safety_checker/"), strings.Count(name, "/") > 1:
		case variant.MatchString(base) && slices.ContainsFunc(names, func(other string) bool {
			return path.Dir(other) == path.Dir(name) && !variant.MatchString(other) && path.Ext(other) == ".safetensors"
		}):
		default:
			out = append(out, name)
		}
	}
	return out
}

// check compares a file with the hub's index: its size, and its SHA-256 or, of
// small files, its git blob hash. A file that differs is removed.
func check(p string, info *hub.FileInfo) (err error) {
	defer func() {
		if err == nil {
			return
		}
		if blob, e := filepath.EvalSymlinks(p); e == nil {
			os.Remove(blob)
		}
		os.Remove(p)
	}()
	f, err := os.Open(p)
	if err != nil {
		return fmt.Errorf("download is not whole: %w; pull again", err)
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return err
	}
	var h hash.Hash
	want := ""
	switch {
	case info.LFS != nil && info.LFS.SHA256 != "":
		h, want = sha256.New(), info.LFS.SHA256
		if stat.Size() != info.LFS.Size {
			return fmt.Errorf("download has %d bytes, want %d; pull again", stat.Size(), info.LFS.Size)
		}
	case info.BlobID != "":
		h, want = sha1.New(), info.BlobID
		fmt.Fprintf(h, "blob %d\x00", stat.Size())
	default:
		return errors.New("the hub's index has no hash for it, so it cannot be checked")
	}
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("download has hash %s, want %s; pull again", got, want)
	}
	return nil
}
