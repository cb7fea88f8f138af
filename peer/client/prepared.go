package client

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"p2pcdn/common/ident"
	"p2pcdn/common/timeline"
	"p2pcdn/peer/rtc"
)

const (
	// describing is how long a question waits for its offer at the most. It takes a few milliseconds.
	describing = 100 * time.Millisecond

	// settling is how long it waits then for the addresses of this machine, which come together. Those that
	// a STUN server has to be asked for follow by themselves; where the line is not open yet, they are there in time.
	settling = 5 * time.Millisecond

	// maxJoined is how many peers that are connected for other contents are asked for a new one.
	maxJoined = 4
)

// prepared is what a link has to say that is with nobody yet: its offer travels with a get_peers, and its candidates with
// it or after it.
type prepared struct {
	described chan struct{} // closed when there is an offer
	gathered  chan struct{} // closed when there are no more candidates

	// Guarded by mu:

	mu         sync.Mutex
	offer      rtc.Signal          // without a Kind before there is one
	candidates []*rtc.ICECandidate // all; bounded by what WebRTC gathers
	end        bool                // of the candidates
	sent       int                 // how many of them stand in every offer that was sent
	asked      bool                // one was sent
	to         ident.PeerID        // whom the link is with; zero: nobody yet
	over       bool                // nobody is to get the offer any more
}

func newPrepared() *prepared {
	return &prepared{described: make(chan struct{}), gathered: make(chan struct{})}
}

// signal keeps what the connection wants to say, or sends it when it is known to whom.
func (p *prepared) signal(l *link, data string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.to.IsZero() {
		return l.client.config.Line.Signal(l.hash, p.to, data)
	}
	signal, err := rtc.ParseSignal(data)
	switch {
	case err != nil: // our own is always right
	case signal.Kind == rtc.Offer && p.offer.Kind == "":
		p.offer = signal
		close(p.described)
	case signal.Candidate != nil:
		p.candidates = append(p.candidates, signal.Candidate)
	case !p.end:
		p.end = true
		close(p.gathered)
	}
	return nil
}

// text is the offer as it is now; "" where there is none, or none any more. It is a [signaling.Offering].
func (p *prepared) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.offer.Kind == "" || p.over || !p.to.IsZero() {
		return ""
	}
	return p.whole().String()
}

// whole is the offer as it is to be sent now. mu is held.
func (p *prepared) whole() rtc.Signal {
	offer, taken := p.offer.With(p.candidates)
	if !p.asked || taken < p.sent { // whoever has an earlier one lacks what came later
		p.sent = taken
	}
	p.asked = true
	return offer
}

// bind says to whom it goes: to a peer that has the offer already, or not. What it has not, it is sent, before
// anything that comes later.
func (p *prepared) bind(l *link, to ident.PeerID, offered bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
	var texts []string
	if !offered && p.offer.Kind != "" {
		texts = append(texts, p.whole().String())
	}
	for _, candidate := range p.candidates[p.sent:] {
		texts = append(texts, rtc.Signal{Kind: rtc.Candidate, Candidate: candidate}.String())
	}
	if p.end {
		texts = append(texts, rtc.Signal{Kind: rtc.Candidate}.String())
	}
	p.candidates = nil
	for _, text := range texts {
		if err := l.client.config.Line.Signal(l.hash, to, text); err != nil {
			return err
		}
	}
	return nil
}

// prepare begins a connection with nobody yet, and asks for peers when its offer is there. It returns false where
// somebody is connected, or is being connected: a mediator that hands out an offer does not know with whom, and a second
// offer to one peer would end the first connection with it. So there is one prepared link at most, and what others
// ask waits until it has asked, so that they are answered after it.
func (s *Share) prepare() bool {
	c := s.client
	switch {
	case s.prepared != nil: // the question before this one had it: it goes with this one, too
		s.say(s.prepared.prepared.text)
		return true
	case c.describing:
		c.behind = append(c.behind, s)
		return true
	case c.config.NoTrickle || c.config.leavesOut(CutOffer) || !s.wants() || len(c.links)+c.unbound > 0:
		return false
	}
	l := c.newLink(ident.PeerID{}, s.info.FullHash, true)
	if l == nil {
		return false
	}
	s.prepared, l.share = l, s
	c.describing = true
	c.job(func() error { l.prepared.describe(l.ctx.Done()); return nil }, func(error) {
		behind := c.behind
		c.describing, c.behind = false, nil
		s.say(l.prepared.text)
		for _, share := range behind {
			share.say(nil)
		}
	})
	return true
}

// describe waits until there is an offer that is worth sending, or it is too late.
func (p *prepared) describe(ended <-chan struct{}) {
	patience := time.NewTimer(describing)
	defer patience.Stop()
	select {
	case <-p.described:
	case <-patience.C:
		return
	case <-ended:
		return
	}
	patience.Reset(settling)
	select {
	case <-p.gathered:
	case <-patience.C:
	case <-ended:
	}
}

// handed says that the mediator handed our offer to a peer. Another one than the first does not count; nor does one that is
// connected already, or that lied. Where that peer's own offer came meanwhile, the one of the lower id stands, here as
// there. Where it was sent another one of ours, which of them it answers cannot be known: it is begun with anew.
func (s *Share) handed(id ident.PeerID) {
	k, other := s.known[id], s.client.links[id]
	switch {
	case s.prepared == nil && other != nil && other.offerer && other.prepared == nil && !other.open: // a second one got it, who has another one, too
		s.replace(other, func() *link { return s.client.newLink(id, s.info.FullHash, true) })
	case s.prepared == nil:
	case k == nil || k.banned || other != nil && other.open:
		s.unprepare() // the offer is spent
	case other == nil:
		s.bind(id, true)
	case other.offerer:
		s.unprepare()
		s.replace(other, func() *link { return s.client.newLink(id, s.info.FullHash, true) })
	case bytes.Compare(s.client.self[:], id[:]) < 0:
		s.replace(other, func() *link { return s.bind(id, true) })
	default:
		s.unprepare()
	}
}

// replace puts another link in the place of one that is not open yet, for all shares that wait for it.
func (s *Share) replace(other *link, begin func() *link) {
	waiting := other.replaced()
	l := begin()
	if l == nil {
		return // there is room: there was for the other one
	}
	for _, share := range append(waiting, s) {
		if !slices.Contains(l.wanted, share) {
			l.wanted = append(l.wanted, share)
		}
	}
}

// bind makes the prepared link one to a peer, which has its offer already, or is sent it.
func (s *Share) bind(id ident.PeerID, offered bool) *link {
	l, c := s.prepared, s.client
	s.prepared, l.share = nil, nil
	c.unbound--
	c.links[id], l.id = l, id
	l.wanted = append(l.wanted, s)
	l.conn.Bind(c.self, id, c.servers)
	if err := l.prepared.bind(l, id, offered); err != nil {
		l.close(fmt.Errorf("signalling: %w", err))
	} else if !offered {
		s.stamp(timeline.OfferSent, time.Now())
	}
	return l
}

// unprepare closes the prepared link, if there is one.
func (s *Share) unprepare() {
	if s.prepared != nil {
		s.prepared.close(nil)
	}
}

// takeBack has the mediator hand out the prepared offer no more, if there is one: whoever is connected may be the one who
// would get it.
func (c *Client) takeBack() {
	for l := range c.all {
		if l.share != nil {
			l.takeBack()
			return // there is one at most
		}
	}
}

// takeBack closes a link that is with nobody yet, and asks again without its offer if it was asked with it.
func (l *link) takeBack() {
	share := l.share
	l.prepared.mu.Lock()
	asked := l.prepared.asked
	l.prepared.mu.Unlock()
	l.close(nil)
	if asked {
		share.say(nil)
	}
}

// unprepared takes a link that is being closed from the share for which it was prepared.
func (l *link) unprepared() {
	if l.share == nil {
		return
	}
	l.prepared.mu.Lock()
	l.prepared.over = true
	l.prepared.mu.Unlock()
	l.share.prepared, l.share = nil, nil
	l.client.unbound--
}

// joinThere asks some of the peers that are connected already: who has one content of a page has others, too. Who
// does not have this one says so.
func (s *Share) joinThere() {
	if s.client.config.leavesOut(CutJoin) {
		return
	}
	open := slices.DeleteFunc(slices.Collect(maps.Values(s.client.links)), func(l *link) bool { return !l.open || l.closing })
	// Those that share most with us come first, and of those the newest.
	slices.SortFunc(open, func(a, b *link) int {
		return cmp.Or(cmp.Compare(len(b.shares), len(a.shares)), b.since.Compare(a.since), bytes.Compare(a.id[:], b.id[:]))
	})
	for _, l := range open[:min(len(open), maxJoined)] {
		l.wanted = append(l.wanted, s)
		l.admit()
	}
}
