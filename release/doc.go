// Package release closes the folder of a run that may leave the building, so
// that somebody else can check it: a ledger without times, a manifest with the hash
// of every file, a signature if there is a key, and [Verify], which needs nothing
// but the folder.
//
//	release/
//	    statement.json, statement.md, report.html, report.md   package report
//	    config.yaml       the config, without the place of the private images
//	    ledger.jsonl      every access to the private data, see [Ledger]
//	    model/, synthetic/, previous/
//	    audit-canary.json, evaluation.json   of audits and against public images; if made
//	    manifest.json     path, size and SHA-256 of every other file
//	    manifest.sig      Ed25519 signature of manifest.json; only if signed
//
// This package never sees private data.
package release
