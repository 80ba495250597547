package backend

import (
	"archive/tar"
	"archive/zip"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// library is the one shared library of a source, being read.
type library struct {
	io.Reader
	name   string // Inside the archive, or the file's own; only ever shown, never a path to write.
	closer io.Closer
}

func (l *library) Close() error {
	if l.closer == nil {
		return nil
	}
	return l.closer.Close()
}

// archiveReader is what *os.File offers to both archive formats.
type archiveReader interface {
	io.Reader
	io.ReaderAt
}

// openLibrary finds the library in a source. The member is its name in the archive;
// if it is "", the archive must have exactly one file with a plugin's name.
func openLibrary(f archiveReader, size int64, name, member string) (*library, error) {
	switch lower := strings.ToLower(name); {
	case strings.HasSuffix(lower, ".whl"), strings.HasSuffix(lower, ".zip"):
		return openZip(f, size, member)
	case strings.HasSuffix(lower, ".tar.gz"), strings.HasSuffix(lower, ".tgz"):
		return openTar(f, member)
	case platformOf(name) != "":
		return &library{Reader: f, name: name}, nil
	}
	return nil, errors.New("want a wheel (.whl), GoMLX's archive (.tar.gz, .zip) or a library named pjrt_c_api_PLATFORM_plugin.so")
}

func wanted(name, member string) bool {
	if member != "" {
		return name == member
	}
	return platformOf(path.Base(name)) != ""
}

func openZip(f io.ReaderAt, size int64, member string) (*library, error) {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	var found *zip.File
	for _, e := range z.File {
		if !e.Mode().IsRegular() || !wanted(e.Name, member) {
			continue
		}
		if found != nil {
			return nil, fmt.Errorf("read archive: both %q and %q look like the plugin; unpack it and install one of them", found.Name, e.Name)
		}
		found = e
	}
	if found == nil {
		return nil, missingMember(member)
	}
	r, err := found.Open()
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	return &library{Reader: r, name: found.Name, closer: r}, nil
}

// openTar takes the first match: a compressed tar cannot be looked through and then
// rewound cheaply, and GoMLX's archives hold one plugin.
func openTar(f io.Reader, member string) (*library, error) {
	gz, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("read archive: %w", err)
	}
	for t := tar.NewReader(gz); ; {
		e, err := t.Next()
		if err == io.EOF {
			return nil, missingMember(member)
		}
		if err != nil {
			return nil, fmt.Errorf("read archive: %w", err)
		}
		if e.Typeflag == tar.TypeReg && wanted(e.Name, member) {
			return &library{Reader: t, name: e.Name, closer: gz}, nil
		}
	}
}

func missingMember(member string) error {
	if member != "" {
		return fmt.Errorf("read archive: it has no file %q", member)
	}
	return errors.New("read archive: it has no file named pjrt_c_api_PLATFORM_plugin.so or the like")
}
