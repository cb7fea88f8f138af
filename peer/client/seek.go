package client

import (
	"cmp"
	"math"
	"slices"
	"time"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/peer/signaling"
)

const (
	// maxKnown bounds the peers that are remembered for a share: a hundred times
	// those that are connected. What was left out is named again when asked for.
	maxKnown = 1024

	// firstWait and lastWait bound the time before a peer is tried again with
	// which it did not work out; it doubles each time.
	firstWait = 5 * time.Second
	lastWait  = 2 * time.Minute

	// firstAgain is how soon peers are asked for anew when the last one is lost; it doubles up to
	// Config.AskAgain.
	firstAgain = time.Second

	// alike is how many percent faster than the slowest a peer may be and still count as equally slow: as much
	// as one and the same peer differs from one review to the next. Where six leechers share its
	// uplink and one goes, each of the others gets 6/5 of what it got.
	alike = 20
)

// known is a peer that was named as having a content.
type known struct {
	banned bool
	failed int       // how often it did not work out
	notYet time.Time // it is not tried before
}

// due reports whether the peer may be tried.
func (k *known) due(now time.Time) bool { return !k.banned && !now.Before(k.notYet) }

// wait puts the next attempt off.
func (k *known) wait(now time.Time) {
	k.notYet = now.Add(min(lastWait, firstWait<<min(k.failed, 8)))
	k.failed++
}

// ask asks the mediator for peers, with an offer for one of them if nobody is there yet.
func (s *Share) ask() {
	s.asked = time.Now()
	if !s.prepare() {
		s.say(nil)
	}
}

// say sends the question, if it still is one.
func (s *Share) say(offer signaling.Offering) {
	if s.wants() {
		s.client.config.Line.GetPeers(s.info.FullHash, offer)
	}
}

// lost sees to it that peers are asked for soon, if there is nobody left to fetch from.
func (s *Share) lost() {
	if s.wants() && s.fetching() == 0 {
		s.again = firstAgain
	}
}

// named takes peers that the mediator names, and the one of them that has our offer. None: the search is over.
func (s *Share) named(m mediation.Peers) {
	now := time.Now()
	for _, id := range m.Peers {
		if id == s.client.self || slices.Contains(s.client.former, id) || s.known[id] != nil {
			continue
		}
		if len(s.known) >= maxKnown {
			break
		}
		s.known[id] = &known{}
		s.order = append(s.order, id)
		s.stamp(timeline.PeersNamed, now)
	}
	if !m.Offered.IsZero() {
		s.handed(m.Offered)
	}
	s.seek(now)
	if len(m.Peers) == 0 {
		s.unprepare()
	}
	s.look()
}

// seek connects to peers that were named, as many as are wanted.
func (s *Share) seek(now time.Time) {
	if !s.wants() || s.client.ending {
		return
	}
	s.order = slices.DeleteFunc(s.order, func(id ident.PeerID) bool { return s.known[id] == nil })
	// Those that were tried least come first, so that everybody gets a turn.
	slices.SortStableFunc(s.order, func(a, b ident.PeerID) int { return s.known[a].failed - s.known[b].failed })
	room := s.room()
	for _, id := range s.order {
		if room <= 0 {
			return
		}
		if s.known[id].due(now) && s.meet(id) {
			room--
		}
	}
}

// room is how many more peers are wanted.
func (s *Share) room() int { return s.client.config.MaxLeech - s.leeching() - s.connecting() }

// makeRoom leaves one of the peers that we connected to, none of which is of use now,
// if there is no room for another one that could be tried.
func (s *Share) makeRoom(now time.Time) {
	if s.room() > 0 || !s.hasUntried(now) {
		return
	}
	for _, id := range s.order {
		if l := s.client.links[id]; l != nil && l.offerer && s.links[l] && len(l.shares)+len(l.wanted) == 1 {
			l.close(nil)
			return
		}
	}
}

// review is what peers had delivered when they were last compared.
type review struct {
	at        time.Time
	delivered map[ident.PeerID]int64 // bytes; bounded by the peers of the swarm
}

// candidate is a peer that may be left.
type candidate struct {
	link *link
	got  int64         // bytes, since the last review
	rtt  time.Duration // 0: not known, since it never answered
}

// review compares now and then what peers delivered. Where all places are taken and
// somebody waits who was not tried yet, the worst of those that we connected to makes room, if it
// delivered less than half of what they do on average.
func (s *Share) review(now time.Time) {
	if now.Sub(s.reviewed.at) < s.client.config.Review {
		return
	}
	before := s.reviewed.delivered
	s.reviewed = review{now, make(map[ident.PeerID]int64)}
	var mayLeave []candidate
	var sum, compared int64
	for _, peer := range s.swarm.Status().Peers {
		s.reviewed.delivered[peer.ID] = peer.Delivered
		l, then, known := s.client.links[peer.ID], int64(0), false
		if then, known = before[peer.ID]; !known || l == nil {
			continue // too new to be judged
		}
		got := peer.Delivered - then
		compared, sum = compared+1, sum+got
		if l.offerer && len(l.shares)+len(l.wanted) == 1 {
			mayLeave = append(mayLeave, candidate{l, got, peer.RTT})
		}
	}
	mayLeave = slices.DeleteFunc(mayLeave, func(c candidate) bool { return c.got*compared*2 >= sum })
	if len(mayLeave) > 0 && s.room() <= 0 && s.hasUntried(now) {
		worst(mayLeave).link.close(nil)
	}
}

// worst returns the farthest of those that delivered least, or hardly more; of some that are equally far, the
// slowest, and then the first. There must be one.
func worst(candidates []candidate) candidate {
	least := slices.MinFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.got, b.got) }).got
	slow := slices.DeleteFunc(slices.Clone(candidates), func(c candidate) bool { return c.got*100 > least*(100+alike) })
	return slices.MaxFunc(slow, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.distance(), b.distance()), cmp.Compare(b.got, a.got))
	})
}

// distance is the round trip. A peer that never answered is farther than any other.
func (c candidate) distance() time.Duration {
	if c.rtt == 0 {
		return math.MaxInt64
	}
	return c.rtt
}

// hasUntried reports whether there is a peer that could be tried.
func (s *Share) hasUntried(now time.Time) bool {
	return slices.ContainsFunc(s.order, func(id ident.PeerID) bool {
		k := s.known[id]
		return k != nil && k.due(now) && s.client.links[id] == nil
	})
}

// leeching is how many peers there are to fetch from: those that we connected to, and
// those that came and have something. Who came with nothing leaves room for others.
func (s *Share) leeching() int {
	useful, n := s.useful(), 0
	for l := range s.links {
		if l.offerer || useful[l.id] {
			n++
		}
	}
	return n
}

// fetching is how many peers have, or may soon have, what we lack.
func (s *Share) fetching() int { return len(s.useful()) }

// useful returns the peers that were asked for something, or have more than we do, and answer.
func (s *Share) useful() map[ident.PeerID]bool {
	status := s.swarm.Status()
	useful := make(map[ident.PeerID]bool)
	for _, peer := range status.Peers {
		if !peer.Silent && (peer.Owes > 0 || peer.Pieces > status.Have) {
			useful[peer.ID] = true
		}
	}
	return useful
}

// meet brings the share together with a peer, over the link that there is or a new
// one; false if they are together already, or there is no room for a link.
func (s *Share) meet(id ident.PeerID) bool {
	l := s.client.links[id]
	switch {
	case l == nil && s.prepared != nil:
		s.bind(id, false)
	case l == nil:
		if l = s.client.newLink(id, s.info.FullHash, true); l == nil {
			return false
		}
		l.wanted = append(l.wanted, s)
	case !s.links[l] && !slices.Contains(l.wanted, s):
		l.wanted = append(l.wanted, s)
		l.admit()
	default:
		return false
	}
	return true
}

// connecting is how many links are being set up for the share, or are there and let it wait for its turn.
func (s *Share) connecting() int {
	n := 0
	for _, l := range s.client.links {
		if slices.Contains(l.wanted, s) {
			n++
		}
	}
	return n
}
