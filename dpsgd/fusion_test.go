package dpsgd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/internal/backendtest"
	"github.com/scumble-dp/scumble/nn"
)

const fusionChild = "SCUMBLE_TEST_FUSION"

// manyLayers is a row of small layers.
func manyLayers(t testing.TB, layers int) *problem {
	p := &problem{height: 2, width: 2, channels: 6, draws: 1, seed: 9, clip: 0.1}
	p.forward = func(s *nn.Scope, x, _ *graph.Node) *graph.Node {
		for i := range layers {
			x = nn.SiLU(nn.Dense(s.In("%d", i), x, 6, nn.DenseOptions{}))
		}
		return x
	}
	p.build(t)
	return p
}

// TestFusionChild compiles for XLA, which writes down what it made of the graph.
func TestFusionChild(t *testing.T) {
	method, layers, ok := strings.Cut(os.Getenv(fusionChild), " ")
	if !ok {
		t.Skip("the other half of TestNormsAreAddedOnce")
	}
	n, err := strconv.Atoi(layers)
	if err != nil {
		t.Fatal(err)
	}
	p := manyLayers(t, n)
	e := p.engine(t, backendtest.Open(t, "xla"), nn.Small, func(o *EngineOptions) { o.Method = Method(method) })
	if err := e.Prepare(p.weights.Flatten(p.trainable), p.fetch); err != nil {
		t.Fatal(err)
	}
}

// The sum of all parameters' squared norms is compiled, and computed, once, and not for
// each parameter that the clip factor scales: what XLA makes of a graph is in proportion
// to its layers.
func TestNormsAreAddedOnce(t *testing.T) {
	backendtest.Open(t, "xla")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	instructions := func(method Method, layers int) int {
		dump := t.TempDir()
		cmd := exec.Command(self, "-test.run=^TestFusionChild$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d", fusionChild, method, layers), "XLA_FLAGS=--xla_dump_to="+dump+" --xla_dump_hlo_as_text=true")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		files, err := filepath.Glob(filepath.Join(dump, "*after_optimizations.txt"))
		if err != nil || len(files) == 0 {
			t.Fatalf("XLA left %q, %v; want its optimised programs", files, err)
		}
		most := 0
		for _, f := range files {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, strings.Count(string(text), " = "))
		}
		return most
	}
	for _, method := range []Method{BookKeeping, PerExampleLoop} {
		few, many := instructions(method, 20), instructions(method, 60)
		t.Logf("%s: %d instructions for 20 layers, %d for 60", method, few, many)
		if times := float64(many) / float64(few); times < 2 || times > 3.5 {
			t.Errorf("%s: XLA makes %d instructions of 20 layers and %d of 60, %.1f times as many; want about 3", method, few, many, times)
		}
	}
}
