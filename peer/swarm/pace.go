package swarm

import (
	"math/bits"
	"time"

	"p2pcdn/common/content"
)

const (
	// firstBudget is what may be asked of a peer of which nothing is known, in bytes:
	// more than a channel's slow start takes in its first round trips, and little where eight
	// leechers ask one slow seeder.
	firstBudget = 256 << 10

	// leastBudget is asked even of the slowest, in bytes: a few blocks, so that one is on its way
	// while others are behind it.
	leastBudget = 128 << 10

	// blocksAtATime is how many blocks a peer owes at least: few enough that those of a fast one are
	// long, and so many that those of a slow one come one by one, and can be taken back one by one.
	blocksAtATime = 4

	// together is how much is asked for at a time, in one frame, as the time in which it comes. Of a fast
	// peer that is several blocks: with a frame for each, a transfer between Chromiums takes a tenth
	// longer. More than that only makes those of whom nothing is left to ask wait for the others at the end.
	together = 20 * time.Millisecond

	// jitter is added to the round trip: a busy page or process answers only now
	// and then, and what it sends meanwhile has to have been asked for.
	jitter = 300 * time.Millisecond

	// calm is the most that may be asked for on account of jitter, in bytes. What is on its way
	// beyond the bandwidth-delay product only overruns the sockets' buffers: in Chromium, a window of up
	// to 1 MiB over a short path carries 35 MB/s from the first moment, and 2 MiB are lost and
	// repeated for seconds before it goes as fast.
	// To measure again: scripts/bench/run.sh chromium-chromium
	calm = 1 << 20

	// paceWindow is how long a delivery rate counts at least; then it is forgotten
	// in favour of what came later.
	paceWindow = 5 * time.Second

	// paceSpan is how long a rate must last to count. An upload limit lets a tenth of a second's worth
	// through at once, and so does every buffer on the way: over less than this, a slow peer looks fast, is
	// asked for far too much, and holds up the end.
	paceSpan = 200 * time.Millisecond

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
	since     time.Time     // when this measurement began: with a block that came; zero: it will with the next one
	before    int64         // what was delivered then
	best      [2]float64    // bytes/s: the best rate of this window and of the one before
	window    time.Time     // when this window began
}

// answered notes how long an answer took.
func (p *pace) answered(took time.Duration) {
	if took = max(took, time.Microsecond); p.rtt == 0 || took < p.rtt {
		p.rtt = took
	}
}

// came notes the bytes of a block that came.
func (p *pace) came(bytes int, now time.Time) {
	p.delivered += int64(bytes)
	switch span := now.Sub(p.since); {
	case p.since.IsZero():
	case span < paceSpan:
		return
	default:
		p.lasted(float64(p.delivered-p.before)/span.Seconds(), now)
	}
	p.since, p.before = now, p.delivered
}

// lasted notes a rate that lasted long enough to count.
func (p *pace) lasted(rate float64, now time.Time) {
	if now.Sub(p.window) >= paceWindow {
		p.best[0], p.best[1], p.window = 0, p.best[0], now
	}
	p.best[0] = max(p.best[0], rate)
}

// idle says that the peer owes nothing at the moment: time passes that is not its own.
func (p *pace) idle() { p.since, p.before = time.Time{}, p.delivered }

// rate is the peer's rate in bytes/s; 0 where it is not known yet.
func (p *pace) rate() float64 { return max(p.best[0], p.best[1]) }

// budget is how many bytes the peer may owe.
func (p *pace) budget(most int) int {
	if p.rate() == 0 {
		return min(firstBudget, most)
	}
	product := 2 * p.rate() * p.rtt.Seconds()
	return max(leastBudget, min(most, int(max(product, min(calm, product+p.rate()*jitter.Seconds())))))
}

// portion is what has to be missing in the budget, in bytes, before more is asked for.
func (p *pace) portion(budget int) int {
	return min(budget/2, int(p.rate()*together.Seconds()))
}

// block is the longest block that the peer is to be asked for, in bytes: its part of the budget, and
// a power of two, so that pieces are cut evenly.
func (p *pace) block(most int) int {
	part := max(content.LeafLength, p.budget(most)/blocksAtATime)
	return 1 << (bits.Len(uint(part)) - 1)
}

// patience is how long the peer may owe a block and send nothing.
func (p *pace) patience(block int, most time.Duration) time.Duration {
	if p.rate() == 0 {
		return most
	}
	usual := time.Duration(patientBlocks * float64(block) / p.rate() * float64(time.Second))
	return min(most, max(leastPatience, usual))
}

// takes is how long the peer needs for so many bytes, those that it owes included. One whose rate is not
// known is taken to send in time what it is asked for at first.
func (p *pace) takes(bytes int) time.Duration {
	if p.rate() == 0 {
		return time.Duration(float64(bytes) / firstBudget * float64(stallAfter))
	}
	return p.rtt + time.Duration(float64(bytes)/p.rate()*float64(time.Second))
}
