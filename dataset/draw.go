package dataset

import (
	"context"
	"runtime"
	"sync"
)

// Drawer draws public images, each a function of its number. Several goroutines
// draw at the same time.
type Drawer interface {
	Side() int         // Height and width in pixels.
	Channels() int     // 1 or 3.
	Classes() []string // Names, in the order of the labels.
	// DrawInto draws image i into pixels, Side*Side*Channels bytes, and returns its
	// label.
	DrawInto(i int, pixels []byte) (label int)
}

// Draw draws images 0 to count-1 on all cores. It stops with ctx's error when ctx
// does.
func Draw(ctx context.Context, d Drawer, count int) (*Set, error) {
	set := &Set{
		Height: d.Side(), Width: d.Side(), Channels: d.Channels(),
		Pixels: make([]byte, count*d.Side()*d.Side()*d.Channels()), Labels: make([]int, count), Classes: d.Classes(),
	}
	workers := runtime.GOMAXPROCS(0)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < count && ctx.Err() == nil; i += workers {
				set.Labels[i] = d.DrawInto(i, set.Image(i))
			}
		})
	}
	wait.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return set, nil
}
