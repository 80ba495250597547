package eval

import (
	"fmt"
	"slices"
)

// Metric names a group of figures.
type Metric string

const (
	MetricFID Metric = "fid" // Fréchet distance.
	MetricKID Metric = "kid" // Kernel distance.
	MetricIS  Metric = "is"  // Inception score; of the synthetic images alone.
	MetricPRC Metric = "prc" // Precision, recall and their F-score.
	MetricDC  Metric = "dc"  // Density and coverage.
	MetricFLD Metric = "fld" // Feature likelihood divergence.
)

// Metrics lists all of them.
func Metrics() []Metric {
	return []Metric{MetricFID, MetricKID, MetricIS, MetricPRC, MetricDC, MetricFLD}
}

// FidelityOptions of [Compare]. The zero value is torch-fidelity's defaults, and
// all metrics.
type FidelityOptions struct {
	Metrics    []Metric // Nil means all that the features allow.
	KID        KIDOptions
	ISCSplits  int // Zero means 10, or as many as there are images.
	Neighbours int // Of precision and recall. Zero means 3.
	DCNearest  int // Of density and coverage. Zero means 5.
}

// Fidelity holds the distances between two sets of images, under torch-fidelity's
// names where it has them. A nil figure was not asked for or could not be had;
// Notes says why.
type Fidelity struct {
	FID       *float64 `json:"frechet_inception_distance,omitempty"`
	KIDMean   *float64 `json:"kernel_inception_distance_mean,omitempty"`
	KIDStd    *float64 `json:"kernel_inception_distance_std,omitempty"`
	ISMean    *float64 `json:"inception_score_mean,omitempty"`
	ISStd     *float64 `json:"inception_score_std,omitempty"`
	Precision *float64 `json:"precision,omitempty"`
	Recall    *float64 `json:"recall,omitempty"`
	FScore    *float64 `json:"f_score,omitempty"`
	Density   *float64 `json:"density,omitempty"`
	Coverage  *float64 `json:"coverage,omitempty"`
	FLD       *float64 `json:"feature_likelihood_divergence,omitempty"`

	Settings FidelitySettings `json:"settings"`
	Notes    []string         `json:"notes,omitempty"`
}

// FidelitySettings are what a figure must be compared at.
type FidelitySettings struct {
	SyntheticImages int     `json:"synthetic_images"`
	ReferenceImages int     `json:"reference_images"`
	Network         Network `json:"network"`
	KIDSubsets      int     `json:"kid_subsets,omitempty"`
	KIDSubsetSize   int     `json:"kid_subset_size,omitempty"`
	ISCSplits       int     `json:"isc_splits,omitempty"`
	Neighbours      int     `json:"prc_neighborhood,omitempty"`
	DCNearest       int     `json:"density_coverage_nearest,omitempty"`
}

// Network says where features came from.
type Network struct {
	Name   string `json:"name"`             // "glyphs-features", "inception-v3" or "features from a file".
	SHA256 string `json:"sha256,omitempty"` // Of the file of weights, in hex.
	Dim    int    `json:"dimensions"`
	Resize Resize `json:"resize,omitempty"`
	Pixels int    `json:"pixels,omitempty"` // Height and width that the network sees.
}

// OfSyntheticAlone reports whether the metric looks at no reference image, so
// that for images drawn from a private model it is post-processing.
func (m Metric) OfSyntheticAlone() bool { return m == MetricIS }

// Compare computes the metrics asked for, synthetic images against reference
// ones. A metric that was asked for by name and cannot be had is an error; with
// nil Metrics it is left out with a note.
func Compare(synthetic, reference *Features, o FidelityOptions) (*Fidelity, error) {
	if err := checkPair(synthetic, reference); err != nil {
		return nil, err
	}
	named := o.Metrics != nil
	if !named {
		o.Metrics = Metrics()
	}
	out := &Fidelity{Settings: FidelitySettings{SyntheticImages: synthetic.Rows, ReferenceImages: reference.Rows, Network: Network{Dim: synthetic.Dim}}}
	for _, m := range Metrics() {
		if !slices.Contains(o.Metrics, m) {
			continue
		}
		if err := out.add(m, synthetic, reference, o); err != nil {
			if named {
				return nil, fmt.Errorf("%s: %w", m, err)
			}
			out.Notes = append(out.Notes, fmt.Sprintf("%s left out: %v", m, err))
		}
	}
	for _, m := range o.Metrics {
		if !slices.Contains(Metrics(), m) {
			return nil, fmt.Errorf("metric %q, want some of %q: %w", m, Metrics(), ErrInvalid)
		}
	}
	return out, nil
}

func (f *Fidelity) add(m Metric, synthetic, reference *Features, o FidelityOptions) error {
	s := &f.Settings
	switch m {
	case MetricFID:
		v, err := FID(synthetic, reference)
		if err != nil {
			return err
		}
		f.FID = &v
		if n := min(synthetic.Rows, reference.Rows); n <= synthetic.Dim {
			f.Notes = append(f.Notes, fmt.Sprintf("fid of %d images with %d features is biased upwards; compare it only at equal numbers", n, synthetic.Dim))
		}
	case MetricKID:
		k := o.KID.withDefaults(synthetic, reference)
		mean, std, err := KID(synthetic, reference, k)
		if err != nil {
			return err
		}
		f.KIDMean, f.KIDStd, s.KIDSubsets, s.KIDSubsetSize = &mean, &std, k.Subsets, k.SubsetSize
	case MetricIS:
		splits := o.ISCSplits
		if splits == 0 {
			splits = min(10, synthetic.Rows)
		}
		mean, std, err := InceptionScore(synthetic, splits)
		if err != nil {
			return err
		}
		f.ISMean, f.ISStd, s.ISCSplits = &mean, &std, splits
	case MetricPRC:
		pr, err := NewPrecisionRecall(synthetic, reference, o.Neighbours)
		if err != nil {
			return err
		}
		f.Precision, f.Recall, f.FScore, s.Neighbours = &pr.Precision, &pr.Recall, &pr.FScore, orInt(o.Neighbours, 3)
	case MetricDC:
		dc, err := NewDensityCoverage(synthetic, reference, o.DCNearest)
		if err != nil {
			return err
		}
		f.Density, f.Coverage, s.DCNearest = &dc.Density, &dc.Coverage, orInt(o.DCNearest, 5)
	case MetricFLD:
		v, err := FLDOfSplit(synthetic, reference)
		if err != nil {
			return err
		}
		f.FLD = &v
	}
	return nil
}

// Figure is one number of a Fidelity.
type Figure struct {
	Name   string // As in JSON.
	Metric Metric
	Value  float64
}

// Figures lists the numbers there are, in the order of the fields.
func (f *Fidelity) Figures() []Figure {
	var list []Figure
	for _, e := range []struct {
		name   string
		metric Metric
		value  *float64
	}{
		{"frechet_inception_distance", MetricFID, f.FID},
		{"kernel_inception_distance_mean", MetricKID, f.KIDMean},
		{"kernel_inception_distance_std", MetricKID, f.KIDStd},
		{"inception_score_mean", MetricIS, f.ISMean},
		{"inception_score_std", MetricIS, f.ISStd},
		{"precision", MetricPRC, f.Precision},
		{"recall", MetricPRC, f.Recall},
		{"f_score", MetricPRC, f.FScore},
		{"density", MetricDC, f.Density},
		{"coverage", MetricDC, f.Coverage},
		{"feature_likelihood_divergence", MetricFLD, f.FLD},
	} {
		if e.value != nil {
			list = append(list, Figure{e.name, e.metric, *e.value})
		}
	}
	return list
}

// byName maps the JSON names to the figures.
func (f *Fidelity) byName() map[string]*float64 {
	out := map[string]*float64{}
	for _, e := range f.Figures() {
		out[e.Name] = &e.Value
	}
	return out
}
