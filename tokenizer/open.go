package tokenizer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Files of a tokenizer's folder.
const (
	jsonFile    = "tokenizer.json"
	vocabJSON   = "vocab.json"
	mergesFile  = "merges.txt"
	vocabFile   = "vocab.txt"
	configFile  = "tokenizer_config.json"
	specialFile = "special_tokens_map.json"
	addedFile   = "added_tokens.json"
)

// maxFile bounds what is read of one file; CLIP's largest has 2 MiB.
const maxFile = 64 << 20

// Open reads the folder of a tokenizer, in which tokenizer.json counts before the
// older files.
func Open(dir string) (*Tokenizer, error) {
	files := map[string][]byte{}
	for _, name := range []string{jsonFile, vocabJSON, mergesFile, vocabFile, configFile, specialFile, addedFile} {
		path := filepath.Join(dir, name)
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read tokenizer: %w", err)
		}
		if info.Size() > maxFile {
			return nil, fmt.Errorf("read tokenizer: %s has %d bytes, want at most %d", path, info.Size(), maxFile)
		}
		if files[name], err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("read tokenizer: %w", err)
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("read tokenizer: %s has no %s, %s or %s", dir, jsonFile, vocabJSON, vocabFile)
	}
	t, err := Parse(files)
	if err != nil {
		return nil, fmt.Errorf("read tokenizer %s: %w", dir, err)
	}
	return t, nil
}

// Parse is Open on the contents of the files, by name.
func Parse(files map[string][]byte) (*Tokenizer, error) {
	t := &Tokenizer{files: map[string][]byte{}}
	for name, data := range files {
		t.files[name] = slices.Clone(data)
	}
	settings, err := readSettings(files)
	if err != nil {
		return nil, err
	}
	switch {
	case files[jsonFile] != nil:
		err = t.readJSON(files[jsonFile], settings)
	case files[vocabJSON] != nil:
		err = t.readCLIP(files[vocabJSON], files[mergesFile], settings)
	case files[vocabFile] != nil:
		err = t.readBERT(files[vocabFile], settings)
	default:
		err = fmt.Errorf("no %s, %s or %s", jsonFile, vocabJSON, vocabFile)
	}
	if err != nil {
		return nil, err
	}
	return t, t.finish(settings)
}

// finish looks up what all forms have in common.
func (t *Tokenizer) finish(s *settings) error {
	for token, id := range t.vocabulary {
		if id < 0 || id >= 1<<24 {
			return fmt.Errorf("token %q has number %d, want 0 to 16777215", token, id)
		}
		t.size = max(t.size, id+1)
	}
	for i := range t.special {
		sp := &t.special[i]
		if sp.content == "" || sp.id < 0 || sp.id >= 1<<24 {
			return fmt.Errorf("added token %q has number %d, want a text and 0 to 16777215", sp.content, sp.id)
		}
		t.size = max(t.size, sp.id+1)
		sp.wanted = sp.content
		if sp.normalised {
			sp.wanted = t.model.normalise(sp.content)
		}
		if sp.wanted == "" {
			return fmt.Errorf("added token %q is empty when it is normalised", sp.content)
		}
	}
	t.longest = s.longest
	if t.longest == 1 {
		return fmt.Errorf("%s: model_max_length is 1, want at least 2, for start and end", configFile)
	}
	return nil
}

// settings of tokenizer_config.json and special_tokens_map.json.
type settings struct {
	class           string
	longest         int
	tokens          map[string]special // "bos_token" and so on.
	lower, chinese  bool
	accents         *bool // Nil: as lower.
	addedDecoder    []special
	prefixSpace     bool
	cleans, divides bool
}

// Names of the tokens with a role.
var roles = []string{"bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token"}

func readSettings(files map[string][]byte) (*settings, error) {
	s := &settings{tokens: map[string]special{}, lower: true, chinese: true, cleans: true, divides: true}
	for _, name := range []string{specialFile, configFile} { // The second has the last word.
		data := files[name]
		if data == nil {
			continue
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(data, &keys); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, role := range roles {
			raw, ok := keys[role]
			if !ok || string(raw) == "null" {
				continue
			}
			token, err := parseToken(raw)
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", name, role, err)
			}
			s.tokens[role] = token
		}
		if name == configFile {
			if err := s.config(keys); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return s, nil
}

// config reads the other keys of tokenizer_config.json.
func (s *settings) config(keys map[string]json.RawMessage) error {
	for key, field := range map[string]any{
		"tokenizer_class": &s.class, "do_lower_case": &s.lower, "tokenize_chinese_chars": &s.chinese,
		"strip_accents": &s.accents, "add_prefix_space": &s.prefixSpace, "clean_text": &s.cleans, "do_basic_tokenize": &s.divides,
	} {
		raw, ok := keys[key]
		if !ok || string(raw) == "null" {
			continue
		}
		if err := json.Unmarshal(raw, field); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	if raw, ok := keys["model_max_length"]; ok && string(raw) != "null" {
		var n float64 // 1e30 stands for no limit.
		if err := json.Unmarshal(raw, &n); err != nil {
			return fmt.Errorf("model_max_length: %w", err)
		}
		if !(n >= 1) {
			return fmt.Errorf("model_max_length is %g, want at least 1", n)
		}
		if n <= 1<<20 {
			s.longest = int(n)
		}
	}
	if raw, ok := keys["added_tokens_decoder"]; ok && string(raw) != "null" {
		var table map[string]json.RawMessage
		if err := json.Unmarshal(raw, &table); err != nil {
			return fmt.Errorf("added_tokens_decoder: %w", err)
		}
		for number, raw := range table {
			token, err := parseToken(raw)
			if err != nil {
				return fmt.Errorf("added_tokens_decoder: %w", err)
			}
			if _, err := fmt.Sscanf(number, "%d", &token.id); err != nil {
				return fmt.Errorf("added_tokens_decoder: number %q: %w", number, err)
			}
			s.addedDecoder = append(s.addedDecoder, token)
		}
	}
	switch {
	case s.class != "" && !slices.Contains([]string{"CLIPTokenizer", "CLIPTokenizerFast", "BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast"}, s.class):
		return fmt.Errorf("tokenizer_class is %q, want CLIPTokenizer or BertTokenizer; no other is implemented", s.class)
	case s.prefixSpace:
		return errors.New("add_prefix_space is true, want false; it is not implemented")
	case !s.cleans || !s.divides:
		return errors.New("do_basic_tokenize or clean_text is false, want true; it is not implemented")
	}
	return nil
}

// parseToken reads a special token: a string, or an object of its settings.
func parseToken(raw json.RawMessage) (special, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return special{content: text}, nil
	}
	var o struct {
		Content    string `json:"content"`
		Left       bool   `json:"lstrip"`
		Right      bool   `json:"rstrip"`
		Word       bool   `json:"single_word"`
		Normalised bool   `json:"normalized"`
		ID         int    `json:"id"`
	}
	if err := json.Unmarshal(raw, &o); err != nil {
		return special{}, err
	}
	if o.Word {
		return special{}, fmt.Errorf("token %q has single_word, which is not implemented", o.Content)
	}
	return special{content: o.Content, id: o.ID, left: o.Left, right: o.Right, normalised: o.Normalised}, nil
}

// number finds the token with a role, by default the given one.
func (t *Tokenizer) number(s *settings, role, otherwise string) (int, error) {
	content := otherwise
	if token, ok := s.tokens[role]; ok {
		content = token.content
	}
	if id, ok := t.vocabulary[content]; ok {
		return id, nil
	}
	for _, sp := range t.special {
		if sp.content == content {
			return sp.id, nil
		}
	}
	return 0, fmt.Errorf("%s is %q, which is not in the vocabulary", role, content)
}

// addRoles makes the tokens with a role special.
func (t *Tokenizer) addRoles(s *settings, defaults map[string]string) error {
	for _, added := range s.addedDecoder {
		t.special = append(t.special, added)
	}
	for _, role := range roles {
		otherwise, used := defaults[role]
		if _, given := s.tokens[role]; !used && !given {
			continue
		}
		id, err := t.number(s, role, otherwise)
		if err != nil {
			return err
		}
		token, ok := s.tokens[role]
		if !ok {
			token.content = otherwise
		}
		token.id = id
		known := slices.ContainsFunc(t.special, func(sp special) bool { return sp.content == token.content })
		if !known {
			t.special = append(t.special, token)
		}
	}
	return nil
}

// readCLIP reads vocab.json and merges.txt.
func (t *Tokenizer) readCLIP(vocabulary, merges []byte, s *settings) error {
	if merges == nil {
		return fmt.Errorf("no %s beside %s", mergesFile, vocabJSON)
	}
	if strings.HasPrefix(s.class, "Bert") {
		return fmt.Errorf("tokenizer_class is %q, but the files are %s and %s", s.class, vocabJSON, mergesFile)
	}
	if err := json.Unmarshal(vocabulary, &t.vocabulary); err != nil {
		return fmt.Errorf("%s: %w", vocabJSON, err)
	}
	var list [][2]string
	for i, line := range strings.Split(string(merges), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if line == "" || i == 0 && strings.HasPrefix(line, "#version") {
			continue
		}
		left, right, ok := strings.Cut(line, " ")
		if !ok || left == "" || right == "" || strings.Contains(right, " ") {
			return fmt.Errorf("%s: line %d is not two tokens", mergesFile, i+1)
		}
		list = append(list, [2]string{left, right})
	}
	unknown := clipEnd
	if token, ok := s.tokens["unk_token"]; ok {
		unknown = token.content
	}
	model, err := newPairs(t.vocabulary, list, unknown)
	if err != nil {
		return fmt.Errorf("%s: %w", mergesFile, err)
	}
	t.model = model
	if err := t.addRoles(s, map[string]string{"bos_token": clipStart, "eos_token": clipEnd, "unk_token": clipEnd, "pad_token": clipEnd}); err != nil {
		return err
	}
	return t.ends(s, "bos_token", clipStart, "eos_token", clipEnd, clipEnd)
}

// ends looks up the tokens for start, end and padding.
func (t *Tokenizer) ends(s *settings, start, startToken, end, endToken, padToken string) (err error) {
	if t.start, err = t.number(s, start, startToken); err != nil {
		return err
	}
	if t.end, err = t.number(s, end, endToken); err != nil {
		return err
	}
	t.pad, err = t.number(s, "pad_token", padToken)
	return err
}

// readBERT reads vocab.txt.
func (t *Tokenizer) readBERT(vocabulary []byte, s *settings) error {
	if strings.HasPrefix(s.class, "CLIP") {
		return fmt.Errorf("tokenizer_class is %q, but the file is %s", s.class, vocabFile)
	}
	t.vocabulary = map[string]int{}
	vocabulary = bytes.TrimSuffix(vocabulary, []byte("\n"))
	for i, line := range strings.Split(string(vocabulary), "\n") {
		t.vocabulary[strings.TrimSuffix(line, "\r")] = i
	}
	unknown, err := t.number(s, "unk_token", "[UNK]")
	if err != nil {
		return err
	}
	accents := s.lower
	if s.accents != nil {
		accents = *s.accents
	}
	t.model = &pieces{vocabulary: t.vocabulary, unknown: unknown, prefix: "##", longest: 100,
		clean: true, chinese: s.chinese, accents: accents, small: s.lower}
	if err := t.addRoles(s, map[string]string{"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}); err != nil {
		return err
	}
	return t.ends(s, "cls_token", "[CLS]", "sep_token", "[SEP]", "[PAD]")
}
