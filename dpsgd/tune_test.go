package dpsgd

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/compute/shapes"
	"github.com/gomlx/gomlx/core/graph"
	"github.com/gomlx/gomlx/core/tensors"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

// tuneOptions of a problem on the Go backend.
func tuneOptions(p *problem, method Method) TuneOptions {
	return TuneOptions{first: firstDraws, Engine: EngineOptions{Method: method, ClippingNorm: p.clip, NN: nn.Options{Lowering: nn.Patches, Adapter: p.adapter},
		Weights: p.weights, Trainable: p.trainable, Loss: p.loss, Workers: 2},
		Vector: p.weights.Flatten(p.trainable), Public: p.fetch, Draws: p.draws, ExpectedBatchSize: 20}
}

// delayed returns a backend whose executions of a physical batch take longer.
func delayed(t testing.TB, extra func(size int) time.Duration) compute.Backend {
	return backendtest.Faulty(backendtest.Open(t, "go"), func(parameters []shapes.Shape) error {
		time.Sleep(extra(sizeOf(parameters)))
		return nil
	})
}

// sizeOf reads the physical batch off the parameters of a step: the images have
// rank 4, and the first of them are not repeated by draws.
func sizeOf(parameters []shapes.Shape) int {
	least := math.MaxInt
	for _, s := range parameters {
		if s.Rank() == 4 && s.Dimensions[3] == 4 && s.Dimensions[1] == 4 { // Images of problem convolutions, not kernels.
			least = min(least, s.Dimensions[0])
		}
	}
	if least == math.MaxInt {
		return 0 // Another graph.
	}
	return least
}

// Auto takes the method and size that are faster on this backend, whichever they
// are, says so, and the sum is that of any other engine.
func TestTuneTakesTheFaster(t *testing.T) {
	p := convolutions(t)
	want, _ := p.sum(t, p.engine(t, backendtest.Open(t, "go"), nn.Patches, loop), 7, p.fetch)
	for _, c := range []struct {
		name   string
		extra  func(size int) time.Duration // Large beside what a busy machine adds.
		batch  float64
		method Method
		size   int
	}{
		{"fast single examples", func(size int) time.Duration { return time.Duration(size-1) * 80 * time.Millisecond }, 16, PerExampleLoop, 1},
		{"calls cost, whatever their size", func(int) time.Duration { return 300 * time.Millisecond }, 64, BookKeeping, 32}, // Half the expected batch.
		{"large calls are slow", func(size int) time.Duration {
			if size == 8 {
				return 0
			}
			return 500 * time.Millisecond
		}, 20, BookKeeping, 8}, // 16 draws.
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // They mostly sleep.
			o := tuneOptions(p, Auto)
			o.ExpectedBatchSize = c.batch
			e, choice, err := Tune(context.Background(), delayed(t, c.extra), o)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			if choice.Method != c.method || choice.Size != c.size || e.Method() != c.method || e.PhysicalBatchSize() != c.size {
				t.Errorf("choice is %s, engine %s of %d; want %s of %d", choice, e.Method(), e.PhysicalBatchSize(), c.method, c.size)
			}
			for _, trial := range choice.Trials {
				if trial.Method == c.method && trial.Size == c.size {
					continue
				}
				if trial.Seconds < slices.MinFunc(choice.Trials, func(a, b Trial) int { return int(1e9 * (a.Seconds - b.Seconds)) }).Seconds {
					t.Errorf("trial %+v is faster than the choice %s", trial, choice)
				}
			}
			if text := choice.String(); !strings.HasPrefix(text, string(c.method)+", ") || !strings.Contains(text, "ms an example") {
				t.Errorf("choice says %q", text)
			}
			got, _ := p.sum(t, e, 7, p.fetch)
			if err := checkNear("clipped sum", got, want, 1e-4, p.clip); err != nil {
				t.Error(err)
			}
		})
	}
}

// What the caller fixes is not chosen, and what is not worth its time not tried.
func TestTuneKeepsWhatIsFixed(t *testing.T) {
	p := convolutions(t)
	for _, c := range []struct {
		name string
		edit func(o *TuneOptions)
		want []Trial // Without times.
	}{
		{"loop", func(o *TuneOptions) { o.Engine.Method = PerExampleLoop }, nil},
		{"method and size", func(o *TuneOptions) { o.Engine.Method, o.Engine.PhysicalBatchSize = BookKeeping, 3 }, nil},
		{"method", func(o *TuneOptions) { o.Engine.Method, o.ExpectedBatchSize = BookKeeping, 6 }, []Trial{{Method: BookKeeping, Size: 3}}},
		{"size", func(o *TuneOptions) { o.Engine.PhysicalBatchSize = 3 }, []Trial{{Method: BookKeeping, Size: 3}, {Method: PerExampleLoop, Size: 1}}},
		{"short run", func(o *TuneOptions) { o.Examples, o.ExpectedBatchSize = 1e-6, 0 }, []Trial{{Method: BookKeeping, Size: 8}, {Method: PerExampleLoop, Size: 1}}},
		{"small batch", func(o *TuneOptions) { o.ExpectedBatchSize = 3 }, []Trial{{Method: BookKeeping, Size: 2}, {Method: PerExampleLoop, Size: 1}}},
	} {
		o := tuneOptions(p, Auto)
		c.edit(&o)
		e, choice, err := Tune(context.Background(), backendtest.Open(t, "go"), o)
		if err != nil {
			t.Fatal(err)
		}
		e.Close()
		if !slices.EqualFunc(choice.Trials, c.want, func(a, b Trial) bool { return a.Method == b.Method && a.Size == b.Size }) {
			t.Errorf("%s: trials are %+v, want %+v", c.name, choice.Trials, c.want)
		}
	}
	o := tuneOptions(p, "ghost")
	if _, _, err := Tune(context.Background(), backendtest.Open(t, "go"), o); err == nil || !strings.Contains(err.Error(), `"ghost"`) {
		t.Errorf("method ghost: error is %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := Tune(ctx, backendtest.Open(t, "go"), tuneOptions(p, Auto)); err == nil {
		t.Error("a cancelled search found an engine")
	}
}

// An engine that clips too little does not leave Tune, however it was chosen.
func TestTuneChecksTheBound(t *testing.T) {
	p, b := convolutions(t), backendtest.Open(t, "go")
	const small = 0.01 // Of the loss: with norms above 1 the mistake would clip too much.
	loss := func(s *nn.Scope, in []*graph.Node) *graph.Node { return graph.MulScalar(p.loss(s, in), small) }
	norm := small * p.norms(t, p.engine(t, b, nn.Patches, loop), 1, p.fetch)[0]
	if !(norm < 0.9) {
		t.Fatalf("the example's gradient has norm %g, want below 0.9", norm)
	}
	for _, size := range []int{0, 3} { // By trials, and given.
		for _, method := range []Method{Auto, BookKeeping, PerExampleLoop} {
			for _, wrong := range []mistake{0, noSquareRoot} {
				o := tuneOptions(p, method)
				o.Engine.Loss, o.Engine.ClippingNorm, o.Engine.PhysicalBatchSize, o.Engine.wrong = loss, norm/2, size, wrong
				e, _, err := Tune(context.Background(), b, o)
				if (err != nil) != (wrong != 0) {
					t.Errorf("method %s, %d examples, mistake %d: %v", method, size, wrong, err)
				}
				if err == nil {
					e.Close()
				} else if !strings.Contains(err.Error(), "clipping norm") {
					t.Errorf("%v; want an error about the clipping norm", err)
				}
			}
		}
	}
}

// Of two engines that are about as fast the loop is taken, which needs less memory.
func TestTuneTies(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		booked []float64 // Seconds per example.
		loop   float64
		want   int
	}{
		{[]float64{1}, 1.04, 1}, {[]float64{1}, 1.06, 0}, {[]float64{1}, 0.5, 1}, {[]float64{1.02, 1}, 1.03, 2}, {[]float64{1, 1.02}, 1.2, 0}, {[]float64{inf}, 3, 1}, {[]float64{2, 1}, inf, 1},
	} {
		var trials []Trial
		for _, s := range c.booked {
			trials = append(trials, Trial{Method: BookKeeping, Size: 8, Seconds: s})
		}
		trials = append(trials, Trial{Method: PerExampleLoop, Size: 1, Seconds: c.loop})
		if got := taken(trials); got != c.want {
			t.Errorf("of book-keeping at %v and the loop at %g s trial %d is taken, want %d", c.booked, c.loop, got, c.want)
		}
	}
}

// A choice is kept for the same shapes only, and one that was damaged is made
// again.
func TestTuneKeepsChoices(t *testing.T) {
	p, b := convolutions(t), backendtest.Open(t, "go")
	folder := filepath.Join(t.TempDir(), "engine")
	tune := func(edit func(o *TuneOptions)) *Choice {
		t.Helper()
		o := tuneOptions(p, Auto)
		o.Cache = folder
		if edit != nil {
			edit(&o)
		}
		e, c, err := Tune(context.Background(), b, o)
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		if e.Method() != c.Method || e.PhysicalBatchSize() != c.Size {
			t.Errorf("engine is %s of %d, the choice %s", e.Method(), e.PhysicalBatchSize(), c)
		}
		return c
	}
	first := tune(nil)
	if second := tune(nil); first.Cached || !second.Cached || second.Method != first.Method || second.Size != first.Size {
		t.Errorf("choices are %s, then %s; want the second to be the first, from the folder", first, second)
	}
	if c := tune(func(o *TuneOptions) { o.Engine.Workers = 1 }); c.Cached {
		t.Error("the choice for two workers serves one")
	}
	if c := tune(func(o *TuneOptions) { o.Engine.Method = BookKeeping }); c.Cached || c.Method != BookKeeping {
		t.Errorf("choice is %s, want the method that was asked for", c)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil || len(files) != 3 {
		t.Fatalf("%d files, %v; want 3", len(files), err)
	}
	for _, f := range files {
		if err := os.WriteFile(f, []byte(`{"engine": "loop", "physical_batch": 1, "trials": []}`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if c := tune(nil); c.Cached {
		t.Error("a damaged choice is used")
	}
	// A folder that cannot be made is no reason to stop.
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tune(func(o *TuneOptions) { o.Cache = filepath.Join(file, "engine") })
}

func FuzzParseChoice(f *testing.F) {
	f.Add([]byte(`{"engine":"loop","physical_batch":1,"trials":[{"engine":"loop","physical_batch":1,"seconds_per_example":0.1,"bytes":5}]}`))
	f.Add([]byte(`{"engine":"book-keeping","physical_batch":64,"trials":[{"engine":"book-keeping","physical_batch":64,"seconds_per_example":1e-300}]}`))
	f.Add([]byte(`{"trials":[{}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := parseChoice(data)
		if err != nil {
			return
		}
		if c.Size < 1 || c.Method != BookKeeping && (c.Method != PerExampleLoop || c.Size != 1) {
			t.Errorf("%+v is taken", c)
		}
		if m := estimate(c.Trials, c.Method); !(m.perExample >= 0 && m.fixed >= 0) {
			t.Errorf("%+v gives the estimate %+v", c, m)
		}
	})
}

// refusing returns a Go backend that has no memory for steps of more than n
// examples, and counts those that it refuses.
func refusing(t testing.TB, n int, refused *atomic.Int64) compute.Backend {
	return backendtest.Faulty(backendtest.Open(t, "go"), func(parameters []shapes.Shape) error {
		if size := sizeOf(parameters); size > n {
			refused.Add(1)
			return errNoRoom(size)
		}
		return nil
	})
}

type errNoRoom int

func (e errNoRoom) Error() string {
	return "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 12345 bytes."
}

// TestMemoryRunsOut: whatever a call can hold, the sum is the same, each example
// is in it once, and the size that was refused is not tried again.
func TestMemoryRunsOut(t *testing.T) {
	p := convolutions(t)
	ctx, vector := context.Background(), p.weights.Flatten(p.trainable)
	for _, workers := range []int{1, 3} {
		want, wantStats := p.sum(t, p.engine(t, backendtest.Open(t, "go"), nn.Patches, func(o *EngineOptions) { o.PhysicalBatchSize = 16 }), 37, p.fetch)
		for n, size := range map[int]int{16: 16, 15: 8, 8: 8, 5: 4, 1: 1} {
			var refused atomic.Int64
			e := p.engine(t, refusing(t, n, &refused), nn.Patches, func(o *EngineOptions) { o.PhysicalBatchSize, o.Workers = 16, workers })
			for range 2 {
				got, stats := p.sum(t, e, 37, p.fetch)
				if err := checkNear("clipped sum", got, want, 1e-5, p.clip); err != nil {
					t.Errorf("room for %d: %v", n, err)
				}
				if stats.Examples != wantStats.Examples || stats.Clipped != wantStats.Clipped || stats.NonFinite != 0 ||
					math.Abs(stats.NormSum-wantStats.NormSum) > 1e-4*wantStats.NormSum {
					t.Errorf("room for %d: %+v, want %+v", n, stats, wantStats)
				}
			}
			// Each worker may meet each size once before it knows.
			if e.PhysicalBatchSize() != size || refused.Load() > int64(5*workers) {
				t.Errorf("room for %d: physical batch is %d after %d refusals, want %d", n, e.PhysicalBatchSize(), refused.Load(), size)
			}
		}
	}
	var refused atomic.Int64
	e := p.engine(t, refusing(t, 0, &refused), nn.Patches, func(o *EngineOptions) { o.PhysicalBatchSize = 4 })
	s, _, err := e.Sum(ctx, vector, 2, p.fetch)
	if s != nil || err == nil || !strings.Contains(err.Error(), "one example do not fit in memory") {
		t.Errorf("no room at all: sum %v, error %v", s, err)
	}
}

// TestOneExampleWaitsForRoom: an example that does not fit beside other calls is
// computed alone.
func TestOneExampleWaitsForRoom(t *testing.T) {
	p := convolutions(t)
	want, _ := p.sum(t, p.engine(t, backendtest.Open(t, "go"), nn.Patches, loop), 12, p.fetch)
	e := p.engine(t, backendtest.Open(t, "go"), nn.Patches, func(o *EngineOptions) { o.Method, o.Workers = PerExampleLoop, 4 })
	e.program = &crowded{program: e.program}
	got, _ := p.sum(t, e, 12, p.fetch)
	if err := checkNear("clipped sum", got, want, 1e-6, p.clip); err != nil {
		t.Error(err)
	}
}

// crowded is a program that fails for memory while another call of it runs.
type crowded struct {
	program
	running atomic.Int64
}

func (c *crowded) Run(vector *nn.Vector, inputs ...*tensors.Tensor) ([]*tensors.Tensor, error) {
	defer c.running.Add(-1)
	if c.running.Add(1) > 1 {
		return nil, errNoRoom(1)
	}
	time.Sleep(2 * time.Millisecond)
	return c.program.Run(vector, inputs...)
}

func TestRoomFor(t *testing.T) {
	const gib = 1 << 30
	m := memory{fixed: gib, perExample: gib / 8, before: 2 * gib}
	for _, c := range []struct {
		size           int
		free, resident uint64
		want           bool
	}{
		{8, 4 * gib, 2 * gib, true},    // 2 of 4 GiB.
		{16, 4 * gib, 2 * gib, true},   // 3 of 4: above seven eighths.
		{24, 4 * gib, 2 * gib, false},  // 4 of 4.
		{24, 1 * gib, 6 * gib, true},   // What calls hold can be used again.
		{1, gib, 0, false},             // Held less than before: no credit.
		{8, 2*gib + 300<<20, 0, true},  // The margin is 300 of 2348 MiB.
		{8, 2*gib + 200<<20, 0, false}, // Less than 256 MiB would be left.
	} {
		if got := m.roomFor(c.size, c.free, c.resident); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// TestEstimate: the line through two sizes, and a cautious one through one.
func TestEstimate(t *testing.T) {
	trials := []Trial{{BookKeeping, 4, 1, 500}, {PerExampleLoop, 1, 1, 90}, {BookKeeping, 16, 1, 1100}}
	for _, c := range []struct {
		trials            []Trial
		method            Method
		fixed, perExample float64
	}{
		{trials, BookKeeping, 300, 50},
		{trials, PerExampleLoop, 0, 90},
		{trials[:1], BookKeeping, 0, 125},
		{[]Trial{{BookKeeping, 4, 1, 500}, {BookKeeping, 16, 1, 400}}, BookKeeping, 0, 25}, // A large call that found memory ready.
		{[]Trial{{BookKeeping, 4, 1, 0}}, BookKeeping, 0, 0},
	} {
		if got := estimate(c.trials, c.method); got.fixed != c.fixed || got.perExample != c.perExample {
			t.Errorf("%v of %+v: %+v, want %g + %g a call", c.method, c.trials, got, c.fixed, c.perExample)
		}
	}
}

// An engine whose estimate is above what the machine has halves before it runs.
func TestMakeRoom(t *testing.T) {
	p := convolutions(t)
	e := p.engine(t, backendtest.Open(t, "go"), nn.Patches, func(o *EngineOptions) { o.PhysicalBatchSize = 64 })
	e.memory.perExample = 1 << 50
	e.makeRoom()
	if got := e.PhysicalBatchSize(); got != 1 {
		t.Errorf("physical batch is %d where no machine has memory for two, want 1", got)
	}
}

// TestFirstDraws: small models of small maps begin with larger calls.
func TestFirstDraws(t *testing.T) {
	p := convolutions(t)
	small := &tuner{o: tuneOptions(p, BookKeeping)}
	small.o.first = 0
	if n, err := small.firstDraws(); err != nil || n != smallDraws {
		t.Errorf("a small model begins with %d draws (%v), want %d", n, err, smallDraws)
	}
	large, n := &tuner{o: small.o}, p.draws*(smallMap+1)
	large.o.Public = func([]int, int) ([]*tensors.Tensor, error) {
		return []*tensors.Tensor{tensors.FromFlatDataAndDimensions(make([]float32, n), 1, n)}, nil
	}
	if n, err := large.firstDraws(); err != nil || n != fewDraws {
		t.Errorf("a model of large maps begins with %d draws (%v), want %d", n, err, fewDraws)
	}
}

// A size at which the backend computes nonsense of public examples is not taken,
// though larger calls are faster; examples that are no numbers by themselves are the
// model's own affair.
func TestTuneLeavesNonsense(t *testing.T) {
	p := convolutions(t)
	slow := delayed(t, func(int) time.Duration { return 100 * time.Millisecond })
	for from, want := range map[int]int{9: 8, 1000: 32, 2: 1} {
		o := tuneOptions(p, Auto)
		o.ExpectedBatchSize = 64
		fetch := o.Public
		o.Public = func(positions []int, size int) ([]*tensors.Tensor, error) {
			inputs, err := fetch(positions, size)
			if err == nil && size >= from {
				for _, x := range inputs {
					if x.Rank() == 4 {
						tensors.MustMutableFlatData(x, func(v []float32) { v[0] = float32(math.NaN()) })
					}
				}
			}
			return inputs, err
		}
		e, choice, err := Tune(context.Background(), slow, o)
		if err != nil {
			t.Fatal(err)
		}
		if choice.Size != want {
			t.Errorf("nonsense from %d examples on: the choice is %s, want calls of %d", from, choice, want)
		}
		e.Close()
		o.Engine.Method = BookKeeping
		if _, _, err := Tune(context.Background(), slow, o); (err != nil) != (want == 1) || err != nil && !strings.Contains(err.Error(), "nonsense") {
			t.Errorf("book-keeping alone, nonsense from %d examples on: %v", from, err)
		}
	}
}
