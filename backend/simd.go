package backend

// SIMD reports whether this binary's Go backend uses vector instructions (AVX2 or
// AVX-512, where the processor has them): it does when built with
// GOEXPERIMENT=simd for amd64.
func SIMD() bool { return simdBuilt }
