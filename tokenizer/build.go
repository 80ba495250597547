package tokenizer

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Build returns a byte pair encoding in CLIP's form, with files that
// transformers reads, in which each of the words is one token. Any other text
// has tokens, too: its bytes. longest is the length of texts, in tokens.
func Build(words []string, longest int) (*Tokenizer, error) {
	if longest < 2 {
		return nil, fmt.Errorf("longest text is %d tokens, want at least 2, for start and end", longest)
	}
	var list []string // Tokens, in order of their numbers.
	for _, end := range []string{"", wordEnd} {
		for _, letter := range byteLetters() {
			list = append(list, string(letter)+end)
		}
	}
	model := &pairs{}
	var merges [][2]string
	wanted := slices.Compact(slices.Sorted(slices.Values(words)))
	for {
		vocabulary := map[string]int{}
		for i, token := range list {
			vocabulary[token] = i
		}
		var err error
		if model, err = newPairs(vocabulary, merges, ""); err != nil {
			return nil, err
		}
		joined := false
		for _, word := range wanted {
			if word == "" || model.normalise(word) != word || model.span(word) != len(word) {
				return nil, fmt.Errorf("%q is not one word in small letters", word)
			}
			ids := model.word(nil, word)
			if len(ids) == 1 {
				continue
			}
			// The last merge there is, so that it happens after all that happened.
			pair := [2]string{list[ids[0]], list[ids[1]]}
			merges = append(merges, pair)
			if token := pair[0] + pair[1]; vocabulary[token] == 0 && list[0] != token {
				list = append(list, token)
			}
			joined = true
			break
		}
		if !joined {
			break
		}
	}
	vocabulary := map[string]int{}
	for i, token := range append(list, clipStart, clipEnd) {
		vocabulary[token] = i
	}
	table, err := json.Marshal(vocabulary)
	if err != nil {
		return nil, err
	}
	text := strings.Builder{}
	text.WriteString("#version: 0.2\n")
	for _, m := range merges {
		fmt.Fprintf(&text, "%s %s\n", m[0], m[1])
	}
	roles := map[string]any{"bos_token": clipStart, "eos_token": clipEnd, "unk_token": clipEnd, "pad_token": clipEnd}
	special, err := json.Marshal(roles)
	if err != nil {
		return nil, err
	}
	maps.Copy(roles, map[string]any{"model_max_length": longest, "tokenizer_class": "CLIPTokenizer"})
	config, err := json.Marshal(roles)
	if err != nil {
		return nil, err
	}
	return Parse(map[string][]byte{vocabJSON: table, mergesFile: []byte(text.String()), specialFile: special, configFile: config})
}
