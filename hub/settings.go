package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Settings say where models come from and go to.
type Settings struct {
	Cache    string // Folder of the cache, that with models--ORG--NAME.
	Endpoint string // URL of the hub.
	Token    string // Sent to the hub; empty for none.
	Offline  bool   // Use the cache alone.
}

const defaultEndpoint = "https://huggingface.co"

// FromEnvironment reads the settings that Hugging Face's own programs read.
func FromEnvironment(getenv func(string) string) (*Settings, error) {
	home := getenv("HF_HOME")
	if home == "" {
		cache := getenv("XDG_CACHE_HOME")
		if cache == "" {
			user := getenv("HOME")
			if user == "" {
				return nil, errors.New("neither HF_HOME nor HOME is set; set HF_HUB_CACHE to the folder of the cache")
			}
			cache = filepath.Join(user, ".cache")
		}
		home = filepath.Join(cache, "huggingface")
	}
	s := &Settings{Cache: first(getenv("HF_HUB_CACHE"), getenv("HUGGINGFACE_HUB_CACHE"), filepath.Join(home, "hub")),
		Endpoint: strings.TrimRight(first(getenv("HF_ENDPOINT"), defaultEndpoint), "/"), Token: strings.TrimSpace(getenv("HF_TOKEN")),
		Offline: isTrue(getenv("HF_HUB_OFFLINE"))}
	if s.Token == "" && !isTrue(getenv("HF_HUB_DISABLE_IMPLICIT_TOKEN")) {
		data, err := os.ReadFile(first(getenv("HF_TOKEN_PATH"), filepath.Join(home, "token")))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("read token: %w", err)
		}
		s.Token = strings.TrimSpace(string(data))
	}
	return s, s.validate()
}

// validate refuses endpoints that are no URL, and a token that would travel in
// the clear.
func (s *Settings) validate() error {
	u, err := url.Parse(s.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return fmt.Errorf("HF_ENDPOINT is %q, want a URL such as %s", s.Endpoint, defaultEndpoint)
	}
	if u.Scheme == "http" && s.Token != "" && !s.Offline {
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("HF_ENDPOINT is %q and a token is set, want https: the token would be readable on the way", s.Endpoint)
		}
	}
	return nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}

// isTrue is huggingface_hub's reading of a switch.
func isTrue(v string) bool {
	switch strings.ToUpper(v) {
	case "1", "ON", "YES", "TRUE":
		return true
	}
	return false
}
