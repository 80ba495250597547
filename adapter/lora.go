package adapter

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	. "github.com/gomlx/gomlx/core/graph" //nolint:staticcheck // graph code reads as formulas

	"github.com/scumble-dp/scumble/nn"
)

// LoRA is Low-Rank Adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685):
// beside a frozen layer y = W0·x it adds s·B·A·x, where A maps to Rank dimensions
// and B maps back, zero at the start. On a k×k convolution A is a k×k convolution
// and B a 1×1 one. [Config.Adapter] makes one.
//
// Parameters of the layer "to_q": to_q.lora_A.weight and to_q.lora_B.weight.
type LoRA struct {
	rank       int
	alpha      float64
	stabilized bool
	prefix     string // Before the names of layers, with its dot.
	targets    func(name string, dense bool) bool
	ranks      []pattern[int]
	alphas     []pattern[float64]
}

// pattern gives a value to the layers that a regular expression matches.
type pattern[T any] struct {
	name  *regexp.Regexp
	value T
}

// lora returns the adapter of a LoRA config.
func (c *Config) lora(prefix string) (*LoRA, error) {
	if c.Rank < 1 {
		return nil, fmt.Errorf("adapter rank is %d, want at least 1", c.Rank)
	}
	if !(c.Alpha >= 0) || math.IsInf(c.Alpha, 1) {
		return nil, fmt.Errorf("adapter alpha is %g, want positive and finite, or zero for the rank", c.Alpha)
	}
	l := &LoRA{rank: c.Rank, alpha: c.Alpha, stabilized: c.RankStabilized}
	if l.alpha == 0 {
		l.alpha = float64(c.Rank)
	}
	if prefix != "" {
		l.prefix = prefix + "."
	}
	if len(c.Targets) > 0 && c.TargetPattern != "" {
		return nil, fmt.Errorf("adapter has targets %q and the pattern %q, want one of them", c.Targets, c.TargetPattern)
	}
	matches := func(name string, _ bool) bool { return endsIn(name, c.Targets) }
	if c.TargetPattern == allLinear {
		matches = func(_ string, dense bool) bool { return dense }
	} else if c.TargetPattern != "" {
		whole, err := compile("target_modules", "^(?:"+c.TargetPattern+")$")
		if err != nil {
			return nil, err
		}
		matches = func(name string, _ bool) bool { return whole.MatchString(name) }
	}
	l.targets = func(name string, dense bool) bool { return !endsIn(name, c.Exclude) && matches(name, dense) }
	for _, text := range sortedKeys(c.RankPattern) {
		name, err := compile("rank_pattern", `^(?:.*\.)?(?:`+text+")$")
		if err != nil {
			return nil, err
		}
		if c.RankPattern[text] < 1 {
			return nil, fmt.Errorf("rank_pattern gives %q rank %d, want at least 1", text, c.RankPattern[text])
		}
		l.ranks = append(l.ranks, pattern[int]{name, c.RankPattern[text]})
	}
	for _, text := range sortedKeys(c.AlphaPattern) {
		name, err := compile("alpha_pattern", `^(?:.*\.)?(?:`+text+")$")
		if err != nil {
			return nil, err
		}
		if v := c.AlphaPattern[text]; !(v > 0) || math.IsInf(v, 1) {
			return nil, fmt.Errorf("alpha_pattern gives %q alpha %g, want positive and finite", text, v)
		}
		l.alphas = append(l.alphas, pattern[float64]{name, c.AlphaPattern[text]})
	}
	return l, nil
}

// allLinear is PEFT's word for every dense layer.
const allLinear = "all-linear"

func compile(key, text string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; Python's look-around is not implemented", key, err)
	}
	return re, nil
}

func sortedKeys[T any](m map[string]T) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// endsIn reports whether a name is one of the ends, or ends in a dot and one.
func endsIn(name string, ends []string) bool {
	return slices.ContainsFunc(ends, func(end string) bool { return name == end || strings.HasSuffix(name, "."+end) })
}

// of returns rank and scale of a layer.
func (l *LoRA) of(name string) (rank int, scale float64) {
	rank, alpha := l.rank, l.alpha
	for _, p := range l.ranks {
		if p.name.MatchString(name) {
			rank = p.value
			break
		}
	}
	for _, p := range l.alphas {
		if p.name.MatchString(name) {
			alpha = p.value
			break
		}
	}
	if l.stabilized { // Kalajdzievski 2023, https://arxiv.org/abs/2312.03732.
		return rank, alpha / math.Sqrt(float64(rank))
	}
	return rank, alpha / float64(rank)
}

// Adapt implements [nn.Adapter].
func (l *LoRA) Adapt(s *nn.Scope, layer nn.Target, x, y *Node) *Node {
	name, ok := strings.CutPrefix(layer.Path, l.prefix)
	if !ok || !l.targets(name, layer.Conv == nil) {
		return y
	}
	rank, scale := l.of(name)
	return Add(y, branch(s, layer, x, rank, scale, LinearCore))
}
