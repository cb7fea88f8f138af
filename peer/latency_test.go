package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/timeline"
	"p2pcdn/peer/client"
	"p2pcdn/peer/latency"
	"p2pcdn/peer/latency/report"
)

// table reads what a command kept.
func table(t *testing.T, path string) []*timeline.Row {
	t.Helper()
	rows, err := readTable(path)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// countRows says how many rows of a role ended so, with that code.
func countRows(rows []*timeline.Row, role timeline.Role, outcome timeline.Outcome, code string) (n int) {
	for _, row := range rows {
		if row.Role == role && row.Outcome == outcome && row.ErrorCode == code {
			n++
		}
	}
	return n
}

// reaches checks that the row has these phases, in this order.
func reaches(t *testing.T, row *timeline.Row, phases ...timeline.Phase) {
	t.Helper()
	for i, phase := range phases {
		at, reached := row.Stamps[phase]
		if !reached || i > 0 && at < row.Stamps[phases[i-1]] {
			t.Errorf("introduction %d, content %d, %s: %v does not have %v in this order", row.Index, row.Content, row.Role, row.Stamps, phases)
		}
	}
}

func TestLatency(t *testing.T) {
	m := startMediator(t)
	folder := t.TempDir()
	csv, jsonFile, pictures := filepath.Join(folder, "run.csv"), filepath.Join(folder, "run.json"), filepath.Join(folder, "pictures")
	args := []string{
		"latency", "-m", m.url, "-n", "3", "--contents", "2", "--scenario", "a test", "--seed", "7", "--csv", csv, "--json", jsonFile,
		"--svg", pictures, "--rtt", "10ms",
	}
	c := start(t, nil, args...)
	c.ends(exitDone, "3 of 3, content 2: complete:")
	if out := c.stdout.String(); !strings.Contains(out, "a test: fast, go leecher, 1 mediator, 200 kB\n3 of 3 complete") {
		t.Errorf("the table:\n%s", out)
	}
	rows := table(t, csv)
	if len(rows) != 12 || countRows(rows, timeline.Leecher, timeline.Done, "") != 6 || countRows(rows, timeline.Seeder, timeline.Done, "") != 6 {
		t.Errorf("%d rows", len(rows))
	}
	peers := make(map[string]bool)
	for _, row := range rows {
		switch {
		case row.Role == timeline.Seeder:
			reaches(t, row, timeline.Started, timeline.MediatorOpen, timeline.Established, timeline.Announced)
		case row.Content == 1:
			reaches(t, row, timeline.Started, timeline.MediatorOpen, timeline.Established, timeline.PeersNamed, timeline.ChannelOpen,
				timeline.FirstPiece, timeline.Complete)
		default:
			reaches(t, row, timeline.Started, timeline.FirstPiece, timeline.Complete)
			if _, again := row.Stamps[timeline.MediatorOpen]; again {
				t.Errorf("the second content opened a line of its own: %v", row.Stamps)
			}
		}
		peers[row.Peer] = true
		if row.Scenario != "a test" || row.Seed != 7 || row.ContentBytes != 200_000 || row.Mediators != 1 || len(row.Peer) != 8 {
			t.Errorf("a row: %+v", row)
		}
	}
	if len(peers) != 6 {
		t.Errorf("%d peers in three introductions of fresh ones", len(peers))
	}
	var told report.Report
	if text, err := os.ReadFile(jsonFile); err != nil || json.Unmarshal(text, &told) != nil {
		t.Fatalf("the report: %v", err)
	}
	if told.Schema != 1 || told.Seed != 7 || told.Interrupted || len(told.Introductions) != 12 || !slices.Equal(told.Arguments, args) || len(told.Summary) != 4 {
		t.Errorf("the report: %+v", told)
	}
	left(t, pictures,
		"cdf-a-test-fast-go-content-2.svg", "cdf-a-test-fast-go.svg", "complete.svg",
		"pairs-a-test-fast-go-content-2.svg", "pairs-a-test-fast-go.svg", "phases.svg")

	t.Run("drawn again", func(t *testing.T) {
		other := filepath.Join(folder, "again")
		again := start(t, nil, "latency", "--draw", csv, csv, "--svg", other)
		again.ends(exitDone, "6 pictures in "+other)
		if !strings.Contains(again.stdout.String(), "6 of 6 complete") {
			t.Errorf("the table:\n%s", again.stdout)
		}
	})
	t.Run("of a table that is broken", func(t *testing.T) {
		text, err := os.ReadFile(csv)
		if err != nil {
			t.Fatal(err)
		}
		broken := write(t, filepath.Join(folder, "broken.csv"), text[:len(text)-10])
		c := start(t, nil, "latency", "--draw", broken, "--draw", filepath.Join(folder, "none.csv"))
		c.ends(exitFailed, "11 rows before that count")
		c.said("none.csv: no such file")
		if !strings.Contains(c.stdout.String(), "3 of 3 complete") {
			t.Errorf("the table:\n%s", c.stdout)
		}
	})
}

// said checks that something else was said, too.
func (c *command) said(text string) {
	c.t.Helper()
	if !strings.Contains(c.stderr.String(), text) {
		c.t.Errorf("%q was not said:\n%s", text, c.stderr)
	}
}

// TestLatencyElsewhere has seeders in one run and leechers in others, by either flow.
func TestLatencyElsewhere(t *testing.T) {
	m := startMediator(t)
	folder := t.TempDir()
	for _, described := range []string{"", "--dictionaries"} {
		for _, served := range []string{"fast", "prototype"} {
			t.Run(served+described, func(t *testing.T) {
				serve := []string{"latency", "--serve", "-m", m.url, "-n", "2", "--contents", "2", "--seed", "3", "--flow", served, "--size", "300kB"}
				fetch := []string{"latency", "--links", "-", "-m", m.url, "-n", "2", "--flow", "prototype"}
				if described != "" {
					serve, fetch = append(serve, described), append(fetch, described)
				}
				csv := filepath.Join(folder, "seeders"+served+described+".csv")
				seeders := start(t, nil, append(serve, "--csv", csv)...)
				seeders.lines(2)
				links := seeders.stdout.String()
				reader, writer := io.Pipe()
				defer writer.Close()
				go func() { _, _ = io.WriteString(writer, links) }() // and the pipe stays open, as that of a process does
				out := filepath.Join(folder, "leechers"+served+described+".csv")
				leechers := start(t, []setting{func(w *world) { w.stdin = reader }}, append(fetch, "--csv", out)...)
				leechers.ends(exitDone, "2 of 2, content 2: complete")
				for _, row := range table(t, out) {
					reaches(t, row, timeline.Started, timeline.LookupSent, timeline.PeersNamed, timeline.OfferSent, timeline.AnswerReceived,
						timeline.ChannelOpen, timeline.FirstPiece, timeline.Complete)
					if row.Flow != timeline.Prototype || row.ContentBytes != 300_000 || row.Role != timeline.Leecher {
						t.Errorf("a row: %+v", row)
					}
				}
				first := strings.Fields(strings.SplitN(links, "\n", 2)[0])
				if described == "" {
					again := start(t, nil, "latency", "--link", first[0], "--link", first[1])
					again.ends(exitDone, "2 of 2: complete")
				}
				seeders.interrupt()
				seeders.ends(exitDone, "2 seeders of 300.0 kB, seed 3")
				if rows := table(t, csv); countRows(rows, timeline.Seeder, timeline.Done, "") != 4 {
					t.Errorf("%d rows of seeders", len(rows))
				}
			})
		}
	}
}

// lines waits until so many lines stand on standard output.
func (c *command) lines(n int) {
	c.t.Helper()
	for strings.Count(c.stdout.String(), "\n") < n {
		select {
		case <-c.stdout.changed:
		case code := <-c.code:
			c.t.Fatalf("it ended with %d:\n%s%s", code, c.stdout, c.stderr)
		}
	}
}

// TestLatencyRepeats shows that a seed makes up the same contents again, and another one others.
func TestLatencyRepeats(t *testing.T) {
	m := startMediator(t)
	links := func(seed string) string {
		c := start(t, nil, "latency", "--serve", "-m", m.url, "-n", "1", "--size", "50", "--seed", seed)
		c.lines(1)
		c.interrupt()
		c.ends(exitDone, "")
		return c.stdout.String()
	}
	first := links("1")
	if again, other := links("1"), links("2"); again != first || other == first {
		t.Errorf("seed 1: %s and %s, seed 2: %s", first, again, other)
	}
}

// liar is a source that serves something else.
type liar struct {
	info content.Info
}

func (l liar) Info() content.Info                                { return l.info }
func (l liar) Close() error                                      { return nil }
func (l liar) ReadBlock(piece int, begin int64, to []byte) error { clear(to); return nil }

func TestLatencyFailures(t *testing.T) {
	m := startMediator(t)
	folder := t.TempDir()
	path := write(t, filepath.Join(folder, "x"), bytesOf(100_000))
	source, err := client.OpenFile(t.Context(), path, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	info := source.Info()
	if err := source.Close(); err != nil {
		t.Fatal(err)
	}
	announced := make(chan struct{}, 1)
	lying := client.Start([]string{m.url}, client.Config{Observe: func(e client.Event) {
		if _, is := e.(client.Announced); is {
			announced <- struct{}{}
		}
	}})
	defer lying.Close()
	if _, err := lying.Seed(liar{info}); err != nil {
		t.Fatal(err)
	}
	<-announced
	lie := info.Link(m.url).String()
	nobody := "p2pcdn:" + strings.Repeat("ab", 32) + "?xl=5"
	for _, flow := range []string{"fast", "prototype"} {
		for _, test := range []struct {
			name, code string
			args       []string
			fails      int
		}{
			{"nobody listens", "mediator_unreachable", []string{"-m", "ws://127.0.0.1:1/nobody", "-n", "2"}, 2},
			{"wrong data", "wrong_data", []string{"--link", lie}, 1},
			{"the first content fails", "earlier_failed", []string{"--links", write(t, filepath.Join(folder, "links"), []byte("\n"+lie+" "+lie+"\n"))}, 1},
		} {
			t.Run(flow+", "+test.name, func(t *testing.T) {
				csv := filepath.Join(t.TempDir(), "x.csv")
				c := start(t, nil, append([]string{"latency", "--flow", flow, "--csv", csv}, test.args...)...)
				c.ends(exitFailed, fmt.Sprintf("%d of %s failed", test.fails, count(test.fails, "introduction")))
				c.said("failed (")
				outcome := timeline.Failed
				if test.code == "earlier_failed" {
					outcome = timeline.Skipped
				}
				if rows := table(t, csv); countRows(rows, timeline.Leecher, outcome, test.code) != test.fails {
					for _, row := range rows {
						t.Errorf("a row: %+v", row)
					}
				}
			})
		}
	}
	t.Run("nobody has it", func(t *testing.T) {
		csv := filepath.Join(t.TempDir(), "x.csv")
		start(t, nil, "latency", "-m", m.url, "--link", nobody, "--timeout", "1s", "--csv", csv).ends(exitFailed, "no peer was named in time")
		reaches(t, table(t, csv)[0], timeline.Started, timeline.MediatorOpen, timeline.LookupSent)
	})
	t.Run("nobody to announce to", func(t *testing.T) {
		c := start(t, nil, "latency", "--serve", "-m", "ws://127.0.0.1:1/nobody", "-n", "2")
		c.ends(exitFailed, "nothing is served")
	})
}

// TestLatencyIsInterrupted shows that what was measured is kept, and what goes on is told as interrupted.
func TestLatencyIsInterrupted(t *testing.T) {
	m := startMediator(t)
	csv, jsonFile := filepath.Join(t.TempDir(), "x.csv"), filepath.Join(t.TempDir(), "x.json")
	c := start(t, nil, "latency", "-m", m.url, "-n", "1000", "--csv", csv, "--json", jsonFile)
	c.says(c.stderr, "2 of 1000: complete")
	if rows := table(t, csv); len(rows) < 4 {
		t.Errorf("while it runs only %d rows are kept", len(rows))
	}
	c.interrupt()
	c.ends(exitInterrupted, "of 1000 introductions were complete until then")
	rows := table(t, csv)
	complete, interrupted := countRows(rows, timeline.Leecher, timeline.Done, ""), countRows(rows, timeline.Leecher, timeline.Failed, "interrupted")
	if complete < 2 || complete+interrupted == 1000 || interrupted > 1 {
		t.Errorf("%d complete, %d interrupted", complete, interrupted)
	}
	var told report.Report
	if text, err := os.ReadFile(jsonFile); err != nil || json.Unmarshal(text, &told) != nil || !told.Interrupted || len(told.Introductions) != len(rows) {
		t.Errorf("the report: %v, %d rows", err, len(told.Introductions))
	}
	if !strings.Contains(c.stdout.String(), fmt.Sprintf("%d of %d complete", complete, complete+interrupted)) {
		t.Errorf("the table:\n%s", c.stdout)
	}

	t.Run("while it waits for links", func(t *testing.T) {
		reader, writer := io.Pipe()
		defer writer.Close()
		c := start(t, []setting{func(w *world) { w.stdin = reader }}, "latency", "--links", "-")
		c.interrupt()
		c.ends(exitInterrupted, "interrupted")
	})
}

// TestLatencyCannotWrite shows that a full disk ends a run.
func TestLatencyCannotWrite(t *testing.T) {
	m := startMediator(t)
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("there is no /dev/full")
	}
	start(t, nil, "latency", "-m", m.url, "-n", "1000", "--csv", "/dev/full").ends(exitFailed, "writing the table")
	start(t, nil, "latency", "-m", m.url, "-n", "1", "--json", "/dev/full").ends(exitFailed, "no space left")
	start(t, nil, "latency", "-m", m.url, "-n", "1", "--csv", t.TempDir()).ends(exitFailed, "keeping what is measured")
	failing := func(w *world) { w.stdout = failingWriter{} }
	start(t, []setting{failing}, "latency", "-m", m.url, "-n", "1").ends(exitFailed, "printing the table")
	start(t, []setting{failing}, "latency", "-m", m.url, "-n", "3", "--serve").ends(exitFailed, "no more room")
}

// TestLatencyTellsWhatItCannotKeep shows that a disk that is full loses the table alone, and not what was measured.
func TestLatencyTellsWhatItCannotKeep(t *testing.T) {
	var out, file bytes.Buffer
	m := measuring{w: world{stdout: &out, stderr: io.Discard}, json: "x", table: timeline.NewWriter(failingWriter{})}
	lines := []latency.Line{{Contents: []content.Info{{TotalLength: 5, PieceLength: content.LeafLength}}}} // and no mediator
	err := m.measure(t.Context(), latency.Config{Lines: lines, Flow: timeline.Fast, Timeout: time.Minute, Row: m.row}, &file)
	if err == nil || !strings.Contains(err.Error(), "no more room") {
		t.Errorf("it says %v", err)
	}
	var told report.Report
	if err := json.Unmarshal(file.Bytes(), &told); err != nil || len(told.Introductions) != 1 || !strings.Contains(out.String(), "mediator_unreachable") {
		t.Errorf("the report: %v, %d rows; the table:\n%s", err, len(told.Introductions), &out)
	}
}

// TestLatencySaysWhatItLeavesOut shows that rows without a scenario of their own can be told from those with all cuts.
func TestLatencySaysWhatItLeavesOut(t *testing.T) {
	m := measuring{flow: string(timeline.Fast), size: 100, without: []string{"early", "offer", "early"}, timeout: time.Minute}
	if config, err := m.config(t.Context()); err != nil || config.Scenario != "without early, offer" || len(config.Without) != 2 {
		t.Errorf("%q, %v: %v", config.Scenario, config.Without, err)
	}
	m.scenario = "mine"
	if config, err := m.config(t.Context()); err != nil || config.Scenario != "mine" {
		t.Errorf("%q: %v", config.Scenario, err)
	}
}

type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, errors.New("no more room") }

func TestLatencyUsage(t *testing.T) {
	const link = "p2pcdn:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855?xl=0"
	for _, test := range []struct {
		args []string
		says string
	}{
		{[]string{"x"}, `latency takes no arguments, but there is "x"`},
		{[]string{"-n", "0"}, "no number from 1 to"},
		{[]string{"--flow", "slow"}, `there is no flow "slow"`},
		{[]string{"--without", "offer,haste"}, `there is no "haste"; there is pipelining, offer,`},
		{[]string{"--without", "offer", "--flow", "prototype"}, "the prototype saves nothing"},
		{[]string{"--seed", "-1"}, "no number from 0 to 2^53-1"},
		{[]string{"--seed", "9007199254740992"}, "no number from 0 to 2^53-1"},
		{[]string{"--size", "much"}, "is no length"},
		{[]string{"--size", "31"}, "at least 32 bytes"},
		{[]string{"--size", "300MiB"}, "at most 256 MiB"},
		{[]string{"--size", "100MB", "--contents", "30"}, "are more than the 2048 MiB"},
		{[]string{"--size", "100MB", "--serve"}, "are more than the 2048 MiB"},
		{[]string{"--timeout", "0s"}, "--timeout must be more than 0"},
		{[]string{"--rtt", "-1s"}, "--rtt must not be negative"},
		{[]string{"--scenario", strings.Repeat("x", 1025)}, "--scenario has more than 1024 bytes"},
		{[]string{"--serve", "--link", link}, "two processes are needed"},
		{[]string{"--serve", "--json", "x"}, "--json is for those who fetch"},
		{[]string{"--serve", "--svg", "x"}, "--svg and --png are for those who fetch"},
		{[]string{"--link", "x"}, "a link has the form"},
		{[]string{"--csv", "-"}, "a file is needed"},
		{[]string{"--draw", "x", "-n", "3"}, "--introductions has no meaning"},
		{[]string{"--draw", "x", "--without", "offer"}, "--without has no meaning"},
		{[]string{"--draw", "x", "-m", "ws://a.example/mediation"}, "--mediator has no meaning"},
	} {
		start(t, nil, append([]string{"latency"}, test.args...)...).ends(exitUsage, test.says)
	}
	start(t, nil, "latency", "--links", "/nowhere").ends(exitFailed, "reading the links")
	start(t, []setting{stdin("\n \n")}, "latency", "--links", "-").ends(exitFailed, "there are no links")
	start(t, []setting{stdin(link + "\nx\n")}, "latency", "--links", "-").ends(exitFailed, "line 2 of the links")
	start(t, []setting{stdin("{\"a\":")}, "latency", "--links", "-").ends(exitFailed, "line 1 of the links: reading an info dictionary")
	start(t, []setting{stdin(strings.Repeat("x", 2<<20))}, "latency", "--links", "-").ends(exitFailed, "token too long")
	help := start(t, nil, "latency", "--help")
	help.ends(exitDone, "")
	for _, word := range slices.Concat(timeline.Columns(), []string{"since_mediator_open", "Exit codes", "--draw", "peer_refused", client.Cuts[0].Does}) {
		if !bytes.Contains([]byte(help.stdout.String()), []byte(word)) {
			t.Errorf("the help does not say %q", word)
		}
	}
}
