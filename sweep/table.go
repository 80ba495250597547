package sweep

import (
	"fmt"
	"math"
	"strings"
)

// Result of one run.
type Result struct {
	Row                 string    `json:"row"`
	Setting             string    `json:"setting"`                  // Hash of the row's config: a changed row is run again.
	Repeat              int       `json:"repeat"`                   // From 1.
	Epsilon             float64   `json:"epsilon"`                  // Of the run's ledger; 0 of the public model.
	EpsilonSecond       float64   `json:"epsilon_second,omitempty"` // By the second count; 0 where that did not settle.
	Accuracy            float64   `json:"accuracy"`
	PerClass            []float64 `json:"per_class"`
	FID                 *float64  `json:"fid,omitempty"`
	KID                 *float64  `json:"kid,omitempty"`
	TrainableParameters int       `json:"trainable_parameters"`
	Seconds             float64   `json:"seconds"` // Of the fine-tuning.
}

// Summary of a row.
type Summary struct {
	Row                 string    `json:"row"`
	Accuracies          []float64 `json:"accuracies"`
	Mean                float64   `json:"mean"`
	Worst               float64   `json:"worst"`
	Difference          float64   `json:"difference"`       // Mean less that of the first row.
	StandardError       float64   `json:"difference_error"` // Of the difference; 0 where one of the two was run once.
	TrainableParameters int       `json:"trainable_parameters"`
	Epsilon             float64   `json:"epsilon"`                  // The largest.
	EpsilonSecond       float64   `json:"epsilon_second,omitempty"` // The largest.
	FID                 *float64  `json:"fid,omitempty"`            // Mean, as of KID.
	KID                 *float64  `json:"kid,omitempty"`
	Seconds             float64   `json:"seconds"` // Mean.
}

// Summarise puts the results of each row together, in the order of the rows. Rows without
// a result are left out.
func Summarise(rows []Row, results []Result) []Summary {
	var all []Summary
	for _, row := range rows {
		s := Summary{Row: row.Name, Worst: math.Inf(1)}
		var fids, kids []float64
		for _, r := range results {
			if r.Row != row.Name {
				continue
			}
			s.Accuracies = append(s.Accuracies, r.Accuracy)
			s.Worst, s.Epsilon = min(s.Worst, r.Accuracy), max(s.Epsilon, r.Epsilon)
			s.EpsilonSecond = max(s.EpsilonSecond, r.EpsilonSecond)
			if r.FID != nil && r.KID != nil {
				fids, kids = append(fids, *r.FID), append(kids, *r.KID)
			}
			s.Seconds += r.Seconds
			s.TrainableParameters = r.TrainableParameters
		}
		n := float64(len(s.Accuracies))
		if n == 0 {
			continue
		}
		s.Seconds /= n
		if len(fids) > 0 {
			fid, _ := moments(fids)
			kid, _ := moments(kids)
			s.FID, s.KID = &fid, &kid
		}
		var variance float64
		s.Mean, variance = moments(s.Accuracies)
		if len(all) > 0 {
			first, v := moments(all[0].Accuracies)
			s.Difference = s.Mean - first
			if m := float64(len(all[0].Accuracies)); m > 1 && n > 1 {
				s.StandardError = math.Sqrt(v/m + variance/n)
			}
		}
		all = append(all, s)
	}
	return all
}

// moments returns the mean and the unbiased variance, 0 of a single value.
func moments(values []float64) (mean, variance float64) {
	n := float64(len(values))
	for _, v := range values {
		mean += v / n
	}
	if n < 2 {
		return mean, 0
	}
	for _, v := range values {
		variance += (v - mean) * (v - mean) / (n - 1)
	}
	return mean, variance
}

// Table is the summaries as Markdown. FID and KID have columns if any row has them.
func Table(all []Summary) string {
	metrics := false
	for _, s := range all {
		metrics = metrics || s.FID != nil
	}
	var b strings.Builder
	line := func(cells ...string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	head := []string{"", "epsilon (second count)", "accuracy: mean", "worst", "each run", "against the first row"}
	if metrics {
		head = append(head, "FID", "KID")
	}
	head = append(head, "trained parameters", "fine-tuning")
	line(head...)
	b.WriteString(strings.Repeat("|---", len(head)) + "|\n")
	for i, s := range all {
		epsilon := fmt.Sprintf("%g", above(s.Epsilon))
		if s.EpsilonSecond > 0 {
			epsilon += fmt.Sprintf(" (%g)", above(s.EpsilonSecond))
		}
		var each []string
		for _, a := range s.Accuracies {
			each = append(each, fmt.Sprintf("%.1f", 100*a))
		}
		against := ""
		if i > 0 {
			against = fmt.Sprintf("%+.1f", 100*s.Difference)
			if s.StandardError > 0 {
				against += fmt.Sprintf(" ± %.1f", 100*s.StandardError)
			}
		}
		cells := []string{s.Row, epsilon, fmt.Sprintf("%.1f %%", 100*s.Mean), fmt.Sprintf("%.1f", 100*s.Worst), strings.Join(each, ", "), against}
		switch {
		case metrics && s.FID != nil:
			cells = append(cells, fmt.Sprintf("%.2f", *s.FID), fmt.Sprintf("%.4f", *s.KID))
		case metrics:
			cells = append(cells, "", "")
		}
		line(append(cells, fmt.Sprint(s.TrainableParameters), fmt.Sprintf("%.0f s", s.Seconds))...)
	}
	return b.String()
}

// above rounds up to a hundredth: a claim is never shown smaller than it is.
func above(epsilon float64) float64 { return max(0, math.Ceil(epsilon*100-1e-6)) / 100 }
