package report

import (
	"strings"
	"testing"
)

func TestAuditsAreShownWhereTheyMay(t *testing.T) {
	r := sampleRun(t)
	plain := releaseFiles(t, r)
	r.Audits = []Audit{{Name: "Membership tests", Note: "notcoverednote", Rows: []AuditRow{{What: "attack loss", Value: "0.5123", Interval: "0.49 to 0.53", Want: "0.5"}}}}
	for name, text := range releaseFiles(t, r) {
		if text != plain[name] {
			t.Errorf("%s of the release changes with an audit that is not covered", name)
		}
	}
	files := privateFiles(t, r)
	for _, name := range []string{"report.html", "report.md", "report.json"} {
		if !strings.Contains(files[name], "0.5123") || !strings.Contains(files[name], "notcoverednote") {
			t.Errorf("private %s lacks the audit", name)
		}
	}
	if !strings.Contains(files["report.md"], "| attack loss **(not covered)** |") {
		t.Error("private report.md does not mark the audit")
	}

	r.Audits = append(r.Audits, Audit{Name: "Canary audit", Covered: PostProcessing, Rows: []AuditRow{{What: "lower bound", Value: "8.63"}}})
	for _, name := range []string{"report.html", "report.md"} {
		text := releaseFiles(t, r)[name]
		if !strings.Contains(text, "8.63") || strings.Contains(text, "0.5123") {
			t.Errorf("%s of the release: want the covered audit and not the other", name)
		}
	}
	for _, bad := range []Audit{{Rows: r.Audits[0].Rows}, {Name: "empty"}, {Name: "paid", Rows: r.Audits[0].Rows, Covered: Paid}} {
		r.Audits = []Audit{bad}
		if err := r.Validate(); err == nil {
			t.Errorf("audit %+v is accepted", bad)
		}
	}
}
