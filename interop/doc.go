// Package interop tests that what scumble writes loads in diffusers, peft and
// transformers and gives the same there, and that what those write loads here. Its
// tests need Python: interop/check.sh makes a virtual environment and runs them, as
// .ci/run does. It has no code of its own.
package interop
