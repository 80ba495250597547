package eval

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
)

// Fields of onnx.proto3 (https://github.com/onnx/onnx) that hold weights. All else
// in a file, the computation first, is passed over.
const (
	onnxModelGraph       = 7
	onnxGraphInitializer = 5

	onnxDims     = 1
	onnxDataType = 2
	onnxFloats   = 4
	onnxInt32s   = 5 // Holds half precision too, two bytes in each.
	onnxName     = 8
	onnxRaw      = 9
	onnxDoubles  = 10
	onnxLocation = 14 // 1: in another file.
)

// Types of elements.
const (
	onnxFloat    = 1
	onnxFloat16  = 10
	onnxDouble   = 11
	onnxBFloat16 = 16
)

// errBrokenONNX is what errors wrap where bytes are no ONNX model.
var errBrokenONNX = errors.New("broken ONNX file")

// onnxTensor is one initializer.
type onnxTensor struct {
	shape  []int
	kind   uint64
	raw    []byte // Little-endian elements.
	floats []byte // The same of single precision, as a repeated field.
	halves []uint64
	double []byte
	apart  bool // In another file.
}

// onnxFile is the initializers of a model, by name.
type onnxFile map[string]*onnxTensor

// readONNX reads the weights of an ONNX model.
func readONNX(path string) (onnxFile, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("feature network: %w", err)
	}
	f, err := parseONNX(data)
	if err != nil {
		return nil, fmt.Errorf("feature network %s: %w: %w", path, err, ErrInvalid)
	}
	return f, nil
}

// parseONNX finds the initializers. The result refers to data.
func parseONNX(data []byte) (onnxFile, error) {
	f := onnxFile{}
	graphs := 0
	err := protoFields(data, func(field int, _ uint64, model []byte) error {
		if field != onnxModelGraph || model == nil {
			return nil
		}
		graphs++
		return protoFields(model, func(field int, _ uint64, tensor []byte) error {
			if field != onnxGraphInitializer || tensor == nil {
				return nil
			}
			return f.add(tensor)
		})
	})
	if err != nil {
		return nil, err
	}
	if graphs != 1 {
		return nil, fmt.Errorf("%w: it holds %d graphs, want one", errBrokenONNX, graphs)
	}
	return f, nil
}

// add reads one TensorProto.
func (f onnxFile) add(data []byte) error {
	t := &onnxTensor{}
	name := ""
	err := protoFields(data, func(field int, value uint64, bytes []byte) error {
		switch field {
		case onnxDims:
			return eachVarint(value, bytes, func(v uint64) error {
				if v > 1<<31 || len(t.shape) >= 8 {
					return fmt.Errorf("%w: a tensor has more than 8 dimensions or one of %d", errBrokenONNX, v)
				}
				t.shape = append(t.shape, int(v))
				return nil
			})
		case onnxDataType:
			t.kind = value
		case onnxFloats:
			t.floats = append(t.floats, bytes...)
		case onnxInt32s:
			return eachVarint(value, bytes, func(v uint64) error { t.halves = append(t.halves, v); return nil })
		case onnxName:
			name = string(bytes)
		case onnxRaw:
			t.raw = bytes
		case onnxDoubles:
			t.double = append(t.double, bytes...)
		case onnxLocation:
			t.apart = value == 1
		}
		return nil
	})
	if err != nil {
		return err
	}
	if _, ok := f[name]; ok || name == "" {
		return fmt.Errorf("%w: a tensor has the name %q, want a name of its own", errBrokenONNX, name)
	}
	f[name] = t
	return nil
}

// tensor returns a tensor as float32.
func (f onnxFile) tensor(name string) (shape []int, values []float32, err error) {
	t := f[name]
	if t == nil {
		return nil, nil, errNoTensor
	}
	if values, err = t.float32s(); err != nil {
		return nil, nil, err
	}
	size := 1
	for _, n := range t.shape {
		if n > 0 && size > math.MaxInt32/n {
			return nil, nil, fmt.Errorf("%w: shape %v is too large", errBrokenONNX, t.shape)
		}
		size *= n
	}
	if size != len(values) {
		return nil, nil, fmt.Errorf("%w: shape %v of %d values", errBrokenONNX, t.shape, len(values))
	}
	return t.shape, values, nil
}

func (f onnxFile) Close() error { return nil }

// float32s decodes the elements.
func (t *onnxTensor) float32s() ([]float32, error) {
	if t.apart {
		return nil, errors.New("its values are in another file; save the model with the weights inside")
	}
	width := map[uint64]int{onnxFloat: 4, onnxFloat16: 2, onnxDouble: 8, onnxBFloat16: 2}[t.kind]
	if width == 0 {
		return nil, fmt.Errorf("element type %d, want float, half, bfloat16 or double", t.kind)
	}
	data := t.raw
	switch {
	case data == nil && t.kind == onnxFloat:
		data = t.floats
	case data == nil && t.kind == onnxDouble:
		data = t.double
	case data == nil:
		for _, v := range t.halves {
			data = binary.LittleEndian.AppendUint16(data, uint16(v))
		}
	}
	if len(data)%width != 0 {
		return nil, fmt.Errorf("%w: %d bytes of elements of %d", errBrokenONNX, len(data), width)
	}
	values := make([]float32, len(data)/width)
	for i := range values {
		switch b := data[i*width:]; t.kind {
		case onnxFloat:
			values[i] = math.Float32frombits(binary.LittleEndian.Uint32(b))
		case onnxDouble:
			values[i] = float32(math.Float64frombits(binary.LittleEndian.Uint64(b)))
		case onnxBFloat16:
			values[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b)) << 16)
		default:
			values[i] = halfFloat(binary.LittleEndian.Uint16(b))
		}
	}
	return values, nil
}

// halfFloat decodes IEEE 754 binary16.
func halfFloat(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10)&31, uint32(h)&1023
	switch exponent {
	case 31: // Infinite, or not a number.
		return math.Float32frombits(sign | 255<<23 | fraction<<13)
	case 0: // Subnormal: fraction·2^-24.
		v := float32(fraction) * 0x1p-24
		return math.Float32frombits(math.Float32bits(v) | sign)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}

// protoFields calls visit for each field of a Protocol Buffers message: with the
// value of a number, or with the bytes of all else, which are not nil.
func protoFields(data []byte, visit func(field int, value uint64, bytes []byte) error) error {
	for len(data) > 0 {
		key, n := binary.Uvarint(data)
		if n <= 0 || key>>3 == 0 || key>>3 > 1<<29 {
			return fmt.Errorf("%w: no field where one should begin", errBrokenONNX)
		}
		data = data[n:]
		var value uint64
		var bytes []byte
		size := 0
		switch key & 7 {
		case 0:
			if value, n = binary.Uvarint(data); n <= 0 {
				return fmt.Errorf("%w: a number is cut", errBrokenONNX)
			}
			data = data[n:]
		case 1:
			size = 8
		case 2:
			length, n := binary.Uvarint(data)
			if n <= 0 || length > uint64(len(data)-n) {
				return fmt.Errorf("%w: it is cut", errBrokenONNX)
			}
			data, size = data[n:], int(length)
		case 5:
			size = 4
		default:
			return fmt.Errorf("%w: wire type %d", errBrokenONNX, key&7)
		}
		if key&7 != 0 {
			if size > len(data) {
				return fmt.Errorf("%w: it is cut", errBrokenONNX)
			}
			bytes, data = data[:size:size], data[size:]
		}
		if err := visit(int(key>>3), value, bytes); err != nil {
			return err
		}
	}
	return nil
}

// eachVarint visits a repeated number, packed or not.
func eachVarint(value uint64, packed []byte, visit func(uint64) error) error {
	if packed == nil {
		return visit(value)
	}
	for len(packed) > 0 {
		v, n := binary.Uvarint(packed)
		if n <= 0 {
			return fmt.Errorf("%w: a number is cut", errBrokenONNX)
		}
		packed = packed[n:]
		if err := visit(v); err != nil {
			return err
		}
	}
	return nil
}
