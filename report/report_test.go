package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/accountant"
	"github.com/scumble-dp/scumble/internal/parsebound"
)

// failer is what tests of testing and of rapid have in common.
type failer interface {
	Helper()
	Fatal(...any)
}

// releaseFiles renders the release edition: the bytes that WriteRelease writes.
func releaseFiles(t failer, r *Run) map[string]string {
	t.Helper()
	return byName(t)(renderRelease(r))
}

func privateFiles(t failer, r *Run) map[string]string {
	t.Helper()
	return byName(t)(renderPrivate(r))
}

func byName(t failer) func([]output, error) map[string]string {
	return func(files []output, err error) map[string]string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		all := make(map[string]string)
		for _, f := range files {
			all[f.name] = string(f.data)
		}
		return all
	}
}

func TestFiles(t *testing.T) {
	r := sampleRun(t)
	for _, c := range []struct {
		name     string
		write    func(string, *Run) error
		want     map[string]string
		dir, one fs.FileMode
	}{
		{"release", WriteRelease, releaseFiles(t, r), 0o755, 0o644},
		{"private", WritePrivate, privateFiles(t, r), 0o700, 0o600},
	} {
		dir := filepath.Join(t.TempDir(), c.name)
		if err := c.write(dir, r); err != nil {
			t.Fatal(err)
		}
		got := make(map[string]string)
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries { // Temporary files would show here.
			data, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			got[e.Name()] = string(data)
			if info, err := e.Info(); err != nil || info.Mode().Perm() != c.one {
				t.Errorf("mode of %s is %v, want %o", e.Name(), info.Mode(), c.one)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s differs from what was rendered: %s", c.name, diff)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&^c.dir != 0 {
			t.Errorf("mode of %s is %v, want at most %o", c.name, info.Mode(), c.dir)
		}
	}
}

// secret makes numbers whose digits occur nowhere else, and remembers them.
type secret struct {
	random *rapid.T
	made   []string
}

// fraction returns a number in [0.1, 1). Its marks are what each document
// would print of it.
func (s *secret) fraction() float64 {
	x := float64(rapid.IntRange(100_003, 999_989).Draw(s.random, "secret")) / 1e6
	s.made = append(s.made, fmt.Sprintf("%.6f", x))
	return x
}

func (s *secret) word() string {
	w := fmt.Sprintf("secretword%d", rapid.IntRange(1e8, 1e9).Draw(s.random, "word"))
	s.made = append(s.made, w)
	return w
}

// TestReleaseHoldsNothingUncovered adds uncovered things of each kind, in any
// number and place, and compares the release with that of a run which never
// had them: they must be equal to the byte, so that even the existence of what
// was left out does not show.
func TestReleaseHoldsNothingUncovered(t *testing.T) {
	clean := sampleRun(t).covered()
	clean.Grid.PNG, clean.PublicGrid.PNG, clean.Neighbors.PNG = glyphSheet(t, 2, 2, 8, 1), glyphSheet(t, 2, 2, 8, 2), glyphSheet(t, 2, 2, 8, 3)
	want := releaseFiles(t, clean)
	rapid.Check(t, func(t *rapid.T) {
		s := &secret{random: t}
		r := clean.covered() // Slices are appended to, never shared.
		for range rapid.IntRange(1, 4).Draw(t, "scores") {
			score := Score{Name: s.word(), Value: s.fraction(), Spread: s.fraction(), Seeds: 3, Note: s.word(), TrainedOn: s.word(), TestedOn: s.word()}
			for range r.Classes {
				score.PerClass = append(score.PerClass, s.fraction())
			}
			r.Scores = insert(t, r.Scores, score)
		}
		for range rapid.IntRange(0, 2).Draw(t, "curves") {
			x, y := s.fraction(), s.fraction()
			r.Curves = insert(t, r.Curves, Curve{Title: s.word(), X: s.word(), Y: s.word(), Note: s.word(), Series: []Series{{Name: s.word(), X: []float64{x}, Y: []float64{y}}}})
		}
		for range rapid.IntRange(0, 2).Draw(t, "facts") {
			r.Facts = insert(t, r.Facts, Fact{Name: s.word(), Value: s.word()})
		}
		if rapid.Bool().Draw(t, "picture") {
			p := *r.PublicGrid
			p.Alt, p.Caption, p.Covered = s.word(), s.word(), NotCovered
			r.PublicGrid = &p
		}
		private := privateFiles(t, r)
		for _, mark := range s.made {
			if !strings.Contains(private["report.json"], strings.TrimRight(mark, "0")) {
				t.Fatalf("private/report.json lacks %s: the test plants nothing", mark)
			}
		}
		got := releaseFiles(t, r)
		for name, content := range got {
			for _, mark := range s.made {
				if strings.Contains(content, mark) {
					t.Fatalf("%s holds %s, which is not covered", name, mark)
				}
			}
			if r.PublicGrid.Covered == Public && content != want[name] {
				t.Fatalf("%s differs from that of a run without uncovered numbers: %s", name, cmp.Diff(want[name], content))
			}
		}
	})
}

func insert[T any](t *rapid.T, s []T, x T) []T {
	at := rapid.IntRange(0, len(s)).Draw(t, "place")
	return append(append(append([]T{}, s[:at]...), x), s[at:]...)
}

func TestPrivateMarksWhatIsNotCovered(t *testing.T) {
	r := sampleRun(t)
	files := privateFiles(t, r)
	row := regexp.MustCompile(`(?s)<tr class="uncovered">.*?</tr>`)
	marked := strings.Join(row.FindAllString(files["report.html"], -1), "")
	for _, s := range r.Scores {
		if got, want := strings.Contains(marked, s.Name), !s.Covered.Releasable(); got != want {
			t.Errorf("row of %q marked: %v, want %v", s.Name, got, want)
		}
		line := "| " + escape(s.Name) + " **(not covered)** |"
		if got, want := strings.Contains(files["report.md"], line), !s.Covered.Releasable(); got != want {
			t.Errorf("Markdown row of %q marked: %v, want %v", s.Name, got, want)
		}
	}
	if n := strings.Count(files["report.html"], `<figure class="chart uncovered">`); n != 1 {
		t.Errorf("%d charts are marked, want 1", n)
	}
	if !strings.Contains(files["report.html"], "must not leave") || !strings.Contains(files["report.md"], "must not leave") {
		t.Error("the private edition does not say that it must not leave")
	}
}

// TestNoEpsilonWithoutGuarantee takes each assumption away and looks for the
// numbers of the claim in everything that is written.
func TestNoEpsilonWithoutGuarantee(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt   func(*Run)
		says, why string
	}{
		"test seed":      {func(r *Run) { r.Claim.Insecure = true }, NotPrivate, "test seed"},
		"shuffled":       {func(r *Run) { r.Claim.Unmet = []string{"batches were shuffled"} }, NoGuarantee, "batches were shuffled"},
		"private weight": {func(r *Run) { r.Weights[1].Public = false }, NoGuarantee, "denoiser"},
	} {
		t.Run(name, func(t *testing.T) {
			r := sampleRun(t)
			r.Claim.Epsilon, r.Claim.EpsilonRDP, r.Claim.EpsilonLower = 7.654321, 8.765432, 7.543219
			r.Claim.Spent, r.Claim.RDP = []Spent{{1, 0.345678}, {2, 7.654321}}, []RDP{{2, 0.456789}}
			for file, content := range releaseFiles(t, r) {
				if file != "report.html" && file != "report.md" && !strings.Contains(content, "7.654321") && !strings.Contains(content, "7.65433") {
					t.Errorf("%s of a sound run does not hold epsilon: the test looks for nothing", file)
				}
			}
			c.breakIt(r)
			files := releaseFiles(t, r)
			files["private.html"] = privateFiles(t, r)["report.html"]
			for file, content := range files {
				for _, number := range []string{"7.65", "8.76", "7.54", "0.345", "0.456", "factor of", "at most 10):", "probability of any outcome"} {
					if strings.Contains(content, number) {
						t.Errorf("%s holds %q, which is of a claim", file, number)
					}
				}
				if plain := strings.ReplaceAll(content, `\`, ""); !strings.Contains(plain, c.says) || !strings.Contains(plain, c.why) {
					t.Errorf("%s does not say %q and %q", file, c.says, c.why)
				}
			}
		})
	}
}

// element is what the structural tests need of one HTML element.
type element struct {
	name  string
	attrs map[string]string
}

// elements reads HTML that is well-formed but for void elements.
func elements(t *testing.T, html string) []element {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(html))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	var all []element
	for {
		token, err := d.Token()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("report is not well-formed: %v", err)
		}
		if s, ok := token.(xml.StartElement); ok {
			e := element{s.Name.Local, make(map[string]string)}
			for _, a := range s.Attr {
				e.attrs[a.Name.Local] = a.Value
			}
			all = append(all, e)
		}
	}
}

func TestHTMLStandsAlone(t *testing.T) {
	inline := regexp.MustCompile(`data:image/png;base64,[^"]*`) // May hold anything.
	r := sampleRun(t)
	for edition, files := range map[string]map[string]string{"release": releaseFiles(t, r), "private": privateFiles(t, r)} {
		html := files["report.html"]
		if regexp.MustCompile(`(?i)https?:|//[a-z]|@import|url\(|javascript:`).MatchString(inline.ReplaceAllString(html, "")) {
			t.Errorf("%s: the page names something to load", edition)
		}
		count, ids := map[string]int{}, map[string]bool{}
		for _, e := range elements(t, html) {
			count[e.name]++
			if id := e.attrs["id"]; id != "" {
				if ids[id] {
					t.Errorf("%s: id %q occurs twice", edition, id)
				}
				ids[id] = true
			}
			switch e.name {
			case "script", "link", "iframe", "object", "embed", "form", "base", "audio", "video", "font":
				t.Errorf("%s: has a <%s>", edition, e.name)
			case "img":
				if e.attrs["alt"] == "" || !strings.HasPrefix(e.attrs["src"], "data:image/png;base64,") {
					t.Errorf("%s: an image has alt %q and source %.30q", edition, e.attrs["alt"], e.attrs["src"])
				}
			case "svg":
				if e.attrs["aria-hidden"] != "true" && (e.attrs["role"] != "img" || e.attrs["aria-label"] == "") {
					t.Errorf("%s: a drawing is neither hidden from readers nor described: %v", edition, e.attrs)
				}
			}
			for name := range e.attrs {
				if strings.HasPrefix(name, "on") || name == "style" || name == "srcset" {
					t.Errorf("%s: <%s> has attribute %s", edition, e.name, name)
				}
			}
		}
		if count["img"] != 3 || count["h1"] != 1 || count["main"] != 1 || count["table"] < 4 {
			t.Errorf("%s: elements are %v, want 3 img, 1 h1, 1 main, 4 tables or more", edition, count)
		}
		for _, e := range elements(t, html) {
			if target, ok := strings.CutPrefix(e.attrs["href"], "#"); ok && !ids[target] {
				t.Errorf("%s: link to #%s leads nowhere", edition, target)
			}
		}
	}
}

func TestHostileNamesAreEscaped(t *testing.T) {
	hostile := `<script>alert(1)</script>"'` + "\n|x`</style>\u202e](javascript:a) http://a"
	r := sampleRun(t)
	r.Title, r.Base, r.Config = hostile, hostile, "a: b\n```\n"+hostile
	r.Classes[3], r.Grid.RowLabels[4], r.Grid.Alt, r.Grid.Caption = hostile, hostile, hostile, hostile
	r.Scores[0].Name, r.Scores[0].Note, r.Facts[0].Value, r.Limits = hostile, hostile, hostile, []string{hostile}
	r.Ledger.Rows[0].What, r.Curves[0].Title, r.Curves[0].Series[0].Name = hostile, hostile, hostile
	r.Weights[0].Name, r.PublicInputs[0].Name, r.Files[0].Path = hostile, hostile, hostile
	for _, files := range []map[string]string{releaseFiles(t, r), privateFiles(t, r)} {
		for _, e := range elements(t, files["report.html"]) {
			if e.name == "script" {
				t.Error("a name became a script")
			}
		}
		if n := strings.Count(files["report.html"], "</style>"); n != 1 {
			t.Errorf("the style sheet ends %d times", n)
		}
		body, config, _ := strings.Cut(files["report.md"], "\n## Configuration\n")
		if bad := regexp.MustCompile("<|\u202e|[^\\\\]\\]|x`|http:").FindString(body + files["statement.md"]); bad != "" {
			t.Errorf("Markdown holds %q, which it would not read as text", bad)
		}
		if !strings.HasPrefix(config, "\n````yaml\n") || !strings.HasSuffix(config, "\n````\n") {
			t.Errorf("the config could end its own code block: %q", config)
		}
	}
}

func TestPicturesHoldPixelsOnly(t *testing.T) {
	r := sampleRun(t)
	end := len(r.Grid.PNG) - 12 // Before IEND.
	text := []byte("\x00\x00\x00\x14tEXtCommentsecretcaption\x00\x00\x00\x00")
	text = append(text[:8+20], 0, 0, 0, 0)
	// The checksum is that of the chunk's type and data, by the format.
	sum := crc(text[4:28])
	copy(text[28:], sum)
	r.Grid.PNG = bytes.Join([][]byte{r.Grid.PNG[:end], text, r.Grid.PNG[end:], []byte("secrettail")}, nil)
	s, err := newSheet("x", r.Grid)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := newSheet("x", sampleRun(t).Grid)
	if err != nil {
		t.Fatal(err)
	}
	if s.URI != plain.URI {
		t.Error("text and trailing bytes of a picture change what is written")
	}
}

func TestReadReturnsWhatWasWritten(t *testing.T) {
	r := sampleRun(t)
	got, err := Read(strings.NewReader(privateFiles(t, r)["report.json"]))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Errorf("report.json read back differs (-want +got):\n%s", diff)
	}
	s, err := ReadStatement(strings.NewReader(releaseFiles(t, r)["statement.json"]))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r.Statement(), s); diff != "" {
		t.Errorf("statement.json read back differs (-want +got):\n%s", diff)
	}
}

func TestValidate(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt func(*Run)
		want    string
	}{
		"ledger short":     {func(r *Run) { r.Ledger.Rows[0].Event.Count-- }, "records 399 steps"},
		"no ledger":        {func(r *Run) { r.Ledger.Rows = nil }, "no claim without a ledger"},
		"head":             {func(r *Run) { r.Ledger.Head = "abc" }, "want a SHA-256"},
		"delta":            {func(r *Run) { r.Claim.Delta = 0 }, "delta is 0"},
		"delta above 1/N":  {func(r *Run) { r.Claim.Delta = 1. / 8000 }, "below 1/8000"},
		"lower above":      {func(r *Run) { r.Claim.EpsilonLower = 10 }, "lower end"},
		"no relation":      {func(r *Run) { r.Claim.Neighboring = 0 }, "neighboring relation"},
		"more than all":    {func(r *Run) { r.Scores[0].Value = 92.3 }, "want 0 to 1"},
		"per class":        {func(r *Run) { r.Scores[0].PerClass = []float64{1} }, "1 per-class values for 10"},
		"unpaid":           {func(r *Run) { r.Scores[3].Covered = Paid }, "which the ledger does not have"},
		"interval":         {func(r *Run) { r.Scores[0].Interval = []float64{0.95, 0.97} }, "two ends around the value 0.9231"},
		"half an interval": {func(r *Run) { r.Scores[0].Interval = []float64{0.9} }, "two ends"},
		"subgroup":         {func(r *Run) { r.Scores[2].Subgroups[0].Value = 98 }, "subgroup \"written with a pen\""},
		"coverage":         {func(r *Run) { r.Facts[0].Covered = 9 }, "coverage is 9"},
		"no alt":           {func(r *Run) { r.Grid.Alt = "" }, "no alt text"},
		"not a PNG":        {func(r *Run) { r.Grid.PNG = []byte("GIF89a GIF89a") }, "not a PNG"},
		"series":           {func(r *Run) { r.Curves[0].Series[0].X = nil }, "want as many"},
		"steps":            {func(r *Run) { r.Claim.StepsPlanned = 1 }, "400 of 1 planned"},
	} {
		t.Run(name, func(t *testing.T) {
			r := sampleRun(t)
			c.breakIt(r)
			dir := filepath.Join(t.TempDir(), "out")
			for _, write := range []func(string, *Run) error{WriteRelease, WritePrivate} {
				if err := write(dir, r); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error is %v, want one with %q", err, c.want)
				}
			}
			if _, err := os.Stat(dir); err == nil {
				t.Error("something was written")
			}
		})
	}
	r := sampleRun(t)
	r.Scores[3].Covered, r.Scores[3].LedgerEntry = Paid, "noisy accuracy"
	if got := releaseFiles(t, r)["report.md"]; !strings.Contains(got, "18.41") || !strings.Contains(got, "paid for in the ledger") {
		t.Error("a number that was paid for is not in the release")
	}
}

// TestImports keeps the package away from everything that can see private data.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	module := regexp.MustCompile(`"(github\.com/scumble-dp/[^"]*)"`)
	for _, f := range files {
		source, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range module.FindAllStringSubmatch(string(source), -1) {
			if strings.HasSuffix(f, "_test.go") {
				continue
			}
			if m[1] != "github.com/scumble-dp/scumble/accountant" {
				t.Errorf("%s imports %s, want accountant and the standard library only", f, m[1])
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	data, err := sampleRun(f).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":"scumble-report/1","run":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Read(bytes.NewReader(data))
		if err != nil {
			return
		}
		for _, e := range []edition{release, private} { // What reads can be rendered.
			v, err := newView(r, e)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.html(); err != nil {
				t.Fatal(err)
			}
			v.markdown()
		}
	})
}

func FuzzReadStatement(f *testing.F) {
	data, err := sampleRun(f).Statement().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"format":"scumble-statement/1","guaranteed":false,"unmet":["x"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s *Statement
		var err error
		parsebound.Check(t, len(data), func() { s, err = ReadStatement(bytes.NewReader(data)) })
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil {
			return // A relation of zero has no name.
		}
		if _, err := ReadStatement(bytes.NewReader(again)); err != nil {
			t.Fatalf("written again it does not read: %v", err)
		}
	})
}

func ExampleRun_Guarantee() {
	r := &Run{Claim: Claim{Epsilon: 1, Delta: 1e-5, Neighboring: accountant.AddOrRemove, Unit: "image"}}
	fmt.Println(strings.ReplaceAll(r.Guarantee(), "\u00a0", " "))
	// Output:
	// Whether or not any one image was among the private data, the probability of any outcome of this release is at most 2.719 times what it would otherwise have been (e to the power ε, where ε = 1), plus at most 0.00001 (δ, 1 in 100,000).
}
