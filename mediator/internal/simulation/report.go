package simulation

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// figure is one number of a result, under a name for people and one for programs.
type figure struct {
	name   string  // with the unit
	column string  // of results.csv
	value  float64 // NaN: there is none
	digits int     // behind the point, in the table
}

// figures are all numbers of a result.
func (r *Result) figures() []figure {
	ok, low, high := r.Success()
	part := math.NaN()
	if len(r.Lookups) > 0 {
		part = float64(ok) / float64(len(r.Lookups))
	}
	ms := func(sorted []time.Duration, part float64) float64 {
		if len(sorted) == 0 {
			return math.NaN()
		}
		return milliseconds(quantile(sorted, part))
	}
	out := []figure{
		{"mediators", "mediators", float64(r.Config.Mediators), 0},
		{"of these died, and were replaced", "died", float64(r.Departed), 0},
		{"lookups", "lookups", float64(len(r.Lookups)), 0},
		{"success, %", "success_percent", 100 * part, 2},
		{"95 % confidence interval, from, %", "success_low_percent", 100 * low, 2},
		{"95 % confidence interval, to, %", "success_high_percent", 100 * high, 2},
	}
	for _, of := range []struct {
		name, column string
		get          func(Lookup) time.Duration
	}{
		{"record found in the DHT", "in_dht", inDHT},
		{"living seeder named to the leecher", "named", found},
		{"its answer to a signal", "answered", reached},
	} {
		times := r.times(of.get)
		for _, q := range []float64{.5, .9, .99} {
			percent := strconv.Itoa(int(math.Round(100 * q)))
			out = append(out, figure{of.name + ", " + percent + " % within, ms", of.column + "_p" + percent + "_ms", ms(times, q), 0})
		}
	}
	hops := r.hops()
	var announces []time.Duration
	announces = append(announces, r.Announces...)
	sortDurations(announces)
	var queries, dials, failed, stale []int
	for _, l := range r.Lookups {
		queries, dials, failed, stale = append(queries, l.Queries), append(dials, l.Dials), append(failed, l.Failed), append(stale, l.Stale)
	}
	return append(out,
		figure{"hops, median", "hops_p50", float64(quantile(hops, .5)), 0},
		figure{"hops, 99 % within", "hops_p99", float64(quantile(hops, .99)), 0},
		figure{"hops, mean", "hops_mean", mean(hops), 2},
		figure{"queries of a search, mean", "search_queries_mean", mean(queries), 1},
		figure{"dials of a search, mean", "search_dials_mean", mean(dials), 2},
		figure{"queries and dials of a search that fail, mean", "search_failed_mean", mean(failed), 3},
		figure{"dead mediators found by a search, mean", "search_stale_mean", mean(stale), 3},
		figure{"announce → announced, median, ms", "announce_p50_ms", ms(announces, .5), 0},
		figure{"announce → announced, 90 % within, ms", "announce_p90_ms", ms(announces, .9), 0},
		figure{"messages sent, per mediator and hour", "messages", r.PerMediator(r.Messages), 0},
		figure{"MB sent, per mediator and hour", "megabytes", r.PerMediator(r.Bytes) / 1e6, 2},
		figure{"dials, per mediator and hour", "dials", r.PerMediator(r.Dials), 0},
		figure{"of these in vain", "dials_failed", r.PerMediator(r.FailedDials), 0},
		figure{"records held, mean", "records_mean", mean(r.Records), 1},
		figure{"records held, most", "records_max", float64(most(r.Records)), 0},
		figure{"mediators in the routing table, mean", "table_mean", mean(r.Peers), 1},
		figure{"connections, mean", "connections_mean", mean(r.Connections), 1},
	)
}

// Table returns the results side by side, as Markdown.
func Table(results []*Result) string {
	var text strings.Builder
	columns := make([][]figure, len(results))
	for i, r := range results {
		columns[i] = r.figures()
	}
	for row := range columns[0] {
		text.WriteString("| " + columns[0][row].name + " |")
		for _, column := range columns {
			text.WriteString(" " + column[row].text() + " |")
		}
		text.WriteByte('\n')
		if row == 0 {
			text.WriteString("| --- |" + strings.Repeat(" ---: |", len(columns)) + "\n")
		}
	}
	return text.String()
}

func (f figure) text() string {
	if math.IsNaN(f.value) {
		return "–"
	}
	whole, rest, _ := strings.Cut(strconv.FormatFloat(f.value, 'f', f.digits, 64), ".")
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if rest != "" {
		whole += "." + rest
	}
	return whole
}

// Write writes table.md, results.csv (a row for each result), lookups.csv (a row
// for each lookup), results.json (all of it, for Read) and the pictures into a folder, which it makes.
func Write(dir string, results []*Result) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("making the folder of the results: %w", err)
	}
	for name, write := range map[string]func(io.Writer) error{
		"table.md":     func(w io.Writer) error { _, err := io.WriteString(w, Table(results)); return err },
		"results.csv":  func(w io.Writer) error { return writeResults(w, results) },
		"lookups.csv":  func(w io.Writer) error { return writeLookups(w, results) },
		"results.json": func(w io.Writer) error { return json.NewEncoder(w).Encode(results) },
		"latency.svg":  func(w io.Writer) error { return drawLatency(w, results) },
		"hops.svg":     func(w io.Writer) error { return drawHops(w, results) },
		"growth.svg":   func(w io.Writer) error { return drawGrowth(w, results) },
	} {
		file, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("writing the results: %w", err)
		}
		err = write(file)
		if closed := file.Close(); err == nil {
			err = closed
		}
		if err != nil {
			return fmt.Errorf("writing %s: %w", name, err)
		}
	}
	return nil
}

// Read reads the results that Write wrote into a folder.
func Read(dir string) (results []*Result, err error) {
	text, err := os.ReadFile(filepath.Join(dir, "results.json"))
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	if err := json.Unmarshal(text, &results); err != nil {
		return nil, fmt.Errorf("reading results: %s: %w", filepath.Join(dir, "results.json"), err)
	}
	return results, nil
}

func writeResults(w io.Writer, results []*Result) error {
	out := csv.NewWriter(w)
	for i, r := range results {
		figures := r.figures()
		var head, row []string
		for _, f := range figures {
			head = append(head, f.column)
			row = append(row, strconv.FormatFloat(f.value, 'g', 8, 64))
		}
		if i == 0 {
			_ = out.Write(head) // Error tells, below
		}
		_ = out.Write(row)
	}
	out.Flush()
	return out.Error()
}

func writeLookups(w io.Writer, results []*Result) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"mediators", "in_dht_ms", "named_ms", "answered_ms", "searched_ms", "hops", "queries", "dials", "failed", "stale", "named_dead"})
	ms := func(d time.Duration) string {
		if d <= 0 {
			return ""
		}
		return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 3, 64)
	}
	for _, r := range results {
		for _, l := range r.Lookups {
			_ = out.Write([]string{
				strconv.Itoa(r.Config.Mediators), ms(l.InDHT), ms(l.Found), ms(l.Reached), ms(l.Searched), strconv.Itoa(l.Hops),
				strconv.Itoa(l.Queries), strconv.Itoa(l.Dials), strconv.Itoa(l.Failed), strconv.Itoa(l.Stale), strconv.Itoa(l.Dead),
			})
		}
	}
	out.Flush()
	return out.Error()
}
