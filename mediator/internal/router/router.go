// Package router decides what each message does. It is the mediator without its
// wires: peers come by [Router.Attach], other mediators by [Router.HandleMediator],
// and what they are answered goes out by the small interfaces that the router
// needs: [Conn], [Relay] and [Discovery].
//
// # How it decides
//
// Local first: seeders of this mediator are named at once, a signal to a peer of
// this mediator is delivered here. One hop: the DHT names the mediators that have
// seeders, each is asked over a stream, and what it answers is remembered as the route to its
// peers. What came from a mediator is delivered here or refused, never forwarded.
//
// Three files, three concerns: router.go the peers, their signals and the routes;
// announce.go what stands in the DHT; search.go who waits for whom.
//
// Nothing in here blocks: every method decides under one lock and returns. What
// takes time, the DHT, runs in goroutines of its own, bounded by
// [Config.Concurrency], and Close waits for them.
package router

import (
	"context"
	"log/slog"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/registry"
)

// The defaults of Config.
const (
	// DefaultMaxAnnounces is how many contents one peer may announce: a page
	// with a thousand assets is a large one.
	DefaultMaxAnnounces = 1024

	// DefaultMaxLookups is how many contents one peer may wait for.
	DefaultMaxLookups = 256

	// DefaultMaxNamed is how many peers are named to one get_peers: no leecher
	// connects to more, and a crowd of N would otherwise be told N² times.
	DefaultMaxNamed = 256

	// DefaultMaxSubscriptions is how many contents another mediator may wait for.
	DefaultMaxSubscriptions = 16384

	// DefaultMaxRoutes is how many peers of other mediators are remembered, the
	// least recently used forgotten first. A route takes about 200 bytes.
	DefaultMaxRoutes = 65536

	// DefaultConcurrency is how many DHT operations run together. Each talks to
	// up to ten mediators at a time.
	DefaultConcurrency = 32

	// maxMediators is how many mediators one search asks.
	maxMediators = 64

	// maxQueue is how many DHT operations may wait for a place before get_peers is
	// refused: at 32 places and 100 ms each they are a minute's work.
	maxQueue = 16384
)

// Config is what a Router is made of. Zero limits mean the defaults.
type Config struct {
	Discovery   Discovery
	Relay       Relay
	Established mediation.Established // what a handshake is answered with
	Logger      *slog.Logger

	MaxAnnounces     int // contents per peer
	MaxLookups       int // contents per peer
	MaxNamed         int // peers per get_peers
	MaxSubscriptions int // contents per remote mediator
	MaxRoutes        int // peers of other mediators
	Concurrency      int // DHT operations at a time
}

// Router is described in the package comment. Its methods may be called from any goroutine.
type Router struct {
	Config
	ctx    context.Context // ends with Close; every DHT operation is under it
	cancel context.CancelFunc
	work   sync.WaitGroup // DHT operations and timers that run

	mu        sync.Mutex // guards everything below
	registry  *registry.Registry[Conn]
	routes    *lru.Cache[ident.PeerID, ident.MediatorID] // peers of other mediators
	announces map[content.FullHash]*announce             // bounded by what the peers may announce
	searches  map[content.FullHash]*search               // bounded by what the peers may wait for
	queue     []func()                                   // DHT operations that wait for a place; at most one per announce and search
	running   int                                        // DHT operations that run
	closed    bool
}

// New returns a router; Close ends it.
func New(config Config) *Router {
	defaults := func(limit *int, value int) {
		if *limit == 0 {
			*limit = value
		}
	}
	defaults(&config.MaxAnnounces, DefaultMaxAnnounces)
	defaults(&config.MaxLookups, DefaultMaxLookups)
	defaults(&config.MaxNamed, DefaultMaxNamed)
	defaults(&config.MaxSubscriptions, DefaultMaxSubscriptions)
	defaults(&config.MaxRoutes, DefaultMaxRoutes)
	defaults(&config.Concurrency, DefaultConcurrency)
	routes, err := lru.New[ident.PeerID, ident.MediatorID](config.MaxRoutes)
	if err != nil { // only for a size below one
		panic(err)
	}
	r := &Router{
		Config: config, registry: registry.New[Conn](), routes: routes,
		announces: make(map[content.FullHash]*announce), searches: make(map[content.FullHash]*search),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Close stops every search and announce and waits for them. Withdrawing what
// stands in the DHT is left to Discovery's own Close.
func (r *Router) Close() {
	r.mu.Lock()
	r.closed = true
	r.queue = nil
	for _, s := range r.searches {
		s.stop()
	}
	for _, a := range r.announces {
		a.stopRetry()
	}
	r.mu.Unlock()
	r.cancel()
	r.work.Wait()
}

// Counts returns how much the router holds.
func (r *Router) Counts() registry.Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.registry.Counts()
}

// run runs a DHT operation in a goroutine of its own, when there is a place. mu is held.
func (r *Router) run(operation func()) {
	if r.closed {
		return
	}
	if r.running == r.Concurrency {
		r.queue = append(r.queue, operation)
		return
	}
	r.running++
	r.work.Go(func() {
		for operation != nil {
			operation()
			operation = r.nextOperation()
		}
	})
}

func (r *Router) nextOperation() func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		r.running--
		return nil
	}
	next := r.queue[0]
	r.queue = r.queue[1:]
	return next
}

// Peer is a peer's place in the router, from the moment its connection opens.
// Its methods must not be called together.
type Peer struct {
	router *Router
	conn   Conn
	id     ident.PeerID // zero before the handshake; written by Receive alone
}

// Attach makes a place for a new connection. Detach must be called at its end.
func (r *Router) Attach(conn Conn) *Peer { return &Peer{router: r, conn: conn} }

// Established reports whether the handshake was accepted.
func (p *Peer) Established() bool { return !p.id.IsZero() }

// ID returns the peer's id, zero before the handshake.
func (p *Peer) ID() ident.PeerID { return p.id }

// Receive does what the peer's message asks for. What is wrong is answered with
// an error message.
func (p *Peer) Receive(message mediation.Message) {
	if err := p.receive(message); err != nil {
		p.conn.Send(err)
	}
}

func (p *Peer) receive(message mediation.Message) *mediation.Error {
	r := p.router
	r.mu.Lock()
	defer r.mu.Unlock()
	if handshake, is := message.(mediation.Handshake); is {
		return r.handshake(p, handshake)
	}
	if _, is := message.(mediation.Replication); is {
		return &mediation.Error{Code: mediation.CodeReplicationRefused, Message: "mediators talk to each other over libp2p, not here"}
	}
	if !p.Established() {
		return &mediation.Error{Code: mediation.CodeHandshakeRequired, Message: "a handshake comes before " + message.Type()}
	}
	switch m := message.(type) {
	case mediation.GetPeers:
		return r.getPeers(p, m.FullHash)
	case mediation.Signal:
		return r.signal(p, m)
	case mediation.Announce:
		return r.announce(p, m.FullHash)
	case mediation.Finish:
		r.finish(p.id, m.FullHash)
		return nil
	}
	return &mediation.Error{Code: mediation.CodeUnexpectedType, Message: "a peer does not send " + message.Type()}
}

func (r *Router) handshake(p *Peer, m mediation.Handshake) *mediation.Error {
	switch {
	case p.Established():
		return (&mediation.Error{Code: mediation.CodeAlreadyEstablished, Message: "this connection has its peer id already"}).With(p.id)
	case m.PeerID.IsZero():
		return &mediation.Error{Code: mediation.CodeBadPeerID, Message: "a peer id is chosen at random, it is never zero"}
	case !r.registry.Connect(m.PeerID, p.conn):
		return (&mediation.Error{Code: mediation.CodePeerIDInUse, Message: "this peer id is connected; choose another one"}).With(m.PeerID)
	}
	p.id = m.PeerID
	p.conn.Send(r.Established)
	return nil
}

// Detach ends the peer: what it announced is finished, what it waited for is
// waited for no longer.
func (p *Peer) Detach() {
	r := p.router
	r.mu.Lock()
	defer r.mu.Unlock()
	if !p.Established() {
		return
	}
	unseeded, unwaited := r.registry.Disconnect(p.id)
	for _, hash := range unseeded {
		r.withdraw(hash)
	}
	for _, hash := range unwaited {
		r.endSearch(hash)
	}
}

// finish ends a peer's announce of a content and its interest in it. mu is held.
func (r *Router) finish(id ident.PeerID, hash content.FullHash) {
	if a := r.announces[hash]; a != nil {
		delete(a.asking, id)
	}
	if _, last := r.registry.Finish(id, hash); last {
		r.withdraw(hash)
	}
	if r.registry.Unwait(id, hash) {
		r.endSearch(hash)
	}
}

// signal delivers a peer's signal here, or hands it to the receiver's mediator. mu is held.
func (r *Router) signal(p *Peer, m mediation.Signal) *mediation.Error {
	if m.PeerID == p.id {
		return (&mediation.Error{Code: mediation.CodeSignalToSelf, Message: "a signal to oneself"}).About(m.FullHash).With(m.PeerID)
	}
	if conn, here := r.registry.Conn(m.PeerID); here {
		conn.Send(mediation.Signal{FullHash: m.FullHash, PeerID: p.id, SignalData: m.SignalData})
		return nil
	}
	if mediator, known := r.routes.Get(m.PeerID); known {
		m.SenderID = p.id
		r.Relay.Send(mediator, m)
		return nil
	}
	return peerNotFound(m)
}

func peerNotFound(m mediation.Signal) *mediation.Error {
	return (&mediation.Error{Code: mediation.CodePeerNotFound, Message: "the receiver of the signal is not connected"}).
		About(m.FullHash).With(m.PeerID)
}

// HandleMediator does what another mediator's message asks for. from is
// authenticated. Messages of one mediator must come one after the other.
func (r *Router) HandleMediator(from ident.MediatorID, message mediation.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m := message.(type) {
	case mediation.GetPeers:
		r.subscribe(from, m.FullHash)
	case mediation.Finish:
		r.registry.Unsubscribe(from, m.FullHash)
	case mediation.Peers:
		r.found(from, m)
	case mediation.Signal:
		if err := r.remoteSignal(from, m); err != nil {
			err.SenderID = m.SenderID
			r.Relay.Send(from, err)
		}
	case *mediation.Error:
		r.remoteError(from, m)
	default:
		r.Relay.Send(from, &mediation.Error{Code: mediation.CodeUnexpectedType, Message: "a mediator does not send " + message.Type()})
	}
}

// remoteSignal delivers another mediator's signal, here or not at all. mu is held.
func (r *Router) remoteSignal(from ident.MediatorID, m mediation.Signal) *mediation.Error {
	_, ours := r.registry.Conn(m.SenderID)
	route, known := r.routes.Get(m.SenderID)
	if ours || m.SenderID.IsZero() || (known && route != from) {
		return (&mediation.Error{Code: mediation.CodeBadPeerID, Message: "sender_id is no peer of the mediator that sent this"}).
			About(m.FullHash).With(m.PeerID)
	}
	conn, here := r.registry.Conn(m.PeerID)
	if !here {
		return peerNotFound(m)
	}
	r.learn(m.SenderID, from)
	conn.Send(mediation.Signal{FullHash: m.FullHash, PeerID: m.SenderID, SignalData: m.SignalData})
	return nil
}

// learn remembers through which mediator a peer is reached. The first to name it
// is believed: an id is chosen at random for one connection and never moves, so
// whoever names it later is mistaken or lies. mu is held.
func (r *Router) learn(peer ident.PeerID, mediator ident.MediatorID) {
	if _, known := r.routes.Get(peer); !known {
		r.routes.Add(peer, mediator)
	}
}

// remoteError tells the peer whose signal it answers. An error is never answered. mu is held.
func (r *Router) remoteError(from ident.MediatorID, m *mediation.Error) {
	conn, here := r.registry.Conn(m.SenderID)
	if !here {
		r.Logger.Debug("another mediator says", "mediator", from.Short(), "code", m.Code, "message", m.Message)
		return
	}
	if route, known := r.routes.Peek(m.PeerID); known && route == from && m.Code == mediation.CodePeerNotFound {
		r.routes.Remove(m.PeerID)
	}
	told := *m
	told.SenderID = ident.PeerID{}
	conn.Send(&told)
}

// Undelivered says that a message could not be delivered to another mediator.
func (r *Router) Undelivered(to ident.MediatorID, message mediation.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m := message.(type) {
	case mediation.GetPeers:
		r.unanswered(to, m.FullHash)
	case mediation.Signal:
		if conn, here := r.registry.Conn(m.SenderID); here {
			r.routes.Remove(m.PeerID)
			conn.Send(peerNotFound(m))
		}
	}
}

// MediatorGone says that the last stream with another mediator has ended: what
// it waits for is forgotten, and it will be asked anew for what our peers wait for.
func (r *Router) MediatorGone(from ident.MediatorID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.registry.UnsubscribeAll(from)
	for hash := range r.searches {
		r.unanswered(from, hash)
	}
}
