package release_test

import (
	"bytes"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/internal/parsebound"
	"github.com/scumble-dp/scumble/internal/releasetest"
	"github.com/scumble-dp/scumble/release"
	"github.com/scumble-dp/scumble/report"
)

func verify(t testing.TB, dir string, o release.Options) *release.Verdict {
	t.Helper()
	v, err := release.Verify(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	if v.OK != (len(v.Problems) == 0) {
		t.Fatalf("ok is %t with problems %q", v.OK, v.Problems)
	}
	return v
}

func wantRefused(t *testing.T, what, dir string, o release.Options, words string) {
	t.Helper()
	v, err := release.Verify(dir, o)
	if err != nil {
		t.Errorf("%s: %v, want a verdict", what, err)
		return
	}
	if v.OK || !strings.Contains(strings.Join(v.Problems, "; "), words) {
		t.Errorf("%s: ok is %t, problems %q, want one with %q", what, v.OK, v.Problems, words)
	}
}

func TestVerify(t *testing.T) {
	dir := releasetest.New(t, nil)
	v := verify(t, dir, release.Options{})
	if !v.OK || v.Signer != "" || v.Files != 11 || v.Entries != releasetest.Steps+1 {
		t.Errorf("verdict is %+v", v)
	}
	if v.EpsilonAccountant != v.Epsilon || v.EpsilonRecount > v.Epsilon || v.EpsilonRecount < 0.999*v.Epsilon || v.EpsilonRDP < v.Epsilon {
		t.Errorf("epsilon %g, recomputed %g, recounted %g, by RDP %g", v.Epsilon, v.EpsilonAccountant, v.EpsilonRecount, v.EpsilonRDP)
	}
}

// names lists the files of a release, the manifest included.
func names(t testing.TB, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			name, _ := filepath.Rel(dir, path)
			all = append(all, filepath.ToSlash(name))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// Every edit of one byte is refused, with and without a signature: 200 random
// ones, files drawn evenly, so that small ones get their share.
func TestSingleByteEdits(t *testing.T) {
	for _, signed := range []bool{false, true} {
		dir := releasetest.New(t, nil)
		if signed {
			if err := release.Sign(dir, testKey(t)); err != nil {
				t.Fatal(err)
			}
		}
		all := names(t, dir)
		random := rand.New(rand.NewPCG(1, 2))
		for range 200 {
			name := all[random.IntN(len(all))]
			data := releasetest.Get(t, dir, name)
			at, change := random.IntN(len(data)), byte(1+random.IntN(255))
			data[at] ^= change
			releasetest.Put(t, dir, name, data)
			wantRefused(t, name, dir, release.Options{}, "")
			data[at] ^= change
			releasetest.Put(t, dir, name, data)
		}
		if v := verify(t, dir, release.Options{}); !v.OK {
			t.Errorf("put back, it has problems %q", v.Problems)
		}
	}
}

// Verification takes under a second: the least of five, since others use the
// machine too.
func TestVerifyIsQuick(t *testing.T) {
	dir := releasetest.New(t, nil)
	least := time.Hour
	for range 5 {
		start := time.Now()
		if v := verify(t, dir, release.Options{}); !v.OK {
			t.Fatalf("it has problems %q", v.Problems)
		}
		least = min(least, time.Since(start))
	}
	if least >= time.Second {
		t.Errorf("verification takes %v, want under a second", least)
	}
}

// So is every cut, growth, removal, addition and exchange.
func TestOtherEdits(t *testing.T) {
	dir := releasetest.New(t, nil)
	if err := release.Sign(dir, testKey(t)); err != nil {
		t.Fatal(err)
	}
	for _, name := range names(t, dir) {
		data := releasetest.Get(t, dir, name)
		path := filepath.Join(dir, filepath.FromSlash(name))
		for what, other := range map[string][]byte{"cut by a byte": data[:len(data)-1], "empty": nil, "a byte longer": append(bytes.Clone(data), '\n')} {
			releasetest.Put(t, dir, name, other)
			wantRefused(t, name+" "+what, dir, release.Options{}, "")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		wantRefused(t, name+" removed", dir, release.Options{}, "missing")
		target := filepath.Join(t.TempDir(), "same")
		if err := os.WriteFile(target, data, 0o644); err != nil {
			t.Fatal(err)
		}
		if name != release.ManifestFile && name != release.SignatureFile { // Their bytes are the same bytes.
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, name+" a link", dir, release.Options{}, "not a regular file")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		releasetest.Put(t, dir, name, data)
	}
	for _, name := range []string{"more.txt", "model/.hidden", "synthetic/0/000009.png", "zz/zz"} {
		releasetest.Put(t, dir, name, nil)
		wantRefused(t, name+" added", dir, release.Options{}, "added")
		if err := os.Remove(filepath.Join(dir, filepath.FromSlash(name))); err != nil {
			t.Fatal(err)
		}
	}
	a, b := releasetest.Get(t, dir, "model/model_index.json"), releasetest.Get(t, dir, release.ConfigFile)
	releasetest.Put(t, dir, "model/model_index.json", b)
	releasetest.Put(t, dir, release.ConfigFile, a)
	wantRefused(t, "two files exchanged", dir, release.Options{}, "changed")
}

// Somebody who makes the manifest again is caught where the release then
// contradicts itself.
func TestRemadeManifest(t *testing.T) {
	dropped := func(t *testing.T) []byte { // A ledger without its last step: its chain is whole.
		lines := bytes.SplitAfter(releasetest.Ledger(t, ""), []byte("\n"))
		return bytes.Join(lines[:len(lines)-2], nil)
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, dir string)
		words  string
	}{
		{"lower epsilon, words and all", func(t *testing.T, dir string) {
			restate(t, dir, func(s *report.Statement) { s.Bound.Epsilon /= 2 })
		}, "second count says"},
		{"lower epsilon without its second count", func(t *testing.T, dir string) {
			restate(t, dir, func(s *report.Statement) { s.Bound.Epsilon /= 2; s.Bound.EpsilonRecount = 0 })
		}, "the sentence of the guarantee"},
		{"larger delta", func(t *testing.T, dir string) { restate(t, dir, func(s *report.Statement) { s.Bound.Delta *= 10 }) }, "sentence"},
		{"delta of 1/N", func(t *testing.T, dir string) {
			restate(t, dir, func(s *report.Statement) { s.Setting.Examples = 100_000 })
		}, "below 1/100000"},
		{"another unit", func(t *testing.T, dir string) {
			restate(t, dir, func(s *report.Statement) { s.Setting.Unit = "patient" })
		}, "sentence"},
		{"milder meaning", func(t *testing.T, dir string) {
			restate(t, dir, func(s *report.Statement) { s.Meaning.Accuracy = 0.5 })
		}, "meaning"},
		{"Rényi curve", func(t *testing.T, dir string) {
			restate(t, dir, func(s *report.Statement) { s.Bound.RDP[1].Epsilon *= 0.9 })
		}, "Rényi curve"},
		{"private weights", func(t *testing.T, dir string) {
			restate(t, dir, func(s *report.Statement) { s.Provenance[0].Public = false })
		}, "not public"},
		{"fewer steps stated", func(t *testing.T, dir string) {
			restate(t, dir, func(s *report.Statement) { s.Ledger.Rows[0].Event.Count--; s.Mechanism.Steps-- })
		}, "accesses"},
		{"more steps stated", func(t *testing.T, dir string) { restate(t, dir, func(s *report.Statement) { s.Mechanism.Steps++ }) }, "steps"},
		{"words alone", func(t *testing.T, dir string) {
			releasetest.Put(t, dir, release.WordsFile, bytes.Replace(releasetest.Get(t, dir, release.WordsFile), []byte("8000"), []byte("9000"), 1))
			releasetest.Put(t, dir, release.WordsFile, append(releasetest.Get(t, dir, release.WordsFile), "- It is safe.\n"...))
		}, "statement.md does not say"},
		{"statement in other words", func(t *testing.T, dir string) {
			releasetest.Put(t, dir, release.StatementFile, append(releasetest.Get(t, dir, release.StatementFile), '\n'))
		}, "not written as"},
		{"report", func(t *testing.T, dir string) {
			releasetest.Put(t, dir, "report.html", []byte("<p>Perfectly private.</p>"))
		}, "report.html"},
		{"config", func(t *testing.T, dir string) { releasetest.Put(t, dir, release.ConfigFile, []byte("method: full\n")) }, "config.yaml"},
		{"model", func(t *testing.T, dir string) { releasetest.Put(t, dir, "model/model_index.json", []byte("[]\n")) }, "files that statement.json names"},
		{"a picture", func(t *testing.T, dir string) { releasetest.Put(t, dir, "synthetic/1/000002.png", []byte("no")) }, "files that statement.json names"},
		{"ledger cut", func(t *testing.T, dir string) { releasetest.Put(t, dir, release.LedgerFile, dropped(t)) }, "not the ledger"},
		{"ledger torn", func(t *testing.T, dir string) {
			text := releasetest.Get(t, dir, release.LedgerFile)
			releasetest.Put(t, dir, release.LedgerFile, text[:len(text)-20])
		}, "incomplete"},
		{"ledger line changed", func(t *testing.T, dir string) {
			releasetest.Put(t, dir, release.LedgerFile, bytes.Replace(releasetest.Get(t, dir, release.LedgerFile), []byte(`"noise_multiplier":1.3`), []byte(`"noise_multiplier":9.3`), 2))
		}, "chain is broken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := releasetest.New(t, nil)
			c.change(t, dir)
			if err := release.WriteManifest(dir, release.Model); err != nil {
				t.Fatal(err)
			}
			wantRefused(t, c.name, dir, release.Options{}, c.words)
		})
	}
}

// restate changes a statement, and the words that are made from it.
func restate(t *testing.T, dir string, change func(s *report.Statement)) {
	t.Helper()
	s, err := report.ReadStatement(bytes.NewReader(releasetest.Get(t, dir, release.StatementFile)))
	if err != nil {
		t.Fatal(err)
	}
	change(s)
	text, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	releasetest.Put(t, dir, release.StatementFile, text)
	releasetest.Put(t, dir, release.WordsFile, s.Markdown())
}

// Claims that were false from the start, with every document to match, are
// caught by the ledger.
func TestFalseClaims(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *report.Run)
		words  string
	}{
		"half of epsilon": {func(r *report.Run) {
			r.Claim.Epsilon /= 2
			r.Claim.EpsilonLower, r.Claim.EpsilonRecount = 0, 0
		}, "a second count finds"},
		"a little less": {func(r *report.Run) {
			r.Claim.Epsilon *= 0.9995
			r.Claim.EpsilonLower, r.Claim.EpsilonRecount = 0, 0
		}, "a second count finds"},
		"twice epsilon":  {func(r *report.Run) { r.Claim.Epsilon *= 2 }, "another ledger's claim"},
		"smaller delta":  {func(r *report.Run) { r.Claim.Delta /= 10 }, "the ledger costs"},
		"replace-one":    {func(r *report.Run) { r.Claim.Neighboring = accountant.ReplaceOne }, "under replace-one"},
		"test seed":      {func(r *report.Run) { r.Claim.Insecure = true }, "no claim to verify"},
		"unmet":          {func(r *report.Run) { r.Claim.Unmet = []string{"batches were shuffled"} }, "batches were shuffled"},
		"less noise":     {func(r *report.Run) { r.Claim.NoiseMultiplier = 2; r.Ledger.Rows[0].Event.NoiseMultiplier = 2 }, "accesses"},
		"files left out": {func(r *report.Run) { r.Files = r.Files[1:] }, "files that statement.json names"},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, name, releasetest.New(t, c.change), release.Options{}, c.words)
		})
	}
	lines := releasetest.Ledger(t, "NOT PRIVATE (test mode): seeded noise and sampling")
	wantRefused(t, "seeded run that claims a guarantee", releasetest.NewWith(t, lines, nil), release.Options{}, "was seeded")
}

func TestNotARelease(t *testing.T) {
	if v, err := release.Verify(t.TempDir(), release.Options{}); !errors.Is(err, release.ErrNotRelease) {
		t.Errorf("an empty folder gives %+v, %v, want ErrNotRelease", v, err)
	}
	dir := releasetest.New(t, nil)
	if err := os.Remove(filepath.Join(dir, release.ManifestFile)); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, "no manifest", dir, release.Options{}, "manifest.json is missing")
}

func FuzzParseManifest(f *testing.F) {
	dir := releasetest.New(f, nil)
	f.Add(releasetest.Get(f, dir, release.ManifestFile))
	if err := release.Sign(dir, testKey(f)); err != nil {
		f.Fatal(err)
	}
	f.Add(releasetest.Get(f, dir, release.ManifestFile))
	f.Add([]byte(`{"format": "scumble-manifest/1", "kind": "release", "files": [{"path": "../x"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m *release.Manifest
		var err error
		parsebound.Check(t, len(data), func() { m, err = release.ParseManifest(data) })
		if err != nil {
			return
		}
		for _, p := range m.Files {
			if !filepath.IsLocal(filepath.FromSlash(p.Path)) {
				t.Errorf("path %q leaves the folder", p.Path)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	dir := releasetest.New(b, nil)
	for b.Loop() {
		if v := verify(b, dir, release.Options{}); !v.OK {
			b.Fatal(v.Problems)
		}
	}
}
