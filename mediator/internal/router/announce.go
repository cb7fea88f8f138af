package router

import (
	"container/list"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

// The DHT is tried again after a second, then twice as long each time, up to a minute.
const (
	firstRetry = time.Second
	lastRetry  = time.Minute
)

// announce is what stands in the DHT for one content, and what should. One
// operation at a time brings the one to the other, so that a finish never
// overtakes an announce.
type announce struct {
	wanted  bool                  // a peer here seeds the content
	stored  bool                  // the record can be found
	touched bool                  // an announce was begun, so that there may be something to withdraw
	busy    bool                  // an operation runs or waits for its place
	place   *list.Element         // in the queue, of an announce that waits there; else nil
	asking  map[ident.PeerID]bool // who is to be told announced; true once it was told announce_failed; nil while nobody is
	delay   time.Duration         // until the next try
	retry   *time.Timer           // nil while none is set
}

func (a *announce) stopRetry() {
	if a.retry != nil {
		a.retry.Stop()
		a.retry = nil
	}
}

// announce is the peer's message. mu is held.
func (r *Router) announce(p *Peer, hash content.FullHash) *mediation.Error {
	if err := r.admit(hash); err != nil {
		return err
	}
	if count, seeds := r.registry.Seeds(p.id, hash); !seeds && limits.Reached(count, r.MaxAnnounces) {
		return (&mediation.Error{Code: mediation.CodeTooManyAnnounces, Message: "this connection announces as many contents as it may"}).About(hash)
	}
	if news, _ := r.registry.Announce(p.id, hash); news {
		r.tellOfSeeder(p.id, hash)
	}
	a := r.announces[hash]
	if a == nil {
		a = &announce{delay: firstRetry}
		r.announces[hash] = a
	}
	a.wanted = true
	if a.stored {
		p.conn.Send(mediation.Announced{FullHash: hash})
		return nil
	}
	if a.asking == nil {
		a.asking = make(map[ident.PeerID]bool, 1)
	}
	if _, asking := a.asking[p.id]; !asking {
		a.asking[p.id] = false
	}
	if a.retry == nil { // else it has just failed, and is tried again soon
		r.settle(hash, a)
	}
	return nil
}

// withdraw says that the last seeder here has gone. mu is held.
func (r *Router) withdraw(hash content.FullHash) {
	if a := r.announces[hash]; a != nil {
		a.wanted = false
		a.asking = nil
		if a.place != nil { // it was not even begun
			r.drop(a.place)
			a.place, a.busy = nil, false
		}
		r.settle(hash, a)
	}
}

// settle begins what brings the DHT to what should stand there, unless it is on its
// way already. mu is held.
func (r *Router) settle(hash content.FullHash, a *announce) {
	if a.busy {
		return
	}
	a.stopRetry()
	switch {
	case a.wanted && !a.stored:
		a.busy = true
		a.place = r.enqueue(operation{
			begin: func() { a.place, a.touched = nil, true },
			run:   func() { r.store(hash, a) },
		})
	case !a.wanted && a.touched:
		a.busy, a.stored = true, false
		r.enqueue(operation{begin: func() {}, run: func() { r.unstore(hash, a) }})
	case !a.wanted:
		delete(r.announces, hash)
	}
}

func (r *Router) store(hash content.FullHash, a *announce) {
	err := r.Discovery.Announce(r.ctx, hash)
	r.mu.Lock()
	defer r.mu.Unlock()
	a.busy = false
	if r.closed {
		return
	}
	if err == nil {
		a.stored, a.delay = true, firstRetry
		for id := range a.asking {
			r.send(id, mediation.Announced{FullHash: hash})
		}
		a.asking = nil
		r.settle(hash, a) // it may be unwanted by now
		return
	}
	if a.delay == firstRetry { // told once, not at every try
		r.Logger.Warn("the announce could not be stored, trying again", "content", hash.Short(), "error", err)
	}
	for id, told := range a.asking {
		if !told {
			a.asking[id] = true
			r.send(id, (&mediation.Error{Code: mediation.CodeAnnounceFailed, Message: "the announce could not be stored yet; it is tried again"}).About(hash))
		}
	}
	if !a.wanted {
		r.settle(hash, a)
		return
	}
	a.retry = time.AfterFunc(a.delay, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed && r.announces[hash] == a {
			a.retry = nil
			r.settle(hash, a)
		}
	})
	a.delay = min(2*a.delay, lastRetry)
}

// send tells a peer something that it asked for, if it is still here. mu is held.
func (r *Router) send(id ident.PeerID, message mediation.Message) {
	if conn, here := r.registry.Conn(id); here {
		conn.Send(message)
	}
}

func (r *Router) unstore(hash content.FullHash, a *announce) {
	err := r.Discovery.Finish(r.ctx, hash)
	r.mu.Lock()
	defer r.mu.Unlock()
	a.busy, a.touched = false, false
	if r.closed {
		return
	}
	if err != nil {
		r.Logger.Info("the announce could not be withdrawn everywhere yet", "content", hash.Short(), "error", err)
	}
	r.settle(hash, a) // it may be wanted again
}
