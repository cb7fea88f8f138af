package ice

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// maxPeers bounds the addresses that a relay may receive from. A connection has one other
	// side, with a few addresses; the library makes room for 64 from the start.
	maxPeers = 64

	// maxChannels bounds the channels of a relay, which the library searches one by one for
	// every datagram. A connection has one for each candidate of the other side.
	maxChannels = 256

	// expiryMargin is how long before its end an allocation takes no new permissions. A
	// client refreshes it a minute before (RFC 8656, section 8), so no good one
	// comes so late. The library may not be given a permission at the moment in
	// which its timer ends the allocation: for an instant the permission has no timer
	// of its own yet, and ending that stops the whole program.
	expiryMargin = time.Second
)

// relay is the UDP socket of an allocation. The library has one goroutine that reads from it;
// the reader of its endpoint writes.
type relay struct {
	endpoint  *endpoint
	account   *account
	username  string // by which it was allocated
	client    netip.AddrPort
	socket    *net.UDPConn
	bound     netip.AddrPort
	announced netip.AddrPort // the same, but for PublicIP
	known     *net.UDPAddr   // announced, for the library: the same pointer each time
	once      sync.Once      // Close

	mu       sync.Mutex         // guards everything below
	peers    map[netip.Addr]int // permissions and channels of each address; at most maxPeers addresses
	channels int                // of all addresses; at most maxChannels
	expires  time.Time
}

// newRelay opens the socket for the endpoint's applicant, who is none afterwards. The reader calls it.
func (e *endpoint) newRelay() (*relay, error) {
	s := e.server
	client := address(e.source)
	home, err := s.home(client.Addr(), address(e.LocalAddr()).Addr())
	if err != nil {
		return nil, err
	}
	socket, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(home, 0)))
	if err != nil {
		return nil, fmt.Errorf("opening a relayed address: %w", err)
	}
	s.lookAround()
	r := &relay{
		endpoint: e, account: e.applicant.account, username: e.applicant.username, client: client,
		socket: socket, bound: address(socket.LocalAddr()), peers: make(map[netip.Addr]int),
	}
	r.announced = r.bound
	if s.config.PublicIP.IsValid() {
		r.announced = netip.AddrPortFrom(s.config.PublicIP, r.bound.Port())
	}
	r.known = net.UDPAddrFromAddrPort(r.announced)
	e.applicant = nil

	s.mu.Lock()
	s.bound[r.bound], s.announced[r.announced] = r, r
	s.homes[r.bound.Addr()]++
	if e.stream != nil {
		s.waiting--
	}
	s.mu.Unlock()
	s.work.Add(1) // the endpoint's reader counts as work, too, so this is in time; ReadFrom says that it is done
	s.counters.allocated.Add(1)

	e.mu.Lock()
	defer e.mu.Unlock()
	e.clients[client] = r
	if e.stream != nil {
		e.stream.wait(false)
	}
	return r, nil
}

// Close implements [net.PacketConn]: the allocation has ended.
func (r *relay) Close() error {
	r.once.Do(func() {
		e := r.endpoint
		s := e.server
		s.mu.Lock()
		delete(s.bound, r.bound)
		delete(s.announced, r.announced)
		if s.homes[r.bound.Addr()]--; s.homes[r.bound.Addr()] == 0 {
			delete(s.homes, r.bound.Addr())
		}
		if e.stream != nil {
			s.waiting++
		}
		s.mu.Unlock()

		e.mu.Lock()
		if e.clients[r.client] == r {
			delete(e.clients, r.client)
			if e.stream != nil {
				e.stream.wait(true)
			}
		}
		e.mu.Unlock()
		s.accounts.leave(r.account)
		_ = r.socket.Close() // the reader ends with it
	})
	return nil
}

// ReadFrom implements [net.PacketConn] for the reader: it returns what the client is to be
// sent. After an error it is not called again.
func (r *relay) ReadFrom(p []byte) (int, net.Addr, error) {
	s := r.endpoint.server
	for failed := 0; ; {
		n, from, err := r.socket.ReadFromUDPAddrPort(p)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || failed == maxReadErrors {
				s.work.Done()
				return 0, nil, err
			}
			failed++
			continue
		}
		failed = 0
		from = s.outside(netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		// Strangers first: what they send must not use up what the peer may relay.
		if r.hears(from.Addr()) && s.reaches(from) && s.relays(r.account, n) {
			return n, net.UDPAddrFromAddrPort(from), nil
		}
	}
}

// WriteTo implements [net.PacketConn]: the client wants something sent. It is told of no
// failure, as with any datagram.
func (r *relay) WriteTo(p []byte, to net.Addr) (int, error) {
	s := r.endpoint.server
	udp, is := to.(*net.UDPAddr)
	if !is || !s.reaches(udp.AddrPort()) {
		s.counters.forbidden.Add(1)
		return len(p), nil
	}
	if !s.relays(r.account, len(p)) {
		return len(p), nil
	}
	return r.socket.WriteToUDPAddrPort(p, s.inside(udp.AddrPort()))
}

// relays reports whether so many bytes may be relayed for a peer now, and counts them either way.
func (s *Server) relays(of *account, bytes int) bool {
	if !s.accounts.take(of, s.config.Now(), bytes) {
		s.counters.overused.Add(uint64(bytes))
		return false
	}
	s.counters.relayed.Add(uint64(bytes))
	return true
}

// admits reports whether the client may have a permission for an address, or a channel.
func (r *relay) admits(ip netip.Addr) bool {
	now := r.endpoint.server.config.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.After(r.expires.Add(-expiryMargin)) || r.channels >= maxChannels {
		return false
	}
	return r.peers[ip] > 0 || len(r.peers) < maxPeers
}

// hears reports whether the client wants to hear from an address.
func (r *relay) hears(ip netip.Addr) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.peers[ip] > 0
}

// change counts permissions and channels; ip has gained or lost one of either.
func (r *relay) change(ip netip.Addr, permissions, channels int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.channels += channels
	if r.peers[ip] += permissions; r.peers[ip] <= 0 {
		delete(r.peers, ip)
	}
}

// prolong says how long the client was told that its allocation lasts.
func (r *relay) prolong(lifetime time.Duration) {
	now := r.endpoint.server.config.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expires = now.Add(lifetime)
}

// LocalAddr implements [net.PacketConn].
func (r *relay) LocalAddr() net.Addr { return r.socket.LocalAddr() }

// SetDeadline implements [net.PacketConn].
func (r *relay) SetDeadline(t time.Time) error { return r.socket.SetDeadline(t) }

// SetReadDeadline implements [net.PacketConn].
func (r *relay) SetReadDeadline(t time.Time) error { return r.socket.SetReadDeadline(t) }

// SetWriteDeadline implements [net.PacketConn].
func (r *relay) SetWriteDeadline(t time.Time) error { return r.socket.SetWriteDeadline(t) }
