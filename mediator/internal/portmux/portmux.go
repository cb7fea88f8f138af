// Package portmux lets HTTP (WebSocket and TLS included) and TURN over TCP share
// one port, so that a volunteer opens a single one.
//
// The first byte tells which it is. What a client of TURN says first is a STUN
// request (RFC 8656, section 7), whose two top bits are zero and whose type is
// below 0x0200 (RFC 8489, section 5): 0x00 or 0x01. HTTP begins with a letter, TLS
// with 0x16. ChannelData begins with 0x40 to 0x4F, as some letters do, but nobody
// can begin with it: a channel is bound on the same connection first.
//
// A new connection has a goroutine until its first byte has come and somebody has
// accepted it, and none afterwards: an idle one costs the three words that [conn] adds.
package portmux

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"p2pcdn/mediator/internal/limits"
)

const (
	// DefaultFirstByteTimeout is what the server of HTTP, too, gives a client
	// for the head of its request. A browser that connects in advance, to have a
	// connection when it needs one, opens another when that is closed.
	DefaultFirstByteTimeout = 10 * time.Second

	// DefaultMaxPending bounds the connections that have not said anything yet.
	// Each has a goroutine and a socket, some 8 KiB with what the kernel keeps.
	// An honest one is pending for a round trip, so that many are thousands of new
	// connections a second.
	DefaultMaxPending = 4096

	// DefaultMaxPendingPerSource bounds those of one address (IPv6: of one /64), as the server of
	// HTTP does: one address alone must not keep everybody else out.
	DefaultMaxPendingPerSource = 512

	// longestPause bounds how long no connection is accepted because the system
	// has no resources for another one; it doubles from shortestPause on.
	shortestPause = 5 * time.Millisecond
	longestPause  = time.Second
)

// Config bounds a Mux. Zero values mean the defaults.
type Config struct {
	FirstByteTimeout time.Duration
	MaxPending       int          // or limits.Off
	MaxPerSource     int          // of these, of one address; or limits.Off
	Logger           *slog.Logger // nil discards
}

// Mux shares a port. Its two halves are listeners.
type Mux struct {
	config   Config
	listener net.Listener
	http     half
	turn     half
	work     sync.WaitGroup // accept, and a goroutine for each pending connection; added to under mu and before closing
	done     chan struct{}  // closed with closing
	failed   chan struct{}  // closed when the listener accepts no more
	failure  error          // why; set before failed is closed

	mu      sync.Mutex                // guards everything below
	pending map[net.Conn]netip.Prefix // and where each comes from; bounded by MaxPending
	sources map[netip.Prefix]int      // how many come from each; bounded by pending
	open    int                       // halves that are not closed
	closing bool
}

// Split takes a listener over. Both halves must be closed in the end, or the Mux;
// with the last of them the listener is closed, too.
func Split(listener net.Listener, config Config) *Mux {
	limits.Fill(&config.FirstByteTimeout, DefaultFirstByteTimeout)
	limits.Fill(&config.MaxPending, DefaultMaxPending)
	limits.Fill(&config.MaxPerSource, DefaultMaxPendingPerSource)
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	m := &Mux{
		config: config, listener: listener, open: 2,
		done: make(chan struct{}), failed: make(chan struct{}), pending: make(map[net.Conn]netip.Prefix),
		sources: make(map[netip.Prefix]int),
	}
	for _, h := range []*half{&m.http, &m.turn} {
		*h = half{mux: m, conns: make(chan net.Conn), closed: make(chan struct{})}
	}
	m.work.Go(m.accept)
	return m
}

// HTTP is the half that gets every connection that does not begin like TURN.
func (m *Mux) HTTP() net.Listener { return &m.http }

// TURN is the half that gets the connections that begin with a STUN request.
func (m *Mux) TURN() net.Listener { return &m.turn }

// Close closes both halves and the listener, and whatever nobody has accepted, and
// waits for everything that the Mux started. It returns what closing the listener did.
func (m *Mux) Close() error { return errors.Join(m.http.Close(), m.turn.Close()) }

// accept hands every new connection to a goroutine of its own, which waits for its first byte.
func (m *Mux) accept() {
	pause := shortestPause
	for {
		conn, err := m.listener.Accept()
		if err == nil {
			pause = shortestPause
			m.admit(conn)
			continue
		}
		// As in net/http: being out of file descriptors passes.
		var passing interface{ Temporary() bool }
		if m.isClosing() || !errors.As(err, &passing) || !passing.Temporary() {
			m.failure = err
			close(m.failed)
			return
		}
		m.config.Logger.Warn("no connection can be accepted for a moment", "pause", pause, "error", err)
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-m.done:
		}
		wait.Stop()
		pause = min(2*pause, longestPause)
	}
}

func (m *Mux) isClosing() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closing
}

// admit waits for the first byte elsewhere, unless too many wait for theirs.
func (m *Mux) admit(c net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	source := sourceOf(c)
	if m.closing || limits.Reached(len(m.pending), m.config.MaxPending) || limits.Reached(m.sources[source], m.config.MaxPerSource) {
		_ = c.Close() // without a word: it has said none either
		return
	}
	// Here and not in route: where the end comes between the two, its deadline must be the last.
	if err := c.SetReadDeadline(time.Now().Add(m.config.FirstByteTimeout)); err != nil {
		_ = c.Close() // it has gone already
		return
	}
	m.pending[c] = source
	m.sources[source]++
	m.work.Go(func() { m.route(c) })
}

// route gives a connection to the half that its first byte asks for.
func (m *Mux) route(c net.Conn) {
	peeked := &conn{Conn: c, unread: true}
	_, err := io.ReadFull(c, peeked.first[:])
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		m.settle(c)
		_ = c.Close() // it said nothing in time, or has gone
		return
	}
	h := &m.http
	if peeked.first[0] <= 0x01 {
		h = &m.turn
	}
	select {
	case h.conns <- peeked:
		m.settle(c)
	case <-h.closed:
		m.settle(c)
		_ = c.Close()
	}
}

// settle says that a connection is pending no more.
func (m *Mux) settle(c net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	source := m.pending[c]
	delete(m.pending, c)
	if m.sources[source]--; m.sources[source] == 0 {
		delete(m.sources, source)
	}
}

// sourceOf is whom a connection counts for.
func sourceOf(c net.Conn) netip.Prefix {
	from, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil { // not TCP: all of these are one source
		return netip.Prefix{}
	}
	return limits.Source(from.Addr())
}

// half is one of the two listeners.
type half struct {
	mux    *Mux
	conns  chan net.Conn
	closed chan struct{} // closed by Close
	once   sync.Once
}

// Accept implements [net.Listener]. After the end it returns an error that is
// [net.ErrClosed], or what the listener failed with.
func (h *half) Accept() (net.Conn, error) {
	select { // first of all: what select chooses below where several are ready is chance
	case <-h.closed:
		return nil, h.gone()
	default:
	}
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, h.gone()
	case <-h.mux.failed:
		return nil, h.mux.failure
	}
}

func (h *half) gone() error {
	return &net.OpError{Op: "accept", Net: h.Addr().Network(), Addr: h.Addr(), Err: net.ErrClosed}
}

// Addr is the address of the shared port.
func (h *half) Addr() net.Addr { return h.mux.listener.Addr() }

// Close ends this half: Accept returns, and connections that were meant for it are
// closed. The other half goes on. The second one to be closed closes the listener,
// and waits for everything that is left.
func (h *half) Close() (err error) {
	h.once.Do(func() {
		close(h.closed)
		err = h.mux.halfClosed()
	})
	return err
}

func (m *Mux) halfClosed() error {
	m.mu.Lock()
	if m.open--; m.open > 0 {
		m.mu.Unlock()
		return nil
	}
	m.closing = true
	close(m.done)
	for c := range m.pending {
		_ = c.SetReadDeadline(time.Now()) // route closes it
	}
	m.mu.Unlock()
	err := m.listener.Close()
	m.work.Wait()
	return err
}

// conn is a connection of which one byte has been read: the first Read returns that.
type conn struct {
	net.Conn
	first  [1]byte
	unread bool // owned by whoever may call Read
}

// Read implements [net.Conn].
func (c *conn) Read(p []byte) (int, error) {
	if !c.unread || len(p) == 0 {
		return c.Conn.Read(p)
	}
	c.unread = false
	p[0] = c.first[0]
	return 1, nil
}

// SyscallConn implements [syscall.Conn]. What is read by it misses the first byte unless Read has been called.
func (c *conn) SyscallConn() (syscall.RawConn, error) {
	below, is := c.Conn.(syscall.Conn)
	if !is {
		return nil, errors.ErrUnsupported
	}
	return below.SyscallConn()
}

// NetConn returns the connection below, as that of [crypto/tls.Conn] does. What is
// read from it misses the first byte unless Read has been called.
func (c *conn) NetConn() net.Conn { return c.Conn }
