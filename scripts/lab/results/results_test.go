package results

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"p2pcdn/common/timeline"
	"p2pcdn/scripts/lab/plan"
)

// row is a complete one of a run; first_piece is so many ms after mediator_open.
func row(run string, content int, first float64) *timeline.Row {
	const open = 50 * time.Millisecond
	at := open + time.Duration(first*float64(time.Millisecond))
	return &timeline.Row{
		Scenario: run, Content: content, Role: timeline.Leecher, Outcome: timeline.Done,
		Stamps: timeline.Stamps{timeline.Started: 0, timeline.MediatorOpen: open, timeline.ChannelOpen: at, timeline.FirstPiece: at, timeline.Complete: at + open},
	}
}

func failure(run string, code string) *timeline.Row {
	return &timeline.Row{
		Scenario: run, Content: 1, Role: timeline.Leecher, Outcome: timeline.Failed, ErrorCode: code,
		Stamps: timeline.Stamps{timeline.Started: 0, timeline.MediatorOpen: 1, timeline.FirstPiece: time.Hour},
	}
}

func TestMedian(t *testing.T) {
	for _, test := range []struct{ of, want []time.Duration }{
		{nil, []time.Duration{0}}, {[]time.Duration{3}, []time.Duration{3}}, {[]time.Duration{9, 1, 5}, []time.Duration{5}},
		{[]time.Duration{4, 100, 2, 1}, []time.Duration{3}},
	} {
		if got := Median(test.of); got != test.want[0] {
			t.Errorf("of %v it is %v", test.of, got)
		}
	}
}

func TestPairs(t *testing.T) {
	var trips []time.Duration
	for i := 100; i > 0; i-- {
		trips = append(trips, time.Duration(i)*time.Millisecond)
	}
	if got, want := NewPair("a", "b", 50*time.Millisecond, 101, trips), (Pair{"a", "b", 101, 1, 50, 1, 50.5, 99, 100}); got != want {
		t.Errorf("%+v, and not %+v", got, want)
	}
	if got := NewPair("a", "b", 0, 3, nil); got.Lost != 3 || got.Median != 0 {
		t.Errorf("of nothing: %+v", got)
	}
}

var ours = &plan.Plan{
	Runs: []plan.Run{
		{Name: "trips", What: plan.Ping},
		{Name: "ours", What: plan.Go, Contents: 2, Expect: plan.ExpectComplete},
		{Name: "theirs", What: plan.Go, Contents: 1, Expect: plan.ExpectFailed},
		{Name: "stored", What: plan.Announce, Expect: plan.ExpectAny},
	},
	Musts: []plan.Must{
		{What: "trips", Run: "ours", Content: 1, From: timeline.MediatorOpen, To: timeline.FirstPiece, AtMost: plan.Bound{Value: 8, Unit: plan.RoundTrips}, Moonshot: &plan.Bound{Value: 5, Unit: plan.RoundTrips}},
		{What: "time", Run: "ours", Content: 1, From: timeline.MediatorOpen, To: timeline.FirstPiece, AtMost: plan.Bound{Value: 250, Unit: plan.Milliseconds}},
		{What: "ratio", Run: "ours", Content: 1, From: timeline.MediatorOpen, To: timeline.FirstPiece, Against: "theirs", AtMost: plan.Bound{Value: 0.7, Unit: plan.Ratio}, Moonshot: &plan.Bound{Value: 0.4, Unit: plan.Ratio}},
		{What: "none", Run: "stored", Content: 1, From: timeline.Started, To: timeline.PeersNamed, AtMost: plan.Bound{Value: 6, Unit: plan.RoundTrips}},
	},
}

var measured = []*timeline.Row{
	row("ours", 1, 300), row("ours", 1, 250), row("ours", 1, 1000), row("ours", 2, 50), failure("ours", "timeout"),
	row("theirs", 1, 900), failure("theirs", "no_peer"), failure("theirs", "no_peer"),
}

var trips = Trips{Runs: map[string]time.Duration{"ours": 50 * time.Millisecond}}

func TestGroups(t *testing.T) {
	groups := Groups(ours, measured, trips)
	if len(groups) != 4 {
		t.Fatalf("%d groups: %+v", len(groups), groups)
	}
	first, second, theirs, stored := groups[0], groups[1], groups[2], groups[3]
	if first.Complete != 3 || first.Failed != 1 || first.Errors["timeout"] != 1 || first.To[timeline.FirstPiece] != (Figure{3, 300, 6}) || first.AsExpected(&ours.Runs[1]) {
		t.Errorf("the first: %+v", first)
	}
	if second.From != timeline.Started || second.To[timeline.FirstPiece] != (Figure{1, 100, 2}) || !second.AsExpected(&ours.Runs[1]) {
		t.Errorf("the second content: %+v", second)
	}
	if theirs.Complete != 1 || theirs.Errors["no_peer"] != 2 || theirs.AsExpected(&ours.Runs[2]) || theirs.To[timeline.FirstPiece].RoundTrips != 0 {
		t.Errorf("theirs: %+v", theirs)
	}
	if stored.From != timeline.Started || len(stored.To) != 0 || !stored.AsExpected(&ours.Runs[3]) {
		t.Errorf("without rows: %+v", stored)
	}
	var text bytes.Buffer
	if err := WriteGroups(&text, groups); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"300.0 ms = 6.0", "theirs, content 1: 2 × no_peer"} {
		if !strings.Contains(text.String(), line) {
			t.Errorf("it does not say %q:\n%s", line, &text)
		}
	}
}

func TestVerdicts(t *testing.T) {
	verdicts := Judge(ours, measured, trips)
	var results []Result
	for _, v := range verdicts {
		results = append(results, v.Result)
	}
	if !slices.Equal(results, []Result{Reached, Missed, Moonshot, Unknown}) {
		t.Errorf("%v: %+v", results, verdicts)
	}
	if v := verdicts[2]; v.N != 3 || v.Measured < 0.333 || v.Measured > 0.334 {
		t.Errorf("the ratio: %+v", v)
	}
	var text bytes.Buffer
	if err := WriteVerdicts(&text, verdicts); err != nil {
		t.Fatal(err)
	}
	for _, words := range []string{"6.0 round trips (300 ms)", "0.33 ×", "not measured", "moonshot"} {
		if !strings.Contains(text.String(), words) {
			t.Errorf("it does not say %q:\n%s", words, &text)
		}
	}
}

func TestTripsAreWritten(t *testing.T) {
	var text bytes.Buffer
	if err := WriteTrips(&text, []Pair{{"a", "b", 10, 1, 50, 50.1, 50.4, 50.9, 51}}); err != nil || !strings.Contains(text.String(), "a → b  50.000 ms") {
		t.Errorf("%v:\n%s", err, &text)
	}
}
