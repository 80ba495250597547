//go:build !cgo || noxla

package backend

import (
	"errors"

	"github.com/gomlx/compute"
)

const xlaBuilt = false

func newXLA(string) (compute.Backend, error) {
	return nil, errors.New(reasonNotBuilt)
}
