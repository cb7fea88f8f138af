package discovery

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Records are renewed region by region. The keyspace is a round that takes
// [Timing].Renew and has renewalSlots parts; the records of one part are due at
// the same moment. A few lookups learn all nodes of a region of 20 nodes or
// more, and so the 20 nearest of every record in it; each node gets its records
// on one stream in one go. With 20 nodes or fewer in the routing table there is
// nothing to look up.
//
// BenchmarkReprovide measures it against a lookup and 20 verified puts for each
// record, which is what an announce does, in one run with a DHT of 48 nodes. An
// hour of 10,000 records, of which 600,000 messages are the records themselves:
//
//	                       a lookup each   sweep    ratio
//	messages                   2,067,000   622,000    3.3
//	 of these, of lookups        867,000    13,900     62
//	MB, of the announcer           2,148        94     23
//	CPU seconds, of all nodes      1,274        65     20
//
// kad-dht's own SweepingProvider has the same idea and does not serve. It keeps
// to itself which nodes it gave a record to, and a withdrawal must reach all of
// them; it counts a record as provided once it is written to a stream, whether
// or not the node kept it; StopProviding does not wait for a batch that is on
// its way, so a record could come back behind its withdrawal; and it gives
// records to nodes that cannot drop them. A MessageSender of our own could note
// and ask back, but is not told where a batch ends, so every record would cost an
// answer again.

const (
	// bucketSize is how many nodes hold a record: kad-dht's bucket size.
	bucketSize = 20

	// renewalSlots: with 10,000 records 150 are due together, every 19 s. More
	// slots spread them further and leave fewer for one stream and one lookup.
	renewalSlots = 64

	// fewRecords of a region are looked up each by itself: learning the region
	// takes two lookups or three.
	fewRecords = 2

	// maxRegionLookups bounds the lookups for one region. Two or three are
	// expected; twelve would be for a region of more than a hundred nodes.
	maxRegionLookups = 12

	// maxRenewing bounds the records that are renewed at a time. A finish of one
	// of them waits until all are sent.
	maxRenewing = 128

	// maxDelivering bounds the nodes that records are sent to at a time.
	maxDelivering = 8

	// maxDeliveries bounds the streams for one node and one lot of records: one
	// for those that it has and one for those that it has not; and where it refuses
	// some of these, for halves and quarters of them, until it is hardly worth it.
	maxDeliveries = 8

	// renewTimeout bounds the sending of one lot: twice putTimeout, for there are
	// several rounds of maxDelivering.
	renewTimeout = 2 * putTimeout
)

var errRegion = errors.New("the nodes of the region are not all known")

// renewal returns when a record is to be renewed next: when the round passes
// its part of the keyspace, and not within the next quarter of a round. Each
// mediator begins its round elsewhere.
func (d *Discovery) renewal(at place, now time.Time) time.Time {
	begin := placeOf(string(d.self))
	slot := time.Duration(at[0]-begin[0]) * renewalSlots / 256
	round, soonest := d.timing.Renew, now.Add(d.timing.Renew/4)
	wait := slot*round/renewalSlots - soonest.Sub(d.started)%round
	if wait < 0 {
		wait += round
	}
	return soonest.Add(wait)
}

// sweep renews records, region by region.
func (d *Discovery) sweep(ctx context.Context, entries []*entry) {
	slices.SortFunc(entries, byPlace)
	for len(entries) > 0 && ctx.Err() == nil {
		nodes, n, err := d.region(ctx, entries)
		for lot := range slices.Chunk(entries[:n], maxRenewing) {
			d.renew(ctx, lot, nodes, err)
		}
		entries = entries[n:]
	}
	for _, e := range entries { // it ends
		d.release(e)
	}
}

// region returns nodes among which are the nearest ones of the first n entries,
// which are sorted by place. Where it fails, n is 1.
func (d *Discovery) region(ctx context.Context, entries []*entry) (nodes []located, n int, err error) {
	if known := d.dht.RoutingTable().ListPeers(); len(known) <= bucketSize {
		return locate(known), len(entries), nil
	}
	first := entries[0]
	ids, _, err := d.closest(ctx, string(multihashOf(first.hash)), lookupTimeout)
	if err != nil {
		return nil, 1, err
	}
	nodes = locate(ids)
	if len(nodes) < bucketSize { // some did not answer: it says nothing about the others
		return nodes, 1, nil
	}
	// Whoever shares more leading bits with first than the farthest of them is
	// among them; the region is of those that share as many. It has 20 nodes or
	// more, so the nearest of each place in it are in it.
	least := leastShared(first.place, nodes)
	n = 1
	for n < len(entries) && first.place.shared(entries[n].place) >= least {
		n++
	}
	if n <= fewRecords {
		return nodes, 1, nil
	}
	budget := maxRegionLookups - 1
	rest, err := d.within(ctx, first.place.sibling(least), least+1, &budget)
	if err != nil {
		d.log.Debug("a region of the DHT is renewed record by record", "error", err)
		return nodes, 1, nil
	}
	return append(nodes, rest...), n, nil
}

// within returns all nodes that share the leading bits with a place, and some
// more; each lookup takes one of the budget.
func (d *Discovery) within(ctx context.Context, at place, prefix int, budget *int) ([]located, error) {
	if *budget--; *budget < 0 {
		return nil, errRegion
	}
	key, err := keyWithin(at, prefix)
	if err != nil {
		return nil, err
	}
	ids, _, err := d.closest(ctx, key, lookupTimeout)
	if err != nil {
		return nil, err
	}
	if len(ids) < bucketSize {
		return nil, errRegion
	}
	nodes := locate(ids)
	at = placeOf(key)
	for least := leastShared(at, nodes); least >= prefix; least-- {
		more, err := d.within(ctx, at.sibling(least), least+1, budget)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, more...)
	}
	return nodes, nil
}

// renew sends records to their nearest nodes. lookup is the error of the search
// for the nodes.
func (d *Discovery) renew(ctx context.Context, entries []*entry, nodes []located, lookup error) {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	seen := make(map[peer.ID]bool)
	nodes = slices.DeleteFunc(slices.Clone(nodes), func(node located) bool {
		twice := seen[node.id]
		seen[node.id] = true
		return twice
	})
	var lot []*entry
	loads := make(map[peer.ID][]*entry)
	for _, e := range entries {
		if !d.renewable(e) {
			continue
		}
		lot = append(lot, e)
		_ = d.records.put(e.hash, d.self, time.Now()) // there is always room for our own
		for _, node := range nearest(e.place, nodes, bucketSize) {
			loads[node.id] = append(loads[node.id], e)
		}
	}
	taken := make(map[*entry]bool) // by at least one node; guarded by d.mu
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxDelivering)
	for node, load := range loads {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			d.deliverAll(ctx, node, load, taken)
		})
	}
	wg.Wait()
	failed := 0
	for _, e := range lot {
		d.mu.Lock()
		stored := lookup == nil && (len(nodes) == 0 || taken[e])
		if !stored && e.wanted {
			failed++
		}
		d.settle(e, stored)
		d.mu.Unlock()
		e.leave()
		d.release(e)
	}
	if failed > 0 && ctx.Err() == nil {
		d.log.Info("records of the DHT are renewed later", "records", failed, "error", lookup)
	}
}

// renewable takes the turn of an entry that is due. It does not where somebody
// else works on the record, or it is not wanted any more; then the use has ended.
func (d *Discovery) renewable(e *entry) bool {
	turn := false
	select {
	case e.turn <- struct{}{}:
		turn = true
	default:
	}
	d.mu.Lock()
	e.queued = false
	wanted := e.wanted && e.stored
	d.mu.Unlock()
	if turn && wanted {
		return true
	}
	if turn {
		e.leave()
	}
	d.release(e)
	return false
}

// deliverAll sends a node its records, and finds out those that it does not take.
func (d *Discovery) deliverAll(ctx context.Context, node peer.ID, load []*entry, taken map[*entry]bool) {
	// Those that it has it takes again. Of the others a full node refuses some.
	var parts [2][]*entry
	d.mu.Lock()
	for _, e := range load {
		i := 1
		if e.holders.confirmed(node) {
			i = 0
		}
		parts[i] = append(parts[i], e)
	}
	d.mu.Unlock()
	queue := slices.DeleteFunc(parts[:], func(part []*entry) bool { return len(part) == 0 })
	for tries := 0; len(queue) > 0 && tries < maxDeliveries; tries++ {
		part := queue[0]
		queue = queue[1:]
		sent, err := d.deliver(ctx, node, part)
		d.mu.Lock()
		for _, e := range part {
			if sent {
				e.holders.set(node, time.Now(), err == nil)
			}
			if err == nil {
				taken[e] = true
			}
		}
		d.mu.Unlock()
		if err == nil {
			continue
		}
		d.log.Debug("records not renewed", "records", len(part), "node", node, "error", err)
		if !sent || ctx.Err() != nil {
			return
		}
		if half := len(part) / 2; half > 0 {
			queue = append(queue, part[:half], part[half:])
		}
	}
}
