package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// server is a hub with one model.
type server struct {
	*httptest.Server
	mu    sync.Mutex
	files map[string]string
	token string   // Wanted.
	spoil string   // A file that is served wrong.
	asked []string // Paths.
}

func newServer(t *testing.T, files map[string]string) *server {
	s := &server{files: files}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.Close)
	return s
}

func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.URL.Path)
	if s.token != "" && r.Header.Get("Authorization") != "Bearer "+s.token {
		http.Error(w, `{"error": "no entry"}`, http.StatusUnauthorized)
		return
	}
	if revision, ok := strings.CutPrefix(r.URL.Path, "/api/models/org/tiny/revision/"); ok && (revision == "main" || revision == commit) {
		var siblings []map[string]any
		for name, text := range s.files {
			sum := sha1.Sum([]byte(fmt.Sprintf("blob %d\x00%s", len(text), text)))
			entry := map[string]any{"rfilename": name, "size": len(text), "blobId": hex.EncodeToString(sum[:])}
			if strings.HasSuffix(name, ".safetensors") {
				sum := sha256.Sum256([]byte(text))
				entry["lfs"] = map[string]any{"sha256": hex.EncodeToString(sum[:]), "size": len(text), "pointerSize": 130}
			}
			siblings = append(siblings, entry)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"id": "org/tiny", "sha": commit, "siblings": siblings})
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, "/org/tiny/resolve/"+commit+"/")
	text, there := s.files[name]
	if !ok || !there {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256([]byte(text))
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:])+`"`)
	w.Header().Set("X-Repo-Commit", commit)
	if name == s.spoil {
		text = strings.ToUpper(text)
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(text)))
	if r.Method != http.MethodHead {
		_, _ = w.Write([]byte(text))
	}
}

func (s *server) settings(t *testing.T, more map[string]string) *Settings {
	t.Helper()
	env := map[string]string{"HF_ENDPOINT": s.URL, "HF_HOME": t.TempDir()}
	for k, v := range more {
		env[k] = v
	}
	settings, err := FromEnvironment(func(key string) string { return env[key] })
	if err != nil {
		t.Fatal(err)
	}
	return settings
}

func tiny() map[string]string {
	return map[string]string{"model_index.json": `{"unet": ["diffusers", "UNet2DModel"]}`, "unet/config.json": "{}",
		"unet/diffusion_pytorch_model.safetensors": "weights", "unet/diffusion_pytorch_model.fp16.safetensors": "half", "unet/diffusion_pytorch_model.bin": "pickle",
		"model.safetensors": "all of it", "README.md": "card", "LICENSE": "licence", "images/a.png": "png", "safety_checker/model.safetensors": "no"}
}

func TestPull(t *testing.T) {
	s := newServer(t, tiny())
	s.token = "secret"
	settings := s.settings(t, map[string]string{"HF_TOKEN": "secret"})
	got, err := Pull(context.Background(), settings, "org/tiny", "")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"LICENSE", "README.md", "model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"}
	if !slices.Equal(got.Files, want) || got.Commit != commit || got.Cached {
		t.Errorf("snapshot is %+v, want files %v", got, want)
	}
	for _, name := range want {
		data, err := os.ReadFile(filepath.Join(got.Dir, filepath.FromSlash(name)))
		if err != nil || string(data) != s.files[name] {
			t.Errorf("%s is %q (%v), want %q", name, data, err, s.files[name])
		}
	}
	for _, asked := range s.asked {
		if strings.Contains(asked, "/resolve/") && !strings.Contains(asked, "/resolve/"+commit+"/") {
			t.Errorf("%s is not of the pinned commit", asked)
		}
	}

	// Now without network, by branch and by commit; huggingface_hub finds it at the same place.
	s.Close()
	settings.Offline = true
	for _, revision := range []string{"main", commit} {
		again, err := Pull(context.Background(), settings, "org/tiny", revision)
		if err != nil || !again.Cached || again.Dir != filepath.Join(settings.Cache, "models--org--tiny", "snapshots", commit) || !slices.Equal(again.Files, want) {
			t.Errorf("offline at %s: %+v, %v", revision, again, err)
		}
	}
	settings.Offline = false // A pinned commit that is there needs no network either.
	if again, err := Pull(context.Background(), settings, "org/tiny", commit); err != nil || !again.Cached {
		t.Errorf("pinned: %+v, %v", again, err)
	}
}

func TestOfflineAsksNobody(t *testing.T) {
	s := newServer(t, tiny())
	settings := s.settings(t, map[string]string{"HF_HUB_OFFLINE": "1"})
	if _, err := Pull(context.Background(), settings, "org/tiny", ""); !errors.Is(err, ErrNotCached) {
		t.Errorf("error is %v, want ErrNotCached", err)
	}
	if len(s.asked) > 0 {
		t.Errorf("the hub was asked for %v", s.asked)
	}
}

func TestPullRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		prepare         func(s *server)
		model, revision string
		want            string
	}{
		"spoilt weights":   {func(s *server) { s.spoil = "unet/diffusion_pytorch_model.safetensors" }, "org/tiny", "", "hash"},
		"spoilt config":    {func(s *server) { s.spoil = "model_index.json" }, "org/tiny", "", "hash"},
		"no index":         {func(s *server) { delete(s.files, "model_index.json") }, "org/tiny", "", "no model_index.json"},
		"name of a file":   {func(s *server) { s.files["../../evil.json"] = "x" }, "org/tiny", "", "evil.json"},
		"no such revision": {func(s *server) {}, "org/tiny", "other", "other"},
		"no token":         {func(s *server) { s.token = "secret" }, "org/tiny", "", "401"},
		"name of a model":  {func(s *server) {}, "../tiny", "", "ORGANISATION/NAME"},
		"revision":         {func(s *server) {}, "org/tiny", "../x", "revision"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, tiny())
			c.prepare(s)
			settings := s.settings(t, nil)
			_, err := Pull(context.Background(), settings, c.model, c.revision)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want one with %q", err, c.want)
			}
			settings.Offline = true
			if _, err := Pull(context.Background(), settings, "org/tiny", "main"); err == nil {
				t.Error("a broken download counts as there")
			}
		})
	}
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		env  map[string]string
		want Settings
	}{
		"home":     {map[string]string{"HOME": "/h"}, Settings{Cache: "/h/.cache/huggingface/hub", Endpoint: defaultEndpoint}},
		"xdg":      {map[string]string{"HOME": "/h", "XDG_CACHE_HOME": "/x"}, Settings{Cache: "/x/huggingface/hub", Endpoint: defaultEndpoint}},
		"hf home":  {map[string]string{"HOME": "/h", "HF_HOME": dir}, Settings{Cache: filepath.Join(dir, "hub"), Endpoint: defaultEndpoint, Token: "from-file"}},
		"cache":    {map[string]string{"HOME": "/h", "HF_HOME": "/y", "HF_HUB_CACHE": "/c"}, Settings{Cache: "/c", Endpoint: defaultEndpoint}},
		"all":      {map[string]string{"HF_HOME": dir, "HF_TOKEN": "t", "HF_ENDPOINT": "https://hub.example/", "HF_HUB_OFFLINE": "yes"}, Settings{Cache: filepath.Join(dir, "hub"), Endpoint: "https://hub.example", Token: "t", Offline: true}},
		"no token": {map[string]string{"HF_HOME": dir, "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}, Settings{Cache: filepath.Join(dir, "hub"), Endpoint: defaultEndpoint}},
	} {
		got, err := FromEnvironment(func(key string) string { return c.env[key] })
		if err != nil || *got != c.want {
			t.Errorf("%s: %+v (%v), want %+v", name, got, err, c.want)
		}
	}
	for _, env := range []map[string]string{{}, {"HF_HOME": "/x", "HF_ENDPOINT": "ftp://a"}, {"HF_HOME": "/x", "HF_ENDPOINT": "http://hub.example", "HF_TOKEN": "t"}} {
		if _, err := FromEnvironment(func(key string) string { return env[key] }); err == nil {
			t.Errorf("%v is taken", env)
		}
	}
}
