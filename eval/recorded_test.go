package eval

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// recorded is testdata/recorded.json, what testdata/record.py wrote.
type recorded struct {
	NumpyDraws struct {
		Choice      []int `json:"choice_1000_5"`
		Then        []int `json:"then_choice_37_4"`
		Permutation []int `json:"permutation_12"`
	} `json:"numpy_draws"`
	Resizes []struct {
		From              [2]int    `json:"from"`
		To                [2]int    `json:"to"`
		Clean             string    `json:"clean"`
		TensorFlow        string    `json:"tensorflow"`
		At                [][3]int  `json:"at"`
		CleanAt           []float64 `json:"clean_at"`
		TensorFlowAt      []float64 `json:"tensorflow_at"`
		PyTorchAt         []float64 `json:"pytorch_at"`
		PyTorchMeanSquare float64   `json:"pytorch_mean_square"`
	} `json:"resizes"`
	Metrics []struct {
		Name          string             `json:"name"`
		Rows          [2]int             `json:"rows"`
		Dim           int                `json:"dim"`
		Shift         float64            `json:"shift"`
		Scale         float64            `json:"scale"`
		KIDSubsetSize int                `json:"kid_subset_size"`
		CleanFID      float64            `json:"clean_fid"`
		CleanKIDAll   float64            `json:"clean_kid_all"`
		TorchFidelity map[string]float64 `json:"torch_fidelity"`
		PRDC          map[string]float64 `json:"prdc5"`
	} `json:"metrics"`
	Inception struct {
		Size          int                `json:"size"`
		KIDSubsetSize int                `json:"kid_subset_size"`
		ISCSplits     int                `json:"isc_splits"`
		TorchFidelity map[string]float64 `json:"torch_fidelity"`
		CleanFID      float64            `json:"clean_fid"`
		Synthetic     recordedFeatures   `json:"synthetic"`
		Reference     recordedFeatures   `json:"reference"`
	} `json:"inception"`
}

// recordedFeatures are every 64th feature and logit of two images.
type recordedFeatures struct {
	Features [][]float64 `json:"features"`
	Logits   [][]float64 `json:"logits"`
}

func loadRecorded(t *testing.T) *recorded {
	t.Helper()
	data, err := os.ReadFile("testdata/recorded.json")
	if err != nil {
		t.Fatal(err)
	}
	var r recorded
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return &r
}

// The counter hash of record.py: FNV-1a of a name starts a splitmix64.
func hashBits(name string, n int) []uint64 {
	start := uint64(0xcbf29ce484222325)
	for _, b := range []byte(name) {
		start = (start ^ uint64(b)) * 0x100000001b3
	}
	out := make([]uint64, n)
	for i := range out {
		z := start + uint64(i+1)*0x9e3779b97f4a7c15
		z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
		z = (z ^ z>>27) * 0x94d049bb133111eb
		out[i] = z ^ z>>31
	}
	return out
}

func hashUniform(name string, n int) []float64 {
	out := make([]float64, n)
	for i, b := range hashBits(name, n) {
		out[i] = float64(b>>40)/(1<<23) - 1
	}
	return out
}

func hashFeatures(name string, rows, dim int, shift, scale float64) *Features {
	hidden, mix, noise := hashUniform(name+".hidden", rows*12), hashUniform("mix", 12*dim), hashUniform(name+".noise", rows*dim)
	f := &Features{Rows: rows, Dim: dim, Values: make([]float32, rows*dim)}
	for i := range rows {
		for j := range dim {
			v := 0.0
			for k := range 12 {
				v += hidden[i*12+k] * mix[k*dim+j]
			}
			f.Values[i*dim+j] = float32(scale*v + 0.3*noise[i*dim+j] + shift)
		}
	}
	return f
}

func hashPixels(name string, height, width, channels int) []byte {
	rows, columns := (height+3)/4, (width+3)/4
	coarse := hashBits(name+".coarse", rows*columns*channels)
	fine := hashBits(name+".fine", height*width*channels)
	out := make([]byte, len(fine))
	for y := range height {
		for x := range width {
			for c := range channels {
				at := (y*width+x)*channels + c
				v := coarse[((y/4)*columns+x/4)*channels+c]>>56 + fine[at]>>59
				out[at] = byte(min(v, 255))
			}
		}
	}
	return out
}

func digest(values []float32) string {
	h := sha256.New()
	for _, v := range values {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], math.Float32bits(v))
		h.Write(b[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// near says whether got is within a relative tolerance of want, or both within
// it of zero.
func near(got, want, tolerance float64) bool {
	return math.Abs(got-want) <= tolerance*max(math.Abs(want), 1e-2)
}

func TestDrawsAreNumpys(t *testing.T) {
	want := loadRecorded(t).NumpyDraws
	m := newMersenne(2020)
	if diff := cmp.Diff(want.Choice, m.choice(1000, 5)); diff != "" {
		t.Errorf("choice differs from numpy (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Then, m.choice(37, 4)); diff != "" {
		t.Errorf("second choice differs from numpy (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(want.Permutation, newMersenne(7).permutation(12)); diff != "" {
		t.Errorf("permutation differs from numpy (-want +got):\n%s", diff)
	}
}

// "clean" and "tensorflow" give the very bits of Pillow and of torch-fidelity;
// "pytorch" differs by the order of float32 operations alone.
func TestResizesAreThoseOfPeers(t *testing.T) {
	for _, r := range loadRecorded(t).Resizes {
		t.Run(fmt.Sprint(r.From, r.To), func(t *testing.T) {
			p := newPicture(r.From[0], r.From[1], 3, hashPixels(fmt.Sprintf("resize.%d.%d", r.From[0], r.From[1]), r.From[0], r.From[1], 3))
			for _, c := range []struct {
				way    Resize
				digest string
				at     []float64
				off    float64 // Allowed at a pixel.
			}{{ResizeClean, r.Clean, r.CleanAt, 0}, {ResizeTensorFlow, r.TensorFlow, r.TensorFlowAt, 0}, {ResizePyTorch, "", r.PyTorchAt, 1e-4}} {
				got := p.to(r.To[0], r.To[1], c.way)
				for k, at := range r.At {
					if v := float64(got.values[(at[0]*r.To[1]+at[1])*3+at[2]]); math.Abs(v-c.at[k]) > c.off {
						t.Errorf("%s: pixel %v is %v, want %v", c.way, at, v, c.at[k])
					}
				}
				if c.digest != "" && digest(got.values) != c.digest {
					t.Errorf("%s: bits differ from those recorded", c.way)
				}
				if c.way == ResizePyTorch {
					square := 0.0
					for _, v := range got.values {
						square += float64(v) * float64(v) / float64(len(got.values))
					}
					if !near(square, r.PyTorchMeanSquare, 1e-6) {
						t.Errorf("pytorch: mean square is %v, want %v", square, r.PyTorchMeanSquare)
					}
				}
			}
		})
	}
}

// Issue 7: FID, KID, IS, precision and recall within 1e-3 relative of
// torch-fidelity and clean-fid on the same features.
func TestMetricsAreThoseOfPeers(t *testing.T) {
	const tolerance = 1e-3
	for _, m := range loadRecorded(t).Metrics {
		t.Run(m.Name, func(t *testing.T) {
			a := hashFeatures(m.Name+".synthetic", m.Rows[0], m.Dim, m.Shift, m.Scale)
			b := hashFeatures(m.Name+".reference", m.Rows[1], m.Dim, 0, 1)
			logits := hashFeatures(m.Name+".logits", m.Rows[0], 10, 0, 1)
			a.Classes, a.Logits = 10, logits.Values
			for i := range a.Logits {
				a.Logits[i] *= 4
			}
			got, err := Compare(a, b, FidelityOptions{KID: KIDOptions{SubsetSize: m.KIDSubsetSize}})
			if err != nil {
				t.Fatal(err)
			}
			check := func(name string, got *float64, want float64) {
				t.Helper()
				// The deviation over subsets that are the whole set is rounding alone.
				if name == "kernel_inception_distance_std" && want < 1e-6*math.Abs(m.TorchFidelity["kernel_inception_distance_mean"]) {
					return
				}
				if got == nil || !near(*got, want, tolerance) {
					t.Errorf("%s is %v, want %v", name, show(got), want)
				}
			}
			ours := got.byName()
			for name, want := range m.TorchFidelity {
				check(name, ours[name], want)
			}
			check("clean-fid FID", got.FID, m.CleanFID)
			check("prdc density", got.Density, m.PRDC["density"])
			check("prdc coverage", got.Coverage, m.PRDC["coverage"])
			pr, err := NewPrecisionRecall(a, b, 5)
			if err != nil {
				t.Fatal(err)
			}
			check("prdc precision", &pr.Precision, m.PRDC["precision"])
			check("prdc recall", &pr.Recall, m.PRDC["recall"])
			if m.Rows[0] == m.Rows[1] { // clean-fid's subset is then the whole of both sets.
				kid, _, err := KID(a, b, KIDOptions{Subsets: 1})
				if err != nil {
					t.Fatal(err)
				}
				check("clean-fid KID", &kid, m.CleanKIDAll)
			}
		})
	}
}

func show(v *float64) any {
	if v == nil {
		return "missing"
	}
	return *v
}
