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
// A file a concern: router.go the peers and their signals; routes.go how the
// peers of other mediators are reached; announce.go what stands in the DHT;
// search.go who waits for whom; offers.go what travels with a search.
//
// Nothing in here blocks: every method decides under one lock and returns. What
// takes time, the DHT, runs in goroutines of its own, bounded by
// [Config.Concurrency], and Close waits for them.
package router

import (
	"container/list"
	"context"
	"log/slog"
	"math"
	"slices"
	"sync"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
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

	// DefaultMaxRoutes is how many peers of one other mediator are remembered, the
	// least recently used forgotten first. A route takes about 300 bytes.
	DefaultMaxRoutes = 4096

	// DefaultConcurrency is how many DHT operations run together. Each talks to
	// up to ten mediators at a time.
	DefaultConcurrency = 32

	// maxMediators is how many mediators one search asks.
	maxMediators = 64

	// DefaultMaxPending is how many DHT operations may wait for a place before get_peers
	// is refused: at 32 places and 100 ms each they are a minute's work.
	DefaultMaxPending = 16384

	// DefaultMaxOfferBytes bounds the offers that wait for a seeder to be found: those of
	// some ten thousand peers at a time, none for longer than a round of searching.
	DefaultMaxOfferBytes = 16 << 20

	// DefaultMaxContents is how many contents there may be that anybody seeds or waits
	// for here. Each takes about a kilobyte, and a renewal in the DHT every 20 minutes where it is seeded.
	DefaultMaxContents = 100_000
)

// Config is what a Router is made of. Zero limits mean the defaults, [limits.Off] none.
type Config struct {
	Discovery Discovery
	Relay     Relay
	Logger    *slog.Logger

	// Established is what the handshake of a peer is answered with that reached the
	// mediator as host. It is called with the lock held, and must not wait. Nil: nothing.
	Established func(id ident.PeerID, host string) mediation.Established

	// Permits reports whether the mediator has to do with a content. It is called as
	// Established is. Nil: with all. What it said may change; see [Router.Enforce].
	Permits func(content.FullHash) bool

	MaxContents      int // that anybody seeds or waits for
	MaxPending       int // DHT operations that wait
	MaxOfferBytes    int // of all offers that wait; what is above is not kept, and its sender signals it itself
	MaxAnnounces     int // contents per peer
	MaxLookups       int // contents per peer
	MaxNamed         int // peers per get_peers
	MaxSubscriptions int // contents per remote mediator
	MaxRoutes        int // peers per remote mediator
	Concurrency      int // DHT operations at a time
}

// Router is described in the package comment. Its methods may be called from any goroutine.
type Router struct {
	Config
	ctx    context.Context // ends with Close; every DHT operation is under it
	cancel context.CancelFunc
	work   sync.WaitGroup // DHT operations that run

	mu        sync.Mutex // guards everything below
	registry  *registry.Registry[Conn]
	routes    *routes
	announces map[content.FullHash]*announce // bounded by what the peers may announce, and what is being withdrawn
	searches  map[content.FullHash]*search   // bounded by what the peers may wait for
	queue     *list.List                     // of operation: those that wait for a place, at most one per announce and search
	running   int                            // DHT operations that run
	held      int                            // bytes of the offers of all searches; bounded by MaxOfferBytes
	closed    bool
}

// operation is something that the DHT is asked to do.
type operation struct {
	begin func() // called with the lock held, when it has its place
	run   func() // called without
}

// WithDefaults returns the configuration with no limit left that is zero, and no
// function that is nil.
func (c Config) WithDefaults() Config {
	limits.Fill(&c.MaxContents, DefaultMaxContents)
	limits.Fill(&c.MaxPending, DefaultMaxPending)
	limits.Fill(&c.MaxOfferBytes, DefaultMaxOfferBytes)
	limits.Fill(&c.MaxAnnounces, DefaultMaxAnnounces)
	limits.Fill(&c.MaxLookups, DefaultMaxLookups)
	limits.Fill(&c.MaxNamed, DefaultMaxNamed)
	limits.Fill(&c.MaxSubscriptions, DefaultMaxSubscriptions)
	limits.Fill(&c.MaxRoutes, DefaultMaxRoutes)
	limits.Fill(&c.Concurrency, DefaultConcurrency)
	if c.MaxNamed < 0 {
		c.MaxNamed = math.MaxInt
	}
	if c.MaxRoutes < 0 {
		c.MaxRoutes = math.MaxInt
	}
	if c.Established == nil {
		c.Established = func(ident.PeerID, string) mediation.Established { return mediation.Established{} }
	}
	if c.Permits == nil {
		c.Permits = func(content.FullHash) bool { return true }
	}
	return c
}

// New returns a router; Close ends it.
func New(config Config) *Router {
	config = config.WithDefaults()
	r := &Router{
		Config: config, registry: registry.New[Conn](), routes: newRoutes(config.MaxRoutes), queue: list.New(),
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
	r.queue = list.New() // what waited belongs to none now, so that taking it back changes nothing
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

// Status is a moment of a Router, for people.
type Status struct {
	Peers     int // that have shaken hands
	Contents  int // that anyone here, or another mediator, seeds or waits for
	Announced int // contents whose record can be found in the DHT
	Searches  int // contents that peers here wait for
	Pending   int // DHT operations that wait for a place
	Running   int // DHT operations that run
}

// Status returns how things are.
func (r *Router) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	counts := r.registry.Counts()
	status := Status{Peers: counts.Peers, Contents: counts.Swarms, Searches: len(r.searches), Pending: r.queue.Len(), Running: r.running}
	for _, a := range r.announces {
		if a.stored {
			status.Announced++
		}
	}
	return status
}

// Enforce ends what Permits does not permit any more: announces are withdrawn, interests
// forgotten, and whoever is concerned is told content_refused.
func (r *Router) Enforce() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, hash := range r.registry.Contents() {
		if r.closed || r.Permits(hash) {
			continue
		}
		concerned := append(slices.Clone(r.registry.Seeders(hash)), r.registry.Waiters(hash)...)
		for _, id := range concerned {
			r.finish(id, hash)
			r.offer(id, refused(hash))
		}
		for _, mediator := range r.registry.Subscribers(hash) {
			r.registry.Unsubscribe(mediator, hash)
		}
	}
}

func refused(hash content.FullHash) *mediation.Error {
	return (&mediation.Error{Code: mediation.CodeContentRefused, Message: "this mediator has nothing to do with this content"}).About(hash)
}

// admit says why there is no place for the content here; nil where there is one, or it
// has one already. mu is held.
func (r *Router) admit(hash content.FullHash) *mediation.Error {
	switch {
	case !r.Permits(hash):
		return refused(hash)
	case !r.registry.Knows(hash) && limits.Reached(r.registry.Counts().Swarms, r.MaxContents):
		return (&mediation.Error{Code: mediation.CodeTooManyContents, Message: "this mediator holds as many contents as it may; try another one"}).About(hash)
	}
	return nil
}

// enqueue begins an operation, in a goroutine of its own, when there is a place
// for it. Until it has begun it can be taken back: see drop. mu is held.
func (r *Router) enqueue(o operation) (place *list.Element) {
	if r.closed {
		return nil
	}
	if limits.Reached(r.running, r.Concurrency) {
		return r.queue.PushBack(o)
	}
	r.running++
	o.begin()
	r.work.Go(func() {
		for more := true; more; o, more = r.next() {
			o.run()
		}
	})
	return nil
}

// drop takes back an operation that has not begun; nil is none. mu is held.
func (r *Router) drop(place *list.Element) {
	if place != nil {
		r.queue.Remove(place)
	}
}

func (r *Router) next() (o operation, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	first := r.queue.Front()
	if first == nil {
		r.running--
		return operation{}, false
	}
	o = r.queue.Remove(first).(operation)
	o.begin()
	return o, true
}

// Peer is a peer's place in the router, from the moment its connection opens.
// Its methods must not be called together.
type Peer struct {
	router *Router
	conn   Conn
	host   string       // by which it reached the mediator
	id     ident.PeerID // zero before the handshake; written by Receive alone
}

// Attach makes a place for a new connection, which came to the mediator as host.
// Detach must be called at its end.
func (r *Router) Attach(conn Conn, host string) *Peer {
	return &Peer{router: r, conn: conn, host: host}
}

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
	if r.closed {
		return &mediation.Error{Code: mediation.CodeGoingAway, Message: "this mediator shuts down; connect to another one"}
	}
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
		return r.getPeers(p, m)
	case mediation.Signal:
		return r.signal(p, m)
	case mediation.Announce:
		return r.announce(p, m.FullHash)
	case mediation.Finish:
		r.finish(p.id, m.FullHash)
		return nil
	case mediation.Ping:
		p.conn.Send(mediation.Pong{})
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
	p.conn.Send(r.Established(p.id, p.host))
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
	for _, hash := range r.registry.Seeding(p.id) {
		if a := r.announces[hash]; a != nil {
			delete(a.asking, p.id)
		}
		r.tellOfLeaver(p.id, hash)
	}
	for _, hash := range r.registry.Waiting(p.id) {
		r.letGo(r.searches[hash], p.id)
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
	did, last := r.registry.Finish(id, hash)
	if did {
		r.tellOfLeaver(id, hash)
	}
	if last {
		r.withdraw(hash)
	}
	r.letGo(r.searches[hash], id)
	if r.registry.Unwait(id, hash) {
		r.endSearch(hash)
	}
}

// signal delivers a peer's signal here, or hands it to the receiver's mediator. mu is held.
func (r *Router) signal(p *Peer, m mediation.Signal) *mediation.Error {
	if m.PeerID == p.id {
		return (&mediation.Error{Code: mediation.CodeSignalToSelf, Message: "a signal to oneself"}).About(m.FullHash).With(m.PeerID)
	}
	if !r.Permits(m.FullHash) {
		return refused(m.FullHash).With(m.PeerID)
	}
	if conn, here := r.registry.Conn(m.PeerID); here {
		if !conn.Offer(mediation.Signal{FullHash: m.FullHash, PeerID: p.id, SignalData: m.SignalData}) {
			return peerBusy(m)
		}
		return nil
	}
	m.SenderID = p.id
	mediators := r.routes.get(m.PeerID)
	for _, mediator := range mediators {
		r.Relay.Send(mediator, m)
	}
	if len(mediators) == 0 {
		return peerNotFound(m)
	}
	return nil
}

func peerBusy(m mediation.Signal) *mediation.Error {
	return (&mediation.Error{Code: mediation.CodeOverloaded, Message: "the receiver of the signal has too many waiting"}).
		About(m.FullHash).With(m.PeerID)
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
		r.subscribe(from, m)
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
	conn, here := r.registry.Conn(m.PeerID)
	if !here || !r.Permits(m.FullHash) { // a mediator is told no more than that
		return peerNotFound(m)
	}
	if _, ours := r.registry.Conn(m.SenderID); ours || m.SenderID.IsZero() || !r.routes.learn(m.SenderID, from) {
		return (&mediation.Error{Code: mediation.CodeBadPeerID, Message: "sender_id is no peer of the mediator that sent this"}).
			About(m.FullHash).With(m.PeerID)
	}
	if !conn.Offer(mediation.Signal{FullHash: m.FullHash, PeerID: m.SenderID, SignalData: m.SignalData}) {
		return peerBusy(m)
	}
	return nil
}

// remoteError tells the peer whose signal it answers, if it answers one. An error
// is never answered. mu is held.
func (r *Router) remoteError(from ident.MediatorID, m *mediation.Error) {
	_, here := r.registry.Conn(m.SenderID)
	switch {
	case here && m.Code == mediation.CodePeerNotFound && m.FullHash != nil:
		r.unreachable(from, mediation.Signal{FullHash: *m.FullHash, PeerID: m.PeerID, SenderID: m.SenderID})
	case !here && m.Code == mediation.CodeRateLimited && m.FullHash != nil:
		r.unanswered(from, *m.FullHash) // a get_peers: it may be asked again
	case !here && m.Code == mediation.CodeOverloaded && m.FullHash != nil:
		r.unsubscribed(from, *m.FullHash)
	case here && (m.Code == mediation.CodeOverloaded || m.Code == mediation.CodeRateLimited) && m.FullHash != nil && r.routes.knows(m.PeerID, from):
		r.offer(m.SenderID, peerBusy(mediation.Signal{FullHash: *m.FullHash, PeerID: m.PeerID}))
	default:
		r.Logger.Debug("another mediator says", "mediator", from.Short(), "code", m.Code, "message", m.Message)
	}
}

// unreachable forgets a route, and tells the sender of the signal if no other is
// left: each sender, also where an earlier one's signal had the route forgotten. mu is held.
func (r *Router) unreachable(mediator ident.MediatorID, m mediation.Signal) {
	r.routes.forget(m.PeerID, mediator)
	r.forgetPeer(mediator, m.FullHash, m.PeerID)
	if _, here := r.registry.Conn(m.PeerID); !here && len(r.routes.get(m.PeerID)) == 0 {
		r.offer(m.SenderID, peerNotFound(m))
	}
}

// offer tells a peer something, if it is here and has room. mu is held.
func (r *Router) offer(id ident.PeerID, message mediation.Message) {
	if conn, here := r.registry.Conn(id); here {
		conn.Offer(message)
	}
}

// Undelivered says that a message could not be delivered to another mediator.
func (r *Router) Undelivered(to ident.MediatorID, message mediation.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch m := message.(type) {
	case mediation.GetPeers:
		r.unanswered(to, m.FullHash)
	case mediation.Signal:
		r.unreachable(to, m)
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
