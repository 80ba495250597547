package dpsgd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/gomlx/compute"

	devices "github.com/scumble-dp/scumble/backend"
	"github.com/scumble-dp/scumble/internal/ram"
	"github.com/scumble-dp/scumble/nn"
)

// TuneOptions of Tune. None may be computed from private data.
type TuneOptions struct {
	// Engine that is wanted. Method Auto (or "") tries both, a PhysicalBatchSize
	// of zero several sizes; where both are given nothing is tried.
	Engine EngineOptions
	Vector []float32 // Trainable, at the start.

	// Public returns examples of the run's shapes that are public: random
	// numbers, or samples of the base model. It takes any positions.
	Public Fetch

	Draws             int     // Of each example. Zero means 1.
	ExpectedBatchSize float64 // Logical: a physical batch above its share for one worker is not tried. Zero means none.
	// Examples is how many the run computes in all. Sizes beyond the first are
	// tried only while that is cheap beside the run. Zero means it always is.
	Examples float64

	// Cache is the folder that keeps choices for another run of the same shapes
	// on the same backend and machine; "" is none.
	Cache string

	first int // Draws of the first size; tests fix it.
}

// Trial is one way to compute a clipped sum, measured on public examples.
type Trial struct {
	Method  Method  `json:"engine"`
	Size    int     `json:"physical_batch"`
	Seconds float64 `json:"seconds_per_example"` // With all workers busy.
	Bytes   int64   `json:"bytes"`               // That the calls of all workers took; 0 where the system does not say.
}

// Choice is what Tune chose. It depends on public inputs only.
type Choice struct {
	Method Method  `json:"engine"`
	Size   int     `json:"physical_batch"`
	Trials []Trial `json:"trials"` // In the order of trying; none where nothing was left to choose.
	Cached bool    `json:"cached"` // The trials were made by an earlier run.
}

// String says what was chosen, and why, in one line.
func (c *Choice) String() string {
	text := fmt.Sprintf("%s, %d examples a call", c.Method, c.Size)
	for _, t := range c.Trials {
		if t.Method != c.Method || t.Size != c.Size {
			text += fmt.Sprintf("; %s of %d: %.3g ms", t.Method, t.Size, 1e3*t.Seconds)
		} else {
			text += fmt.Sprintf(", %.3g ms an example", 1e3*t.Seconds)
		}
	}
	if c.Cached {
		text += " (measured earlier)"
	}
	return text
}

// Sizes to try, in draws, as in examples·draws, and limits of the search.
const (
	firstDraws = 16      // On a processor nothing larger is faster per draw,
	smallDraws = 64      // but for small models of small maps, where a call by itself costs:
	smallModel = 4 << 20 // parameters,
	smallMap   = 1 << 10 // and values of a draw.
	fewDraws   = 4       // As fast as 8 and 16, in 0.8 and 0.6 of the memory, where a draw has many values:
	largeMap   = 1 << 10 // from this on, unless the model is small.
	largeModel = 1 << 27 // Parameters from which the first size is one example: more may not fit.
	growth     = 4       // From one size to the next.
	gain       = 0.95    // Seconds per example that a larger size must come down to, relative to the smaller, and book-keeping relative to the loop.
	mostDraws  = 4096    // Of one call.
	worth      = 1. / 20 // Of the run's time that trying another size may take.
)

// Tune builds the engine of a run: it times both methods and several physical
// batches on public examples, and takes what is fastest among what keeps a
// margin of memory. The result is compiled. Neither choice changes the clipped
// sum beyond rounding.
//
// The engine has clipped a public example right before it is given out: see checkBound.
//
// Guarantee: Tune sees no private data, if Public has none.
func Tune(ctx context.Context, backend compute.Backend, o TuneOptions) (*Engine, *Choice, error) {
	e, choice, err := tune(ctx, backend, o)
	if err != nil {
		return nil, nil, err
	}
	if err := e.checkBound(o.Vector, o.Public); err != nil {
		e.Close()
		return nil, nil, err
	}
	return e, choice, nil
}

// checkBound returns an error if the compiled program lets one public example
// contribute more than the clipping norm. The graph bounds each contribution, whatever
// the example; what a backend's compiler makes of it, only running it shows.
func (e *Engine) checkBound(trainable []float32, public Fetch) error {
	vector, err := e.program.Vector(trainable)
	if err != nil {
		return err
	}
	defer func() { _ = vector.FinalizeAll() }()
	p, err := e.part(vector, positions(1), 1, public)
	if err != nil {
		return err
	}
	defer e.spare.give(p)
	square := 0.
	for _, v := range p.sum {
		square += float64(v) * float64(v)
	}
	if norm := math.Sqrt(square); !(norm <= e.clip*(1+roundingSlack)) {
		return fmt.Errorf("one public example contributes a gradient of norm %g, above the clipping norm %g: this backend computes norms or clip factors wrong; take another with --backend", norm, e.clip)
	}
	return nil
}

// tune is Tune without the check.
func tune(ctx context.Context, backend compute.Backend, o TuneOptions) (*Engine, *Choice, error) {
	free := o.Engine.Method == "" || o.Engine.Method == Auto
	if free {
		o.Engine.Method = BookKeeping
	}
	if err := o.Engine.validate(); err != nil {
		return nil, nil, err
	}
	o.Engine.Workers = o.workers(backend)
	base, err := nn.NewBase(backend, o.Engine.Weights, o.Engine.Trainable, o.Engine.Base)
	if err != nil {
		return nil, nil, err
	}
	defer base.Close() // The engines hold it, too.
	o.Engine.base = base
	if o.Engine.Method == PerExampleLoop || !free && o.Engine.PhysicalBatchSize > 0 { // Nothing to choose.
		e, err := o.compile(backend, o.Engine, memory{})
		if err != nil {
			return nil, nil, err
		}
		return e, &Choice{Method: e.method, Size: e.PhysicalBatchSize()}, nil
	}
	key, err := o.key(backend, free)
	if err != nil {
		return nil, nil, err
	}
	if c := loadChoice(o.Cache, key); c != nil && (free || c.Method == o.Engine.Method) {
		options := o.Engine
		options.Method, options.PhysicalBatchSize = c.Method, c.Size
		e, err := o.compile(backend, options, estimate(c.Trials, c.Method))
		if err != nil {
			return nil, nil, err
		}
		c.Cached, c.Size = true, e.PhysicalBatchSize()
		return e, c, nil
	}
	t := tuner{o: o, backend: backend, choice: &Choice{}}
	defer func() { // What the trials took goes back, on the thread that frees it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		t.close()
		devices.TrimMemory()
	}()
	if err := t.try(ctx, free); err != nil {
		return nil, nil, err
	}
	saveChoice(o.Cache, key, t.choice) // A choice that is not kept is made again.
	return t.take(), t.choice, nil
}

// compile builds an engine and compiles it, for a physical batch that keeps a
// margin of memory.
func (o *TuneOptions) compile(backend compute.Backend, options EngineOptions, m memory) (*Engine, error) {
	e, err := NewEngine(backend, options)
	if err != nil {
		return nil, err
	}
	e.memory = m
	e.memory.before, _ = ram.Resident()
	e.makeRoom()
	if err := e.Prepare(o.Vector, o.Public); err != nil {
		e.Close()
		return nil, err
	}
	return e, nil
}

// tuner holds the engine of each method while they are compared.
type tuner struct {
	o       TuneOptions
	backend compute.Backend
	engines []*Engine
	choice  *Choice
	best    int // Index of the trial that is taken.
}

// try makes the trials.
func (t *tuner) try(ctx context.Context, both bool) error {
	if err := t.sizes(ctx); err != nil {
		return err
	}
	if both {
		if _, err := t.measure(ctx, PerExampleLoop, 1); err != nil {
			return err
		}
	}
	if len(t.choice.Trials) == 0 {
		return errors.New("gradients of public examples are not finite together, though each alone is: the backend computes nonsense at this physical batch; choose another, or another backend")
	}
	t.best = taken(t.choice.Trials)
	best := t.choice.Trials[t.best]
	t.choice.Method, t.choice.Size = best.Method, best.Size
	return nil
}

// taken returns the index of the fastest trial; a loop that is about as fast goes
// before book-keeping, since it needs the memory of one example, and steps that fill
// memory are slower than their trials where another program wants some.
func taken(trials []Trial) int {
	best := 0
	for i, t := range trials {
		if t.Seconds < trials[best].Seconds {
			best = i
		}
	}
	for i, t := range trials {
		if t.Method == PerExampleLoop && gain*t.Seconds < trials[best].Seconds {
			return i
		}
	}
	return best
}

// sizes tries physical batches of book-keeping, from small to large, while each
// is faster than the one before, worth its time, and sure to fit in memory.
func (t *tuner) sizes(ctx context.Context) error {
	draws := orInt(t.o.Draws, 1)
	first, err := t.firstDraws()
	if err != nil {
		return err
	}
	size, most := max(1, first/draws), max(1, mostDraws/draws)
	if t.o.ExpectedBatchSize > 0 {
		most = max(1, min(most, int(math.Ceil(t.o.ExpectedBatchSize/float64(orInt(t.o.Engine.Workers, 1))))))
	}
	if asked := t.o.Engine.PhysicalBatchSize; asked > 0 {
		size, most = asked, asked
	}
	size = min(size, most)
	last := math.Inf(1)
	for {
		start := time.Now()
		trial, err := t.measure(ctx, BookKeeping, size)
		if err != nil {
			return err
		}
		took := time.Since(start).Seconds()
		faster := trial.Seconds < gain*last
		last = trial.Seconds
		next := min(growth*trial.Size, most)
		if trial.Size < size || next == trial.Size || !faster || t.o.Examples > 0 && took > worth*t.o.Examples*trial.Seconds {
			return nil
		}
		if e := t.engines[0]; !e.fits(next) {
			return nil
		}
		size = next
	}
}

// firstDraws is the first physical batch to try, in draws.
func (t *tuner) firstDraws() (int, error) {
	if t.o.first > 0 {
		return t.o.first, nil
	}
	inputs, err := t.o.Public(nil, 1)
	if err != nil {
		return 0, err
	}
	values := 0
	for _, x := range inputs {
		values = max(values, x.Size()/orInt(t.o.Draws, 1))
		_ = x.FinalizeAll()
	}
	switch size := t.o.Engine.Weights.Size(); {
	case values <= smallMap && size <= smallModel:
		return smallDraws, nil
	case size >= largeModel:
		return 1, nil
	case values >= largeMap:
		return fewDraws, nil
	}
	return firstDraws, nil
}

// fits reports whether the estimate of a physical batch leaves a margin of
// memory, or that nothing is known about it.
func (e *Engine) fits(size int) bool {
	free, known := ram.Free()
	resident, ok := ram.Resident()
	return !known || !ok || e.memory.perExample <= 0 || e.memory.roomFor(size, free, resident)
}

// measure adds a trial. Its size is smaller than asked where memory ran out.
func (t *tuner) measure(ctx context.Context, method Method, size int) (Trial, error) {
	e, err := t.engine(method)
	if err != nil {
		return Trial{}, err
	}
	e.examples.Store(int64(size))
	vector, err := e.program.Vector(t.o.Vector)
	if err != nil {
		return Trial{}, err
	}
	defer func() { _ = vector.FinalizeAll() }()
	trial := Trial{Method: method, Seconds: math.Inf(1)}
	if _, err := e.part(vector, nil, 1, t.o.Public); err != nil { // Compiles.
		return Trial{}, err
	}
	if size > 1 {
		if ok, err := e.sound(vector, size, t.o.Public); err != nil || !ok {
			return Trial{Method: method, Size: size, Seconds: math.Inf(1)}, err
		}
	}
	debug.FreeOSMemory() // So that what the calls take is seen.
	peak := watch()
	for range 3 {
		if err := ctx.Err(); err != nil {
			peak()
			return Trial{}, err
		}
		seconds, err := e.rounds(vector, 1, positions, t.o.Public)
		if err != nil {
			peak()
			return Trial{}, err
		}
		trial.Seconds = min(trial.Seconds, seconds)
	}
	trial.Bytes = peak()
	e.spare.drop()
	trial.Size = e.PhysicalBatchSize()
	t.choice.Trials = append(t.choice.Trials, trial)
	before := e.memory.before
	e.memory = estimate(t.choice.Trials, method)
	e.memory.before = before
	return trial, nil
}

// sound reports whether a call of size public examples gives a finite sum, or else
// each of a few of them alone does not: a size at which the backend computes nonsense,
// as one did at 256 examples, is not taken, however fast. Where memory runs out the
// timing finds a smaller size.
func (e *Engine) sound(vector *nn.Vector, size int, public Fetch) (bool, error) {
	const few = 2
	p, err := e.run(vector, positions(size), size, public)
	if errors.Is(err, ErrMemory) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer e.spare.give(p)
	if finite(p.sum) {
		return true, nil
	}
	for i := range min(few, size) {
		alone, err := e.run(vector, []int{i}, 1, public)
		if err != nil {
			return false, err
		}
		own := finite(alone.sum)
		e.spare.give(alone)
		if !own {
			return true, nil // The model's own doing.
		}
	}
	return false, nil
}

func positions(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	return p
}

// engine returns the engine of a method.
func (t *tuner) engine(method Method) (*Engine, error) {
	for _, e := range t.engines {
		if e.method == method {
			return e, nil
		}
	}
	options := t.o.Engine
	options.Method = method
	e, err := NewEngine(t.backend, options)
	if err != nil {
		return nil, err
	}
	e.memory.before, _ = ram.Resident()
	t.engines = append(t.engines, e)
	return e, nil
}

// take hands over the chosen engine.
func (t *tuner) take() *Engine {
	for i, e := range t.engines {
		if e.method == t.choice.Method {
			t.engines = append(t.engines[:i], t.engines[i+1:]...)
			e.examples.Store(int64(t.choice.Size))
			return e
		}
	}
	panic(fmt.Errorf("dpsgd: no engine of method %q was tried", t.choice.Method))
}

// close ends the engines that were not chosen.
func (t *tuner) close() {
	for _, e := range t.engines {
		e.Close()
	}
}

// estimate draws a line through the memory of a method's smallest and largest
// size, or from nothing through that of its only one. The zero value means that
// the system did not say.
func estimate(trials []Trial, method Method) (m memory) {
	var small, large *Trial
	for i := range trials {
		t := &trials[i]
		if t.Method != method || t.Bytes <= 0 {
			continue
		}
		if small == nil || t.Size < small.Size {
			small = t
		}
		if large == nil || t.Size > large.Size {
			large = t
		}
	}
	if large == nil {
		return memory{}
	}
	m.perExample = float64(large.Bytes) / float64(large.Size)
	if slope := float64(large.Bytes-small.Bytes) / float64(max(1, large.Size-small.Size)); slope > 0 && slope < m.perExample {
		m.perExample = slope
		m.fixed = float64(large.Bytes) - slope*float64(large.Size)
	}
	return m
}

// watch returns a function that ends watching, and returns by how many bytes the
// resident memory of this process rose above what it was, at most.
func watch() func() int64 {
	start, ok := ram.Resident()
	if !ok {
		return func() int64 { return 0 }
	}
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		most := start
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			now, _ := ram.Resident()
			most = max(most, now)
			select {
			case <-tick.C:
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return func() int64 {
		close(stop)
		return int64(<-peak - start)
	}
}
