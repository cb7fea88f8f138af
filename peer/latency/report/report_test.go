package report_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"p2pcdn/common/timeline"
	"p2pcdn/peer/latency/report"
)

const ms = time.Millisecond

// leecher is a row whose phases are as many milliseconds after started.
func leecher(index int, stamps timeline.Stamps) *timeline.Row {
	stamps[timeline.Started] = 0
	return &timeline.Row{
		Seed: 1, Index: index, Flow: timeline.Fast, Endpoint: timeline.Go, Role: timeline.Leecher, Mediators: 2, ContentBytes: 200_000,
		Content: 1, Peer: "0a", Outcome: timeline.Done, Stamps: stamps,
	}
}

func failedRow(index int, code, text string) *timeline.Row {
	row := leecher(index, timeline.Stamps{timeline.MediatorOpen: 90 * ms})
	row.Outcome, row.ErrorCode, row.Error = timeline.Failed, code, text
	return row
}

func sample() []*timeline.Row {
	seeder := leecher(1, timeline.Stamps{
		timeline.MediatorOpen: 2 * ms, timeline.Announced: 10 * ms, timeline.OfferReceived: 900 * ms, timeline.AnswerSent: 905 * ms,
	})
	seeder.Role = timeline.Seeder
	skipped := leecher(2, timeline.Stamps{})
	skipped.Content, skipped.Outcome, skipped.ErrorCode = 2, timeline.Skipped, "earlier_failed"
	return []*timeline.Row{
		seeder,
		// The lookup goes with the handshake in one of them, and after it in the other.
		leecher(1, timeline.Stamps{timeline.MediatorOpen: 10 * ms, timeline.LookupSent: 11 * ms, timeline.Established: 21 * ms, timeline.Complete: 40 * ms}),
		leecher(2, timeline.Stamps{timeline.MediatorOpen: 20 * ms, timeline.LookupSent: 41 * ms, timeline.Established: 40 * ms, timeline.Complete: 80 * ms}),
		failedRow(3, "no_peer", "nobody\x1b[2J"),
		skipped,
	}
}

func TestSummarize(t *testing.T) {
	groups := report.Summarize(sample())
	if len(groups) != 3 || groups[2].Role != timeline.Seeder || groups[1].Content != 2 {
		t.Fatalf("groups: %+v", groups)
	}
	first := groups[0]
	if first.Complete != 2 || first.Failed != 1 || first.Errors["no_peer"] != 1 || len(first.Rows) != 3 || len(first.Done()) != 2 {
		t.Errorf("the first group: %+v", first)
	}
	if second := groups[1]; second.Skipped != 1 || len(second.Phases) != 0 {
		t.Errorf("the second group: %+v", second)
	}
	steps := 0.0
	for i, phase := range first.Phases {
		want := []timeline.Phase{timeline.MediatorOpen, timeline.LookupSent, timeline.Established, timeline.Complete}[i]
		if phase.Phase != want || phase.SinceStarted.N != 2 {
			t.Errorf("phase %d: %+v instead of %s", i, phase, want)
		}
		steps += phase.Step.P50.Value * 2 // of two values: their sum
	}
	if steps != 40+80 {
		t.Errorf("the steps add up to %g", steps)
	}
	if last := first.Phases[3]; last.SinceMediatorOpen.P50.Value != 45 || last.Step.P50.Value != (19+39)/2 {
		t.Errorf("complete: %+v, %+v", last.SinceMediatorOpen, last.Step)
	}
	for _, phase := range groups[2].Phases { // nobody knows for how long it waited for an offer
		waited := phase.Phase == timeline.OfferReceived || phase.Phase == timeline.AnswerSent
		if waited && phase.SinceStarted != nil || !waited && phase.SinceStarted == nil || phase.Phase == timeline.OfferReceived {
			t.Errorf("a seeder's %s: %+v", phase.Phase, phase)
		}
	}
}

func TestTable(t *testing.T) {
	var out bytes.Buffer
	rows := sample()
	for _, row := range rows {
		row.Scenario = "a\x1b[2J\nb"
	}
	if err := report.Table(&out, report.Summarize(rows), 20*ms); err != nil {
		t.Fatal(err)
	}
	text := out.String()
	for _, want := range []string{
		"a [2J b: fast, go leecher, 2 mediators, 200 kB\n2 of 3 complete, 1 failed (no_peer 1)",
		"0 of 1 complete, 1 skipped (earlier_failed 1)", "since mediator_open", "step: since the phase before",
		"60.0 [-, -]", "95 % confidence", "   3.00\n", // 60 ms are three round trips
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table does not say %q:\n%s", want, text)
		}
	}
	if strings.ContainsRune(text, '\x1b') {
		t.Errorf("a scenario moves the cursor: %q", text)
	}
	out.Reset()
	if err := report.Table(&out, nil, 0); err != nil || out.Len() > 0 {
		t.Errorf("nothing was measured, and said: %q, %v", out.String(), err)
	}
}

func TestJSON(t *testing.T) {
	rows := sample()
	told := report.Report{
		StartedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Environment: report.ThisEnvironment(), Versions: report.Versions("v1"),
		Seed: 7, Arguments: []string{"latency"}, Introductions: rows, Summary: report.Summarize(rows),
	}
	var out bytes.Buffer
	if err := told.Write(&out); err != nil {
		t.Fatal(err)
	}
	var read struct {
		Schema        int
		StartedAt     string `json:"started_at"`
		Environment   map[string]any
		Versions      map[string]string
		Seed          uint64
		Interrupted   *bool
		Introductions []struct {
			Role   string
			Phases map[string]float64
		}
		Summary []struct {
			Complete int
			Errors   map[string]int
			Phases   []struct {
				Phase             string
				SinceMediatorOpen *struct {
					N   int
					P50 struct {
						Value     float64
						Low, High *float64
					}
				} `json:"since_mediator_open"`
			}
		}
	}
	if err := json.Unmarshal(out.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if read.Schema != 1 || read.StartedAt != "2026-01-02T03:04:05Z" || read.Seed != 7 || read.Interrupted == nil || read.Versions["peer"] != "v1" ||
		read.Environment["go"] == "" || read.Environment["cores"].(float64) < 1 {
		t.Errorf("the head: %+v", read)
	}
	if len(read.Introductions) != 5 || read.Introductions[1].Phases["complete"] != 40 || read.Introductions[0].Role != "seeder" {
		t.Errorf("the rows: %+v", read.Introductions)
	}
	last := read.Summary[0].Phases[3]
	if last.Phase != "complete" || last.SinceMediatorOpen.N != 2 || last.SinceMediatorOpen.P50.Value != 45 || last.SinceMediatorOpen.P50.Low != nil {
		t.Errorf("the summary: %+v", read.Summary[0])
	}
	out.Reset()
	if err := (&report.Report{}).Write(&out); err != nil || !strings.Contains(out.String(), `"introductions": []`) || !strings.Contains(out.String(), `"summary": []`) {
		t.Errorf("nothing was measured: %v: %s", err, out.String())
	}
}

func TestViewOnATerminal(t *testing.T) {
	var out bytes.Buffer
	view := report.NewView(&out, true, "3 introductions")
	view.Began(1, 0, 0, 3)
	long := leecher(1, timeline.Stamps{})
	for i, phase := range timeline.Of(timeline.Leecher) {
		long.Stamps[phase] = time.Duration(i) * 1234567 * time.Microsecond
	}
	second := leecher(1, timeline.Stamps{timeline.Complete: 0})
	second.Content = 2
	view.Ended([]*timeline.Row{long, second}, 1, 0, 3)
	view.Ended([]*timeline.Row{failedRow(2, "no_peer", strings.Repeat("nobody\x1b[2J ", 50))}, 1, 1, 3)
	view.End()
	text := out.String()
	if !strings.Contains(text, "1 of 3 complete, 1 failed") || !strings.Contains(text, "medians so far") || !strings.HasSuffix(text, "\x1b[J3 introductions\n") {
		t.Errorf("the view: %q", text)
	}
	up := 0 // as many lines as are drawn over are there
	for line := range strings.Lines(text) {
		for {
			before, after, found := strings.Cut(line, "\x1b[J")
			if !found {
				break
			}
			if n := strings.TrimSuffix(strings.TrimPrefix(before, "\x1b["), "A"); n != decimal(up) {
				t.Errorf("%s lines are drawn over, of %d", n, up)
			}
			line, up = after, 0
		}
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 79 || strings.ContainsRune(line, '\x1b') {
			t.Errorf("a line of %d: %q", n, line)
		}
		up++
	}
}

func decimal(n int) string {
	text, _ := json.Marshal(n)
	return string(text)
}

func TestViewElsewhere(t *testing.T) {
	var out bytes.Buffer
	view := report.NewView(&out, false, "3 introductions")
	view.Began(1, 0, 0, 3)
	view.Ended([]*timeline.Row{leecher(1, timeline.Stamps{timeline.MediatorOpen: ms, timeline.Complete: 40 * ms})}, 1, 0, 3)
	view.Ended([]*timeline.Row{failedRow(2, "no_peer", "nobody was named")}, 1, 1, 3)
	two, skipped := failedRow(3, "timeout", "too slow"), leecher(3, timeline.Stamps{})
	skipped.Content, skipped.Outcome = 2, timeline.Skipped
	view.Ended([]*timeline.Row{two, skipped}, 1, 2, 3)
	view.End()
	const want = `3 introductions
1 of 3: complete: mediator_open 1.0 complete 40.0
2 of 3: failed (no_peer): nobody was named; until then: mediator_open 90.0
3 of 3, content 1: failed (timeout): too slow; until then: mediator_open 90.0
`
	if out.String() != want {
		t.Errorf("said:\n%s", out.String())
	}
}
