package relay

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"golang.org/x/time/rate"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

// link is everything about one other mediator. It exists while anybody uses it.
type link struct {
	mediator ident.MediatorID

	// calls is held during every call to the handler, and while a stream is added
	// or removed: so calls come in order, and MediatorGone comes after what the
	// last stream brought and before what the next one brings. Relay.mu may be
	// taken under it, never the other way round.
	calls sync.Mutex

	allowance *rate.Limiter // what the mediator may still say, on all its streams; goroutine-safe, never changed

	// What follows is guarded by Relay.mu.
	users     int                  // goroutines with this link
	queue     []mediation.Message  // to be sent; bounded by Config.QueueLength
	sending   bool                 // send runs; it does while the queue is not empty
	returned  []mediation.Message  // for Undelivered
	returning bool                 // giving back runs
	streams   map[*stream]struct{} // established
	out       *stream              // the one to send on; nil: open one
	inbound   int                  // streams that the mediator opened, before their handshake too
}

// use returns the link of a mediator for a goroutine; r.mu is held.
func (r *Relay) use(mediator ident.MediatorID) *link {
	l := r.links[mediator]
	if l == nil {
		l = &link{
			mediator: mediator, streams: make(map[*stream]struct{}),
			allowance: limits.Limiter(r.config.MessagesPerMediator, 0),
		}
		r.links[mediator] = l
	}
	l.users++
	return l
}

// waiting is how many messages are not known to have been taken: those that are not written, and those that were
// written behind a handshake that is not answered. Relay.mu is held.
func (l *link) waiting() int {
	if l.out == nil {
		return len(l.queue)
	}
	return len(l.queue) + len(l.out.early)
}

// release ends a use; r.mu is held.
func (r *Relay) release(l *link) {
	if l.users--; l.users == 0 {
		delete(r.links, l.mediator)
	}
}

// giveBack returns messages to the handler, from another goroutine; r.mu is held.
func (r *Relay) giveBack(l *link, messages ...mediation.Message) {
	l.returned = append(l.returned, messages...)
	if len(l.returned) == 0 || l.returning || r.closed {
		return
	}
	l.returning = true
	l.users++
	r.wg.Go(func() {
		for {
			r.mu.Lock()
			messages := l.returned
			l.returned = nil
			if len(messages) == 0 {
				l.returning = false
				r.release(l)
				r.mu.Unlock()
				return
			}
			r.mu.Unlock()
			for _, message := range messages {
				l.calls.Lock()
				r.handler.Undelivered(l.mediator, message)
				l.calls.Unlock()
			}
		}
	})
}

// send empties the queue of one mediator. It is the only one that writes queued
// messages.
func (r *Relay) send(l *link) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.release(l)
	for len(l.queue) > 0 {
		message := l.queue[0]
		l.queue = l.queue[1:]
		r.mu.Unlock()
		err := r.deliver(l, message)
		r.mu.Lock()
		if err == nil {
			continue
		}
		r.giveBack(l, message)
		if errors.Is(err, errUnreachable) { // the rest would wait for as long each
			r.giveBack(l, l.queue...)
			l.queue = nil
		}
	}
	l.queue = nil // lets the array go
	l.sending = false
}

// deliver writes one message. Twice, where a stream breaks: it may have been
// dead for long, and a message of which a part is missing was not read.
func (r *Relay) deliver(l *link, message mediation.Message) error {
	var err error
	for range 2 {
		var s *stream
		if s, err = r.outgoing(l); err != nil {
			return err
		}
		var kept *early
		if kept, err = r.keepEarly(s, message); err == nil {
			err = s.write(message)
		}
		if err != nil && kept != nil && !r.dropEarly(s, kept) {
			return nil // it was given back with all that a refused stream did not read
		}
		if err == nil || errors.Is(err, &mediation.Error{Code: mediation.CodeMessageTooBig}) || errors.Is(err, errUnreachable) {
			return err
		}
		r.abandon(s)
		_ = s.raw.Reset() // its reader ends it
		if isTimeout(err) {
			r.log.Debug("a mediator does not read", "mediator", l.mediator.Short())
			return err
		}
	}
	return err
}

// keepEarly keeps a message that is written before the stream's handshake was answered, for the case that it is
// refused; where there are many, it waits for the answer first.
func (r *Relay) keepEarly(s *stream, message mediation.Message) (*early, error) {
	for waited := false; s.greeted != nil; waited = true {
		r.mu.Lock()
		switch {
		case s.established:
			r.mu.Unlock()
			return nil, nil
		case s.ending && waited:
			r.mu.Unlock()
			return nil, fmt.Errorf("%w: it did not answer the handshake", errUnreachable)
		case s.ending:
			r.mu.Unlock()
			return nil, io.ErrClosedPipe
		case len(s.early) < maxEarly:
			kept := &early{message}
			s.early = append(s.early, kept)
			r.mu.Unlock()
			return kept, nil
		}
		r.mu.Unlock()
		<-s.greeted // within HandshakeTimeout; then it is established or ending
	}
	return nil, nil
}

// early is a message that was written to a stream whose handshake was not answered then.
type early struct{ message mediation.Message }

// dropEarly takes a message back that could not be written; false where it is not among those that wait any more.
func (r *Relay) dropEarly(s *stream, kept *early) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := slices.Index(s.early, kept)
	if at < 0 {
		return s.established // or else it was given back
	}
	s.early = slices.Delete(s.early, at, at+1)
	return true
}

// outgoing returns the stream to send on, after opening one where there is none.
// If the mediator opened one meanwhile it may be that.
func (r *Relay) outgoing(l *link) (*stream, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l.out == nil {
		r.mu.Unlock()
		err := r.open(l)
		r.mu.Lock()
		if err != nil && l.out == nil {
			return nil, err
		}
		if l.out == nil {
			return nil, fmt.Errorf("%w: the stream ended at once", errUnreachable)
		}
	}
	return l.out, nil
}

// abandon stops sending on a stream, and takes another one if there is one.
func (r *Relay) abandon(s *stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s.ending = true
	r.choose(s.link)
}

// choose makes sure that out is a stream to send on, or nil; r.mu is held.
func (r *Relay) choose(l *link) {
	if l.out != nil && !l.out.ending {
		return
	}
	l.out = nil
	for s := range l.streams {
		if !s.ending {
			l.out = s
			return
		}
	}
}
