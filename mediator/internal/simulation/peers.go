package simulation

import (
	"math/rand/v2"
	"sync"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/router"
)

// newPeerID draws an id, as peers do for each connection.
func newPeerID() (id ident.PeerID) {
	for i := range id {
		id[i] = byte(rand.Uint32())
	}
	return id
}

// seeder is a peer that has one content, at one mediator after the other. It
// answers every signal, as a peer that accepts an offer does.
type seeder struct {
	world *world
	hash  content.FullHash

	// guarded by world.mu
	at        *mediator
	id        ident.PeerID
	peer      *router.Peer
	announced bool // the mediator has said so
	began     time.Time

	receiving sync.Mutex // one message at a time for the router
}

// settle connects the seeder to a mediator and announces its content there.
func (s *seeder) settle(at *mediator) {
	w := s.world
	id := newPeerID()
	conn := &seederConn{s, id}
	peer := at.router.Attach(conn, "")
	w.mu.Lock()
	delete(w.seeders, s.id)
	s.at, s.id, s.peer, s.announced, s.began = at, id, peer, false, time.Now()
	w.seeders[id] = s
	alive := at.alive
	if alive {
		at.seeders = append(at.seeders, s)
	}
	w.mu.Unlock()
	if !alive { // it died this very moment
		w.wg.Go(func() {
			if pause(w.ctx, w.Moving) {
				s.settle(w.anyone(nil))
			}
		})
		return
	}
	s.receiving.Lock()
	defer s.receiving.Unlock()
	peer.Receive(mediation.Handshake{PeerID: id})
	peer.Receive(mediation.Announce{FullHash: s.hash})
}

// seederConn is a seeder's connection to one mediator.
type seederConn struct {
	seeder *seeder
	id     ident.PeerID
}

// Send implements [router.Conn].
func (c *seederConn) Send(message mediation.Message) {
	if _, is := message.(mediation.Announced); !is {
		return
	}
	w := c.seeder.world
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := c.seeder; s.id == c.id && !s.announced {
		s.announced = true
		w.result.Announces = append(w.result.Announces, time.Since(s.began))
	}
}

// Offer implements [router.Conn]: signals are answered, from another goroutine for
// the router holds its lock.
func (c *seederConn) Offer(message mediation.Message) bool {
	signal, is := message.(mediation.Signal)
	if !is {
		return true
	}
	w := c.seeder.world
	w.mu.Lock()
	peer, current := c.seeder.peer, c.seeder.id == c.id
	w.mu.Unlock()
	if current {
		w.wg.Go(func() {
			c.seeder.receiving.Lock()
			defer c.seeder.receiving.Unlock()
			peer.Receive(signal) // towards the mediator, PeerID is who is to get it
		})
	}
	return true
}

// lookupKey is what there is one lookup of at a time.
type lookupKey struct {
	at   ident.MediatorID
	hash content.FullHash
}

// lookup is a leecher that looks for one content. Guarded by world.mu, but for what is static.
type lookup struct {
	world *world
	key   lookupKey // static
	id    ident.PeerID
	peer  *router.Peer // static
	began time.Time    // static

	named    map[ident.PeerID]bool
	toSignal []ident.PeerID // named, not signalled yet
	wake     chan struct{}  // has room for one; says that something has changed
	found    time.Duration  // until a living seeder was named; zero: not yet
	reached  time.Duration  // until one has answered; zero: not yet
	dead     int            // peers named whose mediator is dead
	trace    trace
}

// look starts a lookup of a seeder's content at a mediator, and waits until a
// seeder has answered and the search in the DHT has ended, or the patience has.
func (w *world) look(at *mediator, of *seeder) {
	hash := of.hash
	l := &lookup{
		world: w, key: lookupKey{at.id, hash}, id: newPeerID(), began: time.Now(),
		named: make(map[ident.PeerID]bool), wake: make(chan struct{}, 1), trace: trace{hops: -1},
	}
	w.mu.Lock()
	if w.lookups[l.key] != nil || !at.alive { // the same again would only be told what the first one found
		w.mu.Unlock()
		return
	}
	w.lookups[l.key] = l
	seeding := of.id
	w.mu.Unlock()
	l.peer = at.router.Attach(&leecherConn{l}, "")
	l.peer.Receive(mediation.Handshake{PeerID: l.id})
	l.peer.Receive(mediation.GetPeers{FullHash: hash, Offer: offer}) // as peers do: the offer is handed to a seeder
	patience := time.NewTimer(w.Patience)
	defer patience.Stop()
	for waiting := true; waiting; {
		select {
		case <-l.wake:
			w.mu.Lock()
			signals := l.toSignal
			l.toSignal = nil
			waiting = l.reached == 0 || l.trace.lasted == 0
			w.mu.Unlock()
			for _, id := range signals {
				l.peer.Receive(mediation.Signal{FullHash: hash, PeerID: id, SignalData: offer})
			}
		case <-patience.C:
			waiting = false
		case <-w.ctx.Done():
			waiting = false
		}
	}
	l.peer.Detach()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.lookups, l.key)
	// Whose mediator dies asks another one; and nobody finds a seeder whose mediator has just died.
	if there := of.id == seeding && of.at.alive; at.alive && (there || l.reached > 0) && w.ctx.Err() == nil {
		w.result.add(l)
	}
}

// leecherConn is a leecher's connection.
type leecherConn struct{ *lookup }

// Send implements [router.Conn].
func (c *leecherConn) Send(message mediation.Message) {
	peers, is := message.(mediation.Peers)
	if !is {
		return
	}
	w := c.world
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, id := range peers.Peers {
		if c.named[id] {
			continue
		}
		c.named[id] = true
		if id != peers.Offered {
			c.toSignal = append(c.toSignal, id)
		}
		if s := w.seeders[id]; s != nil && s.at.alive {
			if c.found == 0 {
				c.found = max(time.Since(c.began), 1)
			}
		} else {
			c.dead++
		}
		c.rouse()
	}
}

// Offer implements [router.Conn].
func (c *leecherConn) Offer(message mediation.Message) bool {
	if _, is := message.(mediation.Signal); is { // an answer
		c.world.mu.Lock()
		defer c.world.mu.Unlock()
		if c.reached == 0 {
			c.reached = max(time.Since(c.began), 1)
		}
		c.rouse()
	}
	return true
}

func (l *lookup) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// offer stands for an offer and for its answer.
var offer = mediation.NewSignalData(`{"type":"offer","sdp":""}`)
