package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// edition says who a document is for.
type edition int

const (
	release edition = iota + 1
	private
)

// view is what the templates and the Markdown writer get: texts, ready to be
// escaped. A view of the release edition is made from a covered run alone.
type view struct {
	Release    bool
	Run        *Run
	Statement  *Statement
	Guaranteed bool
	Tier       string
	TierWords  string
	Tiles      []tile
	Meaning    []string
	Sheets     []*sheet
	Bars       []bar
	Scores     table
	Notes      []cell // On scores.
	PerClass   table
	Subgroups  table
	Mechanism  table
	Accounting table
	Ledger     table
	Weights    table
	Inputs     table
	Facts      table
	Files      table
	Charts     []chart
	Audits     []table
	AuditNotes []cell
	Uncovered  int // Numbers that are marked.
	Created    string
	MethodName string
}

// tile is a number at the head of a report.
type tile struct{ Label, Value, Note string }

// bar is a score in a bar chart. Percent is its length.
type bar struct {
	Name, Value, Percent string
	Uncovered            bool
}

// table is a table of texts. A marked cell is not covered by the claim.
type table struct {
	Caption string
	Head    []cell
	Rows    [][]cell
}

type cell struct {
	Text   string
	Number bool // Aligned to the right.
	Whole  bool // Not broken over lines.
	Code   bool // A hash or a path.
	Marked bool // With words.
	Shaded bool // Without, below a marked head.
}

func text(s string) cell   { return cell{Text: s} }
func number(s string) cell { return cell{Text: s, Number: true} }
func whole(s string) cell  { return cell{Text: s, Whole: true} }
func code(s string) cell   { return cell{Text: s, Code: true} }

func (t *table) row(cells ...cell) { t.Rows = append(t.Rows, cells) }

// newView takes the part of r that the edition may show.
func newView(r *Run, e edition) (*view, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	if e == release {
		r = r.covered()
	}
	v := newStatementView(r.Statement())
	v.Release, v.Run = e == release, r
	v.Tiles = tiles(v)
	if err := v.addPictures(); err != nil {
		return nil, err
	}
	v.addScores()
	v.addCurves()
	v.addAudits()
	v.addTables()
	return v, nil
}

// newStatementView is a view of a statement alone, in the release edition.
func newStatementView(s *Statement) *view {
	v := &view{
		Release: true, Statement: s, Guaranteed: s.Guaranteed,
		Created: clock(s.Created) + " UTC", MethodName: methodName(s.Mechanism.Method),
		Mechanism: mechanismTable(s), Ledger: ledgerTable(&s.Ledger),
		Weights: weightsTable(s.Provenance), Inputs: inputsTable(s.PublicInputs), Files: filesTable(s.Files),
	}
	if s.Guaranteed {
		v.Tier, v.TierWords = s.Meaning.Tier, tierWords[s.Meaning.Tier]
		v.Meaning = meaningWords(s)
		v.Accounting = accountingTable(s.Bound)
	}
	return v
}

func methodName(method string) string {
	switch method {
	case "attention":
		return "attention fine-tuning with DP-SGD (DP-LDM)"
	case "loda":
		return "low-dimensional adapters with DP-SGD (DP-LoDA)"
	case "lora":
		return "low-rank adapters with DP-SGD (DP-LoRA)"
	case "full":
		return "full fine-tuning with DP-SGD"
	default:
		return method
	}
}

func tiles(v *view) []tile {
	var all []tile
	if b := v.Statement.Bound; b != nil {
		all = append(all,
			tile{"Privacy loss ε", formatEpsilon(b.Epsilon), v.Tier + " tier"},
			tile{"Slack δ", formatDelta(b.Delta), oneIn(b.Delta)})
	}
	for _, s := range v.Run.Scores {
		if len(all) >= 4 {
			break
		}
		if s.Covered.Releasable() {
			all = append(all, tile{s.Name, s.format(s.Value), s.TestedOn})
		}
	}
	return all
}

// meaningWords says in plain words what the claim allows at most.
func meaningWords(s *Statement) []string {
	m, unit := s.Meaning, s.Setting.Unit
	var all []string
	test := fmt.Sprintf("Suppose somebody tests whether a certain %s was among the private data, and accepts one false alarm in a hundred. ", unit)
	if at := m.Membership[0].MaxTruePositiveRate; at < 0.99 {
		test += fmt.Sprintf("Whatever the test, it recognises at most %s of those that were.", percentUp(at))
	} else {
		test += fmt.Sprintf("At this ε the formal bound on what such a test recognises of those that were is %s: the number alone rules little out. "+
			"It is a worst case over all tests; an audit measures how close known attacks come.", percentUp(at))
	}
	all = append(all, test, fmt.Sprintf("Where it is a coin flip whether the %s was there, no guess from the release is right in more than %s of cases.",
		unit, percentUp(m.Accuracy)))
	all = append(all, fmt.Sprintf("The odds that the %s was there, as anybody sees them, change by at most a factor of %s, up to δ.",
		unit, formatFactor(s.Bound.Epsilon)))
	return append(all, "This holds against everybody, with any side knowledge and any computer, now and later, and for whatever is computed from the release.")
}

func mechanismTable(s *Statement) table {
	m := &s.Mechanism
	t := table{Caption: "The mechanism, as it ran", Head: []cell{text("Item"), text("Value")}}
	t.row(text("Neighbouring data"), text(s.Setting.Meaning))
	t.row(text("Sampling"), text(m.Sampler))
	t.row(text("Sampling probability"), text(plain(m.SamplingProbability)))
	t.row(text("Expected batch size"), text(plain(m.ExpectedBatchSize)))
	t.row(text("Clipping norm"), text(plain(m.ClippingNorm)))
	t.row(text("Noise"), text(m.Noise))
	t.row(text("Noise multiplier"), text(plain(m.NoiseMultiplier)))
	t.row(text("Noise draws per example"), text(count(m.Multiplicity)+", averaged before the one clip"))
	t.row(text("Steps"), text(fmt.Sprintf("%s of %s planned", count(m.Steps), count(m.StepsPlanned))))
	t.row(text("Trainable parameters"), text(fmt.Sprintf("%s of %s", count(m.TrainableParameters), count(m.TotalParameters))))
	return t
}

func accountingTable(b *Bound) table {
	t := table{Caption: "Accounting", Head: []cell{text("Item"), text("Value")}}
	t.row(text("Accountant"), text(b.Accountant))
	t.row(text("ε claimed, rounded up"), text(roundUp(b.Epsilon, 6)))
	t.row(text("δ"), text(plain(b.Delta)))
	if b.EpsilonLower > 0 {
		t.row(text("ε that no accountant can go below, rounded down"), text(roundDown(b.EpsilonLower, 6)))
	}
	if b.EpsilonRecount > 0 {
		t.row(text("ε counted a second time, by contour integral"), text(strconv.FormatFloat(b.EpsilonRecount, 'g', 8, 64)))
	}
	if b.EpsilonRDP > 0 {
		t.row(text("ε by Rényi accounting (cross-check, looser)"), text(roundUp(b.EpsilonRDP, 6)))
	}
	if b.Mesh > 0 {
		t.row(text("Mesh of the privacy loss"), text(plain(b.Mesh)))
	}
	if b.Slack > 0 {
		t.row(text("Part that covers rounding"), text(plain(b.Slack)))
	}
	if n := len(b.RDP); n > 0 {
		t.row(text("Rényi curve"), text(fmt.Sprintf("%s orders, in statement.json, to compose with other releases", count(n))))
	}
	return t
}

func ledgerTable(l *Ledger) table {
	t := table{Caption: "Accesses to the private data", Head: []cell{
		text("What"), text("Mechanism"), number("Noise multiplier"), number("Sampling probability"), number("Count"), text("First (UTC)"), text("Last (UTC)")}}
	for _, r := range l.Rows {
		t.row(text(r.What), text(r.Event.Mechanism.String()), number(plain(r.Event.NoiseMultiplier)), number(plain(r.Event.SamplingProbability)),
			number(count(r.Event.Count)), whole(clock(r.First)), whole(clock(r.Last)))
	}
	return t
}

func (v *view) addPictures() error {
	for _, p := range []struct {
		title   string
		picture *Picture
	}{{"Synthetic images", v.Run.Grid}, {"The public base model, for comparison", v.Run.PublicGrid}, {"Nearest public images", v.Run.Neighbors}} {
		s, err := newSheet(p.title, p.picture)
		if err != nil {
			return err
		}
		if s == nil {
			continue
		}
		if s.Uncovered {
			v.Uncovered++
		}
		v.Sheets = append(v.Sheets, s)
	}
	return nil
}

func (v *view) addScores() {
	v.Scores = table{Caption: "Utility", Head: []cell{text("Measure"), number("Value"), number("95 % interval"), text("Trained on"), text("Tested on"), text("Basis")}}
	v.PerClass = table{Caption: "Utility per class", Head: []cell{text("Class")}}
	v.Subgroups = table{Caption: "Utility per subgroup of the test images", Head: []cell{text("Subgroup"), text("Measure"), number("Value"), number("95 % interval")}}
	for _, class := range v.Run.Classes {
		v.PerClass.row(text(class))
	}
	for _, s := range v.Run.Scores {
		marked := !s.Covered.Releasable()
		if marked {
			v.Uncovered++
		}
		value := s.format(s.Value)
		if s.Seeds > 1 {
			value += fmt.Sprintf(" ± %s (%d seeds)", s.format(s.Spread), s.Seeds)
		}
		name := cell{Text: s.Name, Marked: marked}
		v.Scores.row(name, number(value), number(s.interval()), text(dash(s.TrainedOn)), text(dash(s.TestedOn)), text(s.Covered.words()))
		if s.Note != "" {
			v.Notes = append(v.Notes, cell{Text: s.Name + ": " + s.Note, Marked: marked})
		}
		if s.Scale == Fraction {
			v.Bars = append(v.Bars, bar{Name: s.Name, Value: percent(s.Value), Percent: strconv.FormatFloat(100*s.Value, 'f', 2, 64), Uncovered: marked})
		}
		for _, g := range s.Subgroups {
			part := Score{Value: g.Value, Scale: s.Scale, Tests: g.Tests}
			v.Subgroups.row(cell{Text: g.Name, Marked: marked}, text(s.Name), number(s.format(g.Value)), number(part.interval()))
		}
		if len(s.PerClass) == 0 {
			continue
		}
		name.Number = true
		v.PerClass.Head = append(v.PerClass.Head, name)
		lowest := 0
		for i, x := range s.PerClass {
			v.PerClass.Rows[i] = append(v.PerClass.Rows[i], cell{Text: s.format(x), Number: true, Shaded: marked})
			if x < s.PerClass[lowest] {
				lowest = i
			}
		}
		v.Notes = append(v.Notes, cell{Marked: marked,
			Text: fmt.Sprintf("%s: lowest for class %s (%s).", s.Name, v.Run.Classes[lowest], s.format(s.PerClass[lowest]))})
	}
	if slices.ContainsFunc(v.Run.Scores, func(s Score) bool { return s.Scale == Fraction && s.Tests > 0 }) {
		v.Notes = append(v.Notes, text("Intervals are for the number of test images (Wilson, 95 %), not for the chance in training a classifier."))
	}
	if len(v.PerClass.Head) == 1 {
		v.PerClass.Rows = nil
	}
}

// interval is Wilson's 95 % interval (Wilson 1927, https://doi.org/10.2307/2276774)
// of a share of the test images: what it would be on all images of their kind.
// The chance in training a classifier is not in it; that is what Spread is for.
func (s *Score) interval() string {
	if len(s.Interval) == 2 {
		return s.format(s.Interval[0]) + " to " + s.format(s.Interval[1])
	}
	if s.Scale != Fraction || s.Tests < 1 {
		return "–"
	}
	low, high := wilson(s.Value, float64(s.Tests))
	return percent(low) + " to " + percent(high)
}

func wilson(share, n float64) (low, high float64) {
	const z = 1.959963984540054 // Of 95 %.
	middle := share + z*z/(2*n)
	half := z * math.Sqrt(share*(1-share)/n+z*z/(4*n*n))
	return max(0, (middle-half)/(1+z*z/n)), min(1, (middle+half)/(1+z*z/n))
}

func (v *view) addCurves() {
	if c := &v.Run.Claim; v.Guaranteed && len(c.Spent) > 0 {
		spent := Curve{Title: "Privacy spent", X: "step", Y: "ε at δ = " + formatDelta(c.Delta), Covered: Public, Series: []Series{{Name: "ε"}}}
		for _, p := range c.Spent {
			spent.Series[0].X = append(spent.Series[0].X, float64(p.Step))
			spent.Series[0].Y = append(spent.Series[0].Y, p.Epsilon)
		}
		v.Charts = append(v.Charts, newChart(&spent))
	}
	for i := range v.Run.Curves {
		c := newChart(&v.Run.Curves[i])
		if c.Uncovered {
			v.Uncovered++
		}
		v.Charts = append(v.Charts, c)
	}
}

func (v *view) addTables() {
	v.Facts = table{Caption: "Time, memory and machine", Head: []cell{text("Item"), text("Value"), text("Basis")}}
	for _, f := range v.Run.Facts {
		marked := !f.Covered.Releasable()
		if marked {
			v.Uncovered++
		}
		v.Facts.row(cell{Text: f.Name, Marked: marked}, text(f.Value), text(f.Covered.words()))
	}
}

func weightsTable(weights []Weight) table {
	t := table{Caption: "Weights that went in", Head: []cell{text("Weights"), text("Trained on"), text("Licence"), text("SHA-256")}}
	for _, w := range weights {
		trained := w.TrainedOn
		switch {
		case w.Charged:
			trained += " (charged in the ledger)"
		case !w.Public:
			trained += " (NOT PUBLIC)"
		}
		t.row(text(w.Name), text(trained), text(w.Licence), code(dash(w.SHA256)))
	}
	return t
}

func inputsTable(inputs []Item) table {
	t := table{Caption: "Declared public", Head: []cell{text("Item"), text("Value")}}
	for _, p := range inputs {
		t.row(text(p.Name), text(p.Value))
	}
	return t
}

func filesTable(files []File) table {
	t := table{Caption: "Released files", Head: []cell{text("File"), number("Bytes"), text("SHA-256")}}
	for _, f := range files {
		t.row(code(f.Path), number(group(strconv.FormatInt(f.Bytes, 10))), code(f.SHA256))
	}
	return t
}

func dash(s string) string {
	if strings.TrimSpace(s) == "" {
		return "–"
	}
	return s
}
