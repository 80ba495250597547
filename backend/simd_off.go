//go:build !goexperiment.simd || !amd64

package backend

import "runtime"

const simdBuilt, simdPossible = false, runtime.GOARCH == "amd64"
