package backend

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/gomlx/compute"
	"github.com/gomlx/gomlx/core/graph"
)

// openTimeout bounds the loading of a plugin and its first sum. Loading the CPU
// plugin takes well under a second; a CUDA plugin may take tens of seconds.
const openTimeout = time.Minute

// pjrtSymbol is the function that every PJRT plugin exports.
const pjrtSymbol = "GetPjrtApi"

// pluginNames are the file names of PJRT plugins, with the platform as the first
// group: GoMLX's two forms, and JAX's.
var pluginNames = []*regexp.Regexp{
	regexp.MustCompile(`^pjrt_c_api_([a-z0-9]+)(?:_v[0-9.]+)?_plugin\.(?:so|dylib|dll)$`),
	regexp.MustCompile(`^pjrt[-_]plugin[-_]([a-z0-9]+)(?:_v[0-9.]+)?\.(?:so|dylib|dll)$`),
	regexp.MustCompile(`^xla_([a-z]+)_plugin\.(?:so|dylib|dll)$`),
}

// platformOf returns the platform that a plugin's file name says, or "".
func platformOf(path string) string {
	for _, re := range pluginNames {
		if m := re.FindStringSubmatch(filepath.Base(path)); m != nil {
			return m[1]
		}
	}
	return ""
}

// dataFolder returns the folder in which Install keeps plugins, or "" where the
// system does not say who the user is.
func dataFolder() string {
	base := os.Getenv("XDG_DATA_HOME")
	if !filepath.IsAbs(base) { // The XDG specification says to ignore relative paths.
		home, err := os.UserHomeDir()
		if err != nil {
			return ""
		}
		base = filepath.Join(home, ".local", "share")
	}
	return filepath.Join(base, "scumble", "pjrt")
}

// searchFolders returns where plugins are looked for, in order.
func searchFolders() []string {
	folders := filepath.SplitList(os.Getenv("PJRT_PLUGIN_LIBRARY_PATH"))
	folders = slices.DeleteFunc(folders, func(f string) bool { return !filepath.IsAbs(f) })
	if data := dataFolder(); data != "" {
		folders = append(folders, installedFolders(data)...)
	}
	if home, err := os.UserHomeDir(); err == nil {
		lib := filepath.Join(home, ".local", "lib")
		folders = append(folders, filepath.Join(lib, "go-xla"), filepath.Join(lib, "go-xla", "nvidia"), filepath.Join(lib, "gomlx", "pjrt"))
	}
	return append(folders, systemFolders...)
}

// systemFolders is a variable for the tests.
var systemFolders = []string{"/usr/local/lib/go-xla", "/usr/local/lib/go-xla/nvidia"}

// listXLA returns the plugins found, those for accelerators that are there first,
// then in the order of the folders. It is empty in a binary without XLA.
func listXLA() []Info {
	if !xlaBuilt {
		return nil
	}
	var infos []Info
	for _, folder := range searchFolders() {
		entries, err := os.ReadDir(folder) // Sorted by name.
		if err != nil {
			continue
		}
		for _, e := range entries {
			if path := filepath.Join(folder, e.Name()); platformOf(path) != "" {
				infos = append(infos, inspect(path))
			}
		}
	}
	slices.SortStableFunc(infos, func(a, b Info) int { return rank(a) - rank(b) })
	return infos
}

// rank orders plugins: working ones first, accelerators before the CPU.
func rank(i Info) int {
	r := 0
	if i.Platform == "cpu" {
		r = 1
	}
	if !i.Available {
		r += 2
	}
	return r
}

// inspect says what can be known of a plugin without loading it.
func inspect(path string) Info {
	info := Info{Name: XLA, Path: path, Platform: platformOf(path)}
	if !info.asInstalled() {
		return info
	}
	err := checkLibrary(path, pjrtSymbol)
	if err == nil {
		err = checkPath(path, info.Platform)
	}
	if err == nil {
		err = checkDevice(info.Platform)
	}
	if err != nil {
		info.Reason = err.Error()
		return info
	}
	info.Available = true
	return info
}

// asInstalled fills in where a library came from. It is false, with a reason, where the
// file is shorter or longer than what was installed.
func (i *Info) asInstalled() bool {
	p, err := readProvenance(i.Path)
	if err != nil {
		return true
	}
	i.Origin, i.SHA256 = p.origin(), p.LibrarySHA256
	if st, err := os.Stat(i.Path); err == nil && st.Size() != p.LibraryBytes {
		i.Reason = fmt.Sprintf("the file has %d bytes, but %d were installed; install it again", st.Size(), p.LibraryBytes)
		return false
	}
	return true
}

// checkLibrary refuses a file that the dynamic linker would crash on or that does not
// export what it is wanted for: loading a cut-off library ends the process with a bus
// error, which nothing can catch.
func checkLibrary(path, export string) error {
	st, err := os.Stat(path)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return errors.New("there is no such file")
		}
		return err
	}
	if !st.Mode().IsRegular() {
		return errors.New("not a regular file; want a shared library")
	}
	if runtime.GOOS != "linux" {
		return nil
	}
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("not a shared library: %s", firstLine(err))
	}
	defer f.Close()
	if f.Type != elf.ET_DYN {
		return fmt.Errorf("an ELF file of type %v, want a shared library", f.Type)
	}
	if want, known := elfMachines[runtime.GOARCH]; known && f.Machine != want {
		return fmt.Errorf("built for %v, want %v", f.Machine, want)
	}
	for _, p := range f.Progs {
		if size := uint64(st.Size()); p.Type == elf.PT_LOAD && (p.Filesz > size || p.Off > size-p.Filesz) {
			return fmt.Errorf("cut off after %d bytes; fetch or install it again", st.Size())
		}
	}
	symbols, err := f.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("read its symbols: %w", err)
	}
	if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == export && s.Section != elf.SHN_UNDEF }) {
		return fmt.Errorf("it does not export %s, so it is not what is wanted", export)
	}
	return nil
}

var elfMachines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkPath refuses paths that go-xla would misread. It takes what follows a comma
// as options, and guesses the platform from words anywhere in the path: a CPU plugin
// below a folder "cuda-tools" would be given CUDA's options.
func checkPath(path, platform string) error {
	if strings.Contains(path, ",") {
		return errors.New("the path has a comma, which GoMLX takes for the start of options; move or link the plugin")
	}
	upper := strings.ToUpper(path)
	saysCUDA := strings.Contains(upper, "CUDA") || strings.Contains(upper, "NVIDIA")
	saysCPU := strings.Contains(upper, "CPU")
	switch {
	case platform == "cpu" && saysCUDA:
		return errors.New("a CPU plugin whose path says cuda or nvidia, which GoMLX would take for a CUDA plugin; move or link it")
	case platform != "" && platform != "cpu" && saysCPU:
		return fmt.Errorf("a %s plugin whose path says cpu, which GoMLX would take for a CPU plugin; move or link it", platform)
	}
	return nil
}

// checkDevice says whether the platform's hardware is there: a CUDA plugin without
// a card fails slowly, and some abort the process.
func checkDevice(platform string) error {
	device, needed := map[string]string{"cuda": "/dev/nvidia*", "rocm": "/dev/kfd"}[platform]
	if !needed || runtime.GOOS != "linux" {
		return nil
	}
	if found, _ := filepath.Glob(device); len(found) == 0 {
		return fmt.Errorf("no device for %s: there is no %s", platform, device)
	}
	return nil
}

// openPlugin loads an inspected plugin and has it compute a sum.
func openPlugin(info Info) (compute.Backend, Info, error) {
	type result struct {
		b   compute.Backend
		err error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if p := recover(); p != nil {
				r = result{nil, fmt.Errorf("panic: %v", p)}
			}
			done <- r
		}()
		if r.b, r.err = newXLA(info.Path); r.err == nil {
			if r.err = checkSum(r.b); r.err != nil {
				r.b.Finalize()
			}
		}
	}()
	var r result
	select {
	case r = <-done:
	case <-time.After(openTimeout):
		r.err = fmt.Errorf("no answer within %v", openTimeout)
	}
	if r.err != nil {
		return nil, Info{}, fmt.Errorf("open XLA plugin %s: %w", info.Path, r.err)
	}
	info.Devices = r.b.NumDevices()
	return r.b, info, nil
}

// checkSum compiles and runs the smallest graph, since a plugin of another version
// may load and yet not understand our programs.
func checkSum(b compute.Backend) error {
	got, err := graph.CallOnce(b, func(x *graph.Node) *graph.Node { return graph.ReduceAllSum(graph.Add(x, x)) }, []float32{1, 2, 4})
	if err != nil {
		return fmt.Errorf("run a first sum: %w", err)
	}
	defer got.FinalizeAll()
	if v, ok := got.Value().(float32); !ok || v != 14 {
		return fmt.Errorf("run a first sum: got %v, want 14", got.Value())
	}
	return nil
}
