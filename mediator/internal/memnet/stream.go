package memnet

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

var errStreamClosed = errors.New("the stream was closed")

// streams is one stream of a connection, both sides of it: two halves, one in
// each direction. Guarded by link.mu.
type streams struct {
	link   *link   // static
	opener int     // the side that opened it; static
	halves [2]half // by the side that writes
	ends   [2]stream
	seen   bool // the other side knows of it
	gone   int  // halves whose end has arrived
}

func newStreams(c *conn) *streams {
	s := &streams{link: c.link, opener: c.side}
	for side := range s.halves {
		h := &s.halves[side]
		h.room = c.link.net.config.Window
		h.readable.L, h.writable.L = &c.link.mu, &c.link.mu
		s.ends[side] = stream{streams: s, conn: c.link.sides[side], out: h, in: &s.halves[1-side]}
	}
	return s
}

func (s *streams) of(c *conn) *stream { return &s.ends[c.side] }

// over notes that the end of a half has arrived. link.mu is held.
func (s *streams) over(h *half) {
	if h.over {
		return
	}
	h.over = true
	if s.gone++; s.gone == 2 {
		delete(s.link.open, s)
		if s.halves[1-s.opener].over { // always: said for the reader
			s.link.post(1-s.opener, parcel{kind: release, stream: s})
		}
	}
}

// wake has whoever waits on a side see that it has ended. link.mu is held.
func (s *streams) wake(side int) {
	s.ends[side].in.readable.Broadcast()
	s.ends[side].out.writable.Broadcast()
}

// half is one direction of a stream. Guarded by link.mu.
type half struct {
	over bool // its end has arrived

	// The writer's:
	room         int   // bytes that may be sent
	writeErr     error // why nothing more can be written; nil: it can
	writable     sync.Cond
	writeTimeout timeout

	// The reader's:
	chunks      [][]byte // that have arrived; bounded by the window
	eof         bool     // behind chunks nothing comes
	readErr     error    // why nothing more can be read; nil: it can
	untold      int      // bytes that were read, and of which the writer was not told
	readable    sync.Cond
	readTimeout timeout
}

// receive takes bytes that arrive. link.mu is held.
func (h *half) receive(bytes []byte) {
	if h.readErr == nil {
		h.chunks = append(h.chunks, bytes)
		h.readable.Signal()
	}
}

func (h *half) failReading(err error) {
	if h.readErr == nil {
		h.readErr, h.chunks = err, nil
		h.readable.Broadcast()
	}
}

func (h *half) failWriting(err error) {
	if h.writeErr == nil {
		h.writeErr = err
		h.writable.Broadcast()
	}
}

// timeout is a deadline that wakes who waits for something else. Guarded by link.mu.
type timeout struct {
	at    time.Time // zero: never
	timer *time.Timer
}

// passed reports whether it is too late.
func (t *timeout) passed() bool { return !t.at.IsZero() && !time.Now().Before(t.at) }

// wait waits on the condition, no longer than until the deadline.
func (t *timeout) wait(c *sync.Cond) {
	if !t.at.IsZero() {
		left := time.Until(t.at)
		if t.timer == nil {
			t.timer = time.AfterFunc(left, func() {
				c.L.Lock()
				defer c.L.Unlock()
				c.Broadcast()
			})
		} else {
			t.timer.Reset(left)
		}
		defer t.timer.Stop()
	}
	c.Wait()
}

// stream is one side of a stream.
type stream struct {
	streams *streams
	conn    *conn
	in, out *half
}

var _ network.MuxedStream = (*stream)(nil)

func (s *stream) lock() (unlock func()) {
	s.conn.link.mu.Lock()
	return s.conn.link.mu.Unlock
}

// post sends something about a half to the other side. link.mu is held.
func (s *stream) post(kind kind, h *half, bytes []byte, code uint32) {
	s.conn.link.post(s.conn.side, parcel{kind: kind, stream: s.streams, half: h, data: bytes, code: code})
}

// Read implements [io.Reader].
func (s *stream) Read(p []byte) (n int, err error) {
	defer s.lock()()
	h := s.in
	for {
		switch {
		case s.conn.err != nil:
			return 0, s.conn.err
		case h.readErr != nil:
			return 0, h.readErr
		case len(h.chunks) > 0:
			for n < len(p) && len(h.chunks) > 0 {
				took := copy(p[n:], h.chunks[0])
				n += took
				if h.chunks[0] = h.chunks[0][took:]; len(h.chunks[0]) == 0 {
					h.chunks[0] = nil
					h.chunks = h.chunks[1:]
				}
			}
			// QUIC tells of half of a window at a time.
			if h.untold += n; h.untold >= s.conn.link.net.config.Window/2 && !h.eof {
				s.post(credit, h, nil, uint32(h.untold))
				h.untold = 0
			}
			return n, nil
		case h.eof:
			return 0, io.EOF
		case h.readTimeout.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		}
		h.readTimeout.wait(&h.readable)
	}
}

// Write implements [io.Writer].
func (s *stream) Write(p []byte) (n int, err error) {
	defer s.lock()()
	h := s.out
	counts := &s.conn.transport.host.sent
	counted := false
	for {
		switch {
		case s.conn.err != nil:
			return n, s.conn.err
		case h.writeErr != nil:
			return n, h.writeErr
		case h.writeTimeout.passed():
			return n, os.ErrDeadlineExceeded
		case n == len(p):
			return n, nil
		case h.room > 0:
			part := append([]byte(nil), p[n:min(n+h.room, len(p))]...)
			h.room -= len(part)
			n += len(part)
			if !counted {
				counted = true
				counts.messages.Add(1)
			}
			counts.bytes.Add(int64(len(part)))
			s.post(data, h, part, 0)
			if n == len(p) {
				return n, nil
			}
			continue
		}
		h.writeTimeout.wait(&h.writable)
	}
}

// Close implements [network.MuxedStream].
func (s *stream) Close() error {
	defer s.lock()()
	s.closeRead(0)
	return s.closeWrite()
}

// CloseRead implements [network.MuxedStream].
func (s *stream) CloseRead() error {
	defer s.lock()()
	s.closeRead(0)
	return nil
}

// CloseWrite implements [network.MuxedStream].
func (s *stream) CloseWrite() error {
	defer s.lock()()
	return s.closeWrite()
}

func (s *stream) closeRead(code network.StreamErrorCode) {
	h := s.in
	if h.readErr != nil || s.conn.err != nil {
		return
	}
	ended := h.eof
	h.failReading(&network.StreamError{ErrorCode: code})
	if !ended {
		s.post(stop, h, nil, uint32(code))
	}
}

func (s *stream) closeWrite() error {
	h := s.out
	switch {
	case s.conn.err != nil || h.writeErr == errStreamClosed:
		return nil
	case h.writeErr != nil:
		return h.writeErr
	}
	h.failWriting(errStreamClosed)
	s.post(fin, h, nil, 0)
	return nil
}

// Reset implements [network.MuxedStream].
func (s *stream) Reset() error { return s.ResetWithError(network.StreamNoError) }

// ResetWithError implements [network.MuxedStream].
func (s *stream) ResetWithError(code network.StreamErrorCode) error {
	defer s.lock()()
	s.closeRead(code)
	if h := s.out; s.conn.err == nil && h.writeErr == nil { // what was finished before arrives
		h.failWriting(&network.StreamError{ErrorCode: code})
		s.post(abort, h, nil, uint32(code))
	}
	return nil
}

// SetDeadline implements [network.MuxedStream].
func (s *stream) SetDeadline(at time.Time) error {
	_ = s.SetReadDeadline(at)
	return s.SetWriteDeadline(at)
}

// SetReadDeadline implements [network.MuxedStream].
func (s *stream) SetReadDeadline(at time.Time) error {
	defer s.lock()()
	s.in.readTimeout.at = at
	s.in.readable.Broadcast()
	return nil
}

// SetWriteDeadline implements [network.MuxedStream].
func (s *stream) SetWriteDeadline(at time.Time) error {
	defer s.lock()()
	s.out.writeTimeout.at = at
	s.out.writable.Broadcast()
	return nil
}
