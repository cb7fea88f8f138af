package client

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/timeline"
	"p2pcdn/common/wire"
	"p2pcdn/peer/swarm"
)

// State is where a share is.
type State string

// The states of a share.
const (
	Seeding     State = "seeding"     // from a source
	Searching   State = "searching"   // nobody is connected who may have it
	Connecting  State = "connecting"  // to somebody who should have it
	Downloading State = "downloading" // somebody is connected
	Complete    State = "complete"    // committed; it goes on being served until Stop
	Failed      State = "failed"      // over; Err says why
	Stopped     State = "stopped"     // over, as was asked for
)

// over says whether a share in this state takes no part any more.
func (s State) over() bool { return s == Failed || s == Stopped }

// Share is a content that takes part. Its methods may be called together.
type Share struct {
	client   *Client // static after construction, as are the next four
	geometry content.Geometry
	source   Source        // nil for a download
	target   Target        // nil for a source
	over     chan struct{} // closed when the share is complete or over

	passing  passing      // to whom pieces went lately
	uploaded atomic.Int64 // bytes of pieces that were sent
	checked  atomic.Int64 // bytes that were looked at by a check that goes on

	// Owned by the engine:

	info       content.Info
	number     wire.Number
	swarm      *swarm.Swarm
	state      State
	err        error // of Failed
	concluded  bool  // over is closed
	discard    bool  // what was fetched is not worth keeping
	acting     bool  // act is at work
	stamps     map[timeline.Phase]time.Time
	prepared   *link                   // with an offer for somebody who is not known yet; or nil
	links      map[*link]bool          // whose swarm this is
	served     map[ident.PeerID]bool   // who was sent something; bounded by maxServed
	servedMore int                     // and how many above that
	known      map[ident.PeerID]*known // who was named; bounded by maxKnown
	order      []ident.PeerID          // in which they were named
	asked      time.Time               // when peers were last asked for
	again      time.Duration           // how long to wait before they are asked for again
	reviewed   review
	resumed    int                // pieces that were there already
	endCheck   context.CancelFunc // of the check that goes on
	readers    map[*Reader]bool
	waiting    map[int]chan struct{} // per piece that readers wait for: closed when it is there; bounded by the pieces
	announce   announcement
}

// announcement is how far the announce got.
type announcement struct {
	said  bool
	at    time.Time // when it was last said
	heard bool      // it is stored
}

// maxServed bounds who is remembered as served: for a number that a person reads.
const maxServed = 4096

// Seed shares a source. Where it fails, the source remains the caller's.
func (c *Client) Seed(source Source) (*Share, error) {
	share := c.newShare(source.Info())
	share.source, share.state = source, Seeding
	return c.add(share)
}

// Get fetches a content into a target. Where it fails, the target remains the caller's.
func (c *Client) Get(info content.Info, target Target) (*Share, error) {
	share := c.newShare(info)
	share.target, share.state = target, Searching
	return c.add(share)
}

func (c *Client) newShare(info content.Info) *Share {
	return &Share{
		client: c, info: info, geometry: info.Geometry(), over: make(chan struct{}),
		stamps: make(map[timeline.Phase]time.Time), links: make(map[*link]bool),
		served: make(map[ident.PeerID]bool), known: make(map[ident.PeerID]*known),
		again: c.config.AskAgain, endCheck: func() {},
		readers: make(map[*Reader]bool), waiting: make(map[int]chan struct{}),
	}
}

// begin enters the swarm.
func (s *Share) begin() {
	s.number = s.client.newNumber()
	var have *wire.Bits
	if s.source != nil {
		have = wire.NewBits(s.info.Geometry().Pieces())
		have.Fill()
	}
	s.swarm = swarm.New(swarm.Config{
		Info: s.info, Number: s.number, Have: have, Check: s.target != nil && s.target.Found(),
		Random: s.client.config.Random, Patience: s.client.config.Patience, Allow: s.client.allow,
	})
	now := time.Now()
	s.stamp(timeline.Started, now)
	if !s.client.opened.IsZero() {
		s.stamp(timeline.MediatorOpen, now)
	}
	if s.client.lineUp {
		s.stamp(timeline.Established, now)
	}
	if s.source != nil {
		s.sayAnnounce()
	} else {
		s.joinThere()
		s.ask()
	}
	s.client.config.Observe(StateChanged{s, s.state, nil})
	s.act()
}

func (s *Share) sayAnnounce() {
	s.announce.said, s.announce.at = true, time.Now()
	s.client.config.Line.Announce(s.info.FullHash)
}

func (s *Share) announced() {
	if s.announce.said && !s.announce.heard {
		s.announce.heard = true
		s.stamp(timeline.Announced, time.Now())
		s.client.config.Observe(Announced{s})
	}
}

// wants reports whether peers are wanted that have the content.
func (s *Share) wants() bool {
	return s.target != nil && !s.state.over() && !s.swarm.Complete()
}

// full reports whether peers that come for the content are sent away.
func (s *Share) full() bool { return len(s.links) >= s.client.config.MaxServe }

// Wait returns nil once the share is complete, and the reason when it failed or
// was stopped. A source is never complete. ctx ends the waiting, not the share.
func (s *Share) Wait(ctx context.Context) error {
	select {
	case <-s.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	status := s.Status()
	if status.State == Stopped && s.Timeline()[timeline.Complete].IsZero() {
		return ErrStopped
	}
	return status.Err
}

// ErrStopped is returned by Wait for a share that was stopped before it was complete.
var ErrStopped = errors.New("it was stopped")

// Stop ends the share: goodbye to its peers, finish to the mediator. What was
// fetched stays, also where it is not complete. It does nothing to a share that is over.
func (s *Share) Stop() { s.client.do(func() { s.leave(Stopped, nil) }) }

// Discard ends a download as Stop does, and throws away what was fetched, unless it is complete.
func (s *Share) Discard() {
	s.client.do(func() {
		s.discard = s.target != nil && !s.swarm.Complete()
		s.leave(Stopped, nil)
	})
}

// leave ends the share: goodbye to its peers, finish to the mediator, and the
// store is closed. It does nothing to a share that is over.
func (s *Share) leave(state State, err error) {
	if s.state.over() {
		return
	}
	s.unprepare()
	s.swarm.Leave()
	s.act()
	s.client.config.Line.Finish(s.info.FullHash)
	delete(s.client.shares, s.info.FullHash)
	delete(s.client.numbers, s.number)
	s.err = err
	s.enter(state)
	s.endCheck()
	s.wakeAll()
	s.client.job(s.closeStore(), func(err error) {
		if err != nil {
			s.client.config.Log.Warn("closing a content", "err", err)
		}
		s.conclude()
	})
}

// closeStore returns what ends the store.
func (s *Share) closeStore() func() error {
	switch {
	case s.source != nil:
		return s.source.Close
	case s.discard:
		return s.target.Discard
	}
	return s.target.Close
}

// conclude lets Wait return: the store is closed, or complete.
func (s *Share) conclude() {
	if !s.concluded {
		s.concluded = true
		close(s.over)
	}
}

// enter changes the state.
func (s *Share) enter(state State) {
	if s.state != state {
		s.state = state
		s.client.config.Observe(StateChanged{s, state, s.err})
	}
}

// look finds out in which state a download is, after something changed.
func (s *Share) look() {
	if !s.wants() {
		return
	}
	switch {
	case len(s.links) > 0:
		s.enter(Downloading)
	case s.connecting() > 0:
		s.enter(Connecting)
	default:
		s.enter(Searching)
	}
}

// act carries out what the swarm decided, and what follows from it. What an
// action leads to is done after those that came before it.
func (s *Share) act() {
	if s.acting {
		return
	}
	s.acting = true
	for actions := s.swarm.Actions(); len(actions) > 0; actions = s.swarm.Actions() {
		for _, action := range actions {
			s.perform(action)
		}
	}
	s.acting = false
	s.look()
	s.client.schedule(s)
}

func (s *Share) perform(action swarm.Action) {
	c := s.client
	switch a := action.(type) {
	case swarm.Send:
		if l := c.links[a.Peer]; l != nil {
			l.send(a.Frame)
		}
	case swarm.Load:
		if l := c.links[a.Peer]; l != nil && !l.uploads.add(upload{s, a.Number, a.Block}) {
			l.send(wire.Reject{Number: a.Number, Block: a.Block})
		}
	case swarm.Unload:
		if l := c.links[a.Peer]; l != nil && l.uploads.remove(upload{s, a.Number, a.Block}) {
			l.send(wire.Reject{Number: a.Number, Block: a.Block})
		}
	case swarm.Keep:
		s.keep(a)
	case swarm.Check:
		s.check(a)
	case swarm.Verified:
		s.verified(a.Piece)
	case swarm.Drop:
		s.dropped(a)
	case swarm.Break:
		if l := c.links[a.Peer]; l != nil {
			l.breach(s.info.FullHash, a.Err)
		}
	case swarm.Described:
		s.info = a.Info
		c.config.Observe(Described{s, a.Info})
	case swarm.Complete:
		c.config.Line.Found(s.info.FullHash)
		c.job(s.target.Commit, s.committed)
		for l := range s.links {
			l.admit() // what waited for its turn
		}
	}
}

// keep hashes and writes a block elsewhere.
func (s *Share) keep(a swarm.Keep) {
	var hashes []content.Hash
	s.client.job(func() error {
		hashes = content.HashLeaves(a.Data)
		if err := s.target.WriteBlock(int(a.Block.Piece), int64(a.Block.Begin), a.Data); err != nil {
			return fmt.Errorf("keeping a piece: %w", err)
		}
		return nil
	}, func(err error) {
		switch {
		case s.state.over():
		case err != nil:
			s.leave(Failed, err)
		default:
			s.swarm.Kept(a.Block, hashes, time.Now())
			s.act()
		}
	})
}

// check finds out what is there of an earlier attempt.
func (s *Share) check(a swarm.Check) {
	ctx, cancel := context.WithCancel(context.Background())
	s.endCheck = cancel
	var have *wire.Bits
	s.client.job(func() (err error) {
		if have, err = s.target.Check(ctx, a.Info, s.checkedBytes); err != nil {
			return fmt.Errorf("looking at what is there: %w", err)
		}
		return nil
	}, func(err error) {
		cancel()
		s.checked.Store(0)
		switch {
		case s.state.over():
		case err != nil:
			s.leave(Failed, err)
		default:
			s.resumed = have.Count()
			s.swarm.Checked(have, time.Now())
			if s.resumed > 0 && !s.announce.said {
				s.sayAnnounce()
			}
			s.wakeAll()
			s.act()
		}
	})
}

// checkedBytes notes how far a check is.
func (s *Share) checkedBytes(done, _ int64) { s.checked.Store(done) }

// verified notes that a piece may be read.
func (s *Share) verified(piece int) {
	s.stamp(timeline.FirstPiece, time.Now())
	s.again = s.client.config.AskAgain
	if !s.announce.said {
		s.sayAnnounce()
	}
	s.wake(piece)
}

func (s *Share) committed(err error) {
	switch {
	case s.state.over():
	case err != nil:
		s.leave(Failed, err)
	default:
		s.stamp(timeline.Complete, time.Now())
		s.enter(Complete)
		s.conclude()
	}
}

// read reads a block from the store. Uploaders call it.
func (s *Share) read(b wire.Block, buffer []byte) error {
	return s.readAt(int(b.Piece), int64(b.Begin), buffer)
}

// readAt reads a part of a piece that is there.
func (s *Share) readAt(piece int, begin int64, buffer []byte) error {
	if s.source != nil {
		return s.source.ReadBlock(piece, begin, buffer)
	}
	return s.target.ReadBlock(piece, begin, buffer)
}

// unreadable ends a share whose store fails: what it has is no longer what it promised.
func (s *Share) unreadable(err error) {
	if !s.state.over() {
		s.leave(Failed, fmt.Errorf("reading a piece: %w", err))
	}
}

// serves notes that a peer was sent something.
func (s *Share) serves(id ident.PeerID) {
	switch {
	case s.served[id]:
	case len(s.served) < maxServed:
		s.served[id] = true
	default:
		s.servedMore++
	}
}

// dropped takes a peer out of the share: the link stays for others.
func (s *Share) dropped(a swarm.Drop) {
	if l := s.client.links[a.Peer]; l != nil {
		l.part(s)
	}
	s.lost()
	k := s.known[a.Peer]
	switch {
	case k == nil:
	case a.Banned:
		k.banned = true
	default:
		k.wait(time.Now())
	}
	s.client.config.Observe(PeerDropped{s, a.Peer, a.Reason, a.Banned})
}

// tick does what is due for the share.
func (s *Share) tick(now time.Time) {
	again := s.client.config.AskAgain
	if s.announce.said && !s.announce.heard && now.Sub(s.announce.at) >= again {
		s.sayAnnounce() // the message, or its answer, was dropped by a busy mediator
	}
	if s.wants() {
		if s.fetching() == 0 && now.Sub(s.asked) >= s.again {
			s.again = min(2*s.again, again)
			s.ask()
			s.makeRoom(now)
		}
		s.review(now)
		s.seek(now)
		s.look()
	}
}

// Status is a snapshot of a share.
type Status struct {
	State      State
	Err        error // why it failed
	Info       content.Info
	Announced  bool // it can be found through every mediator
	Swarm      swarm.Status
	Connecting int   // connections that are being set up for it
	Checked    int64 // bytes of an earlier attempt that were looked at, while that goes on
	Resumed    int   // pieces that were there already
	Uploaded   int64 // bytes that were sent to others
	Served     int   // peers that were sent something
}

// Status returns a snapshot.
func (s *Share) Status() Status {
	var status Status
	s.client.do(func() {
		status = Status{
			State: s.state, Err: s.err, Info: s.info, Announced: s.announce.heard,
			Swarm: s.swarm.Status(), Connecting: s.connecting(),
			Resumed:  s.resumed,
			Uploaded: s.uploaded.Load(), Served: len(s.served) + s.servedMore,
		}
		if !s.state.over() { // the job of a check may end after its share
			status.Checked = s.checked.Load()
		}
	})
	return status
}
