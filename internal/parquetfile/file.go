package parquetfile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
)

// Kind is the physical type of a column.
type Kind int32

// Those that are read.
const (
	Int32     Kind = 1
	Int64     Kind = 2
	ByteArray Kind = 6
)

// Column is a leaf of the schema.
type Column struct {
	Path     []string // Names from the top.
	Kind     Kind
	optional int  // How many of the path are optional.
	repeated bool // One of the path is a list.
}

// chunk is a column in a row group.
type chunk struct {
	column        int
	codec         int64
	values        int64
	start, length int64
}

// group is a row group.
type group struct {
	rows   int64
	chunks []chunk
}

// File is an open file.
type File struct {
	in      io.ReaderAt
	size    int64
	rows    int64
	columns []Column
	groups  []group
	keys    map[string]string
	room    int64 // Bytes that pages may still unfold to.
}

// Limits. A row that differs from others takes more than rowBytes bytes.
const (
	rowBytes     = 64
	moreRows     = 1 << 12
	maxColumns   = 1 << 10
	maxKeys      = 64
	moreUnfolded = 1 << 18
)

var magic = []byte("PAR1")

// New reads the metadata of a file of size bytes.
func New(in io.ReaderAt, size int64) (*File, error) {
	var tail [8]byte
	if size < 12 {
		return nil, broken("%d bytes, want at least 12", size)
	}
	if _, err := in.ReadAt(tail[:], size-8); err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	if string(tail[4:]) == "PARE" {
		return nil, fmt.Errorf("an encrypted Parquet file: %w", ErrUnsupported)
	}
	if !bytes.Equal(tail[4:], magic) {
		return nil, broken("it does not end with PAR1: it was cut, or is of another kind")
	}
	length := int64(binary.LittleEndian.Uint32(tail[:4]))
	if length > size-12 {
		return nil, broken("metadata have %d bytes in a file of %d", length, size)
	}
	data := make([]byte, length)
	if _, err := in.ReadAt(data, size-8-length); err != nil {
		return nil, fmt.Errorf("read metadata: %w", err)
	}
	f := &File{in: in, size: size, room: 2*size + moreUnfolded}
	if err := f.footer(&thrift{in: data}); err != nil {
		return nil, err
	}
	return f, f.check()
}

// element is an element of the schema before it is put together.
type element struct {
	name     string
	kind     Kind
	repeat   int64
	children int64
}

func (f *File) footer(t *thrift) error {
	var schema []element
	most := int(f.size/rowBytes) + moreRows
	err := t.fields(func(id int, kind byte) (bool, error) {
		var err error
		switch {
		case id == 2 && kind == thriftList:
			return true, t.list(thriftStruct, maxColumns, func(n int) { schema = make([]element, 0, n) }, func() error {
				e, err := t.element()
				schema = append(schema, e)
				return err
			})
		case id == 3 && kind == thriftI64:
			f.rows, err = t.int()
			return true, err
		case id == 4 && kind == thriftList:
			return true, t.list(thriftStruct, most, nil, func() error {
				g, err := f.group(t, &most)
				f.groups = append(f.groups, g)
				return err
			})
		case id == 5 && kind == thriftList:
			return true, t.list(thriftStruct, maxKeys, nil, func() error { return f.key(t) })
		case id == 8:
			return true, fmt.Errorf("an encrypted Parquet file: %w", ErrUnsupported)
		}
		return false, nil
	})
	if err != nil {
		return err
	}
	return f.leaves(schema)
}

func (t *thrift) element() (element, error) {
	e := element{kind: -1}
	err := t.fields(func(id int, kind byte) (bool, error) {
		var err error
		var v int64
		switch {
		case id == 1 && kind == thriftI32:
			v, err = t.int()
			e.kind = Kind(v)
		case id == 3 && kind == thriftI32:
			e.repeat, err = t.int()
		case id == 4 && kind == thriftBinary:
			var b []byte
			b, err = t.bytes()
			e.name = string(b)
		case id == 5 && kind == thriftI32:
			e.children, err = t.int()
		default:
			return false, nil
		}
		return true, err
	})
	return e, err
}

// leaves finds the columns: the schema lists its tree in order, each inner element
// with the number of its children.
func (f *File) leaves(schema []element) error {
	if len(schema) == 0 {
		return broken("there is no schema")
	}
	at := 0
	var walk func(c Column, top bool, depth int) error
	walk = func(c Column, top bool, depth int) error {
		if at >= len(schema) || depth > maxNesting {
			return broken("the schema is no tree")
		}
		e := schema[at]
		at++
		if !top {
			c.Path = append(slices.Clip(c.Path), e.name)
			switch e.repeat {
			case 1:
				c.optional++
			case 2:
				c.optional++
				c.repeated = true
			}
		}
		if e.children <= 0 {
			if top {
				return broken("the schema has no columns")
			}
			c.Kind = e.kind
			f.columns = append(f.columns, c)
			return nil
		}
		for range e.children {
			if err := walk(c, false, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return walk(Column{}, true, 0)
}

func (f *File) key(t *thrift) error {
	var key, value []byte
	err := t.fields(func(id int, kind byte) (bool, error) {
		var err error
		switch {
		case id == 1 && kind == thriftBinary:
			key, err = t.bytes()
		case id == 2 && kind == thriftBinary:
			value, err = t.bytes()
		default:
			return false, nil
		}
		return true, err
	})
	if f.keys == nil {
		f.keys = map[string]string{}
	}
	f.keys[string(key)] = string(value)
	return err
}

// group reads a row group. most is how many chunks may still come.
func (f *File) group(t *thrift, most *int) (group, error) {
	var g group
	err := t.fields(func(id int, kind byte) (bool, error) {
		var err error
		switch {
		case id == 1 && kind == thriftList:
			return true, t.list(thriftStruct, min(*most, maxColumns), func(n int) {
				g.chunks = make([]chunk, 0, n)
				*most -= n
			}, func() error {
				c, err := t.chunk()
				c.column = len(g.chunks)
				g.chunks = append(g.chunks, c)
				return err
			})
		case id == 3 && kind == thriftI64:
			g.rows, err = t.int()
			return true, err
		}
		return false, nil
	})
	return g, err
}

func (t *thrift) chunk() (chunk, error) {
	var c chunk
	data, dictionary := int64(0), int64(0)
	err := t.fields(func(id int, kind byte) (bool, error) {
		switch {
		case id == 1:
			return true, fmt.Errorf("columns in other files: %w", ErrUnsupported)
		case id == 8:
			return true, fmt.Errorf("an encrypted column: %w", ErrUnsupported)
		case id != 3 || kind != thriftStruct:
			return false, nil
		}
		return true, t.fields(func(id int, kind byte) (bool, error) {
			into := map[int]*int64{4: &c.codec, 5: &c.values, 7: &c.length, 9: &data, 11: &dictionary}[id]
			if into == nil || kind != thriftI64 && kind != thriftI32 {
				return false, nil
			}
			var err error
			*into, err = t.int()
			return true, err
		})
	})
	c.start = data
	if dictionary > 0 && dictionary < data {
		c.start = dictionary
	}
	return c, err
}

// check says whether what the metadata promise can be: chunks lie apart in the
// file, and there are no more rows than it can hold.
func (f *File) check() error {
	most := f.size/rowBytes + moreRows
	if f.rows < 0 || f.rows > most {
		return broken("%d rows in %d bytes, want at most %d", f.rows, f.size, most)
	}
	rows, length := int64(0), int64(0)
	for _, g := range f.groups {
		if g.rows < 0 || g.rows > f.rows-rows {
			return broken("the row groups do not have as many rows as the file, %d", f.rows)
		}
		rows += g.rows
		if len(g.chunks) != len(f.columns) {
			return broken("a row group has %d columns, the schema %d", len(g.chunks), len(f.columns))
		}
		for _, c := range g.chunks {
			if c.start < 4 || c.length < 0 || c.start > f.size-8 || c.length > f.size-8-c.start {
				return broken("a column lies outside of the file")
			}
			if length += c.length; length > f.size {
				return broken("columns overlap")
			}
		}
	}
	if rows != f.rows {
		return broken("the row groups have %d rows, the file %d", rows, f.rows)
	}
	return nil
}

// Rows returns the number of rows.
func (f *File) Rows() int { return int(f.rows) }

// Groups returns the number of row groups.
func (f *File) Groups() int { return len(f.groups) }

// GroupRows returns the number of rows of a row group.
func (f *File) GroupRows(i int) int { return int(f.groups[i].rows) }

// Columns returns the leaves of the schema in order.
func (f *File) Columns() []Column { return slices.Clone(f.columns) }

// Lookup returns a value of the file's own metadata.
func (f *File) Lookup(key string) (string, bool) {
	v, ok := f.keys[key]
	return v, ok
}

// Find returns the number of the column with that path, -1 for none.
func (f *File) Find(path ...string) int {
	return slices.IndexFunc(f.columns, func(c Column) bool { return slices.Equal(c.Path, path) })
}
