package flights

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// wires joins listeners and dials in memory: a TCP whose every packet takes the same time, and that loses none.
type wires struct {
	mu        sync.Mutex
	listeners map[string]*listener // guarded by mu, by address
}

// listener implements [net.Listener].
type listener struct {
	wires   *wires
	address address
	arrived chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

// address implements [net.Addr]. It is an IP address with a port.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }

func (w *wires) listen(at string) *listener {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := &listener{wires: w, address: address(at), arrived: make(chan net.Conn, 16), closed: make(chan struct{})}
	w.listeners[at] = l
	return l
}

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.arrived:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements [net.Listener].
func (l *listener) Addr() net.Addr { return l.address }

// dial returns after a round trip, as TCP does; the other side has the connection after a flight, since what is
// sent first comes with what completes the handshake.
func (w *wires) dial(ctx context.Context, _, to string) (net.Conn, error) {
	w.mu.Lock()
	l := w.listeners[to]
	w.mu.Unlock()
	if l == nil {
		return nil, fmt.Errorf("nobody listens at %s", to)
	}
	there, back := newPipe(), newPipe()
	select {
	case <-time.After(2 * flight):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case l.arrived <- &end{in: there, out: back, local: l.address, remote: "192.0.2.1:1"}:
	case <-l.closed:
		return nil, errors.New("the connection is refused")
	}
	return &end{in: back, out: there, local: "192.0.2.1:1", remote: l.address}, nil
}

// pipe is one direction of a connection: what is written can be read a flight later.
type pipe struct {
	mu       sync.Mutex
	queue    []packet
	closed   bool          // by the writer, or by the reader who wants no more
	changed  chan struct{} // closed and replaced at each change
	deadline time.Time     // of the reader; zero: none
}

type packet struct {
	due  time.Time
	data []byte // nil: the end
}

func newPipe() *pipe { return &pipe{changed: make(chan struct{})} }

func (p *pipe) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) write(data []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return io.ErrClosedPipe
	}
	p.queue = append(p.queue, packet{time.Now().Add(flight), append([]byte{}, data...)})
	p.change()
	return nil
}

// end closes the pipe; its reader has what was written before.
func (p *pipe) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed {
		p.closed = true
		p.queue = append(p.queue, packet{time.Now().Add(flight), nil})
		p.change()
	}
}

func (p *pipe) setDeadline(at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deadline = at
	p.change()
}

func (p *pipe) read(into []byte, closed <-chan struct{}) (int, error) {
	for {
		p.mu.Lock()
		now := time.Now()
		wait := time.Duration(-1)
		until := func(at time.Time) {
			if d := at.Sub(now); wait < 0 || d < wait {
				wait = max(0, d)
			}
		}
		if !p.deadline.IsZero() {
			if !now.Before(p.deadline) {
				p.mu.Unlock()
				return 0, os.ErrDeadlineExceeded
			}
			until(p.deadline)
		}
		if len(p.queue) > 0 {
			first := &p.queue[0]
			if !now.Before(first.due) {
				defer p.mu.Unlock()
				if first.data == nil {
					return 0, io.EOF
				}
				n := copy(into, first.data)
				if first.data = first.data[n:]; len(first.data) == 0 {
					p.queue = p.queue[1:]
				}
				return n, nil
			}
			until(first.due)
		}
		changed := p.changed
		p.mu.Unlock()
		var ring <-chan time.Time
		if wait >= 0 {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			ring = timer.C
		}
		select {
		case <-changed:
		case <-ring:
		case <-closed:
			return 0, net.ErrClosed
		}
	}
}

// end is one side of a connection. It implements [net.Conn].
type end struct {
	in, out       *pipe
	local, remote address

	once sync.Once
	gone chan struct{}
	mu   sync.Mutex
}

func (e *end) closed() chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone == nil {
		e.gone = make(chan struct{})
	}
	return e.gone
}

func (e *end) Read(p []byte) (int, error) { return e.in.read(p, e.closed()) }

func (e *end) Write(p []byte) (int, error) {
	if err := e.out.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (e *end) Close() error {
	e.once.Do(func() {
		e.out.end()
		close(e.closed())
	})
	return nil
}

func (e *end) LocalAddr() net.Addr                { return e.local }
func (e *end) RemoteAddr() net.Addr               { return e.remote }
func (e *end) SetDeadline(at time.Time) error     { return e.SetReadDeadline(at) }
func (e *end) SetReadDeadline(at time.Time) error { e.in.setDeadline(at); return nil }
func (e *end) SetWriteDeadline(time.Time) error   { return nil } // writing never waits
