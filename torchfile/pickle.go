package torchfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// ErrRefused is matched by the error of a file that asks for something which a
// file of tensors has no need of.
var ErrRefused = errors.New("not allowed in a file of tensors")

// Limits of the machine: far above what state dictionaries need.
const (
	maxPickle = 64 << 20 // Bytes of data.pkl.
	maxDepth  = 1 << 20  // Values on the stack.
	maxText   = 1 << 20  // Bytes of one string.
)

// Values of the machine, besides string, int64, float64, bool and nil.
type (
	// dict keeps the order of its keys. Values of keys that are no strings are
	// dropped: no tensor has such a name.
	dict struct {
		keys   []string
		values map[string]any
	}
	list   struct{ items []any }
	tuple  []any
	marker struct{}
	global string // "module.name": named, never called but by call below.
	stored []any  // Persistent id: ("storage", type, key, location, elements).
	blob   []byte // Bytes object; nothing is made of it.
)

func newDict() *dict { return &dict{values: map[string]any{}} }

func (d *dict) set(key, value any) {
	k, ok := key.(string)
	if !ok {
		return
	}
	if _, there := d.values[k]; !there {
		d.keys = append(d.keys, k)
	}
	d.values[k] = value
}

// machine runs one pickle.
type machine struct {
	in    []byte
	at    int
	stack []any
	marks []int
	memo  map[uint64]any
}

// unpickle runs a program to its STOP and returns what it built.
func unpickle(program []byte) (any, error) {
	m := &machine{in: program, memo: map[uint64]any{}}
	for {
		done, err := m.step()
		if err != nil {
			return nil, fmt.Errorf("pickle at byte %d: %w", m.at, err)
		}
		if done {
			if len(m.stack) != 1 {
				return nil, fmt.Errorf("pickle ends with %d values, want one", len(m.stack))
			}
			return m.stack[0], nil
		}
	}
}

var errEnd = errors.New("program ends without STOP")

func (m *machine) take(n int) ([]byte, error) {
	if n < 0 || n > len(m.in)-m.at {
		return nil, errEnd
	}
	b := m.in[m.at : m.at+n]
	m.at += n
	return b, nil
}

func (m *machine) push(v any) error {
	if len(m.stack) >= maxDepth {
		return fmt.Errorf("more than %d values on the stack", maxDepth)
	}
	m.stack = append(m.stack, v)
	return nil
}

var errEmpty = errors.New("takes a value that is not there")

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

// popMark returns the values since the last mark.
func (m *machine) popMark() ([]any, error) {
	if len(m.marks) == 0 {
		return nil, errors.New("has no mark")
	}
	at := m.marks[len(m.marks)-1]
	m.marks = m.marks[:len(m.marks)-1]
	items := append([]any(nil), m.stack[at:]...)
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
	b, err := m.take(n)
	if err != nil {
		return 0, err
	}
	var wide [8]byte
	copy(wide[:], b)
	return binary.LittleEndian.Uint64(wide[:]), nil
}

func (m *machine) text(n uint64) error {
	if n > maxText {
		return fmt.Errorf("string of %d bytes, want at most %d", n, maxText)
	}
	b, err := m.take(int(n))
	if err != nil {
		return err
	}
	return m.push(string(b))
}

// line reads up to a newline.
func (m *machine) line() (string, error) {
	n := bytes.IndexByte(m.in[m.at:], '\n')
	if n < 0 || n > maxText {
		return "", errEnd
	}
	b, err := m.take(n + 1)
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
	length := func(n int) error {
		size, err := m.number(n)
		if err != nil {
			return err
		}
		return m.text(size)
	}
	switch op[0] {
	case '.': // STOP
		return true, nil
	case 0x80: // PROTO
		version, err := m.number(1)
		if err == nil && version > 5 {
			err = fmt.Errorf("protocol is %d, want at most 5", version)
		}
		return false, err
	case 0x95: // FRAME
		_, err = m.take(8)
	case '(': // MARK
		m.marks = append(m.marks, len(m.stack))
		if len(m.marks) > maxDepth {
			err = fmt.Errorf("more than %d marks", maxDepth)
		}
	case '0': // POP
		_, err = m.pop()
	case '}': // EMPTY_DICT
		err = m.push(newDict())
	case ']': // EMPTY_LIST
		err = m.push(&list{})
	case ')': // EMPTY_TUPLE
		err = m.push(tuple{})
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
		err = length(4)
	case 0x8c: // SHORT_BINUNICODE
		err = length(1)
	case 'U': // SHORT_BINSTRING
		err = length(1)
	case 'C', 'B': // SHORT_BINBYTES, BINBYTES
		var size uint64
		if size, err = m.number(map[byte]int{'C': 1, 'B': 4}[op[0]]); err == nil {
			var b []byte
			if b, err = m.take(int(size)); err == nil {
				err = m.push(blob(b))
			}
		}
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
	n, err := m.number(1)
	if err != nil {
		return err
	}
	b, err := m.take(int(n))
	if err != nil {
		return err
	}
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
		return m.push(tuple(items))
	}
	items := make(tuple, op-0x84)
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
	case 'a':
		items = make([]any, 1)
		items[0], err = m.pop()
	case 's':
		items = make([]any, 2)
		if items[1], err = m.pop(); err == nil {
			items[0], err = m.pop()
		}
	}
	if err != nil {
		return err
	}
	into, err := m.top()
	if err != nil {
		return err
	}
	switch x := into.(type) {
	case *list:
		if op == 'a' || op == 'e' {
			x.items = append(x.items, items...)
			return nil
		}
	case *dict:
		if (op == 's' || op == 'u') && len(items)%2 == 0 {
			for i := 0; i < len(items); i += 2 {
				x.set(items[i], items[i+1])
			}
			return nil
		}
	}
	return fmt.Errorf("puts %d items into %T", len(items), into)
}

// name pushes a function or class by name; only those of a file of tensors.
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
	if _, storage := storageTypes[full]; !storage && !callable[full] && !strings.HasPrefix(full, "pytorch_lightning.") {
		return fmt.Errorf("%w: %q", ErrRefused, full)
	}
	return m.push(global(full))
}

// callable holds the functions that reduce knows. Classes of pytorch_lightning
// are keys of its checkpoints; they may be named, and calling one is refused.
var callable = map[string]bool{rebuildTensor: true, rebuildParameter: true, orderedDict: true}

const (
	rebuildTensor    = "torch._utils._rebuild_tensor_v2"
	rebuildParameter = "torch._utils._rebuild_parameter"
	orderedDict      = "collections.OrderedDict"
)

func (m *machine) persistent() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	id, ok := v.(tuple)
	if !ok || len(id) < 5 || id[0] != "storage" {
		return fmt.Errorf("%w: persistent id %v, want a storage", ErrRefused, v)
	}
	return m.push(stored(id))
}

// reduce does what the allowed functions do.
func (m *machine) reduce() error {
	v, err := m.pop()
	if err != nil {
		return err
	}
	f, err := m.pop()
	if err != nil {
		return err
	}
	args, ok := v.(tuple)
	if !ok {
		return fmt.Errorf("calls with %T, want a tuple", v)
	}
	switch f {
	case global(rebuildTensor):
		t, err := newTensor(args)
		if err != nil {
			return err
		}
		return m.push(t)
	case global(rebuildParameter):
		if len(args) == 0 {
			return errors.New("rebuilds a parameter of nothing")
		}
		return m.push(args[0])
	case global(orderedDict):
		d := newDict()
		if len(args) > 0 { // Pairs.
			pairs, ok := args[0].(*list)
			if !ok {
				return fmt.Errorf("makes a dictionary of %T", args[0])
			}
			for _, p := range pairs.items {
				pair, ok := p.(tuple)
				if l, isList := p.(*list); isList {
					pair, ok = tuple(l.items), true
				}
				if !ok || len(pair) != 2 {
					return errors.New("makes a dictionary of things that are no pairs")
				}
				d.set(pair[0], pair[1])
			}
		}
		return m.push(d)
	}
	if name, ok := f.(global); ok {
		return fmt.Errorf("%w: call of %q", ErrRefused, string(name))
	}
	return fmt.Errorf("%w: call of %T", ErrRefused, f)
}

// build sets attributes of an object: of dictionaries they are dropped, since a
// state dictionary keeps only its version there.
func (m *machine) build() error {
	if _, err := m.pop(); err != nil {
		return err
	}
	v, err := m.top()
	if err != nil {
		return err
	}
	if _, ok := v.(*dict); !ok {
		return fmt.Errorf("%w: attributes of %T", ErrRefused, v)
	}
	return nil
}
