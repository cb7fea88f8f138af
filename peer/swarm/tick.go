package swarm

import (
	"slices"
	"time"

	"p2pcdn/common/wire"
)

// Tick says that time has passed; see NextTick.
func (s *Swarm) Tick(now time.Time) {
	for _, r := range slices.Clone(s.order) {
		if !now.Before(r.noHashes) {
			r.noHashes = time.Time{}
		}
		if !r.pardon.IsZero() && !now.Before(r.pardon) {
			s.forgive(r)
			s.partIfDone(r)
		}
		if s.peers[r.id] != r {
			continue
		}
		if at, may := r.stalls(); may && !now.Before(at) {
			r.stalled = true
		}
		deadline, waits := s.deadline(r)
		if !waits || now.Before(deadline) {
			continue
		}
		switch {
		case r.has == nil || r.presumed:
			s.leave(r, wire.ReasonFinished, false) // it never said what it has
		case r.span != nil:
			s.giveUpSpan(r, now)
		default:
			s.hush(r)
		}
	}
	if !now.Before(s.thirsty) {
		s.thirsty = time.Time{}
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
		if at, may := r.stalls(); may {
			earlier(at)
		}
		if len(s.spans) > 0 && !r.noHashes.IsZero() && r.span == nil {
			earlier(r.noHashes)
		}
		if !r.pardon.IsZero() {
			earlier(r.pardon)
		}
	}
	if !s.thirsty.IsZero() && !s.complete {
		earlier(s.thirsty)
	}
	return next, waits
}

// stalls returns when the peer counts as stalled; false if it owes nothing or does already.
func (r *remote) stalls() (at time.Time, may bool) {
	return r.heard.Add(stallAfter), r.waits > 0 && !r.stalled
}

// deadline returns when our patience with the peer ends; false if it owes nothing.
func (s *Swarm) deadline(r *remote) (deadline time.Time, waits bool) {
	patience := r.pace.patience(wire.BlockLength(r.maxFrame), s.Patience)
	return r.heard.Add(patience), r.waits > 0 || r.span != nil || r.has == nil || r.presumed
}

// hush cancels what a silent peer owes, so that others can be asked for it.
func (s *Swarm) hush(r *remote) {
	r.silent = true
	for i := range r.asked {
		if !r.asked[i].cancelled {
			s.cancel(r, &r.asked[i])
		}
	}
	s.orphan(r)
}

// Leave says goodbye to every peer: the content is no longer wanted, or no longer
// served. The Swarm has no peers after it.
func (s *Swarm) Leave() {
	for _, r := range slices.Clone(s.order) {
		s.leave(r, wire.ReasonFinished, false)
	}
}
