package rtc

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/pion/ice/v2"
	"github.com/pion/stun"
)

// chooseFirst chooses the pair of addresses that a connection uses first: the first direct one on which a check came
// from the other side, which knows our password then. pion would wait until the nomination (RFC 8445, 8.1.1) is answered, a
// round trip later, and for its next look at the pairs where there are several. The side that nominates chooses so what its own check has
// shown to work, and nominates it: the other one may wait for that. When another pair is nominated, that one is
// used: the side that nominates knows both of its directions. (pion would stay with the one of the higher priority.)
// A pair with a relay is chosen by its nomination alone: a direct one may be a moment later.
//
// The side that does not nominate believes a check alone. It is the one that begins DTLS then (see session.answer), and sends no
// more than the check that it answers to an address that may be forged.
func chooseFirst(latch *latch, controls func() bool, password func() string) func(_ *stun.Message, local, remote ice.Candidate, pair *ice.CandidatePair) bool {
	var chosen bool // owned by the ICE agent's loop
	return func(request *stun.Message, local, remote ice.Candidate, pair *ice.CandidatePair) bool {
		if !controls() && request.Contains(stun.AttrUseCandidate) {
			chosen = true
			return true
		}
		if chosen || local.Type() == ice.CandidateTypeRelay || remote.Type() == ice.CandidateTypeRelay {
			return false
		}
		if controls() {
			packet, err := nomination(request, local.Priority(), password())
			if pair.ResponsesReceived() == 0 || err != nil {
				return false
			}
			say := func() { _, _ = pair.Write(packet) } // what is lost is said again
			say()
			latch.repeat(say) // pion does not, for a pair that is chosen
		}
		chosen = true
		return true
	}
}

// nomination is a check that nominates the pair on which the other side's check came.
func nomination(request *stun.Message, priority uint32, password string) ([]byte, error) {
	var name stun.Username
	if err := name.GetFrom(request); err != nil {
		return nil, fmt.Errorf("reading who checks: %w", err)
	}
	ours, theirs, _ := strings.Cut(name.String(), ":") // as the other side says it, the receiver first
	message, err := stun.Build(stun.BindingRequest, stun.TransactionID, stun.NewUsername(theirs+":"+ours),
		ice.UseCandidate(), ice.AttrControlling(rand.Uint64()), ice.PriorityAttr(priority),
		stun.NewShortTermIntegrity(password), stun.Fingerprint)
	if err != nil {
		return nil, fmt.Errorf("nominating a pair: %w", err)
	}
	return message.Raw, nil
}
