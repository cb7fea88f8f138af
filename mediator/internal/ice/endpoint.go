package ice

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/pion/turn/v4"
	"golang.org/x/time/rate"

	"p2pcdn/mediator/internal/limits"
)

const (
	// maxFrame bounds what a client sends at once, in bytes. The packets of ICE, DTLS and SCTP
	// fit in one of Ethernet; the rest is for what TURN puts around them.
	maxFrame = 1600

	// maxReadErrors is how many reads of a UDP socket may fail in a row. Some systems tell
	// a reader that what was sent to somebody did not arrive; a socket that is of no
	// use any more fails each time.
	maxReadErrors = 100
)

var (
	errNoPair = errors.New("no allocation was asked for, but a port next to another: those are for RTP without ICE")
	errNoTCP  = errors.New("relayed addresses are of UDP")
)

// endpoint is what the library reads requests from and writes answers to, and
// whom it asks what to do with them. One goroutine of the library reads, and does
// whatever a request is for before it reads again.
type endpoint struct {
	net.PacketConn
	server *Server
	stream *stream // the PacketConn, where it is a TCP connection

	source    net.Addr     // owned by the reader: whose request is being answered
	applicant *application // owned by the reader: what an allocation would be counted for

	mu      sync.Mutex                // guards everything below
	clients map[netip.AddrPort]*relay // the allocation of each client; of a stream there is one
}

// application is an allocation that may be made.
type application struct {
	username string
	account  *account
}

func (s *Server) newEndpoint(conn net.PacketConn, stream *stream) *endpoint {
	return &endpoint{PacketConn: conn, server: s, stream: stream, clients: make(map[netip.AddrPort]*relay)}
}

// serve has the library read from the endpoint, until reading fails.
func (e *endpoint) serve() error {
	config := turn.ServerConfig{
		Realm:         realm,
		InboundMTU:    maxFrame,
		LoggerFactory: loggers{e.server.config.Logger},
		PacketConnConfigs: []turn.PacketConnConfig{
			{PacketConn: e, RelayAddressGenerator: e, PermissionHandler: e.permits},
		},
		EventHandler: turn.EventHandler{
			OnAuth: func(_, _ net.Addr, _, _, _, _ string, good bool) {
				if !good {
					e.server.counters.badCredentials.Add(1)
				}
			},
			OnPermissionCreated: func(client, _ net.Addr, _, _, _ string, relayed net.Addr, peer net.IP) {
				e.change(client, relayed, peer, 1, 0)
			},
			OnPermissionDeleted: func(client, _ net.Addr, _, _, _ string, relayed net.Addr, peer net.IP) {
				e.change(client, relayed, peer, -1, 0)
			},
			OnChannelCreated: func(client, _ net.Addr, _, _, _ string, relayed, peer net.Addr, _ uint16) {
				e.change(client, relayed, address(peer).Addr().AsSlice(), 1, 1)
			},
			OnChannelDeleted: func(client, _ net.Addr, _, _, _ string, relayed, peer net.Addr, _ uint16) {
				e.change(client, relayed, address(peer).Addr().AsSlice(), -1, -1)
			},
		},
	}
	if e.server.config.Turn { // without a handler the library refuses whatever needs one
		config.AuthHandler, config.QuotaHandler = e.authenticate, e.apply
	}
	e.server.work.Add(1) // over says that it is done
	if _, err := turn.NewServer(config); err != nil {
		e.server.work.Done()
		return fmt.Errorf("starting STUN: %w", err)
	}
	return nil
}

// ReadFrom implements [net.PacketConn] for the reader: it returns what is worth an answer. After
// an error it is not called again.
func (e *endpoint) ReadFrom(p []byte) (int, net.Addr, error) {
	e.dismiss()
	for failed := 0; ; {
		n, from, err := e.PacketConn.ReadFrom(p)
		switch {
		case err == nil && e.server.hears(p[:n], from):
			e.source = from
			return n, from, nil
		case err == nil:
			failed = 0
		case e.stream != nil || errors.Is(err, net.ErrClosed) || failed == maxReadErrors:
			e.over(err)
			return 0, nil, err
		default:
			failed++
		}
	}
}

// hears reports whether a packet is to be looked at. Nothing but a request is answered, so
// nothing else can be used for flooding others.
func (s *Server) hears(packet []byte, from net.Addr) bool {
	kind, isSTUN := messageType(packet)
	switch {
	case !isSTUN:
		return true
	case kind&classBits != 0 || s.config.Limits.Requests < 0:
		return sound(packet)
	}
	source := limits.Source(address(from).Addr())
	limiter, known := s.sources.Get(source)
	if !known {
		limiter = rate.NewLimiter(rate.Limit(s.config.Limits.Requests), s.config.Limits.RequestBurst)
		if another, known, _ := s.sources.PeekOrAdd(source, limiter); known { // it came through two endpoints at once
			limiter = another
		}
	}
	if !limiter.AllowN(s.config.Now(), 1) {
		s.counters.floods.Add(1)
		return false
	}
	return sound(packet)
}

// WriteTo implements [net.PacketConn]: the reader writes answers, and each relay what came for its client.
func (e *endpoint) WriteTo(p []byte, to net.Addr) (int, error) {
	switch kind, _ := messageType(p); kind {
	case bindingSuccess:
		e.server.counters.bindings.Add(1)
	case allocateSuccess, refreshSuccess:
		if r := e.client(to); r != nil {
			r.prolong(lifetime(p))
		}
	}
	return e.PacketConn.WriteTo(p, to)
}

// over is the end of the reader.
func (e *endpoint) over(err error) {
	s := e.server
	if e.stream != nil {
		_ = e.PacketConn.Close()
		s.mu.Lock()
		delete(s.streams, e)
		s.waiting--
		s.mu.Unlock()
	} else if !errors.Is(err, net.ErrClosed) {
		s.config.Logger.Error("STUN over UDP has ended", "error", err)
	}
	s.work.Done()
}

// client is the relay of a client, nil if it has none.
func (e *endpoint) client(at net.Addr) *relay {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clients[address(at)]
}

// authenticate is the library's [turn.AuthHandler]. An allocation that was made in time lives
// for as long as its client refreshes it: only others need a name that has not expired.
func (e *endpoint) authenticate(name, inRealm string, from net.Addr) (key []byte, ok bool) {
	s := e.server
	expiry, _, err := parseUsername(name)
	if err != nil || inRealm != realm {
		s.counters.badCredentials.Add(1)
		return nil, false
	}
	if r := e.client(from); s.config.Now().After(expiry) && (r == nil || r.username != name) {
		s.counters.badCredentials.Add(1)
		return nil, false
	}
	return turn.GenerateAuthKey(name, realm, s.password(name)), true
}

// apply is the library's [turn.QuotaHandler]: it asks just before it makes an allocation.
func (e *endpoint) apply(name, _ string, _ net.Addr) bool {
	e.dismiss()
	_, peer, err := parseUsername(name)
	if err != nil { // it was authenticated, so it has been parsed before
		return false
	}
	account, err := e.server.accounts.enter(peer)
	if err != nil {
		e.server.counters.crowded.Add(1)
		e.server.config.Logger.Debug("an allocation was refused", "peer", peer.Short(), "error", err)
		return false
	}
	e.applicant = &application{name, account}
	return true
}

// dismiss forgets an application of which nothing came.
func (e *endpoint) dismiss() {
	if e.applicant != nil {
		e.server.accounts.leave(e.applicant.account)
		e.applicant = nil
	}
}

// Validate implements [turn.RelayAddressGenerator].
func (e *endpoint) Validate() error { return nil }

// AllocateConn implements [turn.RelayAddressGenerator].
func (e *endpoint) AllocateConn(string, int) (net.Conn, net.Addr, error) { return nil, nil, errNoTCP }

// AllocatePacketConn implements [turn.RelayAddressGenerator]: it opens the socket of what was applied for.
func (e *endpoint) AllocatePacketConn(string, int) (net.PacketConn, net.Addr, error) {
	if e.applicant == nil {
		return nil, nil, errNoPair
	}
	r, err := e.newRelay()
	if err != nil {
		e.server.config.Logger.Warn("no relayed address can be had", "error", err)
		return nil, nil, err
	}
	return r, r.known, nil
}

// permits is the library's [turn.PermissionHandler].
func (e *endpoint) permits(client net.Addr, peer net.IP) bool {
	ip, ok := netip.AddrFromSlice(peer) // and not unmapped: what looks like IPv6 is judged as that
	r := e.client(client)
	if !ok || r == nil || !e.server.permits(ip) || !r.admits(ip) {
		e.server.counters.forbidden.Add(1)
		return false
	}
	return true
}

// change says that a permission or a channel has come or gone. It may be late: where the
// client has another allocation by now, that is not meant.
func (e *endpoint) change(client, relayed net.Addr, peer net.IP, permissions, channels int) {
	ip, ok := netip.AddrFromSlice(peer)
	r := e.client(client)
	if ok && r != nil && net.Addr(r.known) == relayed {
		r.change(ip.Unmap(), permissions, channels)
	}
}
