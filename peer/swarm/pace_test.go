package swarm

import (
	"testing"
	"time"
)

// steady is a peer that has delivered blocks at a rate for a while, each after the round trip.
func steady(rate float64, rtt, lasted time.Duration, from time.Time) (p pace, now time.Time) {
	const block = 64 * kib
	each := time.Duration(block / rate * float64(time.Second))
	took := max(rtt, each)
	for now = from; now.Sub(from) < lasted; now = now.Add(each) {
		p.delivered += block
		p.came(int64(rate*took.Seconds()), took, now)
		p.answered(rtt)
	}
	return p, now
}

func TestBudgetIsTheBandwidthDelayProductTwice(t *testing.T) {
	for _, test := range []struct {
		rate float64
		rtt  time.Duration
	}{{1e6, 50 * time.Millisecond}, {4e6, 20 * time.Millisecond}, {3e6, 400 * time.Millisecond}} {
		p, _ := steady(test.rate, test.rtt, 3*time.Second, start)
		want := test.rate * (2*test.rtt + jitter).Seconds()
		if got := float64(p.budget(DefaultInFlight)); got < 0.95*want || got > 1.05*want {
			t.Errorf("%.0f bytes/s over %v: %.0f in flight instead of %.0f", test.rate, test.rtt, got, want)
		}
	}
}

func TestBudgetIsBounded(t *testing.T) {
	var unknown pace
	if got := unknown.budget(DefaultInFlight); got != firstBudget {
		t.Errorf("%d bytes of a peer of which nothing is known", got)
	}
	if got := unknown.budget(1000); got != 1000 {
		t.Errorf("%d bytes where 1000 are allowed", got)
	}
	slow, _ := steady(1000, time.Millisecond, 300*time.Second, start)
	if got := slow.budget(DefaultInFlight); got != leastBudget {
		t.Errorf("%d bytes of a slow peer", got)
	}
	fast, _ := steady(1e9, 100*time.Millisecond, time.Second, start)
	if got := fast.budget(DefaultInFlight); got != DefaultInFlight {
		t.Errorf("%d bytes of a fast peer", got)
	}
}

// TestAnOldRateIsForgotten: after two windows only what came in them counts.
func TestAnOldRateIsForgotten(t *testing.T) {
	p, now := steady(10e6, 20*time.Millisecond, time.Second, start)
	if rate := p.rate(); rate < 9e6 {
		t.Fatalf("%.0f bytes/s", rate)
	}
	for range 4 {
		now = now.Add(paceWindow * 3 / 4)
		p.came(64*kib, 640*time.Millisecond, now)
	}
	if rate := p.rate(); rate > 110e3 || rate < 90e3 {
		t.Errorf("%.0f bytes/s, of 100,000", rate)
	}
}

func TestPatience(t *testing.T) {
	var unknown pace
	if got := unknown.patience(48*kib, DefaultPatience); got != DefaultPatience {
		t.Errorf("%v with a peer of which nothing is known", got)
	}
	for _, test := range []struct {
		rate float64
		want time.Duration
	}{{10e6, leastPatience}, {1e3, DefaultPatience}, {48 * kib * 4, 5 * time.Second}} {
		p := pace{best: [2]float64{test.rate}}
		if got := p.patience(48*kib, DefaultPatience); got != test.want {
			t.Errorf("%v at %.0f bytes/s instead of %v", got, test.rate, test.want)
		}
	}
	if got := (&pace{best: [2]float64{10e6}}).patience(48*kib, time.Second); got != time.Second {
		t.Errorf("%v where a second was configured", got)
	}
}

func TestTakes(t *testing.T) {
	var unknown pace
	if got := unknown.takes(1); got != stallAfter {
		t.Errorf("%v for a peer of which nothing is known", got)
	}
	p := pace{rtt: 50 * time.Millisecond, best: [2]float64{0, 1e6}}
	if got := p.takes(500_000); got != 550*time.Millisecond {
		t.Errorf("%v for half a second of bytes", got)
	}
}

// TestTheLeastRoundTripCounts: what waited behind other blocks is not the path.
func TestTheLeastRoundTripCounts(t *testing.T) {
	var p pace
	for _, took := range []time.Duration{300, 40, 500, 0} {
		p.answered(took * time.Millisecond)
	}
	if p.rtt != time.Microsecond {
		t.Errorf("%v", p.rtt)
	}
}
