package backend

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const member = "pkg/pjrt_c_api_cpu_plugin.so"

// fakeLibrary returns a 64-bit ELF file that exports one symbol and does nothing.
func fakeLibrary(symbol string) []byte {
	const headerSize, programSize, sectionSize, symbolSize = 64, 56, 64, 24
	machine, known := elfMachines[runtime.GOARCH]
	if !known {
		machine = elf.EM_X86_64
	}
	names := "\x00" + symbol + "\x00"
	sections := "\x00.dynsym\x00.dynstr\x00.shstrtab\x00"
	symbolsAt := uint64(headerSize + programSize)
	namesAt := symbolsAt + 2*symbolSize
	sectionNamesAt := namesAt + uint64(len(names))
	tableAt := sectionNamesAt + uint64(len(sections))
	end := tableAt + 4*sectionSize + 8 // Loaded to the last byte, so that any cut shows.

	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	put(elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_DYN), Machine: uint16(machine), Version: 1,
		Phoff: headerSize, Shoff: tableAt, Ehsize: headerSize,
		Phentsize: programSize, Phnum: 1, Shentsize: sectionSize, Shnum: 4, Shstrndx: 3,
	})
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R), Filesz: end, Memsz: end, Align: 4096})
	put(elf.Sym64{})
	put(elf.Sym64{Name: 1, Info: byte(elf.STB_GLOBAL)<<4 | byte(elf.STT_FUNC), Shndx: 2, Value: symbolsAt, Size: 1})
	b.WriteString(names)
	b.WriteString(sections)
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_DYNSYM), Off: symbolsAt, Size: 2 * symbolSize, Link: 2, Info: 1, Entsize: symbolSize})
	put(elf.Section64{Name: 9, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names))})
	put(elf.Section64{Name: 17, Type: uint32(elf.SHT_STRTAB), Off: sectionNamesAt, Size: uint64(len(sections))})
	put(uint64(0))
	return b.Bytes()
}

type entry struct {
	name    string
	content []byte
}

func fakeWheel(entries ...entry) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for _, e := range entries {
		w, err := z.Create(e.name)
		if err != nil {
			panic(err)
		}
		if _, err := w.Write(e.content); err != nil {
			panic(err)
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func fakeTar(entries ...entry) []byte {
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	t := tar.NewWriter(gz)
	for _, e := range entries {
		if err := t.WriteHeader(&tar.Header{Name: e.name, Mode: 0o777, Size: int64(len(e.content)), Typeflag: tar.TypeReg}); err != nil {
			panic(err)
		}
		if _, err := t.Write(e.content); err != nil {
			panic(err)
		}
	}
	_, _ = t.Close(), gz.Close()
	return b.Bytes()
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// pinFor returns the pin that a wheel with this library deserves.
func pinFor(wheel, library []byte) artifact {
	return artifact{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Platform: "cpu", Project: "fake", Version: "1.2",
		File: "fake-1.2.whl", Size: int64(len(wheel)), SHA256: digest(wheel),
		Member: member, MemberSize: int64(len(library)), MemberSHA256: digest(library),
	}
}

func goodWheel() (wheel, library []byte) {
	library = fakeLibrary(pjrtSymbol)
	return fakeWheel(entry{"pkg/__init__.py", []byte("PLUGIN = 1")}, entry{member, library}), library
}

func writeFile(t interface {
	Helper()
	Fatal(...any)
}, folder, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func names(t *testing.T, folder string) []string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestInstallPinnedWheel(t *testing.T) {
	data := isolate(t)
	wheel, library := goodWheel()
	source := writeFile(t, t.TempDir(), "renamed.whl", wheel) // The digest counts, not the name.
	pins := []artifact{pinFor(wheel, library)}
	for range 2 { // The second time finds it in place.
		info, err := install(source, InstallOptions{}, pins, data)
		if err != nil {
			t.Fatal(err)
		}
		if !info.Available || info.Platform != "cpu" || info.Origin != "fake 1.2" || info.SHA256 != digest(library) {
			t.Errorf("installed %+v", info)
		}
		got, err := os.ReadFile(info.Path)
		if err != nil || !bytes.Equal(got, library) {
			t.Errorf("the installed library differs: %v", err)
		}
		if found := names(t, data); len(found) != 1 {
			t.Errorf("data folder has %q, want one plugin and nothing left over", found)
		}
		if list := List(); xlaBuilt && list[0] != info {
			t.Errorf("List() starts with %+v, want %+v", list[0], info)
		}
		p, err := readProvenance(info.Path)
		if err != nil || !p.Pinned || p.Source != "renamed.whl" || p.SourceSHA256 != digest(wheel) || p.Member != member || p.InstalledAt.IsZero() {
			t.Errorf("provenance %+v, %v", p, err)
		}
	}
}

func TestInstallRepairsADamagedCopy(t *testing.T) {
	data := isolate(t)
	wheel, library := goodWheel()
	source := writeFile(t, t.TempDir(), "fake-1.2.whl", wheel)
	pins := []artifact{pinFor(wheel, library)}
	info, err := install(source, InstallOptions{}, pins, data)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(info.Path, 100); err != nil {
		t.Fatal(err)
	}
	if now := inspect(info.Path); now.Available || !strings.Contains(now.Reason, "100 bytes") {
		t.Errorf("a cut-off library is reported as %+v", now)
	}
	if info, err = install(source, InstallOptions{}, pins, data); err != nil || !info.Available {
		t.Errorf("second install: %+v, %v", info, err)
	}
	if found := names(t, data); len(found) != 1 {
		t.Errorf("data folder has %q, want one plugin", found)
	}
}

// Whatever byte of a wheel is altered, nothing of it is unpacked.
func TestInstallRefusesTamperedWheels(t *testing.T) {
	data := isolate(t)
	wheel, library := goodWheel()
	pins := []artifact{pinFor(wheel, library)}
	folder := t.TempDir()
	rapid.Check(t, func(r *rapid.T) {
		bad := bytes.Clone(wheel)
		switch at := rapid.IntRange(0, len(bad)-1).Draw(r, "at"); rapid.IntRange(0, 2).Draw(r, "how") {
		case 0:
			bad[at] ^= 1 << rapid.IntRange(0, 7).Draw(r, "bit")
		case 1:
			bad = bad[:at]
		case 2:
			bad = append(bad, 0)
		}
		name := rapid.SampledFrom([]string{"fake-1.2.whl", "other.whl"}).Draw(r, "name")
		_, err := install(writeFile(r, folder, name, bad), InstallOptions{}, pins, data)
		if err == nil || !strings.Contains(err.Error(), "sha256") {
			r.Fatalf("a tampered wheel gave %v, want an error about its sha256", err)
		}
		if found := names(t, data); found != nil {
			r.Fatalf("a refused wheel left %q", found)
		}
	})
}

func TestInstallRefusals(t *testing.T) {
	library := fakeLibrary(pjrtSymbol)
	wheel := fakeWheel(entry{member, library})
	altered := fakeWheel(entry{member, fakeLibrary("GetOtherFn")})
	two := fakeWheel(entry{member, library}, entry{"b/pjrt-plugin-cuda.so", library})
	good := pinFor(wheel, library)
	foreign := good
	foreign.OS = "plan9"
	small := good
	small.MemberSize--
	lost := good
	lost.Member = "elsewhere.so"
	// The wheel's digest is pinned, but not the library that is in it.
	inner := pinFor(altered, library)

	for name, c := range map[string]struct {
		file   string
		source []byte
		sha256 string
		pin    artifact
		want   string
	}{
		"unknown wheel":         {"x.whl", altered, "", good, "pass that with --sha256"},
		"unknown library":       {"pjrt_c_api_cpu_plugin.so", library, "", good, "pass that with --sha256"},
		"wrong digest given":    {"x.whl", wheel, digest(library), good, "fetch it again"},
		"no digest":             {"x.whl", wheel, "sha256:12", good, "hexadecimal digits"},
		"wrong machine":         {"x.whl", wheel, "", foreign, "built for plan9"},
		"altered library":       {"x.whl", altered, "", inner, "has sha256"},
		"library too large":     {"x.whl", wheel, "", small, "more than"},
		"library not there":     {"x.whl", wheel, "", lost, "no file \"elsewhere.so\""},
		"no plugin in wheel":    {"x.whl", fakeWheel(entry{"a.py", nil}), digest(fakeWheel(entry{"a.py", nil})), good, "no file named"},
		"two plugins in wheel":  {"x.whl", two, digest(two), good, "both"},
		"not a wheel":           {"x.whl", []byte("<html>"), digest([]byte("<html>")), good, "read archive"},
		"not an archive":        {"x.tar.gz", []byte("<html>"), digest([]byte("<html>")), good, "read archive"},
		"not a plugin":          {"x.whl", altered, digest(altered), good, "does not export"},
		"not any of the kinds":  {"readme.md", []byte("hello"), digest([]byte("hello")), good, "want a wheel"},
		"text named as library": {"pjrt_c_api_cpu_plugin.so", []byte("hello"), digest([]byte("hello")), good, "not a shared library"},
	} {
		t.Run(name, func(t *testing.T) {
			if runtime.GOOS != "linux" && (name == "not a plugin" || name == "text named as library") {
				t.Skip("left out: libraries are looked into on Linux only")
			}
			data := filepath.Join(t.TempDir(), "data")
			source := writeFile(t, t.TempDir(), c.file, c.source)
			_, err := install(source, InstallOptions{SHA256: c.sha256}, []artifact{c.pin}, data)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if found := names(t, data); len(found) != 0 {
				t.Errorf("left behind: %q", found)
			}
		})
	}
	if _, err := Install(t.TempDir(), InstallOptions{}); err == nil {
		t.Error("a folder was installed")
	}
	if _, err := Install(filepath.Join(t.TempDir(), "none.whl"), InstallOptions{}); err == nil {
		t.Error("a missing file was installed")
	}
}

func TestInstallWithGivenDigest(t *testing.T) {
	library := fakeLibrary(pjrtSymbol)
	for file, content := range map[string][]byte{
		"some.whl":                 fakeWheel(entry{"a.txt", nil}, entry{"d/pjrt-plugin-cpu.so", library}),
		"pjrt_cpu_here.tar.gz":     fakeTar(entry{"README", nil}, entry{"pjrt_c_api_cpu_v0.1.2_plugin.so", library}),
		"pjrt_c_api_cpu_plugin.so": library,
	} {
		t.Run(file, func(t *testing.T) {
			data := isolate(t)
			source := writeFile(t, t.TempDir(), file, content)
			info, err := Install(source, InstallOptions{SHA256: " " + strings.ToUpper(digest(content)) + "\n"})
			if err != nil {
				t.Fatal(err)
			}
			if !info.Available || info.Platform != "cpu" || info.Origin != file || !strings.HasPrefix(info.Path, data) {
				t.Errorf("installed %+v", info)
			}
			if p, err := readProvenance(info.Path); err != nil || p.Pinned || p.LibraryBytes != int64(len(library)) {
				t.Errorf("provenance %+v, %v", p, err)
			}
		})
	}
}

func TestPinnedTable(t *testing.T) {
	for _, a := range pinned {
		for _, d := range []string{a.SHA256, a.MemberSHA256} {
			if raw, err := hex.DecodeString(d); err != nil || len(raw) != sha256.Size || d != strings.ToLower(d) {
				t.Errorf("%s: digest %q is not 64 lower-case hexadecimal digits", a.File, d)
			}
		}
		if a.Platform != allocatorPlatform && platformOf(a.Member) != a.Platform || !strings.HasPrefix(a.File, strings.ReplaceAll(a.Project, "-", "_")+"-"+a.Version+"-") {
			t.Errorf("pin %+v contradicts itself", a)
		}
		if a.Size <= 0 || a.MemberSize <= 0 || a.License == "" {
			t.Errorf("pin %+v is not filled in", a)
		}
	}
}

func FuzzOpenLibrary(f *testing.F) {
	library := fakeLibrary(pjrtSymbol)
	f.Add("a.whl", fakeWheel(entry{member, library}))
	f.Add("a.tar.gz", fakeTar(entry{member, library}))
	f.Add("pjrt_c_api_cpu_plugin.so", library)
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		lib, err := openLibrary(bytes.NewReader(content), int64(len(content)), name, "")
		if err != nil {
			return
		}
		defer lib.Close()
		if platformOf(lib.name) == "" {
			t.Errorf("took %q, which is no plugin's name", lib.name)
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(lib, 1<<20)) // Errors are fine, panics are not.
	})
}
