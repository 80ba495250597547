package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Limits of the machine: far above what files of tensors or images need.
const (
	maxDepth = 1 << 20 // Values on the stack.
	maxText  = 1 << 20 // Bytes of one text.
)

// machine runs one program.
type machine struct {
	rules Rules
	in    []byte
	at    int
	stack []any
	marks []int
	memo  map[uint64]any
}

var (
	errEnd   = errors.New("program ends without STOP")
	errEmpty = errors.New("takes a value that is not there")
)

func (m *machine) take(n uint64) ([]byte, error) {
	if n > uint64(len(m.in)-m.at) {
		return nil, errEnd
	}
	b := m.in[m.at : m.at+int(n)]
	m.at += int(n)
	return b, nil
}

func (m *machine) push(v any) error {
	if len(m.stack) >= maxDepth {
		return fmt.Errorf("more than %d values on the stack", maxDepth)
	}
	m.stack = append(m.stack, v)
	return nil
}

func (m *machine) pop() (any, error) {
	floor := 0
	if len(m.marks) > 0 {
		floor = m.marks[len(m.marks)-1]
	}
	if len(m.stack) <= floor {
		return nil, errEmpty
	}
	v := m.stack[len(m.stack)-1]
	m.stack = m.stack[:len(m.stack)-1]
	return v, nil
}

// popMark removes the values since the last mark; they hold until the next push.
func (m *machine) popMark() ([]any, error) {
	if len(m.marks) == 0 {
		return nil, errors.New("has no mark")
	}
	at := m.marks[len(m.marks)-1]
	m.marks = m.marks[:len(m.marks)-1]
	items := m.stack[at:]
	m.stack = m.stack[:at]
	return items, nil
}

func (m *machine) top() (any, error) {
	v, err := m.pop()
	if err != nil {
		return nil, err
	}
	return v, m.push(v)
}

// number reads a little-endian unsigned number of n bytes.
func (m *machine) number(n int) (uint64, error) {
	b, err := m.take(uint64(n))
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:]), nil
}

// counted reads a number of n bytes, and as many bytes as it says.
func (m *machine) counted(n int) ([]byte, error) {
	size, err := m.number(n)
	if err != nil {
		return nil, err
	}
	return m.take(size)
}

func (m *machine) text(n int) error {
	size, err := m.number(n)
	if err != nil {
		return err
	}
	if size > maxText {
		return fmt.Errorf("string of %d bytes, want at most %d", size, maxText)
	}
	b, err := m.take(size)
	if err != nil {
		return err
	}
	return m.push(string(b))
}

func (m *machine) bytes(n int) error {
	b, err := m.counted(n)
	if err != nil {
		return err
	}
	return m.push(Bytes(b))
}

// line reads up to a newline.
func (m *machine) line() (string, error) {
	n := bytes.IndexByte(m.in[m.at:], '\n')
	if n < 0 || n > maxText {
		return "", errEnd
	}
	b, err := m.take(uint64(n + 1))
	if err != nil {
		return "", err
	}
	return string(b[:n]), nil
}

// step runs one opcode; done after STOP.
func (m *machine) step() (done bool, err error) {
	op, err := m.take(1)
	if err != nil {
		return false, err
	}
	switch op[0] {
	case '.': // STOP
		return true, nil
	case 0x80: // PROTO
		var version uint64
		if version, err = m.number(1); err == nil && version > 5 {
			err = fmt.Errorf("protocol is %d, want at most 5", version)
		}
	case 0x95: // FRAME
		_, err = m.take(8)
	case '(': // MARK
		if m.marks = append(m.marks, len(m.stack)); len(m.marks) > maxDepth {
			err = fmt.Errorf("more than %d marks", maxDepth)
		}
	case '0': // POP
		_, err = m.pop()
	case '}': // EMPTY_DICT
		err = m.push(&Dict{Values: map[string]any{}})
	case ']': // EMPTY_LIST
		err = m.push(&List{})
	case ')': // EMPTY_TUPLE
		err = m.push(Tuple{})
	case 'N': // NONE
		err = m.push(nil)
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		err = m.push(op[0] == 0x88)
	case 'K', 'M': // BININT1, BININT2
		var v uint64
		if v, err = m.number(map[byte]int{'K': 1, 'M': 2}[op[0]]); err == nil {
			err = m.push(int64(v))
		}
	case 'J': // BININT
		var v uint64
		if v, err = m.number(4); err == nil {
			err = m.push(int64(int32(v)))
		}
	case 0x8a: // LONG1
		err = m.long()
	case 'G': // BINFLOAT, big-endian
		var b []byte
		if b, err = m.take(8); err == nil {
			err = m.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
		}
	case 'X': // BINUNICODE
		err = m.text(4)
	case 'U', 0x8c: // SHORT_BINSTRING, SHORT_BINUNICODE
		err = m.text(1)
	case 'C': // SHORT_BINBYTES
		err = m.bytes(1)
	case 'B', 'T': // BINBYTES, BINSTRING
		err = m.bytes(4)
	case 'q', 'r', 0x94: // BINPUT, LONG_BINPUT, MEMOIZE
		err = m.remember(op[0])
	case 'h', 'j': // BINGET, LONG_BINGET
		var key uint64
		if key, err = m.number(map[byte]int{'h': 1, 'j': 4}[op[0]]); err == nil {
			v, ok := m.memo[key]
			if !ok {
				return false, fmt.Errorf("recalls value %d, which was not kept", key)
			}
			err = m.push(v)
		}
	case 't', 0x85, 0x86, 0x87: // TUPLE, TUPLE1, TUPLE2, TUPLE3
		err = m.tuple(op[0])
	case 'a', 'e', 's', 'u': // APPEND, APPENDS, SETITEM, SETITEMS
		err = m.fill(op[0])
	case 'c', 0x93: // GLOBAL, STACK_GLOBAL
		err = m.name(op[0])
	case 'Q': // BINPERSID
		err = m.persistent()
	case 'R': // REDUCE
		err = m.reduce()
	case 'b': // BUILD
		err = m.build()
	default:
		err = fmt.Errorf("%w: opcode %q (0x%02x)", ErrRefused, op, op[0])
	}
	return false, err
}

func (m *machine) long() error {
	b, err := m.counted(1)
	if err != nil {
		return err
	}
	n := len(b)
	if n > 8 {
		return fmt.Errorf("integer of %d bytes, want at most 8", n)
	}
	var wide [8]byte
	if n > 0 && b[n-1] >= 0x80 { // Sign.
		wide = [8]byte{255, 255, 255, 255, 255, 255, 255, 255}
	}
	copy(wide[:], b)
	return m.push(int64(binary.LittleEndian.Uint64(wide[:])))
}

func (m *machine) remember(op byte) error {
	key := uint64(len(m.memo))
	if op != 0x94 {
		var err error
		if key, err = m.number(map[byte]int{'q': 1, 'r': 4}[op]); err != nil {
			return err
		}
	}
	v, err := m.top()
	if err != nil {
		return err
	}
	m.memo[key] = v
	return nil
}

func (m *machine) tuple(op byte) error {
	if op == 't' {
		items, err := m.popMark()
		if err != nil {
			return err
		}
		return m.push(append(Tuple{}, items...))
	}
	items := make(Tuple, op-0x84)
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
func (m *machine) fill(op byte) error {
	var items []any
	var err error
	switch op {
	case 'e', 'u':
		items, err = m.popMark()
	case 'a', 's':
		items = make([]any, map[byte]int{'a': 1, 's': 2}[op])
		for i := len(items) - 1; i >= 0 && err == nil; i-- {
			items[i], err = m.pop()
		}
	}
	if err != nil {
		return err
	}
	object, err := m.top()
	if err != nil {
		return err
	}
	switch into := object.(type) {
	case *List:
		if op == 'a' || op == 'e' {
			into.Items = append(into.Items, items...)
			return nil
		}
	case *Dict:
		if (op == 's' || op == 'u') && len(items)%2 == 0 {
			for i := 0; i < len(items); i += 2 {
				into.set(items[i], items[i+1])
			}
			return nil
		}
	}
	return fmt.Errorf("puts %d items into %T", len(items), object)
}

// name pushes a function or class by name; only one that the format needs.
func (m *machine) name(op byte) error {
	var module, name string
	if op == 'c' {
		var err error
		if module, err = m.line(); err != nil {
			return err
		}
		if name, err = m.line(); err != nil {
			return err
		}
	} else {
		b, err := m.pop()
		if err != nil {
			return err
		}
		a, err := m.pop()
		if err != nil {
			return err
		}
		var ok1, ok2 bool
		module, ok1 = a.(string)
		name, ok2 = b.(string)
		if !ok1 || !ok2 {
			return errors.New("names a function by something that is no text")
		}
	}
	full := module + "." + name
	if m.rules.Allowed == nil || !m.rules.Allowed(full) {
		return fmt.Errorf("%w: %q", ErrRefused, full)
	}
	return m.push(Global(full))
}

func (m *machine) persistent() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	id, ok := v.(Tuple)
	if !ok || m.rules.Persistent == nil {
		return fmt.Errorf("%w: persistent id of %T", ErrRefused, v)
	}
	object, err := m.rules.Persistent(id)
	if err != nil {
		return err
	}
	return m.push(object)
}

// reduce does what an allowed function does.
func (m *machine) reduce() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	f, err := m.pop()
	if err != nil {
		return err
	}
	args, ok := v.(Tuple)
	if !ok {
		return fmt.Errorf("calls with %T, want a tuple", v)
	}
	name, ok := f.(Global)
	if !ok || m.rules.Call == nil {
		return fmt.Errorf("%w: call of %T", ErrRefused, f)
	}
	object, err := m.rules.Call(name, args)
	if err != nil {
		return err
	}
	return m.push(object)
}

// build sets attributes of an object.
func (m *machine) build() error {
	state, err := m.pop()
	if err != nil {
		return err
	}
	object, err := m.top()
	if err != nil {
		return err
	}
	if m.rules.Build == nil {
		return fmt.Errorf("%w: attributes of %T", ErrRefused, object)
	}
	return m.rules.Build(object, state)
}
