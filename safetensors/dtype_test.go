package safetensors

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// TestHalfExhaustive checks all 65,536 halves against the standard's formula.
func TestHalfExhaustive(t *testing.T) {
	for h := range 1 << 16 {
		sign, exponent, fraction := 1.0, h>>10&31, float64(h&1023)
		if h>>15 == 1 {
			sign = -1
		}
		want := sign * math.Ldexp(1+fraction/1024, exponent-15)
		switch {
		case exponent == 0:
			want = sign * math.Ldexp(fraction/1024, -14)
		case exponent == 31 && fraction == 0:
			want = math.Inf(int(sign))
		case exponent == 31:
			want = math.NaN()
		}
		got := halfToFloat(uint16(h))
		if math.IsNaN(want) {
			if got == got || floatToHalf(got)&0x7fff <= 0x7c00 {
				t.Fatalf("%#04x is %g and back %#04x, want not a number", h, got, floatToHalf(got))
			}
			continue
		}
		if float64(got) != want || math.Signbit(float64(got)) != math.Signbit(want) {
			t.Fatalf("%#04x is %g, want %g", h, got, want)
		}
		if back := floatToHalf(got); back != uint16(h) {
			t.Fatalf("%#04x is %g and back %#04x", h, got, back)
		}
	}
}

func TestFloatToHalfRounds(t *testing.T) {
	// By Python's struct.pack("<e"); 65520 and above are infinite by IEEE 754.
	for v, want := range map[float32]uint16{0.1: 0x2e66, 65504: 0x7bff, 65519.99: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00,
		5.96e-8: 0x0001, 2.98e-8: 0x0000, 6.1e-5: 0x03ff, 1.0 / 3: 0x3555, -2.5: 0xc100} {
		if got := floatToHalf(v); got != want {
			t.Errorf("%g is %#04x, want %#04x", v, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.Float32Range(-65504, 65504).Draw(t, "value")
		if rapid.Bool().Draw(t, "small") {
			v *= 1e-8
		}
		h := floatToHalf(v)
		mine := math.Abs(float64(halfToFloat(h)) - float64(v))
		for _, other := range []uint16{h - 1, h + 1} {
			next := float64(halfToFloat(other))
			if math.IsNaN(next) || math.IsInf(next, 0) || (h^other)&0x8000 != 0 {
				continue
			}
			d := math.Abs(next - float64(v))
			if d < mine || (d == mine && h&1 == 1) {
				t.Fatalf("%g goes to %g, but %g is nearer or even", v, halfToFloat(h), next)
			}
		}
	})
}

func TestFloat32s(t *testing.T) {
	le := binary.LittleEndian
	for _, c := range []struct {
		dtype DType
		data  []byte
		want  []float32
	}{
		{F32, le.AppendUint32(nil, math.Float32bits(1.5)), []float32{1.5}},
		{F64, le.AppendUint64(nil, math.Float64bits(0.1)), []float32{0.1}},
		{F16, []byte{0x00, 0xc1}, []float32{-2.5}},
		{BF16, []byte{0x80, 0x3f, 0x49, 0x40}, []float32{1, 3.140625}},
		{I64, le.AppendUint64(nil, math.MaxUint64), []float32{-1}},
		{I32, le.AppendUint32(nil, math.MaxUint32-4), []float32{-5}},
		{U8, []byte{0, 255}, []float32{0, 255}},
		{Bool, []byte{0, 1}, []float32{0, 1}},
	} {
		x := Tensor{Name: "x", DType: c.dtype, Shape: []int{len(c.want)}, Data: c.data}
		got, err := x.Float32s()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", c.dtype, diff)
		}
	}
	for _, v := range []int64{1<<24 + 1, math.MaxInt64, math.MinInt64 + 1} {
		x := FromInt64s("x", []int{1}, []int64{v})
		if _, err := x.Float32s(); err == nil {
			t.Errorf("%d passes for a float32", v)
		}
		if got, err := x.Int64s(); err != nil || got[0] != v {
			t.Errorf("got %v, %v, want %d", got, err, v)
		}
	}
	x := FromFloat32s("x", nil, []float32{1})
	if _, err := x.Int64s(); err == nil {
		t.Error("floats pass for integers")
	}
	if half, err := x.Float16s(); err != nil || !cmp.Equal(half.Data, []byte{0, 0x3c}) || half.DType != F16 {
		t.Errorf("half of 1 is %v, %v", half, err)
	}
}
