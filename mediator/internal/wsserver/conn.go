package wsserver

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// maxPooled bounds the buffers that are kept for the next message, in bytes: a signal with
// a few candidates. What is longer has one of its own.
const maxPooled = 4 << 10

// buffers are those of messages that are being read or written: an idle connection has none.
var buffers = sync.Pool{New: func() any { return new([maxPooled]byte) }}

// conn is the connection beneath a WebSocket. The library reads and writes a message in
// parts, by buffers of the connection's own, each part a call of the system, and the parts of a written message
// a packet each. Here short messages are one call, with a buffer that goes back when it is empty.
type conn struct {
	net.Conn
	system syscall.RawConn // of Conn; nil where it is not the system's (TLS), or the system no Unix

	// The reader's: whoever holds the library's lock of it.
	ahead  []byte           // what was read but not asked for yet
	buffer *[maxPooled]byte // of buffers, where that is; nil while nothing is ahead

	within atomic.Bool // a message has begun: its rest is not waited for without end
	hurry  atomic.Bool // there is a deadline for that

	mu      sync.Mutex       // guards everything below
	corked  bool             // what is written waits
	waiting []byte           // what was written since; in cork, while it fits
	cork    *[maxPooled]byte // of buffers; nil while it is open
}

// sendBuffer bounds what the system keeps of what is written and not yet acknowledged, in bytes. It
// would let it grow to megabytes, for a peer that reads nothing too, before anything waits in
// the session's queue, where it is noticed: a full signal is enough.
const sendBuffer = 128 << 10

// newConn returns the connection with what is special about it. What was read of it already is read again.
func newConn(below net.Conn, early []byte) *conn {
	if tcp := tcpOf(below); tcp != nil {
		_ = tcp.SetWriteBuffer(sendBuffer) // where that fails the connection has gone
	}
	return &conn{Conn: below, system: systemOf(below), ahead: early}
}

// tcpOf returns the TCP connection below; nil where there is none.
func tcpOf(c net.Conn) *net.TCPConn {
	for {
		switch below := c.(type) {
		case *net.TCPConn:
			return below
		case interface{ NetConn() net.Conn }:
			c = below.NetConn()
		default:
			return nil
		}
	}
}

// drop closes the connection, and what was written but not read is lost: the system would keep
// it, for a peer that reads nothing, for minutes after nobody counts the connection any more.
func (c *conn) drop() error {
	if tcp := tcpOf(c.Conn); tcp != nil {
		_ = tcp.SetLinger(0) // likewise
	}
	return c.Close()
}

// Read implements [net.Conn]. It is called by one goroutine at a time.
func (c *conn) Read(p []byte) (n int, err error) {
	if len(c.ahead) == 0 {
		if c.within.Load() && !c.hurry.Swap(true) {
			_ = c.SetReadDeadline(time.Now().Add(messageTime))
		}
		if c.system == nil || len(p) >= maxPooled {
			return c.Conn.Read(p)
		}
		if err := c.readAhead(); err != nil {
			return 0, err
		}
	}
	n = copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
		if c.buffer != nil {
			buffers.Put(c.buffer)
			c.buffer = nil
		}
	}
	return n, nil
}

// begin says that a message has begun, and end that it is over: so long as messageTime may
// pass between them, if more of it has to be waited for.
func (c *conn) begin() { c.within.Store(true) }

func (c *conn) end() {
	c.within.Store(false)
	if c.hurry.Swap(false) {
		_ = c.SetReadDeadline(time.Time{})
	}
}

// Write implements [net.Conn]. While the connection is corked it takes everything: flush
// says whether it was written.
func (c *conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.corked {
		defer c.mu.Unlock()
		c.waiting = append(c.waiting, p...)
		return len(p), nil
	}
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// hold has what is written wait for flush.
func (c *conn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.corked = true
	c.cork = buffers.Get().(*[maxPooled]byte)
	c.waiting = c.cork[:0]
}

// flush writes what has waited, within a time: then the connection is no longer of use. Whoever
// writes meanwhile (a pong, from the reader) waits for it.
func (c *conn) flush(patience time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.writeNow(c.waiting)
	if err == nil && n < len(c.waiting) {
		_ = c.SetWriteDeadline(time.Now().Add(patience))
		if _, err = c.Conn.Write(c.waiting[n:]); err == nil {
			_ = c.SetWriteDeadline(time.Time{})
		}
	}
	buffers.Put(c.cork)
	c.corked, c.waiting, c.cork = false, nil, nil
	return err
}
