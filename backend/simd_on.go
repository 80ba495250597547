//go:build goexperiment.simd && amd64

package backend

const simdBuilt, simdPossible = true, true
