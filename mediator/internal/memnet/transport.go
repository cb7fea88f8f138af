package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// firstRetransmission is when a dial that nobody answers is sent again; each
	// next pause is twice as long. (RFC 9002: three times a round trip of 100 ms, which quic-go begins with.)
	firstRetransmission = 300 * time.Millisecond

	// maxWaiting bounds the connections that wait to be accepted. More are not answered.
	maxWaiting = 256
)

// identified is one libp2p identity on a host: a transport.
type identified struct {
	host      *Host
	id        peer.ID
	public    crypto.PubKey
	resources network.ResourceManager
	dialsFrom uint16 // the port where nothing listens
}

var _ transport.Transport = (*identified)(nil)

// Transport makes a libp2p transport on the host for the identity of the key.
// Several may be on one host. Its form is that of a constructor that libp2p takes.
func (h *Host) Transport(key crypto.PrivKey, resources network.ResourceManager) (transport.Transport, error) {
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("the identity of a host in memory: %w", err)
	}
	if resources == nil {
		resources = &network.NullResourceManager{}
	}
	return &identified{host: h, id: id, public: key.GetPublic(), resources: resources, dialsFrom: uint16(h.ports.Add(1))}, nil
}

// parse reads /ip4/…/udp/…/quic-v1.
func parse(address multiaddr.Multiaddr) (netip.AddrPort, error) {
	if len(address) != 3 || address[2].Code() != multiaddr.P_QUIC_V1 {
		return netip.AddrPort{}, fmt.Errorf("%s is no address of QUIC", address)
	}
	udp, err := manet.ToNetAddr(multiaddr.Multiaddr(address[:2]))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%s is no address of QUIC: %w", address, err)
	}
	at, is := udp.(*net.UDPAddr)
	if !is || at.IP.To4() == nil {
		return netip.AddrPort{}, fmt.Errorf("%s is no address of QUIC over IPv4", address)
	}
	to := at.AddrPort()
	return netip.AddrPortFrom(to.Addr().Unmap(), to.Port()), nil
}

func multiaddrOf(address netip.AddrPort) multiaddr.Multiaddr {
	return multiaddr.StringCast(fmt.Sprintf("/ip4/%s/udp/%d/quic-v1", address.Addr(), address.Port()))
}

// CanDial implements [transport.Transport].
func (t *identified) CanDial(address multiaddr.Multiaddr) bool {
	_, err := parse(address)
	return err == nil
}

// Protocols implements [transport.Transport].
func (t *identified) Protocols() []int { return []int{multiaddr.P_QUIC_V1} }

// Proxy implements [transport.Transport].
func (t *identified) Proxy() bool { return false }

func (t *identified) String() string { return "memnet" }

// Dial implements [transport.Transport]. The package comment says how long it takes.
func (t *identified) Dial(ctx context.Context, address multiaddr.Multiaddr, id peer.ID) (transport.CapableConn, error) {
	t.host.dials.Add(1)
	c, err := t.dial(ctx, address, id)
	if err != nil {
		t.host.failed.Add(1)
		return nil, err
	}
	return c, nil
}

func (t *identified) dial(ctx context.Context, address multiaddr.Multiaddr, id peer.ID) (_ *conn, err error) {
	to, err := parse(address)
	if err != nil {
		return nil, err
	}
	scope, err := t.resources.OpenConnection(network.DirOutbound, false, address)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", address, err)
	}
	defer func() {
		if err != nil {
			scope.Done()
		}
	}()
	if err := scope.SetPeer(id); err != nil {
		return nil, fmt.Errorf("dialling %s: %w", address, err)
	}
	other, err := t.knock(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("dialling %s: %w", address, err)
	}
	if other.transport.id != id {
		return nil, fmt.Errorf("dialling %s: it is %s and not %s", address, other.transport.id, id)
	}
	l := newLink(t, other)
	l.sides[0].scope, l.sides[0].address = scope, t.localAddress()
	l.sides[1].address = multiaddrOf(other.address)
	l.register()
	return l.sides[0], nil
}

// knock waits until the host answers, as often as it takes, and returns who listens there.
func (t *identified) knock(ctx context.Context, to netip.AddrPort) (*listener, error) {
	host := t.host.net.at(to.Addr())
	for pause := firstRetransmission; ; pause *= 2 {
		sent := time.Now()
		if host != nil {
			if err := sleep(ctx, t.host.Latency(host)); err != nil {
				return nil, err
			}
			var other *listener
			if t.host.online() && host.online() {
				other = host.listening(to.Port())
			}
			if other != nil {
				if err := sleep(ctx, host.Latency(t.host)); err != nil {
					return nil, err
				}
				if t.host.online() && host.online() {
					return other, nil
				}
			}
		}
		if err := sleep(ctx, pause-time.Since(sent)); err != nil {
			return nil, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil || d <= 0 {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// localAddress is where connections that this transport dials come from: its listener's port if
// it has one, as QUIC in libp2p does.
func (t *identified) localAddress() multiaddr.Multiaddr {
	t.host.net.mu.Lock()
	defer t.host.net.mu.Unlock()
	port := t.dialsFrom
	for _, l := range t.host.listeners {
		if l.transport == t {
			port = l.address.Port()
		}
	}
	return multiaddrOf(netip.AddrPortFrom(t.host.address, port))
}

// listener waits for connections to one port.
type listener struct {
	transport *identified
	address   netip.AddrPort
	accepted  chan *conn
	closed    chan struct{}

	mu    sync.Mutex
	ended bool // guarded by mu; nothing is put into accepted afterwards
}

var _ transport.Listener = (*listener)(nil)

// Listen implements [transport.Transport]: the address is the host's, or 0.0.0.0,
// and port 0 is any that is free.
func (t *identified) Listen(address multiaddr.Multiaddr) (transport.Listener, error) {
	at, err := parse(address)
	if err != nil {
		return nil, err
	}
	h := t.host
	if at.Addr() != h.address && !at.Addr().IsUnspecified() {
		return nil, fmt.Errorf("listening on %s: the host is %s", address, h.address)
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	port := at.Port()
	for port == 0 || at.Port() == 0 && h.listeners[port] != nil {
		port = uint16(h.ports.Add(1))
	}
	if h.listeners[port] != nil {
		return nil, fmt.Errorf("listening on %s: the port is in use", address)
	}
	l := &listener{
		transport: t, address: netip.AddrPortFrom(h.address, port),
		accepted: make(chan *conn, maxWaiting), closed: make(chan struct{}),
	}
	h.listeners[port] = l
	return l, nil
}

// listening returns who listens on a port, or nil.
func (h *Host) listening(port uint16) *listener {
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	return h.listeners[port]
}

// admit takes a connection that arrives, and reports whether it did.
func (l *listener) admit(c *conn) bool {
	scope, err := l.transport.resources.OpenConnection(network.DirInbound, false, c.other().address)
	if err != nil {
		return false
	}
	if err := scope.SetPeer(c.other().transport.id); err != nil {
		scope.Done()
		return false
	}
	c.scope = scope
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		select {
		case l.accepted <- c:
			return true
		default:
		}
	}
	c.scope = nil
	scope.Done()
	return false
}

// Accept implements [transport.Listener].
func (l *listener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.accepted:
		return c, nil
	case <-l.closed:
		return nil, transport.ErrListenerClosed
	}
}

// Close implements [transport.Listener]. Connections that wait are closed.
func (l *listener) Close() error {
	h := l.transport.host
	h.net.mu.Lock()
	if h.listeners[l.address.Port()] == l {
		delete(h.listeners, l.address.Port())
	}
	h.net.mu.Unlock()
	l.mu.Lock()
	if l.ended {
		l.mu.Unlock()
		return nil
	}
	l.ended = true
	close(l.closed)
	l.mu.Unlock()
	for {
		select {
		case c := <-l.accepted:
			_ = c.Close()
		default:
			return nil
		}
	}
}

// Addr implements [transport.Listener].
func (l *listener) Addr() net.Addr { return net.UDPAddrFromAddrPort(l.address) }

// Multiaddr implements [transport.Listener].
func (l *listener) Multiaddr() multiaddr.Multiaddr { return multiaddrOf(l.address) }
