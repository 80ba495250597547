package parquetfile

import (
	"encoding/binary"
	"math/bits"
)

// hybrid decodes n numbers of a width in bits: runs of one value, and groups of
// eight packed ones. It gives what the values are, run by run.
func hybrid(in []byte, width, n int, emit func(value uint32, times int)) error {
	if width < 0 || width > 32 {
		return broken("numbers of %d bits", width)
	}
	t := &thrift{in: in}
	for n > 0 {
		head, err := t.uvarint()
		if err != nil {
			return err
		}
		if head&1 == 0 {
			var value uint32
			for i := range (width + 7) / 8 {
				b, err := t.byte()
				if err != nil {
					return err
				}
				value |= uint32(b) << (8 * i)
			}
			run := head >> 1
			if run == 0 {
				return broken("a run of no values")
			}
			times := int(min(run, uint64(n)))
			emit(value, times)
			n -= times
			continue
		}
		groups := head >> 1
		if groups == 0 || groups > uint64(n+7)/8 {
			return broken("%d groups of values, want at most %d", groups, (n+7)/8)
		}
		size := int(groups) * width
		if size > len(in)-t.at {
			return errShort
		}
		packed := in[t.at : t.at+size]
		t.at += size
		for i := range min(n, int(groups)*8) {
			emit(uint32(unpack(packed, i*width, width)), 1)
		}
		n -= min(n, int(groups)*8)
	}
	return nil
}

// unpack returns width bits from bit at on, the lowest first.
func unpack(in []byte, at, width int) uint64 {
	var v uint64
	for got := 0; got < width; {
		part := min(8-at%8, width-got)
		v |= uint64(in[at/8]>>(at%8)&(1<<part-1)) << got
		at, got = at+part, got+part
	}
	return v
}

// plainBytes decodes n byte arrays, each behind its length. They are parts of in.
func plainBytes(in []byte, n int) ([][]byte, error) {
	if n < 0 || n > len(in)/4 {
		return nil, broken("%d values in %d bytes", n, len(in))
	}
	out := make([][]byte, n)
	for i := range out {
		if len(in) < 4 {
			return nil, errShort
		}
		size := binary.LittleEndian.Uint32(in)
		if uint64(size) > uint64(len(in)-4) {
			return nil, errShort
		}
		out[i], in = in[4:4+size:4+size], in[4+size:]
	}
	return out, nil
}

// plainInts decodes n integers of size bytes.
func plainInts(in []byte, n, size int) ([]int64, error) {
	if n < 0 || n > len(in)/size {
		return nil, broken("%d values in %d bytes", n, len(in))
	}
	out := make([]int64, n)
	for i := range out {
		if size == 4 {
			out[i] = int64(int32(binary.LittleEndian.Uint32(in[4*i:])))
		} else {
			out[i] = int64(binary.LittleEndian.Uint64(in[8*i:]))
		}
	}
	return out, nil
}

// deltas decodes n integers of DELTA_BINARY_PACKED and returns what comes behind.
func deltas(in []byte, n int) ([]int64, []byte, error) {
	t := &thrift{in: in}
	var head [3]uint64 // Values in a block, miniblocks in a block, values in all.
	for i := range head {
		var err error
		if head[i], err = t.uvarint(); err != nil {
			return nil, nil, err
		}
	}
	block, parts, total := head[0], head[1], head[2]
	if block == 0 || block > 1<<20 || block%128 != 0 || parts == 0 || parts > block || block%parts != 0 || block/parts%32 != 0 || total != uint64(n) {
		return nil, nil, broken("deltas in blocks of %d, %d parts, %d values, want %d values", block, parts, total, n)
	}
	value, err := t.int()
	if err != nil {
		return nil, nil, err
	}
	per := int(block / parts)
	out := make([]int64, 0, n)
	if n > 0 {
		out = append(out, value)
	}
	for len(out) < n {
		least, err := t.int()
		if err != nil {
			return nil, nil, err
		}
		if uint64(len(in)-t.at) < parts {
			return nil, nil, errShort
		}
		widths := in[t.at : t.at+int(parts)]
		t.at += int(parts)
		for _, width := range widths {
			if len(out) == n {
				break // The widths of parts that are not there mean nothing.
			}
			size := int(width) * per / 8
			if width > 64 {
				return nil, nil, broken("numbers of %d bits", width)
			}
			if size > len(in)-t.at {
				return nil, nil, errShort
			}
			packed := in[t.at : t.at+size]
			t.at += size
			for i := range min(per, n-len(out)) {
				value += least + int64(unpack(packed, i*int(width), int(width)))
				out = append(out, value)
			}
		}
	}
	return out, in[t.at:], nil
}

// deltaLengths decodes n byte arrays whose lengths stand before all of them.
func deltaLengths(in []byte, n int) ([][]byte, error) {
	lengths, in, err := deltas(in, n)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, n)
	for i, size := range lengths {
		if size < 0 || size > int64(len(in)) {
			return nil, errShort
		}
		out[i], in = in[:size:size], in[size:]
	}
	return out, nil
}

// deltaBytes decodes n byte arrays that begin as the one before does.
func (f *File) deltaBytes(in []byte, n int) ([][]byte, error) {
	prefixes, in, err := deltas(in, n)
	if err != nil {
		return nil, err
	}
	out, err := deltaLengths(in, n)
	if err != nil {
		return nil, err
	}
	var before []byte
	for i, prefix := range prefixes {
		if prefix < 0 || prefix > int64(len(before)) {
			return nil, broken("a value begins with %d bytes of one of %d", prefix, len(before))
		}
		if prefix > 0 {
			if err := f.take(prefix + int64(len(out[i]))); err != nil {
				return nil, err
			}
			out[i] = append(append(make([]byte, 0, int(prefix)+len(out[i])), before[:prefix]...), out[i]...)
		}
		before = out[i]
	}
	return out, nil
}

// bitsFor is how many bits the numbers up to v take.
func bitsFor(v int) int { return bits.Len(uint(v)) }
