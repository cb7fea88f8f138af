package router

import (
	"context"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

// Discovery is the DHT: full hash → mediators that have seeders. Its methods may
// be called together, but for one hash the router waits for one Announce or
// Finish to return before it calls the next.
type Discovery interface {
	// Announce stores the record that this mediator has seeders of the content.
	// It returns nil once the record can be found from elsewhere, or at once
	// where it is stored already; the record is kept fresh until Finish.
	Announce(ctx context.Context, hash content.FullHash) error

	// Finish withdraws the record. When it returns nil no lookup anywhere
	// returns this mediator for that hash. Finishing what was not announced is nil.
	// It does what can be done of retrying itself; an error is the end of it.
	Finish(ctx context.Context, hash content.FullHash) error

	// Find yields the other mediators that announced the content, each once, as
	// they are found, until the search has ended, ctx is done or yield returns
	// false. This mediator is not among them. The error says that the search
	// could not be made or was cut short; ending with nobody is no error.
	Find(ctx context.Context, hash content.FullHash, yield func(ident.MediatorID) bool) error
}

// Relay carries messages to other mediators, one hop.
type Relay interface {
	// Send queues the message for the mediator, opening a stream where there is
	// none, and never blocks. A message that cannot be delivered (no route, queue
	// full, stream broken before it was written) comes back by
	// [Router.Undelivered], called from another goroutine.
	Send(to ident.MediatorID, message mediation.Message)
}

// Conn is a peer's connection, as the router sees it. Its methods never block and
// may be called from any goroutine; after the connection closed, messages are dropped.
//
// Messages are not changed any more when they were handed over.
type Conn interface {
	// Send queues what the peer asked for. Where its queue is full it does not
	// read what it asks for, and is cut off as a slow reader.
	Send(message mediation.Message)

	// Offer queues what somebody else wants to tell the peer, unless half of the
	// queue is in use already: strangers must not be able to have a peer cut off.
	Offer(message mediation.Message) (taken bool)
}
