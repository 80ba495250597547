// Package bench measures what a private training step costs: the two standard
// workloads, the floating-point operations and rules of their layers counted
// from shapes, and the DP step timed beside ordinary training in one process.
//
// Its data are random numbers: this package sees no private data, and what it
// trains is thrown away.
package bench
