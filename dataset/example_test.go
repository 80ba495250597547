package dataset_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dataset/glyphs"
)

func ExampleOpen() {
	temp, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(temp)
	drawn, err := glyphs.Render(glyphs.Options{Count: 60, Classes: []string{"A", "B"}})
	if err != nil {
		panic(err)
	}
	folder := filepath.Join(temp, "letters")
	if err := dataset.WriteFolder(folder, drawn); err != nil {
		panic(err)
	}
	set, err := dataset.Open(folder, dataset.Options{})
	if err != nil {
		panic(err)
	}
	fmt.Println(set.Len(), set.Height, set.Width, set.Channels, set.Classes)
	// Output: 60 28 28 1 [A B]
}
