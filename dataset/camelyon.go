package dataset

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Hospitals whose patches WILDS holds out (camelyon17_dataset.py of
// github.com/p-lambda/wilds), counted from 0.
const (
	camelyonValidation = "1"
	camelyonTest       = "2"
)

// camelyonSize is the size that patches are brought to where none is asked for.
const camelyonSize = 32

// openCamelyon reads patches of Camelyon17 as WILDS has them (Koh et al. 2021):
// metadata.csv and 96-pixel images, brought to o.Size, 32 where it is zero. The
// classes are normal and tumor. Train is the training split, Test the patches of
// the hospital held out; its two validation splits are left alone.
func openCamelyon(dir string, o Options) (*Set, error) {
	path := filepath.Join(dir, "metadata.csv")
	f, err := os.Open(path)
	if err != nil {
		return nil, openError(path, err)
	}
	defer f.Close()
	rows, bad, err := parseCamelyon(f, o.Split)
	if bad != nil {
		bad.Path = path
		return nil, bad
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	for i := range rows {
		rows[i].path = filepath.Join(dir, "patches", rows[i].path)
	}
	size := o.Size
	if size == 0 {
		size = camelyonSize
	}
	return shrink(dir, rows, size, camelyonNames, o)
}

// parseCamelyon lists the patches of a split, below the folder of patches. Its
// errors name lines by their number only.
func parseCamelyon(in io.Reader, split Split) ([]pictureFile, *Error, error) {
	r := csv.NewReader(in)
	r.ReuseRecord = true
	var at [7]int
	var out []pictureFile
	for number := 1; ; number++ {
		row, err := r.Read()
		if err == io.EOF {
			break
		}
		var syntax *csv.ParseError
		if errors.As(err, &syntax) {
			return nil, invalid("", "the file is damaged", "line %d is not a line of comma-separated values", number), nil
		}
		if err != nil {
			return nil, nil, err
		}
		if number == 1 {
			for i, name := range []string{"patient", "node", "x_coord", "y_coord", "tumor", "center", "split"} {
				if at[i] = slices.Index(row, name); at[i] < 0 {
					return nil, invalid("", "give the file of camelyon17 in WILDS", "has no column %s", name), nil
				}
			}
			continue
		}
		patient, node, x, y, tumor, centre, part := row[at[0]], row[at[1]], row[at[2]], row[at[3]], row[at[4]], row[at[5]], row[at[6]]
		for _, s := range []string{patient, node, x, y} {
			if s == "" || len(s) > 20 || strings.Trim(s, "0123456789") != "" {
				return nil, invalid("", "the file is damaged", "line %d does not say where its patch is", number), nil
			}
		}
		if tumor != "0" && tumor != "1" {
			return nil, invalid("", "the file is damaged", "line %d says neither 0 nor 1 for tumor", number), nil
		}
		train := part == "0" && centre != camelyonValidation && centre != camelyonTest
		if split == Test && centre != camelyonTest || split != Test && !train {
			continue
		}
		slide := "patient_" + patient + "_node_" + node
		out = append(out, pictureFile{filepath.Join(slide, "patch_"+slide+"_x_"+x+"_y_"+y+".png"), int(tumor[0] - '0')})
	}
	if len(out) == 0 {
		return nil, invalid("", "the file was cut", "names no patches of the split"), nil
	}
	return out, nil, nil
}
