package simulation

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

// traced is a mediator's discovery that notes how its lookups go.
type traced struct{ *mediator }

// Announce implements [router.Discovery].
func (t traced) Announce(ctx context.Context, hash content.FullHash) error {
	return t.discovery.Announce(ctx, hash)
}

// Finish implements [router.Discovery].
func (t traced) Finish(ctx context.Context, hash content.FullHash) error {
	return t.discovery.Finish(ctx, hash)
}

// trace is what is known of the first search in the DHT for a lookup. Guarded by world.mu.
type trace struct {
	begun   bool
	hops    int           // levels of queries until the record of a living seeder's mediator was there; -1: it was not found
	found   time.Duration // until then
	lasted  time.Duration // until the search ended; zero: it has not
	queries int           // sent
	dials   int           // to mediators that were not connected
	failed  int           // queries and dials
	stale   int           // mediators found that are dead
}

// Find implements [router.Discovery].
func (t traced) Find(ctx context.Context, hash content.FullHash, yield func(ident.MediatorID) bool) error {
	w := t.world
	w.mu.Lock()
	l := w.lookups[lookupKey{t.id, hash}]
	first := l != nil && !l.trace.begun
	if first {
		l.trace.begun = true
	}
	w.mu.Unlock()
	if !first {
		return t.discovery.Find(ctx, hash, yield)
	}
	ctx, cancel := context.WithCancel(ctx)
	ctx, events := routing.RegisterForQueryEvents(ctx)
	f := follower{world: w, trace: &l.trace, began: time.Now(), levels: make(map[peer.ID]int)}
	var reading sync.WaitGroup
	reading.Go(func() {
		for event := range events {
			f.follow(event)
		}
	})
	err := t.discovery.Find(ctx, hash, func(id ident.MediatorID) bool {
		f.yielded(id, hash)
		return yield(id)
	})
	cancel()
	reading.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	l.trace.lasted = max(time.Since(f.began), 1)
	l.rouse()
	return err
}

// follower tells from the events of a query at which level each node is: those that
// the routing table names are at the first, those that a node of one level names first
// at the next. A record comes from the node whose response comes with it, in the same moment,
// whichever of the two is heard of first: on simulated time there are no two by chance.
type follower struct {
	world *world
	began time.Time

	// guarded by world.mu
	trace  *trace
	levels map[peer.ID]int
	at     time.Time // when the record was found; zero: not yet, or its level is known
	last   int       // the level of the last response
	lastAt time.Time // when it came
}

func (f *follower) yielded(id ident.MediatorID, hash content.FullHash) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	m := w.byID[id]
	if m == nil || !m.alive {
		f.trace.stale++
		return
	}
	seeds := false
	for _, s := range m.seeders {
		seeds = seeds || s.hash == hash
	}
	if !seeds || f.trace.found != 0 || f.trace.hops >= 0 {
		return
	}
	f.trace.found = time.Since(f.began)
	if f.trace.found == 0 {
		f.trace.hops = 0 // the record is here
		return
	}
	if f.at = time.Now(); f.lastAt.Equal(f.at) {
		f.trace.hops, f.at = f.last, time.Time{}
	}
}

func (f *follower) follow(event *routing.QueryEvent) {
	w := f.world
	w.mu.Lock()
	defer w.mu.Unlock()
	switch event.Type {
	case routing.DialingPeer:
		f.trace.dials++
	case routing.SendingQuery:
		f.trace.queries++
	case routing.QueryError:
		f.trace.failed++
	case routing.PeerResponse:
		level := f.level(event.ID)
		f.last, f.lastAt = level, time.Now()
		if f.at.Equal(time.Now()) {
			f.trace.hops, f.at = level, time.Time{}
		}
		for _, next := range event.Responses {
			if f.levels[next.ID] == 0 {
				f.levels[next.ID] = level + 1
			}
		}
		return
	}
	f.level(event.ID)
}

// level is that of a node, which is at the first if nobody has named it.
func (f *follower) level(id peer.ID) int {
	if f.levels[id] == 0 {
		f.levels[id] = 1
	}
	return f.levels[id]
}
