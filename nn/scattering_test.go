package nn

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/dtypes"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
)

// scattered computes the scattering transform of images x [rows, height, width, channels].
func scattered(t *testing.T, b compute.Backend, l Lowering, x host) ([]float32, []int) {
	t.Helper()
	p, err := NewProgram(b, ProgramOptions{NN: Options{Lowering: l}, Weights: NewWeights(),
		Build: func(s *Scope, _, in []*graph.Node) []*graph.Node { return []*graph.Node{Scattering(s, in[0])} }})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	out, err := p.Run(nil, x.tensor())
	if err != nil {
		t.Fatal(err)
	}
	got, err := tensors.CopyFlatData[float32](out[0])
	if err != nil {
		t.Fatal(err)
	}
	return got, out[0].Shape().Dimensions
}

// The transform is that of Kymatio, which works with periodic filters in the Fourier
// domain: testdata/scattering.json is from kymatio 0.3.0, numpy,
//
//	Scattering2D(J=2, shape=(32, 32), L=8, out_type='list')(image / 255)
//
// with the values rounded to five digits. The image is dark within 7 pixels of its edges, so that
// what either side puts around it matters little.
func TestScatteringIsThatOfKymatio(t *testing.T) {
	const side, cells = 32, 8
	text, err := os.ReadFile("testdata/scattering.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Image []float64
		Maps  []struct {
			J, Theta []int
			Values   []float64
		}
	}
	if err := json.Unmarshal(text, &want); err != nil || len(want.Maps) != ScatteringChannels(2) {
		t.Fatalf("%d maps (%v), want %d", len(want.Maps), err, ScatteringChannels(2))
	}
	x := newHost(1, side, side, 1)
	for i, v := range want.Image {
		x.data[i] = v / 255
	}
	// Kymatio's angle k is (3-k)π/8, from the vertical axis.
	angle := func(k int) int { return (4 - (3 - k) + 8) % 8 }
	place := func(j, theta []int) int { // Among our maps.
		switch len(j) {
		case 0:
			return 0
		case 1:
			if j[0] == 0 {
				return 1 + angle(theta[0])
			}
			return 1 + 8 + 64 + angle(theta[0])
		}
		return 1 + 8 + 8*angle(theta[0]) + angle(theta[1])
	}
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		for _, l := range lowerings(t, b) {
			got, shape := scattered(t, b, l, x)
			if fmt.Sprint(shape) != "[1 8 8 81]" {
				t.Fatalf("shape is %v, want [1 8 8 81]", shape)
			}
			for _, m := range want.Maps {
				largest, off := 0.0, 0.0
				for i, v := range m.Values {
					largest = max(largest, math.Abs(v))
					off = max(off, math.Abs(v-float64(got[i*81+place(m.J, m.Theta)])))
				}
				// Kymatio folds its filters' tails into the image, we cut them at three deviations.
				if off > 0.02*largest+2e-4 {
					t.Errorf("lowering %d: map of scales %v and angles %v is off by %.5f, its largest value is %.5f", l, m.J, m.Theta, off, largest)
				}
			}
		}
	})
}

// lowerings are those that a backend is used with: XLA compiles windows of hundreds of pixels for
// minutes, and Go convolves without them as long.
func lowerings(t *testing.T, b compute.Backend) []Lowering {
	if b == backendtest.Open(t, "go") {
		return []Lowering{Patches}
	}
	return []Lowering{Native, Small}
}

// Images do not mix, channels are transformed one by one, and an image that moves by 2^J pixels
// moves its maps by one, for images of any size.
func TestScatteringOfImages(t *testing.T) {
	backendtest.Each(t, func(t *testing.T, b compute.Backend) {
		l := lowerings(t, b)[0]
		for _, c := range []struct{ height, width, channels, scales int }{{28, 28, 1, 2}, {27, 21, 2, 2}, {33, 40, 1, 3}} {
			name := fmt.Sprintf("%dx%dx%d", c.height, c.width, c.channels)
			step := 1 << c.scales
			x := newHost(3, c.height, c.width, c.channels)
			random := values(1, 3, c.height, c.width, c.channels)
			for y := range c.height { // Something in the middle of the first image, so that moving it loses nothing.
				for xx := range c.width {
					for k := range c.channels {
						if y > 5 && y < c.height-14 && xx > 4 && xx < c.width-14 {
							*x.at(0, y, xx, k) = *random.at(0, y, xx, k)
							*x.at(1, y+step, xx+step, k) = *random.at(0, y, xx, k)
						}
						*x.at(2, y, xx, k) = *random.at(2, y, xx, k)
					}
				}
			}
			got, shape := scattered(t, b, l, x)
			cell := func(n, i, j, k int) float64 { return float64(got[((n*shape[1]+i)*shape[2]+j)*shape[3]+k]) }
			maps := ScatteringChannels(c.scales)
			if want := []int{3, (c.height + step - 1) / step, (c.width + step - 1) / step, c.channels * maps}; fmt.Sprint(shape) != fmt.Sprint(want) {
				t.Fatalf("%s: shape is %v, want %v", name, shape, want)
			}
			if n := ScatteringValues(c.height, c.width, c.channels); n != shape[1]*shape[2]*shape[3] {
				t.Errorf("%s: %d values are announced for %v", name, n, shape)
			}
			for i := range shape[1] - 1 {
				for j := range shape[2] - 1 {
					for k := range shape[3] {
						if a, b := cell(0, i, j, k), cell(1, i+1, j+1, k); i > 0 && j > 0 && i < shape[1]-3 && j < shape[2]-3 && math.Abs(a-b) > 1e-4*(1+math.Abs(a)) {
							t.Fatalf("%s: map %d at %d,%d is %g, moved %g", name, k, i, j, a, b)
						}
					}
				}
			}
			alone := newHost(1, c.height, c.width, 1)
			for y := range c.height {
				for xx := range c.width {
					*alone.at(0, y, xx, 0) = *x.at(2, y, xx, c.channels-1)
				}
			}
			one, _ := scattered(t, b, l, alone)
			for i, v := range one {
				if w := cell(2, i/maps/shape[2], i/maps%shape[2], (c.channels-1)*maps+i%maps); math.Abs(w-float64(v)) > 1e-5*(1+math.Abs(w)) {
					t.Fatalf("%s: value %d of the last channel is %g among others, %g alone", name, i, w, v)
				}
			}
		}
	})
}

func TestScatteringRefusesLargeImages(t *testing.T) {
	defer func() {
		if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), "want at most 64") {
			t.Errorf("panic is %v, want one that says which size is taken", r)
		}
	}()
	_, err := Collect(backendtest.Open(t, "go"), Options{}, func(s *Scope) {
		Scattering(s, graph.Zeros(s.Graph(), shapes.Make(dtypes.Float32, 1, 65, 8, 1)))
	})
	if err == nil {
		t.Error("images of 65x8 pixels are taken")
	} else {
		panic(err)
	}
}
