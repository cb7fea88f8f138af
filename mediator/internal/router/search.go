package router

import (
	"container/list"
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

const (
	// roundTime bounds a round of searching: the lookup, and the answers of the
	// mediators that it found. Dialling a dead one takes up to three seconds.
	roundTime = 10 * time.Second

	// roundPause is the least time between the beginnings of two rounds, and
	// between two get_peers to one mediator about one content: however often
	// peers ask here, others are asked no more often.
	roundPause = 250 * time.Millisecond

	// The DHT is searched again for as long as a peer waits: after a second, then
	// twice as long each time, up to 15 seconds while a waiting peer knows nobody:
	// that is how late a seeder on a mediator that had none may be found. (A
	// mediator that was asked tells by itself.) Where all know somebody it is only
	// for more, and two minutes do.
	firstPause  = time.Second
	searchPause = 15 * time.Second
	foundPause  = 2 * time.Minute

	// lookupCache is how long a lookup counts for those who ask after it: they are told of
	// what it found, and it is not made again. A page of many visitors is so looked up
	// once in a while, and not once a visitor.
	lookupCache = 5 * time.Second

	// maxRemembered is how many peers of another mediator a search remembers: one message of them.
	maxRemembered = mediation.MaxPeers

	// trustTime is how long a mediator is relied on to tell by itself of later
	// seeders. Then it is asked again, in case that it told and was not heard.
	trustTime = 4 * time.Minute
)

// search looks for the seeders of one content on other mediators, for all local
// peers that wait for them. It lives as long as anyone does, in rounds: ask the
// DHT, ask the mediators that it names, pause.
type search struct {
	hash   content.FullHash
	others map[ident.MediatorID]*other // who was asked, ever; bounded by maxMediators
	round  int                         // counts the rounds, so that what is late is known to be
	began  time.Time                   // when the last round did
	looked time.Time                   // when a lookup last ended well; zero: never
	inDHT  bool                        // the round's lookup runs or waits for its place
	place  *list.Element               // of the lookup, while it waits in the queue; else nil
	open   bool                        // the round is not over
	again  bool                        // somebody asked too late for this round
	cancel context.CancelFunc          // ends the round's lookup
	timer  *time.Timer                 // ends the round, or the pause
	pause  time.Duration               // the next one
	silent map[ident.PeerID]struct{}   // who asked and is to be told when the round ends with nobody
	offers map[ident.PeerID]*offer     // of those who wait, that nobody was handed yet; nil while there are none
}

// other is a mediator, as far as one search goes. It may tell us of later
// seeders until it is told finish.
type other struct {
	peers []ident.PeerID // that it named since it was asked, without those that are gone; bounded by maxRemembered
	mute  bool           // it has no room to tell of later seeders, or of those that are gone
	asked time.Time      // when it was last
	state otherState

	carries ident.PeerID // whose offer the question had that it has not answered; zero: nobody's
}

type otherState byte

const (
	otherAsked    otherState = iota // the round waits for its answer
	otherAnswered                   // it need not be asked again soon
	otherStale                      // it is asked again if the DHT still names it
)

// stop ends the search's round or pause.
func (s *search) stop() {
	if s.cancel != nil {
		s.cancel()
	}
	if s.timer != nil {
		s.timer.Stop()
	}
}

// getPeers is the peer's message. mu is held.
func (r *Router) getPeers(p *Peer, m mediation.GetPeers) *mediation.Error {
	hash := m.FullHash
	if err := r.admit(hash); err != nil {
		return err
	}
	if count, waits := r.registry.Waits(p.id, hash); !waits && limits.Reached(count, r.MaxLookups) {
		return (&mediation.Error{Code: mediation.CodeTooManyLookups, Message: "this connection waits for as many contents as it may"}).About(hash)
	}
	if limits.Reached(r.queue.Len(), r.MaxPending) {
		return (&mediation.Error{Code: mediation.CodeOverloaded, Message: "too many lookups wait already; ask again later"}).About(hash)
	}
	r.registry.Wait(p.id, hash)
	s := r.searches[hash]
	if s == nil {
		s = &search{hash: hash, others: make(map[ident.MediatorID]*other), silent: make(map[ident.PeerID]struct{})}
		r.searches[hash] = s
	}
	r.letGo(s, p.id) // that of an earlier question
	if !r.nameOwn(p.id, hash, fairly(r.registry.Seeders(hash)), m.Offer) {
		r.hold(s, p.id, m.Offer)
	}

	now := time.Now()
	if s.open || now.Sub(s.looked) < lookupCache {
		all := r.nameRemembered(p.id, s, now)
		if all && !s.open && r.registry.Told(p.id, hash) > 0 {
			r.letGo(s, p.id)
			return nil // the search goes on when it would have anyway
		}
	}
	s.silent[p.id] = struct{}{}
	s.pause = firstPause
	if !s.open {
		for _, o := range s.others {
			o.state = otherStale
		}
		r.beginRoundAt(s, s.began.Add(roundPause), now)
		return nil
	}
	for mediator, o := range s.others { // what this round found was told to others: ask again for this peer
		switch {
		case o.state != otherAnswered:
		case now.Sub(o.asked) >= roundPause:
			r.ask(s, mediator, now)
		default:
			s.again = true
		}
	}
	return nil
}

// nameRemembered tells a peer of those that other mediators have named, and reports whether these
// are all. A mediator that was not asked for a while is to be asked again: it may have died, and it takes QUIC
// up to 45 seconds to find that out. mu is held.
func (r *Router) nameRemembered(id ident.PeerID, s *search, now time.Time) (all bool) {
	all = true
	for mediator, o := range s.others {
		if now.Sub(o.asked) >= lookupCache {
			all = false
			continue
		}
		r.nameOthers(mediator, id, s.hash, o.peers, ident.PeerID{})
	}
	return all
}

// nameOwn tells a peer who waits of peers of this mediator, one of whom is handed its offer, and reports whether it
// was told of any. mu is held.
func (r *Router) nameOwn(id ident.PeerID, hash content.FullHash, peers []ident.PeerID, offer mediation.SignalData) (any bool) {
	news := r.registry.Tell(id, hash, peers, r.MaxNamed)
	r.name(id, hash, news, r.handOut(id, hash, news, offer))
	return len(news) > 0
}

// nameOthers tells a peer who waits of another mediator's peers. offered is the one of them that was
// handed an offer by that mediator, or zero. mu is held.
func (r *Router) nameOthers(from ident.MediatorID, id ident.PeerID, hash content.FullHash, peers []ident.PeerID, offered ident.PeerID) {
	news := r.registry.TellFrom(from, id, hash, peers, r.MaxNamed, max(1, r.MaxNamed/4))
	for _, peer := range news {
		r.routes.learn(peer, from)
	}
	r.name(id, hash, news, r.sendOn(from, id, hash, news, offered))
}

// remember keeps what another mediator named, for those who ask later; unless it will not
// tell when they are gone.
func (o *other) remember(peers []ident.PeerID) {
	if o.mute {
		return
	}
	for _, peer := range peers {
		if !slices.Contains(o.peers, peer) {
			o.peers = append(o.peers, peer)
		}
	}
	o.peers = slices.Delete(o.peers, 0, max(0, len(o.peers)-maxRemembered))
}

// forgetPeer says that another mediator has the peer no more. mu is held.
func (r *Router) forgetPeer(from ident.MediatorID, hash content.FullHash, peer ident.PeerID) {
	if s := r.searches[hash]; s != nil && s.others[from] != nil {
		o := s.others[from]
		o.peers = slices.DeleteFunc(o.peers, func(id ident.PeerID) bool { return id == peer })
	}
}

// fairly returns the peers in an order by chance where they are more than one message
// names, so that not all leechers, and their offers, go to the same few.
func fairly(peers []ident.PeerID) []ident.PeerID {
	if len(peers) > mediation.MaxPeers {
		peers = slices.Clone(peers)
		rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	}
	return peers
}

// name tells a peer who waits of others, one of whom has its offer; zero: none. mu is held.
func (r *Router) name(id ident.PeerID, hash content.FullHash, news []ident.PeerID, offered ident.PeerID) {
	for chunk := range slices.Chunk(news, mediation.MaxPeers) {
		r.send(id, peersOf(hash, chunk, offered))
	}
}

// peersOf names peers of a content, and the one of them that has the offer, where it is one.
func peersOf(hash content.FullHash, peers []ident.PeerID, offered ident.PeerID) mediation.Peers {
	message := mediation.Peers{FullHash: hash, Peers: peers}
	if !offered.IsZero() && slices.Contains(peers, offered) {
		message.Offered = offered
	}
	return message
}

// tellOfLeaver tells other mediators that a peer seeds the content no more. mu is held.
func (r *Router) tellOfLeaver(peer ident.PeerID, hash content.FullHash) {
	for _, mediator := range r.registry.Subscribers(hash) {
		r.Relay.Send(mediator, mediation.Peers{FullHash: hash, Gone: []ident.PeerID{peer}})
	}
}

// tellOfSeeder names a new local seeder to everybody who waits, here and elsewhere. mu is held.
func (r *Router) tellOfSeeder(seeder ident.PeerID, hash content.FullHash) {
	peers := []ident.PeerID{seeder}
	for _, id := range r.registry.Waiters(hash) {
		r.nameOwn(id, hash, peers, mediation.SignalData{})
	}
	for _, mediator := range r.registry.Subscribers(hash) {
		r.Relay.Send(mediator, mediation.Peers{FullHash: hash, Peers: peers})
	}
}

// beginRoundAt begins a round, at once if the time has come. mu is held.
func (r *Router) beginRoundAt(s *search, at, now time.Time) {
	s.stop()
	if wait := at.Sub(now); wait > 0 {
		s.timer = r.after(s, wait, func() { r.beginRound(s) })
	} else {
		r.beginRound(s)
	}
}

// beginRound asks the DHT. mu is held.
func (r *Router) beginRound(s *search) {
	s.stop()
	ctx, cancel := context.WithTimeout(r.ctx, roundTime)
	s.round++
	s.open, s.inDHT, s.again, s.cancel, s.began = true, true, false, cancel, time.Now()
	round := s.round
	s.timer = r.after(s, roundTime, func() { r.endRound(s) })
	s.place = r.enqueue(operation{
		begin: func() { s.place = nil },
		run:   func() { r.lookUp(ctx, cancel, s, round) },
	})
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
		now := time.Now()
		o := s.others[mediator]
		switch {
		case o == nil && len(s.others) == maxMediators:
			return false
		case o == nil, o.state == otherStale, o.state == otherAnswered && now.Sub(o.asked) >= trustTime:
			r.ask(s, mediator, now)
		}
		return true
	})
	if err != nil && ctx.Err() == nil {
		r.Logger.Warn("the DHT could not be searched", "content", s.hash.Short(), "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.round == round && s.open {
		if err == nil {
			s.looked = time.Now()
		}
		s.inDHT = false
		r.roundDone(s)
	}
}

// ask asks another mediator; an offer that waits travels with it. mu is held.
func (r *Router) ask(s *search, mediator ident.MediatorID, now time.Time) {
	if before := s.others[mediator]; before != nil {
		s.arrived(before)
	}
	message := mediation.GetPeers{FullHash: s.hash}
	message.SenderID, message.Offer = s.travels()
	s.others[mediator] = &other{asked: now, state: otherAsked, carries: message.SenderID}
	r.Relay.Send(mediator, message)
}

// roundDone ends the round if nothing is waited for any more. mu is held.
func (r *Router) roundDone(s *search) {
	if !s.open || s.inDHT {
		return
	}
	for _, o := range s.others {
		if o.state == otherAsked {
			return
		}
	}
	r.endRound(s)
}

// endRound tells those who asked and got nothing that there is nobody, and
// begins the pause. mu is held.
func (r *Router) endRound(s *search) {
	s.stop()
	r.drop(s.place)
	s.open, s.inDHT, s.place = false, false, nil
	for _, o := range s.others {
		if o.state == otherAsked || s.again { // those that have not answered may be dead, or slow
			o.state = otherStale
		}
	}
	if s.again {
		r.beginRoundAt(s, s.began.Add(roundPause), time.Now())
		return
	}
	for id := range s.silent {
		if r.registry.Told(id, s.hash) == 0 {
			r.send(id, mediation.Peers{FullHash: s.hash})
		}
	}
	clear(s.silent)
	r.letGoAll(s)
	longest := foundPause
	for _, id := range r.registry.Waiters(s.hash) {
		if r.registry.Told(id, s.hash) == 0 {
			longest = searchPause
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
	s.stop()
	r.drop(s.place)
	r.letGoAll(s)
	s.open, s.place = false, nil
	for mediator := range s.others { // whoever was asked, whether or not it has answered yet, tells until it hears this
		r.Relay.Send(mediator, mediation.Finish{FullHash: hash})
	}
}

// found is what another mediator answers, or tells by itself later. Of the peers
// that it names only those are remembered of whom somebody here is told. mu is held.
func (r *Router) found(from ident.MediatorID, m mediation.Peers) {
	s := r.searches[m.FullHash]
	if s == nil || s.others[from] == nil {
		return // nobody waits any more, or nobody asked it
	}
	for _, peer := range m.Gone {
		r.forgetPeer(from, m.FullHash, peer)
	}
	if len(m.Gone) > 0 && len(m.Peers) == 0 { // it is no answer
		return
	}
	s.others[from].state = otherAnswered
	peers := slices.DeleteFunc(slices.Clone(m.Peers), func(id ident.PeerID) bool {
		_, ours := r.registry.Conn(id)
		return ours
	})
	s.others[from].remember(peers)
	carried := s.others[from].carries
	for _, id := range r.registry.Waiters(m.FullHash) {
		offered := ident.PeerID{}
		if id == carried {
			offered = m.Offered
		}
		r.nameOthers(from, id, m.FullHash, peers, offered)
	}
	s.arrived(s.others[from])
	for _, peer := range peers {
		if len(r.routes.get(peer)) > 0 { // somebody was told of it, and by another mediator perhaps
			r.routes.learn(peer, from)
		}
	}
	r.roundDone(s)
}

// unsubscribed says that a mediator answers, and will not tell of what changes then. mu is held.
func (r *Router) unsubscribed(from ident.MediatorID, hash content.FullHash) {
	if s := r.searches[hash]; s != nil && s.others[from] != nil {
		s.others[from].mute = true
		s.others[from].peers = nil
	}
}

// unanswered says that a mediator will not answer, or tell of later seeders. mu is held.
func (r *Router) unanswered(from ident.MediatorID, hash content.FullHash) {
	if s := r.searches[hash]; s != nil && s.others[from] != nil {
		s.arrived(s.others[from])
		delete(s.others, from)
		r.roundDone(s)
	}
}

// subscribe answers another mediator's get_peers, and remembers that it waits. mu is held.
func (r *Router) subscribe(from ident.MediatorID, m mediation.GetPeers) {
	hash := m.FullHash
	switch refusal := r.admit(hash); {
	case refusal != nil && refusal.Code == mediation.CodeContentRefused:
		r.Relay.Send(from, mediation.Peers{FullHash: hash}) // nobody: a mediator is told no more than that
		return
	case refusal == nil && !limits.Reached(r.registry.Subscriptions(from), r.MaxSubscriptions):
		r.registry.Subscribe(from, hash)
	default:
		r.Relay.Send(from, (&mediation.Error{Code: mediation.CodeOverloaded, Message: "no room to tell of later seeders"}).About(hash))
	}
	seeders := r.registry.Seeders(hash)
	if len(seeders) == 0 {
		r.Relay.Send(from, mediation.Peers{FullHash: hash})
		return
	}
	seeders = fairly(seeders)
	seeders = seeders[:min(len(seeders), r.MaxNamed)]
	offered := r.handOutFor(from, m, seeders)
	for chunk := range slices.Chunk(seeders, mediation.MaxPeers) {
		r.Relay.Send(from, peersOf(hash, slices.Clone(chunk), offered))
	}
}
