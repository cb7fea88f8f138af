package rtc

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
)

// Why a connection ended, for errors.Is.
var (
	ErrTimeout        = errors.New("the connection did not open in time")
	ErrLost           = errors.New("the connection was lost")
	ErrClosedByPeer   = errors.New("the peer closed the connection")
	ErrStalled        = errors.New("the peer does not read")
	ErrBadFrame       = errors.New("the peer sent what is no frame")
	ErrNotOpen        = errors.New("the connection is not open")
	ErrTooManySignals = errors.New("the peer sends more signals than anybody needs")
)

const (
	// HighWater is how many bytes may wait in a channel before Room blocks: twice
	// pion's receive window of 1 MiB, so that there is always more to send when
	// the window opens. LowWater, where Room returns, is one window.
	HighWater = 2 << 20
	LowWater  = 1 << 20

	// hardLimit bounds what Send queues for a peer that does not read: room for
	// HighWater and the short frames (have, request, reject) that do not wait for Room.
	hardLimit = 4 << 20

	// maxCandidates bounds the remote candidates, those that wait for the remote
	// description and those that are tried. A machine with several interfaces and servers
	// has a dozen or two; what comes above is dropped, since any single working candidate
	// is enough.
	maxCandidates = 64

	// maxTCPCandidates bounds those of them that are over TCP, each of which we connect
	// to from all our addresses.
	maxTCPCandidates = 8

	// signalQueue is how many remote signals may wait to be handled: two
	// descriptions and all candidates that they may have.
	signalQueue = 2 * maxCandidates

	// flushTimeout bounds how long Close waits for what was sent to arrive: a
	// goodbye is short, and a peer that is still there takes it within a round trip.
	flushTimeout = 500 * time.Millisecond
)

// Conn is a connection to a peer. All methods may be called together, but for Room.
type Conn struct {
	transport *Transport // static after construction, as are the next five
	inbox     chan said  // in the order of the calls
	events    chan event
	stop      chan struct{} // closed by Close
	ended     chan struct{} // closed when run ended: nobody reads events any more
	drained   chan struct{} // holds a token when the buffer fell to LowWater; capacity 1

	mu      sync.Mutex
	stopped bool     // guarded by mu
	reason  error    // guarded by mu: what the first Close was given
	channel *channel // guarded by mu; nil before it is open

	peering  Peering               // owned by run, but for Handler, which is static
	other    []mediation.ICEServer // owned by run: to begin anew with, if the connection does not open soon; nil: there are none
	anew     *time.Timer           // owned by run: when that is
	session  *session              // owned by run; nil for an answerer that waits for an offer
	fallback *time.Timer           // owned by run: when our TCP candidates are told
	offering bool                  // owned by run: session is of our offer
	waiting  []*ICECandidate       // owned by run: remote candidates that came before the remote description
	closing  sync.WaitGroup        // sessions that are being closed, and the reader
}

// Connect begins a connection. It ends with [Handler.Closed], which comes also where it
// cannot even begin.
func (t *Transport) Connect(peering Peering) *Conn {
	c := &Conn{
		transport: t, peering: peering,
		inbox:   make(chan said, signalQueue),
		events:  make(chan event),
		stop:    make(chan struct{}),
		ended:   make(chan struct{}),
		drained: make(chan struct{}, 1),
	}
	c.fallback, c.anew = time.NewTimer(t.tcpAfter), time.NewTimer(t.anewAfter)
	c.fallback.Stop() // until the checks begin
	c.anew.Stop()
	go c.run()
	return c
}

// said is what was handed in: a signal, or a binding.
type said struct {
	Signal
	binding *binding
}

// binding is what Bind says.
type binding struct {
	local, remote ident.PeerID
	servers       []mediation.ICEServer
}

// Bind says with whom the connection is, where that was not known when it was begun; it is called once then, before any
// signal is handed in. servers are the ICE servers that are known now: if the connection does not open soon, and they are
// others than those that it was begun with, it is offered once more with them. The time that it may take begins now.
func (c *Conn) Bind(local, remote ident.PeerID, servers []mediation.ICEServer) {
	c.put(said{binding: &binding{local, remote, servers}})
}

func (c *Conn) bound(b binding) {
	c.peering.Local, c.peering.Remote = b.local, b.remote
	if !slices.EqualFunc(c.peering.ICEServers, b.servers, sameServer) {
		c.other = b.servers
	}
}

func sameServer(a, b mediation.ICEServer) bool {
	return a.Username == b.Username && a.Credential == b.Credential && slices.Equal(a.URLs, b.URLs)
}

// again offers once more, with the other ICE servers. The remote peer takes the new offer in place of the first.
func (c *Conn) again() {
	if c.session == nil || !c.offering || c.other == nil {
		return
	}
	c.drop(c.session)
	c.peering.ICEServers, c.other = c.other, nil
	c.startOffer()
}

// Signal hands in a signal of the remote peer. It never blocks.
func (c *Conn) Signal(signal Signal) { c.put(said{Signal: signal}) }

func (c *Conn) put(what said) {
	select {
	case c.inbox <- what:
	default:
		c.Close(ErrTooManySignals)
	}
}

// Send queues a frame; it never blocks. The frame may be used again after the
// call. A peer that lets more than a few MiB pile up is disconnected with [ErrStalled].
func (c *Conn) Send(frame []byte) error {
	channel := c.open()
	if channel == nil {
		return ErrNotOpen
	}
	if channel.BufferedAmount() > hardLimit {
		c.Close(ErrStalled)
		return ErrStalled
	}
	if _, err := channel.raw.Write(frame); err != nil {
		err = fmt.Errorf("sending a frame: %w", err)
		c.Close(err)
		return err
	}
	return nil
}

// Room waits until less than HighWater waits to be sent, and says whether the
// connection is still open. Only one goroutine may call it.
func (c *Conn) Room() bool {
	channel := c.open()
	if channel == nil {
		return false
	}
	for channel.BufferedAmount() >= HighWater {
		select {
		case <-c.drained:
		case <-c.stop:
			return false
		}
	}
	return true
}

// Close ends the connection, once what was sent has arrived or half a second
// passed. It does not wait for that; [Handler.Closed] comes when it is done. The
// first call's err counts; nil says that all is well.
func (c *Conn) Close(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.stopped {
		c.stopped, c.reason = true, err
		close(c.stop)
	}
}

func (c *Conn) open() *channel {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.channel
}

// run owns the connection from its beginning to its end.
func (c *Conn) run() {
	if c.peering.Offerer {
		c.startOffer()
	}
	c.loop()
	c.flush()
	close(c.ended)
	if c.session != nil {
		c.drop(c.session)
	}
	c.closing.Wait()
	c.mu.Lock()
	reason := c.reason
	c.mu.Unlock()
	c.peering.Handler.Closed(reason)
}

func (c *Conn) loop() {
	deadline := time.NewTimer(c.transport.connectTimeout)
	defer deadline.Stop()
	defer c.fallback.Stop()
	defer c.anew.Stop()
	for {
		select {
		case <-c.stop:
			return
		case said := <-c.inbox:
			if said.binding != nil {
				c.bound(*said.binding)
				deadline.Reset(c.transport.connectTimeout)
			} else {
				c.signalled(said.Signal)
			}
		case e := <-c.events:
			c.happened(e)
			if c.open() != nil {
				deadline.Stop()
				c.fallback.Stop()
				c.anew.Stop()
			}
		case <-c.fallback.C:
			if c.session != nil {
				c.session.tellTCP()
			}
		case <-c.anew.C:
			c.again()
		case <-deadline.C:
			c.Close(ErrTimeout)
		}
	}
}

// flush waits until everything that was sent has arrived, for a short while.
func (c *Conn) flush() {
	channel := c.open()
	if channel == nil {
		return
	}
	channel.SetBufferedAmountLowThreshold(0)
	deadline := time.NewTimer(flushTimeout)
	defer deadline.Stop()
	for channel.BufferedAmount() > 0 {
		select {
		case <-c.drained:
		case e := <-c.events:
			if e.session == c.session && e.err != nil {
				return // there is nobody any more who could take it
			}
		case <-deadline.C:
			return
		}
	}
}

func (c *Conn) startOffer() {
	session, err := newSession(c)
	if err != nil {
		c.Close(err)
		return
	}
	c.session, c.offering = session, true
	c.check(session.offer())
}

func (c *Conn) check(err error) {
	if err != nil {
		c.Close(err)
	}
}

// signalled handles a signal of the remote peer. After the channel is open
// there is nothing left to agree on but candidates.
func (c *Conn) signalled(signal Signal) {
	switch signal.Kind {
	case Offer:
		if c.open() == nil {
			c.offered(signal.SDP)
		}
	case Answer:
		if c.session != nil && c.offering {
			c.check(c.session.accept(signal))
		}
	case Candidate:
		c.candidate(signal.Candidate)
	}
}

// candidate takes a remote candidate; nil, the end of them, changes nothing.
func (c *Conn) candidate(candidate *ICECandidate) {
	switch {
	case candidate == nil:
	case c.session != nil && c.session.remoteSDP != "":
		c.session.add(candidate)
	case len(c.waiting) < maxCandidates:
		c.waiting = append(c.waiting, candidate)
	}
}

// offered answers an offer. Against our own offer, that of the lower id stands.
// A new offer of a peer that we answered already replaces the earlier one.
func (c *Conn) offered(sdp string) {
	if c.offering && bytes.Compare(c.peering.Local[:], c.peering.Remote[:]) < 0 {
		return
	}
	if c.session != nil && !c.offering && offerID(c.session.remoteSDP) == offerID(sdp) {
		return // it came twice, by two ways: the answer to the first counts
	}
	c.peering.Handler.Reached(timeline.OfferReceived)
	if c.session != nil {
		c.drop(c.session)
		c.session = nil
	}
	if c.other != nil { // what was known when ours was prepared is out of date
		c.peering.ICEServers, c.other = c.other, nil
	}
	session, err := newSession(c)
	if err != nil {
		c.Close(err)
		return
	}
	c.session, c.offering = session, false
	c.check(session.answer(sdp))
}

// drop closes a session without waiting for it; run's end does.
func (c *Conn) drop(s *session) {
	c.closing.Go(func() {
		if err := s.close(); err != nil {
			c.transport.log.Debug("a session did not close well", "err", err)
		}
	})
}

// happened handles an event of the session; events of a dropped one are stale.
func (c *Conn) happened(e event) {
	switch {
	case e.session != c.session:
	case e.err != nil:
		c.Close(e.err)
	case e.phase != "":
		if e.phase == timeline.ICEConnected {
			c.anew.Stop() // the addresses are right: what follows takes its time
		}
		c.peering.Handler.Reached(e.phase)
	case e.candidate != nil:
		c.session.gathered(e.candidate.candidate)
	case e.channel != nil:
		c.opened(e.channel)
	}
}

// opened publishes the session's only channel.
func (c *Conn) opened(channel *channel) {
	channel.SetBufferedAmountLowThreshold(LowWater)
	channel.OnBufferedAmountLow(func() { // called with pion's locks held: no more than a token
		select {
		case c.drained <- struct{}{}:
		default:
		}
	})
	c.mu.Lock()
	c.channel = channel
	c.mu.Unlock()
	c.peering.Handler.Opened(maxFrame(c.session.remoteSDP))
	c.closing.Go(func() { c.Close(c.read(channel)) })
}

// read hands every frame to the handler until the channel ends.
func (c *Conn) read(channel *channel) error {
	if channel.first != nil {
		c.peering.Handler.Frame(channel.first)
	}
	for {
		frame, err := channel.next()
		if err != nil {
			return err
		}
		c.peering.Handler.Frame(frame)
	}
}
