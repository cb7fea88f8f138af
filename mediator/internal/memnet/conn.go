package memnet

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multiaddr"
)

// link is a connection, both sides of it. One lock guards all of it, streams
// included. No lock of others is taken under it but those of resource managers.
type link struct {
	net   *Net
	sides [2]*conn // 0 dialled; static
	lanes [2]*lane // what is under way from each side; static

	mu     sync.Mutex
	muted  bool                  // one of the hosts is cut off or dead: nothing arrives
	lost   bool                  // one of them is dead
	open   map[*streams]struct{} // those that have not ended on both sides
	forgot bool                  // the hosts do not know the link any more
}

// conn is one side of a connection. Fields without a note are static.
type conn struct {
	link      *link
	side      int
	transport *identified
	listener  *listener // side 1: who is to accept the connection
	address   multiaddr.Multiaddr

	scope network.ConnManagementScope // of side 1: set when it arrives, before others see the side

	slots    chan struct{} // a token for each open stream that this side opened
	ended    chan struct{} // closed when the side has
	over     atomic.Bool   // ended is closed: what connection managers and swarms ask all the time
	arriving sync.Cond     // of link.mu: something was added to arrived, or the side has ended

	// guarded by link.mu
	arrived []*stream // streams that wait to be accepted; bounded by the other side's slots
	err     error     // why the side has ended; nil: it has not
	heard   time.Time // when anything last arrived
	asked   time.Time // when the first was sent that nothing was heard after; zero: all is answered
	idle    *time.Timer
}

// lane is what is under way from one side, in order. Guarded by link.mu.
type lane struct {
	latency time.Duration // static
	queue   []parcel
	timer   *time.Timer // runs deliver when the first of the queue is due; nil before the first
	running bool        // the timer is set
}

// parcel is something that changes the other side when it arrives.
type parcel struct {
	due    time.Time
	kind   kind
	stream *streams
	half   *half
	data   []byte
	code   uint32 // of an error; or bytes of credit
}

type kind byte

const (
	hello   kind = iota // the connection itself
	data                // bytes of a half
	fin                 // the end of a half
	abort               // the writer of a half has given it up
	stop                // the reader of a half has
	credit              // the reader of a half has read so many bytes
	release             // a stream of this side has ended
	goodbye             // the connection has been closed
)

func newLink(dialler *identified, to *listener) *link {
	l := &link{net: dialler.host.net, open: make(map[*streams]struct{})}
	now := time.Now()
	for side, t := range []*identified{dialler, to.transport} {
		c := &conn{
			link: l, side: side, transport: t, heard: now,
			slots: make(chan struct{}, l.net.config.Streams), ended: make(chan struct{}),
		}
		c.arriving.L = &l.mu
		l.sides[side] = c
	}
	l.sides[1].listener = to
	l.lanes[0] = &lane{latency: dialler.host.Latency(to.transport.host)}
	l.lanes[1] = &lane{latency: to.transport.host.Latency(dialler.host)}
	return l
}

// register makes the link known to its hosts, and sends it to the other side.
func (l *link) register() {
	hosts := [2]*Host{l.sides[0].transport.host, l.sides[1].transport.host}
	l.net.mu.Lock()
	for _, h := range hosts {
		h.links[l] = struct{}{}
	}
	l.net.mu.Unlock()
	l.mu.Lock()
	l.post(0, parcel{kind: hello})
	l.mu.Unlock()
	l.look() // one of them may have gone meanwhile
}

// forget is the opposite of register. l.mu is not held.
func (l *link) forget() {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	for _, c := range l.sides {
		delete(c.transport.host.links, l)
	}
}

// look finds out whether the hosts are on the network.
func (l *link) look() {
	l.mu.Lock()
	defer l.mu.Unlock()
	muted := false
	for _, c := range l.sides {
		switch state(c.transport.host.state.Load()) {
		case dead:
			l.lost, muted = true, true
		case cut:
			muted = true
		}
	}
	if l.lost { // what is under way, and what waits for a host that was cut off before
		l.lanes[0].queue, l.lanes[1].queue = nil, nil
	}
	if muted == l.muted {
		return
	}
	l.muted = muted
	now := time.Now()
	for side, c := range l.sides {
		if !muted { // what was lost is sent again
			c.heard, c.asked = now, time.Time{}
			if c.idle != nil {
				c.idle.Stop()
			}
			for i := range l.lanes[side].queue {
				l.lanes[side].queue[i].due = now.Add(l.lanes[side].latency)
			}
			l.schedule(side)
			continue
		}
		if since := now.Sub(c.heard); since > l.net.config.KeepAlive { // keep-alives, that are not sent here, were answered until now
			c.heard = now.Add(-(since % l.net.config.KeepAlive))
		}
		if len(l.lanes[side].queue) > 0 || l.lanes[side].running {
			c.asked = now
		} else {
			c.asked = c.heard.Add(l.net.config.KeepAlive)
		}
		l.lanes[side].stop()
		c.patience()
	}
	if !muted { // a side that has given up answers the next packet with a stateless reset
		for side, c := range l.sides {
			if c.err == errIdle {
				l.post(side, parcel{kind: goodbye, code: uint32(network.ConnNoError)})
			}
		}
	}
}

// patience has the side end when nothing is heard for too long. link.mu is held.
func (c *conn) patience() {
	if c.err != nil {
		return
	}
	wait := time.Until(c.asked.Add(c.link.net.config.IdleTimeout))
	if c.idle == nil {
		c.idle = time.AfterFunc(wait, func() {
			c.link.mu.Lock()
			muted := c.link.muted
			if muted {
				c.end(errIdle)
				c.link.lanes[c.side].queue = nil
			}
			c.link.mu.Unlock()
			if muted {
				c.gone()
			}
		})
		return
	}
	c.idle.Reset(wait)
}

// post sends something from a side. mu is held.
func (l *link) post(side int, p parcel) {
	switch {
	case l.muted:
		if c := l.sides[side]; time.Now().Before(c.asked) {
			c.asked = time.Now()
			c.patience()
		}
		if l.lost {
			return
		}
	case l.sides[1-side].err != nil:
		return // nobody is there any more; whoever closed it has said so, or is dead
	}
	lane := l.lanes[side]
	p.due = time.Now().Add(lane.latency)
	lane.queue = append(lane.queue, p)
	if !l.muted && !lane.running {
		l.schedule(side)
	}
}

func (l *lane) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.running = false
}

// schedule sets the timer of what is under way from a side. mu is held.
func (l *link) schedule(side int) {
	lane := l.lanes[side]
	lane.running = len(lane.queue) > 0
	if !lane.running {
		return
	}
	wait := time.Until(lane.queue[0].due)
	if lane.timer == nil {
		lane.timer = time.AfterFunc(wait, func() { l.deliver(side) })
		return
	}
	lane.timer.Reset(wait)
}

// deliver hands over what has arrived from a side.
func (l *link) deliver(side int) {
	l.mu.Lock()
	lane := l.lanes[side]
	if l.muted || !lane.running {
		l.mu.Unlock()
		return
	}
	lane.running = false
	to := l.sides[1-side]
	ended := to.err != nil
	now := time.Now()
	for to.err == nil && len(lane.queue) > 0 && !lane.queue[0].due.After(now) {
		first := lane.queue[0]
		lane.queue[0] = parcel{}
		lane.queue = lane.queue[1:]
		to.heard = now
		l.arrive(to, first)
	}
	l.schedule(side)
	ended = to.err != nil && !ended
	l.mu.Unlock()
	if ended {
		to.gone()
	}
}

// arrive is what a parcel does to the side where it arrives. mu is held.
func (l *link) arrive(to *conn, p parcel) {
	counts := &to.transport.host.received
	if s := p.stream; s != nil && !s.seen && to.side != s.opener && p.kind != release {
		s.seen = true
		counts.streams.Add(1)
		to.arrived = append(to.arrived, s.of(to))
		to.arriving.Signal()
	}
	switch h := p.half; p.kind {
	case hello:
		if !to.listener.admit(to) {
			to.end(&network.ConnError{ErrorCode: network.ConnResourceLimitExceeded})
			l.post(to.side, parcel{kind: goodbye, code: uint32(network.ConnResourceLimitExceeded)})
		}
	case data:
		counts.messages.Add(1)
		counts.bytes.Add(int64(len(p.data)))
		h.receive(p.data)
	case fin:
		h.eof = true
		h.readable.Broadcast()
		p.stream.over(h)
	case abort:
		h.failReading(&network.StreamError{ErrorCode: network.StreamErrorCode(p.code), Remote: true})
		p.stream.over(h)
	case stop:
		if h.writeErr == nil { // QUIC answers with a reset
			h.failWriting(&network.StreamError{ErrorCode: network.StreamErrorCode(p.code), Remote: true})
			l.post(to.side, parcel{kind: abort, stream: p.stream, half: h, code: p.code})
		}
	case credit:
		h.room += int(p.code)
		h.writable.Broadcast()
	case release:
		<-to.slots
	case goodbye:
		to.end(&network.ConnError{ErrorCode: network.ConnErrorCode(p.code), Remote: true})
	}
}

// end ends one side, and everything that waits on it. link.mu is held; gone is to be called without.
func (c *conn) end(err error) {
	if c.err != nil {
		return
	}
	c.err = err
	c.over.Store(true)
	close(c.ended)
	c.arriving.Broadcast()
	for s := range c.link.open {
		s.wake(c.side)
	}
	if c.idle != nil {
		c.idle.Stop()
	}
	lane := c.link.lanes[1-c.side] // what comes is of no use any more
	lane.stop()
	lane.queue = nil
}

// gone has the hosts forget the link when both sides have ended.
func (c *conn) gone() {
	c.link.mu.Lock()
	both := c.link.sides[0].err != nil && c.link.sides[1].err != nil && !c.link.forgot
	c.link.forgot = c.link.forgot || both
	if both {
		c.link.open = nil
	}
	c.link.mu.Unlock()
	if both {
		c.link.forget()
	}
}

// idleError says that nothing was heard of the other side for too long.
type idleError struct{}

func (idleError) Error() string   { return "timeout: no recent network activity" } // as quic-go has it
func (idleError) Timeout() bool   { return true }
func (idleError) Temporary() bool { return false }
func (idleError) Is(target error) bool {
	return target == net.ErrClosed
}

var errIdle error = idleError{}

var _ transport.CapableConn = (*conn)(nil)

func (c *conn) other() *conn { return c.link.sides[1-c.side] }

// Close implements [network.MuxedConn].
func (c *conn) Close() error { return c.CloseWithError(network.ConnNoError) }

// CloseWithError implements [network.MuxedConn]. It is to be called also when the other side has closed.
func (c *conn) CloseWithError(code network.ConnErrorCode) error {
	c.link.mu.Lock()
	if c.err == nil {
		c.link.post(c.side, parcel{kind: goodbye, code: uint32(code)})
		c.end(&network.ConnError{ErrorCode: code})
	}
	scope := c.scope
	c.scope = closedScope(c.scope)
	c.link.mu.Unlock()
	c.gone()
	if scope != nil {
		scope.Done()
	}
	return nil
}

// doneScope is the scope of a connection that has given its own back.
type doneScope struct{ network.ConnManagementScope }

func (doneScope) Done() {}

func closedScope(scope network.ConnManagementScope) network.ConnManagementScope {
	if _, is := scope.(doneScope); is || scope == nil {
		return scope
	}
	return doneScope{scope}
}

// IsClosed implements [network.MuxedConn].
func (c *conn) IsClosed() bool { return c.over.Load() }

// OpenStream implements [network.MuxedConn]. It waits while the other side
// allows no more streams.
func (c *conn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	select {
	case <-c.ended: // in any case, whatever else is possible
	default:
		select {
		case c.slots <- struct{}{}:
		case <-c.ended:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	c.transport.host.sent.streams.Add(1)
	s := newStreams(c)
	c.link.open[s] = struct{}{}
	return s.of(c), nil
}

// AcceptStream implements [network.MuxedConn].
func (c *conn) AcceptStream() (network.MuxedStream, error) {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	for len(c.arrived) == 0 && c.err == nil {
		c.arriving.Wait()
	}
	if c.err != nil {
		return nil, c.err
	}
	s := c.arrived[0]
	c.arrived = c.arrived[1:]
	return s, nil
}

// As implements [network.MuxedConn]: there is nothing inside.
func (c *conn) As(any) bool { return false }

// LocalPeer implements [network.ConnSecurity].
func (c *conn) LocalPeer() peer.ID { return c.transport.id }

// RemotePeer implements [network.ConnSecurity].
func (c *conn) RemotePeer() peer.ID { return c.other().transport.id }

// RemotePublicKey implements [network.ConnSecurity].
func (c *conn) RemotePublicKey() crypto.PubKey { return c.other().transport.public }

// ConnState implements [network.ConnSecurity].
func (c *conn) ConnState() network.ConnectionState {
	return network.ConnectionState{Transport: "quic-v1"}
}

// LocalMultiaddr implements [network.ConnMultiaddrs].
func (c *conn) LocalMultiaddr() multiaddr.Multiaddr { return c.address }

// RemoteMultiaddr implements [network.ConnMultiaddrs].
func (c *conn) RemoteMultiaddr() multiaddr.Multiaddr { return c.other().address }

// Scope implements [network.ConnScoper].
func (c *conn) Scope() network.ConnScope {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.scope
}

// Transport implements [transport.CapableConn].
func (c *conn) Transport() transport.Transport { return c.transport }
