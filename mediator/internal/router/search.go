package router

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

const (
	// roundTime bounds a round of searching: the lookup, and the answers of the
	// mediators that it found. Dialling a dead one takes up to five seconds.
	roundTime = 10 * time.Second

	// The DHT is searched again for as long as a peer waits: after a second, then
	// twice as long each time, up to 15 seconds while a waiting peer knows nobody:
	// that is how late a seeder on a mediator that had none may be found. (A
	// mediator that was asked tells by itself.) Where all know somebody it is only
	// for more, and two minutes do.
	firstPause  = time.Second
	searchPause = 15 * time.Second
	foundPause  = 2 * time.Minute
)

// search looks for the seeders of one content on other mediators, for all local
// peers that wait for them. It lives as long as anyone does, in rounds: ask the
// DHT, ask the mediators that it names, pause.
type search struct {
	hash   content.FullHash
	asked  map[ident.MediatorID]bool // mediators that were asked; true once they answered. Bounded by maxMediators
	round  int                       // counts the rounds, so that what is late is known to be
	inDHT  bool                      // the round's lookup runs or waits for its place
	open   bool                      // the round is not over
	cancel context.CancelFunc        // ends the round's lookup
	timer  *time.Timer               // ends the round, or the pause
	pause  time.Duration             // the next one
	silent map[ident.PeerID]struct{} // who asked and is to be told when the round ends with nobody
}

// stop ends the search's round or pause.
func (s *search) stop() {
	s.cancel()
	s.timer.Stop()
}

// getPeers is the peer's message. mu is held.
func (r *Router) getPeers(p *Peer, hash content.FullHash) *mediation.Error {
	if count, waits := r.registry.Waits(p.id, hash); !waits && count >= r.MaxLookups {
		return (&mediation.Error{Code: mediation.CodeTooManyLookups, Message: "this connection waits for as many contents as it may"}).About(hash)
	}
	if len(r.queue) >= maxQueue {
		return (&mediation.Error{Code: mediation.CodeOverloaded, Message: "too many lookups wait already; ask again later"}).About(hash)
	}
	r.registry.Wait(p.id, hash)
	r.tell(p.id, hash, r.registry.Seeders(hash))

	s := r.searches[hash]
	if s == nil {
		s = &search{hash: hash, asked: make(map[ident.MediatorID]bool), silent: make(map[ident.PeerID]struct{})}
		r.searches[hash] = s
	}
	s.silent[p.id] = struct{}{}
	s.pause = firstPause
	if s.open { // what this round found was told to others: ask again for this peer
		for mediator, answered := range s.asked {
			if answered {
				s.asked[mediator] = false
				r.Relay.Send(mediator, mediation.GetPeers{FullHash: hash})
			}
		}
		return nil
	}
	clear(s.asked)
	r.beginRound(s)
	return nil
}

// tell names peers to one that waits, each once. mu is held.
func (r *Router) tell(id ident.PeerID, hash content.FullHash, peers []ident.PeerID) {
	conn, here := r.registry.Conn(id)
	if !here {
		return
	}
	if len(peers) > r.MaxNamed { // a fair choice, so that not all leechers go to the same few
		peers = slices.Clone(peers)
		rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	}
	for chunk := range slices.Chunk(r.registry.Tell(id, hash, peers, r.MaxNamed), mediation.MaxPeers) {
		conn.Send(mediation.Peers{FullHash: hash, Peers: chunk})
	}
}

// tellOfSeeder names a new local seeder to everybody who waits, here and elsewhere. mu is held.
func (r *Router) tellOfSeeder(seeder ident.PeerID, hash content.FullHash) {
	peers := []ident.PeerID{seeder}
	for _, id := range r.registry.Waiters(hash) {
		r.tell(id, hash, peers)
	}
	for _, mediator := range r.registry.Subscribers(hash) {
		r.Relay.Send(mediator, mediation.Peers{FullHash: hash, Peers: peers})
	}
}

// beginRound asks the DHT. mu is held.
func (r *Router) beginRound(s *search) {
	if s.timer != nil {
		s.timer.Stop()
	}
	ctx, cancel := context.WithTimeout(r.ctx, roundTime)
	s.round++
	s.open, s.inDHT, s.cancel = true, true, cancel
	round := s.round
	s.timer = r.after(s, roundTime, func() { r.endRound(s) })
	r.run(func() { r.lookUp(ctx, cancel, s, round) })
}

// after calls f under the lock after d, unless the search has gone on or ended.
func (r *Router) after(s *search, d time.Duration, f func()) *time.Timer {
	round, open := s.round, s.open
	return time.AfterFunc(d, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed && r.searches[s.hash] == s && s.round == round && s.open == open {
			f()
		}
	})
}

// lookUp asks the DHT, and the mediators that it names as they are found.
func (r *Router) lookUp(ctx context.Context, cancel context.CancelFunc, s *search, round int) {
	defer cancel()
	err := r.Discovery.Find(ctx, s.hash, func(mediator ident.MediatorID) bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if s.round != round || !s.open {
			return false
		}
		if _, known := s.asked[mediator]; !known && len(s.asked) < maxMediators {
			s.asked[mediator] = false
			r.Relay.Send(mediator, mediation.GetPeers{FullHash: s.hash})
		}
		return len(s.asked) < maxMediators
	})
	if err != nil && ctx.Err() == nil {
		r.Logger.Warn("the DHT could not be searched", "content", s.hash.Short(), "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.round == round && s.open {
		s.inDHT = false
		r.roundDone(s)
	}
}

// roundDone ends the round if nothing is waited for any more. mu is held.
func (r *Router) roundDone(s *search) {
	if !s.open || s.inDHT {
		return
	}
	for _, answered := range s.asked {
		if !answered {
			return
		}
	}
	r.endRound(s)
}

// endRound tells those who asked and got nothing that there is nobody, and
// begins the pause. mu is held.
func (r *Router) endRound(s *search) {
	s.stop()
	s.open = false
	for id := range s.silent {
		if conn, here := r.registry.Conn(id); here && r.registry.Told(id, s.hash) == 0 {
			conn.Send(mediation.Peers{FullHash: s.hash})
		}
	}
	clear(s.silent)
	longest := foundPause
	for _, id := range r.registry.Waiters(s.hash) {
		if r.registry.Told(id, s.hash) == 0 {
			longest = searchPause
		}
	}
	for mediator, answered := range s.asked {
		if !answered { // it may be dead, or slow: the next round asks it again, if the DHT still names it
			delete(s.asked, mediator)
		}
	}
	s.pause = min(s.pause, longest)
	s.timer = r.after(s, s.pause, func() { r.beginRound(s) })
	s.pause *= 2
}

// endSearch says that nobody here waits any more. mu is held.
func (r *Router) endSearch(hash content.FullHash) {
	s := r.searches[hash]
	if s == nil {
		return
	}
	delete(r.searches, hash)
	s.open = false
	s.stop()
	for mediator, answered := range s.asked {
		if answered { // it tells us of later seeders until we say so
			r.Relay.Send(mediator, mediation.Finish{FullHash: hash})
		}
	}
}

// found is what another mediator answers, or tells by itself later. mu is held.
func (r *Router) found(from ident.MediatorID, m mediation.Peers) {
	s := r.searches[m.FullHash]
	if s == nil {
		return // nobody waits any more
	}
	if _, asked := s.asked[from]; !asked {
		return // nobody asked it
	}
	s.asked[from] = true
	peers := slices.DeleteFunc(slices.Clone(m.Peers), func(id ident.PeerID) bool {
		_, ours := r.registry.Conn(id)
		return ours
	})
	for _, id := range peers {
		r.learn(id, from)
	}
	for _, id := range r.registry.Waiters(m.FullHash) {
		r.tell(id, m.FullHash, peers)
	}
	r.roundDone(s)
}

// unanswered says that a mediator will not answer, or tell of later seeders. mu is held.
func (r *Router) unanswered(from ident.MediatorID, hash content.FullHash) {
	s := r.searches[hash]
	if s == nil {
		return
	}
	if _, asked := s.asked[from]; asked {
		delete(s.asked, from)
		r.roundDone(s)
	}
}

// subscribe answers another mediator's get_peers, and remembers that it waits. mu is held.
func (r *Router) subscribe(from ident.MediatorID, hash content.FullHash) {
	if r.registry.Subscriptions(from) < r.MaxSubscriptions {
		r.registry.Subscribe(from, hash)
	}
	seeders := r.registry.Seeders(hash)
	if len(seeders) == 0 {
		r.Relay.Send(from, mediation.Peers{FullHash: hash})
		return
	}
	seeders = slices.Clone(seeders)
	rand.Shuffle(len(seeders), func(i, j int) { seeders[i], seeders[j] = seeders[j], seeders[i] })
	for chunk := range slices.Chunk(seeders[:min(len(seeders), r.MaxNamed)], mediation.MaxPeers) {
		r.Relay.Send(from, mediation.Peers{FullHash: hash, Peers: chunk})
	}
}
