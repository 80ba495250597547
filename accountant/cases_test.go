package accountant

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

func TestCasesRefuse(t *testing.T) {
	for text, want := range map[string]string{
		`[{"id":"a","adjacency":"replace_one","delta":1e-5,"phases":[{"type":"dpsgd","q":2,"sigma":1,"steps":1}]}]`:                   "sampling probability is 2",
		`[{"id":"a","adjacency":"add_or_remove_one","delta":0,"phases":[{"type":"dpsgd","q":0.5,"sigma":1,"steps":1}]}]`:              "delta is 0",
		`[{"id":"a","adjacency":"add_or_remove_one","phases":[]}]`:                                                                    "no delta",
		`[{"id":"a","adjacency":"other","delta":1e-5}]`:                                                                               "adjacency is",
		`[{"id":"a","adjacency":"replace_one","delta":1e-5,"phases":[{"type":"exponential"}]}]`:                                       "type is",
		`[{"id":"a","adjacency":"replace_one","delta":1e-5,"phases":[{"type":"dpsgd","q":0.1,"steps":1}]}]`:                           "no sigma",
		`[{"id":"a","adjacency":"replace_one","delta":1e-5,"phases":[{"type":"dpsgd","q":0.1,"sigma":-1,"steps":1}]}]`:                "noise multiplier is -1",
		`[{"id":"a","adjacency":"replace_one","delta":1e-5,"phases":[{"type":"dpsgd","q":0.1,"sigma":1,"steps":0}]}]`:                 "count (steps) is 0",
		`[{"id":"a","task":"calibrate_sigma","adjacency":"replace_one","delta":1e-5,"sampling_prob":0.1,"steps":10}]`:                 "target_eps",
		`[{"id":"a","task":"calibrate_sigma","target_eps":-3,"adjacency":"replace_one","delta":1e-5,"sampling_prob":0.1,"steps":10}]`: "target epsilon is -3",
		`[{"id":"a","task":"guess","adjacency":"replace_one","delta":1e-5}]`:                                                          "task is",
	} {
		cases, err := ReadCases([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		r := RunCases(cases)
		if len(r) != 1 || r[0].ID != "a" || !strings.Contains(r[0].Error, want) || r[0].Epsilon != nil {
			t.Errorf("%s\ngave %+v, want error with %q", text, r, want)
		}
	}
	for _, text := range []string{"", "null", "{}", "[1]", `[{"steps":1.5}]`, `[{"delta":"x"}]`} {
		if _, err := ReadCases([]byte(text)); err == nil {
			t.Errorf("%q: no error", text)
		}
	}
}

func TestFlatCase(t *testing.T) {
	cases, err := ReadCases([]byte(`[{"id":"f","mechanism":"poisson_subsampled_gaussian","adjacency":"add_or_remove_one","delta":1e-5,"sampling_prob":0.01,"noise_multiplier":1,"steps":1000}]`))
	if err != nil {
		t.Fatal(err)
	}
	r := RunCases(cases)[0]
	out, err := json.Marshal(r)
	if err != nil || r.Error != "" || r.Epsilon.PLD < 1.82 || r.Epsilon.PLD > 1.83 {
		t.Errorf("got %s, %v, want PLD epsilon 1.828", out, err)
	}
}

// FuzzReadCases: no input may panic; small problems are also answered.
func FuzzReadCases(f *testing.F) {
	raw, err := os.ReadFile("testdata/accounting_vectors.json")
	if err != nil {
		f.Fatal(err)
	}
	var all []json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		f.Fatal(err)
	}
	for i := 0; i < len(all); i += 9 {
		f.Add([]byte("[" + string(all[i]) + "]"))
	}
	f.Add([]byte(`[{"id":"a","adjacency":"replace_one","delta":1e-5,"phases":[{"type":"laplace","scale":1,"count":3}]}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var cases []Case
		var err error
		parsebound.Check(t, len(data), func() { cases, err = ReadCases(data) })
		if err != nil {
			return
		}
		for i := range cases {
			if _, err := cases[i].neighboring(); err == nil {
				cases[i].events()
			}
		}
	})
}
