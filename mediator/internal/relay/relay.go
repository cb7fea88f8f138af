// Package relay carries mediation messages to and from other mediators, one hop,
// over libp2p streams of protocol [mediation.StreamProtocol]. Package mediation
// specifies what travels on them; this is how they are kept.
//
// There is one queue and at most one sending goroutine per mediator. It sends on
// one stream until that fails, so that messages arrive in the order in which they
// were sent; where there is no stream it opens one. If both sides open at once
// both streams stay, and each side sends on one of them. Every stream has one
// reader. A stream on which nothing was said for [Config.IdleTimeout] is closed
// from one side first, so that nothing that is under way is lost.
package relay

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

// Handler is told what happens. Calls about one mediator come one after the
// other, each from a goroutine of the relay; they must not wait for the relay.
type Handler interface {
	// HandleMediator is called for each message of an established stream. from
	// is authenticated. It is never a handshake or anything else that only a peer
	// sends or only a peer is sent.
	HandleMediator(from ident.MediatorID, message mediation.Message)

	// Undelivered returns a message that was not written to a stream, or to one whose
	// handshake was not answered then.
	Undelivered(to ident.MediatorID, message mediation.Message)

	// MediatorGone says that the last stream with a mediator has ended.
	MediatorGone(from ident.MediatorID)
}

// Config bounds a Relay. Zero fields are defaults, [limits.Off] is no limit.
type Config struct {
	// Logger is told of mediators that misbehave. Nil discards it.
	Logger *slog.Logger

	// QueueLength bounds the messages that wait for one mediator, or for the answer to the handshake with it. Default 256:
	// the answers for as many contents at once, 64 KiB each at the most.
	QueueLength int

	// MaxStreams bounds all streams. Default 1024, each with a goroutine and up
	// to one message of memory; a mediator has connections to some 400 others. A
	// quarter is kept for those that this side opens.
	MaxStreams int

	// MaxStreamsPerMediator bounds those that one mediator opened. Default 4: it
	// needs one, and one more while an old connection is not known to be dead.
	MaxStreamsPerMediator int

	// MessagesPerMediator bounds what one mediator says, in messages a second, of which it
	// may save up those of [limits.BurstSeconds]. Default 500: signals of 25 introductions
	// a second, twice over. What comes above that is answered with rate_limited.
	MessagesPerMediator int

	// Refused counts what is refused, for the metrics. Nil: nobody does.
	Refused func(mediation.ErrorCode)

	// OpenTimeout bounds dialling and opening a stream. Default 5 s.
	OpenTimeout time.Duration

	// HandshakeTimeout bounds the handshake, on either side. Default 10 s.
	HandshakeTimeout time.Duration

	// MessageTimeout bounds the writing of a message and, from its first byte on,
	// the reading of one. Default 10 s: the largest has 132 KiB.
	MessageTimeout time.Duration

	// IdleTimeout is how long a stream stays without a message in either
	// direction. Default 10 min. A mediator that asked for peers is told of later
	// ones while the stream lives, and asks anew when it ends: with a shorter
	// time a rare content would cost a stream every time.
	IdleTimeout time.Duration
}

// WithDefaults returns the configuration with no zero value left.
func (c Config) WithDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Refused == nil {
		c.Refused = func(mediation.ErrorCode) {}
	}
	limits.Fill(&c.QueueLength, 256)
	limits.Fill(&c.MaxStreams, 1024)
	limits.Fill(&c.MaxStreamsPerMediator, 4)
	limits.Fill(&c.MessagesPerMediator, 500)
	limits.Fill(&c.OpenTimeout, 5*time.Second)
	limits.Fill(&c.HandshakeTimeout, 10*time.Second)
	limits.Fill(&c.MessageTimeout, 10*time.Second)
	limits.Fill(&c.IdleTimeout, 10*time.Minute)
	return c
}

const (
	// maxErrors is how many wrong messages in a row end a stream: a newer version
	// may send a few types that this one does not know.
	maxErrors = 10

	// maxEarly is how many messages are written to a stream before its handshake was answered: those of
	// some searches and introductions, in the one round trip that this takes.
	maxEarly = 64

	// goodbyeTimeout bounds the last message on a stream, and what is read after
	// this side has said that it closes.
	goodbyeTimeout = 500 * time.Millisecond
)

// Relay is the mediation streams of one mediator. Its methods may be called
// together. Fields without a note never change.
type Relay struct {
	host    host.Host
	self    ident.MediatorID
	handler Handler
	config  Config
	log     *slog.Logger
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup // every goroutine; once closed is set only those that are in it add others

	mu     sync.Mutex // guards what follows and the fields of links that say so
	closed bool
	links  map[ident.MediatorID]*link
	live   map[network.Stream]struct{} // every stream, before its handshake too
}

// New serves mediation streams on the host and is ready to send. The host must
// know, or be able to look up, where the mediators are that are sent to; it must
// outlive the Relay.
func New(host host.Host, handler Handler, config Config) *Relay {
	config = config.WithDefaults()
	self, err := ident.ParseMediatorID(host.ID().String())
	if err != nil { // every libp2p id is one
		panic(err)
	}
	r := &Relay{
		host: host, self: self, handler: handler, config: config, log: config.Logger,
		links: make(map[ident.MediatorID]*link), live: make(map[network.Stream]struct{}),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	host.SetStreamHandler(mediation.StreamProtocol, r.accept)
	return r
}

// Send queues the message for the mediator, opening a stream where there is
// none, and never blocks. A message that is not written to a stream (no route,
// queue full, stream broken) comes back by [Handler.Undelivered], called from
// another goroutine. After Close messages are dropped.
func (r *Relay) Send(to ident.MediatorID, message mediation.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	_, known := r.links[to]
	crowded := !known && limits.Reached(len(r.links), r.config.MaxStreams)
	l := r.use(to)
	defer r.release(l)
	if to == r.self || crowded || limits.Reached(l.waiting(), r.config.QueueLength) {
		r.giveBack(l, message)
		return
	}
	l.queue = append(l.queue, message)
	if !l.sending {
		l.sending = true
		l.users++
		r.wg.Go(func() { r.send(l) })
	}
}

// Status is a moment of a Relay, for people.
type Status struct {
	Mediators int // with a stream
	Streams   int
}

// Status returns how things are.
func (r *Relay) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	var status Status
	for _, l := range r.links {
		if len(l.streams) > 0 {
			status.Mediators++
			status.Streams += len(l.streams)
		}
	}
	return status
}

// Close says going_away on every stream, closes it, and waits for everything
// that the Relay started; it takes about a second at the most. The handler is
// not called after it returned.
func (r *Relay) Close() error {
	r.mu.Lock()
	r.closed = true
	streams := make([]network.Stream, 0, len(r.live))
	for stream := range r.live {
		streams = append(streams, stream)
	}
	r.mu.Unlock()
	r.host.RemoveStreamHandler(mediation.StreamProtocol)
	r.cancel()
	// Whoever sets a deadline looks at ctx after it, so none of these is undone.
	for _, stream := range streams {
		_ = stream.SetReadDeadline(time.Now())
		_ = stream.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	}
	r.wg.Wait()
	return nil
}

var _ io.Closer = (*Relay)(nil)
