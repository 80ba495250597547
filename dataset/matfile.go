package dataset

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// matArray is one array of a MATLAB file (level 5): numbers of one byte each, or
// floating-point ones that are as small, column by column.
type matArray struct {
	name  string
	shape []int
	bytes []byte
}

// Types of data elements (MAT-File Level 5 File Format, MathWorks, table 1-1).
const (
	matInt8, matUint8           = 1, 2
	matInt32, matUint32         = 5, 6
	matDouble                   = 9
	matMatrix, matCompressed    = 14, 15
	matClassDouble, matClassU8  = 6, 9
	matHeader                   = 128 // Bytes.
	matMaxName, matMaxDimension = 63, 8
)

var errMatEnd = errors.New("the file ends within an element")

// readMat calls each for every array of a file. Arrays of other kinds than
// numbers are passed over.
func readMat(data []byte, each func(matArray) error) error {
	if len(data) >= 8 && string(data[:8]) == "\x89HDF\r\n\x1a\n" {
		return errors.New("a MATLAB file of version 7.3, which we do not read; save it with -v7")
	}
	if len(data) < matHeader {
		return errors.New("too short for a MATLAB file")
	}
	var order binary.ByteOrder
	switch string(data[126:128]) {
	case "IM":
		order = binary.LittleEndian
	case "MI":
		order = binary.BigEndian
	default:
		return errors.New("not a MATLAB file of level 5")
	}
	switch version := order.Uint16(data[124:]); version {
	case 0x0100:
	case 0x0200:
		return errors.New("a MATLAB file of version 7.3, which we do not read; save it with -v7")
	default:
		return fmt.Errorf("version is 0x%04x, want 0x0100", version)
	}
	for rest := data[matHeader:]; len(rest) > 0; {
		kind, value, after, err := matElement(rest, order)
		if err != nil {
			return err
		}
		rest = after
		if kind == matCompressed {
			if kind, value, err = matInflate(value, order); err != nil {
				return err
			}
		}
		if kind != matMatrix {
			continue
		}
		a, err := parseMatrix(value, order)
		if err != nil {
			return err
		}
		if a == nil {
			continue
		}
		if err := each(*a); err != nil {
			return err
		}
	}
	return nil
}

// matElement splits off one element: its tag, and its bytes, which are padded to
// eight but where they are compressed.
func matElement(data []byte, order binary.ByteOrder) (kind uint32, value, rest []byte, err error) {
	if len(data) < 8 {
		return 0, nil, nil, errMatEnd
	}
	kind, size := order.Uint32(data), order.Uint32(data[4:])
	if small := kind >> 16; small != 0 { // Size, type and up to four bytes in one.
		if small > 4 {
			return 0, nil, nil, errors.New("a small element has more than four bytes")
		}
		return kind & 0xffff, data[4 : 4+small], data[8:], nil
	}
	data = data[8:]
	if uint64(size) > uint64(len(data)) {
		return 0, nil, nil, errMatEnd
	}
	padded := uint64(size)
	if kind != matCompressed {
		padded = min((padded+7)&^7, uint64(len(data)))
	}
	return kind, data[:size], data[padded:], nil
}

// matInflate returns the one element that a compressed one holds.
func matInflate(data []byte, order binary.ByteOrder) (kind uint32, value []byte, err error) {
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return 0, nil, errors.New("cannot decompress an element")
	}
	var tag [8]byte
	if _, err := io.ReadFull(z, tag[:]); err != nil {
		return 0, nil, errors.New("cannot decompress an element")
	}
	kind, size := order.Uint32(tag[:]), int64(order.Uint32(tag[4:]))
	if kind>>16 != 0 {
		return 0, nil, nil
	}
	// ReadAll grows with what is there, so that a false size costs no memory.
	value, err = io.ReadAll(io.LimitReader(z, size))
	if err != nil || int64(len(value)) != size {
		return 0, nil, errors.New("cannot decompress an element: it is damaged or cut")
	}
	return kind, value, nil
}

// parseMatrix reads an array of real numbers; nil where it is of another kind.
func parseMatrix(data []byte, order binary.ByteOrder) (*matArray, error) {
	kind, flags, data, err := matElement(data, order)
	if err != nil {
		return nil, err
	}
	if kind != matUint32 || len(flags) != 8 {
		return nil, errors.New("an array starts without flags")
	}
	class, complexOrMore := order.Uint32(flags)&0xff, order.Uint32(flags)>>8&0xff
	kind, dimensions, data, err := matElement(data, order)
	if err != nil {
		return nil, err
	}
	if kind != matInt32 || len(dimensions)%4 != 0 || len(dimensions) < 8 || len(dimensions) > 4*matMaxDimension {
		return nil, errors.New("an array has no dimensions that make sense")
	}
	a := &matArray{}
	total := uint64(1)
	for i := 0; i < len(dimensions); i += 4 {
		n := int32(order.Uint32(dimensions[i:]))
		if n < 0 {
			return nil, errors.New("an array has a negative size")
		}
		a.shape = append(a.shape, int(n))
		if total *= uint64(n); total > maxMat {
			return nil, errors.New("an array asks for more than the file can hold")
		}
	}
	kind, name, data, err := matElement(data, order)
	if err != nil {
		return nil, err
	}
	if kind != matInt8 || len(name) > matMaxName {
		return nil, errors.New("an array has no name that makes sense")
	}
	a.name = string(name)
	if class != matClassU8 && class != matClassDouble || complexOrMore&0x08 != 0 {
		return nil, nil
	}
	kind, values, _, err := matElement(data, order)
	if err != nil {
		return nil, err
	}
	switch kind {
	case matUint8:
		a.bytes = values
	case matDouble:
		for i := 0; i+8 <= len(values); i += 8 {
			v := math.Float64frombits(order.Uint64(values[i:]))
			if !(v >= 0 && v <= 255) || v != math.Trunc(v) {
				return nil, nil
			}
			a.bytes = append(a.bytes, byte(v))
		}
	default:
		return nil, nil
	}
	if uint64(len(a.bytes)) != total {
		return nil, errors.New("an array has not as many values as its dimensions say")
	}
	return a, nil
}

// maxMat bounds the values of one array: over five times those of SVHN's largest.
const maxMat = 1 << 33
