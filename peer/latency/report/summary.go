package report

import (
	"cmp"
	"math"
	"slices"
	"time"

	"p2pcdn/common/timeline"
)

// Key is what the rows of a group have in common.
type Key struct {
	Scenario     string            `json:"scenario"`
	Flow         timeline.Flow     `json:"flow"`
	Endpoint     timeline.Endpoint `json:"endpoint"`
	Role         timeline.Role     `json:"role"`
	Mediators    int               `json:"mediators"`
	ContentBytes int64             `json:"content_bytes"`
	Content      int               `json:"content"`
}

func keyOf(r *timeline.Row) Key {
	return Key{r.Scenario, r.Flow, r.Endpoint, r.Role, r.Mediators, r.ContentBytes, r.Content}
}

// Phase are the times of a phase: those of the rows that reached it. nil: there are none.
type Phase struct {
	Phase             timeline.Phase `json:"phase"`
	SinceStarted      *Times         `json:"since_started,omitempty"`
	SinceMediatorOpen *Times         `json:"since_mediator_open,omitempty"`
	Step              *Times         `json:"step,omitempty"`
}

// Group is what is known of rows that go together.
type Group struct {
	Key
	Complete int            `json:"complete"`
	Failed   int            `json:"failed"`
	Skipped  int            `json:"skipped"`
	Errors   map[string]int `json:"errors"`
	Phases   []Phase        `json:"phases"`

	Rows []*timeline.Row `json:"-"` // all of them
}

// Summarize returns the groups: leechers before seeders, and else in the order in which they begin.
func Summarize(rows []*timeline.Row) []*Group {
	var groups []*Group
	byKey := make(map[Key]*Group)
	for _, row := range rows {
		g := byKey[keyOf(row)]
		if g == nil {
			g = &Group{Key: keyOf(row), Errors: make(map[string]int)}
			byKey[g.Key], groups = g, append(groups, g)
		}
		g.Rows = append(g.Rows, row)
		switch row.Outcome {
		case timeline.Done:
			g.Complete++
		case timeline.Skipped:
			g.Skipped++
		default:
			g.Failed++
		}
		if row.ErrorCode != "" {
			g.Errors[row.ErrorCode]++
		}
	}
	for _, g := range groups {
		g.Phases = phases(g.Done())
	}
	slices.SortStableFunc(groups, func(a, b *Group) int { return cmp.Compare(a.Role, b.Role) }) // leecher, seeder
	return groups
}

// Done returns the rows that are complete.
func (g *Group) Done() (done []*timeline.Row) {
	for _, row := range g.Rows {
		if row.Outcome == timeline.Done {
			done = append(done, row)
		}
	}
	return done
}

// phases returns the times of every phase that a row reached.
func phases(rows []*timeline.Row) (all []Phase) {
	started, open, step := make(samples), make(samples), make(samples)
	for _, row := range rows {
		opened, there := row.Stamps[timeline.MediatorOpen]
		before, waited := time.Duration(0), false
		for _, phase := range Order(row.Stamps) {
			at := row.Stamps[phase]
			waited = waited || row.Role == timeline.Seeder && phase == timeline.OfferReceived
			if !waited {
				started.add(phase, at)
			}
			if !waited && there && at >= opened {
				open.add(phase, at-opened)
			}
			if row.Role != timeline.Seeder || phase != timeline.OfferReceived {
				step.add(phase, at-before)
			}
			before = at
		}
	}
	for _, phase := range timeline.Phases {
		if len(step[phase]) > 0 && phase != timeline.Started {
			all = append(all, Phase{phase, times(started[phase]), times(open[phase]), times(step[phase])})
		}
	}
	slices.SortStableFunc(all, func(a, b Phase) int { return cmp.Compare(a.median(), b.median()) })
	return all
}

// median is when the phase is usually reached, in milliseconds.
func (p Phase) median() float64 {
	if p.SinceStarted == nil {
		return math.Inf(1)
	}
	return p.SinceStarted.P50.Value
}

// samples are times in milliseconds.
type samples map[timeline.Phase][]float64

func (s samples) add(phase timeline.Phase, at time.Duration) {
	s[phase] = append(s[phase], Milliseconds(at))
}

// Milliseconds returns a time as the table has it.
func Milliseconds(at time.Duration) float64 { return float64(at.Microseconds()) / 1000 }

// Order returns the phases that were reached as they were: by the clock, and in their usual order where that makes no difference.
func Order(stamps timeline.Stamps) (order []timeline.Phase) {
	for _, phase := range timeline.Phases {
		if _, reached := stamps[phase]; reached {
			order = append(order, phase)
		}
	}
	slices.SortStableFunc(order, func(a, b timeline.Phase) int { return cmp.Compare(stamps[a], stamps[b]) })
	return order
}
