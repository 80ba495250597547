// Package pickle runs the programs of Python's pickle files without running
// anything of theirs. A pickle may name any function of Python and call it; here
// a format says by its [Rules] which names its files need and what each means, and
// all else is an error that names it ([ErrRefused]).
package pickle

import (
	"errors"
	"fmt"
)

// ErrRefused is matched by the error of a program that asks for something which
// its format has no need of.
var ErrRefused = errors.New("not allowed in a file of this format")

// Values of a program, besides string, int64, float64, bool and nil. Strings are
// texts, and byte strings of Python 2 shorter than 256 bytes, which were its texts.
type (
	// Dict keeps the order of its keys. Values of keys that are no texts are dropped.
	Dict struct {
		Keys   []string
		Values map[string]any
	}
	// List is a list.
	List struct{ Items []any }
	// Tuple is a tuple.
	Tuple []any
	// Global is a function or class by its name, "module.name".
	Global string
	// Bytes are bytes of the program itself, not copied.
	Bytes []byte
)

// Rules say what the files of a format may ask for. What is nil is refused.
type Rules struct {
	Allowed    func(name string) bool                  // Functions and classes that may be named.
	Call       func(f Global, args Tuple) (any, error) // What an allowed function gives.
	Build      func(object, state any) error           // Sets the attributes of an object.
	Persistent func(id Tuple) (any, error)             // An object that is stored elsewhere.
}

// Run runs a program to its end and returns what it built.
func Run(program []byte, rules Rules) (any, error) {
	m := &machine{in: program, rules: rules, memo: map[uint64]any{}}
	for {
		start := m.at
		done, err := m.step()
		if err != nil {
			return nil, fmt.Errorf("pickle at byte %d: %w", start, err)
		}
		if !done {
			continue
		}
		if len(m.stack) != 1 {
			return nil, fmt.Errorf("pickle ends with %d values, want one", len(m.stack))
		}
		return m.stack[0], nil
	}
}

// NewDict returns a dictionary of pairs, as collections.OrderedDict takes them; of
// nothing if there are none.
func NewDict(args Tuple) (*Dict, error) {
	d := &Dict{Values: map[string]any{}}
	if len(args) == 0 {
		return d, nil
	}
	pairs, ok := args[0].(*List)
	if !ok {
		return nil, fmt.Errorf("makes a dictionary of %T", args[0])
	}
	for _, p := range pairs.Items {
		pair, ok := p.(Tuple)
		if l, isList := p.(*List); isList {
			pair, ok = Tuple(l.Items), true
		}
		if !ok || len(pair) != 2 {
			return nil, errors.New("makes a dictionary of things that are no pairs")
		}
		d.set(pair[0], pair[1])
	}
	return d, nil
}

func (d *Dict) set(key, value any) {
	k, ok := key.(string)
	if b, isBytes := key.(Bytes); isBytes && len(b) < 256 {
		k, ok = string(b), true
	}
	if !ok {
		return
	}
	if _, there := d.Values[k]; !there {
		d.Keys = append(d.Keys, k)
	}
	d.Values[k] = value
}
