package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"p2pcdn/common/timeline"
)

const (
	// viewWidth is how many columns the view takes: those that every terminal has, but for the last.
	viewWidth = 79

	// barWidth is how many of them the bar has.
	barWidth = 60

	// maxBars bounds the bars: the first content of a pair, and the next one over the same connection.
	maxBars = 2
)

// shades tell the steps of a bar apart, without colours; each stands before its step's name, too.
var shades = []rune("█▒▓░")

// View shows how a run goes: on a terminal a few lines that are redrawn when something happened, and elsewhere a
// line for each introduction. It is used by one goroutine at a time.
type View struct {
	out      io.Writer
	terminal bool
	title    string
	lines    int                          // that stand on the terminal, to be drawn over
	last     []*timeline.Row              // of the introduction that ended last, as many as there is room for
	at       int                          // the introduction that was begun last
	medians  map[timeline.Phase][]float64 // since started, sorted, of what is complete
}

// NewView returns a View with a title of one line.
func NewView(out io.Writer, terminal bool, title string) *View {
	v := &View{out: out, terminal: terminal, title: title, medians: make(map[timeline.Phase][]float64)}
	if !terminal {
		fmt.Fprintln(out, title)
	}
	return v
}

// Began says that an introduction begins.
func (v *View) Began(index, complete, failed, all int) {
	v.at = index
	v.draw(complete, failed, all)
}

// Ended says how an introduction ended: with these rows of its leecher, one for each content.
func (v *View) Ended(rows []*timeline.Row, complete, failed, all int) {
	v.last = v.last[:0]
	for _, row := range rows {
		if row.Outcome == timeline.Skipped {
			continue // the row before says why
		}
		if len(v.last) < maxBars {
			v.last = append(v.last, row)
		}
		v.note(row)
		if !v.terminal {
			which := ""
			if len(rows) > 1 {
				which = fmt.Sprintf(", content %d", row.Content)
			}
			fmt.Fprintf(v.out, "%d of %d%s: %s\n", complete+failed, all, which, v.line(row))
		}
	}
	v.draw(complete, failed, all)
}

// note adds the row to what the medians are of: the first contents.
func (v *View) note(row *timeline.Row) {
	if row.Outcome != timeline.Done || row.Content > 1 {
		return
	}
	for phase, at := range row.Stamps {
		sorted := v.medians[phase]
		place, _ := slices.BinarySearch(sorted, Milliseconds(at))
		v.medians[phase] = slices.Insert(sorted, place, Milliseconds(at))
	}
}

// line says in one line how an introduction ended.
func (v *View) line(row *timeline.Row) string {
	text := ""
	if row.Outcome == timeline.Done {
		text = "complete:"
	} else {
		text = fmt.Sprintf("%s (%s): %s", row.Outcome, row.ErrorCode, oneLine(row.Error))
		if len(row.Stamps) > 1 {
			text += "; until then:"
		}
	}
	for _, phase := range Order(row.Stamps) {
		if phase != timeline.Started {
			text += fmt.Sprintf(" %s %.1f", phase, Milliseconds(row.Stamps[phase]))
		}
	}
	return text
}

// draw draws the lines anew.
func (v *View) draw(complete, failed, all int) {
	if !v.terminal {
		return
	}
	lines := []string{v.title, fmt.Sprintf("%d of %d complete, %d failed; introducing pair %d", complete, all, failed, v.at)}
	if complete+failed == all {
		lines[1] = fmt.Sprintf("%d of %d complete, %d failed", complete, all, failed)
	}
	for _, row := range v.last {
		lines = append(lines, v.bar(row)...)
	}
	if len(v.medians) > 0 {
		lines = append(lines, "medians so far, in ms:")
		medians := make(timeline.Stamps)
		for phase, sorted := range v.medians {
			medians[phase] = time.Duration(Percentile(sorted, 0.5) * float64(time.Millisecond))
		}
		var parts []string
		for _, phase := range Order(medians)[1:] {
			parts = append(parts, fmt.Sprintf("%s %.1f", phase, Milliseconds(medians[phase])))
		}
		lines = append(lines, wrap(parts, "  ")...)
	}
	v.erase()
	for _, line := range lines {
		fmt.Fprintln(v.out, cutTo(line, viewWidth))
	}
	v.lines = len(lines)
}

// erase takes the lines away, so that others can be printed.
func (v *View) erase() {
	if v.lines > 0 {
		fmt.Fprintf(v.out, "\x1b[%dA\x1b[J", v.lines) // up, and erase to the end (ECMA-48: CUU, ED)
		v.lines = 0
	}
}

// End takes the view away from a terminal, but for the title: what follows says more.
func (v *View) End() {
	v.erase()
	if v.terminal {
		fmt.Fprintln(v.out, v.title)
	}
}

// bar draws a row: its steps to scale, and what they are.
func (v *View) bar(row *timeline.Row) []string {
	order := Order(row.Stamps)
	if row.Outcome != timeline.Done || len(order) < 2 {
		return wrap(strings.Fields(fmt.Sprintf("pair %d: %s", row.Index, v.line(row))), "")
	}
	total := row.Stamps[order[len(order)-1]]
	var bar strings.Builder
	var parts []string
	drawn := 0
	for i, phase := range order[1:] {
		shade := shades[i%len(shades)]
		end := barWidth
		if total > 0 {
			end = int((row.Stamps[phase]*barWidth + total/2) / total)
		}
		bar.WriteString(strings.Repeat(string(shade), max(0, end-drawn)))
		drawn = max(drawn, end)
		parts = append(parts, fmt.Sprintf("%c %s +%.1f", shade, phase, Milliseconds(row.Stamps[phase]-row.Stamps[order[i]])))
	}
	return append([]string{fmt.Sprintf("%s %.1f ms", bar.String(), Milliseconds(total))}, wrap(parts, "  ")...)
}

// wrap puts the parts into lines.
func wrap(parts []string, indent string) (lines []string) {
	line := ""
	for _, part := range parts {
		if line != "" && len([]rune(line))+2+len([]rune(part)) > viewWidth {
			lines, line = append(lines, line), ""
		}
		switch {
		case line == "":
			line = indent + part
		case indent == "":
			line += " " + part
		default:
			line += "  " + part
		}
	}
	return append(lines, line)
}

func cutTo(text string, width int) string {
	if runes := []rune(text); len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return text
}
