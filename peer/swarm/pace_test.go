package swarm

import (
	"testing"
	"time"
)

// block is what comes at a time in these tests, in bytes.
const block = 64 * kib

// steady is a peer that has delivered blocks at a rate for a while.
func steady(rate float64, rtt, lasted time.Duration, from time.Time) (p pace, now time.Time) {
	each := time.Duration(block / rate * float64(time.Second))
	for now = from; now.Sub(from) < lasted; now = now.Add(each) {
		p.came(block, now)
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
		product := 2 * test.rate * test.rtt.Seconds()
		want := max(product, min(calm, product+test.rate*jitter.Seconds()))
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

// TestABurstIsNotARate: what comes at once says little of what comes later.
func TestABurstIsNotARate(t *testing.T) {
	const rate = 1e6
	var p pace
	p.idle()
	now := start
	for range 4 { // a quarter of a second's worth at once
		p.came(block, now)
	}
	if got := p.rate(); got != 0 {
		t.Errorf("%.0f bytes/s out of a burst", got)
	}
	for now.Sub(start) < 2*time.Second {
		now = now.Add(time.Duration(block / rate * 1e9))
		p.came(block, now)
	}
	if got := p.rate(); got < 0.9*rate || got > 2*rate {
		t.Errorf("%.0f bytes/s where %.0f last", got, rate)
	}
}

// TestIdleTimeDoesNotCount: a peer that was asked for nothing was not slow.
func TestIdleTimeDoesNotCount(t *testing.T) {
	p, now := steady(2e6, 20*time.Millisecond, time.Second, start)
	for range 5 {
		now = now.Add(10 * time.Second)
		p.idle()
		for range 20 {
			p.came(block, now)
			now = now.Add(32768 * time.Microsecond)
		}
	}
	if got := p.rate(); got < 1.8e6 || got > 2.2e6 {
		t.Errorf("%.0f bytes/s", got)
	}
}

// TestAnOldRateIsForgotten: after two windows only what came in them counts.
func TestAnOldRateIsForgotten(t *testing.T) {
	p, now := steady(10e6, 20*time.Millisecond, time.Second, start)
	if rate := p.rate(); rate < 9e6 || rate > 11e6 {
		t.Fatalf("%.0f bytes/s", rate)
	}
	for range 25 {
		now = now.Add(block * 10 * time.Microsecond)
		p.came(block, now)
	}
	if rate := p.rate(); rate > 105e3 || rate < 95e3 {
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
	if got := unknown.takes(firstBudget); got != stallAfter {
		t.Errorf("%v for all that a peer of which nothing is known is asked for", got)
	}
	if got := unknown.takes(0); got != 0 {
		t.Errorf("%v for nothing", got)
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
