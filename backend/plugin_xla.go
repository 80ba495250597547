//go:build cgo && !noxla

package backend

import (
	"fmt"
	"os"
	"sync"

	"github.com/go-logr/logr"
	"github.com/gomlx/compute"
	"github.com/gomlx/go-xla/compute/xla"
	"k8s.io/klog/v2"
)

const xlaBuilt = true

// loading guards the state of klog, which is the process's.
var loading sync.Mutex

// newXLA loads the plugin at an absolute path. The package autoinstall must never
// be linked: it would make this call download.
func newXLA(path string) (compute.Backend, error) {
	loading.Lock()
	defer loading.Unlock()
	logging := klog.CaptureState() // go-xla logs to standard error what it also returns.
	defer logging.Restore()
	klog.SetLogger(logr.Discard())
	if err := setFlags(path); err != nil {
		return nil, err
	}
	// Norms and sums must be of the same float32 numbers: TF32 rounds the factors of
	// products and convolutions on GPUs by more than clipping allows for.
	if _, ok := os.LookupEnv("NVIDIA_TF32_OVERRIDE"); !ok {
		os.Setenv("NVIDIA_TF32_OVERRIDE", "0")
	}
	keepMemory()
	options, err := clientOptions(path)
	if err != nil {
		return nil, err
	}
	b, err := xla.NewWithOptions(path, options)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err) // Not b: a nil *xla.Backend is a non-nil interface.
	}
	b.DotGeneralUseTF32 = false
	return b, nil
}
