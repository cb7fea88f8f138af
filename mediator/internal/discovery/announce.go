package discovery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"p2pcdn/common/content"
)

const (
	// lookupTimeout bounds one search for the closest nodes. Three rounds of
	// queries, each with a dial to a node that does not answer.
	lookupTimeout = 20 * time.Second

	// hastyTimeout bounds the search when somebody waits for an announce: three rounds
	// of queries at the other end of the world. If it takes longer than that some node does not
	// answer; the others are known, and the record is stored at those. A renewal looks again.
	hastyTimeout = 1500 * time.Millisecond

	// putTimeout bounds storing a record at one holder, which was just queried
	// and so is connected: two round trips.
	putTimeout = 5 * time.Second

	// maxLookups bounds the lookups for announces and finishes at a time. Each
	// has ten queries under way.
	maxLookups = 16

	// maxTending bounds the records that are withdrawn or tried again one by one
	// at a time, so that they leave most of maxLookups to the peers that wait.
	maxTending = 4

	// inFlight is how long a record that was sent but not confirmed may still
	// arrive: until then the withdrawal from that holder is repeated.
	inFlight = 30 * time.Second
)

var (
	errNotStored   = errors.New("no node of the DHT confirmed the record")
	errFinished    = errors.New("finished meanwhile")
	errNotTaken    = errors.New("the node did not keep the record")
	errUnconfirmed = errors.New("not withdrawn everywhere yet")
)

// entry is what this mediator knows of its own record of one hash. It exists
// while the record is wanted, or may be held by a node, or is being worked on.
type entry struct {
	hash  content.FullHash
	place place         // of the hash in the keyspace
	turn  chan struct{} // holds a token while somebody works on the record: announce, renewal and finish take turns

	// What follows is guarded by Discovery.mu.
	users   int                // callers that work on the record or wait for their turn
	wanted  bool               // announced and not finished
	stored  bool               // the record can be found
	queued  bool               // a worker was given the record
	cancel  context.CancelFunc // ends the lookup under way; or nil
	next    time.Time          // when to renew, or to try again
	grown   bool               // the network has grown since the last look for the closest nodes
	tries   int                // that failed in a row
	holders holders            // nodes that may hold the record
}

// Announce stores the record that this mediator has seeders of the content at
// the nodes closest to the hash. It returns nil once half of them confirmed it, or all answered or did not in time and
// one confirmed it, or where this node is alone, and at once where that was done before. The
// record is kept fresh until [Discovery.Finish]. After an error it is tried
// again in the background, and calling again tries at once.
func (d *Discovery) Announce(ctx context.Context, hash content.FullHash) error {
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	d.mu.Lock()
	e := d.entries[hash]
	if e == nil {
		e = &entry{hash: hash, place: placeOfHash(hash), turn: make(chan struct{}, 1)}
		d.entries[hash] = e
	}
	if e.wanted && e.stored {
		d.mu.Unlock()
		return nil
	}
	if !e.wanted {
		e.wanted, e.tries = true, 0
		e.next = time.Now().Add(d.timing.RetryMin)
	}
	e.users++
	d.mu.Unlock()
	if err := e.take(ctx); err != nil {
		d.release(e)
		return fmt.Errorf("announcing %s: %w", hash, err)
	}
	found, ended := make(chan struct{}), make(chan error, 1)
	work, stop := context.WithCancel(d.ctx) // and not of ctx: what is under way when enough nodes have the record goes on
	d.wg.Go(func() {
		defer stop()
		defer d.release(e)
		defer e.leave()
		d.mu.Lock()
		stored := e.stored
		d.mu.Unlock()
		if stored {
			ended <- nil
			return
		}
		err := d.provide(work, e, found)
		if errors.Is(err, errNotStored) { // all who were to have it died a moment ago, and are known to be dead now
			err = d.provide(work, e, found)
		}
		ended <- err
	})
	select {
	case <-found:
		return nil
	case err = <-ended:
	case <-ctx.Done():
		stop()
		if err = <-ended; err != nil {
			err = ctx.Err()
		}
	}
	if err != nil {
		return fmt.Errorf("announcing %s: %w", hash, err)
	}
	return nil
}

// Finish withdraws the record. Nil says that every node that held it confirmed
// that it has dropped it: from then on no lookup returns this mediator. An error
// says that some did not answer; they are asked again in the background until
// the record ends by itself. Finishing what was not announced is nil.
func (d *Discovery) Finish(ctx context.Context, hash content.FullHash) error {
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	d.mu.Lock()
	e := d.entries[hash]
	if e == nil || !e.wanted {
		d.mu.Unlock()
		return nil
	}
	e.wanted, e.stored, e.tries = false, false, 0
	e.next = time.Now().Add(d.timing.RetryMin)
	if e.cancel != nil {
		e.cancel()
	}
	e.users++
	d.mu.Unlock()
	defer d.release(e)
	if err := e.take(ctx); err != nil {
		return fmt.Errorf("finishing %s: %w", hash, err)
	}
	defer e.leave()
	d.mu.Lock()
	again := e.wanted
	d.mu.Unlock()
	if again { // announced since: the later call counts
		return nil
	}
	if err := d.retract(ctx, e, true); err != nil {
		return fmt.Errorf("finishing %s: %w", hash, err)
	}
	return nil
}

// take waits for the turn; leave gives it back.
func (e *entry) take(ctx context.Context) error {
	select {
	case e.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (e *entry) leave() { <-e.turn }

// release ends a use of an entry and drops it where there is nothing left to know.
func (d *Discovery) release(e *entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e.users--
	if e.users == 0 && !e.wanted && len(e.holders) == 0 {
		delete(d.entries, e.hash)
	}
}

// provide stores the record here and at the closest nodes. found, which may be nil, is closed as
// soon as half of them have it. The caller has the turn.
func (d *Discovery) provide(ctx context.Context, e *entry, found chan<- struct{}) error {
	lookup, cancel := context.WithCancel(ctx)
	defer cancel()
	d.mu.Lock()
	if !e.wanted {
		d.mu.Unlock()
		return errFinished
	}
	e.cancel, e.grown = cancel, false
	d.mu.Unlock()
	err := d.records.put(e.hash, d.self, time.Now())
	var closest []peer.ID
	if err == nil {
		timeout := lookupTimeout
		if found != nil {
			timeout = hastyTimeout
		}
		var whole bool
		closest, whole, err = d.closest(lookup, string(multihashOf(e.hash)), timeout)
		if err == nil && !whole {
			d.mu.Lock()
			e.grown = true // at once again, with more time
			d.mu.Unlock()
		}
	}
	d.mu.Lock()
	e.cancel = nil
	if finished := lookup.Err() != nil && ctx.Err() == nil; finished || err == nil && !e.wanted {
		err = errFinished
	}
	d.mu.Unlock()
	if err == nil && len(closest) > 0 && d.putAll(ctx, e, closest, found) == 0 {
		err = cmp.Or(ctx.Err(), errNotStored)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settle(e, err == nil)
	return err
}

// settle ends the work on a record that is wanted: it was stored, or is to be
// tried again. The caller has the turn and holds d.mu.
func (d *Discovery) settle(e *entry, stored bool) {
	e.holders.forget(d.timing.RecordValidity)
	switch {
	case !e.wanted: // Finish waits for its turn
	case stored:
		e.stored, e.tries = true, 0
		e.next = time.Now()
		if !e.grown {
			e.next = d.renewal(e.place, e.next)
		}
	default:
		d.postpone(e)
	}
}

// postpone sets the time of the next try after a failure. The caller holds d.mu.
func (d *Discovery) postpone(e *entry) {
	pause := d.timing.RetryMax
	if e.tries < 16 {
		pause = min(d.timing.RetryMin<<e.tries, d.timing.RetryMax)
	}
	e.tries++
	e.next = time.Now().Add(jitter(pause))
}

// putAll stores the record at all nodes and returns how many confirmed it. Where
// half of them have, and it is still wanted, it can be found, and found is closed.
func (d *Discovery) putAll(ctx context.Context, e *entry, nodes []peer.ID, found chan<- struct{}) int {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	confirmed := 0 // guarded by d.mu
	var wg sync.WaitGroup
	for _, node := range nodes {
		wg.Go(func() {
			sent, err := d.put(ctx, node, e.hash)
			d.mu.Lock()
			defer d.mu.Unlock()
			if sent {
				e.holders.set(node, time.Now(), err == nil)
			}
			if err == nil {
				confirmed++
				if found != nil && e.wanted && confirmed == (len(nodes)+1)/2 {
					e.stored = true
					close(found)
				}
			} else {
				d.log.Debug("record not stored", "hash", e.hash.Short(), "node", node, "error", err)
			}
		})
	}
	wg.Wait()
	return confirmed
}

// info is what a record says of this mediator.
func (d *Discovery) info() peer.AddrInfo { return peer.AddrInfo{ID: d.self, Addrs: d.raw.Addrs()} }

// put stores the record at one node and asks for it. Twice: the first message
// may have gone into a stream that the node had closed for idleness. sent says
// that the node may have the record, whatever the error. A node that cannot drop
// a record when it is told to gets none.
func (d *Discovery) put(ctx context.Context, node peer.ID, hash content.FullHash) (sent bool, err error) {
	if protocols, err := d.raw.Peerstore().SupportsProtocols(node, WithdrawProtocol); err != nil || len(protocols) == 0 {
		return false, errNotTaken
	}
	key := multihashOf(hash)
	for range 2 {
		if err := d.messenger.PutProviderAddrs(ctx, node, key, d.info()); err != nil {
			return sent, fmt.Errorf("sending the record: %w", err)
		}
		sent = true
		providers, _, err := d.messenger.GetProviders(ctx, node, key)
		if err != nil {
			return sent, fmt.Errorf("asking for the record: %w", err)
		}
		for _, provider := range providers {
			if provider.ID == d.self {
				return sent, nil
			}
		}
	}
	return false, errNotTaken // both answers came behind the record
}

// closest returns the nodes closest to a key; none where this node is alone. After timeout it
// returns those that are known by then, which are not the whole.
func (d *Discovery) closest(ctx context.Context, key string, timeout time.Duration) (nodes []peer.ID, whole bool, err error) {
	select {
	case d.lookups <- struct{}{}:
		defer func() { <-d.lookups }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	if d.dht.RoutingTable().Size() == 0 {
		return nil, true, nil
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	nodes, err = d.dht.GetClosestPeers(limited, key)
	switch {
	case ctx.Err() != nil:
		return nil, false, ctx.Err()
	case err == nil || len(nodes) > 0: // of too slow a search, those that answered
		return nodes, limited.Err() == nil, nil
	case d.dht.RoutingTable().Size() == 0: // the last ones it knew are gone
		return nil, true, nil
	}
	return nil, false, fmt.Errorf("looking for the closest nodes: %w", err)
}

// retract withdraws the record from here and from all that may hold it. Where
// look is set it also tells the nodes that are closest now, for an earlier run of
// this mediator may have stored it there; whether those answer does not count.
// The caller has the turn.
func (d *Discovery) retract(ctx context.Context, e *entry, look bool) error {
	d.records.remove(e.hash, d.self)
	d.mu.Lock()
	holders := slices.Clone(e.holders)
	d.mu.Unlock()
	failed := 0 // guarded by d.mu
	var wg sync.WaitGroup
	for _, held := range holders {
		node := held.node.Value()
		wg.Go(func() {
			err := d.withdrawals.withdraw(ctx, node, e.hash)
			d.mu.Lock()
			defer d.mu.Unlock()
			switch {
			case err != nil:
				failed++
				d.log.Debug("record not withdrawn yet", "hash", e.hash.Short(), "node", node, "error", err)
			case held.sure || time.Since(held.at) > inFlight:
				e.holders.remove(node)
			}
		})
	}
	if look {
		closest, _, err := d.closest(ctx, string(multihashOf(e.hash)), lookupTimeout)
		if err != nil {
			d.log.Debug("withdrawing from the known holders only", "hash", e.hash.Short(), "error", err)
		}
		for _, node := range closest {
			if holders.find(node) < 0 {
				wg.Go(func() { _ = d.withdrawals.withdraw(ctx, node, e.hash) })
			}
		}
	}
	wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	e.holders.forget(d.timing.RecordValidity)
	if len(e.holders) > 0 && !e.wanted {
		d.postpone(e)
	}
	if failed > 0 {
		return fmt.Errorf("%w: %d of %d nodes did not answer", errUnconfirmed, failed, len(holders))
	}
	return nil
}

// due returns the entries whose time has come, and marks them: those to work on
// one by one, withdrawals first, and those to renew.
func (d *Discovery) due(now time.Time) (single, renewals []*entry) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var retries []*entry
	for _, e := range d.entries {
		if e.queued || now.Before(e.next) {
			continue
		}
		e.queued = true
		e.users++
		switch {
		case !e.wanted:
			single = append(single, e)
		case !e.stored:
			retries = append(retries, e)
		default:
			e.grown = false
			renewals = append(renewals, e)
		}
	}
	return append(single, retries...), renewals
}

// tend works on entries one by one, a few at a time.
func (d *Discovery) tend(ctx context.Context, entries []*entry) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxTending)
	for _, e := range entries {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			d.tendOne(ctx, e)
		})
	}
	wg.Wait()
}

func (d *Discovery) tendOne(ctx context.Context, e *entry) {
	defer d.release(e)
	err := e.take(ctx)
	d.mu.Lock()
	e.queued = false
	wanted := e.wanted
	d.mu.Unlock()
	if err != nil {
		return
	}
	defer e.leave()
	if wanted {
		err = d.provide(ctx, e, nil)
	} else {
		err = d.retract(ctx, e, false)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errFinished) {
		d.log.Info("a record of the DHT is tried again later", "hash", e.hash.Short(), "announced", wanted, "error", err)
	}
}

// renewAll makes every announced record due, because the network has grown.
func (d *Discovery) renewAll(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.entries {
		if e.wanted {
			e.next, e.grown = now, true
		}
	}
}

// withdrawAll withdraws every record from every known holder, one message per
// holder where they fit, within the time of ctx.
func (d *Discovery) withdrawAll(ctx context.Context) {
	byHolder := make(map[peer.ID][]content.FullHash)
	d.mu.Lock()
	for _, e := range d.entries {
		d.records.remove(e.hash, d.self)
		for _, held := range e.holders {
			node := held.node.Value()
			byHolder[node] = append(byHolder[node], e.hash)
		}
	}
	d.mu.Unlock()
	failed := 0 // guarded by mu
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxWithdrawing)
	for node, hashes := range byHolder {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if err := d.withdrawals.send(ctx, node, hashes); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed++
			}
		})
	}
	wg.Wait()
	if failed > 0 {
		d.log.Info("some nodes keep this mediator's records until they end", "nodes", failed, "of", len(byHolder))
	}
}
