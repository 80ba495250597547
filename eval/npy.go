package eval

import (
	"archive/zip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gonum.org/v1/gonum/mat"
)

// maxArrayBytes bounds what one array may hold: 60,000 rows of 2048 float64 fit.
const maxArrayBytes = 1 << 30

// IsFeatureFile says whether a path names a file of features by its ending.
func IsFeatureFile(path string) bool {
	ext := strings.ToLower(filepath.Ext(path))
	return ext == ".npy" || ext == ".npz"
}

// ReadFeatures reads features from a file of numpy: a .npy of [rows, dim], or a
// .npz whose array "features" (or "feats", or the only one of two axes) is that,
// with "logits" [rows, classes] beside it if there are any. Values are float16,
// float32 or float64.
func ReadFeatures(path string) (*Features, error) {
	arrays, err := readArrays(path)
	if err != nil {
		return nil, err
	}
	name, ok := featureArray(arrays)
	if !ok {
		return nil, fmt.Errorf("%s holds no array of features, want \"features\" with two axes: %w", path, ErrInvalid)
	}
	a := arrays[name]
	f := &Features{Rows: a.shape[0], Dim: a.shape[1], Values: a.float32s()}
	if logits, ok := arrays["logits"]; ok && name != "logits" {
		if len(logits.shape) != 2 || logits.shape[0] != f.Rows {
			return nil, fmt.Errorf("%s: logits have shape %v for %d rows of features: %w", path, logits.shape, f.Rows, ErrInvalid)
		}
		f.Classes, f.Logits = logits.shape[1], logits.float32s()
	}
	if err := f.Check(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// featureArray chooses the array of features, if there is one.
func featureArray(arrays map[string]array) (name string, ok bool) {
	for _, name := range []string{"features", "feats"} {
		if a, ok := arrays[name]; ok && len(a.shape) == 2 {
			return name, true
		}
	}
	var found []string
	for name, a := range arrays {
		if len(a.shape) == 2 && name != "logits" && name != "sigma" {
			found = append(found, name)
		}
	}
	if len(found) == 1 {
		return found[0], true
	}
	return "", false
}

// ReadMoments reads the statistics that FID tools keep: a .npz with "mu" [dim]
// and "sigma" [dim, dim]. It returns nil and no error where the file holds
// features instead.
func ReadMoments(path string) (*Moments, error) {
	arrays, err := readArrays(path)
	if err != nil {
		return nil, err
	}
	mu, okMu := arrays["mu"]
	sigma, okSigma := arrays["sigma"]
	if !okMu || !okSigma {
		return nil, nil
	}
	if len(mu.shape) != 1 || len(sigma.shape) != 2 || sigma.shape[0] != mu.shape[0] || sigma.shape[1] != mu.shape[0] || mu.shape[0] < 1 {
		return nil, fmt.Errorf("%s: mu has shape %v, sigma %v, want [dim] and [dim, dim]: %w", path, mu.shape, sigma.shape, ErrInvalid)
	}
	n := mu.shape[0]
	for _, v := range append(slices.Clone(mu.values), sigma.values...) {
		if v-v != 0 {
			return nil, fmt.Errorf("%s: a moment is not finite: %w", path, ErrInvalid)
		}
	}
	covariance := mat.NewSymDense(n, nil)
	for i := range n {
		for j := i; j < n; j++ {
			covariance.SetSym(i, j, (sigma.values[i*n+j]+sigma.values[j*n+i])/2)
		}
	}
	return &Moments{Mean: mu.values, Covariance: covariance}, nil
}

// array is one numpy array, in C order.
type array struct {
	shape  []int
	values []float64
}

func (a array) float32s() []float32 {
	out := make([]float32, len(a.values))
	for i, v := range a.values {
		out[i] = float32(v)
	}
	return out
}

// readArrays reads all arrays of a file; that of a .npy is named "".
func readArrays(path string) (map[string]array, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read features: %w: %w", err, ErrInvalid)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read features: %w", err)
	}
	arrays, err := parseArrays(f, info.Size(), strings.EqualFold(filepath.Ext(path), ".npz"))
	if err != nil {
		return nil, fmt.Errorf("read features %s: %w", path, err)
	}
	return arrays, nil
}

func parseArrays(r io.ReaderAt, size int64, zipped bool) (map[string]array, error) {
	if !zipped {
		a, err := parseNPY(io.NewSectionReader(r, 0, size))
		if err != nil {
			return nil, err
		}
		return map[string]array{"": a}, nil
	}
	archive, err := zip.NewReader(r, size)
	if err != nil {
		return nil, fmt.Errorf("not an .npz file: %w: %w", err, ErrInvalid)
	}
	out := map[string]array{}
	for _, entry := range archive.File {
		name, ok := strings.CutSuffix(entry.Name, ".npy")
		if !ok {
			continue
		}
		body, err := entry.Open()
		if err != nil {
			return nil, fmt.Errorf("array %q: %w: %w", name, err, ErrInvalid)
		}
		a, err := parseNPY(body)
		body.Close()
		if errors.Is(err, errOtherType) {
			continue // File names, say.
		}
		if err != nil {
			return nil, fmt.Errorf("array %q: %w", name, err)
		}
		out[name] = a
	}
	return out, nil
}

// errOtherType marks an array that is sound but holds no numbers of ours.
var errOtherType = errors.New("want float16, float32 or float64 in C order")

var (
	npyDescr   = regexp.MustCompile(`'descr'\s*:\s*'([^']*)'`)
	npyFortran = regexp.MustCompile(`'fortran_order'\s*:\s*(True|False)`)
	npyShape   = regexp.MustCompile(`'shape'\s*:\s*\(([0-9, ]*)\)`)
)

// parseNPY reads one array (NEP 1: magic, version, length of header, a Python
// dictionary, values).
func parseNPY(r io.Reader) (array, error) {
	broken := func(format string, args ...any) (array, error) {
		return array{}, fmt.Errorf("broken .npy: %s: %w", fmt.Sprintf(format, args...), ErrInvalid)
	}
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil || string(head[:6]) != "\x93NUMPY" {
		return broken("it does not start as numpy's files do")
	}
	length := make([]byte, 2)
	if head[6] > 1 {
		length = make([]byte, 4)
	}
	if _, err := io.ReadFull(r, length); err != nil || head[6] < 1 || head[6] > 3 {
		return broken("version %d, want 1 to 3", head[6])
	}
	n := int(binary.LittleEndian.Uint16(length))
	if len(length) == 4 {
		n = int(binary.LittleEndian.Uint32(length))
	}
	if n > 1<<16 {
		return broken("header of %d bytes, want at most %d", n, 1<<16)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return broken("the header ends early")
	}
	descr, fortran, dims := npyDescr.FindSubmatch(text), npyFortran.FindSubmatch(text), npyShape.FindSubmatch(text)
	if descr == nil || fortran == nil || dims == nil {
		return broken("the header lacks descr, fortran_order or shape")
	}
	width := map[string]int{"<f2": 2, "<f4": 4, "<f8": 8}[string(descr[1])]
	if width == 0 || string(fortran[1]) == "True" {
		return array{}, fmt.Errorf("array of type %q, fortran_order %s: %w: %w", descr[1], fortran[1], errOtherType, ErrInvalid)
	}
	a := array{}
	size := 1
	for _, word := range strings.FieldsFunc(string(dims[1]), func(c rune) bool { return c == ',' || c == ' ' }) {
		d, err := strconv.Atoi(word)
		if err != nil || d < 0 || (d > 0 && size > maxArrayBytes/8/d) {
			return broken("shape (%s) is too large", dims[1])
		}
		a.shape, size = append(a.shape, d), size*d
	}
	return a.read(r, size, width)
}

// read reads the values in parts, so that a header cannot ask for memory that
// the file does not fill.
func (a array) read(r io.Reader, size, width int) (array, error) {
	le := binary.LittleEndian
	buffer := make([]byte, 1<<15*width)
	for left := size; left > 0; {
		part := buffer[:min(left*width, len(buffer))]
		if _, err := io.ReadFull(r, part); err != nil {
			return array{}, fmt.Errorf("broken .npy: %d of %d values are missing: %w", left, size, ErrInvalid)
		}
		for at := 0; at < len(part); at += width {
			switch width {
			case 2:
				a.values = append(a.values, halfValue(le.Uint16(part[at:])))
			case 4:
				a.values = append(a.values, float64(math.Float32frombits(le.Uint32(part[at:]))))
			default:
				a.values = append(a.values, math.Float64frombits(le.Uint64(part[at:])))
			}
		}
		left -= len(part) / width
	}
	return a, nil
}

// halfValue widens a binary16.
func halfValue(h uint16) float64 {
	sign := 1 - 2*float64(h>>15)
	exponent, fraction := int(h>>10&31), float64(h&1023)
	switch exponent {
	case 0:
		return sign * fraction / (1 << 24)
	case 31:
		if fraction != 0 {
			return math.NaN()
		}
		return math.Inf(int(sign))
	}
	return sign * math.Ldexp(1+fraction/1024, exponent-15)
}
