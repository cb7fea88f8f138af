package swarm

import (
	"slices"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// delivered takes a block that a peer sends. What was asked for and has not come
// goes to the driver; of the rest, nothing is needed.
func (s *Swarm) delivered(r *remote, f wire.Piece, now time.Time) {
	block := f.Block()
	a, found := r.take(block, false)
	if !found {
		return // not asked for: a wrong piece, begin or length, or no longer owed
	}
	r.pace.came(int(block.Length), now)
	r.pace.answered(now.Sub(a.at))
	r.heard, r.silent, r.stalled = now, false, false
	p := a.of
	if !a.cancelled && a.attempt == p.attempt {
		p.unask(block)
	}
	if len(s.spans) > 0 || s.checking { // it was asked for early, and came before what it is compared with: it is asked for again
		return
	}
	if s.open[block.Piece] != p || a.attempt != p.attempt || p.spoilt || (p.solo && p.from != r) {
		return
	}
	first, end := span(block)
	for first < end {
		run := first
		for run < end && p.leaves[run].state == leafMissing {
			run++
		}
		if run > first {
			s.arrived(p, first, run, r, f)
		}
		first = max(run, first+1)
	}
}

// arrived hands a run of leaves out of a frame to the driver, and asks nobody for them any more.
func (s *Swarm) arrived(p *openPiece, first, end int, r *remote, f wire.Piece) {
	p.arrive(first, end, r.id)
	block := p.block(first, end)
	s.keeping += int(block.Length)
	s.do(Keep{block, f.Data[block.Begin-f.Begin:][:block.Length]})
	if !slices.ContainsFunc(p.leaves[first:end], func(l leaf) bool { return l.askers > 0 }) {
		return
	}
	for _, other := range s.order {
		for i := range other.asked {
			if a := &other.asked[i]; !a.cancelled && a.of == p && p.here(a.Block) {
				s.cancel(other, a)
			}
		}
	}
}

// here reports whether every leaf of the block has come.
func (p *openPiece) here(b wire.Block) bool {
	first, end := span(b)
	return !slices.ContainsFunc(p.leaves[first:end], func(l leaf) bool { return l.state == leafMissing })
}

// Kept answers a Keep: the block is in the store, and these are the hashes of its leaves.
func (s *Swarm) Kept(block wire.Block, hashes []content.Hash, now time.Time) {
	s.keeping -= int(block.Length)
	if p := s.open[block.Piece]; p != nil {
		first, end := span(block)
		for i := first; i < end; i++ {
			p.settle(i, hashes[i-first], !p.spoilt && !s.banned[p.leaves[i].sender])
		}
		switch {
		case p.spoilt:
			p.restart()
		case p.missing == 0:
			s.judge(p)
		}
	}
	s.fill(now)
}

// judge folds a piece whose leaves are all kept.
func (s *Swarm) judge(p *openPiece) {
	if p.root(s.geometry) == s.info.PieceHash(p.index) {
		s.verified(p)
		return
	}
	from := senders(p.leaves)
	if len(from) > 1 { // nobody can be blamed before the right piece is there
		p.evidence, p.solo = slices.Clone(p.leaves), true
		s.solo[p.index] = true
		p.restart()
		return
	}
	p.restart()
	s.expel(from[0])
}

// verified takes a piece that is right. Everybody who lacks it is told.
func (s *Swarm) verified(p *openPiece) {
	delete(s.open, uint32(p.index))
	s.opened = slices.DeleteFunc(s.opened, func(other *openPiece) bool { return other == p })
	delete(s.solo, p.index)
	s.has(p.index)
	s.do(Verified{p.index})
	for _, liar := range p.liars() {
		s.expel(liar)
	}
	s.completeIfAll()
}

// liars compares what came in the attempt that failed with what is right.
func (p *openPiece) liars() []ident.PeerID {
	var wrong []leaf
	for i, l := range p.evidence {
		if l.hash != p.leaves[i].hash {
			wrong = append(wrong, l)
		}
	}
	return senders(wrong)
}

// has adds a piece to what we have, and tells everybody who lacks it.
func (s *Swarm) has(piece int) {
	s.have.Add(piece)
	s.withdraw(piece)
	for _, r := range s.order {
		if r.has == nil || !r.has.Has(piece) {
			s.send(r, wire.Have{Number: s.Number, Piece: uint32(piece)})
		}
	}
}

// completeIfAll says so once every piece is there.
func (s *Swarm) completeIfAll() {
	if !s.have.All() || s.complete {
		return
	}
	s.complete = true
	s.do(Complete{})
	for _, r := range slices.Clone(s.order) {
		s.partIfDone(r)
	}
}

// expel drops a liar for good, whether or not it is still there, and all that
// it sent and that is not verified yet.
func (s *Swarm) expel(liar ident.PeerID) {
	if s.banned[liar] {
		return
	}
	if len(s.banned) < maxBanned {
		s.banned[liar] = true
	}
	for _, p := range s.opened {
		p.renounce(liar)
	}
	if r := s.peers[liar]; r != nil {
		s.leave(r, wire.ReasonPoisoned, true)
		return
	}
	s.do(Drop{liar, wire.ReasonPoisoned, true})
}
