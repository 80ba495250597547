package accountant

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
)

// TestFlood gives the parsers mutated inputs, many times more than the fuzzing
// engine gets through in the same time: 20,000 each, ten million each with
// SCUMBLE_SLOW. Nothing may panic; the seed of a worker is its number.
func TestFlood(t *testing.T) {
	inputs := 20_000
	if os.Getenv("SCUMBLE_SLOW") != "" {
		inputs = 10_000_000
	}
	ledger := longLedger(t, 3)
	raw, err := os.ReadFile("testdata/accounting_vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	var cases [][]byte
	for _, c := range all {
		cases = append(cases, []byte("["+string(c)+"]"))
	}
	t.Run("ledger", func(t *testing.T) {
		flood(t, inputs, [][]byte{ledger}, true, func(data []byte) bool {
			r, err := ParseLedger(data)
			if err != nil {
				return false
			}
			r.Events()
			if _, err := Compose(r); err != nil && len(r.Runs()) < 2 {
				t.Errorf("one run does not add up: %v\n%s", err, data)
			}
			return true
		})
	})
	t.Run("cases", func(t *testing.T) {
		flood(t, inputs, cases, false, func(data []byte) bool {
			cases, err := ReadCases(data)
			if err != nil {
				return false
			}
			for i := range cases {
				if _, err := cases[i].neighboring(); err == nil {
					cases[i].events()
				}
			}
			return true
		})
	})
}

// flood calls parse, which reports whether it took the input, on mutations of
// the seeds.
func flood(t *testing.T, inputs int, seeds [][]byte, chained bool, parse func(data []byte) bool) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	taken := 0
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			good := 0
			for i := w; i < inputs; i += workers {
				data := mutate(rng, bytes.Clone(seeds[rng.IntN(len(seeds))]))
				if chained && rng.IntN(4) > 0 { // Else few would get past the hash chain.
					data = chainAgain(data)
				}
				if parse(data) {
					good++
				}
			}
			mu.Lock()
			taken += good
			mu.Unlock()
		})
	}
	wg.Wait()
	t.Logf("%d inputs, %d of them taken", inputs, taken)
	if taken == 0 || taken == inputs {
		t.Errorf("%d of %d mutated inputs were taken, want some and not all", taken, inputs)
	}
}

// tokens are what a mutation puts in place of a byte or a stretch.
var tokens = []string{"0", "-1", "1e308", "1e-308", "1e999", "NaN", "null", "true", "{}", "[]", "\"\"", "\n", "\x00", "\xff", ",", ":", "\"", "{", "}", "[", "]", "9007199254740993", " "}

// mutate edits data in one to four places.
func mutate(rng *rand.Rand, data []byte) []byte {
	for range 1 + rng.IntN(4) {
		if len(data) == 0 {
			return data
		}
		from := rng.IntN(len(data))
		to := min(len(data), from+1+rng.IntN(1+rng.IntN(40)))
		switch rng.IntN(6) {
		case 0:
			data[from] ^= 1 << rng.IntN(8)
		case 1: // Out.
			data = append(data[:from], data[to:]...)
		case 2: // Twice.
			data = append(data[:to:to], append(bytes.Clone(data[from:to]), data[to:]...)...)
		case 3: // Torn.
			if rng.IntN(8) == 0 {
				data = data[:from]
			}
		case 4: // A number becomes another token.
			if i := bytes.IndexAny(data[from:], "0123456789"); i >= 0 {
				from += i
				to = from
				for to < len(data) && bytes.IndexByte([]byte("0123456789.eE+-"), data[to]) >= 0 {
					to++
				}
				data = append(data[:from:from], append([]byte(tokens[rng.IntN(len(tokens))]), data[to:]...)...)
			}
		default:
			data = append(data[:from:from], append([]byte(tokens[rng.IntN(len(tokens))]), data[to:]...)...)
		}
	}
	return data
}

// chainAgain makes each line name the hash of the line before it.
func chainAgain(data []byte) []byte {
	lines := bytes.SplitAfter(data, []byte("\n"))
	key := []byte(`"previous":"`)
	previous := ""
	for i, line := range lines {
		if at := bytes.Index(line, key); at >= 0 {
			at += len(key)
			if end := bytes.IndexByte(line[at:], '"'); end >= 0 {
				line = append(line[:at:at], append([]byte(previous), line[at+end:]...)...)
			}
		}
		lines[i] = line
		sum := sha256.Sum256(bytes.TrimSuffix(line, []byte("\n")))
		previous = hex.EncodeToString(sum[:])
	}
	return bytes.Join(lines, nil)
}
