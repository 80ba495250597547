//go:build !unix

package accountant

import (
	"errors"
	"os"
)

// lockFile refuses: without a lock two writers could fork the chain.
func lockFile(*os.File) error {
	return errors.New("this system has no file locks that ledgers can use; run on Linux or macOS")
}
