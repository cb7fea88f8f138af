package client

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
	"p2pcdn/peer/signaling"
)

var (
	// ErrClosed is what every share of a closed Client failed with, and what Seed and Get return then.
	ErrClosed = errors.New("the peer is closed")

	// ErrTaken is returned for a content that is shared already.
	ErrTaken = errors.New("this content is shared already")

	// ErrTooMany is returned above Config.MaxShares.
	ErrTooMany = errors.New("too many contents are shared")
)

const (
	// inboxSize smooths bursts between the readers and the engine: 64 frames with a
	// block each are 8 MiB at most.
	inboxSize = 64

	// tickEach is how often the engine looks at the time, but for what a swarm waits for: a tenth
	// of the shortest of its deadlines.
	tickEach = 500 * time.Millisecond

	// maxFormer bounds our own earlier ids that are remembered: a mediator that did not notice that
	// we left names one of them for a minute or so, in which we do not go through more mediators than that.
	maxFormer = 16
)

// Client is a peer. Its methods may be called together.
type Client struct {
	config Config        // static after construction, as are the next four
	inbox  chan func()   // what the engine is to do next; read until every link and job is gone
	closed chan struct{} // closed by Close: the engine is to end
	done   chan struct{} // closed when it has
	once   sync.Once     // of Close
	uplink uplink        // what is sent, in all
	rate   *rate.Limiter // of what is asked for; nil: none

	transport *rtc.Transport // of Start, closed last of all; nil: connections are somebody else's; static after construction

	after sync.Mutex // held by what runs in the engine's place once it has ended

	// Owned by run, and by whoever holds after once it has ended:

	self       ident.PeerID   // our id, zero before the first line
	former     []ident.PeerID // those that we had, the last is the newest; bounded by maxFormer
	servers    []mediation.ICEServer
	opened     time.Time                   // when the line was open, and what is wanted was said; zero: it is not
	lineUp     bool                        // and the mediator has answered
	shares     map[content.FullHash]*Share // bounded by MaxShares
	numbers    map[wire.Number]bool        // in use by shares
	links      map[ident.PeerID]*link      // by remote id, without those that are being closed
	all        map[*link]bool              // and with them; bounded by MaxConnections and those that are being closed
	unbound    int                         // prepared links with nobody yet, which are in all alone
	describing bool                        // a link is prepared, and its offer not there yet
	behind     []*Share                    // that ask then; bounded by MaxShares
	jobs       int                         // that have not reported back
	alarm      *time.Timer                 // rings when the next swarm's tick is due
	due        time.Time                   // that time; zero: none
	ending     bool
}

// New starts a peer. Close must be called.
func New(config Config) *Client {
	config = config.withDefaults()
	c := &Client{
		config:  config,
		uplink:  newUplink(config),
		rate:    newDownloadLimiter(config.DownloadLimit),
		alarm:   time.NewTimer(time.Hour), // set by schedule
		inbox:   make(chan func(), inboxSize),
		closed:  make(chan struct{}),
		done:    make(chan struct{}),
		shares:  make(map[content.FullHash]*Share),
		numbers: make(map[wire.Number]bool),
		links:   make(map[ident.PeerID]*link),
		all:     make(map[*link]bool),
		servers: config.Guess,
	}
	go c.run()
	return c
}

// Close says goodbye to everybody, ends every share (a download that is not complete
// fails with [ErrClosed]) and the line, and waits for everything the Client started.
func (c *Client) Close() {
	c.once.Do(func() { close(c.closed) })
	<-c.done
	if c.transport != nil {
		c.transport.Close()
	}
}

// run is the engine.
func (c *Client) run() {
	defer close(c.done)
	ticker := time.NewTicker(tickEach)
	defer ticker.Stop()
	defer c.alarm.Stop()
	events, closed := c.config.Line.Events(), c.closed
	for !c.ending || len(c.all) > 0 || c.jobs > 0 || events != nil {
		select {
		case step := <-c.inbox:
			step()
		case e, more := <-events:
			if !more {
				events = nil
			} else {
				c.heard(e)
			}
		case <-ticker.C:
			c.tick()
		case <-c.alarm.C:
			c.ring()
		case <-closed:
			closed = nil
			c.end()
		}
	}
}

// post hands the engine something to do. It waits for its turn, and must not
// be called by the engine. Only links and jobs, for whose end the engine waits, may call it.
func (c *Client) post(step func()) { c.inbox <- step }

// do runs a step in the engine and waits for it; after the engine's end, here.
func (c *Client) do(step func()) {
	ran := make(chan struct{})
	select {
	case c.inbox <- func() { step(); close(ran) }:
		select {
		case <-ran:
			return
		case <-c.done: // it may have ended with the step still in its inbox
		}
		select {
		case <-ran:
			return
		default:
		}
	case <-c.done:
	}
	c.after.Lock()
	defer c.after.Unlock()
	step()
}

// job does something that takes time, and then a step in the engine.
func (c *Client) job(work func() error, then func(err error)) {
	c.jobs++
	go func() {
		err := work()
		c.post(func() {
			c.jobs--
			then(err)
		})
	}()
}

func (c *Client) end() {
	c.ending = true
	for _, share := range c.shares {
		if share.source != nil || share.state == Complete {
			share.leave(Stopped, nil)
		} else {
			share.leave(Failed, ErrClosed)
		}
	}
	for l := range c.all {
		l.close(nil)
	}
	c.job(func() error { c.config.Line.Close(); return nil }, func(error) {})
}

// heard handles an event of the line.
func (c *Client) heard(e signaling.Event) {
	switch e := e.(type) {
	case signaling.Opened:
		c.opened = e.At
		c.stampAll(timeline.MediatorOpen, e.At)
	case signaling.Asked:
		if share := c.shares[e.FullHash]; share != nil {
			share.stamp(timeline.LookupSent, e.At)
			if e.Offer {
				share.stamp(timeline.OfferSent, e.At)
			}
		}
	case signaling.Connected:
		c.connected(e)
	case signaling.Disconnected:
		c.opened, c.lineUp = time.Time{}, false
		c.config.Observe(LineDown(e))
	case signaling.Heard:
		switch m := e.Message.(type) {
		case mediation.Peers:
			if share := c.shares[m.FullHash]; share != nil {
				share.named(m)
			}
		case mediation.Signal:
			c.signalled(m)
		case mediation.Announced:
			if share := c.shares[m.FullHash]; share != nil {
				share.announced()
			}
		case *mediation.Error:
			c.refused(m)
		}
	}
}

// connected takes our new id. Whoever was being connected knows us by the old
// one, to which no signal leads any more.
func (c *Client) connected(e signaling.Connected) {
	if c.former = append(c.former, c.self); len(c.former) > maxFormer {
		c.former = c.former[1:]
	}
	c.self, c.servers, c.lineUp = e.PeerID, e.ICEServers, true
	c.stampAll(timeline.Established, time.Now())
	for _, l := range c.links {
		if !l.open {
			l.close(errNewID)
		}
	}
	for _, share := range c.shares {
		maps.DeleteFunc(share.known, func(_ ident.PeerID, k *known) bool { return !k.banned })
		share.order = nil                                           // the line asks anew; who lied lies here, too
		share.announce.at, share.announce.heard = time.Now(), false // and announces, which this mediator has to confirm
	}
	c.config.Observe(LineUp{e.URL, e.PeerID})
}

var errNewID = errors.New("the line to the mediator was renewed meanwhile")

// refused handles an error message. A peer that is not there any more is no news;
// all else is told, and asked for again by tick.
func (c *Client) refused(e *mediation.Error) {
	if e.Code != mediation.CodePeerNotFound {
		told := Refused{Err: e}
		if e.FullHash != nil {
			told.Share = c.shares[*e.FullHash]
		}
		c.config.Observe(told)
		return
	}
	for _, share := range c.shares {
		delete(share.known, e.PeerID)
	}
	if l := c.links[e.PeerID]; l != nil && !l.open {
		l.close(e)
	}
}

// tick does what is due.
func (c *Client) tick() {
	if c.ending {
		return
	}
	now := time.Now()
	for _, l := range c.links {
		if l.open && len(l.shares) == 0 && now.Sub(l.since) >= c.config.IdleAfter {
			l.close(nil)
		}
	}
	for _, share := range c.shares {
		share.tick(now)
	}
}

// schedule sees to it that the share's swarm gets its next tick in time. An alarm that rings
// too early does no harm, so it is never put off.
func (c *Client) schedule(share *Share) {
	at, waits := share.swarm.NextTick()
	if !waits || (!c.due.IsZero() && !at.Before(c.due)) {
		return
	}
	c.due = at
	c.alarm.Reset(max(0, time.Until(at)))
}

// ring hands the time to every swarm that waits for it.
func (c *Client) ring() {
	c.due = time.Time{}
	now := time.Now()
	for _, share := range c.shares {
		if at, waits := share.swarm.NextTick(); waits && !now.Before(at) {
			share.swarm.Tick(now)
			share.act()
		} else if waits {
			c.schedule(share)
		}
	}
}

// newNumber returns a content number that is not in use; there are more of
// them than shares.
func (c *Client) newNumber() wire.Number {
	number := wire.Number(1)
	for c.numbers[number] {
		number++
	}
	c.numbers[number] = true
	return number
}

// add begins a share.
func (c *Client) add(share *Share) (*Share, error) {
	info := share.info
	if err := info.Validate(); err != nil {
		return nil, fmt.Errorf("sharing a content: %w", err)
	}
	err := ErrClosed
	c.do(func() {
		switch {
		case c.ending:
		case c.shares[info.FullHash] != nil:
			err = ErrTaken
		case len(c.shares) >= c.config.MaxShares:
			err = ErrTooMany
		default:
			err = nil
			c.shares[info.FullHash] = share
			share.begin()
		}
	})
	if err != nil {
		return nil, err
	}
	return share, nil
}
