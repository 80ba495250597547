package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/scumble-dp/scumble/dataset"
	"github.com/scumble-dp/scumble/finetune"
)

// conceal takes names of private files, and what is in them, out of an error of
// a run. With --json a run is part of something larger, whose logs and tickets
// others read, and a file name may be a patient's; without it the error goes to the
// person whose images they are, and names the file (docs/decisions/0005). The exit
// code stays. plan says what was wanted; it may be nil.
func conceal(err error, data string, plan *finetune.Plan) error {
	if err == nil {
		return nil
	}
	text := ""
	var bad *dataset.Error
	var path *fs.PathError
	switch {
	case errors.As(err, &bad) && inside(bad.Path, data):
		text = "the private images are not what the config says"
	case errors.As(err, &path) && inside(path.Path, data):
		text = "the private images cannot be read: " + path.Err.Error()
	case strings.Contains(err.Error(), filepath.Clean(data)+string(filepath.Separator)):
		text = "the private images cannot be used"
	default:
		return err
	}
	if plan != nil {
		text += fmt.Sprintf(", want %dx%d pixels, %d channels, classes %s", plan.Size, plan.Size, plan.Channels, strings.Join(plan.Classes, ", "))
	}
	return &coded{exitCode(err), withHint(errors.New(text), fmt.Sprintf("scumble data check %s --config CONFIG names the file and the cause", data))}
}

func inside(path, dir string) bool {
	ok, err := within(path, dir)
	return err == nil && ok
}
