// Package registry is the mediator's memory of its own peers: who is connected,
// who seeds what, and who waits for what. It is pure state: no I/O, no goroutine
// and no clock. It sets no limits either: whoever calls it asks how much there is first.
package registry

import (
	"maps"
	"slices"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

// Registry remembers peers by their id, each with its connection of type C.
// Its methods must not be called together: the router guards it.
type Registry[C any] struct {
	peers  map[ident.PeerID]*peer[C]
	swarms map[content.FullHash]*swarm
	remote map[ident.MediatorID]map[content.FullHash]struct{} // what a mediator waits for; the inverse of swarm.mediators
}

type peer[C any] struct {
	conn  C
	seeds hashes
	waits hashes
}

// swarm is a content and those who have to do with it. It exists as long as
// there is anyone.
type swarm struct {
	seeders   []ident.PeerID // oldest first
	waiters   map[ident.PeerID]*waiter
	mediators map[ident.MediatorID]struct{}
}

// waiter is a peer that asked for the seeders.
type waiter struct {
	told map[ident.PeerID]struct{} // whom it was told of since it asked last
	from map[ident.MediatorID]int  // how many of them were another mediator's; nil while there are none
}

// New returns an empty registry.
func New[C any]() *Registry[C] {
	return &Registry[C]{
		peers:  make(map[ident.PeerID]*peer[C]),
		swarms: make(map[content.FullHash]*swarm),
		remote: make(map[ident.MediatorID]map[content.FullHash]struct{}),
	}
}

// Connect adds a peer and reports whether its id was free.
func (r *Registry[C]) Connect(id ident.PeerID, conn C) bool {
	if r.peers[id] != nil {
		return false
	}
	r.peers[id] = &peer[C]{conn: conn}
	return true
}

// Conn returns the connection of a peer.
func (r *Registry[C]) Conn(id ident.PeerID) (conn C, connected bool) {
	if p := r.peers[id]; p != nil {
		return p.conn, true
	}
	return conn, false
}

// Disconnect removes a peer and all that it seeded and waited for. It returns
// the contents that it was the last to seed, and those that it was the last to wait for.
func (r *Registry[C]) Disconnect(id ident.PeerID) (unseeded, unwaited []content.FullHash) {
	p := r.peers[id]
	if p == nil {
		return nil, nil
	}
	for hash := range p.seeds.all() {
		if _, last := r.Finish(id, hash); last {
			unseeded = append(unseeded, hash)
		}
	}
	for hash := range p.waits.all() {
		if r.Unwait(id, hash) {
			unwaited = append(unwaited, hash)
		}
	}
	delete(r.peers, id)
	return unseeded, unwaited
}

func (r *Registry[C]) swarm(hash content.FullHash) *swarm {
	s := r.swarms[hash]
	if s == nil {
		s = new(swarm)
		r.swarms[hash] = s
	}
	return s
}

// prune forgets a swarm that nobody has to do with.
func (r *Registry[C]) prune(hash content.FullHash) {
	if s := r.swarms[hash]; s != nil && len(s.seeders)+len(s.waiters)+len(s.mediators) == 0 {
		delete(r.swarms, hash)
	}
}

// Announce says that a connected peer seeds a content: whether that is news,
// and whether it is the first here.
func (r *Registry[C]) Announce(id ident.PeerID, hash content.FullHash) (news, first bool) {
	p := r.peers[id]
	if p.seeds.has(hash) {
		return false, false
	}
	p.seeds.add(hash)
	s := r.swarm(hash)
	s.seeders = append(s.seeders, id)
	return true, len(s.seeders) == 1
}

// Finish says that a peer seeds a content no longer: whether it did, and whether
// it was the last here.
func (r *Registry[C]) Finish(id ident.PeerID, hash content.FullHash) (did, last bool) {
	p := r.peers[id]
	if p == nil {
		return false, false
	}
	if !p.seeds.has(hash) {
		return false, false
	}
	p.seeds.remove(hash)
	s := r.swarms[hash]
	i := slices.Index(s.seeders, id)
	s.seeders = slices.Delete(s.seeders, i, i+1)
	r.prune(hash)
	return true, len(s.seeders) == 0
}

// Seeds is the number of contents that a peer seeds, and whether the given one
// is among them.
func (r *Registry[C]) Seeds(id ident.PeerID, hash content.FullHash) (count int, this bool) {
	if p := r.peers[id]; p != nil {
		count, this = p.seeds.len(), p.seeds.has(hash)
	}
	return count, this
}

// Seeding returns what a peer seeds, in no order.
func (r *Registry[C]) Seeding(id ident.PeerID) []content.FullHash {
	p := r.peers[id]
	if p == nil {
		return nil
	}
	return slices.Collect(p.seeds.all())
}

// Seeders returns who seeds a content here, oldest first. It is valid until the
// next call and must not be changed.
func (r *Registry[C]) Seeders(hash content.FullHash) []ident.PeerID {
	if s := r.swarms[hash]; s != nil {
		return s.seeders
	}
	return nil
}

// Wait says that a connected peer waits for the seeders of a content. If it did
// already, it starts afresh: it was told of nobody.
func (r *Registry[C]) Wait(id ident.PeerID, hash content.FullHash) {
	p := r.peers[id]
	if !p.waits.has(hash) {
		p.waits.add(hash)
	}
	s := r.swarm(hash)
	if s.waiters == nil {
		s.waiters = make(map[ident.PeerID]*waiter)
	}
	if w := s.waiters[id]; w != nil {
		clear(w.told)
		clear(w.from)
		return
	}
	s.waiters[id] = &waiter{told: make(map[ident.PeerID]struct{})}
}

// Unwait says that a peer waits no longer; it reports whether it was the last
// here that did.
func (r *Registry[C]) Unwait(id ident.PeerID, hash content.FullHash) (last bool) {
	if r.waiter(id, hash) == nil {
		return false
	}
	s := r.swarms[hash]
	delete(s.waiters, id)
	r.peers[id].waits.remove(hash)
	r.prune(hash)
	return len(s.waiters) == 0
}

// Waits is the number of contents that a peer waits for, and whether the given
// one is among them.
func (r *Registry[C]) Waits(id ident.PeerID, hash content.FullHash) (count int, this bool) {
	if p := r.peers[id]; p != nil {
		count, this = p.waits.len(), p.waits.has(hash)
	}
	return count, this
}

// Waiting returns what a peer waits for, in no order.
func (r *Registry[C]) Waiting(id ident.PeerID) []content.FullHash {
	p := r.peers[id]
	if p == nil {
		return nil
	}
	return slices.Collect(p.waits.all())
}

// Waiters returns who waits for a content here, in no order.
func (r *Registry[C]) Waiters(hash content.FullHash) []ident.PeerID {
	s := r.swarms[hash]
	if s == nil {
		return nil
	}
	waiters := make([]ident.PeerID, 0, len(s.waiters))
	for id := range s.waiters {
		waiters = append(waiters, id)
	}
	return waiters
}

// Tell returns those of the peers that the waiter was not told of yet, itself left
// out, so many that it is told of limit in all; and remembers that it was told.
func (r *Registry[C]) Tell(id ident.PeerID, hash content.FullHash, peers []ident.PeerID, limit int) (news []ident.PeerID) {
	w := r.waiter(id, hash)
	if w == nil {
		return nil
	}
	return w.tell(id, peers, limit)
}

// waiter returns the waiter for a content; nil where the peer does not wait for it.
func (r *Registry[C]) waiter(id ident.PeerID, hash content.FullHash) *waiter {
	if s := r.swarms[hash]; s != nil {
		return s.waiters[id]
	}
	return nil
}

// TellFrom is Tell for peers that another mediator named: at most fromLimit of
// its peers are told, so that it cannot crowd the others' out.
func (r *Registry[C]) TellFrom(mediator ident.MediatorID, id ident.PeerID, hash content.FullHash, peers []ident.PeerID, limit, fromLimit int) (news []ident.PeerID) {
	w := r.waiter(id, hash)
	if w == nil {
		return nil
	}
	news = w.tell(id, peers, min(limit, len(w.told)+max(0, fromLimit-w.from[mediator])))
	if len(news) > 0 {
		if w.from == nil {
			w.from = make(map[ident.MediatorID]int)
		}
		w.from[mediator] += len(news)
	}
	return news
}

// tell is Tell for the waiter, whose id is given.
func (w *waiter) tell(id ident.PeerID, peers []ident.PeerID, limit int) (news []ident.PeerID) {
	for _, other := range peers {
		if _, known := w.told[other]; !known && other != id && len(w.told) < limit {
			w.told[other] = struct{}{}
			news = append(news, other)
		}
	}
	return news
}

// Told is the number of peers that the waiter was told of since it asked last.
func (r *Registry[C]) Told(id ident.PeerID, hash content.FullHash) int {
	if w := r.waiter(id, hash); w != nil {
		return len(w.told)
	}
	return 0
}

// Subscribe says that another mediator waits for the seeders of a content here.
func (r *Registry[C]) Subscribe(mediator ident.MediatorID, hash content.FullHash) {
	s := r.swarm(hash)
	if s.mediators == nil {
		s.mediators = make(map[ident.MediatorID]struct{})
	}
	s.mediators[mediator] = struct{}{}
	if r.remote[mediator] == nil {
		r.remote[mediator] = make(map[content.FullHash]struct{})
	}
	r.remote[mediator][hash] = struct{}{}
}

// Unsubscribe says that another mediator waits no longer.
func (r *Registry[C]) Unsubscribe(mediator ident.MediatorID, hash content.FullHash) {
	if _, subscribed := r.remote[mediator][hash]; !subscribed {
		return
	}
	delete(r.remote[mediator], hash)
	if len(r.remote[mediator]) == 0 {
		delete(r.remote, mediator)
	}
	delete(r.swarms[hash].mediators, mediator)
	r.prune(hash)
}

// UnsubscribeAll forgets all that another mediator waits for.
func (r *Registry[C]) UnsubscribeAll(mediator ident.MediatorID) {
	for hash := range r.remote[mediator] {
		r.Unsubscribe(mediator, hash)
	}
}

// Subscriptions is the number of contents that another mediator waits for.
func (r *Registry[C]) Subscriptions(mediator ident.MediatorID) int { return len(r.remote[mediator]) }

// Subscribers returns which other mediators wait for a content, in no order.
func (r *Registry[C]) Subscribers(hash content.FullHash) []ident.MediatorID {
	s := r.swarms[hash]
	if s == nil {
		return nil
	}
	mediators := make([]ident.MediatorID, 0, len(s.mediators))
	for mediator := range s.mediators {
		mediators = append(mediators, mediator)
	}
	return mediators
}

// Knows reports whether anyone has to do with the content.
func (r *Registry[C]) Knows(hash content.FullHash) bool { return r.swarms[hash] != nil }

// Contents returns everything that anyone has to do with, in no order.
func (r *Registry[C]) Contents() []content.FullHash { return slices.Collect(maps.Keys(r.swarms)) }

// Counts is how much a registry holds.
type Counts struct {
	Peers  int // connected
	Swarms int // contents that anyone seeds or waits for
}

// Counts returns how much there is.
func (r *Registry[C]) Counts() Counts { return Counts{Peers: len(r.peers), Swarms: len(r.swarms)} }
