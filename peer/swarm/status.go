package swarm

import (
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

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
	ID        ident.PeerID
	Pieces    int           // that it has
	Owes      int           // bytes that were asked of it and have not come
	Silent    bool          // it ran out of our patience
	Delivered int64         // bytes of blocks that it sent, ever
	Rate      float64       // bytes/s: the best that it delivered lately; 0: nothing yet
	RTT       time.Duration // from a question to its answer, at best; 0: not known
}

// Status returns a snapshot.
func (s *Swarm) Status() Status {
	status := Status{Pieces: s.have.Len(), Have: s.have.Count(), HaveBytes: int64(s.have.Count()) * s.geometry.PieceLength}
	if last := s.have.Len() - 1; s.have.Has(last) {
		status.HaveBytes += s.geometry.PieceSize(last) - s.geometry.PieceLength
	}
	for _, p := range s.opened {
		status.Fetching = append(status.Fetching, p.index)
	}
	for _, r := range s.order {
		peer := PeerStatus{
			ID: r.id, Owes: r.inFlight, Silent: r.silent,
			Delivered: r.pace.delivered, Rate: r.pace.rate(), RTT: r.pace.rtt,
		}
		if r.has != nil && !r.presumed {
			peer.Pieces = r.has.Count()
		}
		status.Peers = append(status.Peers, peer)
	}
	return status
}
