package finetune

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"github.com/scumble-dp/scumble/recipes"
)

// node is a JSON Schema, as far as ours goes.
type node struct {
	Type                 string
	Properties           map[string]*node
	AdditionalProperties *bool
	Required             []string
	Enum                 []any
	Const                any
	AnyOf                []*node
	Minimum, Maximum     *float64
	ExclusiveMinimum     *float64
	ExclusiveMaximum     *float64
	MinLength, MinItems  *int
	MaxItems             *int
	UniqueItems          bool
	Pattern              string
	Items                *node
	Default              any
	Description, Title   string
	Dialect              string `json:"$schema"`
}

func parsedSchema(t *testing.T) *node {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(Schema())))
	d.DisallowUnknownFields() // So that check below knows every word of it.
	var root node
	if err := d.Decode(&root); err != nil {
		t.Fatal(err)
	}
	return &root
}

// check validates a decoded YAML value.
func (n *node) check(v any, at string) error {
	bad := func(what string) error { return fmt.Errorf("%s: %v %s", at, v, what) }
	number, isNumber := asNumber(v)
	text, isText := v.(string)
	list, isList := v.([]any)
	object, isObject := v.(map[string]any)
	_, isBool := v.(bool)
	fits := map[string]bool{"": true, "object": isObject, "array": isList, "string": isText, "boolean": isBool,
		"number": isNumber, "integer": isNumber && number == math.Trunc(number)}
	switch {
	case !fits[n.Type]:
		return bad("is not of type " + n.Type)
	case n.Enum != nil && !slices.ContainsFunc(n.Enum, func(e any) bool { return equal(e, v) }):
		return bad("is not in the enumeration")
	case n.Const != nil && !equal(n.Const, v):
		return bad("is not the constant")
	case isNumber && (math.IsNaN(number) || math.IsInf(number, 0)):
		return bad("is no JSON number")
	case n.Minimum != nil && number < *n.Minimum, n.Maximum != nil && number > *n.Maximum,
		n.ExclusiveMinimum != nil && number <= *n.ExclusiveMinimum, n.ExclusiveMaximum != nil && number >= *n.ExclusiveMaximum:
		return bad("is out of range")
	case n.MinLength != nil && len(text) < *n.MinLength, n.MinItems != nil && len(list) < *n.MinItems, n.MaxItems != nil && len(list) > *n.MaxItems:
		return bad("is too short or too long")
	case n.Pattern != "" && !regexp.MustCompile(n.Pattern).MatchString(text):
		return bad("does not match")
	}
	for i, item := range list {
		if n.UniqueItems && slices.ContainsFunc(list[:i], func(e any) bool { return equal(e, item) }) {
			return bad("repeats an item")
		}
		if n.Items != nil {
			if err := n.Items.check(item, at+"[]"); err != nil {
				return err
			}
		}
	}
	if n.AnyOf != nil && !slices.ContainsFunc(n.AnyOf, func(o *node) bool { return o.check(v, at) == nil }) {
		return bad("is none of the kinds allowed")
	}
	for _, key := range n.Required {
		if _, ok := object[key]; !ok {
			return fmt.Errorf("%s: %s is missing", at, key)
		}
	}
	for key, value := range object {
		p := n.Properties[key]
		if p == nil {
			return fmt.Errorf("%s: key %s is not known", at, key)
		}
		if err := p.check(value, at+"."+key); err != nil {
			return err
		}
	}
	return nil
}

func asNumber(v any) (float64, bool) {
	switch x := reflect.ValueOf(v); x.Kind() {
	case reflect.Int, reflect.Int64:
		return float64(x.Int()), true
	case reflect.Uint64:
		return float64(x.Uint()), true
	case reflect.Float64:
		return x.Float(), true
	}
	return 0, false
}

func equal(a, b any) bool {
	x, ok := asNumber(a)
	y, ok2 := asNumber(b)
	if ok && ok2 {
		return x == y
	}
	return reflect.DeepEqual(a, b)
}

// leaf is a key of the config that holds a value.
type leaf struct {
	path  string // "training.steps".
	field reflect.Value
	node  *node
}

// leaves pairs the fields of a config with the schema, and fails where either
// has a key that the other lacks.
func leaves(t *testing.T, c *Config) []leaf {
	t.Helper()
	var out []leaf
	var walk func(v reflect.Value, n *node, at string)
	walk = func(v reflect.Value, n *node, at string) {
		if n.AdditionalProperties == nil || *n.AdditionalProperties {
			t.Errorf("schema allows unknown keys in %q; configs are strict", at)
		}
		seen := map[string]bool{}
		for i := range v.NumField() {
			key := strings.Split(v.Type().Field(i).Tag.Get("yaml"), ",")[0]
			path := strings.TrimPrefix(at+"."+key, ".")
			seen[key] = true
			p := n.Properties[key]
			switch {
			case p == nil:
				t.Errorf("schema lacks %s", path)
			case p.Description == "":
				t.Errorf("schema does not describe %s", path)
			case v.Field(i).Kind() == reflect.Struct:
				walk(v.Field(i), p, path)
			default:
				out = append(out, leaf{path, v.Field(i), p})
			}
		}
		for key := range n.Properties {
			if !seen[key] {
				t.Errorf("schema has %s.%s, which the config lacks", at, key)
			}
		}
	}
	walk(reflect.ValueOf(c).Elem(), parsedSchema(t), "")
	return out
}

func TestSchemaHasTheKeysAndDefaultsOfTheConfig(t *testing.T) {
	var c Config
	c.setDefaults()
	required := requiredKeys(parsedSchema(t), "")
	for _, l := range leaves(t, &c) {
		if l.node.Default == nil {
			if !slices.Contains(required, l.path) {
				t.Errorf("%s is neither required nor has a default", l.path)
			}
			continue
		}
		if slices.Contains(required, l.path) {
			t.Errorf("%s is required and has a default", l.path)
		}
		text, err := json.Marshal(l.field.Interface())
		if err != nil {
			t.Fatal(err)
		}
		var got any
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if got == nil {
			got = []any{}
		}
		if !equal(got, l.node.Default) {
			t.Errorf("schema says that %s is %v by default, the config has %v", l.path, l.node.Default, got)
		}
		if err := l.node.check(l.node.Default, l.path); err != nil {
			t.Errorf("the default is out of range: %v", err)
		}
	}
}

func requiredKeys(n *node, at string) []string {
	var out []string
	for _, key := range n.Required {
		path := strings.TrimPrefix(at+"."+key, ".")
		if p := n.Properties[key]; p.Type == "object" {
			out = append(out, requiredKeys(p, path)...)
		} else {
			out = append(out, path)
		}
	}
	return out
}

// set returns a good config, as YAML, with one key changed.
func set(t *testing.T, path string, value any) map[string]any {
	t.Helper()
	var root map[string]any
	if err := yaml.Unmarshal([]byte(goodConfig), &root); err != nil {
		t.Fatal(err)
	}
	at := root
	keys := strings.Split(path, ".")
	for _, key := range keys[:len(keys)-1] {
		if at[key] == nil {
			at[key] = map[string]any{}
		}
		at = at[key].(map[string]any)
	}
	if value == nil {
		delete(at, keys[len(keys)-1])
	} else {
		at[keys[len(keys)-1]] = value
	}
	return root
}

// Schema and ParseConfig take the same values of each key alone: at both ends
// of its range, beyond them, of other types, and missing.
func TestSchemaAgreesWithValidate(t *testing.T) {
	root := parsedSchema(t)
	// What needs two keys is Validate's alone.
	two := regexp.MustCompile(`below 1/data.examples|in \(0, data.examples|below the chance|training.steps = |below privacy.epsilon|warm_start needs|class_choice needs|teacher needs|teacher: expected batch|parts with a mixture|only edm has it|only ddim has it|has s_churn 0`)
	cases := 0
	for _, l := range leaves(t, new(Config)) {
		values := []any{nil, "", "x", "latent", "linear", -1, 0, 1, 2, 3, 27, 28, 32, 64, 65, 0.5, 1.5, 1e6, 1e7, 1e-101, -0.5, math.NaN(), math.Inf(1), true,
			[]any{}, []any{"a"}, []any{"a", "b"}, []any{"a", "a"}, []any{"a", ""}, []any{"a", "b/c"}, []any{"a", ".b"}, []any{1, 2}, map[string]any{}}
		for _, v := range values {
			config := set(t, l.path, v)
			bySchema := root.check(config, "config")
			text, err := yaml.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			_, byConfig := ParseConfig(text)
			if byConfig != nil && two.MatchString(byConfig.Error()) {
				continue
			}
			cases++
			if bySchema != nil && byConfig == nil && takesText(l) && !isText(v) {
				continue // YAML gives a text key the letters of a number; JSON Schema does not.
			}
			if (bySchema == nil) != (byConfig == nil) {
				t.Errorf("%s = %v: schema says %v, ParseConfig %v", l.path, v, bySchema, byConfig)
			}
		}
	}
	if cases < 800 {
		t.Errorf("only %d cases were compared", cases)
	}
}

func takesText(l leaf) bool {
	return l.field.Kind() == reflect.String || l.field.Kind() == reflect.Slice
}

func isText(v any) bool {
	list, ok := v.([]any)
	if ok {
		return !slices.ContainsFunc(list, func(e any) bool { return !isText(e) })
	}
	_, ok = v.(string)
	return ok
}

func TestRecipesFitTheSchema(t *testing.T) {
	names, err := filepath.Glob(filepath.Join("..", "recipes", "demo-*.yaml"))
	if err != nil || len(names) < 2 {
		t.Fatalf("recipes of the demo: %v, %v", names, err)
	}
	for _, name := range names {
		text, err := recipes.Files.ReadFile(filepath.Base(name))
		if err != nil {
			t.Fatal(err)
		}
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			t.Fatal(err)
		}
		if err := parsedSchema(t).check(v, name); err != nil {
			t.Error(err)
		}
		if _, err := ParseConfig(text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// docs/config.md has a line for each key, `| key | default | what |`, with the
// default of the schema.
func TestDocumentHasEveryKey(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "docs", "config.md"))
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_.]+)` \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		if _, twice := lines[m[1]]; twice {
			t.Errorf("docs/config.md has two lines for %s", m[1])
		}
		lines[m[1]] = strings.TrimSpace(m[2])
	}
	for _, l := range leaves(t, new(Config)) {
		want := "required"
		switch d := l.node.Default.(type) {
		case nil:
		case string:
			want = d
			if d == "" {
				want = "none"
			}
		case []any:
			want = "none"
		default:
			want = fmt.Sprint(d)
		}
		got, ok := lines[l.path]
		if !ok {
			t.Errorf("docs/config.md has no line for %s", l.path)
		} else if got != want && !strings.HasPrefix(got, want+" ") {
			t.Errorf("docs/config.md says %q for %s, want %q", got, l.path, want)
		}
		delete(lines, l.path)
	}
	for key := range lines {
		t.Errorf("docs/config.md has %s, which the config lacks", key)
	}
}
