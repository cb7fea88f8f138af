package memnet_test

import (
	"slices"
	"testing"
	"time"

	"p2pcdn/mediator/internal/memnet"
)

func TestEarth(t *testing.T) {
	world := memnet.New(memnet.Config{Latency: memnet.Earth(1)})
	again := memnet.New(memnet.Config{Latency: memnet.Earth(1)})
	other := memnet.New(memnet.Config{Latency: memnet.Earth(2)})
	var hosts, twins, others []*memnet.Host
	for range 200 {
		hosts, twins, others = append(hosts, world.Host("")), append(twins, again.Host("")), append(others, other.Host(""))
	}
	var trips []time.Duration
	differ := 0
	for i, a := range hosts {
		for j, b := range hosts[:i] {
			trip := a.Latency(b) + b.Latency(a)
			trips = append(trips, trip)
			if a.Latency(b) != b.Latency(a) || a.Latency(b) != twins[i].Latency(twins[j]) {
				t.Fatalf("hosts %d and %d: %v, %v, and with the same seed %v", i, j, a.Latency(b), b.Latency(a), twins[i].Latency(twins[j]))
			}
			if a.Latency(b) != others[i].Latency(others[j]) {
				differ++
			}
		}
	}
	slices.Sort(trips)
	at := func(part float64) time.Duration {
		return trips[int(part*float64(len(trips)))].Round(time.Millisecond)
	}
	t.Logf("round trips: 1 %% below %v, 10 %% %v, half %v, 90 %% %v, 99 %% %v", at(.01), at(.1), at(.5), at(.9), at(.99))
	for _, bound := range []struct {
		part     float64
		from, to time.Duration
	}{{.01, time.Millisecond, 15 * time.Millisecond}, {.1, 15 * time.Millisecond, 50 * time.Millisecond},
		{.5, 80 * time.Millisecond, 160 * time.Millisecond}, {.9, 200 * time.Millisecond, 320 * time.Millisecond},
		{.99, 250 * time.Millisecond, 450 * time.Millisecond}} {
		if got := at(bound.part); got < bound.from || got > bound.to {
			t.Errorf("%v of the round trips are below %v, want %v to %v", bound.part, got, bound.from, bound.to)
		}
	}
	if differ < len(trips)/2 {
		t.Error("another seed is the same world")
	}
}
