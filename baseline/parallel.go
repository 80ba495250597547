package baseline

import (
	"runtime"
	"sync"
)

// parallel calls work for 0 to n-1 on all cores.
func parallel(n int, work func(i int)) {
	workers := runtime.GOMAXPROCS(0)
	var wait sync.WaitGroup
	for w := range workers {
		wait.Go(func() {
			for i := w; i < n; i += workers {
				work(i)
			}
		})
	}
	wait.Wait()
}
