package swarm

import (
	"slices"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
)

// largePiece is from where on several peers fetch one piece together rather than
// a piece each, in bytes: it is whole, and can be passed on, that much earlier.
const largePiece = 1 << 20

// fill asks peers for as much as may be in flight. It is called after every event.
func (s *Swarm) fill(now time.Time) {
	switch {
	case s.complete:
	case len(s.spans) > 0:
		s.askHashes(now)
	case !s.checking:
		if len(s.solo) > 0 {
			s.reclaim()
		}
		for _, r := range s.order {
			s.fillPeer(r, now)
		}
	}
}

// fillPeer asks a peer for blocks, within what it may owe, what the disk takes and what
// the rate allows.
func (s *Swarm) fillPeer(r *remote, now time.Time) {
	if r.has == nil {
		return
	}
	budget := r.pace.budget(s.InFlight)
	if r.presumed {
		budget = min(budget, earlyBytes)
	}
	if r.silent {
		budget = 1 // one block, to see whether it is there again
	}
	// Several blocks in one frame, where nobody waits for one.
	if r.inFlight > budget-r.pace.portion(budget) && len(s.urgent) == 0 && !s.picker.empty() {
		return
	}
	var blocks []wire.Block
	for r.inFlight < budget && len(r.asked) < MaxAsked && s.keeping < maxKeeping && !now.Before(s.thirsty) {
		p, block := s.nextFor(r)
		if p == nil || !s.allowed(now, int(block.Length)) {
			break
		}
		p.ask(block)
		if r.waits == 0 {
			r.heard, r.stalled = now, false // its patience begins with what it owes
			r.pace.idle()
		}
		r.asked = append(r.asked, asked{Block: block, of: p, attempt: p.attempt, at: now})
		r.inFlight += int(block.Length)
		r.waits++
		blocks = append(blocks, block)
	}
	if len(blocks) > 0 {
		s.send(r, wire.Request{Number: s.Number, Blocks: blocks})
	}
}

// allowed asks Allow, and notes when to ask it again.
func (s *Swarm) allowed(now time.Time, bytes int) bool {
	s.thirsty = time.Time{}
	if s.Allow == nil {
		return true
	}
	wait := s.Allow(now, bytes)
	if wait > 0 {
		s.thirsty = now.Add(wait)
	}
	return wait <= 0
}

// nextFor returns the block that the peer is to be asked next, and its piece, which is open;
// nil if there is none.
func (s *Swarm) nextFor(r *remote) (*openPiece, wire.Block) {
	length := min(wire.BlockLength(r.maxFrame), r.pace.block(s.InFlight))
	p := s.urgentFor(r)
	if p == nil {
		if head := s.head(); head != nil {
			if p, block := s.duplicate(r, length, head); p != nil {
				return p, block
			}
		}
		p = s.pieceFor(r)
	}
	if p != nil {
		block, _ := p.run(0, len(p.leaves), length, unaskedLeaf)
		return p, block
	}
	if s.picker.empty() {
		return s.duplicate(r, length, nil)
	}
	return nil, wire.Block{}
}

// urgentFor returns a piece that a reader waits for.
func (s *Swarm) urgentFor(r *remote) *openPiece {
	for _, run := range s.urgent {
		for index := run.First; index < run.End; index++ {
			if s.have.Has(index) || !s.mayFetch(r, index) {
				continue
			}
			p := s.open[uint32(index)]
			if p == nil {
				return s.begin(r, index)
			}
			if s.mayJoin(p, r) {
				return p
			}
		}
	}
	return nil
}

// mayJoin reports whether the peer may be asked for what nobody was asked for yet.
func (s *Swarm) mayJoin(p *openPiece, r *remote) bool {
	if p.unasked == 0 || p.spoilt {
		return false
	}
	if p.solo && p.from == nil && !s.isSlow(r, p) {
		p.from = r
	}
	return !p.solo || p.from == r
}

// isSlow reports whether another peer would send the rest of a piece, all of it, much earlier
// than this one sends what it lacks. A piece that one peer alone must send is not for such a one: a liar could keep it.
func (s *Swarm) isSlow(r *remote, p *openPiece) bool {
	rest := r.pace.takes(p.missing * content.LeafLength)
	return slices.ContainsFunc(s.order, func(other *remote) bool {
		return other != r && !other.silent && !other.stalled && other.has != nil && other.has.Has(p.index) &&
			2*other.pace.takes(other.inFlight+int(p.size))+stallAfter < rest
	})
}

// reclaim takes pieces that one peer alone must send from peers that are slow, so that they
// are begun anew with another one.
func (s *Swarm) reclaim() {
	for _, p := range s.opened {
		if !p.solo || p.from == nil || p.spoilt || !s.isSlow(p.from, p) {
			continue
		}
		s.takeBack(p.from, p)
		p.restart()
	}
}

// pieceFor returns an open piece of which the peer is to be asked a block: its own
// first, then one that nobody fetches, then a new one; and before that, where pieces are
// large, or else after it, one that others fetch.
func (s *Swarm) pieceFor(r *remote) *openPiece {
	var orphan, other *openPiece
	for _, p := range s.opened {
		switch {
		case p.unasked == 0 || p.spoilt:
		case p.from == r:
			return p
		case p.from == nil && orphan == nil && s.mayFetch(r, p.index) && !(p.solo && s.isSlow(r, p)):
			orphan = p
		case p.from != nil && other == nil && !p.solo && s.mayFetch(r, p.index):
			other = p
		}
	}
	if orphan != nil {
		orphan.from = r
		return orphan
	}
	if other != nil && s.geometry.PieceLength >= largePiece {
		return other
	}
	if index := s.choose(r); index >= 0 && s.makeRoom(r) {
		return s.begin(r, index)
	}
	return other
}

// begin opens a piece for a peer.
func (s *Swarm) begin(r *remote, index int) *openPiece {
	p := newOpenPiece(index, s.geometry, s.solo[index])
	p.from = r
	s.withdraw(index)
	s.open[uint32(index)] = p
	s.opened = append(s.opened, p)
	return p
}

// mayFetch says whether the piece may be asked of the peer: it has it, and, where the
// peer was silent, nobody better does.
func (s *Swarm) mayFetch(r *remote, piece int) bool {
	if !r.has.Has(piece) {
		return false
	}
	return !r.silent || !slices.ContainsFunc(s.order, func(other *remote) bool {
		return !other.silent && other.has != nil && other.has.Has(piece)
	})
}

// somebodyHasAll reports whether a peer that is not silent has everything: then nothing is asked of one that is.
func (s *Swarm) somebodyHasAll() bool {
	return slices.ContainsFunc(s.order, func(r *remote) bool { return r.all && !r.silent })
}

// choose picks the piece to open next for a peer: any for the very first, then the
// rarest, ties at random; -1 if the peer has none that is wanted.
func (s *Swarm) choose(r *remote) int {
	if r.offered == 0 || (r.silent && s.somebodyHasAll()) {
		return -1
	}
	may := func(piece int) bool { return s.mayFetch(r, piece) }
	if s.have.Count() == 0 && len(s.opened) == 0 {
		return s.picker.any(may)
	}
	return s.picker.rarest(may)
}

// makeRoom says whether one more piece may be open. Where there is no room it
// gives up a piece that nobody fetches and this peer does not have.
func (s *Swarm) makeRoom(r *remote) bool {
	if len(s.opened) == 0 || int64(len(s.opened)+1)*s.geometry.PieceLength <= int64(s.OpenBytes) {
		return true
	}
	for i, p := range s.opened {
		if p.from == nil && p.arrived == 0 && !s.mayFetch(r, p.index) {
			s.opened = slices.Delete(s.opened, i, i+1)
			delete(s.open, uint32(p.index))
			s.offer(p.index)
			return true
		}
	}
	return false
}

// head returns the piece that a reader waits for right now, if it is on its way.
func (s *Swarm) head() *openPiece {
	if len(s.urgent) == 0 {
		return nil
	}
	for index := s.urgent[0].First; index < s.urgent[0].End; index++ {
		if !s.have.Has(index) {
			return s.open[uint32(index)]
		}
	}
	return nil
}

// duplicate is for the endgame, where nothing is left that nobody was asked for (of is nil then), and for
// the piece that a reader waits for. It returns the block that would come last of all that others
// owe, if this peer would send it much earlier; whoever is second is sent a cancel. Rates are only
// estimates, so in the endgame no more than one block at a time is asked for twice, where no peer has stalled.
func (s *Swarm) duplicate(r *remote, length int, of *openPiece) (*openPiece, wire.Block) {
	if r.silent {
		return nil, wire.Block{}
	}
	var piece *openPiece
	var block wire.Block
	latest := 2*r.pace.takes(r.inFlight+length) + jitter
	for _, other := range s.order {
		if other == r || other.waits == 0 || (of == nil && !other.stalled && r.inFlight > 0) {
			continue
		}
		eta := other.pace.takes(other.inFlight)
		if other.stalled {
			eta = s.Patience // at least: longer than everybody who has not
		}
		if eta <= latest {
			continue
		}
		if p, b, found := s.lastOwed(r, other, length, of); found {
			piece, block, latest = p, b, eta
		}
	}
	return piece, block
}

// lastOwed returns the last block that a peer owes and that another one may be asked for, too.
func (s *Swarm) lastOwed(r, owner *remote, length int, of *openPiece) (*openPiece, wire.Block, bool) {
	for i := len(owner.asked) - 1; i >= 0; i-- {
		a := owner.asked[i]
		p := a.of
		if a.cancelled || a.attempt != p.attempt || p.solo || p.spoilt || (of != nil && p != of) || !r.has.Has(p.index) {
			continue
		}
		if block, found := p.alone(a.Block, length); found {
			return p, block, true
		}
	}
	return nil, wire.Block{}, false
}

// alone returns the first run of the block's leaves that did not come and that one peer
// owes alone, as a block of at most length bytes.
func (p *openPiece) alone(b wire.Block, length int) (wire.Block, bool) {
	first, end := span(b)
	return p.run(first, end, length, func(l *leaf) bool { return l.state == leafMissing && l.askers < maxAskers })
}

// handOver asks a peer that says it has a piece for what peers that have everything owe of
// it, where those would not be sooner: what others can send is not fetched from them, so that they
// are left free for what only they have. Otherwise leechers that came together all ask a seeder for
// the same pieces, and it sends each of them half as often again as it must.
func (s *Swarm) handOver(r *remote, piece int) {
	p := s.open[uint32(piece)]
	if p == nil || p.solo || p.spoilt || r.all || r.silent || r.stalled || s.picker.empty() || s.isUrgent(piece) {
		return
	}
	for _, other := range s.order {
		if !other.all || other.pace.takes(other.inFlight) < r.pace.takes(r.inFlight+int(p.size)) {
			continue
		}
		if s.takeBack(other, p) {
			p.from = r
		}
	}
}

// takeBack cancels what a peer owes of the piece, and reports whether that was anything.
func (s *Swarm) takeBack(r *remote, p *openPiece) (any bool) {
	for i := range r.asked {
		if a := &r.asked[i]; a.of == p && a.attempt == p.attempt && !a.cancelled {
			s.cancel(r, a)
			any = true
		}
	}
	return any
}

// isUrgent reports whether a reader waits for the piece.
func (s *Swarm) isUrgent(piece int) bool {
	return slices.ContainsFunc(s.urgent, func(r Range) bool { return r.First <= piece && piece < r.End })
}

// Urge says what readers wait for, most urgent first: these pieces are fetched
// before all others, from everybody who has them, in this order. It replaces what was said before.
// Pieces that are there cost little, but do not hand in more than a few hundred.
func (s *Swarm) Urge(ranges []Range, now time.Time) {
	s.urgent = s.urgent[:0]
	for _, r := range ranges {
		r.First, r.End = max(r.First, 0), min(r.End, s.geometry.Pieces())
		if r.First < r.End {
			s.urgent = append(s.urgent, r)
		}
	}
	s.fill(now)
}

// rejected takes the refusal of a block. The peer is not asked for that piece
// for a while, or before it says anew that it has it.
func (s *Swarm) rejected(r *remote, b wire.Block, now time.Time) {
	a, found := r.take(b, true)
	if !found || a.cancelled {
		return
	}
	r.heard, r.stalled = now, false
	if a.attempt == a.of.attempt {
		a.of.unask(b)
	}
	if a.of.from == r {
		s.abandon(a.of)
	}
	if r.has.Has(int(b.Piece)) {
		s.loses(r, int(b.Piece))
		r.refused = append(r.refused, int(b.Piece))
		if r.pardon.IsZero() {
			r.pardon = now.Add(s.Patience)
		}
	}
}

// forgive counts the pieces that a peer refused as its own again.
func (s *Swarm) forgive(r *remote) {
	for _, piece := range r.refused {
		s.gains(r, piece)
	}
	r.refused, r.pardon = nil, time.Time{}
}
