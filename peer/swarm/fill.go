package swarm

import (
	"slices"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// fill asks peers for as much as may be in flight. It is called after every event.
func (s *Swarm) fill(now time.Time) {
	if s.complete {
		return
	}
	if len(s.spans) > 0 {
		s.askHashes(now)
		return
	}
	for _, r := range s.order {
		s.fillPeer(r, now)
	}
}

func (s *Swarm) fillPeer(r *remote, now time.Time) {
	if r.has == nil {
		return
	}
	budget := s.InFlight
	if r.silent {
		budget = 1 // one block, to see whether it is there again
	}
	for r.inFlight < budget && len(r.asked) < wire.MaxRequests {
		p := s.pieceFor(r)
		if p == nil {
			return
		}
		block := p.next(s.geometry, wire.BlockLength(r.maxFrame))
		p.mark(block, leafAsked)
		if r.inFlight == 0 {
			r.heard = now // its patience begins with what it owes
		}
		r.asked = append(r.asked, asked{Block: block, of: p})
		r.inFlight += int(block.Length)
		s.send(r, wire.Request{Number: s.Number, Block: block})
	}
}

// pieceFor returns an open piece of which the peer is to be asked the next block:
// its own first, then one that nobody fetches, then a new one; nil if there is none.
func (s *Swarm) pieceFor(r *remote) *openPiece {
	for _, p := range s.open {
		if p.from == r && p.unasked() {
			return p
		}
	}
	for _, p := range s.open {
		if p.from == nil && !p.saving && p.unasked() && s.mayFetch(r, p.index) {
			p.from = r
			return p
		}
	}
	index := s.choose(r)
	if index < 0 || !s.makeRoom(r) {
		return nil
	}
	size, leaves := s.geometry.PieceSize(index), s.geometry.Leaves(index)
	p := &openPiece{
		index: index, data: make([]byte, size), state: make([]leafState, leaves), missing: leaves,
		from: r, senders: make(map[ident.PeerID]bool), solo: s.solo[index],
	}
	s.open = append(s.open, p)
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

// choose picks the piece to open next for a peer: any for the very first, then the
// rarest, ties at random; -1 if the peer has none that is wanted.
func (s *Swarm) choose(r *remote) int {
	best, ties := -1, 0
	first := s.have.Count() == 0 && len(s.open) == 0
	for piece, available := range s.available {
		if s.have.Has(piece) || !s.mayFetch(r, piece) || s.piece(uint32(piece)) != nil {
			continue
		}
		switch {
		case best < 0 || (!first && available < s.available[best]):
			best, ties = piece, 1
		case first || available == s.available[best]:
			if ties++; s.Random.IntN(ties) == 0 { // reservoir sampling: each tie is as likely
				best = piece
			}
		}
	}
	return best
}

// makeRoom says whether one more piece may be held in memory. Where there is no
// room it gives up a piece that nobody fetches and this peer does not have.
func (s *Swarm) makeRoom(r *remote) bool {
	if len(s.open) == 0 || int64(len(s.open)+1)*s.geometry.PieceLength <= int64(s.OpenBytes) {
		return true
	}
	for i, p := range s.open {
		if p.from == nil && !p.saving && !s.mayFetch(r, p.index) {
			s.open = append(s.open[:i], s.open[i+1:]...)
			return true
		}
	}
	return false
}

// piece returns the open piece of that index, or nil.
func (s *Swarm) piece(index uint32) *openPiece {
	for _, p := range s.open {
		if p.index == int(index) {
			return p
		}
	}
	return nil
}

// next returns the first run of unasked leaves, as one block of at most length bytes.
func (p *openPiece) next(g content.Geometry, length int) wire.Block {
	first := slices.Index(p.state, leafMissing)
	last := first
	for last < len(p.state) && p.state[last] == leafMissing && (last-first)*content.LeafLength < length {
		last++
	}
	begin := first * content.LeafLength
	end := min(int64(last*content.LeafLength), g.PieceSize(p.index))
	return wire.Block{Piece: uint32(p.index), Begin: uint32(begin), Length: uint32(end - int64(begin))}
}

func (p *openPiece) unasked() bool { return slices.Contains(p.state, leafMissing) }

// wants reports whether a block that the peer delivers is to be kept. What was
// asked of it and cancelled is welcome where nobody else was asked in the meantime.
func (p *openPiece) wants(b wire.Block, r *remote, cancelled bool) bool {
	if p.saving || (p.solo && p.from != r) {
		return false
	}
	leaves := p.leaves(b)
	return !slices.Contains(leaves, leafHere) && !(cancelled && slices.Contains(leaves, leafAsked))
}

func (p *openPiece) leaves(b wire.Block) []leafState {
	first := int(b.Begin) / content.LeafLength
	return p.state[first : first+max(1, (int(b.Length)+content.LeafLength-1)/content.LeafLength)]
}

// mark sets the leaves of a block and returns how many there are.
func (p *openPiece) mark(b wire.Block, state leafState) int {
	leaves := p.leaves(b)
	for i := range leaves {
		leaves[i] = state
	}
	return len(leaves)
}

// rejected takes the refusal of a block. The peer is not asked for that piece
// for a while, or before it says anew that it has it.
func (s *Swarm) rejected(r *remote, b wire.Block, now time.Time) {
	a, found := r.take(b)
	if !found || a.cancelled {
		return
	}
	r.heard = now
	a.of.mark(b, leafMissing)
	if a.of.from == r {
		a.of.from = nil
		if a.of.solo {
			s.open = slices.DeleteFunc(s.open, func(other *openPiece) bool { return other == a.of })
		}
	}
	if r.has.Has(int(b.Piece)) {
		r.has.Remove(int(b.Piece))
		s.available[b.Piece]--
		r.refused = append(r.refused, int(b.Piece))
		if r.pardon.IsZero() {
			r.pardon = now.Add(s.Patience)
		}
	}
}

// forgive counts the pieces that a peer refused as its own again.
func (s *Swarm) forgive(r *remote) {
	for _, piece := range r.refused {
		if r.has.Add(piece) {
			s.available[piece]++
		}
	}
	r.refused, r.pardon = nil, time.Time{}
}

// askHashes asks for the spans of piece hashes that are missing, one of each peer
// at a time.
func (s *Swarm) askHashes(now time.Time) {
	for _, r := range s.order {
		if !r.greeted || r.span != nil || now.Before(r.noHashes) {
			continue
		}
		for _, missing := range s.spans {
			if missing.from == nil {
				missing.from, r.span, r.heard = r, missing, now
				s.send(r, wire.HashRequest{Number: s.Number, Index: uint32(missing.index)})
				break
			}
		}
	}
}

// giveUpSpan stops waiting for the hashes that the peer owes, and asks it no more
// for a while: a leecher that has none now may have them later.
func (s *Swarm) giveUpSpan(r *remote, now time.Time) {
	r.span.from, r.span = nil, nil
	r.noHashes = now.Add(s.Patience)
}

// Saved answers a Save: the piece was right and is kept. Everybody who lacks it is told.
func (s *Swarm) Saved(piece int, now time.Time) {
	if s.close(piece) == nil || !s.have.Add(piece) {
		return
	}
	delete(s.solo, piece)
	for _, r := range s.order {
		if r.has == nil || !r.has.Has(piece) {
			s.send(r, wire.Have{Number: s.Number, Piece: uint32(piece)})
		}
	}
	if s.have.All() && !s.complete {
		s.complete = true
		s.do(Complete{})
		for _, r := range slices.Clone(s.order) {
			s.partIfDone(r)
		}
	}
	s.fill(now)
}

// Wrong answers a Save: the piece did not hash to what it should.
func (s *Swarm) Wrong(piece int, now time.Time) {
	p := s.close(piece)
	if p == nil {
		return
	}
	if len(p.senders) > 1 {
		s.solo[piece] = true
	} else {
		for liar := range p.senders {
			s.expel(liar)
		}
	}
	s.fill(now)
}

// close ends a piece that was being saved and returns it, nil if there is none.
func (s *Swarm) close(piece int) *openPiece {
	for i, p := range s.open {
		if p.index == piece && p.saving {
			s.open = append(s.open[:i], s.open[i+1:]...)
			return p
		}
	}
	return nil
}

// expel drops a liar for good, whether or not it is still there.
func (s *Swarm) expel(liar ident.PeerID) {
	if r := s.peers[liar]; r != nil {
		s.leave(r, wire.ReasonPoisoned, true)
		return
	}
	if len(s.banned) < maxBanned {
		s.banned[liar] = true
	}
	s.do(Drop{liar, wire.ReasonPoisoned, true})
}

// Tick says that time has passed; see NextTick.
func (s *Swarm) Tick(now time.Time) {
	for _, r := range slices.Clone(s.order) {
		if !now.Before(r.noHashes) {
			r.noHashes = time.Time{}
		}
		if !r.pardon.IsZero() && !now.Before(r.pardon) {
			s.forgive(r)
		}
		deadline, waits := s.deadline(r)
		if !waits || now.Before(deadline) {
			continue
		}
		switch {
		case r.has == nil:
			s.leave(r, wire.ReasonFinished, false) // it never said what it has
		case r.span != nil:
			s.giveUpSpan(r, now)
		default:
			s.hush(r)
		}
	}
	s.fill(now)
}

// NextTick returns when Tick is to be called; false if nothing is waited for.
// It changes with every event.
func (s *Swarm) NextTick() (next time.Time, waits bool) {
	earlier := func(at time.Time) {
		if !waits || at.Before(next) {
			next, waits = at, true
		}
	}
	for _, r := range s.order {
		if deadline, its := s.deadline(r); its {
			earlier(deadline)
		}
		if len(s.spans) > 0 && !r.noHashes.IsZero() && r.span == nil {
			earlier(r.noHashes)
		}
		if !r.pardon.IsZero() {
			earlier(r.pardon)
		}
	}
	return next, waits
}

// deadline returns when our patience with the peer ends; false if it owes nothing.
func (s *Swarm) deadline(r *remote) (deadline time.Time, waits bool) {
	owes := slices.ContainsFunc(r.asked, func(a asked) bool { return !a.cancelled })
	return r.heard.Add(s.Patience), owes || r.span != nil || r.has == nil
}

// hush cancels what a silent peer owes, so that others can be asked for it.
func (s *Swarm) hush(r *remote) {
	r.silent = true
	for i, a := range r.asked {
		if a.cancelled {
			continue
		}
		a.of.mark(a.Block, leafMissing)
		r.asked[i].cancelled = true
		s.send(r, wire.Cancel{Number: s.Number, Block: a.Block})
	}
	r.inFlight = 0
	s.orphan(r)
}

// Leave says goodbye to every peer: the content is no longer wanted, or no longer
// served. The Swarm has no peers after it.
func (s *Swarm) Leave() {
	for _, r := range slices.Clone(s.order) {
		s.leave(r, wire.ReasonFinished, false)
	}
}

// Info returns the info dictionary, with its piece hashes once they are known.
func (s *Swarm) Info() content.Info {
	if len(s.spans) > 0 {
		return s.Config.Info
	}
	return s.info
}

// Has reports whether the piece is verified and kept.
func (s *Swarm) Has(piece int) bool { return s.have.Has(piece) }

// Complete reports whether every piece is.
func (s *Swarm) Complete() bool { return s.complete }

// Status is what a person wants to know of a swarm.
type Status struct {
	Pieces    int   // of the content
	Have      int   // pieces that are verified and kept
	HaveBytes int64 // their length
	Fetching  []int // pieces on their way
	Peers     []PeerStatus
}

// PeerStatus is what a person wants to know of a peer.
type PeerStatus struct {
	ID     ident.PeerID
	Pieces int  // that it has
	Owes   int  // bytes that were asked of it and have not come
	Silent bool // it ran out of our patience
}

// Status returns a snapshot.
func (s *Swarm) Status() Status {
	status := Status{Pieces: s.have.Len(), Have: s.have.Count(), HaveBytes: int64(s.have.Count()) * s.geometry.PieceLength}
	if last := s.have.Len() - 1; s.have.Has(last) {
		status.HaveBytes += s.geometry.PieceSize(last) - s.geometry.PieceLength
	}
	for _, p := range s.open {
		status.Fetching = append(status.Fetching, p.index)
	}
	for _, r := range s.order {
		peer := PeerStatus{ID: r.id, Owes: r.inFlight, Silent: r.silent}
		if r.has != nil {
			peer.Pieces = r.has.Count()
		}
		status.Peers = append(status.Peers, peer)
	}
	return status
}
