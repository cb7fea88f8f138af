package ice

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// writeTimeout bounds how long a client over TCP may leave what is for it unread. Until
	// then what comes for it waits in the socket of its relay, or is lost there.
	writeTimeout = 10 * time.Second

	// longestPause bounds how long no connection is accepted because the system has no
	// resources for another one; it doubles from shortestPause on.
	shortestPause = 5 * time.Millisecond
	longestPause  = time.Second

	channelHeader = 4 // RFC 8656, section 12.4
)

// errBadFrame is returned for what is neither STUN nor ChannelData, or longer than maxFrame. Nobody
// knows where the next frame would begin.
var errBadFrame = errors.New("this is no frame of TURN")

// stream is a TCP connection as a [net.PacketConn] whose packets are the frames of RFC 8489,
// section 6.2.2, and RFC 8656, section 12.5. One goroutine reads; any may write. (The library's own does not end on
// every frame that is malformed, and holds a short one back until another comes.)
type stream struct {
	net.Conn
	reader *bufio.Reader // owned by the reader
}

func newStream(conn net.Conn) *stream {
	return &stream{Conn: conn, reader: bufio.NewReaderSize(conn, maxFrame)}
}

// ReadFrom returns the next frame, without the padding.
func (s *stream) ReadFrom(p []byte) (int, net.Addr, error) {
	head, err := s.reader.Peek(channelHeader)
	if err != nil {
		return 0, nil, err
	}
	size, padding, err := frameSize(head)
	if err != nil || size >= min(len(p), maxFrame) { // the library takes a full buffer for a frame that was cut
		return 0, nil, errBadFrame
	}
	if _, err := io.ReadFull(s.reader, p[:size]); err != nil {
		return 0, nil, fmt.Errorf("reading a frame of %d bytes: %w", size, err)
	}
	if _, err := s.reader.Discard(padding); err != nil {
		return 0, nil, fmt.Errorf("reading the padding of a frame: %w", err)
	}
	return size, s.RemoteAddr(), nil
}

// frameSize returns the size of the frame that begins with head, and of the padding behind it, in bytes.
func frameSize(head []byte) (size, padding int, err error) {
	length := int(binary.BigEndian.Uint16(head[2:]))
	switch first := head[0]; {
	case first < 0x40: // STUN; its length is a multiple of four already
		if length%4 != 0 {
			return 0, 0, errBadFrame
		}
		return stunHeader + length, 0, nil
	case first < 0x50: // ChannelData (RFC 8656, section 12)
		return channelHeader + length, -length & 3, nil
	}
	return 0, 0, errBadFrame
}

// WriteTo writes a frame. One that is not written in time ends the connection: what
// follows half a frame could not be understood.
func (s *stream) WriteTo(p []byte, _ net.Addr) (int, error) {
	err := s.SetWriteDeadline(time.Now().Add(writeTimeout))
	n := 0
	if err == nil {
		n, err = s.Write(p) // the library has padded it
	}
	if err != nil {
		_ = s.Close()
		return n, fmt.Errorf("writing a frame: %w", err)
	}
	return n, nil
}

// wait says whether the connection has no allocation, and so must get one before long.
func (s *stream) wait(waits bool) {
	var deadline time.Time
	if waits {
		deadline = time.Now().Add(waitTimeout)
	}
	_ = s.SetReadDeadline(deadline) // where that fails the connection has gone, and reading fails
}

// accept serves TURN over TCP until the listener fails.
func (s *Server) accept(listener net.Listener) {
	pause := shortestPause
	for {
		conn, err := listener.Accept()
		if err == nil {
			pause = shortestPause
			s.serveStream(conn)
			continue
		}
		// As in net/http: being out of file descriptors passes.
		var passing interface{ Temporary() bool }
		if errors.Is(err, net.ErrClosed) {
			return
		} else if !errors.As(err, &passing) || !passing.Temporary() {
			s.config.Logger.Error("TURN over TCP has ended", "error", err)
			return
		}
		s.config.Logger.Warn("no connection for TURN can be accepted for a moment", "pause", pause, "error", err)
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-s.done:
		}
		wait.Stop()
		pause = min(2*pause, longestPause)
	}
}

// serveStream takes one connection, if there is room for it.
func (s *Server) serveStream(conn net.Conn) {
	stream := newStream(conn)
	e := s.newEndpoint(stream, stream)
	s.mu.Lock()
	if s.closing || s.waiting >= maxWaiting {
		s.mu.Unlock()
		s.counters.connections.Add(1)
		_ = conn.Close() // it tries UDP, or another mediator
		return
	}
	s.streams[e] = struct{}{}
	s.waiting++
	s.mu.Unlock()
	stream.wait(true)
	if err := e.serve(); err != nil {
		s.config.Logger.Warn("a connection for TURN cannot be served", "error", err)
		s.mu.Lock()
		delete(s.streams, e)
		s.waiting--
		s.mu.Unlock()
		_ = conn.Close()
	}
}
