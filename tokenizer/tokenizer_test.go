package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/scumble-dp/scumble/internal/parsebound"
)

// recording is what transformers made of awkward strings (testdata/record.py).
type recording struct {
	Length  int
	Strings []struct {
		Text        string
		IDs, Padded []int
	}
}

func recordings(t testing.TB) map[string]recording {
	t.Helper()
	data, err := os.ReadFile("testdata/recorded.json")
	if err != nil {
		t.Fatal(err)
	}
	var r map[string]recording
	if err := json.Unmarshal(data, &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func open(t testing.TB, name string) *Tokenizer {
	t.Helper()
	tok, err := Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestMatchesTransformers(t *testing.T) {
	all := recordings(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		t.Run(name, func(t *testing.T) {
			tok := open(t, name)
			if len(all[name].Strings) < 50 {
				t.Fatalf("%d strings are recorded, want at least 50", len(all[name].Strings))
			}
			for _, s := range all[name].Strings {
				if got := tok.Encode(s.Text); !slices.Equal(got, s.IDs) {
					t.Errorf("%q is\n%v, want\n%v", s.Text, got, s.IDs)
				}
				var padded []int
				for _, id := range tok.Padded(s.Text, all[name].Length) {
					padded = append(padded, int(id))
				}
				if !slices.Equal(padded, s.Padded) {
					t.Errorf("%q padded is %v, want %v", s.Text, padded, s.Padded)
				}
			}
		})
	}
}

// TestAnyTextHasTokens: for any string, tokens lie in the vocabulary, start and end
// stand at the ends, and a padded text has its length.
func TestAnyTextHasTokens(t *testing.T) {
	for _, name := range []string{"clip_files", "clip_json", "bert_files", "bert_cased"} {
		tok := open(t, name)
		rapid.Check(t, func(t *rapid.T) {
			text := rapid.OneOf(rapid.String(), rapid.StringMatching(`(<\|startoftext\|>|\[SEP\]|seven| |[a-z]|é){0,12}`)).Draw(t, "text")
			checkTokens(t, tok, text, rapid.IntRange(2, 20).Draw(t, "length"))
		})
	}
}

func checkTokens(t rapid.TB, tok *Tokenizer, text string, length int) {
	ids := tok.Encode(text)
	if len(ids) < 2 || ids[0] != tok.start || ids[len(ids)-1] != tok.end {
		t.Fatalf("%q is %v", text, ids)
	}
	for _, id := range ids {
		if id < 0 || id >= tok.Size() {
			t.Fatalf("%q has token %d, want 0 to %d", text, id, tok.Size()-1)
		}
	}
	padded := tok.Padded(text, length)
	if len(padded) != length {
		t.Fatalf("%q has %d tokens, want %d", text, len(padded), length)
	}
	for i, id := range padded[:length-1] {
		if i < len(ids)-1 && int(id) != ids[i] {
			t.Fatalf("%q is %v, padded %v", text, ids, padded)
		}
	}
}

// TestLongText: time does not grow as the square of the length.
func TestLongText(t *testing.T) {
	for _, name := range []string{"clip_files", "bert_files"} {
		tok := open(t, name)
		for _, text := range []string{strings.Repeat("seven", 40000), strings.Repeat("é", 100000), strings.Repeat("the ", 40000), strings.Repeat("<|endoftext|>", 10000)} {
			start := time.Now()
			tok.Encode(text)
			if d := time.Since(start); d > 5*time.Second { // 0.2 s on one slow core.
				t.Errorf("%s: a text of %d bytes took %s", name, len(text), d)
			}
		}
	}
}

func TestBuild(t *testing.T) {
	words := []string{"a", "seven", "even", "ten", "tenth", ",", "é", "日本", "seventeen", "bold", "7"}
	tok, err := Build(words, 7)
	if err != nil {
		t.Fatal(err)
	}
	if tok.Longest() != 7 {
		t.Errorf("texts have %d tokens, want 7", tok.Longest())
	}
	for _, word := range words {
		if ids := tok.Encode(word); len(ids) != 3 {
			t.Errorf("%q is %v, want one token between start and end", word, ids)
		}
	}
	if ids := tok.Encode("A bold seven, SEVENTEEN"); len(ids) != 7 {
		t.Errorf("a text of five words is %v", ids)
	}
	again, err := Parse(tok.Files())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.Encode("seven of ten"), tok.Encode("seven of ten")) {
		t.Error("its files hold another tokenizer")
	}
	for _, bad := range []string{"two words", "Capital", "", "isn't"} {
		if _, err := Build([]string{bad}, 7); err == nil {
			t.Errorf("%q is taken for a word", bad)
		}
	}
}

func TestRefuses(t *testing.T) {
	files := func(name string) map[string][]byte {
		return open(t, name).Files()
	}
	replace := func(file, old, new string) func(map[string][]byte) {
		return func(f map[string][]byte) {
			if !bytes.Contains(f[file], []byte(old)) {
				t.Fatalf("%s has no %q", file, old)
			}
			f[file] = bytes.ReplaceAll(f[file], []byte(old), []byte(new))
		}
	}
	for name, tc := range map[string]struct {
		from   string
		change func(map[string][]byte)
		want   string
	}{
		"no merges":       {"clip_files", func(f map[string][]byte) { delete(f, mergesFile) }, "merges.txt"},
		"merge":           {"clip_files", replace(mergesFile, "t h\n", "t h h\n"), "line"},
		"strange merge":   {"clip_files", replace(mergesFile, "t h\n", "t zzz\n"), `"zzz"`},
		"class":           {"clip_files", replace(configFile, "CLIPTokenizer", "T5Tokenizer"), "T5Tokenizer"},
		"prefix space":    {"clip_files", replace(configFile, `"add_prefix_space": false`, `"add_prefix_space": true`), "add_prefix_space"},
		"length":          {"clip_files", replace(configFile, `"model_max_length": 77`, `"model_max_length": 0`), "model_max_length"},
		"single word":     {"clip_files", replace(specialFile, `"single_word": false`, `"single_word": true`), "single_word"},
		"special":         {"clip_files", replace(configFile, `"pad_token": "!"`, `"pad_token": "none such"`), "none such"},
		"vocabulary":      {"clip_files", replace(vocabJSON, `: 5,`, `: -5,`), "number -5"},
		"no files":        {"clip_files", func(f map[string][]byte) { clear(f) }, "no tokenizer.json"},
		"other pattern":   {"clip_json", replace(jsonFile, `'ll|'d`, `'d`), "pattern"},
		"other steps":     {"clip_json", replace(jsonFile, `"NFC"`, `"NFKC"`), "normalizer"},
		"byte fallback":   {"clip_json", replace(jsonFile, `"byte_fallback": false`, `"byte_fallback": true`), "byte_fallback"},
		"suffix":          {"clip_json", replace(jsonFile, `"end_of_word_suffix": "</w>"`, `"end_of_word_suffix": "##"`), "end_of_word_suffix"},
		"post processor":  {"clip_json", replace(jsonFile, `RobertaProcessing`, `Nothing`), "post_processor"},
		"other model":     {"bert_json", replace(jsonFile, `"WordPiece"`, `"Unigram"`), "Unigram"},
		"template":        {"bert_json", replace(jsonFile, `"single": [`, `"single": [{"Sequence": {"id": "A", "type_id": 0}},`), "template"},
		"BERT normalizer": {"bert_json", replace(jsonFile, `BertNormalizer`, `Lowercase`), "normalizer"},
		"BERT splitter":   {"bert_json", replace(jsonFile, `BertPreTokenizer`, `Whitespace`), "pre_tokenizer"},
		"unknown":         {"bert_files", replace(vocabFile, "[UNK]", "[UN]"), "unk_token"},
	} {
		t.Run(name, func(t *testing.T) {
			f := files(tc.from)
			tc.change(f)
			if _, err := Parse(f); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %v, want one with %q", err, tc.want)
			}
		})
	}
}

// fuzzParse holds a parser of one file to its word: it reads, or says why not, and
// what it read encodes.
func fuzzParse(f *testing.F, from, file string) {
	files := open(f, from).Files()
	f.Add(bytes.Clone(files[file]))
	f.Add([]byte("{}"))
	f.Add([]byte("#version\na b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		some := maps.Clone(files)
		some[file] = data
		size := 0
		for _, content := range some {
			size += len(content)
		}
		var tok *Tokenizer
		var err error
		parsebound.Check(t, size, func() { tok, err = Parse(some) })
		if err != nil {
			return
		}
		for _, id := range tok.Encode("The 7th <|endoftext|> [SEP] événement 日本 \x00") {
			if id < 0 || id >= tok.Size() {
				t.Fatalf("token %d, want 0 to %d", id, tok.Size()-1)
			}
		}
	})
}

func FuzzTokenizerJSON(f *testing.F)     { fuzzParse(f, "clip_json", jsonFile) }
func FuzzBertTokenizerJSON(f *testing.F) { fuzzParse(f, "bert_json", jsonFile) }
func FuzzVocabJSON(f *testing.F)         { fuzzParse(f, "clip_files", vocabJSON) }
func FuzzMerges(f *testing.F)            { fuzzParse(f, "clip_files", mergesFile) }
func FuzzVocab(f *testing.F)             { fuzzParse(f, "bert_files", vocabFile) }
func FuzzConfig(f *testing.F)            { fuzzParse(f, "clip_files", configFile) }
func FuzzSpecialTokens(f *testing.F)     { fuzzParse(f, "clip_files", specialFile) }

func FuzzText(f *testing.F) {
	clip, bert := open(f, "clip_files"), open(f, "bert_files")
	for _, s := range recordings(f)["clip_files"].Strings {
		f.Add(s.Text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		checkTokens(t, clip, text, 7)
		checkTokens(t, bert, text, 7)
	})
}

func ExampleBuild() {
	t, err := Build([]string{"a", "bold", "seven", ","}, 8)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(len(t.Encode("A bold seven, bold")))
	// Output: 7
}
