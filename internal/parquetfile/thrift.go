package parquetfile

import (
	"errors"
	"fmt"
)

// ErrBroken is matched by the error of a file that breaks the format, ErrUnsupported
// by that of a file that uses a part of it which is not read.
var (
	ErrBroken      = errors.New("broken Parquet file")
	ErrUnsupported = errors.New("not supported")
)

func broken(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBroken, fmt.Sprintf(format, args...))
}

// Types of Thrift's compact protocol.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
)

const maxNesting = 32

// thrift reads the compact protocol. It allocates nothing: texts are parts of the
// input.
type thrift struct {
	in    []byte
	at    int
	depth int
}

var errShort = broken("metadata end too early")

func (t *thrift) byte() (byte, error) {
	if t.at >= len(t.in) {
		return 0, errShort
	}
	t.at++
	return t.in[t.at-1], nil
}

func (t *thrift) uvarint() (uint64, error) {
	var v uint64
	for shift := 0; shift < 64; shift += 7 {
		b, err := t.byte()
		if err != nil {
			return 0, err
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v, nil
		}
	}
	return 0, broken("a number is too long")
}

func (t *thrift) int() (int64, error) {
	v, err := t.uvarint()
	return int64(v>>1) ^ -int64(v&1), err
}

func (t *thrift) bytes() ([]byte, error) {
	n, err := t.uvarint()
	if err != nil {
		return nil, err
	}
	if n > uint64(len(t.in)-t.at) {
		return nil, errShort
	}
	t.at += int(n)
	return t.in[t.at-int(n) : t.at : t.at], nil
}

// fields reads a struct: field is called for each of its fields and says whether
// it has read the value; if not, it is skipped.
func (t *thrift) fields(field func(id int, kind byte) (bool, error)) error {
	if t.depth++; t.depth > maxNesting {
		return broken("metadata are nested too deeply")
	}
	defer func() { t.depth-- }()
	id := 0
	for {
		head, err := t.byte()
		if err != nil {
			return err
		}
		if head == 0 {
			return nil
		}
		kind := head & 15
		if delta := int(head >> 4); delta > 0 {
			id += delta
		} else {
			v, err := t.int()
			if err != nil {
				return err
			}
			id = int(int16(v))
		}
		read, err := field(id, kind)
		if err == nil && !read {
			err = t.skip(kind)
		}
		if err != nil {
			return err
		}
	}
}

// list reads a list of elements of a type, at most limit of them. begin, which may
// be nil, is told how many there are.
func (t *thrift) list(kind byte, limit int, begin func(n int), element func() error) error {
	head, err := t.byte()
	if err != nil {
		return err
	}
	n := uint64(head >> 4)
	if n == 15 {
		if n, err = t.uvarint(); err != nil {
			return err
		}
	}
	if got := head & 15; got != kind && n > 0 {
		return broken("a list has elements of type %d, want %d", got, kind)
	}
	if n > uint64(limit) || n > uint64(len(t.in)-t.at) {
		return broken("a list has %d elements, want at most %d", n, min(limit, len(t.in)-t.at))
	}
	if begin != nil {
		begin(int(n))
	}
	for range n {
		if err := element(); err != nil {
			return err
		}
	}
	return nil
}

// skip passes over a value.
func (t *thrift) skip(kind byte) error {
	switch kind {
	case thriftTrue, thriftFalse:
		return nil
	case thriftByte:
		_, err := t.byte()
		return err
	case thriftI16, thriftI32, thriftI64:
		_, err := t.uvarint()
		return err
	case thriftDouble:
		if len(t.in)-t.at < 8 {
			return errShort
		}
		t.at += 8
		return nil
	case thriftBinary:
		_, err := t.bytes()
		return err
	case thriftStruct:
		return t.fields(func(int, byte) (bool, error) { return false, nil })
	case thriftList, thriftSet, thriftMap:
		return t.skipMany(kind)
	}
	return broken("a value is of type %d", kind)
}

// skipMany passes over a list, a set or a map.
func (t *thrift) skipMany(kind byte) error {
	if t.depth++; t.depth > maxNesting {
		return broken("metadata are nested too deeply")
	}
	defer func() { t.depth-- }()
	var n uint64
	var kinds []byte
	if kind == thriftMap {
		var err error
		if n, err = t.uvarint(); err != nil || n == 0 {
			return err
		}
		types, err := t.byte()
		if err != nil {
			return err
		}
		kinds = []byte{types >> 4, types & 15}
	} else {
		head, err := t.byte()
		if err != nil {
			return err
		}
		if n = uint64(head >> 4); n == 15 {
			if n, err = t.uvarint(); err != nil {
				return err
			}
		}
		kinds = []byte{head & 15}
	}
	if n > uint64(len(t.in)-t.at) { // Each takes a byte at least.
		return errShort
	}
	for range n {
		for _, k := range kinds {
			if k == thriftTrue || k == thriftFalse { // In a list they have a byte.
				k = thriftByte
			}
			if err := t.skip(k); err != nil {
				return err
			}
		}
	}
	return nil
}
