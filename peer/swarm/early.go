package swarm

import (
	"slices"
	"time"

	"p2pcdn/common/wire"
)

// earlyBytes is how much is asked of a peer before it said what it has: what comes within the first round trips of a
// connection, since a sender begins slowly (RFC 9260, 7.2.1). More would be lost on one that has little.
const earlyBytes = 64 << 10

// early asks a peer that should have the content before it said so: the questions go in one flight with our
// handshake, which saves a round trip, and content of one block is there with the first answer. Until its
// handshake and bitfield come it is taken for one that has everything; what it does not have it rejects.
//
// Blocks of which the piece hashes are still to come, in the same flight before them, are asked for where
// all hashes are one answer, and nothing is in the store that they would have to be compared with first.
func (s *Swarm) early(r *remote, now time.Time) {
	if s.complete || s.checking {
		return
	}
	if len(s.spans) > 0 {
		s.askSpan(r, now)
		if r.span == nil || len(s.spans) > 1 || s.Check {
			return
		}
	}
	r.has, r.all, r.presumed = wire.NewBits(s.geometry.Pieces()), true, true
	r.has.Fill()
	r.offered = len(s.picker.order)
	s.fillPeer(r, now)
}

// unpresume forgets what was presumed of a peer.
func (r *remote) unpresume() {
	r.has, r.all, r.offered, r.presumed = nil, false, 0, false
}

// reconsider takes back what the peer was asked for too early, now that it is known what it has. Its
// rejections are still to come, and it need not be told.
func (s *Swarm) reconsider(r *remote) {
	for i := range r.asked {
		if a := &r.asked[i]; !a.cancelled && !r.has.Has(int(a.Piece)) {
			s.disown(r, a)
		}
	}
	for _, p := range slices.Clone(s.opened) {
		if p.from == r && !r.has.Has(p.index) {
			s.abandon(p)
		}
	}
}
