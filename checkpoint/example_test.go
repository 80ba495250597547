package checkpoint_test

import (
	"fmt"

	"github.com/scumble-dp/scumble/checkpoint"
)

func ExampleLoad() {
	_, err := checkpoint.Load("no-such-folder")
	fmt.Println(err)
	// Output: read model: open no-such-folder/model_index.json: no such file or directory
}
