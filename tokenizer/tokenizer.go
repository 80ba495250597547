package tokenizer

import (
	"maps"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Tokenizer turns text into token numbers. It may be used by several goroutines
// at once.
type Tokenizer struct {
	vocabulary map[string]int
	size       int // One more than the largest number.
	model      model
	special    []special // Texts that are one token as they stand.

	start, end, pad int
	longest         int // Tokens that the encoder takes; 0 if the files do not say.

	files map[string][]byte // As read.
}

// model splits plain text into tokens.
type model interface {
	// normalise prepares text, in which tokens that stand for themselves may then
	// be looked for.
	normalise(text string) string
	// tokens appends the numbers of the tokens of prepared text.
	tokens(to []int, text string) []int
}

// special is a text that is one token wherever it stands.
type special struct {
	content     string
	id          int
	normalised  bool   // Looked for in prepared text, not in the text as it comes.
	left, right bool   // It swallows white space on that side.
	wanted      string // What is looked for: content, prepared where normalised.
}

// Size returns one more than the largest token number: the least vocabulary that
// an encoder must have.
func (t *Tokenizer) Size() int { return t.size }

// Longest returns the length that the files name, in tokens, or 0.
func (t *Tokenizer) Longest() int { return t.longest }

// Files returns the files that the tokenizer was read from, by name. They must
// not be changed.
func (t *Tokenizer) Files() map[string][]byte { return maps.Clone(t.files) }

// Encode returns the tokens of text between those for its start and end. A text
// that is not UTF-8 has U+FFFD in place of what is not.
func (t *Tokenizer) Encode(text string) []int {
	return append(t.inside([]int{t.start}, text), t.end)
}

// Padded returns exactly n tokens, n at least 2: as Encode, with what is too long
// cut off before the end token and what is too short filled up behind it.
func (t *Tokenizer) Padded(text string, n int) []int32 {
	ids := t.inside([]int{t.start}, text)
	if len(ids) > n-1 {
		ids = ids[:n-1]
	}
	out := make([]int32, n)
	for i := range out {
		switch {
		case i < len(ids):
			out[i] = int32(ids[i])
		case i == len(ids):
			out[i] = int32(t.end)
		default:
			out[i] = int32(t.pad)
		}
	}
	return out
}

// inside appends the tokens of text alone.
func (t *Tokenizer) inside(to []int, text string) []int {
	text = strings.ToValidUTF8(text, "\ufffd")
	each(text, t.special, false, func(plain string, id int) {
		if plain == "" {
			to = append(to, id)
			return
		}
		each(t.model.normalise(plain), t.special, true, func(plain string, id int) {
			if plain == "" {
				to = append(to, id)
				return
			}
			to = t.model.tokens(to, plain)
		})
	})
	return to
}

// each cuts text at the special tokens of one kind, and calls f for every piece:
// with the plain text, or "" and the number of the token. Of two tokens the
// first, then the longest, counts.
func each(text string, all []special, normalised bool, f func(plain string, id int)) {
	from := 0
	for at := 0; at < len(text); {
		found := -1
		for i, s := range all {
			if s.normalised == normalised && strings.HasPrefix(text[at:], s.wanted) && (found < 0 || len(s.wanted) > len(all[found].wanted)) {
				found = i
			}
		}
		if found < 0 {
			_, n := utf8.DecodeRuneInString(text[at:])
			at += n
			continue
		}
		s := all[found]
		plain, rest := text[from:at], text[at+len(s.wanted):]
		if s.left {
			plain = strings.TrimRightFunc(plain, unicode.IsSpace)
		}
		if s.right {
			rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
		}
		if plain != "" {
			f(plain, 0)
		}
		f("", s.id)
		from = len(text) - len(rest)
		at = from
	}
	if from < len(text) {
		f(text[from:], 0)
	}
}
