package nn

import (
	"fmt"
	"math"
	"runtime/debug"
	"sync"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"
)

// Base holds the weights that do not train on a device, once, for any number of
// programs. Its host copies need not stay beside it: see BaseOptions.Release.
type Base struct {
	backend  compute.Backend
	weights  []*Tensor // Host side, in order.
	device   []*tensors.Tensor
	released bool

	mu      sync.Mutex
	users   int
	kernels []*tensors.Tensor // Some of the weights, in Winograd's basis, once a program asked.
}

// BaseOptions of NewBase.
type BaseOptions struct {
	// Precision that matrices and kernels are kept in: BFloat16 takes half of the
	// memory. They are rounded to nearest, on the host, too, so that a model that is
	// saved is the one that was trained, and computed with in float32. Vectors and
	// tables stay as they are. "" means float32.
	Precision Precision
	// Release takes the values from the host weights (their Data is nil) while they
	// are on the device, and puts them back when the last user closes.
	Release bool
}

// NewBase puts the weights that are not trainable on a device. Close ends it.
func NewBase(backend compute.Backend, w *Weights, trainable []string, o BaseOptions) (*Base, error) {
	if o.Precision != "" && o.Precision != Float32 && o.Precision != BFloat16 {
		return nil, fmt.Errorf("precision of frozen weights is %q, want %q or %q", o.Precision, Float32, BFloat16)
	}
	trains := map[string]bool{}
	for _, name := range trainable {
		trains[name] = true
	}
	b := &Base{backend: backend, users: 1, released: o.Release}
	for _, t := range w.All() {
		if trains[t.Name] {
			continue
		}
		onDevice, err := upload(backend, t.Data, t.Shape, o.Precision == BFloat16 && (t.Kind == KindDense || t.Kind == KindKernel))
		if err != nil {
			b.Close()
			return nil, fmt.Errorf("upload parameter %q: %w", t.Name, err)
		}
		b.weights, b.device = append(b.weights, t), append(b.device, onDevice)
		switch half := onDevice.DType() == dtypes.BFloat16; {
		case o.Release:
			t.Data = nil
		case half:
			t.Data = download(onDevice)
		}
	}
	if o.Release {
		debug.FreeOSMemory() // What was released is garbage as large as the model.
	}
	return b, nil
}

// upload copies values to the device at once. A tensor that several goroutines
// use must be there before they do: GoMLX 0.28 moves it at first use, and a
// second user may meet it half-way ("no local or on-device representation").
func upload(backend compute.Backend, values []float32, shape []int, half bool) (*tensors.Tensor, error) {
	if half {
		return tensors.FromRaw(backend, 0, shapes.Make(dtypes.BFloat16, shape...), roundBFloat16(values))
	}
	return tensors.FromRaw(backend, 0, shapes.Make(dtypes.Float32, shape...), dtypes.UnsafeByteSliceFromAny(values))
}

// roundBFloat16 returns values rounded to the nearest bfloat16, ties to even, as
// little-endian bytes.
func roundBFloat16(values []float32) []byte {
	out := make([]byte, 2*len(values))
	for i, v := range values {
		bits := math.Float32bits(v)
		if v == v { // A NaN must not be rounded to infinity.
			bits += 0x7fff + bits>>16&1
		}
		out[2*i], out[2*i+1] = byte(bits>>16), byte(bits>>24)
	}
	return out
}

// node returns the parameter that a layer computes with. One in half precision
// is widened where it is used, and again in the backward pass: what is wide in
// between is behind a checkpoint, which the layer ends (see Scope.adapt), or the
// whole model would be kept in float32 until the backward pass.
func (b *Base) node(arg *graph.Node) *graph.Node {
	if arg.DType() != dtypes.BFloat16 {
		return arg
	}
	return graph.ConvertDType(arg.Checkpoint(), dtypes.Float32)
}

// half names the weights in half precision.
func (b *Base) half() map[string]bool {
	names := map[string]bool{}
	for i, t := range b.weights {
		if b.device[i].DType() == dtypes.BFloat16 {
			names[t.Name] = true
		}
	}
	return names
}

// hold adds a user.
func (b *Base) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users++
}

// Close ends one use. The last one frees the device, and gives the host its
// weights back where it had to part from them.
func (b *Base) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.users--
	if b.users != 0 {
		return
	}
	for i, onDevice := range b.device {
		if b.released {
			b.weights[i].Data = download(onDevice) // Nil, which no writer takes, where the device is lost.
		}
		_ = onDevice.FinalizeAll()
	}
	for _, u := range b.kernels {
		_ = u.FinalizeAll()
	}
	b.device, b.kernels = nil, nil
}

// download returns the values of a tensor as float32.
func download(onDevice *tensors.Tensor) []float32 {
	var values []float32
	if onDevice.DType() != dtypes.BFloat16 {
		values, _ = tensors.CopyFlatData[float32](onDevice)
		return values
	}
	_ = onDevice.ConstBytes(func(data []byte) {
		values = make([]float32, len(data)/2)
		for i := range values {
			values[i] = math.Float32frombits(uint32(data[2*i])<<16 | uint32(data[2*i+1])<<24)
		}
	})
	return values
}
