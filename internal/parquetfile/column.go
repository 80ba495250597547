package parquetfile

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Encodings.
const (
	plain           = 0
	plainDictionary = 2
	runLength       = 3
	deltaPacked     = 5
	deltaLengthByte = 6
	deltaByte       = 7
	dictionaryIndex = 8
)

// Bytes returns the values of a column of byte arrays in a row group: nil where a
// row has none. They share memory with each other.
func (f *File) Bytes(group, column int) ([][]byte, error) {
	if err := f.readable(column, ByteArray); err != nil {
		return nil, err
	}
	return read(f, group, column, func(in []byte, encoding int64, n int) ([][]byte, error) {
		switch encoding {
		case plain:
			return plainBytes(in, n)
		case deltaLengthByte:
			return deltaLengths(in, n)
		case deltaByte:
			return f.deltaBytes(in, n)
		}
		return nil, fmt.Errorf("a column of byte arrays with encoding %d: %w", encoding, ErrUnsupported)
	})
}

// Ints returns the values of a column of integers in a row group: nil where a row
// has none.
func (f *File) Ints(group, column int) ([]*int64, error) {
	if column < 0 || column >= len(f.columns) || f.columns[column].Kind != Int32 {
		if err := f.readable(column, Int64); err != nil {
			return nil, err
		}
	}
	if err := f.readable(column, f.columns[column].Kind); err != nil {
		return nil, err
	}
	size := map[Kind]int{Int32: 4, Int64: 8}[f.columns[column].Kind]
	return read(f, group, column, func(in []byte, encoding int64, n int) ([]*int64, error) {
		var values []int64
		var err error
		switch encoding {
		case plain:
			values, err = plainInts(in, n, size)
		case deltaPacked:
			values, _, err = deltas(in, n)
		default:
			return nil, fmt.Errorf("a column of integers with encoding %d: %w", encoding, ErrUnsupported)
		}
		out := make([]*int64, len(values))
		for i := range values {
			out[i] = &values[i]
		}
		return out, err
	})
}

// readable refuses columns of another type, and lists.
func (f *File) readable(column int, kind Kind) error {
	if column < 0 || column >= len(f.columns) {
		return fmt.Errorf("column %d of %d", column, len(f.columns))
	}
	c := f.columns[column]
	if c.repeated {
		return fmt.Errorf("column %s is a list: %w", strings.Join(c.Path, "."), ErrUnsupported)
	}
	if c.Kind != kind {
		return fmt.Errorf("column %s is of physical type %d, want %d: %w", strings.Join(c.Path, "."), c.Kind, kind, ErrUnsupported)
	}
	return nil
}

// read decodes the pages of a column in a row group.
func read[T ~[]E, E any](f *File, group, column int, decode func(in []byte, encoding int64, n int) (T, error)) (T, error) {
	g := &f.groups[group]
	c, of := g.chunks[column], f.columns[column]
	data := make([]byte, c.length)
	if _, err := f.in.ReadAt(data, c.start); err != nil {
		return nil, fmt.Errorf("read column: %w", err)
	}
	if c.values != g.rows {
		return nil, broken("a column has %d values for %d rows", c.values, g.rows)
	}
	out := make(T, 0, g.rows)
	var dictionary T
	for t := (&thrift{in: data}); len(out) < int(g.rows); {
		p, err := t.page()
		if err != nil {
			return nil, err
		}
		if p.compressed < 0 || p.compressed > int64(len(data)-t.at) || p.values < 0 || p.unfolded < 0 {
			return nil, broken("a page has %d bytes and %d values", p.compressed, p.values)
		}
		body := data[t.at : t.at+int(p.compressed)]
		t.at += int(p.compressed)
		switch p.kind {
		case pageIndex:
			continue
		case pageDictionary:
			if dictionary != nil || len(out) > 0 {
				return nil, broken("a column has a second dictionary, or a late one")
			}
			if body, err = f.unfold(c.codec, body, p.unfolded); err != nil {
				return nil, err
			}
			if p.values > int64(len(body)) {
				return nil, broken("%d values in %d bytes", p.values, len(body))
			}
			if dictionary, err = decode(body, plain, int(p.values)); err != nil {
				return nil, err
			}
			continue
		case pageData, pageDataV2:
		default:
			return nil, broken("a page is of kind %d", p.kind)
		}
		if p.values == 0 || p.values > g.rows-int64(len(out)) {
			return nil, broken("a page has %d values, want at most %d", p.values, g.rows-int64(len(out)))
		}
		present, rest, err := f.levels(&p, c.codec, of.optional, body)
		if err != nil {
			return nil, err
		}
		n := int(p.values)
		if present != nil {
			n = 0
			for _, yes := range present {
				if yes {
					n++
				}
			}
		}
		var values T
		if p.encoding == dictionaryIndex || p.encoding == plainDictionary {
			values, err = look(dictionary, rest, n)
		} else {
			values, err = decode(rest, p.encoding, n)
		}
		if err != nil {
			return nil, err
		}
		if present == nil {
			out = append(out, values...)
			continue
		}
		next := 0
		for _, yes := range present {
			var v E
			if yes {
				v = values[next]
				next++
			}
			out = append(out, v)
		}
	}
	return out, nil
}

// levels takes the definition levels off a page and unfolds it: which rows have a
// value, nil for all, and the values.
func (f *File) levels(p *page, codec int64, optional int, body []byte) (present []bool, values []byte, err error) {
	var levels []byte
	if p.kind == pageDataV2 {
		if p.repeats != 0 || p.levels < 0 || p.levels > int64(len(body)) || p.levels > p.unfolded {
			return nil, nil, broken("a page has %d and %d bytes of levels", p.repeats, p.levels)
		}
		if p.plain {
			codec = 0
		}
		levels = body[:p.levels]
		if values, err = f.unfold(codec, body[p.levels:], p.unfolded-p.levels); err != nil {
			return nil, nil, err
		}
	} else {
		if values, err = f.unfold(codec, body, p.unfolded); err != nil {
			return nil, nil, err
		}
		if optional > 0 {
			if p.levelEncoding != runLength {
				return nil, nil, fmt.Errorf("levels with encoding %d: %w", p.levelEncoding, ErrUnsupported)
			}
			if len(values) < 4 || uint64(binary.LittleEndian.Uint32(values)) > uint64(len(values)-4) {
				return nil, nil, errShort
			}
			n := binary.LittleEndian.Uint32(values)
			levels, values = values[4:4+n], values[4+n:]
		}
	}
	if optional == 0 {
		return nil, values, nil
	}
	present = make([]bool, 0, p.values)
	all := true
	err = hybrid(levels, bitsFor(optional), int(p.values), func(level uint32, times int) {
		for range times {
			present = append(present, level == uint32(optional))
		}
		all = all && level == uint32(optional)
	})
	if all {
		present = nil
	}
	return present, values, err
}

// look returns the values of a dictionary by number.
func look[T ~[]E, E any](dictionary T, in []byte, n int) (T, error) {
	out := make(T, 0, n)
	if n == 0 {
		return out, nil
	}
	if len(in) == 0 {
		return nil, errShort
	}
	bad := false
	err := hybrid(in[1:], int(in[0]), n, func(number uint32, times int) {
		if uint64(number) >= uint64(len(dictionary)) {
			bad = true
			return
		}
		for range times {
			out = append(out, dictionary[number])
		}
	})
	if err == nil && bad {
		err = broken("a value is not in the dictionary of %d", len(dictionary))
	}
	return out, err
}
