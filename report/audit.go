package report

import "errors"

// Audit is what attacks on a run found, from below, beside what the claim allows.
type Audit struct {
	Name    string     `json:"name"`
	Rows    []AuditRow `json:"rows"`
	Note    string     `json:"note,omitempty"`
	Covered Coverage   `json:"covered"` // Of all rows: PostProcessing only where nothing private was read.
}

// AuditRow is one figure of an audit.
type AuditRow struct {
	What     string `json:"what"`
	Value    string `json:"value"`
	Interval string `json:"interval,omitempty"` // Or the confidence of a bound.
	Want     string `json:"want,omitempty"`     // What to expect of a run that keeps its claim, or of a control.
}

func (a *Audit) validate(r *Run) error {
	switch {
	case a.Name == "":
		return errors.New("no name, want one")
	case len(a.Rows) == 0:
		return errors.New("no rows, want one or more")
	case a.Covered == Paid: // No entry of a ledger pays for an attack.
		return errors.New("coverage is paid, want public, post-processing or not-covered")
	}
	return r.checkCoverage(a.Covered, "")
}

// releasedAudits returns those that the release edition may show.
func releasedAudits(all []Audit) []Audit {
	var out []Audit
	for _, a := range all {
		if a.Covered.Releasable() {
			out = append(out, a)
		}
	}
	return out
}

// addAudits makes a table of each audit.
func (v *view) addAudits() {
	for _, a := range v.Run.Audits {
		marked := !a.Covered.Releasable()
		if marked {
			v.Uncovered++
		}
		t := table{Caption: a.Name, Head: []cell{text("Measure"), number("Value"), text("Interval or confidence"), text("Expected")}}
		for _, row := range a.Rows {
			t.row(cell{Text: row.What, Marked: marked}, number(row.Value), text(dash(row.Interval)), text(dash(row.Want)))
		}
		v.Audits = append(v.Audits, t)
		if a.Note != "" {
			v.AuditNotes = append(v.AuditNotes, cell{Text: a.Name + ": " + a.Note, Marked: marked})
		}
	}
}

// audits writes the section of report.md.
func (m *markdown) audits(v *view) {
	if len(v.Audits) == 0 {
		return
	}
	m.line("\n## Audit")
	for _, t := range v.Audits {
		m.table(t)
	}
	m.WriteByte('\n')
	for _, n := range v.AuditNotes {
		m.WriteString("- " + n.markdown() + "\n")
	}
}
