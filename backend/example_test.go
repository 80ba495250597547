package backend_test

import (
	"fmt"

	"github.com/gomlx/gomlx/core/graph"

	"github.com/scumble-dp/scumble/backend"
)

func ExampleOpen() {
	b, info, err := backend.Open("go") // Or "auto", "xla", "xla:PATH".
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Finalize()
	sum, err := graph.CallOnce(b, func(x *graph.Node) *graph.Node { return graph.ReduceAllSum(x) }, []float32{1, 2, 3})
	fmt.Println(info.Name, sum, err)
	// Output: go float32(6) <nil>
}

func ExampleInstall() {
	_, err := backend.Install("missing.whl", backend.InstallOptions{})
	fmt.Println(err)
	// Output: install backend from missing.whl: open missing.whl: no such file or directory
}

func ExampleList() {
	for _, info := range backend.List() {
		if info.Name == backend.Go {
			fmt.Println(info.Name, info.Available)
		}
	}
	// Output: go true
}

func ExampleProbe() {
	b, _, err := backend.Open("go")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Finalize()
	r, err := backend.Probe(b)
	fmt.Println(r.GFLOPS > 0, r.ConvGradError < 1e-4, err)
	// Output: true true <nil>
}
