package audit

import (
	"math"
	"slices"
)

// ROC says how well scores tell members from others; higher scores mean members.
type ROC struct {
	Members    int     `json:"members"`
	NonMembers int     `json:"non_members"`
	AUC        float64 `json:"auc"`          // Chance that a member scores higher than another; ties count half.
	AUCLow     float64 `json:"auc_low"`      // 95 % interval, DeLong et al. 1988.
	AUCHigh    float64 `json:"auc_high"`     //
	At         []Rate  `json:"at,omitempty"` // Where there are enough non-members to measure.
}

// Rate is the share of members that a threshold recognises at a share of false
// alarms.
type Rate struct {
	FalsePositiveRate float64 `json:"false_positive_rate"`
	TruePositiveRate  float64 `json:"true_positive_rate"`
	Low               float64 `json:"low"` // 95 % interval, Clopper-Pearson, for the threshold as it came out.
	High              float64 `json:"high"`
}

// Covers says whether the interval of the AUC holds 0.5: no better than a coin.
func (r *ROC) Covers() bool { return r.AUCLow <= 0.5 && r.AUCHigh >= 0.5 }

// NewROC computes the curve's figures. The interval of the AUC is DeLong's
// (https://doi.org/10.2307/2531595) on the logit scale, so that it stays within
// [0, 1]; where scores are separated it has no width, and the share of one pair in
// all is taken for the distance from the end.
func NewROC(members, others []float64) *ROC {
	m, n := float64(len(members)), float64(len(others))
	r := &ROC{Members: len(members), NonMembers: len(others)}
	if m == 0 || n == 0 {
		r.AUC, r.AUCLow, r.AUCHigh = 0.5, 0, 1
		return r
	}
	// Each score's share of the other side that it beats.
	above := placements(members, others)
	below := placements(others, members)
	r.AUC = mean(above)
	variance := spread(above)/m + spread(below)/n
	edge := 1 / (m * n)
	auc := min(1-edge, max(edge, r.AUC))
	z := normalQuantile(0.025) * max(math.Sqrt(variance), edge) / (auc * (1 - auc))
	logit := math.Log(auc / (1 - auc))
	r.AUCLow, r.AUCHigh = min(r.AUC, sigmoid(logit-z)), max(r.AUC, sigmoid(logit+z))

	sorted := slices.Clone(others)
	slices.Sort(sorted)
	for _, rate := range []float64{0.01, 0.001} {
		allowed := int(rate * n)
		if allowed < 1 {
			continue // Too few others to know.
		}
		threshold := sorted[len(sorted)-1-allowed]
		hits := 0
		for _, s := range members {
			if s > threshold {
				hits++
			}
		}
		r.At = append(r.At, Rate{FalsePositiveRate: rate, TruePositiveRate: float64(hits) / m,
			Low: lowerShare(hits, len(members), 0.025), High: upperShare(hits, len(members), 0.025)})
	}
	return r
}

// Above returns the rates that no test of an (epsilon, delta)-private model can
// have, whatever its threshold: the true positive rate is above
// e^epsilon·(false positive rate) + delta by more than chance explains, which is one
// in a million.
func (r *ROC) Above(epsilon, delta float64) []Rate {
	var out []Rate
	for _, at := range r.At {
		hits := int(math.Round(at.TruePositiveRate * float64(r.Members)))
		alarms := int(at.FalsePositiveRate * float64(r.NonMembers))
		most := math.Exp(epsilon)*upperShare(alarms, r.NonMembers, alarm/2) + delta
		if lowerShare(hits, r.Members, alarm/2) > most {
			out = append(out, at)
		}
	}
	return out
}

// placements returns for each score the share of others below it, ties half.
func placements(scores, others []float64) []float64 {
	sorted := slices.Clone(others)
	slices.Sort(sorted)
	out := make([]float64, len(scores))
	for i, s := range scores {
		low, _ := slices.BinarySearch(sorted, s)
		high := low
		for high < len(sorted) && sorted[high] == s {
			high++
		}
		out[i] = float64(low+high) / 2 / float64(len(sorted))
	}
	return out
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v
	}
	return sum / float64(len(x))
}

// spread is the variance with divisor n-1; 0 for one value.
func spread(x []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	m, sum := mean(x), 0.0
	for _, v := range x {
		sum += (v - m) * (v - m)
	}
	return sum / float64(len(x)-1)
}
