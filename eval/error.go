package eval

import "errors"

// ErrInvalid is matched (errors.Is) by errors that say what is wrong with what
// the user gave: features that do not fit each other, a file of weights that is
// not what it is said to be.
var ErrInvalid = errors.New("evaluation input is invalid")
