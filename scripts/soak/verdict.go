//go:build unix

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// What flat means. Something that a peer leaves behind when it has left grows with the number
// of those that left, not with time: so growth is told by what one of them leaves, and nothing
// grows where it is less than a hundredth of what a peer takes while it is there. At one percent of
// 5,000 peers a second, 180,000 leave in an hour: a goroutine that one of a hundred leaves
// behind makes 1,800 in that time. Less than that is not told from noise in ten minutes; what
// is at all left behind shows in the end, when everybody has left, and there the
// counts must be what they were before the first one came, to the last one.
//
// Growth is the median of the slopes between all pairs of samples of the second half
// (Theil and Sen), so that a few odd samples, as those in which garbage was collected, count for
// nothing. Goroutines and files are first freed of those that are due to how many peers there
// are at the moment: each connection has one file, and as many goroutines as all had when they had come.
// The heap goes up and down with each collection, by more than is looked for: so there is one before
// every sample, the first as the last, and what is left is what lives. (Resident memory is somewhat less for it.)
const leftBehind = 0.01

// heapSlack and heapPerPeer are how much larger the heap may be when everybody has left, in bytes:
// maps keep the room that they had (about 100 bytes for each entry of some five), and pools
// their buffers. The slack is for what the first use of anything makes once.
const (
	heapSlack   = 4 << 20
	heapPerPeer = 512
)

// Trend is how something changed over the second half of a soak.
type Trend struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Level   float64 `json:"level"`    // median
	PerHour float64 `json:"per_hour"` // growth
	Bound   float64 `json:"bound"`    // of PerHour
	Flat    bool    `json:"flat"`
}

// Return is something before the first peer came, and after the last one left.
type Return struct {
	Name  string  `json:"name"`
	Start float64 `json:"start"`
	End   float64 `json:"end"`
	Bound float64 `json:"bound"`
	Back  bool    `json:"back"`
}

// slope is the median of the slopes between all pairs of points; 0 where there are none.
func slope(x, y []float64) float64 {
	var slopes []float64
	for i := range x {
		for j := range i {
			if x[i] != x[j] {
				slopes = append(slopes, (y[i]-y[j])/(x[i]-x[j]))
			}
		}
	}
	return median(slopes)
}

func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// trends judges the second half of the samples; see leftBehind.
func trends(start, full State, samples []Sample, seconds float64, left int) []Trend {
	const hour = 3600
	leftPerHour := float64(left) / max(1, seconds) * hour
	peers := max(1, full.Connections-start.Connections)
	goroutines := (full.Goroutines - start.Goroutines) / peers // of a connection
	second := samples[len(samples)/2:]
	judge := func(name, unit string, each float64, of func(State) float64) Trend {
		var at, values, level []float64
		for _, s := range second {
			at, values, level = append(at, s.Seconds), append(values, of(s.State)), append(level, of(s.State))
		}
		growth, bound := slope(at, values)*hour, leftPerHour*leftBehind*each
		return Trend{name, unit, median(level), growth, bound, growth <= bound}
	}
	memory := (full.Memory - start.Memory) / peers
	return []Trend{
		judge("resident memory", "MiB", memory/(1<<20), func(s State) float64 { return s.Memory / (1 << 20) }),
		judge("heap that lives", "MiB", memory/(1<<20), func(s State) float64 { return s.Heap / (1 << 20) }),
		judge("goroutines beyond those of the peers", "", 1, func(s State) float64 { return s.Goroutines - goroutines*s.Connections }),
		judge("files beyond those of the peers", "", 1, func(s State) float64 { return s.Files - s.Connections }),
	}
}

// returns judges whether everything is as before, once everybody has left. The heap is not
// looked at where no peers are said.
func returns(start, end State, peers int) []Return {
	exact := func(name string, of func(State) float64) Return {
		return Return{name, of(start), of(end), of(start), of(end) <= of(start)}
	}
	all := []Return{
		exact("connections", func(s State) float64 { return s.Connections }),
		exact("peers", func(s State) float64 { return s.Peers }),
		exact("contents", func(s State) float64 { return s.Contents }),
		exact("announced", func(s State) float64 { return s.Announced }),
		exact("searches", func(s State) float64 { return s.Searches }),
		exact("operations of the DHT", func(s State) float64 { return s.Operations }),
		exact("own records on their way", func(s State) float64 { return s.Records }),
		exact("goroutines", func(s State) float64 { return s.Goroutines }),
		exact("files", func(s State) float64 { return s.Files }),
	}
	if peers > 0 {
		heap := Return{Name: "heap after a collection, MiB", Start: start.Heap / (1 << 20), End: end.Heap / (1 << 20)}
		heap.Bound = (start.Heap + heapSlack + heapPerPeer*float64(peers)) / (1 << 20)
		heap.Back = heap.End <= heap.Bound
		all = append(all, heap)
	}
	return all
}

func allBack(all []Return) bool {
	return !slices.ContainsFunc(all, func(r Return) bool { return !r.Back })
}

func (r *Result) judge() {
	if len(r.Samples) > 0 {
		r.Trends = trends(r.Start, r.Full, r.Samples, r.Seconds, r.Total.Left)
	}
	r.Returns = returns(r.Start, r.End, r.Peers)
}

// good reports whether all was flat, and came back, and nobody honest was refused anything.
func (r *Result) good() bool {
	return len(r.Trends) > 0 && allBack(r.Returns) && r.served() &&
		!slices.ContainsFunc(r.Trends, func(t Trend) bool { return !t.Flat })
}

func (r *Result) served() bool {
	return r.Total.Lost == 0 && r.Total.Failed == 0 && len(r.Total.Refused) == 0
}

func (r *Result) table(w io.Writer) {
	fmt.Fprintf(w, "%d peers for %.0f s, of whom %.3g %% left each second: %d came, %d left\n",
		r.Peers, r.Seconds, r.Churn, r.Total.Joined, r.Total.Left)
	fmt.Fprintf(w, "%d introductions, p50 %.1f ms, p99 %.1f ms; %d more whose other side had just left\n",
		r.Total.Introduced, r.P50, r.P99, r.Total.Missed)
	fmt.Fprintf(w, "a peer takes %.1f KiB of resident memory and %.2f goroutines\n\n",
		(r.Full.Memory-r.Start.Memory)/1024/float64(r.Peers), (r.Full.Goroutines-r.Start.Goroutines)/float64(r.Peers))
	fmt.Fprintf(w, "%-38s %12s %14s %14s\n", "second half", "level", "growth/h", "bound/h")
	for _, t := range r.Trends {
		fmt.Fprintf(w, "%-38s %12.1f %14.1f %14.1f  %s\n", strings.TrimSuffix(t.Name+", "+t.Unit, ", "), t.Level, t.PerHour, t.Bound, verdict(t.Flat, "flat", "GROWS"))
	}
	fmt.Fprintf(w, "\n%-38s %12s %14s %14s\n", "everybody has left", "before", "after", "bound")
	for _, b := range r.Returns {
		fmt.Fprintf(w, "%-38s %12.4g %14.4g %14.4g  %s\n", b.Name, b.Start, b.End, b.Bound, verdict(b.Back, "back", "LEFT BEHIND"))
	}
	if !r.served() {
		fmt.Fprintf(w, "\n%d peers were lost, %d introductions failed, and peers were told %s; the first: %s\n",
			r.Total.Lost, r.Total.Failed, tally(r.Total.Refused), r.Trouble)
	}
	fmt.Fprintf(w, "\n%s\n", verdict(r.good(), "flat", "NOT FLAT"))
}

func verdict(good bool, yes, no string) string {
	if good {
		return yes
	}
	return no
}

// tally is counts as text, by name.
func tally[N int | float64](counts map[string]N) string {
	var text []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		text = append(text, fmt.Sprintf("%v × %s", counts[name], name))
	}
	if len(text) == 0 {
		return "nothing"
	}
	return strings.Join(text, ", ")
}
