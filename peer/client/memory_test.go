package client

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
)

// memory is a network in memory: its connections behave as those of package
// rtc do, without a network, so that whole swarms run in the time of synctest.
type memory struct {
	setup  time.Duration // from the answer until a connection is open; static
	mu     sync.Mutex
	offers map[string]*memoryConn // guarded by mu, by the text of the offer
}

func newMemory() *memory { return &memory{offers: make(map[string]*memoryConn)} }

// memoryConn is a connection of it.
type memoryConn struct {
	network *memory
	peering rtc.Peering
	paired  chan *memoryConn
	stop    chan struct{}
	wake    chan struct{} // the queue grew; capacity 1
	taken   chan struct{} // the queue of the other side shrank; capacity 1

	mu      sync.Mutex
	other   *memoryConn // guarded by mu, as are the next ones
	queue   [][]byte    // frames that wait for our handler
	bytes   int         // their length
	yielded bool        // the other side offered at the same time, and its offer stands
	stopped bool
	reason  error
}

func (m *memory) connect(p rtc.Peering) Conn {
	c := &memoryConn{
		network: m, peering: p, paired: make(chan *memoryConn, 1), stop: make(chan struct{}),
		wake: make(chan struct{}, 1), taken: make(chan struct{}, 1),
	}
	go c.run()
	return c
}

func (c *memoryConn) run() {
	defer func() {
		c.mu.Lock()
		reason := c.reason
		c.mu.Unlock()
		c.peering.Handler.Closed(reason)
	}()
	if c.peering.Offerer {
		c.network.mu.Lock()
		text := fmt.Sprintf("m=application %d", len(c.network.offers))
		c.network.offers[text] = c
		c.network.mu.Unlock()
		c.peering.Handler.Signal(rtc.Signal{Kind: rtc.Offer, SDP: text}.String())
		c.peering.Handler.Signal(rtc.Signal{Kind: rtc.Candidate}.String()) // there are none
	}
	deadline := time.NewTimer(rtc.DefaultConnectTimeout)
	defer deadline.Stop()
	var other *memoryConn
	select {
	case other = <-c.paired:
	case <-deadline.C:
		c.Close(rtc.ErrTimeout)
		return
	case <-c.stop:
		return
	}
	c.mu.Lock()
	c.other = other
	c.mu.Unlock()
	setup := time.NewTimer(c.network.setup)
	defer setup.Stop()
	for waits := true; waits; {
		select {
		case <-setup.C:
			waits = false
		case other = <-c.paired: // it gave way to the other side's offer
			c.mu.Lock()
			c.other = other
			c.mu.Unlock()
		case <-c.stop:
			return
		}
	}
	c.mu.Lock()
	opened := c.peering.Offerer && !c.yielded // the answerer's opens with the first frame
	c.mu.Unlock()
	if opened {
		c.peering.Handler.Opened(64 << 10)
	}
	for {
		if frame := c.next(); frame != nil {
			if !opened {
				opened = true
				c.peering.Handler.Opened(64 << 10)
			}
			c.peering.Handler.Frame(frame)
			continue
		}
		select {
		case <-c.wake:
		case <-c.stop:
			return
		case <-other.stop:
			if c.waiting() == 0 {
				c.Close(rtc.ErrClosedByPeer)
				return
			}
		}
	}
}

func (c *memoryConn) waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

func (c *memoryConn) next() []byte {
	c.mu.Lock()
	if len(c.queue) == 0 {
		c.mu.Unlock()
		return nil
	}
	frame := c.queue[0]
	c.queue, c.bytes = c.queue[1:], c.bytes-len(frame)
	other := c.other
	c.mu.Unlock()
	token(other.taken)
	return frame
}

func token(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Bind is called by the engine, which also hands in signals: Local and Remote are its own.
func (c *memoryConn) Bind(local, remote ident.PeerID, _ []mediation.ICEServer) {
	c.peering.Local, c.peering.Remote = local, remote
}

func (c *memoryConn) Signal(s rtc.Signal) {
	if s.Kind != rtc.Offer {
		return
	}
	if c.peering.Offerer { // of two offers, that of the lower id stands
		if bytes.Compare(c.peering.Local[:], c.peering.Remote[:]) < 0 {
			return
		}
		c.mu.Lock()
		c.yielded = true
		c.mu.Unlock()
	}
	c.network.mu.Lock()
	other := c.network.offers[s.SDP]
	c.network.mu.Unlock()
	if other == nil {
		c.Close(rtc.ErrBadSignal)
		return
	}
	c.pair(other)
	other.pair(c)
}

// pair says who the other side is; of two the last one counts.
func (c *memoryConn) pair(other *memoryConn) {
	select {
	case c.paired <- other:
	case <-c.stop:
	}
}

func (c *memoryConn) Send(frame []byte) error {
	c.mu.Lock()
	other, stopped := c.other, c.stopped
	c.mu.Unlock()
	if other == nil || stopped {
		return rtc.ErrNotOpen
	}
	other.mu.Lock()
	defer other.mu.Unlock()
	other.queue, other.bytes = append(other.queue, bytes.Clone(frame)), other.bytes+len(frame)
	token(other.wake)
	return nil
}

func (c *memoryConn) Room() bool {
	c.mu.Lock()
	other := c.other
	c.mu.Unlock()
	for other.waiting() >= rtc.HighWater {
		select {
		case <-c.taken:
		case <-c.stop:
			return false
		}
	}
	return true
}

func (c *memoryConn) Close(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.stopped, c.reason = true, err
		close(c.stop)
	}
}

// stranger is a peer whose behaviour a test writes: it answers frames by a script.
type stranger struct {
	line    *hubLine
	connect func(rtc.Peering) Conn
	script  func(s *strangerLink, frame wire.Frame)
	opened  func(s *strangerLink) // may be nil
	done    chan struct{}

	mu    sync.Mutex
	links []*strangerLink // guarded by mu
	ends  sync.WaitGroup
}

type strangerLink struct {
	stranger *stranger
	peering  rtc.Peering
	conn     Conn
	closed   chan error
}

// newStranger starts one; end must be called.
func newStranger(line *hubLine, connect func(rtc.Peering) Conn, script func(*strangerLink, wire.Frame)) *stranger {
	s := &stranger{line: line, connect: connect, script: script, done: make(chan struct{})}
	return s
}

func (s *stranger) start() *stranger {
	go s.run()
	return s
}

// dial offers a connection.
func (s *stranger) dial(to *hubLine) *strangerLink {
	return s.link(rtc.Peering{Local: s.line.id, Remote: to.id, Offerer: true})
}

func (s *stranger) link(p rtc.Peering) *strangerLink {
	l := &strangerLink{stranger: s, closed: make(chan error, 1)}
	p.Handler = l
	l.peering = p
	s.ends.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	l.conn = s.connect(p)
	s.links = append(s.links, l)
	return l
}

// run answers offers; a link is the last one with that peer.
func (s *stranger) run() {
	defer close(s.done)
	for e := range s.line.events {
		from, signal, is := signalOf(e)
		if !is {
			continue
		}
		if signal.Kind == rtc.Offer {
			s.link(rtc.Peering{Local: s.line.id, Remote: from}).conn.Signal(signal)
			continue
		}
		s.mu.Lock()
		for i := len(s.links) - 1; i >= 0; i-- {
			if s.links[i].peering.Remote == from {
				s.links[i].conn.Signal(signal)
				break
			}
		}
		s.mu.Unlock()
	}
}

func (s *stranger) end() {
	s.mu.Lock()
	for _, l := range s.links {
		l.conn.Close(nil)
	}
	s.mu.Unlock()
	s.ends.Wait()
	s.line.Close()
	<-s.done
}

func (l *strangerLink) send(frames ...wire.Frame) {
	for _, frame := range frames {
		_ = l.get().Send(wire.Append(nil, frame))
	}
}

func (l *strangerLink) get() Conn {
	l.stranger.mu.Lock()
	defer l.stranger.mu.Unlock()
	return l.conn
}

func (l *strangerLink) Signal(data string) {
	_ = l.stranger.line.Signal(strangersHash, l.peering.Remote, data)
}

func (l *strangerLink) Reached(timeline.Phase) {}

func (l *strangerLink) Opened(int) {
	if l.stranger.opened != nil {
		l.stranger.opened(l)
	}
}

func (l *strangerLink) Frame(data []byte) {
	if frame, err := wire.Decode(bytes.Clone(data)); err == nil {
		l.stranger.script(l, frame)
	}
}

func (l *strangerLink) Closed(err error) {
	l.closed <- err
	l.stranger.ends.Done()
}
