package tokenizer

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// pieces is WordPiece: each word becomes the longest pieces that the vocabulary
// has, from the left; one that cannot is unknown as a whole.
type pieces struct {
	vocabulary map[string]int
	unknown    int
	prefix     string // Of a piece within a word.
	longest    int    // Code points of a word that is looked at.

	clean, chinese, accents, small bool // Steps of normalise: accents are taken off.
}

// normalise drops control characters, sets Chinese characters apart, takes
// accents off and makes letters small, in this order.
func (p *pieces) normalise(text string) string {
	var b strings.Builder
	b.Grow(len(text))
	for _, r := range text {
		switch {
		case p.clean && dropped(r):
		case p.clean && unicode.IsSpace(r):
			b.WriteByte(' ')
		case p.chinese && isChinese(r):
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		default:
			b.WriteRune(r)
		}
	}
	text = b.String()
	if p.accents {
		text = strings.Map(func(r rune) rune {
			if unicode.Is(unicode.Mn, r) {
				return -1
			}
			return r
		}, norm.NFD.String(text))
	}
	if p.small {
		var b strings.Builder
		for _, r := range text {
			lower(&b, r)
		}
		text = b.String()
	}
	return text
}

// dropped says whether BERT drops a character: zero, the replacement character,
// and control, format and private ones that are not white space as it has it.
func dropped(r rune) bool {
	switch r {
	case '\t', '\n', '\r':
		return false
	case 0, '\ufffd':
		return true
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co)
}

func isChinese(r rune) bool {
	return r >= 0x4E00 && r <= 0x9FFF || r >= 0x3400 && r <= 0x4DBF || r >= 0x20000 && r <= 0x2A6DF ||
		r >= 0x2A700 && r <= 0x2B73F || r >= 0x2B740 && r <= 0x2B81F || r >= 0x2B920 && r <= 0x2CEAF ||
		r >= 0xF900 && r <= 0xFAFF || r >= 0x2F800 && r <= 0x2FA1F
}

// isMark says whether a character is a word of its own.
func isMark(r rune) bool {
	return r < 128 && (unicode.IsPunct(r) || unicode.IsSymbol(r)) || unicode.IsPunct(r)
}

// tokens splits prepared text at white space and marks, and encodes each word.
func (p *pieces) tokens(to []int, text string) []int {
	from := 0
	word := func(end int) {
		if from < end {
			to = p.word(to, text[from:end])
		}
	}
	for i, r := range text {
		n := len(string(r))
		switch {
		case unicode.IsSpace(r):
			word(i)
			from = i + n
		case isMark(r):
			word(i)
			from = i
			word(i + n)
			from = i + n
		}
	}
	word(len(text))
	return to
}

// word appends the tokens of one word.
func (p *pieces) word(to []int, word string) []int {
	letters := []rune(word)
	if len(letters) > p.longest {
		return append(to, p.unknown)
	}
	first := len(to)
	for at := 0; at < len(letters); {
		end, id := len(letters), -1
		for ; end > at && id < 0; end-- {
			piece := string(letters[at:end])
			if at > 0 {
				piece = p.prefix + piece
			}
			if found, ok := p.vocabulary[piece]; ok {
				id = found
				break
			}
		}
		if id < 0 {
			return append(to[:first], p.unknown)
		}
		to = append(to, id)
		at = end
	}
	return to
}
