package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// tokenizerJSON is tokenizer.json of the library tokenizers.
type tokenizerJSON struct {
	Added         []json.RawMessage `json:"added_tokens"`
	Normalizer    json.RawMessage   `json:"normalizer"`
	PreTokenizer  json.RawMessage   `json:"pre_tokenizer"`
	PostProcessor json.RawMessage   `json:"post_processor"`
	Padding       *struct {
		ID int `json:"pad_id"`
	} `json:"padding"`
	Model json.RawMessage `json:"model"`
}

// modelJSON is the model in it.
type modelJSON struct {
	Type         string         `json:"type"`
	Vocabulary   map[string]int `json:"vocab"`
	Merges       []mergeJSON    `json:"merges"`
	Unknown      *string        `json:"unk_token"`
	Prefix       *string        `json:"continuing_subword_prefix"`
	Suffix       *string        `json:"end_of_word_suffix"`
	Dropout      *float64       `json:"dropout"`
	FuseUnknown  bool           `json:"fuse_unk"`
	ByteFallback bool           `json:"byte_fallback"`
	IgnoreMerges bool           `json:"ignore_merges"`
	Longest      *int           `json:"max_input_chars_per_word"`
}

// mergeJSON is two tokens in a list, or with a blank between them.
type mergeJSON [2]string

// UnmarshalJSON reads either form.
func (m *mergeJSON) UnmarshalJSON(data []byte) error {
	var text string
	if json.Unmarshal(data, &text) == nil {
		left, right, ok := strings.Cut(text, " ")
		if !ok || strings.Contains(right, " ") {
			return errors.New("a merge is not two tokens")
		}
		*m = mergeJSON{left, right}
		return nil
	}
	var list []string
	if err := json.Unmarshal(data, &list); err != nil {
		return err
	}
	if len(list) != 2 {
		return fmt.Errorf("a merge has %d tokens, want 2", len(list))
	}
	*m = mergeJSON{list[0], list[1]}
	return nil
}

// readJSON reads tokenizer.json. The steps in it must be those of CLIP or of BERT.
func (t *Tokenizer) readJSON(data []byte, s *settings) error {
	var f tokenizerJSON
	if err := json.Unmarshal(data, &f); err != nil {
		return fmt.Errorf("%s: %w", jsonFile, err)
	}
	var m modelJSON
	if err := json.Unmarshal(f.Model, &m); err != nil {
		return fmt.Errorf("%s: model: %w", jsonFile, err)
	}
	t.vocabulary = m.Vocabulary
	if t.vocabulary == nil {
		return fmt.Errorf("%s: model has no vocab", jsonFile)
	}
	for _, raw := range f.Added {
		token, err := parseToken(raw)
		if err != nil {
			return fmt.Errorf("%s: added_tokens: %w", jsonFile, err)
		}
		t.special = append(t.special, token)
	}
	var err error
	switch m.Type {
	case "BPE", "":
		t.model, err = f.pairs(&m)
	case "WordPiece":
		t.model, err = f.pieces(&m)
	default:
		err = fmt.Errorf("model is %q, want \"BPE\" or \"WordPiece\"; no other is implemented", m.Type)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", jsonFile, err)
	}
	if t.start, t.end, err = f.ends(); err != nil {
		return fmt.Errorf("%s: post_processor: %w", jsonFile, err)
	}
	padding := clipEnd
	if m.Type == "WordPiece" {
		padding = "[PAD]"
	}
	_, given := s.tokens["pad_token"]
	if t.pad, err = t.number(s, "pad_token", padding); err != nil && given {
		return err
	}
	if f.Padding != nil && !given {
		t.pad = f.Padding.ID
	} else if err != nil {
		return err
	}
	for _, id := range []int{t.start, t.end, t.pad} {
		if id < 0 || id >= 1<<24 {
			return fmt.Errorf("%s: start, end or padding has number %d, want 0 to 16777215", jsonFile, id)
		}
		t.size = max(t.size, id+1)
	}
	return nil
}

// The steps of CLIP before the model; the special tokens' names in the pattern
// are newer than 2024.
const (
	clipNormalizer = `{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "},{"type":"Lowercase"}]}`
	clipPattern    = `'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`
	clipNames      = `<\|startoftext\|>|<\|endoftext\|>|`
)

func (f *tokenizerJSON) pairs(m *modelJSON) (model, error) {
	switch {
	case m.Suffix == nil || *m.Suffix != wordEnd:
		return nil, errors.New("model: end_of_word_suffix is not \"</w>\"; no other byte pair encoding than CLIP's is implemented")
	case m.Prefix != nil && *m.Prefix != "":
		return nil, fmt.Errorf("model: continuing_subword_prefix is %q, want none", *m.Prefix)
	case m.Dropout != nil && *m.Dropout != 0:
		return nil, fmt.Errorf("model: dropout is %g, want null; it is not implemented", *m.Dropout)
	case m.FuseUnknown || m.ByteFallback || m.IgnoreMerges:
		return nil, errors.New("model: fuse_unk, byte_fallback or ignore_merges is true, want false; they are not implemented")
	}
	if !sameJSON(f.Normalizer, []byte(clipNormalizer)) {
		return nil, errors.New("normalizer is not CLIP's (NFC, white space, lower case); no other is implemented for BPE")
	}
	var steps struct {
		Type string `json:"type"`
		List []struct {
			Type        string `json:"type"`
			Pattern     struct{ Regex string }
			Behavior    string `json:"behavior"`
			Invert      bool   `json:"invert"`
			PrefixSpace bool   `json:"add_prefix_space"`
			UseRegex    *bool  `json:"use_regex"`
		} `json:"pretokenizers"`
	}
	if err := json.Unmarshal(f.PreTokenizer, &steps); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	if steps.Type != "Sequence" || len(steps.List) != 2 || steps.List[0].Type != "Split" || steps.List[1].Type != "ByteLevel" ||
		steps.List[0].Behavior != "Removed" || !steps.List[0].Invert || steps.List[1].PrefixSpace ||
		steps.List[1].UseRegex != nil && !*steps.List[1].UseRegex {
		return nil, errors.New("pre_tokenizer is not CLIP's (words, then bytes); no other is implemented for BPE")
	}
	pattern, named := strings.CutPrefix(steps.List[0].Pattern.Regex, clipNames)
	if pattern != clipPattern {
		return nil, errors.New("pre_tokenizer splits by another pattern than CLIP's; no other is implemented")
	}
	unknown := ""
	if m.Unknown != nil {
		unknown = *m.Unknown
	}
	merges := make([][2]string, len(m.Merges))
	for i, pair := range m.Merges {
		merges[i] = pair
	}
	p, err := newPairs(m.Vocabulary, merges, unknown)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	p.plain = !named
	return p, nil
}

func (f *tokenizerJSON) pieces(m *modelJSON) (model, error) {
	var n struct {
		Type    string `json:"type"`
		Clean   bool   `json:"clean_text"`
		Chinese bool   `json:"handle_chinese_chars"`
		Accents *bool  `json:"strip_accents"`
		Lower   bool   `json:"lowercase"`
	}
	if err := json.Unmarshal(f.Normalizer, &n); err != nil {
		return nil, fmt.Errorf("normalizer: %w", err)
	}
	if n.Type != "BertNormalizer" {
		return nil, fmt.Errorf("normalizer is %q, want \"BertNormalizer\"; no other is implemented for WordPiece", n.Type)
	}
	var pre struct {
		Type string `json:"type"`
	}
	if err := json.Unmarshal(f.PreTokenizer, &pre); err != nil {
		return nil, fmt.Errorf("pre_tokenizer: %w", err)
	}
	if pre.Type != "BertPreTokenizer" {
		return nil, fmt.Errorf("pre_tokenizer is %q, want \"BertPreTokenizer\"; no other is implemented for WordPiece", pre.Type)
	}
	p := &pieces{vocabulary: m.Vocabulary, prefix: "##", longest: 100, clean: n.Clean, chinese: n.Chinese, accents: n.Lower, small: n.Lower}
	if n.Accents != nil {
		p.accents = *n.Accents
	}
	if m.Prefix != nil {
		p.prefix = *m.Prefix
	}
	if m.Longest != nil {
		p.longest = min(*m.Longest, 1000)
	}
	if m.Unknown == nil {
		return nil, errors.New("model: unk_token is missing")
	}
	id, ok := m.Vocabulary[*m.Unknown]
	if !ok {
		return nil, fmt.Errorf("model: unk_token %q is not in the vocabulary", *m.Unknown)
	}
	p.unknown = id
	return p, nil
}

// ends returns the tokens that the last step puts around a text.
func (f *tokenizerJSON) ends() (start, end int, err error) {
	var p struct {
		Type   string `json:"type"`
		Sep    []any  `json:"sep"`
		Cls    []any  `json:"cls"`
		Single []struct {
			Special *struct {
				ID string `json:"id"`
			} `json:"SpecialToken"`
			Sequence *struct {
				ID string `json:"id"`
			} `json:"Sequence"`
		} `json:"single"`
		Tokens map[string]struct {
			IDs []int `json:"ids"`
		} `json:"special_tokens"`
	}
	if f.PostProcessor == nil {
		return 0, 0, errors.New("missing, want one that puts tokens around a text")
	}
	if err := json.Unmarshal(f.PostProcessor, &p); err != nil {
		return 0, 0, err
	}
	switch p.Type {
	case "RobertaProcessing", "BertProcessing":
		number := func(pair []any) (int, error) {
			if len(pair) != 2 {
				return 0, errors.New("sep or cls is not [token, number]")
			}
			n, ok := pair[1].(float64)
			if !ok || n != float64(int(n)) {
				return 0, fmt.Errorf("sep or cls has number %v, want a whole one", pair[1])
			}
			return int(n), nil
		}
		if start, err = number(p.Cls); err != nil {
			return 0, 0, err
		}
		end, err = number(p.Sep)
		return start, end, err
	case "TemplateProcessing":
		s := p.Single
		if len(s) != 3 || s[0].Special == nil || s[1].Sequence == nil || s[2].Special == nil {
			return 0, 0, errors.New("template is not a token, the text, a token; no other is implemented")
		}
		first, last := p.Tokens[s[0].Special.ID].IDs, p.Tokens[s[2].Special.ID].IDs
		if len(first) != 1 || len(last) != 1 {
			return 0, 0, errors.New("special_tokens lack a token of the template, or give it several numbers")
		}
		return first[0], last[0], nil
	}
	return 0, 0, fmt.Errorf("is %q, want RobertaProcessing, BertProcessing or TemplateProcessing; no other is implemented", p.Type)
}

// sameJSON reports whether two texts are the same JSON value.
func sameJSON(a, b []byte) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}
