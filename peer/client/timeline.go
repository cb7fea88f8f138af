package client

import (
	"maps"
	"time"

	"p2pcdn/common/timeline"
)

// stampOf is which phase of package timeline a phase of a share is; those that it has no name for there
// are stamped elsewhere.
var stampOf = map[Phase]timeline.Phase{
	PhaseStarted: timeline.Started, PhaseFound: timeline.PeersNamed, PhaseConnecting: timeline.OfferSent,
	PhaseConnected: timeline.ChannelOpen, PhaseFirstPiece: timeline.FirstPiece, PhaseComplete: timeline.Complete,
}

// stamp notes when a phase was reached, if it is the first time.
func (s *Share) stamp(phase timeline.Phase, at time.Time) {
	if _, reached := s.stamps[phase]; !reached && phase != "" {
		s.stamps[phase] = at
	}
}

// Timeline returns when the share reached which phase, by the monotonic clock.
func (s *Share) Timeline() map[timeline.Phase]time.Time {
	var stamps map[timeline.Phase]time.Time
	s.client.do(func() { stamps = maps.Clone(s.stamps) })
	return stamps
}
