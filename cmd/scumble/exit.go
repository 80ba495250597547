package main

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/finetune"
)

// Exit codes of the command: a stable contract.
const (
	exitDone         = 0
	exitFailed       = 1
	exitMisuse       = 2 // Flags or arguments.
	exitInvalid      = 3 // Config or data.
	exitBudget       = 4 // The privacy budget would be exceeded.
	exitResources    = 5 // Memory, disk, device.
	exitVerification = 6
	exitInterrupted  = 130 // State is saved.
)

// coded is an error with an exit code of its own.
type coded struct {
	code int
	err  error
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

// hinted is an error with a line that says what to do.
type hinted struct {
	hint string
	err  error
}

func (e *hinted) Error() string { return e.err.Error() }
func (e *hinted) Unwrap() error { return e.err }

func misuse(err error) error  { return &coded{exitMisuse, err} }
func invalid(err error) error { return &coded{exitInvalid, err} }

func withHint(err error, hint string) error { return &hinted{hint, err} }

func exitCode(err error) int {
	var c *coded
	switch {
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &c):
		return c.code
	case errors.Is(err, accountant.ErrBudget):
		return exitBudget
	case errors.Is(err, accountant.ErrBrokenChain), errors.Is(err, finetune.ErrEarlier):
		return exitVerification
	case errors.Is(err, dataset.ErrInvalid), errors.Is(err, finetune.ErrConfig):
		return exitInvalid
	case errors.Is(err, dpsgd.ErrMemory), errors.Is(err, finetune.ErrPlace), errors.Is(err, fs.ErrPermission),
		errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.EDQUOT):
		return exitResources
	}
	return exitFailed
}
