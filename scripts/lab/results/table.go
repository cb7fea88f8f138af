package results

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"p2pcdn/common/timeline"
	"p2pcdn/scripts/lab/plan"
)

// WriteTrips writes the round trips between hosts for people.
func WriteTrips(to io.Writer, pairs []Pair) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "round trip\tlinks\tmeasured: least\tmedian\tp99\tmost\tn\tlost\t")
	for _, p := range pairs {
		if p.Lost == p.N {
			fmt.Fprintf(w, "%s → %s\t%.3f ms\t–\t–\t–\t–\t%d\t%d\t\n", p.From, p.To, p.Link, p.N, p.Lost)
			continue
		}
		fmt.Fprintf(w, "%s → %s\t%.3f ms\t%.3f ms\t%.3f ms\t%.3f ms\t%.3f ms\t%d\t%d\t\n", p.From, p.To, p.Link, p.Least, p.Median, p.P99, p.Most, p.N, p.Lost)
	}
	return w.Flush()
}

// told are the phases that the table has columns for.
var told = []timeline.Phase{timeline.Announced, timeline.PeersNamed, timeline.ChannelOpen, timeline.FirstPiece, timeline.Complete}

// WriteGroups writes what became of the runs for people: medians in milliseconds, and in round trips.
func WriteGroups(to io.Writer, groups []Group) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "run\tcontent\tcomplete\tfailed\tround trip\tsince\t")
	for _, phase := range told {
		fmt.Fprintf(w, "%s\t", phase)
	}
	fmt.Fprintln(w)
	for _, g := range groups {
		if g.Complete+g.Failed+g.Skipped == 0 {
			continue // it was not its turn
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%.1f ms\t%s\t", g.Run, g.Content, g.Complete, g.Failed+g.Skipped, g.RoundTrip, g.From)
		for _, phase := range told {
			if f, measured := g.To[phase]; measured {
				fmt.Fprintf(w, "%.1f ms = %.1f\t", f.MS, f.RoundTrips)
			} else {
				fmt.Fprint(w, "–\t")
			}
		}
		fmt.Fprintln(w)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, g := range groups {
		if len(g.Errors) == 0 {
			continue
		}
		var errors []string
		for _, code := range slices.Sorted(maps.Keys(g.Errors)) {
			errors = append(errors, fmt.Sprintf("%d × %s", g.Errors[code], code))
		}
		if _, err := fmt.Fprintf(to, "%s, content %d: %s\n", g.Run, g.Content, strings.Join(errors, ", ")); err != nil {
			return err
		}
	}
	return nil
}

// WriteVerdicts writes for people what must be reached, and whether it is.
func WriteVerdicts(to io.Writer, verdicts []Verdict) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "must\tn\tmeasured\tat most\tmoonshot\tresult")
	for _, v := range verdicts {
		measured, moonshot := "–", "–"
		if v.Result != Unknown {
			measured = show(v.Measured, v.Unit)
			if v.Unit != plan.Milliseconds {
				measured += fmt.Sprintf(" (%.0f ms)", v.MS)
			}
		}
		if v.Must.Moonshot != nil {
			moonshot = show(v.Moonshot, v.Unit)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", v.What, v.N, measured, show(v.AtMost, v.Unit), moonshot, v.Result)
	}
	return w.Flush()
}

func show(value float64, unit plan.Unit) string {
	switch unit {
	case plan.RoundTrips:
		return fmt.Sprintf("%.1f round trips", value)
	case plan.Ratio:
		return fmt.Sprintf("%.2f ×", value)
	}
	return fmt.Sprintf("%.0f ms", value)
}
