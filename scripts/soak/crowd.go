//go:build unix

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

const (
	// perAddress is how many peers come from one address: half of what the mediator lets in,
	// since others that have vanished may still count.
	perAddress = 128

	// atOnce is how many peers connect, or leave, at a time.
	atOnce = 64

	// maxOpen bounds the introductions at a time. One takes milliseconds.
	maxOpen = 512

	// peersPerContent makes a pool of contents of which each has some four seeders.
	peersPerContent = 2
	maxSeeds        = 3

	// Of those that leave, so many of a hundred are reset, and so many vanish. The others
	// say goodbye.
	resetting = 40
	vanishing = 10

	// vanishTime is how long what vanished is kept here: the mediator finds out within 50 s.
	vanishTime = time.Minute

	// maxLost is how many peers may lose their connection, or fail to get one, before it is of
	// no use to go on.
	maxLost = 100
)

// crowd is the peers of a run.
type crowd struct {
	url       string
	pool      int // contents
	addresses int // that peers come from, in turn
	work      sync.WaitGroup

	mu       sync.Mutex // guards everything below
	random   *rand.Rand
	live     []*peer
	vanished map[*peer]*time.Timer
	gone     map[ident.PeerID]time.Time // when each left: the mediator may not know yet; some dozen MB in an hour
	counts   Counts
	took     []time.Duration // introductions since it was last asked
	trouble  error           // the first
}

// Counts are what happened to a crowd.
type Counts struct {
	Joined     int            `json:"joined"`
	Left       int            `json:"left"`
	Introduced int            `json:"introduced"`
	Missed     int            `json:"missed"`  // the other one left meanwhile
	Skipped    int            `json:"skipped"` // there were too many already
	Lost       int            `json:"lost"`    // connections that ended, or were not made, against our will
	Failed     int            `json:"failed"`  // introductions that came to nothing
	Refused    map[string]int `json:"refused"` // errors that peers were told, but peer_not_found
}

// newCrowd makes a crowd of so many peers, of whom none is there yet. The same seed gives
// the same contents and choices.
func newCrowd(url string, peers int) *crowd {
	return &crowd{
		url: url, pool: max(1, peers/peersPerContent), addresses: 1 + peers/perAddress, random: rand.New(rand.NewPCG(1, uint64(peers))),
		vanished: make(map[*peer]*time.Timer), gone: make(map[ident.PeerID]time.Time), counts: Counts{Refused: make(map[string]int)},
	}
}

func contentNumber(n int) (hash content.FullHash) {
	binary.BigEndian.PutUint64(hash[:], uint64(n)+1)
	return hash
}

// address is the nth of 127.0.1.0/24.
func address(n int) net.IP { return net.IPv4(127, 0, 1, byte(1+n)) }

// join brings so many new peers, and returns when they are there.
func (c *crowd) join(ctx context.Context, count int) error {
	c.inParallel(count, func() {
		c.mu.Lock()
		from := address(c.counts.Joined % c.addresses)
		c.counts.Joined++
		seeds := make([]content.FullHash, 0, maxSeeds)
		for range 1 + c.random.IntN(maxSeeds) {
			if hash := contentNumber(c.random.IntN(c.pool)); !slices.Contains(seeds, hash) {
				seeds = append(seeds, hash)
			}
		}
		c.mu.Unlock()
		p, err := join(ctx, c.url, from, seeds, c.refused)
		if err != nil {
			if ctx.Err() == nil {
				c.lose(fmt.Errorf("a peer cannot come: %w", err))
			}
			return
		}
		c.mu.Lock()
		p.index = len(c.live)
		c.live = append(c.live, p)
		c.mu.Unlock()
		c.work.Go(func() { c.watch(p) })
	})
	return c.fate(ctx)
}

// inParallel calls f so often, atOnce at a time.
func (c *crowd) inParallel(count int, f func()) {
	var all sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for range count {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			f()
		})
	}
	all.Wait()
}

// watch notices where a peer ends that did not want to.
func (c *crowd) watch(p *peer) {
	<-p.ended
	c.mu.Lock()
	wanted := p.index < 0
	c.remove(p)
	c.mu.Unlock()
	if !wanted {
		_ = p.conn.CloseNow()
		c.lose(fmt.Errorf("a peer was cut off: %w", p.err))
	}
}

// remove takes a peer out of those that are there. mu is held.
func (c *crowd) remove(p *peer) {
	if p.index < 0 {
		return
	}
	last := len(c.live) - 1
	c.live[p.index] = c.live[last]
	c.live[p.index].index = p.index
	c.live[last] = nil
	c.live, p.index = c.live[:last], -1
}

func (c *crowd) lose(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Lost++
	if c.trouble == nil {
		c.trouble = err
	}
}

func (c *crowd) refused(code mediation.ErrorCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts.Refused[string(code)]++
}

// fate says whether it is of no use to go on.
func (c *crowd) fate(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.counts.Lost > maxLost {
		return fmt.Errorf("%d peers were lost; the first: %w", c.counts.Lost, c.trouble)
	}
	return ctx.Err()
}

// leave has so many of the peers leave, by chance who and how. None vanishes where the caller
// would have to wait for it.
func (c *crowd) leave(count int, mayVanish bool) {
	c.inParallel(count, func() {
		c.mu.Lock()
		if len(c.live) == 0 {
			c.mu.Unlock()
			return
		}
		p := c.live[c.random.IntN(len(c.live))]
		c.remove(p)
		c.counts.Left++
		c.gone[p.id] = time.Now()
		how := c.random.IntN(100)
		if how < vanishing && mayVanish {
			p.vanish()
			c.vanished[p] = time.AfterFunc(vanishTime, func() { c.forget(p) })
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		if how < vanishing+resetting {
			p.reset()
		} else {
			p.close()
		}
	})
}

// forget closes what is left here of a peer that vanished.
func (c *crowd) forget(p *peer) {
	c.mu.Lock()
	delete(c.vanished, p)
	c.mu.Unlock()
	p.reset()
}

// end has everybody leave, also those that have vanished, and waits for that.
func (c *crowd) end() {
	c.mu.Lock()
	all := len(c.live)
	var vanished []*peer
	for p, timer := range c.vanished {
		timer.Stop()
		vanished = append(vanished, p)
	}
	c.mu.Unlock()
	c.leave(all, false)
	for _, p := range vanished {
		c.forget(p)
	}
	c.work.Wait()
}

// choose picks who is introduced next, and by which content. The peer is busy then.
func (c *crowd) choose() (_ *peer, _ content.FullHash, forget, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.live) < 2 {
		return nil, content.FullHash{}, false, false
	}
	leecher, seeder := c.live[c.random.IntN(len(c.live))], c.live[c.random.IntN(len(c.live))]
	hash := seeder.seeds[c.random.IntN(len(seeder.seeds))]
	if slices.Contains(leecher.seeds, hash) || !leecher.busy.CompareAndSwap(false, true) {
		return nil, content.FullHash{}, false, false
	}
	return leecher, hash, c.random.IntN(2) == 0, true
}

// introduce introduces two of them, by chance who.
func (c *crowd) introduce(ctx context.Context) {
	leecher, hash, forget, ok := c.choose()
	if !ok {
		return
	}
	defer leecher.busy.Store(false)
	began := time.Now()
	err := leecher.introduce(ctx, hash, forget)
	took := time.Since(began)
	var silent unanswered
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.counts.Introduced++
		c.took = append(c.took, took)
	case errors.Is(err, errMissed), leecher.index < 0, errors.As(err, &silent) && c.wasGone(silent.id, began): // one of them left meanwhile
		c.counts.Missed++
	default:
		c.counts.Failed++
		if c.trouble == nil {
			c.trouble = fmt.Errorf("an introduction failed: %w", err)
		}
	}
}

// meanwhile is how soon an introduction, once it has begun, has asked the other side: one that had left
// before, but not yet for the mediator, which named it, gives no answer.
const meanwhile = 2 * time.Second

// wasGone reports whether a peer had left when an introduction began, or just after. mu is held.
func (c *crowd) wasGone(id ident.PeerID, began time.Time) bool {
	at, left := c.gone[id]
	return left && at.Before(began.Add(meanwhile))
}

// tick is how often something is done.
const tick = 100 * time.Millisecond

// liveOn lets a crowd of so many peers live until ctx ends: each second churn percent of them
// leave, others come for them, and so many are introduced. See [crowd.fate] for the error.
func (c *crowd) liveOn(ctx context.Context, peers int, churn, introductions float64) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var work sync.WaitGroup
	defer work.Wait()
	places := make(chan struct{}, maxOpen)
	moving := make(chan struct{}, 1)
	whole := context.WithoutCancel(ctx) // what has begun is ended: a write that is not takes its connection along
	var leave, introduce float64        // that are due
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := c.fate(ctx); err != nil && ctx.Err() == nil {
			return err
		}
		leave += float64(peers) * churn / 100 * tick.Seconds()
		introduce += introductions * tick.Seconds()
		select { // leaving takes a while, and what is due meanwhile is done after it
		case moving <- struct{}{}:
			due := min(int(leave), peers)
			leave -= float64(due)
			work.Go(func() {
				defer func() { <-moving }()
				c.leave(due, true)
				_ = c.join(whole, peers-c.size()) // it is looked at above
			})
		default:
		}
		for ; introduce >= 1; introduce-- {
			select {
			case places <- struct{}{}:
				work.Go(func() {
					defer func() { <-places }()
					c.introduce(whole)
				})
			default:
				c.mu.Lock()
				c.counts.Skipped++
				c.mu.Unlock()
			}
		}
	}
}

// firstTrouble is the first thing that went wrong; "": nothing did.
func (c *crowd) firstTrouble() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.trouble == nil {
		return ""
	}
	return c.trouble.Error()
}

func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.live)
}

// look returns what has happened so far, and how long introductions took since it was last asked.
func (c *crowd) look() (Counts, []time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	took := c.took
	c.took = nil
	counts := c.counts
	counts.Refused = make(map[string]int, len(c.counts.Refused))
	for code, n := range c.counts.Refused {
		counts.Refused[code] = n
	}
	return counts, took
}
