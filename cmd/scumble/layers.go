package main

import (
	"fmt"
	"text/tabwriter"

	"github.com/gomlx/compute"
	"github.com/spf13/cobra"

	"github.com/scumble-dp/scumble/dpsgd"
	"github.com/scumble-dp/scumble/finetune"
	"github.com/scumble-dp/scumble/nn"
)

// layered is the model of a plan.
type layered interface {
	Layers(backend compute.Backend, lowering nn.Lowering, plan *finetune.Plan) ([]dpsgd.LayerCost, error)
}

// printLayers writes how each trainable layer of a plan is clipped, and what
// that adds to ordinary training, per example.
func printLayers(c *cobra.Command, s *session, plan *finetune.Plan, model layered, asJSON bool) error {
	layers, err := model.Layers(s.backend, s.lowering, plan)
	if err != nil {
		return err
	}
	total := struct {
		Parameters    int     `json:"parameters"`
		GradientFlops float64 `json:"gradient_flops"`
		AddedFlops    float64 `json:"added_flops"`
		AddedBytes    float64 `json:"added_bytes"`
	}{}
	for _, l := range layers {
		flops, bytes := l.Added()
		total.Parameters += l.Parameters
		total.GradientFlops += l.GradientFlops
		total.AddedFlops += flops
		total.AddedBytes += bytes
	}
	if asJSON {
		return printJSON(c, struct {
			Backend      string            `json:"backend"`
			Multiplicity int               `json:"multiplicity"`
			Layers       []dpsgd.LayerCost `json:"layers"`
			Total        any               `json:"total"`
		}{s.info.Name, plan.Multiplicity, layers, total})
	}
	w := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "rows\tin\tout\tparameters\tgradient MFLOP\tghost adds\texplicit adds\texplicit KiB\trule\t  kind, layer")
	choice := func(l *dpsgd.LayerCost, v float64) string {
		if l.Rule == dpsgd.Direct || l.Rule == dpsgd.OneRow {
			return "-"
		}
		return fmt.Sprintf("%.3g", v)
	}
	for _, l := range layers {
		fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%.3g\t%s\t%s\t%s\t%s\t  %s, %s\n", l.Rows, l.In, l.Out, l.Parameters, l.GradientFlops/1e6,
			choice(&l, l.GhostFlops/1e6), choice(&l, l.ExplicitFlops/1e6), choice(&l, l.ExplicitBytes/1024), l.Rule, l.Kind, l.Path)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), `
Per example of %d draws, on backend %s: %d layers, %d parameters. Their ordinary gradients take %.4g MFLOP;
clipping adds %.4g MFLOP and %.4g KiB. Rows are positions times draws.
`, plan.Multiplicity, s.info.Name, len(layers), total.Parameters, total.GradientFlops/1e6, total.AddedFlops/1e6, total.AddedBytes/1024)
	return err
}
