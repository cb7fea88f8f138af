package session

import (
	"time"

	"golang.org/x/time/rate"

	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

// allowance is how much a peer may still say. The reader owns it. An idle peer
// has one limiter: those of what it never says are made when it is said.
type allowance struct {
	config                       Config
	messages                     *rate.Limiter
	lookups, signals, signalData *rate.Limiter // nil before the first
}

func newAllowance(config Config) *allowance {
	return &allowance{config: config, messages: limits.Limiter(config.Messages, 0)}
}

// allows reports whether the peer may say this now, and counts it then. What comes of it is the message, without an
// offer where the peer has signalled too much: it can signal that to a seeder later.
func (a *allowance) allows(message mediation.Message) (mediation.Message, bool) {
	now := time.Now()
	if !a.messages.AllowN(now, 1) {
		return message, false
	}
	switch m := message.(type) {
	case mediation.GetPeers:
		if a.lookups == nil {
			a.lookups = limits.Limiter(a.config.Lookups, 0)
		}
		if !a.lookups.AllowN(now, 1) {
			return message, false
		}
		if m.Offer.Len() > 0 && !a.signal(now, m.Offer) {
			m.Offer = mediation.SignalData{}
			return m, true
		}
	case mediation.Signal:
		return message, a.signal(now, m.SignalData)
	}
	return message, true
}

// signal counts a signal; an offer that comes with a get_peers is one, too.
func (a *allowance) signal(now time.Time, data mediation.SignalData) bool {
	if a.signals == nil {
		a.signals = limits.Limiter(a.config.Signals, 0)
		a.signalData = limits.Limiter(a.config.SignalBytes, mediation.MaxSignalData)
	}
	return a.signals.AllowN(now, 1) && a.signalData.AllowN(now, data.Len())
}
