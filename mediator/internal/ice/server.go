// Package ice is STUN and TURN inside the mediator, so that two peers that cannot
// reach each other need no server of a third party. The protocol is that of a
// library, github.com/pion/turn, of which this is the mediator's only user; the
// policy is ours: who may relay, how much, and to where.
//
// STUN (RFC 8489) tells a peer the address that its packets come from. Anybody may
// ask. So that the answers are no use for flooding somebody whose address was
// forged, each source has its requests counted, and what is too much is dropped.
//
// TURN (RFC 8656) relays for a peer that is connected to this mediator. It gets a
// name and a password in its handshake (draft-uberti-behave-turn-rest-00), which
// carry their own end and its peer id, so that nothing is kept about them. Relayed
// bytes are counted in both directions, for the peer and for all of them; what is
// too much is dropped, as datagrams may be.
//
//	UDP socket ──────────┐                           ┌── relay ── UDP ── the other peer
//	                     ├─▶ endpoint ─▶ the library ─┤
//	TCP ─ stream (frames)┘                           └── relay ── …
//
// The UDP socket is one endpoint, with a reader that all its clients share; each TCP
// connection is another. An endpoint drops what floods, and answers the library's
// questions about policy. A relay is the socket of one allocation: where a relayed
// address may send to, and how much, is decided there, packet by packet.
package ice

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"

	"p2pcdn/mediator/internal/limits"
)

// The defaults of Limits.
const (
	// DefaultPeerRate lets a page with a few MiB of assets load in seconds, and a film in
	// modest quality play. A relay is the last resort: most peers never need it.
	DefaultPeerRate = 512 << 10

	// DefaultTotalRate is a third of a line of 100 Mbit/s. What is relayed comes in
	// and goes out, so it takes that from both directions.
	DefaultTotalRate = 4 << 20

	// DefaultPeerAllocations is enough for all connections that a peer has at a time,
	// 48 in a browser and 64 in a Go program: each allocates over UDP and over TCP
	// before it is known which of them it needs.
	DefaultPeerAllocations = 128

	// DefaultTotalAllocations bounds sockets, each with a goroutine and some 10 KiB.
	DefaultTotalAllocations = 2048

	// DefaultCredentialLifetime is that of a page which stays open all day: a peer
	// is told its credentials once, in the handshake, and makes connections with
	// them until it goes.
	DefaultCredentialLifetime = 12 * time.Hour

	// DefaultRequests and DefaultRequestBurst bound the STUN requests of one source:
	// so many a second, and so many at once. A connection makes about eight, half
	// of them after the first round trip, and a page dozens of connections at its
	// start; an office behind one address has several pages. What is dropped is
	// sent again half a second later (RFC 8489, section 6.2.1). The longest answer
	// to a stranger, a challenge, has some 150 bytes: the most that can be
	// bounced to anybody is 8 KiB/s, after 30 KiB at first.
	DefaultRequests     = 50
	DefaultRequestBurst = 200
)

const (
	// maxSources bounds the sources whose requests are counted, at about 250 bytes each.
	// Who has enough addresses to push all of them out needs no mediator to flood with.
	maxSources = 8192

	// maxWaiting bounds the TCP connections without an allocation, and waitTimeout how
	// long each may be one: an allocation takes two round trips.
	maxWaiting  = 1024
	waitTimeout = 30 * time.Second
)

// Limits are how much there may be. Each is a limit as package limits has them: zero
// is its default, [limits.Off] none at all.
type Limits struct {
	PeerRate           int           // bytes/s that are relayed for one peer, in both directions together
	TotalRate          int           // bytes/s that are relayed for all of them
	PeerAllocations    int           // of one peer at a time
	TotalAllocations   int           // of all peers at a time
	CredentialLifetime time.Duration // how long after its handshake a peer may allocate; it cannot be off
	Requests           int           // STUN requests a second of one source: an IPv4 address, or the /64 of an IPv6 address
	RequestBurst       int           // of those, at once; it cannot be off
}

// WithDefaults returns the limits with no zero value left.
func (l Limits) WithDefaults() Limits {
	limits.Fill(&l.PeerRate, DefaultPeerRate)
	limits.Fill(&l.TotalRate, DefaultTotalRate)
	limits.Fill(&l.PeerAllocations, DefaultPeerAllocations)
	limits.Fill(&l.TotalAllocations, DefaultTotalAllocations)
	limits.Fill(&l.CredentialLifetime, DefaultCredentialLifetime)
	limits.Fill(&l.Requests, DefaultRequests)
	limits.Fill(&l.RequestBurst, DefaultRequestBurst)
	return l
}

// Config is what a Server is made of.
type Config struct {
	UDP  net.PacketConn // where clients come to; its port is the one that peers are told
	TCP  net.Listener   // where they come to over TCP, to the same port number; nil: they do not
	Turn bool           // relay; without it there is STUN alone, and allocations are refused

	// RelayIP is where relayed addresses are bound: an IPv4 address of this machine.
	// The zero value means the one by which the client reached the mediator, or,
	// where that was not over IPv4 or PublicIP is set, the one by which the
	// machine reaches the internet.
	RelayIP netip.Addr

	// PublicIP is the IPv4 address as which RelayIP is known outside, where a NAT stands
	// before it that keeps the port numbers. The zero value: RelayIP is known as itself.
	PublicIP netip.Addr

	// OwnPorts are the UDP ports of the mediator beside that of UDP. Nothing is ever
	// relayed to them.
	OwnPorts []uint16

	// AllowPrivate permits relaying to addresses that are not of the public internet:
	// of this machine, and of the networks behind it. It is for networks that have
	// nothing else, and for tests.
	AllowPrivate bool

	Limits Limits
	Random io.Reader        // for the secret behind the credentials
	Now    func() time.Time // nil: time.Now
	Logger *slog.Logger     // nil discards
}

func (c Config) validate() error {
	switch {
	case c.UDP == nil:
		return errors.New("STUN needs a UDP socket")
	case !address(c.UDP.LocalAddr()).IsValid():
		return fmt.Errorf("STUN needs a UDP socket, not %s", c.UDP.LocalAddr().Network())
	case c.Random == nil:
		return errors.New("the credentials of TURN need randomness")
	case c.Limits.CredentialLifetime < 0 || c.Limits.RequestBurst < 0:
		return errors.New("neither the lifetime of credentials nor the burst of requests can be off")
	}
	for name, ip := range map[string]netip.Addr{"relay": c.RelayIP, "public": c.PublicIP} {
		if ip.IsValid() && (!ip.Is4() || ip.IsUnspecified()) {
			return fmt.Errorf("the %s address must be one IPv4 address, not %s", name, ip)
		}
	}
	return nil
}

// Server is described in the package comment. Its methods may be called together.
type Server struct {
	config   Config
	port     uint16   // of UDP and TCP
	ownPorts []uint16 // sorted
	secret   [secretSize]byte
	sources  *lru.Cache[netip.Prefix, *rate.Limiter] // of requests; it guards itself
	accounts *accounts
	own      atomic.Pointer[map[netip.Addr]struct{}] // the addresses of this machine; never changed, only replaced
	counters counters
	done     chan struct{}  // closed with closing
	work     sync.WaitGroup // accepting, and the reader of each endpoint and of each relay; only these add to it

	mu        sync.RWMutex              // guards everything below
	bound     map[netip.AddrPort]*relay // live relays by the address that they are bound to
	announced map[netip.AddrPort]*relay // and by the one that peers know; the same without PublicIP
	homes     map[netip.Addr]int        // how many of them are bound to each address
	streams   map[*endpoint]struct{}    // the TCP connections
	waiting   int                       // those without an allocation; new ones are bounded by maxWaiting
	closing   bool                      // no TCP connection is taken
}

// New serves on the sockets of config until Close, which closes them. Where New fails
// they stay as they are.
func New(config Config) (*Server, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	config.Limits = config.Limits.WithDefaults()
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	sources, err := lru.New[netip.Prefix, *rate.Limiter](maxSources)
	if err != nil {
		return nil, fmt.Errorf("counting sources: %w", err)
	}
	s := &Server{
		config: config, port: address(config.UDP.LocalAddr()).Port(), sources: sources,
		accounts: newAccounts(config.Limits), done: make(chan struct{}),
		bound: make(map[netip.AddrPort]*relay), announced: make(map[netip.AddrPort]*relay),
		homes: make(map[netip.Addr]int), streams: make(map[*endpoint]struct{}),
	}
	s.ownPorts = append(slices.Clone(config.OwnPorts), s.port)
	slices.Sort(s.ownPorts)
	if _, err := io.ReadFull(config.Random, s.secret[:]); err != nil {
		return nil, fmt.Errorf("choosing the secret of TURN: %w", err)
	}
	s.lookAround()
	if err := s.newEndpoint(answerWhereAsked(config.UDP), nil).serve(); err != nil {
		return nil, err
	}
	if config.TCP != nil {
		s.work.Go(func() { s.accept(config.TCP) })
	}
	return s, nil
}

// Close ends all allocations, closes the sockets and every TCP connection, and
// waits for everything that the Server started. It returns what closing the sockets did.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		s.work.Wait()
		return nil
	}
	s.closing = true
	close(s.done)
	streams := make([]*endpoint, 0, len(s.streams))
	for e := range s.streams {
		streams = append(streams, e)
	}
	s.mu.Unlock()
	err := s.config.UDP.Close()
	if s.config.TCP != nil {
		err = errors.Join(err, s.config.TCP.Close())
	}
	for _, e := range streams {
		_ = e.PacketConn.Close() // its reader ends with it, and takes its allocation along
	}
	s.work.Wait()
	return err
}

// counters are those of Stats. What counts them also owns them: they are atomic.
type counters struct {
	bindings, allocated                                                        atomic.Uint64
	badCredentials, floods, crowded, forbidden, connections, relayed, overused atomic.Uint64
}

// Stats is a moment of a Server. All but Allocations and Connections only grow.
type Stats struct {
	Bindings    uint64 // STUN binding requests that were answered
	Allocated   uint64 // allocations that were made
	Allocations int    // allocations that live
	Connections int    // TCP connections that are open

	RefusedCredentials uint64 // requests with a name that is malformed or expired, or with a wrong password
	RefusedRequests    uint64 // STUN requests that were dropped because their source makes too many
	RefusedAllocations uint64 // allocations beyond those that the peer, or all of them, may have
	RefusedAddresses   uint64 // permissions and channels for addresses that nothing is relayed to, or beyond what a relay may have; and datagrams to such
	RefusedConnections uint64 // TCP connections beyond those that may wait for an allocation

	RelayedBytes uint64 // payload, in both directions
	DroppedBytes uint64 // payload beyond the rate of the peer, or of all of them
}

// Stats returns how things are.
func (s *Server) Stats() Stats {
	s.mu.RLock()
	connections := len(s.streams)
	s.mu.RUnlock()
	c := &s.counters
	return Stats{
		Bindings: c.bindings.Load(), Allocated: c.allocated.Load(),
		Allocations: s.accounts.count(), Connections: connections,
		RefusedCredentials: c.badCredentials.Load(), RefusedRequests: c.floods.Load(),
		RefusedAllocations: c.crowded.Load(), RefusedAddresses: c.forbidden.Load(),
		RefusedConnections: c.connections.Load(),
		RelayedBytes:       c.relayed.Load(), DroppedBytes: c.overused.Load(),
	}
}
