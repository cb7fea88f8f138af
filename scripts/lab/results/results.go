// Package results makes of the rows of a lab what people read: medians in milliseconds and in round trips, what they
// are to each other, and whether that is what the lab file demands.
package results

import (
	"slices"
	"time"

	"p2pcdn/common/timeline"
	"p2pcdn/scripts/lab/plan"
)

// Trips are the round trips that were measured.
type Trips struct {
	// Runs has for each run the median round trip between its leechers and their mediator.
	Runs map[string]time.Duration
	// Pairs are all that were measured.
	Pairs []Pair
}

// Pair is two hosts with the round trips between them, in milliseconds.
type Pair struct {
	From   string  `json:"from"`
	To     string  `json:"to"`
	N      int     `json:"n"`
	Lost   int     `json:"lost"`
	Link   float64 `json:"link_ms"` // what the links' delays come to
	Least  float64 `json:"least_ms"`
	Median float64 `json:"median_ms"`
	P99    float64 `json:"p99_ms"`
	Most   float64 `json:"most_ms"`
}

// NewPair makes a pair of n pings, of which these were answered.
func NewPair(from, to string, link time.Duration, n int, trips []time.Duration) Pair {
	p := Pair{From: from, To: to, N: n, Lost: n - len(trips), Link: ms(link)}
	if len(trips) > 0 {
		sorted := slices.Sorted(slices.Values(trips))
		p.Least, p.Most = ms(sorted[0]), ms(sorted[len(sorted)-1])
		p.Median, p.P99 = ms(Median(sorted)), ms(sorted[(99*len(sorted)-1)/100])
	}
	return p
}

// Median is the middle one of some times, or between the two in the middle; 0 of none.
func Median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	if n := len(sorted); n > 0 {
		return (sorted[(n-1)/2] + sorted[n/2]) / 2
	}
	return 0
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Between returns how long a run's introductions took from one phase to another: of its rows about this content that are
// complete and have both.
func Between(rows []*timeline.Row, run string, content int, from, to timeline.Phase) (times []time.Duration) {
	for _, row := range rows {
		if row.Scenario != run || row.Content != content || row.Outcome != timeline.Done {
			continue
		}
		begin, begun := row.Stamps[from]
		end, ended := row.Stamps[to]
		if begun && ended {
			times = append(times, end-begin)
		}
	}
	return times
}

// Figure is the median of some times.
type Figure struct {
	N          int     `json:"n"`
	MS         float64 `json:"median_ms"`
	RoundTrips float64 `json:"median_round_trips"` // 0: the round trip is not known
}

func figure(times []time.Duration, trip time.Duration) Figure {
	f := Figure{N: len(times), MS: ms(Median(times))}
	if trip > 0 {
		f.RoundTrips = float64(Median(times)) / float64(trip)
	}
	return f
}

// Group is what became of one content of each introduction of a run.
type Group struct {
	Run       string                    `json:"run"`
	Content   int                       `json:"content"`
	Complete  int                       `json:"complete"`
	Failed    int                       `json:"failed"`
	Skipped   int                       `json:"skipped"`
	Errors    map[string]int            `json:"errors,omitempty"` // by code
	RoundTrip float64                   `json:"round_trip_ms"`    // as measured
	From      timeline.Phase            `json:"from"`
	To        map[timeline.Phase]Figure `json:"to"` // since From
}

// Groups sums up all runs, in the order of the plan.
func Groups(p *plan.Plan, rows []*timeline.Row, trips Trips) (groups []Group) {
	for _, run := range p.Runs {
		for content := 1; content <= max(1, run.Contents) && run.What != plan.Ping; content++ {
			g := Group{
				Run: run.Name, Content: content, RoundTrip: ms(trips.Runs[run.Name]), From: timeline.MediatorOpen,
				Errors: make(map[string]int), To: make(map[timeline.Phase]Figure),
			}
			if content > 1 || run.What == plan.Announce {
				g.From = timeline.Started // what it needs is open
			}
			for _, row := range rows {
				if row.Scenario == run.Name && row.Content == content {
					g.count(row)
				}
			}
			for _, to := range timeline.Phases {
				if times := Between(rows, run.Name, content, g.From, to); len(times) > 0 {
					g.To[to] = figure(times, trips.Runs[run.Name])
				}
			}
			groups = append(groups, g)
		}
	}
	return groups
}

func (g *Group) count(row *timeline.Row) {
	switch row.Outcome {
	case timeline.Done:
		g.Complete++
		return
	case timeline.Skipped:
		g.Skipped++
	default:
		g.Failed++
	}
	g.Errors[row.ErrorCode]++
}

// AsExpected reports whether the introductions of a run became what its lab file says.
func (g *Group) AsExpected(run *plan.Run) bool {
	switch run.Expect {
	case plan.ExpectFailed:
		return g.Complete == 0 && g.Failed > 0
	case plan.ExpectAny:
		return true
	}
	return g.Failed == 0 && g.Skipped == 0
}

// Verdict is what became of a must.
type Verdict struct {
	Must     plan.Must `json:"-"`
	What     string    `json:"what"`
	Run      string    `json:"run"`
	Against  string    `json:"against,omitempty"`
	N        int       `json:"n"`
	MS       float64   `json:"median_ms"`
	Measured float64   `json:"measured"` // in the unit of the bound
	AtMost   float64   `json:"at_most"`
	Moonshot float64   `json:"moonshot,omitempty"`
	Unit     plan.Unit `json:"unit"`
	Result   Result    `json:"result"`
}

// Result is how a measured figure stands to its bounds.
type Result string

// The results.
const (
	Reached  Result = "reached"
	Moonshot Result = "moonshot" // and more than that
	Missed   Result = "missed"
	Unknown  Result = "not measured"
)

// Judge compares what was measured with what the plan demands.
func Judge(p *plan.Plan, rows []*timeline.Row, trips Trips) (verdicts []Verdict) {
	for _, must := range p.Musts {
		times := Between(rows, must.Run, must.Content, must.From, must.To)
		v := Verdict{
			Must: must, What: must.What, Run: must.Run, Against: must.Against, N: len(times), MS: ms(Median(times)),
			AtMost: must.AtMost.Value, Unit: must.AtMost.Unit, Result: Unknown,
		}
		unit := 1.0 // in milliseconds
		switch must.AtMost.Unit {
		case plan.RoundTrips:
			unit = ms(trips.Runs[must.Run])
		case plan.Ratio:
			unit = ms(Median(Between(rows, must.Against, must.Content, must.From, must.To)))
		}
		if must.Moonshot != nil {
			v.Moonshot = must.Moonshot.Value
		}
		if len(times) > 0 && unit > 0 {
			v.Measured = v.MS / unit
			v.Result = v.judge(must.Moonshot != nil && must.Moonshot.Unit == must.AtMost.Unit)
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

func (v *Verdict) judge(moonshot bool) Result {
	switch {
	case moonshot && v.Measured <= v.Moonshot:
		return Moonshot
	case v.Measured <= v.AtMost:
		return Reached
	}
	return Missed
}
