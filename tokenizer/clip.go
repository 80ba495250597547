package tokenizer

import (
	"container/heap"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// CLIP's special tokens, and what marks the end of a word.
const (
	clipStart = "<|startoftext|>"
	clipEnd   = "<|endoftext|>"
	wordEnd   = "</w>"
)

// pairs is byte pair encoding: each word becomes its bytes, of which the pair of
// the least rank is joined again and again.
type pairs struct {
	vocabulary map[string]int
	unknown    int // -1: what is not in the vocabulary is left out.
	merges     map[[2]int]merge
	first      [256][2]int // Token of each byte: within a word, and at its end.
	plain      bool        // The special tokens' names in prepared text are not words of their own.
}

// merge of two tokens.
type merge struct{ rank, id int }

// newPairs makes the model. merges are "left right" in order of their rank.
func newPairs(vocabulary map[string]int, merges [][2]string, unknown string) (*pairs, error) {
	p := &pairs{vocabulary: vocabulary, unknown: -1, merges: make(map[[2]int]merge, len(merges))}
	if id, ok := vocabulary[unknown]; ok {
		p.unknown = id
	}
	for rank, m := range merges {
		left, ok := vocabulary[m[0]]
		if !ok {
			return nil, fmt.Errorf("merge %d joins %q, which is not in the vocabulary", rank+1, m[0])
		}
		right, ok := vocabulary[m[1]]
		if !ok {
			return nil, fmt.Errorf("merge %d joins %q, which is not in the vocabulary", rank+1, m[1])
		}
		id, ok := vocabulary[m[0]+m[1]]
		if !ok {
			return nil, fmt.Errorf("merge %d makes %q, which is not in the vocabulary", rank+1, m[0]+m[1])
		}
		p.merges[[2]int{left, right}] = merge{rank, id}
	}
	letters := byteLetters()
	for b, letter := range letters {
		for i, end := range []string{"", wordEnd} {
			id, ok := vocabulary[string(letter)+end]
			if !ok {
				id = p.unknown
			}
			p.first[b][i] = id
		}
	}
	return p, nil
}

// byteLetters returns the printable letter that stands for each byte: itself
// where it is printable in Latin-1, else one from 256 on.
func byteLetters() (letters [256]rune) {
	next := rune(256)
	for b := range letters {
		r := rune(b)
		if r >= '!' && r <= '~' || r >= '¡' && r <= '¬' || r >= '®' && r <= 'ÿ' {
			letters[b] = r
			continue
		}
		letters[b] = next
		next++
	}
	return letters
}

// normalise composes letters with their accents, turns runs of white space into
// one blank, and makes letters small.
func (p *pairs) normalise(text string) string {
	text = norm.NFC.String(text)
	var b strings.Builder
	b.Grow(len(text))
	space := false
	for _, r := range text {
		if unicode.IsSpace(r) {
			if !space {
				b.WriteByte(' ')
			}
			space = true
			continue
		}
		space = false
		lower(&b, r)
	}
	return b.String()
}

// lower writes the small form of a letter, by itself, as Unicode has it: that of
// one capital is two code points.
func lower(b *strings.Builder, r rune) {
	if r == 'İ' {
		b.WriteString("i\u0307")
		return
	}
	b.WriteRune(unicode.ToLower(r))
}

// tokens splits prepared text into words and encodes each.
func (p *pairs) tokens(to []int, text string) []int {
	for text != "" {
		n := p.span(text)
		if n < 0 { // White space: between words.
			text = text[-n:]
			continue
		}
		if word := text[:n]; word == clipStart || word == clipEnd { // Cut once more at the change from letters to marks.
			inner := word[2 : len(word)-2]
			for _, part := range []string{"<|", inner, "|>"} {
				to = p.word(to, part)
			}
		} else {
			to = p.word(to, word)
		}
		text = text[n:]
	}
	return to
}

var contractions = []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// span returns the length of the word at the start of text, or minus that of the
// white space there. Words are the special tokens' names, English
// contractions, runs of letters, single digits, and runs of anything else.
func (p *pairs) span(text string) int {
	for _, name := range []string{clipStart, clipEnd} {
		if !p.plain && strings.HasPrefix(text, name) {
			return len(name)
		}
	}
	for _, c := range contractions {
		if strings.HasPrefix(text, c) {
			return len(c)
		}
	}
	r, n := utf8.DecodeRuneInString(text)
	switch {
	case unicode.IsSpace(r):
		return -n
	case unicode.IsLetter(r):
		return run(text, unicode.IsLetter)
	case unicode.IsNumber(r):
		return n
	}
	return run(text, func(r rune) bool { return !unicode.IsSpace(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r) })
}

// run returns the length of the longest start of text that in accepts.
func run(text string, in func(rune) bool) int {
	for i, r := range text {
		if !in(r) {
			return i
		}
	}
	return len(text)
}

// part of a word, in a list of what is left of it.
type part struct {
	id, before, next int
}

// join is a possible merge of two neighbours.
type join struct {
	merge
	at          int // Of the left one.
	left, right int // What they were when the join was found.
}

type joins []join

func (q joins) Len() int { return len(q) }
func (q joins) Less(i, j int) bool {
	return q[i].rank < q[j].rank || q[i].rank == q[j].rank && q[i].at < q[j].at
}
func (q joins) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *joins) Push(x any)   { *q = append(*q, x.(join)) }
func (q *joins) Pop() any {
	last := len(*q) - 1
	x := (*q)[last]
	*q = (*q)[:last]
	return x
}

// word appends the tokens of one word.
func (p *pairs) word(to []int, word string) []int {
	parts := make([]part, 0, len(word))
	for i := range len(word) {
		end := 0
		if i == len(word)-1 {
			end = 1
		}
		if id := p.first[word[i]][end]; id >= 0 {
			parts = append(parts, part{id: id, before: len(parts) - 1, next: len(parts) + 1})
		}
	}
	if len(parts) == 0 {
		return to
	}
	parts[len(parts)-1].next = -1
	var queue joins
	look := func(at int) {
		if at < 0 || parts[at].next < 0 {
			return
		}
		left, right := parts[at].id, parts[parts[at].next].id
		if m, ok := p.merges[[2]int{left, right}]; ok {
			heap.Push(&queue, join{m, at, left, right})
		}
	}
	for i := range parts {
		look(i)
	}
	for len(queue) > 0 {
		j := heap.Pop(&queue).(join)
		next := parts[j.at].next
		if parts[j.at].id != j.left || next < 0 || parts[next].id != j.right {
			continue // One of them is gone since.
		}
		parts[j.at].id, parts[j.at].next = j.id, parts[next].next
		parts[next].id = -1
		if after := parts[next].next; after >= 0 {
			parts[after].before = j.at
		}
		look(parts[j.at].before)
		look(j.at)
	}
	for i := 0; i >= 0; i = parts[i].next {
		to = append(to, parts[i].id)
	}
	return to
}
