package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/scumble-dp/scumble/release"
)

const leakRun = `
base: base
method: loda
data: {path: %s, examples: 500, size: 28, channels: 1, classes: ["0", "1", "2"]}
privacy: {epsilon: 1, delta: 1.0e-3, reserve: 0.3%s}
training: {steps: 6, expected_batch_size: 50, clipping_norm: 1, learning_rate: 1.0e-3}
sampling: {count: 6, steps: 2}
`

// TestNothingPrivateLeaks plants markers in everything that is private about a
// data set (file names, text and EXIF chunks, dates, pixels, numbers of images) and
// looks for them in every byte that a run, its failures and what follows it give out.
func TestNothingPrivateLeaks(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	p := plant(t, filepath.Join(dir, "MARKROOTqz", "images"))
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("base.yaml", killBase)
	write("run.yaml", fmt.Sprintf(leakRun, p.root, ""))
	write("spent.yaml", strings.Replace(fmt.Sprintf(leakRun, p.root, ", previous_runs: [one]"), "epsilon: 1", "epsilon: 0.5", 1))
	runOK(t, "pretrain", "base.yaml", "--out", "base", "--backend", "go", "--quiet")

	scumble := func(want int, args ...string) {
		t.Helper()
		p.run(t, context.Background(), want, args...)
	}
	finetuneTo := func(out string) []string {
		return []string{"finetune", "run.yaml", "--out", out, "--backend", "go", "--json"}
	}

	// Failures on the data, each by a file whose name is a marker.
	for _, f := range p.faults {
		if err := f.make(); err != nil {
			t.Fatal(err)
		}
		scumble(exitInvalid, finetuneTo("bad")...)
		if err := os.RemoveAll(f.path); err != nil {
			t.Fatal(err)
		}
	}
	// Interrupted; resumed with other images, which is refused; then to the end.
	ctx, cancel := context.WithCancel(context.Background())
	p.onTalk = func(line string) {
		if strings.Contains(line, "step 1/") {
			cancel()
		}
	}
	p.run(t, ctx, exitInterrupted, finetuneTo("one")...)
	p.onTalk = nil
	resume := []string{"finetune", "--resume", "one", "--backend", "go", "--json"}
	extra := filepath.Join(p.root, "0", p.name(9999)+".png")
	p.picture(t, extra, nil)
	scumble(exitInvalid, resume...)
	if err := os.Remove(extra); err != nil {
		t.Fatal(err)
	}
	scumble(exitDone, resume...)
	scumble(exitInvalid, finetuneTo("one")...) // It exists.
	scumble(exitBudget, "finetune", "spent.yaml", "--out", "two", "--backend", "go", "--json")

	p.evaluate(t)

	// What follows a run.
	scumble(exitDone, "report", "one", "--json")
	scumble(exitDone, "ledger", "one")
	scumble(exitDone, "verify", "one", "--json")
	scumble(exitDone, "sign", "--new-key", "key.pem")
	scumble(exitDone, "sign", "one", "--key", "key.pem")
	scumble(exitDone, "verify", "one/release", "--public-key", "key.pem.pub")
	scumble(exitDone, "export", "one", "--out", "shared", "--json")
	scumble(exitDone, "verify", "shared")
	scumble(exitDone, "sample", "one", "--count", "3", "--steps", "2", "--out", "more", "--backend", "go")

	p.scan(t, "one/release")
	p.scan(t, "shared")
	p.scan(t, "more")
	for _, name := range []string{"one/ledger.jsonl", "one/config.yaml"} { // Public, but for the place of the images.
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p.search(t, name, bytes.ReplaceAll(data, []byte("MARKROOTqz"), nil))
	}
	singleByteEdits(t, "one/release", "shared")
}

// evaluate takes figures of the private images: plain ones, which stay in
// private/ and on the terminal, and some that the ledger pays for. All ways to
// fail come first, each with a file whose name is a marker.
func (p *planted) evaluate(t *testing.T) {
	t.Helper()
	plain := []string{"eval", "one", "--reference", p.root, "--metrics", "fid,is", "--classifiers", "knn", "--subgroup", "all=" + p.root, "--backend", "go", "--json"}
	histogram := []string{"eval", "one", "--paid", "histogram", "--paid-noise", "40", "--json"}
	accuracy := []string{"eval", "one", "--paid", "accuracy", "--paid-noise", "40", "--classifiers", "knn", "--reference", p.root, "--backend", "go", "--json"}
	for _, f := range p.faults[:2] {
		if err := f.make(); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{plain, histogram, accuracy} {
			p.run(t, context.Background(), exitInvalid, args...)
		}
		if err := os.RemoveAll(f.path); err != nil {
			t.Fatal(err)
		}
	}
	p.run(t, context.Background(), exitBudget, "eval", "one", "--paid", "histogram", "--paid-noise", "0.1", "--json")
	p.terminal = true
	p.run(t, context.Background(), exitDone, plain...)
	p.terminal = false
	for _, args := range [][]string{histogram, accuracy} {
		before := p.noisy
		p.noisy = func(int) bool { return true } // Until they are known.
		p.run(t, context.Background(), exitDone, args...)
		p.noisy = before
	}
	r, err := loadResults("one")
	if err != nil || len(r.Paid) != 2 {
		t.Fatalf("the run has figures %+v (%v), want two", r, err)
	}
	// A noisy count may happen to be a true one: it is no leak then.
	shown := map[int]bool{}
	for _, f := range r.Paid {
		sum := 0
		for _, v := range f.Counts {
			shown[int(math.Round(v))] = true
			sum += int(math.Round(v))
		}
		shown[sum] = true
	}
	p.noisy = func(n int) bool { return shown[n] }
}

// singleByteEdits changes 200 bytes, one at a time, of real releases: each edit
// is refused.
func singleByteEdits(t *testing.T, dirs ...string) {
	t.Helper()
	random := rand.New(rand.NewPCG(11, 12))
	for _, dir := range dirs {
		var all []string
		walk(t, dir, func(path string, _ []byte) { all = append(all, path) })
		for range 200 / len(dirs) {
			path := all[random.IntN(len(all))]
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(data) == 0 {
				continue
			}
			at, change := random.IntN(len(data)), byte(1+random.IntN(255))
			put := func() {
				data[at] ^= change
				if err := os.WriteFile(path, data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			put()
			if v, err := release.Verify(dir, release.Options{}); err != nil || v.OK {
				t.Errorf("byte %d of %s changed by %#x is not refused: %v", at, path, change, err)
			}
			put()
		}
	}
}

// planted is a private data set full of markers.
type planted struct {
	root   string
	secret string // In every text marker.
	pixels []byte // A row of every picture.
	counts []int  // Images by class, and in all.
	faults []fault
	onTalk func(line string)

	terminal bool           // What is printed is for its reader alone, and may hold counts.
	noisy    func(int) bool // Numbers that the ledger paid for.
}

// fault is a file that is no good.
type fault struct {
	path string
	make func() error
}

func (p *planted) name(i int) string { return fmt.Sprintf("%s-patient-%04d", p.secret, i) }

// plant writes a data set of three classes.
func plant(t *testing.T, root string) *planted {
	t.Helper()
	random := rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	p := &planted{root: root, secret: fmt.Sprintf("Mark%08xQz", random.Uint32()), counts: []int{137, 173, 211, 521}}
	for range 16 {
		p.pixels = append(p.pixels, byte(1+random.IntN(254)))
	}
	for class, n := range p.counts[:3] {
		folder := filepath.Join(root, strconv.Itoa(class))
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			extension := ".png"
			if i%10 == 9 {
				extension = ".jpg"
			}
			p.picture(t, filepath.Join(folder, p.name(i)+extension), random)
		}
		if err := os.WriteFile(filepath.Join(folder, "."+p.secret), []byte(p.secret), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	add := func(name string, data []byte) {
		path := filepath.Join(root, "1", p.secret+name)
		p.faults = append(p.faults, fault{path, func() error { return os.WriteFile(path, data, 0o644) }})
	}
	add("-broken.png", []byte(p.secret+" is no picture"))
	add("-notes.txt", []byte(p.secret))
	var wide bytes.Buffer
	if err := png.Encode(&wide, image.NewGray(image.Rect(0, 0, 31, 29))); err != nil {
		t.Fatal(err)
	}
	add("-wide.png", withChunk(wide.Bytes(), "tEXt", "Comment\x00"+p.secret))
	link := filepath.Join(root, "1", p.secret+"-gone.png")
	p.faults = append(p.faults, fault{link, func() error { return os.Symlink(p.secret+"-nowhere", link) }})
	stray := filepath.Join(root, p.secret+"-class")
	p.faults = append(p.faults, fault{stray, func() error { return os.Mkdir(stray, 0o755) }})
	return p
}

// picture writes an image with the marked row, text and EXIF, dated 1999.
func (p *planted) picture(t *testing.T, path string, random *rand.Rand) {
	t.Helper()
	img := image.NewGray(image.Rect(0, 0, 28, 28))
	for i := range img.Pix {
		if random != nil {
			img.Pix[i] = byte(random.Uint32())
		}
	}
	for i, v := range p.pixels {
		img.SetGray(4+i, 5, color.Gray{Y: v})
	}
	exif := "MM\x00*\x00\x00\x00\x08\x00\x00 " + p.secret
	var b bytes.Buffer
	var data []byte
	if filepath.Ext(path) == ".jpg" {
		if err := jpeg.Encode(&b, img, nil); err != nil {
			t.Fatal(err)
		}
		segment := append([]byte{0xff, 0xe1, 0, 0}, "Exif\x00\x00"+exif...)
		binary.BigEndian.PutUint16(segment[2:], uint16(len(segment)-2))
		data = append(append(bytes.Clone(b.Bytes()[:2]), segment...), b.Bytes()[2:]...)
	} else {
		if err := png.Encode(&b, img); err != nil {
			t.Fatal(err)
		}
		data = withChunk(withChunk(b.Bytes(), "tEXt", "Author\x00"+p.secret), "eXIf", exif)
		data = withChunk(data, "iTXt", "Description\x00\x00\x00en\x00\x00a caption of "+p.secret)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	then := time.Date(1999, 3, 7, 1, 2, 3, 0, time.UTC)
	if err := os.Chtimes(path, then, then); err != nil {
		t.Fatal(err)
	}
}

// withChunk puts a chunk after the header of a PNG.
func withChunk(data []byte, kind, text string) []byte {
	const header = 8 + 25 // Signature and IHDR.
	body := append([]byte(kind), text...)
	chunk := binary.BigEndian.AppendUint32(nil, uint32(len(text)))
	chunk = append(chunk, body...)
	chunk = binary.BigEndian.AppendUint32(chunk, crc32.ChecksumIEEE(body))
	return append(append(bytes.Clone(data[:header]), chunk...), data[header:]...)
}

// run runs the command and searches what it says.
func (p *planted) run(t *testing.T, ctx context.Context, want int, args ...string) {
	t.Helper()
	var out bytes.Buffer
	errs := &listener{hear: p.onTalk}
	code := run(ctx, args, &out, errs)
	if code != want {
		t.Fatalf("scumble %s: exit code %d, want %d\n%s", strings.Join(args, " "), code, want, errs.String())
	}
	// The place of the images is the operator's own word, in the config.
	p.search(t, "stdout of "+args[0], bytes.ReplaceAll(out.Bytes(), []byte("MARKROOTqz"), nil))
	p.search(t, "stderr of "+args[0], bytes.ReplaceAll([]byte(errs.String()), []byte("MARKROOTqz"), nil))
	if !p.terminal {
		p.searchCounts(t, "stdout of "+args[0], out.Bytes(), nil)
	}
	p.searchCounts(t, "stderr of "+args[0], []byte(errs.String()), nil)
}

// listener is standard error.
type listener struct {
	mu   sync.Mutex
	text bytes.Buffer
	hear func(string)
}

func (l *listener) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(data)
	if l.hear != nil {
		l.hear(string(data))
	}
	return len(data), nil
}

func (l *listener) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func walk(t *testing.T, dir string, visit func(path string, data []byte)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		visit(path, data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// scan searches the names and bytes of all files below dir.
func (p *planted) scan(t *testing.T, dir string) {
	t.Helper()
	sizes := make(map[int]bool) // A size may happen to be the number of images.
	walk(t, dir, func(_ string, data []byte) { sizes[len(data)] = true })
	files := 0
	walk(t, dir, func(path string, data []byte) {
		files++
		p.search(t, "name of "+path, []byte(path))
		p.search(t, path, data)
		if ext := filepath.Ext(path); ext != ".png" && ext != ".safetensors" && ext != ".parquet" && ext != ".tar" && ext != ".sig" {
			p.searchCounts(t, path, data, sizes)
		}
	})
	if files == 0 {
		t.Errorf("there is nothing in %s", dir)
	}
}

// search looks for the text markers in several codings, for the date of the
// files, and for the marked pixels, as bytes and within PNG pictures.
func (p *planted) search(t failing, where string, data []byte) {
	t.Helper()
	for name, form := range p.forms() {
		if bytes.Contains(bytes.ToLower(data), bytes.ToLower(form)) {
			t.Errorf("%s holds the marker as %s", where, name)
		}
	}
	pictures := [][]byte{data}
	for _, m := range dataURL.FindAllSubmatch(data, -1) {
		if inside, err := base64.StdEncoding.DecodeString(string(m[1])); err == nil {
			pictures = append(pictures, inside)
		}
	}
	for _, picture := range pictures {
		for from := 0; ; {
			at := bytes.Index(picture[from:], []byte("\x89PNG\r\n\x1a\n"))
			if at < 0 {
				break
			}
			from += at
			if img, err := png.Decode(bytes.NewReader(picture[from:])); err == nil && bytes.Contains(greys(img), p.pixels) {
				t.Errorf("%s holds a picture with the marked pixels", where)
			}
			from += 8
		}
	}
}

type failing interface {
	Helper()
	Errorf(string, ...any)
}

var dataURL = regexp.MustCompile(`data:image/png;base64,([A-Za-z0-9+/=]+)`)

func (p *planted) forms() map[string][]byte {
	wide := []byte{}
	for _, u := range utf16.Encode([]rune(p.secret)) {
		wide = binary.LittleEndian.AppendUint16(wide, u)
	}
	forms := map[string][]byte{"text": []byte(p.secret), "the place": []byte("MARKROOTqz"), "hex": []byte(hex.EncodeToString([]byte(p.secret))), "UTF-16": wide,
		"pixels": p.pixels, "hex pixels": []byte(hex.EncodeToString(p.pixels)), "date": []byte("1999-03-07"), "seconds": []byte("920768523")}
	for shift := range 3 {
		coded := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), p.secret...))
		forms[fmt.Sprintf("base64 at %d", shift)] = []byte(coded[4 : len(coded)-3])
		coded = base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), p.pixels...))
		forms[fmt.Sprintf("base64 pixels at %d", shift)] = []byte(coded[4 : len(coded)-3])
	}
	return forms
}

// searchCounts looks for the numbers of images, as words of their own.
func (p *planted) searchCounts(t failing, where string, data []byte, except map[int]bool) {
	t.Helper()
	for _, n := range p.counts {
		if !except[n] && (p.noisy == nil || !p.noisy(n)) && regexp.MustCompile(`(^|[^0-9A-Za-z.,+-])`+strconv.Itoa(n)+`($|[^0-9A-Za-z.,])`).Match(data) {
			t.Errorf("%s holds the number %d, which is how many images there are", where, n)
		}
	}
}

func greys(img image.Image) []byte {
	var all []byte
	box := img.Bounds()
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			r, _, _, _ := img.At(x, y).RGBA()
			all = append(all, byte(r>>8))
		}
	}
	return all
}

// The search finds what it is made to find.
func TestLeakSearchFinds(t *testing.T) {
	p := &planted{secret: "Markdeadbeef", pixels: []byte("0123456789abcdef"), counts: []int{137}}
	img := image.NewGray(image.Rect(0, 0, 20, 3))
	copy(img.Pix[22:], p.pixels)
	var picture bytes.Buffer
	if err := png.Encode(&picture, img); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"text": []byte("xx MARKDEADBEEF yy"), "hex": []byte(hex.EncodeToString([]byte("..Markdeadbeef"))),
		"base64": []byte(base64.StdEncoding.EncodeToString([]byte("abcdefgMarkdeadbeefxyz"))), "raw pixels": append([]byte("weights"), p.pixels...),
		"picture": picture.Bytes(), "picture in a shard": append([]byte("000000.png and so on"), picture.Bytes()...),
		"picture in HTML": []byte(`<img src="data:image/png;base64,` + base64.StdEncoding.EncodeToString(picture.Bytes()) + `">`),
		"date":            []byte("made 1999-03-07"), "count": []byte(`{"images": 137}`), "count in words": []byte("of 137 images"),
	} {
		var c counter
		p.search(&c, name, data)
		p.searchCounts(&c, name, data, nil)
		if c.errors == 0 {
			t.Errorf("%s goes unseen", name)
		}
	}
	var c counter
	p.search(&c, "", []byte("nothing of it: 0.137, 1372, a137b, 3e137"))
	p.searchCounts(&c, "", []byte("nothing of it: 0.137, 1372, a137b, 3e137"), nil)
	if c.errors != 0 {
		t.Error("a false alarm")
	}
}

type counter struct{ errors int }

func (c *counter) Helper()               {}
func (c *counter) Errorf(string, ...any) { c.errors++ }
