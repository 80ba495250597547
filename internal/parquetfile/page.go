package parquetfile

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Kinds of pages.
const (
	pageData       = 0
	pageIndex      = 1
	pageDictionary = 2
	pageDataV2     = 3
)

// page is the header of a page.
type page struct {
	kind                 int64
	unfolded, compressed int64
	values               int64
	encoding             int64
	levelEncoding        int64
	levels, repeats      int64 // Version 2: bytes of levels before the values.
	plain                bool  // Version 2: the values are not compressed.
}

func (t *thrift) page() (page, error) {
	var p page
	part := func(fields map[int]*int64) error {
		return t.fields(func(id int, kind byte) (bool, error) {
			if id == 7 && kind == thriftFalse {
				p.plain = true
				return true, nil
			}
			into := fields[id]
			if into == nil || kind != thriftI32 {
				return false, nil
			}
			var err error
			*into, err = t.int()
			return true, err
		})
	}
	err := t.fields(func(id int, kind byte) (bool, error) {
		var err error
		switch {
		case id == 1 && kind == thriftI32:
			p.kind, err = t.int()
		case id == 2 && kind == thriftI32:
			p.unfolded, err = t.int()
		case id == 3 && kind == thriftI32:
			p.compressed, err = t.int()
		case id == 5 && kind == thriftStruct:
			err = part(map[int]*int64{1: &p.values, 2: &p.encoding, 3: &p.levelEncoding})
		case id == 7 && kind == thriftStruct:
			err = part(map[int]*int64{1: &p.values, 2: &p.encoding})
		case id == 8 && kind == thriftStruct:
			err = part(map[int]*int64{1: &p.values, 4: &p.encoding, 5: &p.levels, 6: &p.repeats})
		default:
			return false, nil
		}
		return true, err
	})
	return p, err
}

// codecs names what the format calls by number.
var codecs = map[int64]string{0: "none", 1: "snappy", 2: "gzip", 3: "LZO", 4: "brotli", 5: "LZ4 (old)", 6: "zstd", 7: "LZ4 raw"}

// unfold decompresses a part of a page to size bytes. A page that is not
// compressed stays where it is.
func (f *File) unfold(codec int64, data []byte, size int64) ([]byte, error) {
	if codec == 0 {
		if int64(len(data)) != size {
			return nil, broken("a page has %d bytes, want %d", len(data), size)
		}
		return data, nil
	}
	if size == 0 && len(data) == 0 { // No values, nothing to compress.
		return data, nil
	}
	if err := f.take(size); err != nil {
		return nil, err
	}
	out := make([]byte, size)
	wrong := func(err error) error {
		return broken("a page does not decompress as %s to %d bytes: %v", codecs[codec], size, err)
	}
	switch codec {
	case 1:
		if n, err := snappy.DecodedLen(data); err != nil || int64(n) != size {
			return nil, wrong(err)
		}
		out, err := snappy.Decode(out, data)
		if err != nil {
			return nil, wrong(err)
		}
		return out, nil
	case 2:
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, wrong(err)
		}
		if _, err := io.ReadFull(z, out); err != nil {
			return nil, wrong(err)
		}
		if n, _ := z.Read(make([]byte, 1)); n != 0 {
			return nil, wrong(fmt.Errorf("there is more"))
		}
		return out, nil
	case 6:
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, err
		}
		defer z.Close()
		got, err := z.DecodeAll(data, out[:0])
		if err != nil || int64(len(got)) != size {
			return nil, wrong(err)
		}
		return got, nil
	case 7:
		n, err := lz4.UncompressBlock(data, out)
		if err != nil || int64(n) != size {
			return nil, wrong(err)
		}
		return out, nil
	}
	name := codecs[codec]
	if name == "" {
		return nil, broken("a column has codec %d", codec)
	}
	return nil, fmt.Errorf("a column compressed with %s: %w; write it with snappy, zstd, gzip or none", name, ErrUnsupported)
}

// take counts bytes that the file unfolds to.
func (f *File) take(n int64) error {
	if n < 0 || n > f.room {
		return broken("its pages unfold to more than twice the size of the file; store images as png or jpg, and long texts once")
	}
	f.room -= n
	return nil
}
