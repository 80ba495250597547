package report

import (
	"fmt"
	"strings"
	"unicode"
)

// markdown is a document in the making. Every text that comes from outside
// goes through escape.
type markdown struct{ strings.Builder }

func (m *markdown) line(format string, args ...any) {
	for i, a := range args {
		if s, ok := a.(string); ok {
			args[i] = escape(s)
		}
	}
	fmt.Fprintf(m, format+"\n", args...)
}

// EscapeMarkdown makes s plain text in Markdown, on one line: no name can start a
// link, a tag or a table.
func EscapeMarkdown(s string) string { return escape(s) }

// escape makes s plain text in Markdown, on one line.
func escape(s string) string {
	var b strings.Builder
	for i, c := range s {
		switch {
		case c == '<':
			b.WriteString("&lt;")
		case c == '>':
			b.WriteString("&gt;")
		case c == '&':
			b.WriteString("&amp;")
		case strings.ContainsRune("\\`*_{}[]#|~!", c):
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == ':' && strings.HasPrefix(s[i+1:], "/"): // No automatic links.
			b.WriteString("&#58;")
		case unicode.IsSpace(c):
			b.WriteByte(' ')
		case unicode.IsControl(c) || unicode.Is(unicode.Cf, c): // Cf: marks that turn the direction of text.
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func (c cell) markdown() string {
	s := escape(c.Text)
	if c.Marked {
		s += " **(not covered)**"
	}
	return s
}

func (m *markdown) table(t table) {
	if len(t.Rows) == 0 {
		return
	}
	m.line("\n**%s**\n", t.Caption)
	write := func(cells []cell, text func(cell) string) {
		for _, c := range cells {
			m.WriteString("| " + text(c) + " ")
		}
		m.WriteString("|\n")
	}
	write(t.Head, cell.markdown)
	write(t.Head, func(c cell) string {
		if c.Number {
			return "---:"
		}
		return "---"
	})
	for _, r := range t.Rows {
		write(r, cell.markdown)
	}
}

func (m *markdown) list(items []string) {
	m.WriteByte('\n')
	for _, s := range items {
		m.line("- %s", s)
	}
}

// fence writes s as a code block that s cannot end.
func (m *markdown) fence(language, s string) {
	longest, run := 2, 0
	for _, c := range s {
		if c == '`' {
			run++
			longest = max(longest, run)
		} else {
			run = 0
		}
	}
	ticks := strings.Repeat("`", longest+1)
	m.WriteString("\n" + ticks + language + "\n" + strings.TrimSuffix(s, "\n") + "\n" + ticks + "\n")
}

// heading writes the title and the guarantee, or why there is none.
func (m *markdown) heading(v *view) {
	s := v.Statement
	m.line("# %s", s.Title)
	if !v.Release {
		m.line("\n> **Private edition: must not leave.** %d items are not covered by the claim, and marked so.", v.Uncovered)
	}
	m.line("\n%s · %s · %s", v.MethodName, v.Created, s.Software)
	m.line("\n## The guarantee\n\n**%s**", s.Guarantee)
	if !v.Guaranteed {
		m.line("\nNothing here may be treated as differentially private, because:")
		m.list(s.Unmet)
		return
	}
	m.line("\nTier: **%s**. %s", v.Tier, v.TierWords)
	m.line("\n### What it means")
	m.list(v.Meaning)
}

// claim writes what the claim rests on.
func (m *markdown) claim(v *view) {
	s := v.Statement
	m.line("\n## Ledger")
	m.table(v.Ledger)
	m.line("\n%s lines, each with the hash of the one before. Hash of the last: `%s`", count(s.Ledger.Entries), s.Ledger.Head)
	m.line("\n## Mechanism and accounting")
	m.table(v.Mechanism)
	m.table(v.Accounting)
	m.list([]string{"Trust: " + s.Setting.Model, "Adversary: " + s.Setting.Adversary, "Released: " + s.Setting.Released, "Accesses: " + s.Setting.Accesses})
	m.line("\n## Origin and public inputs\n\nBase model: %s. %s", s.Base.Name, s.Base.Value)
	m.table(v.Weights)
	m.table(v.Inputs)
	m.table(v.Files)
}

// figures writes what the ledger paid for beside the training.
func (m *markdown) figures(s *Statement) {
	if len(s.Paid) == 0 {
		return
	}
	m.line("\n## Figures about the private images")
	m.line("\nNoisy, paid for in the ledger, and inside the claim.\n")
	for _, f := range s.Paid {
		m.line("- %s: %s (ledger entry %s). %s", f.Name, f.words(), f.LedgerEntry, f.Mechanism)
	}
}

// words writes the value with its interval.
func (f *Figure) words() string {
	s := short(f.Value)
	if len(f.Interval) == 2 {
		s += " (95 %: " + short(f.Interval[0]) + " to " + short(f.Interval[1]) + ")"
	}
	for i, v := range f.PerClass {
		if i == 0 {
			s += "; per class"
		}
		s += " " + short(v)
	}
	return s
}

// limits writes what the claim does not say.
func (m *markdown) limits(v *view) {
	m.line("\n## Outside the claim")
	m.list(v.Statement.Outside)
	m.line("\n## Assumptions")
	m.list(v.Statement.Assumptions)
	m.line("\nSHA-256 of %s: `%s`", v.Statement.Config.File, v.Statement.Config.SHA256)
}

// Markdown renders statement.md from the statement alone: whoever holds both
// can check that they say the same.
func (s *Statement) Markdown() []byte {
	v := newStatementView(s)
	var m markdown
	m.heading(v)
	m.claim(v)
	m.figures(s)
	m.limits(v)
	return []byte(m.String())
}

// markdown renders report.md. Pictures and charts are in the HTML.
func (v *view) markdown() []byte {
	var m markdown
	m.heading(v)
	if len(v.Sheets) > 0 {
		m.line("\n## Images\n\nThe pictures are in report.html.")
		for _, s := range v.Sheets {
			c := cell{Text: s.Title, Marked: s.Uncovered}
			fmt.Fprintf(&m, "\n- %s: %s", c.markdown(), escape(s.Alt+" "+s.Caption))
		}
		m.WriteByte('\n')
	}
	if len(v.Scores.Rows) > 0 {
		m.line("\n## Utility")
		m.table(v.Scores)
		m.table(v.PerClass)
		m.table(v.Subgroups)
		m.WriteByte('\n')
		for _, n := range v.Notes {
			m.WriteString("- " + n.markdown() + "\n")
		}
	}
	if len(v.Charts) > 0 {
		m.line("\n## Curves\n\nThe charts are in report.html.\n")
		for _, c := range v.Charts {
			title := cell{Text: c.Title, Marked: c.Uncovered}
			fmt.Fprintf(&m, "- %s: %s\n", title.markdown(), escape(strings.TrimSpace(c.Summary+" "+c.Note)))
		}
	}
	m.audits(v)
	m.claim(v)
	if len(v.Facts.Rows) > 0 {
		m.line("\n## Cost")
		m.table(v.Facts)
	}
	m.limits(v)
	m.line("\n## Configuration")
	if !v.Guaranteed {
		m.line("\nAs asked for. An ε in it is a wish, not a guarantee.")
	}
	m.fence("yaml", v.Run.Config)
	return []byte(m.String())
}
