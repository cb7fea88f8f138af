package client

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
	"p2pcdn/peer/swarm"
)

// maxFetched is how many contents are fetched over a link at a time. Together they stay within
// wire.MaxRequests, above which the other side refuses.
const maxFetched = wire.MaxRequests / swarm.MaxAsked

// link is a connection to a remote peer. It is also the connection's
// [rtc.Handler]: what it hears there, it hands to the engine.
type link struct {
	client  *Client          // static after construction, as are the next five
	hash    content.FullHash // whose signals set it up
	offerer bool
	uploads *uploads
	ctx     context.Context // until the link is detached
	end     context.CancelFunc

	conn     Conn      // set once by the engine, before any of its steps
	prepared *prepared // of a link that was begun with nobody yet; static; nil: it was begun with somebody

	id ident.PeerID // owned by the engine where the link was prepared, and zero before bind; else static

	// Owned by the engine:

	open      bool
	closing   bool
	succeeded bool                   // by another link to the same peer
	offered   string                 // the last offer of the peer; "": there was none
	since     time.Time              // when it last had a share, or opened
	maxFrame  int                    // bytes that can be sent in a frame
	shares    map[*Share]bool        // contents in common, each with this peer in its swarm
	wanted    []*Share               // that are to join when it is open and it is their turn
	share     *Share                 // for which it was prepared, while it is with nobody; else nil
	numbers   map[wire.Number]*Share // by the remote's content numbers; nil: it said that number, and we said goodbye
}

// newLink begins a connection, with nobody yet where the id is zero, or returns nil where there is no room for one.
func (c *Client) newLink(id ident.PeerID, hash content.FullHash, offerer bool) *link {
	if c.ending || len(c.links)+c.unbound >= c.config.MaxConnections {
		return nil
	}
	ctx, end := context.WithCancel(context.Background())
	l := &link{
		client: c, id: id, hash: hash, offerer: offerer, uploads: newUploads(), ctx: ctx, end: end,
		shares: make(map[*Share]bool), numbers: make(map[wire.Number]*Share),
	}
	if c.all[l] = true; id.IsZero() {
		l.prepared = newPrepared()
		c.unbound++
	} else {
		c.links[id] = l
	}
	l.conn = c.config.Connect(rtc.Peering{
		Local: c.self, Remote: id, Offerer: offerer, ICEServers: c.servers, Handler: l,
	})
	return l
}

// answered is how many links there are because others wanted them.
func (c *Client) answered() int {
	n := 0
	for _, l := range c.links {
		if !l.offerer {
			n++
		}
	}
	return n
}

// signalled hands a remote signal to its link. An offer makes one: for a
// content that we have a share of, and as long as there is room.
func (c *Client) signalled(m mediation.Signal) {
	signal, err := rtc.ParseSignal(m.SignalData.String())
	if err != nil {
		c.config.Log.Debug("a signal cannot be understood", "peer", m.PeerID.Short(), "err", err)
		return
	}
	l := c.links[m.PeerID]
	if signal.Kind == rtc.Offer {
		share := c.shares[m.FullHash]
		if share == nil || m.PeerID == c.self {
			return
		}
		if l != nil && l.offered != "" && l.offered == signal.OfferID() {
			return // it came by two ways
		}
		var waiting []*Share
		if l != nil && l.open { // it begins anew, so the old connection is dead on its side
			waiting = l.replaced()
			l = nil
		}
		if l == nil {
			if c.answered() >= max(1, c.config.MaxConnections-c.config.MaxLeech) {
				return // the rest is for those that we need
			}
			if l = c.newLink(m.PeerID, m.FullHash, false); l == nil {
				return
			}
			l.wanted = waiting
		}
		if !slices.Contains(l.wanted, share) {
			l.wanted = append(l.wanted, share)
		}
		share.look()
	}
	if l != nil {
		if signal.Kind == rtc.Offer {
			l.offered = signal.OfferID()
		}
		l.conn.Signal(signal)
	}
}

// replaced closes a link that another one to the same peer is to take the place of, and returns the shares that want the
// peer. It is no failure of the peer.
func (l *link) replaced() (waiting []*Share) {
	waiting, l.wanted = l.wanted, nil
	for share := range l.shares {
		if share.wants() {
			waiting = append(waiting, share)
		}
	}
	slices.SortStableFunc(waiting, func(a, b *Share) int { return cmp.Compare(a.number, b.number) })
	l.succeeded = true
	l.close(errReplaced)
	return waiting
}

var errReplaced = errors.New("the peer begins a new connection")

// Signal implements [rtc.Handler].
func (l *link) Signal(data string) {
	var err error
	if l.prepared != nil {
		err = l.prepared.signal(l, data)
	} else {
		err = l.client.config.Line.Signal(l.hash, l.id, data)
	}
	if err != nil { // a link whose signals cannot be sent is of no use
		l.client.post(func() { l.close(fmt.Errorf("signalling: %w", err)) })
	}
}

// Opened implements [rtc.Handler].
func (l *link) Opened(maxFrame int) {
	at := time.Now()
	l.client.post(func() {
		if l.closing {
			return
		}
		l.stamp(timeline.ChannelOpen, at)
		l.open, l.maxFrame, l.since = true, maxFrame, at
		l.client.takeBack()
		l.client.jobs++
		go l.upload()
		l.admit()
	})
}

// admit brings in the shares that want the peer and whose turn it is. Those that only
// serve join when the peer's handshake comes.
func (l *link) admit() {
	if !l.open || l.closing {
		return
	}
	fetched := 0
	for share := range l.shares {
		if share.wants() {
			fetched++
		}
	}
	waiting := l.wanted
	l.wanted = nil
	for _, share := range waiting {
		switch {
		case share.state.over() || l.shares[share]:
		case share.wants() && fetched >= maxFetched:
			l.wanted = append(l.wanted, share)
		case share.wants():
			fetched++
			l.join(share, true)
		}
	}
}

// Frame implements [rtc.Handler].
func (l *link) Frame(data []byte) {
	frame, err := wire.Decode(bytes.Clone(data))
	if errors.Is(err, &wire.Error{Code: wire.CodeUnknownType}) {
		return // of a later version
	}
	l.client.post(func() {
		switch {
		case l.closing:
		case err != nil:
			l.breach(content.FullHash{}, fmt.Errorf("reading a frame: %w", err))
		default:
			l.received(frame)
		}
	})
}

// Closed implements [rtc.Handler].
func (l *link) Closed(err error) {
	l.client.post(func() {
		if l.share != nil { // nobody took its offer in time, and the mediator is not to hand it out any more
			l.takeBack()
		}
		l.detach()
		delete(l.client.all, l)
		if err != nil {
			l.client.config.Log.Debug("a connection ended", "peer", l.id.Short(), "err", err)
		}
	})
}

// received hands a frame to the swarm that it is for.
func (l *link) received(frame wire.Frame) {
	switch f := frame.(type) {
	case wire.Handshake:
		l.handshake(f)
	case wire.Goodbye:
		if share := l.client.shares[f.FullHash]; share != nil && l.shares[share] {
			l.deliver(share, f)
		}
	default:
		share, known := l.numbers[frame.ContentNumber()]
		switch {
		case !known:
			l.breach(content.FullHash{}, fmt.Errorf("content number %d without a handshake", frame.ContentNumber()))
		case share != nil:
			l.deliver(share, frame)
		} // or else goodbye was said, and this crossed it
	}
}

func (l *link) handshake(f wire.Handshake) {
	share := l.client.shares[f.FullHash]
	if other := l.numbers[f.Number]; other != nil && other != share {
		l.breach(f.FullHash, fmt.Errorf("content number %d stands for two contents", f.Number))
		return
	}
	l.numbers[f.Number] = nil
	if share == nil {
		l.send(wire.Goodbye{FullHash: f.FullHash, Reason: wire.ReasonNotHere})
		return
	}
	if !l.shares[share] {
		if share.full() {
			l.send(wire.Goodbye{FullHash: f.FullHash, Reason: wire.ReasonOverloaded})
			return
		}
		l.join(share, false)
	}
	if l.shares[share] { // it may be banned
		l.numbers[f.Number] = share
		l.deliver(share, f)
	}
}

func (l *link) deliver(share *Share, frame wire.Frame) {
	share.swarm.Received(l.id, frame, time.Now())
	share.act()
}

// join brings the peer into the share's swarm; likely says that it should have the content.
func (l *link) join(share *Share, likely bool) {
	l.shares[share], share.links[l] = true, true
	l.wanted = slices.DeleteFunc(l.wanted, func(other *Share) bool { return other == share })
	if share.prepared != nil { // it would be one more; the mediator is not to hand it out any more
		share.prepared.takeBack()
	}
	share.swarm.Connected(l.id, l.maxFrame, likely && !l.client.config.leavesOut(CutEarly), time.Now())
	share.act()
}

// part takes the peer out of the share, whose swarm knows already.
func (l *link) part(share *Share) {
	delete(l.shares, share)
	delete(share.links, l)
	l.since = time.Now()
	l.uploads.drop(share)
	for number, other := range l.numbers {
		if other == share {
			l.numbers[number] = nil
		}
	}
	l.admit()
}

// send queues a frame. A connection that cannot take it is closing: its end is told by Closed.
func (l *link) send(frame wire.Frame) { l.sendFrame(wire.Append(nil, frame)) }

func (l *link) sendFrame(frame []byte) {
	if err := l.conn.Send(frame); err != nil {
		l.client.config.Log.Debug("a frame was not sent", "peer", l.id.Short(), "err", err)
	}
}

// breach ends the link with a peer that cannot be understood, and tells it why.
func (l *link) breach(hash content.FullHash, err error) {
	text := err.Error()
	for len(text) > wire.MaxMessage || !utf8.ValidString(text) {
		text = text[:min(len(text)-1, wire.MaxMessage)]
	}
	l.send(wire.Goodbye{FullHash: hash, Reason: wire.ReasonProtocolError, Message: text})
	for share := range l.shares {
		if k := share.known[l.id]; k != nil {
			k.banned = true
		}
	}
	l.close(fmt.Errorf("the peer broke the protocol: %w", err))
}

// close ends the link; Closed comes later.
func (l *link) close(err error) {
	l.detach()
	l.conn.Close(err)
}

// detach takes the link out of everything but the set of all.
func (l *link) detach() {
	if l.closing {
		return
	}
	l.closing = true
	if l.client.links[l.id] == l {
		delete(l.client.links, l.id)
	}
	l.unprepared()
	l.uploads.close()
	l.end()
	now := time.Now()
	for share := range l.shares {
		l.part(share)
		share.swarm.Disconnected(l.id, now)
		l.missed(share, now)
		share.act()
		share.lost()
	}
	for _, share := range l.wanted {
		l.missed(share, now)
		share.look()
	}
	l.open = false
}

// missed puts off the next attempt to reach the peer for a share.
func (l *link) missed(share *Share, now time.Time) {
	if k := share.known[l.id]; k != nil && !l.succeeded {
		k.wait(now)
	}
}
