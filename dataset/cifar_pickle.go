package dataset

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// A pickle is a program, which may call any function of Python. This machine
// runs the ones that hold a batch of CIFAR: dictionaries, lists, numbers, texts
// and one array of bytes. It knows three names of NumPy, which it never calls
// but takes as the recipe of that array; anything else is an error.

// pickledBatch is the dictionary of a batch: its array of bytes, and its lists
// of numbers. All else (file names, titles) is dropped.
type pickledBatch struct {
	data  []byte
	lists map[string][]int
}

// Values of the machine: int, string, bool, nil, pickledNames, and pointers to
// what later opcodes fill.
type (
	pickledDict struct {
		keys   []string
		values []any
	}
	pickledList struct {
		numbers []int
		other   bool // Holds something that is no number.
	}
	pickledArray struct{ data []byte }
	pickledType  struct{ name string } // numpy.dtype of that name.
	pickledTuple []any
	pickledMark  struct{}
	pickledNames string // "numpy.ndarray" and its like.
)

// The names that a batch may use; numpy._core is that of NumPy 2.
var pickledAllowed = map[string]pickledNames{
	"numpy.core.multiarray._reconstruct":  "reconstruct",
	"numpy._core.multiarray._reconstruct": "reconstruct",
	"numpy.ndarray":                       "ndarray",
	"numpy.dtype":                         "dtype",
}

var errPickle = errors.New("takes a value that is not there")

type pickleMachine struct {
	in    []byte
	stack []any
	memo  map[uint32]any
}

// unpickleBatch runs a pickle and returns the batch that it holds.
func unpickleBatch(program []byte) (*pickledBatch, error) {
	m := &pickleMachine{in: program, memo: map[uint32]any{}}
	for {
		if len(m.in) == 0 {
			return nil, errors.New("pickle ends without STOP")
		}
		at := len(program) - len(m.in)
		op := m.in[0]
		m.in = m.in[1:]
		if op == '.' {
			break
		}
		if err := m.step(op); err != nil {
			return nil, fmt.Errorf("pickle, opcode 0x%02x at byte %d: %w", op, at, err)
		}
	}
	if len(m.stack) != 1 {
		return nil, fmt.Errorf("pickle ends with %d values, want one dictionary", len(m.stack))
	}
	d, ok := m.stack[0].(*pickledDict)
	if !ok {
		return nil, errors.New("pickle holds no dictionary")
	}
	out := &pickledBatch{lists: map[string][]int{}}
	for i, key := range d.keys {
		switch v := d.values[i].(type) {
		case *pickledArray:
			if key == "data" {
				out.data = v.data
			}
		case *pickledList:
			if !v.other {
				out.lists[key] = v.numbers
			}
		}
	}
	return out, nil
}

func (m *pickleMachine) take(n uint64) ([]byte, error) {
	if n > uint64(len(m.in)) {
		return nil, errors.New("the file ends within it")
	}
	b := m.in[:n]
	m.in = m.in[n:]
	return b, nil
}

// number reads n bytes, little-endian.
func (m *pickleMachine) number(n int) (uint32, error) {
	b, err := m.take(uint64(n))
	if err != nil {
		return 0, err
	}
	var wide [4]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint32(wide[:]), nil
}

func (m *pickleMachine) push(v any) error {
	m.stack = append(m.stack, v)
	return nil
}

func (m *pickleMachine) pop() (any, error) {
	if len(m.stack) == 0 {
		return nil, errPickle
	}
	v := m.stack[len(m.stack)-1]
	if _, mark := v.(pickledMark); mark {
		return nil, errPickle
	}
	m.stack = m.stack[:len(m.stack)-1]
	return v, nil
}

// popMark removes the values since the last mark; they hold until the next push.
func (m *pickleMachine) popMark() ([]any, error) {
	for i := len(m.stack) - 1; i >= 0; i-- {
		if _, mark := m.stack[i].(pickledMark); mark {
			items := m.stack[i+1:]
			m.stack = m.stack[:i]
			return items, nil
		}
	}
	return nil, errors.New("has no mark")
}

// text reads a length of n bytes and as many bytes. Long ones, which are pixels,
// are not copied.
func (m *pickleMachine) text(n int) error {
	size, err := m.number(n)
	if err != nil {
		return err
	}
	b, err := m.take(uint64(size))
	if err != nil {
		return err
	}
	return m.push(b)
}

func (m *pickleMachine) line() (string, error) {
	n := bytes.IndexByte(m.in, '\n')
	if n < 0 || n > 200 {
		return "", errors.New("has no end of line")
	}
	b, err := m.take(uint64(n + 1))
	return string(b[:n]), err
}

func (m *pickleMachine) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		version, err := m.number(1)
		if err == nil && version > 5 {
			err = fmt.Errorf("protocol is %d, want at most 5", version)
		}
		return err
	case '(': // MARK
		return m.push(pickledMark{})
	case '}': // EMPTY_DICT
		return m.push(&pickledDict{})
	case ']': // EMPTY_LIST
		return m.push(&pickledList{})
	case ')': // EMPTY_TUPLE
		return m.push(pickledTuple{})
	case 'N': // NONE
		return m.push(nil)
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		return m.push(op == 0x88)
	case 'K', 'M', 'J': // BININT1, BININT2, BININT
		v, err := m.number(map[byte]int{'K': 1, 'M': 2, 'J': 4}[op])
		if err != nil {
			return err
		}
		return m.push(int(int32(v)))
	case 'U', 'C', 0x8c: // SHORT_BINSTRING, SHORT_BINBYTES, SHORT_BINUNICODE
		return m.text(1)
	case 'T', 'B', 'X': // BINSTRING, BINBYTES, BINUNICODE
		return m.text(4)
	case 'q', 'r': // BINPUT, LONG_BINPUT
		key, err := m.number(map[byte]int{'q': 1, 'r': 4}[op])
		if err != nil {
			return err
		}
		if len(m.stack) == 0 {
			return errPickle
		}
		m.memo[key] = m.stack[len(m.stack)-1]
		return nil
	case 'h', 'j': // BINGET, LONG_BINGET
		key, err := m.number(map[byte]int{'h': 1, 'j': 4}[op])
		if err != nil {
			return err
		}
		v, ok := m.memo[key]
		if !ok {
			return errPickle
		}
		return m.push(v)
	case 't', 0x85, 0x86, 0x87: // TUPLE, TUPLE1, TUPLE2, TUPLE3
		return m.tuple(op)
	case 'a', 'e', 's', 'u': // APPEND, APPENDS, SETITEM, SETITEMS
		return m.fill(op)
	case 'c': // GLOBAL
		module, err := m.line()
		if err != nil {
			return err
		}
		name, err := m.line()
		if err != nil {
			return err
		}
		known, ok := pickledAllowed[module+"."+name]
		if !ok {
			return errors.New("names a function that a batch has no need of")
		}
		return m.push(known)
	case 'R': // REDUCE
		return m.reduce()
	case 'b': // BUILD
		return m.build()
	}
	return errors.New("not an opcode that a batch has need of")
}

func (m *pickleMachine) tuple(op byte) error {
	if op == 't' {
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.push(append(pickledTuple(nil), items...))
	}
	items := make(pickledTuple, op-0x84)
	for i := len(items) - 1; i >= 0; i-- {
		v, err := m.pop()
		if err != nil {
			return err
		}
		items[i] = v
	}
	return m.push(items)
}

// fill adds items to the list or dictionary below them.
func (m *pickleMachine) fill(op byte) error {
	var items []any
	var err error
	switch op {
	case 'e', 'u':
		items, err = m.popMark()
	case 'a', 's':
		n := map[byte]int{'a': 1, 's': 2}[op]
		if len(m.stack) < n {
			return errPickle
		}
		items = m.stack[len(m.stack)-n:]
		m.stack = m.stack[:len(m.stack)-n]
	}
	if err != nil || len(m.stack) == 0 {
		return errors.Join(err, errPickle)
	}
	switch into := m.stack[len(m.stack)-1].(type) {
	case *pickledList:
		for _, item := range items {
			if n, ok := item.(int); ok {
				into.numbers = append(into.numbers, n)
			} else {
				into.other = true
			}
		}
		return nil
	case *pickledDict:
		if len(items)%2 != 0 {
			return errors.New("sets a key without a value")
		}
		for i := 0; i < len(items); i += 2 {
			if key, ok := items[i].([]byte); ok && len(key) < 100 {
				into.keys, into.values = append(into.keys, string(key)), append(into.values, items[i+1])
			}
		}
		return nil
	}
	return errors.New("fills what is neither a list nor a dictionary")
}

// reduce takes the recipe of an empty array, or of a type of values.
func (m *pickleMachine) reduce() error {
	args, err := m.pop()
	if err != nil {
		return err
	}
	f, err := m.pop()
	if err != nil {
		return err
	}
	t, ok := args.(pickledTuple)
	switch {
	case ok && f == pickledNames("reconstruct") && len(t) == 3 && t[0] == any(pickledNames("ndarray")):
		return m.push(&pickledArray{})
	case ok && f == pickledNames("dtype") && len(t) >= 1:
		name, _ := t[0].([]byte)
		return m.push(&pickledType{string(name[:min(len(name), 10)])})
	}
	return errors.New("calls what a batch has no need of")
}

// build fills the array: version, shape, type, order, bytes.
func (m *pickleMachine) build() error {
	state, err := m.pop()
	if err != nil {
		return err
	}
	if len(m.stack) == 0 {
		return errPickle
	}
	switch into := m.stack[len(m.stack)-1].(type) {
	case *pickledType: // Byte order and the like: of bytes there is one only.
		return nil
	case *pickledArray:
		t, _ := state.(pickledTuple)
		if len(t) != 5 {
			return errors.New("fills an array with something else than shape, type, order and bytes")
		}
		shape, _ := t[1].(pickledTuple)
		kind, _ := t[2].(*pickledType)
		data, isBytes := t[4].([]byte)
		if kind == nil || kind.name != "u1" || t[3] != any(false) || !isBytes || len(shape) != 2 {
			return errors.New("the array is not one of bytes, two dimensions, row by row")
		}
		rows, ok1 := shape[0].(int)
		columns, ok2 := shape[1].(int)
		if !ok1 || !ok2 || columns != cifarImage || rows < 0 || rows > len(data) || rows*columns != len(data) {
			return fmt.Errorf("the array has not %d bytes for each image", cifarImage)
		}
		into.data = data
		return nil
	}
	return errors.New("fills what is no array")
}
