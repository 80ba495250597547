package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// npyHead is what the header of a NumPy array says.
type npyHead struct {
	kind  string // "u1", "i1", "i8", …, as in the header but for the byte order.
	big   bool
	shape []int
}

// Limits of a header.
const (
	npyMaxHeader = 1 << 12 // Bytes.
	npyMaxBytes  = 1 << 34
)

var (
	npyDescr   = regexp.MustCompile(`'descr'\s*:\s*'([<>|=])([a-zA-Z])(\d{1,2})'`)
	npyFortran = regexp.MustCompile(`'fortran_order'\s*:\s*(True|False)`)
	npyShape   = regexp.MustCompile(`'shape'\s*:\s*\(([0-9, ]*)\)`)
)

// readNPY reads an array of whole numbers of up to eight bytes, row by row
// (numpy.lib.format, versions 1 to 3), whose values fit into a byte.
func readNPY(r io.Reader) (shape []int, values []byte, err error) {
	head, err := readNPYHead(r)
	if err != nil {
		return nil, nil, err
	}
	width := int(head.kind[1] - '0')
	total := int64(width)
	for _, n := range head.shape {
		if n != 0 && total > npyMaxBytes/int64(n) {
			return nil, nil, errors.New("the header asks for more than we read")
		}
		total *= int64(n)
	}
	// ReadAll grows with what is there, so that a false header costs no memory.
	raw, err := io.ReadAll(io.LimitReader(r, total))
	if err != nil {
		return nil, nil, errors.New("cannot decompress the values")
	}
	if int64(len(raw)) != total {
		return nil, nil, fmt.Errorf("%d bytes of values, want %d", len(raw), total)
	}
	if width == 1 {
		return head.shape, raw, nil
	}
	values = raw[:0] // Each value is read before its place is written.
	for i := 0; i < len(raw); i += width {
		low := raw[i]
		others := raw[i+1 : i+width]
		if head.big {
			low, others = raw[i+width-1], raw[i:i+width-1]
		}
		for _, b := range others {
			if b != 0 {
				return nil, nil, errors.New("a value is not within 0 to 255")
			}
		}
		values = append(values, low)
	}
	return head.shape, values, nil
}

func readNPYHead(r io.Reader) (*npyHead, error) {
	var start [8]byte
	if _, err := io.ReadFull(r, start[:]); err != nil || string(start[:6]) != "\x93NUMPY" {
		return nil, errors.New("not an array of NumPy")
	}
	var size [4]byte
	wide := 2
	if start[6] > 1 {
		wide = 4
	}
	if start[6] == 0 || start[6] > 3 {
		return nil, fmt.Errorf("version of the header is %d, want 1 to 3", start[6])
	}
	if _, err := io.ReadFull(r, size[:wide]); err != nil {
		return nil, errors.New("the header is cut")
	}
	n := binary.LittleEndian.Uint32(size[:])
	if n > npyMaxHeader {
		return nil, fmt.Errorf("header of %d bytes, want at most %d", n, npyMaxHeader)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, errors.New("the header is cut")
	}
	descr, fortran, shape := npyDescr.FindSubmatch(text), npyFortran.FindSubmatch(text), npyShape.FindSubmatch(text)
	if descr == nil || fortran == nil || shape == nil {
		return nil, errors.New("the header does not say type, order and shape")
	}
	head := &npyHead{kind: string(descr[2]) + string(descr[3]), big: descr[1][0] == '>'}
	switch head.kind {
	case "u1", "i1", "b1", "u2", "i2", "u4", "i4", "u8", "i8":
	default:
		return nil, fmt.Errorf("values are of type %s, want whole numbers", head.kind)
	}
	for field := range strings.SplitSeq(string(shape[1]), ",") {
		field = strings.TrimSpace(field)
		if field == "" {
			continue
		}
		v, err := strconv.ParseUint(field, 10, 31)
		if err != nil || len(head.shape) >= 8 {
			return nil, errors.New("the header gives no shape that makes sense")
		}
		head.shape = append(head.shape, int(v))
	}
	if string(fortran[1]) == "True" && len(head.shape) > 1 {
		return nil, errors.New("values are stored column by column, want row by row")
	}
	return head, nil
}
