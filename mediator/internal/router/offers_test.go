package router

import (
	"slices"
	"testing"
	"time"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

// with is get_peers of the first content with an offer.
func with(offer string) mediation.GetPeers {
	return mediation.GetPeers{FullHash: fullHash(1), Offer: mediation.NewSignalData(offer)}
}

// offered is peers of the first content, the first of whom has the offer.
func offered(ids ...byte) mediation.Peers {
	m := peers(1, ids...)
	m.Offered = m.Peers[0]
	return m
}

// holdsNothing fails where a router still counts something of an offer.
func (w *world) holdsNothing() {
	w.t.Helper()
	for id, r := range w.routers {
		r.mu.Lock()
		if r.held != 0 {
			w.t.Errorf("router %s holds %d bytes of offers", id.Short(), r.held)
		}
		for _, s := range r.searches {
			if len(s.offers) != 0 {
				w.t.Errorf("router %s holds %d offers", id.Short(), len(s.offers))
			}
		}
		r.mu.Unlock()
	}
}

func TestOfferIsHandedToASeederAtOnce(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(0, 2)
		seeder.say(announce1)
		leecher.say(with("offer"))
		leecher.expect(offered(1)) // before any time has passed
		seeder.expect(signal(2, "offer"))
		w.holdsNothing()
	})
}

func TestOfferTravelsToTheSeedersMediator(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(1, 2)
		seeder.say(announce1)
		pass(time.Second)
		seeder.expect(announced1)
		leecher.say(with("offer"))
		pass(w.lookup + w.hop) // one way: nothing came back yet
		seeder.expect(signal(2, "offer"))
		leecher.expect()
		seeder.say(signal(2, "answer"))
		pass(w.hop)
		leecher.expect(offered(1))
		pass(w.hop)
		leecher.expect(signal(1, "answer"))
		w.holdsNothing()
	})
}

// TestOffersOfAllWhoWait: one travels with the question, and those of others are signalled when its answer comes.
func TestOffersOfAllWhoWait(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder := w.person(0, 1)
		seeder.say(announce1)
		pass(time.Second)
		seeder.take()
		first, second := w.person(1, 2), w.person(1, 3)
		first.say(with("of the first"))
		second.say(with("of the second"))
		pass(w.lookup + 4*w.hop)
		first.expect(offered(1))
		second.expect(offered(1))
		got := map[ident.PeerID]string{}
		for _, message := range seeder.take() {
			s := message.(mediation.Signal)
			got[s.PeerID] += s.SignalData.String()
		}
		if len(got) != 2 || got[peerID(2)] != "of the first" || got[peerID(3)] != "of the second" {
			t.Errorf("the seeder got %v", got)
		}
		w.holdsNothing()
	})
}

// TestOfferToARememberedSeeder: after another peer's lookup nothing is asked, and the offer goes straight on.
func TestOfferToARememberedSeeder(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, _ := w.introduced()
		seeder.take()
		second := w.person(1, 3)
		second.say(with("offer"))
		second.expect(offered(1)) // at once
		pass(w.hop)
		seeder.expect(signal(3, "offer"))
		w.holdsNothing()
	})
}

// TestOfferThatASeederCannotTake: another one takes it, and where none does the peer is told of nobody who has it.
func TestOfferThatASeederCannotTake(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		busy, free := w.person(0, 1), w.person(0, 2)
		busy.full = true
		busy.say(announce1)
		free.say(announce1)
		pass(time.Second)
		for n := byte(10); n < 20; n++ { // whom the router chooses is chance
			leecher := w.person(0, n)
			leecher.say(with("offer"))
			want := peers(1, 1, 2)
			want.Offered = peerID(2)
			leecher.expect(want)
		}
		free.full = true
		here, elsewhere := w.person(0, 3), w.person(1, 4)
		here.say(with("offer"))
		here.expect(peers(1, 1, 2))
		elsewhere.say(with("offer")) // the other mediator does not hand it out; then it is signalled, and refused
		pass(time.Second)
		got := elsewhere.take()
		if len(got) != 2 || got[0].(mediation.Peers).Offered.IsZero() || got[1].(*mediation.Error).Code != mediation.CodeOverloaded {
			t.Errorf("got %v", show(got))
		}
		w.holdsNothing()
	})
}

// TestOfferAmongManySeeders: who has the offer is among those that the first message names, so that the peer does not
// take it for one that nobody has.
func TestOfferAmongManySeeders(t *testing.T) {
	const seeders = 3 * mediation.MaxPeers
	bubble(t, 2, func(t *testing.T, w *world) {
		for n := range byte(seeders) {
			w.person(0, n+1).say(announce1)
		}
		pass(time.Second)
		for n := range byte(20) {
			for at := range 2 {
				leecher := w.person(at, 200+2*n+byte(at))
				leecher.say(with("offer"))
				pass(time.Second)
				got := leecher.take()
				first, is := got[0].(mediation.Peers)
				if !is || len(first.Peers) != mediation.MaxPeers || !slices.Contains(first.Peers, first.Offered) {
					t.Fatalf("at mediator %d it is told first of %v", at, show(got[:1]))
				}
				for _, more := range got[1:] {
					if more, is := more.(mediation.Peers); !is || !more.Offered.IsZero() {
						t.Errorf("at mediator %d it is told later of %v", at, show(got[1:]))
					}
				}
			}
		}
		w.holdsNothing()
	})
}

// TestOfferedIsOfThatOffer: what a mediator says of an offer counts for no later one.
func TestOfferedIsOfThatOffer(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(1, 2)
		seeder.say(announce1)
		pass(time.Second)
		seeder.expect(announced1)
		leecher.say(with("old"))
		pass(w.lookup + w.hop)
		seeder.expect(signal(2, "old"))
		leecher.say(with("new"))
		pass(w.hop)
		leecher.expect(offered(1))
		pass(w.hop)
		seeder.expect(signal(2, "new")) // signalled to it, since that one has not travelled
		w.holdsNothing()
	})
}

func TestOfferEndsWithItsSearch(t *testing.T) {
	for name, end := range map[string]func(w *world, leecher *person){
		"nobody seeds it":      func(w *world, leecher *person) { pass(time.Second) },
		"finish":               func(w *world, leecher *person) { leecher.say(finish1) },
		"the peer leaves":      func(w *world, leecher *person) { leecher.peer.Detach() },
		"another one's finish": func(w *world, leecher *person) { w.person(0, 9).say(getPeers1); leecher.say(finish1) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, w *world) {
				leecher := w.person(0, 2)
				leecher.say(with("offer"))
				r := w.router(0)
				r.mu.Lock()
				held := r.held
				r.mu.Unlock()
				if held != len("offer") {
					t.Fatalf("%d bytes are held", held)
				}
				end(w, leecher)
				w.holdsNothing()
			})
		})
	}
}

// TestOfferToALateSeeder: one that announces while the search goes on gets it.
func TestOfferToALateSeeder(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(0, 2)
		leecher.say(with("old"))
		leecher.say(with("offer")) // in its place
		pass(w.lookup / 2)
		seeder.say(announce1)
		leecher.expect(offered(1))
		seeder.expect(signal(2, "offer"))
		w.holdsNothing()
	})
}

func TestOffersAreBounded(t *testing.T) {
	bubble(t, 0, func(t *testing.T, w *world) {
		w.add(0, Config{MaxOfferBytes: 8})
		seeder, first, second := w.person(0, 1), w.person(0, 2), w.person(0, 3)
		first.say(with("12345678"))
		second.say(with("9"))
		pass(w.lookup / 2)
		seeder.say(announce1)
		first.expect(offered(1))
		second.expect(peers(1, 1)) // and so signals it itself
		seeder.expect(signal(2, "12345678"))
		w.holdsNothing()
	})
}

// TestOfferOfAnOlderMediator: it knows nothing of offers, so this one signals it when it names a peer.
func TestOfferOfAnOlderMediator(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(1, 2)
		seeder.say(announce1)
		pass(time.Second)
		seeder.take()
		leecher.say(with("offer"))
		pass(w.lookup + w.hop/2) // asked, and not answered
		w.router(1).HandleMediator(mediatorID(0), peers(1, 7))
		leecher.expect(offered(7))
		pass(time.Second)
		w.holdsNothing()
	})
}

// TestOfferInAnothersName: a mediator hands out offers of its own peers alone.
func TestOfferInAnothersName(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, victim := w.person(0, 1), w.person(0, 2)
		seeder.say(announce1)
		pass(time.Second)
		seeder.take()
		lie := with("offer")
		for _, sender := range []ident.PeerID{victim.id, {}} {
			lie.SenderID = sender
			w.router(0).HandleMediator(mediatorID(1), lie)
			seeder.expect()
		}
		lie.SenderID = peerID(9)
		w.router(0).HandleMediator(mediatorID(1), lie)
		seeder.expect(signal(9, "offer"))
	})
}

// TestOfferTravelsOn: where the mediator that it travelled to has nobody, or is dead, the next one gets it.
func TestOfferTravelsOn(t *testing.T) {
	for name, first := range map[string]mediation.Message{
		"it has nobody": mediation.Peers{FullHash: fullHash(1)},
		"it is busy":    (&mediation.Error{Code: mediation.CodeRateLimited, Message: "slowly"}).About(fullHash(1)),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 1, func(t *testing.T, w *world) {
				w.mute(1)
				w.mute(2)
				leecher := w.person(0, 2)
				leecher.say(with("offer"))
				r := w.router(0)
				r.mu.Lock()
				s := r.searches[fullHash(1)]
				r.ask(s, mediatorID(1), time.Now())
				r.mu.Unlock()
				r.HandleMediator(mediatorID(1), first)
				r.mu.Lock()
				r.ask(s, mediatorID(2), time.Now())
				r.mu.Unlock()
				pass(w.hop)
				var offers []string
				for _, message := range w.sent {
					if m, is := message.(mediation.GetPeers); is {
						offers = append(offers, m.Offer.String())
					}
				}
				if len(offers) != 2 || offers[0] != "offer" || offers[1] != "offer" {
					t.Errorf("the offers that travelled are %q", offers)
				}
			})
		})
	}
}

// TestWhoIsOfferedIsToldTo: a mediator that says who has an offer says it of the one that travelled to it.
func TestWhoIsOfferedIsToldTo(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		w.mute(1)
		first, second := w.person(0, 2), w.person(0, 3)
		first.say(with("of the first"))
		r := w.router(0)
		r.mu.Lock()
		r.ask(r.searches[fullHash(1)], mediatorID(1), time.Now())
		r.mu.Unlock()
		second.say(with("of the second"))
		answer := peers(1, 7, 8)
		answer.Offered = peerID(7)
		r.HandleMediator(mediatorID(1), answer)
		first.expect(answer)
		pass(5 * w.hop)
		signalled := ident.PeerID{}
		for _, message := range w.sent {
			if m, is := message.(mediation.Signal); is {
				if m.SenderID != second.id || m.SignalData.String() != "of the second" {
					t.Errorf("a signal of %s: %s", m.SenderID.Short(), m.SignalData)
				}
				signalled = m.PeerID
			}
		}
		answer.Offered = signalled
		second.expect(answer)
		w.holdsNothing()
	})
}
