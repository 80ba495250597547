package report

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// output is one rendered file.
type output struct {
	name string
	data []byte
}

// WriteRelease writes report.html, report.md, statement.md and statement.json
// to dir, which is made if it is missing. Files of these names are replaced.
//
// Guarantee: nothing in them is computed from a score, curve, fact or picture
// that is [NotCovered]; that there was one is not said either. Where
// [Run.Unmet] is not empty they hold no claim.
//
// All is rendered before the first file is written; each file appears whole or
// not at all, statement.json last.
func WriteRelease(dir string, r *Run) error {
	files, err := renderRelease(r)
	if err == nil {
		err = writeAll(dir, 0o755, 0o644, files)
	}
	if err != nil {
		return fmt.Errorf("write release report: %w", err)
	}
	return nil
}

func renderRelease(r *Run) ([]output, error) {
	v, err := newView(r, release)
	if err != nil {
		return nil, err
	}
	html, err := v.html()
	if err != nil {
		return nil, err
	}
	statement, err := v.Statement.Encode()
	if err != nil {
		return nil, err
	}
	return []output{
		{"report.html", html},
		{"report.md", v.markdown()},
		{"statement.md", v.Statement.Markdown()},
		{"statement.json", statement},
	}, nil
}

// WritePrivate writes report.html, report.md and report.json, which hold
// everything, to dir. What the claim does not cover is marked. A folder that is
// made gets mode 0700; the files get 0600.
func WritePrivate(dir string, r *Run) error {
	files, err := renderPrivate(r)
	if err == nil {
		err = writeAll(dir, 0o700, 0o600, files)
	}
	if err != nil {
		return fmt.Errorf("write private report: %w", err)
	}
	return nil
}

func renderPrivate(r *Run) ([]output, error) {
	v, err := newView(r, private)
	if err != nil {
		return nil, err
	}
	html, err := v.html()
	if err != nil {
		return nil, err
	}
	all, err := r.encode()
	if err != nil {
		return nil, err
	}
	return []output{
		{"report.html", html},
		{"report.md", v.markdown()},
		{"report.json", all},
	}, nil
}

func writeAll(dir string, dirMode, fileMode fs.FileMode, files []output) error {
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	for _, f := range files {
		if err := writeFile(filepath.Join(dir, f.name), fileMode, f.data); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file that appears whole or not at all.
// It stands here, too, as this package imports the accountant and nothing else.
func writeFile(path string, mode fs.FileMode, data []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".writing-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
