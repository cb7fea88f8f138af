package client

import (
	"maps"
	"time"

	"p2pcdn/common/timeline"
)

// stamp notes when a phase was reached, if it is the first time. What was before the share began counts from there.
func (s *Share) stamp(phase timeline.Phase, at time.Time) {
	if _, reached := s.stamps[phase]; reached {
		return
	}
	if started := s.stamps[timeline.Started]; at.Before(started) {
		at = started
	}
	s.stamps[phase] = at
}

// Timeline returns when the share reached which phase, by the monotonic clock.
func (s *Share) Timeline() map[timeline.Phase]time.Time {
	var stamps map[timeline.Phase]time.Time
	s.client.do(func() { stamps = maps.Clone(s.stamps) })
	return stamps
}

// stampAll notes that all shares reached a phase.
func (c *Client) stampAll(phase timeline.Phase, at time.Time) {
	for _, share := range c.shares {
		share.stamp(phase, at)
	}
}

// Reached implements [rtc.Handler].
func (l *link) Reached(phase timeline.Phase) {
	at := time.Now()
	l.client.post(func() {
		if phase == timeline.OfferSent && l.id.IsZero() {
			return // nobody was sent it yet
		}
		l.stamp(phase, at)
	})
}

// stamp notes that the shares for which the link is being set up reached a phase.
func (l *link) stamp(phase timeline.Phase, at time.Time) {
	for _, share := range l.wanted {
		share.stamp(phase, at)
	}
}
