package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
	"unsafe"
)

// DType is the type of a tensor's elements, named as in the file.
type DType string

// The types that we read and write. Values are little-endian.
const (
	F64  DType = "F64"
	F32  DType = "F32"
	F16  DType = "F16"  // IEEE 754 binary16.
	BF16 DType = "BF16" // The upper half of an F32.
	I64  DType = "I64"
	I32  DType = "I32"
	U8   DType = "U8"
	Bool DType = "BOOL" // One byte, 0 or 1.
)

// Size returns the bytes of one element, 0 for a type that we lack.
func (d DType) Size() int {
	switch d {
	case F64, I64:
		return 8
	case F32, I32:
		return 4
	case F16, BF16:
		return 2
	case U8, Bool:
		return 1
	}
	return 0
}

// known tells the types of the format that we lack from words that are no type.
// The unit is bits, since some are shorter than a byte.
var known = map[DType]int64{"I16": 16, "U16": 16, "U32": 32, "U64": 64, "I8": 8, "C64": 64,
	"F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
	"F6_E2M3": 6, "F6_E3M2": 6, "F4": 4}

// bits returns the bits of one element, and whether the format has such a type.
func (d DType) bits() (int64, bool) {
	if n := d.Size(); n > 0 {
		return 8 * int64(n), true
	}
	n, ok := known[d]
	return n, ok
}

// littleEndian says whether this machine keeps numbers as the format does.
var littleEndian = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// Float32s returns the values as float32. F64 is rounded to nearest; integers
// and BOOL are converted where float32 holds them exactly, and are an error
// where it does not.
func (t *Tensor) Float32s() ([]float32, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	size := t.DType.Size()
	out := make([]float32, len(t.Data)/size)
	if t.DType == F32 && littleEndian {
		if len(out) > 0 { // The same bytes: a copy at the speed of memory.
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&out[0])), len(t.Data)), t.Data)
		}
		return out, nil
	}
	le := binary.LittleEndian
	for i := range out {
		b := t.Data[i*size : (i+1)*size]
		switch t.DType {
		case F64:
			out[i] = float32(math.Float64frombits(le.Uint64(b)))
		case F32:
			out[i] = math.Float32frombits(le.Uint32(b))
		case F16:
			out[i] = halfToFloat(le.Uint16(b))
		case BF16:
			out[i] = math.Float32frombits(uint32(le.Uint16(b)) << 16)
		default:
			v := t.integer(b)
			out[i] = float32(v)
			// float32(v) may be 2^63, which int64 cannot hold.
			if math.Abs(float64(out[i])) >= 1<<63 || int64(out[i]) != v {
				return nil, fmt.Errorf("tensor %q: %d is not exact in float32; read it with Int64s", t.Name, v)
			}
		}
	}
	return out, nil
}

// Int64s returns the values of an integer or BOOL tensor.
func (t *Tensor) Int64s() ([]int64, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	switch t.DType {
	case I64, I32, U8, Bool:
	default:
		return nil, fmt.Errorf("tensor %q is of type %s, want an integer; read it with Float32s", t.Name, t.DType)
	}
	size := t.DType.Size()
	out := make([]int64, len(t.Data)/size)
	for i := range out {
		out[i] = t.integer(t.Data[i*size : (i+1)*size])
	}
	return out, nil
}

// integer returns one value of an integer or BOOL tensor.
func (t *Tensor) integer(b []byte) int64 {
	switch t.DType {
	case I64:
		return int64(binary.LittleEndian.Uint64(b))
	case I32:
		return int64(int32(binary.LittleEndian.Uint32(b)))
	}
	return int64(b[0])
}

// FromFloat32s returns an F32 tensor of the values. It panics where the shape
// has another number of elements.
func FromFloat32s(name string, shape []int, values []float32) Tensor {
	t := Tensor{Name: name, DType: F32, Shape: shape, Data: make([]byte, 0, 4*len(values))}
	for _, v := range values {
		t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(v))
	}
	if err := t.check(); err != nil {
		panic(err.Error())
	}
	return t
}

// FromInt64s returns an I64 tensor of the values. It panics where the shape has
// another number of elements.
func FromInt64s(name string, shape []int, values []int64) Tensor {
	t := Tensor{Name: name, DType: I64, Shape: shape, Data: make([]byte, 0, 8*len(values))}
	for _, v := range values {
		t.Data = binary.LittleEndian.AppendUint64(t.Data, uint64(v))
	}
	if err := t.check(); err != nil {
		panic(err.Error())
	}
	return t
}

// Float16s returns the tensor with its values rounded to nearest, ties to even,
// in F16. Values beyond 65504 become infinite.
func (t *Tensor) Float16s() (Tensor, error) {
	values, err := t.Float32s()
	if err != nil {
		return Tensor{}, err
	}
	out := Tensor{Name: t.Name, DType: F16, Shape: t.Shape, Data: make([]byte, 0, 2*len(values))}
	for _, v := range values {
		out.Data = binary.LittleEndian.AppendUint16(out.Data, floatToHalf(v))
	}
	return out, nil
}

// halfToFloat widens a binary16: 1 sign bit, 5 of exponent (bias 15), 10 of fraction.
func halfToFloat(h uint16) float32 {
	sign, exponent, fraction := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exponent {
	case 0: // Zero or subnormal: fraction · 2^-24.
		v := float32(fraction) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31: // Infinity or not a number.
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+127-15)<<23 | fraction<<13)
}

// floatToHalf rounds to the nearest binary16, ties to even.
func floatToHalf(v float32) uint16 {
	bits := math.Float32bits(v)
	sign, magnitude := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000: // Not a number; keep it one.
		return sign | 0x7e00 | uint16(magnitude>>13&0x3ff)
	case magnitude >= 0x477ff000: // 65520 and more round to infinity.
		return sign | 0x7c00
	case magnitude < 0x38800000: // Below 2^-14: a multiple of 2^-24.
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(magnitude))*(1<<24)))
	}
	// Drop 13 bits; a carry into the exponent is right.
	rounded := magnitude + 0xfff + magnitude>>13&1
	return sign | uint16((rounded>>13)-(127-15)<<10)
}
