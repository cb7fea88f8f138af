package swarm

import (
	"slices"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
)

// hashSpan is a run of missing piece hashes.
type hashSpan struct {
	index int
	from  *remote // who was asked; nil: nobody
}

// askHashes asks for the spans of piece hashes that are missing, one of each peer
// at a time.
func (s *Swarm) askHashes(now time.Time) {
	for _, r := range s.order {
		if r.greeted {
			s.askSpan(r, now)
		}
	}
}

// askSpan asks a peer for a span that nobody was asked for, unless it owes one or has none.
func (s *Swarm) askSpan(r *remote, now time.Time) {
	if r.span != nil || now.Before(r.noHashes) {
		return
	}
	for _, missing := range s.spans {
		if missing.from == nil {
			missing.from, r.span, r.heard = r, missing, now
			s.send(r, wire.HashRequest{Number: s.Number, Index: uint32(missing.index)})
			return
		}
	}
}

// giveUpSpan stops waiting for the hashes that the peer owes, and asks it no more
// for a while: a leecher that has none now may have them later.
func (s *Swarm) giveUpSpan(r *remote, now time.Time) {
	r.span.from, r.span = nil, nil
	r.noHashes = now.Add(s.Patience)
}

func (s *Swarm) serveHashes(r *remote, f wire.HashRequest) {
	if int64(f.Index) >= int64(s.geometry.Pieces()) || int(f.Index)%s.geometry.ProofSpan() != 0 {
		s.breach(r, "a request for piece hashes from %d of %d", f.Index, s.geometry.Pieces())
		return
	}
	if s.geometry.Pieces() == 1 || len(s.spans) > 0 {
		s.send(r, wire.HashReject{Number: s.Number, Index: f.Index})
		return
	}
	if s.proofs == nil {
		s.proofs = content.NewProofs(s.geometry, s.info.PieceHashes)
	}
	hashes, proof := s.proofs.Prove(int(f.Index))
	s.send(r, wire.Hashes{Number: s.Number, Index: f.Index, Hashes: hashes, Proof: proof})
}

func (s *Swarm) hashes(r *remote, f wire.Hashes, now time.Time) {
	if r.span == nil || r.span.index != int(f.Index) {
		return // not asked for, or no longer
	}
	if err := s.geometry.CheckProof(s.info.FullHash, int(f.Index), f.Hashes, f.Proof); err != nil {
		s.leave(r, wire.ReasonPoisoned, true)
		return
	}
	done := r.span
	r.heard, r.span = now, nil
	copy(s.info.PieceHashes[f.Index:], f.Hashes)
	s.spans = slices.DeleteFunc(s.spans, func(other *hashSpan) bool { return other == done })
	if len(s.spans) == 0 {
		s.do(Described{s.info})
		s.check()
	}
}

// check asks the driver what is there already, where there may be something.
func (s *Swarm) check() {
	if s.Check {
		s.checking = true
		s.do(Check{s.info})
	}
}

// Checked answers a Check: these pieces are in the store, and right.
func (s *Swarm) Checked(have *wire.Bits, now time.Time) {
	if !s.checking {
		return
	}
	s.checking = false
	for piece := range have.Len() {
		if have.Has(piece) && !s.have.Has(piece) {
			s.has(piece)
		}
	}
	s.completeIfAll()
	s.fill(now)
}
