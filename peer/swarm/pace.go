package swarm

import "time"

const (
	// firstBudget is what may be asked of a peer of which nothing is known, in bytes:
	// more than a channel's slow start takes in its first round trips, and little where eight
	// leechers ask one slow seeder.
	firstBudget = 512 << 10

	// leastBudget is asked even of the slowest, in bytes: one block on its way and one behind it.
	leastBudget = 128 << 10

	// jitter is added to the round trip: a busy page or process answers only now
	// and then, and what it sends meanwhile has to have been asked for.
	jitter = 300 * time.Millisecond

	// paceWindow is how long a delivery rate counts at least; then it is forgotten
	// in favour of what came later.
	paceWindow = 5 * time.Second

	// leastPatience is how long a peer may owe a block in any case: a page in the
	// background, a collector or a lost packet stop a peer for a second or two.
	leastPatience = 3 * time.Second

	// patientBlocks is how many times longer than usual a fast peer may take for a block.
	patientBlocks = 20

	// stallAfter is when others may be asked, too, for what a peer owes, where
	// nothing else is left to ask for or somebody waits.
	stallAfter = time.Second
)

// pace is how fast a peer delivers. The number of bytes to have asked for follows
// from it: its bandwidth-delay product, twice so that the rate can be seen to grow (as in BBR,
// Cardwell et al., ACM Queue 14(5), 2016), and what comes in during a jitter.
type pace struct {
	delivered int64         // bytes, ever
	rtt       time.Duration // the least time from a question to its answer; 0: none yet
	best      [2]float64    // bytes/s: the best rate of this window and of the one before
	window    time.Time     // when this window began
}

// answered notes how long an answer took.
func (p *pace) answered(took time.Duration) {
	if took = max(took, time.Microsecond); p.rtt == 0 || took < p.rtt {
		p.rtt = took
	}
}

// came notes a block: how many bytes came since it was asked for, and how long ago that was.
func (p *pace) came(bytes int64, took time.Duration, now time.Time) {
	if now.Sub(p.window) >= paceWindow {
		p.best[0], p.best[1], p.window = 0, p.best[0], now
	}
	p.best[0] = max(p.best[0], float64(bytes)/max(took, time.Millisecond).Seconds())
}

// rate is the peer's rate in bytes/s; 0 where nothing came yet.
func (p *pace) rate() float64 { return max(p.best[0], p.best[1]) }

// budget is how many bytes the peer may owe.
func (p *pace) budget(most int) int {
	if p.rate() == 0 {
		return min(firstBudget, most)
	}
	return max(leastBudget, min(most, int(p.rate()*(2*p.rtt+jitter).Seconds())))
}

// patience is how long the peer may owe a block and send nothing.
func (p *pace) patience(block int, most time.Duration) time.Duration {
	if p.rate() == 0 {
		return most
	}
	usual := time.Duration(patientBlocks * float64(block) / p.rate() * float64(time.Second))
	return min(most, max(leastPatience, usual))
}

// takes is how long the peer needs for so many bytes, those that it owes included.
func (p *pace) takes(bytes int) time.Duration {
	if p.rate() == 0 {
		return stallAfter
	}
	return p.rtt + time.Duration(float64(bytes)/p.rate()*float64(time.Second))
}
