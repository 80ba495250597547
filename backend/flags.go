//go:build cgo && !noxla

package backend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gomlx/go-xla/pjrt"
)

// libraryFusions is XLA's flag for what its library YNNPACK computes on processors.
const libraryFusions = "xla_cpu_experimental_ynn_fusion_type"

// setFlags sets XLA_FLAGS before a plugin reads them.
//
// We use the cores by calling from several goroutines. XLA's own threads on top of
// that cost more than they bring: small steps took 1.75 times as long with them (2
// cores). Who sets XLA_FLAGS decides that.
//
// YNNPACK gets single products and convolutions only. In what it fuses of sums and
// products of elements the 2026 builds return NaN for norms of gradients that are
// zero: every gradient of a call of 256 examples was lost to that, for a model whose
// attention to a single token has no gradient. A plugin ends the process over a flag
// that it does not know, so it is set only where the plugin's file has its name.
func setFlags(path string) error {
	flags, set := os.LookupEnv("XLA_FLAGS")
	if !set {
		flags = "--xla_cpu_multi_thread_eigen=false"
	}
	if !strings.Contains(flags, libraryFusions) {
		known, err := holds(path, libraryFusions)
		if err != nil {
			return fmt.Errorf("read plugin: %w", err)
		}
		if known {
			flags += " --" + libraryFusions + "=individual_dot,individual_convolution"
		}
	}
	return os.Setenv("XLA_FLAGS", strings.TrimSpace(flags))
}

// clientOptions are those with which a plugin's client is made. A plugin refuses an
// option that it does not know, so each is set only where the plugin's file has what
// it says of it; those of graphics cards know neither.
//
// XLA's client for processors takes calls one after another, whichever thread they
// come from, unless it is told not to be asynchronous: then a call runs in the thread
// that makes it, and what one call leaves idle another uses. It has four devices, and
// as many threads, on two cores, unless it is told how many: one is all we use.
func clientOptions(path string) (pjrt.NamedValuesMap, error) {
	options := pjrt.NamedValuesMap{}
	for name, value := range map[string]any{"asynchronous": false, "cpu_device_count": int64(1)} {
		known, err := holds(path, name+" set via create_options")
		if err != nil {
			return nil, fmt.Errorf("read plugin: %w", err)
		}
		if known {
			options[name] = value
		}
	}
	return options, nil
}

// holds says whether a file has a text in it.
func holds(path, text string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	buffer := make([]byte, 4<<20)
	kept := 0 // Of the chunk before: the text may lie across two.
	for {
		n, err := io.ReadFull(f, buffer[kept:])
		if bytes.Contains(buffer[:kept+n], []byte(text)) {
			return true, nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		kept = copy(buffer, buffer[kept+n-len(text):kept+n])
	}
}
