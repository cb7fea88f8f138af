package report

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Name says in words what the rows of a group have in common.
func (k Key) Name() string {
	name := ""
	if k.Scenario != "" {
		name = oneLine(k.Scenario) + ": "
	}
	name += fmt.Sprintf("%s, %s %s, %s, %s", k.Flow, k.Endpoint, k.Role, count(k.Mediators, "mediator"), bytesOf(k.ContentBytes))
	if k.Content > 1 {
		name += fmt.Sprintf(", content %d", k.Content)
	}
	return name
}

// oneLine keeps what somebody wrote into a table from moving the cursor.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, text)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// bytesOf says a length in decimal units.
func bytesOf(n int64) string {
	for _, unit := range []struct {
		name  string
		bytes int64
	}{{"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}} {
		if n >= unit.bytes {
			return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/float64(unit.bytes)), ".0") + " " + unit.name
		}
	}
	return count(int(n), "byte")
}

// Table prints the groups for people. Where rtt is not 0, medians are also said in round trips of that length.
func Table(out io.Writer, groups []*Group, rtt time.Duration) error {
	var text bytes.Buffer
	for _, g := range groups {
		g.head(&text)
		if len(g.Phases) == 0 {
			continue
		}
		g.block(&text, "since started", rtt, func(p Phase) *Times { return p.SinceStarted })
		g.block(&text, "since mediator_open", rtt, func(p Phase) *Times { return p.SinceMediatorOpen })
		g.block(&text, "step: since the phase before", rtt, func(p Phase) *Times { return p.Step })
	}
	if len(groups) > 0 {
		text.WriteString("Times in milliseconds, of what is complete. In brackets the 95 % confidence interval of the percentile, by order\n" +
			"statistics and the binomial distribution (Hahn and Meeker 1991, 5.2; Le Boudec 2010, 2.1); -: too few values for that end.\n")
	}
	_, err := out.Write(text.Bytes())
	return err
}

// head says what a group is, and how much of it came to something.
func (g *Group) head(text *bytes.Buffer) {
	all := g.Complete + g.Failed + g.Skipped
	fmt.Fprintf(text, "%s\n%d of %d complete", g.Name(), g.Complete, all)
	if g.Failed > 0 {
		fmt.Fprintf(text, ", %d failed", g.Failed)
	}
	if g.Skipped > 0 {
		fmt.Fprintf(text, ", %d skipped", g.Skipped)
	}
	if len(g.Errors) > 0 {
		var parts []string
		for _, code := range slices.Sorted(maps.Keys(g.Errors)) {
			parts = append(parts, fmt.Sprintf("%s %d", code, g.Errors[code]))
		}
		fmt.Fprintf(text, " (%s)", strings.Join(parts, ", "))
	}
	text.WriteString("\n\n")
}

// block prints one kind of times.
func (g *Group) block(text *bytes.Buffer, title string, rtt time.Duration, of func(Phase) *Times) {
	if !slices.ContainsFunc(g.Phases, func(p Phase) bool { return of(p) != nil }) {
		return
	}
	head := fmt.Sprintf("  %-28s %5s  %-26s  %-26s  %-26s", title, "n", "p50", "p90", "p99")
	if rtt > 0 {
		head += "  p50 in round trips"
	}
	text.WriteString(strings.TrimRight(head, " ") + "\n")
	for _, phase := range g.Phases {
		t := of(phase)
		if t == nil {
			continue
		}
		line := fmt.Sprintf("    %-26s %5d  %-26s  %-26s  %-26s", phase.Phase, t.N, t.P50, t.P90, t.P99)
		if rtt > 0 {
			line += fmt.Sprintf("  %6.2f", t.P50.Value/Milliseconds(rtt))
		}
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	text.WriteString("\n")
}

// String says the percentile with its interval.
func (q Quantile) String() string {
	end := func(value *float64) string {
		if value == nil {
			return "-"
		}
		return fmt.Sprintf("%.1f", *value)
	}
	return fmt.Sprintf("%.1f [%s, %s]", q.Value, end(q.Low), end(q.High))
}
