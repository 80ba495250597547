package hub

import (
	"strings"
	"testing"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

// A ref of the cache becomes part of a path: it is a commit, or nothing.
func FuzzParseRef(f *testing.F) {
	f.Add([]byte(strings.Repeat("0a", 20) + "\n"))
	f.Add([]byte("../../../etc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var commit string
		var err error
		parsebound.Check(t, len(data), func() { commit, err = parseRef(data) })
		if err == nil && (len(commit) != 40 || strings.Trim(commit, "0123456789abcdef") != "") {
			t.Errorf("commit %q", commit)
		}
	})
}

// FuzzWanted: names that a hub lists; what is taken was there.
func FuzzWanted(f *testing.F) {
	f.Add("model_index.json\nunet/config.json\nunet/diffusion_pytorch_model.safetensors\nunet/diffusion_pytorch_model.bin")
	f.Fuzz(func(t *testing.T, list string) {
		var names, taken []string
		parsebound.Check(t, len(list), func() {
			names = strings.Split(list, "\n")
			taken = wanted(names)
		})
		for _, name := range taken {
			if !strings.Contains("\n"+list+"\n", "\n"+name+"\n") {
				t.Errorf("%q is taken, which was not there", name)
			}
		}
	})
}
