package backendtest

import (
	"testing"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
)

func TestEachRunsEveryBackendOnce(t *testing.T) {
	var seen []string
	shared := map[string]compute.Backend{}
	for range 2 {
		Each(t, func(t *testing.T, b compute.Backend) {
			seen = append(seen, b.String())
			if first, ok := shared[b.String()]; ok && first != b {
				t.Errorf("%s was opened twice", b)
			}
			shared[b.String()] = b
			got, err := graph.CallOnce(b, func(x *graph.Node) *graph.Node { return graph.Neg(x) }, float32(3))
			if err != nil || got.Value() != float32(-3) {
				t.Errorf("-(3) = %v, %v", got, err)
			}
		})
	}
	if len(seen) != 2*len(shared) || seen[0] != "go" {
		t.Errorf("ran %q, want each backend twice and go first", seen)
	}
}
