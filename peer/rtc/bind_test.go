package rtc

import (
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
)

// prepared returns an offerer that is with nobody yet, whose signals are kept, and what it has said so far.
func prepared(t *testing.T, config Config, servers ...mediation.ICEServer) (a *side, transport *Transport, said func() []Signal) {
	t.Helper()
	a, transport = newSide(t), New(config)
	var mu sync.Mutex
	var signals []Signal
	a.send = func(s Signal) {
		mu.Lock()
		defer mu.Unlock()
		signals = append(signals, s)
	}
	a.conn = transport.Connect(Peering{Offerer: true, ICEServers: servers, Handler: a})
	return a, transport, func() []Signal {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(signals)
	}
}

// redirect sends what is said from now on elsewhere.
func (s *side) redirect(send func(Signal)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.elsewhere = send
}

// offerOf waits for the offer.
func offerOf(t *testing.T, said func() []Signal) Signal {
	t.Helper()
	for began := time.Now(); ; {
		if signals := said(); len(signals) > 0 {
			return signals[0]
		}
		if runtime.Gosched(); time.Since(began) > patience {
			t.Fatal("there is no offer")
		}
	}
}

// gathered waits until a side has said everything, and returns its offer with all candidates in it.
func gathered(t *testing.T, said func() []Signal) Signal {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		signals := said()
		if len(signals) > 1 && signals[len(signals)-1].Kind == Candidate && signals[len(signals)-1].Candidate == nil {
			var candidates []*ICECandidate
			for _, signal := range signals[1:] {
				candidates = append(candidates, signal.Candidate)
			}
			whole, _ := signals[0].With(candidates)
			return whole
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it never gathered everything")
		}
	}
}

// TestPreparedConnection: an offer that was made for nobody, with its candidates in it, is answered.
func TestPreparedConnection(t *testing.T) {
	a, transport, said := prepared(t, Config{})
	offer := gathered(t, said)
	if offer.Kind != Offer || !strings.Contains(offer.SDP, "a=candidate:") {
		t.Fatalf("the offer is %+v", offer)
	}
	b := newSide(t)
	ready := make(chan struct{})
	b.send = func(s Signal) { <-ready; a.conn.Signal(s) }
	b.conn = transport.Connect(Peering{Local: highID, Remote: lowID, Handler: b})
	a.conn.Bind(lowID, highID, nil)
	close(ready)
	b.conn.Signal(offer)
	b.conn.Signal(offer) // by another way: it changes nothing
	a.waitOpen()
	b.waitOpen()
	for side, want := range map[*side][]timeline.Phase{
		a: {timeline.OfferSent, timeline.AnswerReceived, timeline.ICEConnected, timeline.DTLSConnected},
		b: {timeline.OfferReceived, timeline.AnswerSent, timeline.ICEConnected, timeline.DTLSConnected},
	} {
		if got := side.reached(); !slices.Equal(got, want) {
			t.Errorf("it reached %v instead of %v", got, want)
		}
	}
	a.end()
	b.waitClosed()
}

// TestAnswerToAnotherOffer: it is ignored, and one that does not say to which offer it is counts.
func TestAnswerToAnotherOffer(t *testing.T) {
	a, transport, said := prepared(t, Config{})
	offer := gathered(t, said)
	b := newSide(t)
	ready := make(chan struct{})
	b.send = func(s Signal) {
		<-ready
		if s.Kind == Answer {
			if fragment, _ := sdpValue(offer.SDP, "a=ice-ufrag:"); s.To != fragment {
				t.Errorf("the answer is to %q, and the offer's name is %q", s.To, fragment)
			}
			stale := s
			stale.To, stale.SDP = "stale", strings.ReplaceAll(s.SDP, "a=ice-pwd:", "a=ice-pwd:x")
			a.conn.Signal(stale)
			s.To = ""
		}
		a.conn.Signal(s)
	}
	b.conn = transport.Connect(Peering{Local: highID, Remote: lowID, Handler: b})
	a.conn.Bind(lowID, highID, nil)
	close(ready)
	b.conn.Signal(offer)
	a.waitOpen()
	b.waitOpen()
	a.end()
	b.waitClosed()
}

// TestSecondTry: where the first addresses lead nowhere, and other ICE servers are known by now, there is a second offer, which
// the other side takes in place of the first.
func TestSecondTry(t *testing.T) {
	guess := mediation.ICEServer{URLs: []string{"stun:127.0.0.1:1"}}
	known := mediation.ICEServer{URLs: []string{"stun:127.0.0.1:2"}}
	for name, test := range map[string]struct {
		servers []mediation.ICEServer
		again   bool
		timeout time.Duration
	}{
		"others":   {[]mediation.ICEServer{known}, true, DefaultConnectTimeout},
		"the same": {[]mediation.ICEServer{{URLs: slices.Clone(guess.URLs)}}, false, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			a, transport, said := prepared(t, Config{AnewAfter: 50 * time.Millisecond, ConnectTimeout: test.timeout}, guess)
			first := offerOf(t, said) // without its candidates
			b := newSide(t)
			ready := make(chan struct{})
			var offers []string // guarded by a.mu
			b.send = func(s Signal) {
				<-ready
				if s.Kind == Answer { // without candidates on either side the first leads nowhere
					a.conn.Signal(s)
				}
			}
			a.redirect(func(s Signal) {
				<-ready
				a.mu.Lock()
				if s.Kind == Offer {
					offers = append(offers, s.SDP)
				}
				again := len(offers) > 0
				a.mu.Unlock()
				if again {
					b.conn.Signal(s)
				}
			})
			b.conn = transport.Connect(Peering{Local: highID, Remote: lowID, Handler: b})
			a.conn.Bind(lowID, highID, test.servers)
			close(ready)
			b.conn.Signal(first)
			if !test.again {
				if err := a.waitClosed(); err != ErrTimeout {
					t.Errorf("it ended with %v", err)
				}
				if len(offers) != 0 {
					t.Error("it was offered again, to the same servers")
				}
				b.conn.Close(nil)
				b.waitClosed()
				return
			}
			a.waitOpen()
			b.waitOpen()
			if len(offers) != 1 || offers[0] == first.SDP {
				t.Errorf("%d more offers", len(offers))
			}
			a.end()
			b.waitClosed()
		})
	}
}

// TestDescriptionWithCandidates: as many as fit, and the end is none.
func TestDescriptionWithCandidates(t *testing.T) {
	candidate := &ICECandidate{Candidate: "candidate:1 1 udp 1 192.0.2.1 1 typ host"}
	short, taken := Signal{Kind: Offer, SDP: "m=application\r\n"}.With([]*ICECandidate{candidate, nil})
	if taken != 2 {
		t.Errorf("%d are taken", taken)
	}
	if short.SDP != "m=application\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n" {
		t.Errorf("it is %q", short.SDP)
	}
	description, candidates := splitCandidates(short.SDP)
	if description != "m=application\r\n" || len(candidates) != 1 || candidates[0].Candidate != candidate.Candidate {
		t.Errorf("it is read as %q and %d candidates", description, len(candidates))
	}
	long, taken := Signal{Kind: Offer, SDP: "m=application\r\n"}.With(slices.Repeat([]*ICECandidate{candidate}, 10_000))
	if in := strings.Count(long.SDP, "a=candidate:"); taken != in || taken == 10_000 {
		t.Errorf("%d are taken, and %d are in it", taken, in)
	}
	if len(long.String()) > mediation.MaxSignalData {
		t.Errorf("it has %d bytes", len(long.String()))
	}
	if _, err := ParseSignal(long.String()); err != nil {
		t.Error(err)
	}
}
