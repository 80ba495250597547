package torchfile

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/scumble-dp/scumble/internal/pickle"
	"github.com/scumble-dp/scumble/safetensors"
)

// storageTypes holds the types of storages by their names in PyTorch.
var storageTypes = map[string]safetensors.DType{
	"torch.FloatStorage": safetensors.F32, "torch.HalfStorage": safetensors.F16, "torch.BFloat16Storage": safetensors.BF16,
	"torch.DoubleStorage": safetensors.F64, "torch.LongStorage": safetensors.I64, "torch.IntStorage": safetensors.I32,
	"torch.ByteStorage": safetensors.U8, "torch.BoolStorage": safetensors.Bool,
}

// Tensor is a view of a storage.
type Tensor struct {
	DType safetensors.DType
	Shape []int

	key      string // Of the storage.
	elements int64  // Of the storage.
	offset   int64  // In elements.
	strides  []int64
}

const maxAxes = 16

// newTensor makes a tensor from the arguments of PyTorch's function: storage,
// offset, size, stride, and others that do not matter.
func newTensor(args pickle.Tuple) (*Tensor, error) {
	bad := func(what string) error { return fmt.Errorf("rebuilds a tensor with %s", what) }
	if len(args) < 4 {
		return nil, bad("fewer than four arguments")
	}
	s, ok := args[0].(stored)
	if !ok {
		return nil, bad("something that is no storage")
	}
	kind, ok := s[1].(pickle.Global)
	dtype, known := storageTypes[string(kind)]
	if !ok || !known {
		return nil, bad(fmt.Sprintf("a storage of type %v", s[1]))
	}
	t := &Tensor{DType: dtype}
	if t.key, ok = s[2].(string); !ok {
		return nil, bad("a storage without name")
	}
	if t.elements, ok = s[4].(int64); !ok || t.elements < 0 || t.elements > 1<<48 {
		return nil, bad(fmt.Sprintf("a storage of %v elements", s[4]))
	}
	if t.offset, ok = args[1].(int64); !ok || t.offset < 0 || t.offset > t.elements {
		return nil, bad(fmt.Sprintf("offset %v", args[1]))
	}
	size, ok1 := args[2].(pickle.Tuple)
	stride, ok2 := args[3].(pickle.Tuple)
	if !ok1 || !ok2 || len(size) != len(stride) || len(size) > maxAxes {
		return nil, bad("a shape and strides that do not fit")
	}
	last, count := t.offset, int64(1)
	for i := range size {
		n, ok1 := size[i].(int64)
		by, ok2 := stride[i].(int64)
		if !ok1 || !ok2 || n < 0 || by < 0 || n > 1<<40 || by > 1<<48 {
			return nil, bad(fmt.Sprintf("size %v and stride %v", size[i], stride[i]))
		}
		t.Shape, t.strides = append(t.Shape, int(n)), append(t.strides, by)
		if count *= n; count > t.elements && n > 0 {
			// A tensor that repeats values may have more than its storage; state
			// dictionaries hold none, and memory must stay bounded by the file.
			return nil, bad(fmt.Sprintf("shape %v of a storage of %d elements", size, t.elements))
		}
		if n > 0 {
			last += (n - 1) * by
		}
	}
	if count > 0 && last >= t.elements {
		return nil, bad(fmt.Sprintf("shape %v beyond its storage of %d elements", size, t.elements))
	}
	return t, nil
}

// count returns the number of values.
func (t *Tensor) count() int {
	n := 1
	for _, d := range t.Shape {
		n *= d
	}
	return n
}

// gather copies the values of a view out of its storage, in order.
func (t *Tensor) gather(storage []byte) []byte {
	size := t.DType.Size()
	out := make([]byte, 0, t.count()*size)
	var walk func(axis int, at int64)
	walk = func(axis int, at int64) {
		if axis == len(t.Shape) {
			out = append(out, storage[at*int64(size):(at+1)*int64(size)]...)
			return
		}
		if axis == len(t.Shape)-1 && t.strides[axis] == 1 {
			n := int64(t.Shape[axis])
			out = append(out, storage[at*int64(size):(at+n)*int64(size)]...)
			return
		}
		for i := range t.Shape[axis] {
			walk(axis+1, at+int64(i)*t.strides[axis])
		}
	}
	if t.count() > 0 {
		walk(0, t.offset)
	}
	return out
}

// swap turns big-endian values little-endian, in place.
func swap(data []byte, size int) {
	switch size {
	case 2:
		for i := 0; i+2 <= len(data); i += 2 {
			binary.LittleEndian.PutUint16(data[i:], binary.BigEndian.Uint16(data[i:]))
		}
	case 4:
		for i := 0; i+4 <= len(data); i += 4 {
			binary.LittleEndian.PutUint32(data[i:], binary.BigEndian.Uint32(data[i:]))
		}
	case 8:
		for i := 0; i+8 <= len(data); i += 8 {
			binary.LittleEndian.PutUint64(data[i:], binary.BigEndian.Uint64(data[i:]))
		}
	}
}

func finite(values []float32) error {
	for i, v := range values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("value %g at %d, want finite ones", v, i)
		}
	}
	return nil
}
