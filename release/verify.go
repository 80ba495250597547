package release

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/report"
)

// ErrNotRelease is what errors wrap where a folder is no release at all.
var ErrNotRelease = errors.New("not a release")

// Options of Verify.
type Options struct {
	// PublicKey must have signed the folder. Nil: any signer will do, or none.
	PublicKey ed25519.PublicKey
}

// Verdict is what Verify found. The claim holds for the folder, as far as files
// can show, if Problems is empty.
type Verdict struct {
	Dir       string   `json:"dir"`
	Kind      Kind     `json:"kind"`
	OK        bool     `json:"ok"`
	Problems  []string `json:"problems"` // Why not.
	Guarantee string   `json:"guarantee"`

	Epsilon           float64 `json:"epsilon"` // Claimed.
	Delta             float64 `json:"delta"`
	EpsilonAccountant float64 `json:"epsilon_accountant"` // Recomputed from the ledger: an upper bound.
	EpsilonRecount    float64 `json:"epsilon_recount"`    // Recomputed by package recount: a number. Zero: it did not settle.
	RecountError      float64 `json:"recount_error"`
	RecountNote       string  `json:"recount_note,omitempty"` // Why there is no second count.
	EpsilonRDP        float64 `json:"epsilon_rdp"`            // Recomputed by Rényi divergences: a looser upper bound.

	Files   int    `json:"files"`
	Bytes   int64  `json:"bytes"`
	Entries int    `json:"ledger_entries"`
	Signer  string `json:"signer,omitempty"` // Fingerprint. Empty: not signed.

	named []report.File // What the statement should name.
}

func (v *Verdict) problem(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

// Verify checks a folder that [WriteManifest] closed. It opens nothing outside
// of it. What it checks, in order:
//
//  1. The manifest is written as we write it, and names every file that is there
//     with its size and hash, and no other. A byte that was changed, a file added
//     or removed shows here, unless the manifest was made again.
//  2. The signature, if there is one or a key is asked for. It is what stops somebody who
//     makes the manifest again.
//  3. The statement says one thing: statement.md, the sentence of the guarantee and the
//     meaning follow from the numbers of statement.json; config.yaml and the named
//     files have the hashes that it states.
//  4. The ledger: its chain is whole, it is the one of the statement, and its entries
//     are the accesses that the statement lists.
//  5. Epsilon, computed from the ledger by the accountant (the claim must not be below), by
//     package recount in another way (the claim must not be below), and by Rényi divergences.
//
// It does not show that the ledger tells what happened, nor that nothing else was
// computed from the private data: that rests on the software and on who ran it.
//
// The error is not nil only where the folder cannot be read or is no release.
func Verify(dir string, o Options) (*Verdict, error) {
	v := &Verdict{Dir: dir, Problems: []string{}}
	m, err := v.manifest(dir, o)
	if err != nil {
		return nil, err
	}
	if m != nil {
		v.files(dir, m)
	}
	if len(v.Problems) == 0 { // What follows trusts the bytes.
		if err := v.contents(dir, m); err != nil {
			return nil, err
		}
	}
	v.OK = len(v.Problems) == 0
	return v, nil
}

// manifest reads the manifest and checks its signature. It returns nil if there
// is no sense in going on.
func (v *Verdict) manifest(dir string, o Options) (*Manifest, error) {
	data, err := os.ReadFile(filepath.Join(dir, ManifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, StatementFile)); err != nil {
			return nil, fmt.Errorf("%w: %s has neither %s nor %s", ErrNotRelease, dir, ManifestFile, StatementFile)
		}
		v.problem("%s is missing", ManifestFile)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	m, err := ParseManifest(data)
	if err != nil {
		v.problem("%v", err)
		return nil, nil
	}
	v.Kind = m.Kind
	signature, err := os.ReadFile(filepath.Join(dir, SignatureFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("verify: %w", err)
	}
	key, err := m.checkSignature(data, signature)
	switch {
	case err != nil:
		v.problem("%v", err)
		return nil, nil
	case o.PublicKey != nil && key == nil:
		v.problem("it is not signed, want a signature by %s", Fingerprint(o.PublicKey))
	case o.PublicKey != nil && !key.Equal(o.PublicKey):
		v.problem("it is signed by %s, want %s", Fingerprint(key), Fingerprint(o.PublicKey))
	}
	if key != nil {
		v.Signer = Fingerprint(key)
	}
	return m, nil
}

// files compares what is there with the manifest.
func (v *Verdict) files(dir string, m *Manifest) {
	there, err := Files(dir)
	if err != nil {
		v.problem("%v", err)
		return
	}
	v.Files, v.named = len(there), Named(there)
	for len(there) > 0 || len(m.Files) > 0 {
		switch {
		case len(m.Files) == 0 || len(there) > 0 && there[0].Path < m.Files[0].Path:
			v.problem("%s was added: the manifest does not name it", there[0].Path)
			there = there[1:]
			continue
		case len(there) == 0 || m.Files[0].Path < there[0].Path:
			v.problem("%s is missing", m.Files[0].Path)
			m.Files = m.Files[1:]
			continue
		case there[0] != m.Files[0]:
			v.problem("%s was changed", there[0].Path)
		}
		v.Bytes += there[0].Bytes
		there, m.Files = there[1:], m.Files[1:]
	}
}

// contents checks what the files say.
func (v *Verdict) contents(dir string, m *Manifest) error {
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(name)))
		if err != nil {
			v.problem("%s cannot be read", name)
		}
		return data
	}
	text := read(StatementFile)
	s, err := report.ReadStatement(bytes.NewReader(text))
	if err != nil {
		v.problem("%s: %v", StatementFile, err)
		return nil
	}
	v.Guarantee = s.Guarantee
	if again, err := s.Encode(); err != nil || !bytes.Equal(again, text) {
		v.problem("%s is not written as scumble writes it", StatementFile)
	}
	if !bytes.Equal(s.Markdown(), read(WordsFile)) {
		v.problem("%s does not say what %s says", WordsFile, StatementFile)
	}
	if err := s.Check(); err != nil {
		v.problem("%s: %v", StatementFile, err)
	}
	if sum := sha256.Sum256(read(ConfigFile)); hex.EncodeToString(sum[:]) != s.Config.SHA256 || s.Config.File != ConfigFile {
		v.problem("%s is not the config that %s names", ConfigFile, StatementFile)
	}
	if m.Kind == Model && !bytes.Contains(read("report.html"), []byte(html.EscapeString(s.Guarantee))) {
		v.problem("report.html does not hold the guarantee of %s", StatementFile)
	}
	v.checkNamed(m.Kind, s)
	record, err := accountant.ParseLedger(read(LedgerFile))
	if err != nil {
		v.problem("%s: %v", LedgerFile, err)
		return nil
	}
	if err := finetune.VerifyEarlier(record, filepath.Join(dir, finetune.PreviousDir)); err != nil {
		v.problem("%v", err)
	}
	events := v.ledger(record, s)
	if !s.Guaranteed {
		v.problem("there is no claim to verify: %s", s.Unmet[0])
		return nil
	}
	if events != nil {
		v.claim(events, s)
	}
	return nil
}

// checkNamed compares the files that the statement names with those that are
// there. A data set has some of them only.
func (v *Verdict) checkNamed(kind Kind, s *report.Statement) {
	there := v.named
	if kind == Model {
		if !slices.Equal(there, s.Files) {
			v.problem("the files that %s names are not those of the release", StatementFile)
		}
		return
	}
	for _, want := range s.Files {
		if i := slices.IndexFunc(there, func(f report.File) bool { return f.Path == want.Path }); i >= 0 && there[i] != want {
			v.problem("%s is not the file that %s names", want.Path, StatementFile)
		}
	}
}
