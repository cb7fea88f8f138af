package wsserver

import (
	"net"
	"sync"
)

// maxPooled bounds the buffers that are kept for the next message, in bytes: a signal with
// a few candidates. What is longer has one of its own.
const maxPooled = 4 << 10

// buffers are those of messages that are being read or written: an idle connection has none.
var buffers = sync.Pool{New: func() any { return new([maxPooled]byte) }}

// corked is a connection that writes a message at once. The WebSocket library writes into a
// buffer of the connection's own, for as long as it lives, and what is longer in two parts: two calls
// of the system, and two packets.
type corked struct {
	net.Conn

	mu      sync.Mutex       // guards everything below
	closed  bool             // what is written waits
	waiting []byte           // what was written since; in buffer, while it fits
	buffer  *[maxPooled]byte // of buffers; nil while it is open
}

// Write implements [net.Conn]. While the connection is corked it takes everything: uncork
// says whether it was written.
func (c *corked) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.closed {
		defer c.mu.Unlock()
		c.waiting = append(c.waiting, p...)
		return len(p), nil
	}
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// cork has what is written wait.
func (c *corked) cork() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.buffer = buffers.Get().(*[maxPooled]byte)
	c.waiting = c.buffer[:0]
}

// uncork writes what has waited. Whoever writes meanwhile (a pong, from the reader) waits for it.
func (c *corked) uncork() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.Conn.Write(c.waiting)
	buffers.Put(c.buffer)
	c.closed, c.waiting, c.buffer = false, nil, nil
	return err
}
