package simulation

import (
	"math"
	"slices"
	"time"
)

// Result is what was measured. Numbers of traffic are sums over all mediators and Config.Measured.
type Result struct {
	Config    Config
	Lookups   []Lookup
	Announces []time.Duration // from announce to announced, also of those at the new mediators of seeders whose own had died
	Departed  int             // mediators that died

	Messages    int64 // sent
	Bytes       int64 // sent
	Dials       int64
	FailedDials int64

	// Of each mediator at the end:
	Records     []int // of others
	Peers       []int // in its routing table
	Connections []int
}

// Lookup is one lookup. Times are from when the mediator had get_peers; zero is never.
type Lookup struct {
	Found    time.Duration // until it named a seeder whose mediator lives
	Reached  time.Duration // until such a seeder had answered a signal
	Searched time.Duration // until the first search in the DHT had ended
	InDHT    time.Duration // until that had found the record of a living mediator
	Hops     int           // levels of queries until then; 0: the record was here; -1: unknown, or not found
	Queries  int           // of the first search
	Dials    int           // of the first search
	Failed   int           // queries and dials of the first search
	Stale    int           // mediators that the first search found and that are dead
	Dead     int           // seeders named whose mediator is dead
}

// add takes a lookup that has ended. world.mu is held.
func (r *Result) add(l *lookup) {
	t := l.trace
	r.Lookups = append(r.Lookups, Lookup{
		Found: l.found, Reached: l.reached, Searched: t.lasted, InDHT: t.found, Hops: t.hops,
		Queries: t.queries, Dials: t.dials, Failed: t.failed, Stale: t.stale, Dead: l.dead,
	})
}

// Success returns how many lookups reached a living seeder, and the bounds of
// the 95 % confidence interval of their part (Wilson).
func (r *Result) Success() (reached int, low, high float64) {
	for _, l := range r.Lookups {
		if l.Reached > 0 {
			reached++
		}
	}
	n := float64(len(r.Lookups))
	if n == 0 {
		return 0, 0, 1
	}
	const z = 1.96
	p := float64(reached) / n
	middle := (p + z*z/(2*n)) / (1 + z*z/n)
	half := z / (1 + z*z/n) * math.Sqrt(p*(1-p)/n+z*z/(4*n*n))
	return reached, max(0, middle-half), min(1, middle+half)
}

// PerMediator returns a sum over all mediators as that of one in an hour.
func (r *Result) PerMediator(sum int64) float64 {
	return float64(sum) / float64(r.Config.Mediators) / r.Config.Measured.Hours()
}

// times returns what get says of those lookups for which it says something, sorted.
func (r *Result) times(get func(Lookup) time.Duration) (times []time.Duration) {
	for _, l := range r.Lookups {
		if d := get(l); d > 0 {
			times = append(times, d)
		}
	}
	slices.Sort(times)
	return times
}

func found(l Lookup) time.Duration   { return l.Found }
func reached(l Lookup) time.Duration { return l.Reached }
func inDHT(l Lookup) time.Duration   { return l.InDHT }

// hops returns those of the lookups that found the record, sorted.
func (r *Result) hops() (hops []int) {
	for _, l := range r.Lookups {
		if l.Hops >= 0 {
			hops = append(hops, l.Hops)
		}
	}
	slices.Sort(hops)
	return hops
}

// quantile returns the value below which a part of the sorted ones is; zero of none.
func quantile[T any](sorted []T, part float64) (value T) {
	if len(sorted) == 0 {
		return value
	}
	return sorted[min(len(sorted)-1, int(part*float64(len(sorted))))]
}

func mean[T int | int64](values []T) float64 {
	if len(values) == 0 {
		return 0
	}
	sum := 0.0
	for _, v := range values {
		sum += float64(v)
	}
	return sum / float64(len(values))
}

func most(values []int) (most int) {
	for _, v := range values {
		most = max(most, v)
	}
	return most
}

func sortDurations(durations []time.Duration) { slices.Sort(durations) }
