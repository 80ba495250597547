package dataset

import (
	"errors"
	"fmt"
)

// ErrInvalid is matched (errors.Is) by every [*Error].
var ErrInvalid = errors.New("data set is invalid")

// Error says what is wrong with the user's data: a file that is not an image, a
// class without images, a size we do not take. Failures of the machine, such as
// a disk error, are not of this type.
type Error struct {
	Path    string // The file or folder at fault.
	Problem string // What was got and what is wanted.
	Next    string // What to do next; may be empty.
	Err     error  // Cause; may be nil. It never holds contents of a file.
}

func (e *Error) Error() string {
	text := e.Problem
	if e.Path != "" {
		text = e.Path + ": " + text
	}
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	if e.Next != "" {
		text += "; " + e.Next
	}
	return text
}

// Unwrap returns the cause and ErrInvalid.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{ErrInvalid}
	}
	return []error{ErrInvalid, e.Err}
}

func invalid(path, next, format string, args ...any) *Error {
	return &Error{Path: path, Problem: fmt.Sprintf(format, args...), Next: next}
}
