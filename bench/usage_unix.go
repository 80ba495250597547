//go:build unix

package bench

import (
	"runtime"
	"syscall"
	"time"
)

func usage() (r syscall.Rusage) {
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &r) // Zero where the system does not say.
	return r
}

// cpuTime returns the processor time of this process, all threads.
func cpuTime() time.Duration {
	r := usage()
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// peakRSS returns the largest resident memory of this process so far, in bytes.
func peakRSS() int64 {
	r := usage()
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		return int64(r.Maxrss)
	}
	return int64(r.Maxrss) << 10
}
