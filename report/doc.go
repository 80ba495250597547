// Package report turns one run into documents: the release edition, which may
// leave the building, and the private one, which may not.
//
//	report.WriteRelease("run/release", r) // report.html, report.md, statement.json, statement.md
//	report.WritePrivate("run/private", r) // report.html, report.md, report.json
//
// This package never sees private data. It opens no image and no ledger; it is
// given numbers, texts and finished pictures. Each number carries a [Coverage]
// that says why it may be released. The zero value says that it may not: such
// a number is in the private edition only, where it is marked.
//
// Two rules make that hold whatever the caller does:
//
//   - The release edition is rendered from a copy of the run that [Run] makes
//     by listing what it takes. Templates never get the original, and a field
//     that is added to Run later stays out until somebody lists it.
//   - A guarantee is printed only where [Run.Unmet] is empty. Otherwise every
//     document says NOT PRIVATE (test mode) or NO GUARANTEE, with the reasons,
//     and holds no epsilon but the one that the config asked for.
//
// Numbers of the guarantee are rounded so that what is printed never promises
// more than what holds. Every HTML file is one file: no scripts, no fonts, no
// requests; its Content-Security-Policy allows its own style sheet, by hash,
// and pictures inside the file.
package report
