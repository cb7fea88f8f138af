package router

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

var (
	announce1  = mediation.Announce{FullHash: fullHash(1)}
	announced1 = mediation.Announced{FullHash: fullHash(1)}
	getPeers1  = mediation.GetPeers{FullHash: fullHash(1)}
	finish1    = mediation.Finish{FullHash: fullHash(1)}
)

func signal(to byte, data string) mediation.Signal {
	return mediation.Signal{FullHash: fullHash(1), PeerID: peerID(to), SignalData: mediation.NewSignalData(data)}
}

func TestLocalSeederIsNamedAtOnce(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(0, 2)
		seeder.say(announce1)
		leecher.say(getPeers1)
		leecher.expect(peers(1, 1)) // before any time has passed
		pass(time.Minute)
		leecher.expect()
		seeder.expect(announced1)
	})
}

func TestAnnouncedComesWhenItIsStored(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		first, second := w.person(0, 1), w.person(0, 2)
		first.say(announce1)
		first.expect()
		pass(w.lookup)
		first.expect(announced1)
		second.say(announce1)
		second.expect(announced1) // at once: it is stored
		first.say(announce1)
		first.expect(announced1)
		if !slices.Equal(w.calls, []string{"announce 1"}) {
			t.Errorf("the DHT was asked %v", w.calls)
		}
	})
}

func TestFailedAnnounceIsToldOnceAndTriedAgain(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		w.fails = 3
		seeder := w.person(0, 1)
		seeder.say(announce1)
		pass(w.lookup)
		if err := seeder.refused(mediation.CodeAnnounceFailed); *err.FullHash != fullHash(1) {
			t.Errorf("it is about %v", err.FullHash)
		}
		pass(time.Minute)
		seeder.expect(announced1)
	})
}

func TestFinishNeverOvertakesAnAnnounce(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		seeder := w.person(0, 1)
		seeder.say(announce1)
		seeder.say(finish1)
		seeder.say(announce1)
		seeder.say(finish1)
		pass(time.Minute)
		seeder.expect()
		if len(w.records[fullHash(1)]) != 0 {
			t.Error("the record is still there")
		}
		if !slices.Equal(w.calls, []string{"announce 1", "finish 1"}) {
			t.Errorf("the DHT was asked %v", w.calls)
		}
		seeder.say(announce1)
		pass(time.Minute)
		seeder.expect(announced1)
		seeder.say(finish1)
		seeder.say(announce1) // while the withdrawal is under way
		pass(time.Minute)
		seeder.expect(announced1)
		if len(w.records[fullHash(1)]) != 1 {
			t.Error("the record is not there")
		}
	})
}

func TestRemoteSeederIsFoundAndSignalsTravelBothWays(t *testing.T) {
	bubble(t, 3, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(1, 2)
		seeder.say(announce1)
		pass(time.Second)
		seeder.expect(announced1)
		leecher.say(getPeers1)
		leecher.expect()
		pass(w.lookup + 2*w.hop)
		leecher.expect(peers(1, 1))
		leecher.say(signal(1, "offer"))
		pass(w.hop)
		seeder.expect(signal(2, "offer"))
		seeder.say(signal(2, "answer"))
		pass(w.hop)
		leecher.expect(signal(1, "answer"))
	})
}

func TestSearchThatFindsNobodyEndsWithAnEmptyList(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		leecher := w.person(1, 2)
		leecher.say(getPeers1)
		leecher.expect()
		pass(w.lookup)
		leecher.expect(peers(1))
		pass(10 * time.Minute)
		leecher.expect() // it said so once
		leecher.say(getPeers1)
		pass(w.lookup)
		leecher.expect(peers(1)) // and says so again when asked again
	})
}

func TestLateAnnounceReachesWhoWaits(t *testing.T) {
	bubble(t, 3, func(t *testing.T, w *world) {
		leecher, neighbour := w.person(1, 2), w.person(1, 3)
		leecher.say(getPeers1)
		pass(time.Minute)
		leecher.expect(peers(1))

		neighbour.say(announce1) // here: at once
		leecher.expect(peers(1, 3))
		first := w.person(0, 4) // on a mediator that had none: when the DHT is next searched
		first.say(announce1)
		pass(foundPause + time.Second)
		leecher.expect(peers(1, 4))
		second := w.person(0, 5) // on a mediator that was asked: as fast as it can tell
		second.say(announce1)
		pass(w.hop)
		leecher.expect(peers(1, 5))
	})
}

func TestLateAnnounceIsFoundSoonWhereNobodyIsKnown(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		leecher := w.person(1, 2)
		leecher.say(getPeers1)
		pass(time.Hour)
		leecher.expect(peers(1))
		w.person(0, 1).say(announce1)
		pass(searchPause + time.Second)
		leecher.expect(peers(1, 1))
	})
}

func TestEachSeederIsNamedOnce(t *testing.T) {
	bubble(t, 3, func(t *testing.T, w *world) {
		for n := range byte(4) {
			w.person(int(n%2), 10+n).say(announce1)
		}
		pass(time.Second)
		leecher := w.person(2, 1)
		leecher.say(getPeers1)
		pass(time.Hour)
		named := map[string]int{}
		for _, message := range leecher.take() {
			for _, id := range message.(mediation.Peers).Peers {
				named[id.String()]++
			}
		}
		if len(named) != 4 {
			t.Errorf("%d seeders were named", len(named))
		}
		for id, times := range named {
			if times != 1 {
				t.Errorf("%s was named %d times", id, times)
			}
		}
	})
}

func TestAskingAgainStartsAfresh(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		w.person(0, 1).say(announce1)
		pass(time.Second)
		early, late := w.person(1, 2), w.person(1, 3)
		early.say(getPeers1)
		pass(time.Second)
		early.expect(peers(1, 1))
		late.say(getPeers1) // the search has found the seeder before this one asked
		pass(time.Second)
		late.expect(peers(1, 1))
		early.expect()
		early.say(getPeers1)
		pass(time.Second)
		early.expect(peers(1, 1))
		late.expect()
		other := mediation.GetPeers{FullHash: fullHash(2)}
		w.person(0, 4).say(mediation.Announce{FullHash: fullHash(2)})
		pass(500 * time.Millisecond)
		early.say(other) // while the first round runs
		pass(w.lookup / 2)
		early.say(other)
		pass(500 * time.Millisecond)
		early.expect(peers(2, 4))
	})
}

func TestFinishEndsAnnounceAndInterest(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(1, 2)
		seeder.say(announce1)
		pass(time.Second)
		leecher.say(getPeers1)
		pass(time.Second)
		leecher.expect(peers(1, 1))
		leecher.say(finish1)
		pass(time.Second)
		if got := w.router(0).registry.Subscribers(fullHash(1)); len(got) != 0 {
			t.Error("the mediator that was asked still tells")
		}
		w.person(0, 3).say(announce1)
		pass(time.Hour)
		leecher.expect()

		seeder.say(finish1)
		w.person(1, 4).say(getPeers1) // another seeder is left
		pass(time.Second)
		if len(w.records[fullHash(1)]) != 1 {
			t.Error("the record went with the first of two seeders")
		}
	})
}

func TestVanishedPeerCountsAsFinished(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, waiting := w.person(0, 1), w.person(1, 2)
		seeder.say(announce1)
		pass(time.Second)
		seeder.peer.Detach()
		seeder.peer.Detach() // twice is once
		pass(time.Second)
		if len(w.records[fullHash(1)]) != 0 {
			t.Error("the record outlived its seeder")
		}
		waiting.say(getPeers1)
		pass(time.Second)
		waiting.expect(peers(1))
		waiting.peer.Detach()
		for n := range 2 {
			if got := w.router(n).Status(); got != (Status{}) {
				t.Errorf("router %d still holds %+v", n, got)
			}
			if r := w.router(n); len(r.searches)+len(r.announces) != 0 {
				t.Errorf("router %d still has %d searches, %d announces", n, len(r.searches), len(r.announces))
			}
		}
	})
}

func TestKilledMediatorIsAnsweredWithout(t *testing.T) {
	bubble(t, 3, func(t *testing.T, w *world) {
		w.person(0, 1).say(announce1)
		w.person(1, 2).say(announce1)
		pass(time.Second)
		w.kill(0)
		leecher := w.person(2, 3)
		leecher.say(getPeers1)
		pass(roundTime)
		leecher.expect(peers(1, 2))
	})
}

func TestMediatorThatNeverAnswersDoesNotHoldTheSearch(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		w.records[fullHash(1)] = append(w.records[fullHash(1)], mediatorID(7))
		w.add(7, Config{}).Close() // it takes messages and says nothing, for its searches and its DHT are off
		silent := w.router(7)
		w.mu.Lock()
		w.routers[mediatorID(7)] = &Router{Config: Config{Relay: nowhere{}, MaxSubscriptions: 1, MaxNamed: 1, Permits: func(content.FullHash) bool { return true }}, registry: silent.registry}
		w.mu.Unlock()
		leecher := w.person(0, 1)
		leecher.say(getPeers1)
		pass(roundTime - time.Millisecond)
		leecher.expect()
		pass(2 * time.Millisecond)
		leecher.expect(peers(1))
		w.mu.Lock()
		w.routers[mediatorID(7)] = silent
		w.mu.Unlock()
	})
}

type nowhere struct{}

func (nowhere) Send(to ident.MediatorID, message mediation.Message) {}

func TestSignals(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		a, b := w.person(0, 1), w.person(0, 2)
		a.say(signal(2, "x"))
		b.expect(signal(1, "x"))
		a.expect()

		a.say(signal(1, "x"))
		a.refused(mediation.CodeSignalToSelf)
		a.say(signal(9, "x"))
		if err := a.refused(mediation.CodePeerNotFound); err.PeerID != peerID(9) || *err.FullHash != fullHash(1) {
			t.Errorf("the error is about %v, %v", err.PeerID, err.FullHash)
		}
		a.say(mediation.Signal{FullHash: fullHash(1), PeerID: peerID(2), SenderID: peerID(9), SignalData: mediation.NewSignalData("x")})
		b.expect(signal(1, "x")) // the sender is who sent it, whatever it claims
	})
}

func TestSignalToTheGone(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(1, 2)
		seeder.say(announce1)
		pass(time.Second)
		leecher.say(getPeers1)
		pass(time.Second)
		leecher.expect(peers(1, 1))
		seeder.peer.Detach()
		leecher.say(signal(1, "offer"))
		pass(2 * w.hop)
		err := leecher.refused(mediation.CodePeerNotFound)
		if err.PeerID != peerID(1) || *err.FullHash != fullHash(1) || !err.SenderID.IsZero() {
			t.Errorf("the error is about %v, %v, %v", err.PeerID, err.FullHash, err.SenderID)
		}
		leecher.say(signal(1, "offer")) // now it is known here
		leecher.refused(mediation.CodePeerNotFound)
	})
}

func TestEverySenderIsToldOfTheGone(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder := w.person(0, 1)
		seeder.say(announce1)
		pass(time.Second)
		leechers := []*person{w.person(1, 2), w.person(1, 3)}
		for _, leecher := range leechers {
			leecher.say(getPeers1)
			pass(time.Second)
			leecher.expect(peers(1, 1))
		}
		seeder.peer.Detach()
		for _, leecher := range leechers { // both are on their way before the first comes back
			leecher.say(signal(1, "offer"))
		}
		pass(time.Second)
		for _, leecher := range leechers {
			leecher.refused(mediation.CodePeerNotFound)
		}
	})
}

func TestSignalThroughADeadMediator(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, leecher := w.person(0, 1), w.person(1, 2)
		seeder.say(announce1)
		pass(time.Second)
		leecher.say(getPeers1)
		pass(time.Second)
		leecher.expect(peers(1, 1))
		w.kill(0)
		leecher.say(signal(1, "offer"))
		pass(w.hop)
		leecher.refused(mediation.CodePeerNotFound)
	})
}

// TestOneHop: what came from a mediator is delivered here or refused.
func TestOneHop(t *testing.T) {
	bubble(t, 3, func(t *testing.T, w *world) {
		far, sender := w.person(2, 1), w.person(0, 2)
		middle := w.router(1)
		middle.routes.learn(far.id, mediatorID(2)) // it would know the way
		w.router(0).routes.learn(far.id, mediatorID(1))
		middle.HandleMediator(mediatorID(0), mediation.Signal{FullHash: fullHash(1), PeerID: far.id, SenderID: sender.id, SignalData: mediation.NewSignalData("x")})
		pass(time.Second)
		far.expect()
		sender.refused(mediation.CodePeerNotFound)
	})
}

func TestMediatorsAreNotBelievedEverything(t *testing.T) {
	bubble(t, 3, func(t *testing.T, w *world) {
		victim, friend := w.person(1, 1), w.person(1, 2)
		far := w.person(0, 3)
		far.say(announce1)
		pass(time.Second)
		victim.say(getPeers1)
		pass(time.Second)
		victim.expect(peers(1, 3))
		r, liar := w.router(1), mediatorID(2)

		r.HandleMediator(liar, mediation.Signal{FullHash: fullHash(1), PeerID: victim.id, SenderID: friend.id, SignalData: mediation.NewSignalData("x")})
		r.HandleMediator(liar, mediation.Signal{FullHash: fullHash(1), PeerID: victim.id, SignalData: mediation.NewSignalData("x")})
		r.HandleMediator(liar, peers(1, 9)) // nobody asked it
		r.HandleMediator(liar, peers(5, 9)) // for a content that nobody waits for
		pass(time.Second)
		victim.expect()

		victim.say(signal(9, "x"))
		victim.refused(mediation.CodePeerNotFound) // no route was learnt from it
		victim.say(signal(2, "x"))
		friend.expect(signal(1, "x")) // a local peer stays local

		sent := len(w.sent)
		r.HandleMediator(liar, mediation.Announce{FullHash: fullHash(1)})
		pass(time.Second)
		if got := w.sent[sent:]; len(got) != 1 || got[0].(*mediation.Error).Code != mediation.CodeUnexpectedType {
			t.Errorf("a mediator's announce was answered by %v", show(got))
		}
		sent = len(w.sent)
		r.HandleMediator(liar, &mediation.Error{Code: "whatever", Message: "x"})
		r.HandleMediator(liar, &mediation.Error{Code: "whatever", Message: "x", SenderID: peerID(77)})
		pass(time.Second)
		if len(w.sent) != sent {
			t.Error("an error was answered")
		}
	})
}

func TestHandshake(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		first := w.person(0, 1)
		second := &person{w: w}
		second.peer = w.router(0).Attach(second, "")
		for _, message := range []mediation.Message{announce1, getPeers1, finish1, signal(1, "x"), mediation.Established{}} {
			second.say(message)
			second.refused(mediation.CodeHandshakeRequired)
		}
		second.say(mediation.Handshake{PeerID: first.id})
		second.refused(mediation.CodePeerIDInUse)
		second.say(mediation.Handshake{})
		second.refused(mediation.CodeBadPeerID)
		second.say(mediation.Replication{MediatorID: mediatorID(1)})
		second.refused(mediation.CodeReplicationRefused)
		second.say(mediation.Handshake{PeerID: peerID(2)})
		second.expect(mediation.Established{}) // and it may try again
		second.say(mediation.Handshake{PeerID: peerID(3)})
		second.refused(mediation.CodeAlreadyEstablished)
		if second.peer.ID() != peerID(2) || first.peer.ID() != peerID(1) {
			t.Error("an id changed hands")
		}
		for _, message := range []mediation.Message{peers(1, 1), announced1, mediation.Established{}, &mediation.Error{}} {
			second.say(message)
			second.refused(mediation.CodeUnexpectedType)
		}
		first.expect()
	})
}

func TestEstablishedCarriesWhatItIsToldTo(t *testing.T) {
	bubble(t, 0, func(t *testing.T, w *world) {
		established := mediation.Established{ICEServers: []mediation.ICEServer{{URLs: []string{"stun:x"}}}, Mediators: []string{"ws://y"}}
		w.add(0, Config{Established: func(id ident.PeerID, host string) mediation.Established {
			if id != peerID(1) || host != "mediator.example" {
				t.Errorf("it was asked for peer %s of %q", id.Short(), host)
			}
			return established
		}})
		p := &person{w: w}
		p.peer = w.router(0).Attach(p, "mediator.example")
		p.say(mediation.Handshake{PeerID: peerID(1)})
		p.expect(established)
	})
}

func TestLimits(t *testing.T) {
	bubble(t, 0, func(t *testing.T, w *world) {
		w.add(0, Config{MaxAnnounces: 2, MaxLookups: 2, MaxNamed: 3, MaxSubscriptions: 2, MaxRoutes: 1, Concurrency: 1})
		p := w.person(0, 1)
		for n := range byte(2) {
			p.say(mediation.Announce{FullHash: fullHash(n)})
			p.say(mediation.GetPeers{FullHash: fullHash(n)})
		}
		pass(time.Minute)
		p.take()
		p.say(mediation.Announce{FullHash: fullHash(9)})
		p.refused(mediation.CodeTooManyAnnounces)
		p.say(mediation.Announce{FullHash: fullHash(0)})
		p.expect(mediation.Announced{FullHash: fullHash(0)}) // what it has it may say again
		p.say(mediation.GetPeers{FullHash: fullHash(9)})
		p.refused(mediation.CodeTooManyLookups)
		p.say(mediation.Finish{FullHash: fullHash(0)})
		p.say(mediation.Announce{FullHash: fullHash(9)}) // and make room
		pass(time.Minute)
		p.expect(mediation.Announced{FullHash: fullHash(9)})

		for n := range byte(5) {
			w.person(0, 20+n).say(mediation.Announce{FullHash: fullHash(9)})
		}
		other := w.person(0, 2)
		other.say(mediation.GetPeers{FullHash: fullHash(9)})
		named := 0
		for _, message := range other.take() {
			named += len(message.(mediation.Peers).Peers)
		}
		if named != 3 {
			t.Errorf("%d peers were named instead of 3", named)
		}

		r := w.router(0)
		for n := range byte(5) {
			r.HandleMediator(mediatorID(1), mediation.GetPeers{FullHash: fullHash(n)})
		}
		if got := r.registry.Subscriptions(mediatorID(1)); got != 2 {
			t.Errorf("a mediator waits for %d contents", got)
		}
		r.routes.learn(peerID(50), mediatorID(1))
		r.routes.learn(peerID(51), mediatorID(1))
		if len(r.routes.get(peerID(50))) != 0 || len(r.routes.get(peerID(51))) != 1 {
			t.Errorf("routes of one mediator: %v, %v", r.routes.get(peerID(50)), r.routes.get(peerID(51)))
		}
	})
}

func TestCrowdIsNamedInSeveralMessages(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		const crowd = mediation.MaxPeers + 10
		for n := range byte(crowd) {
			w.person(0, 100+n).say(announce1)
		}
		pass(time.Second)
		for router := range 2 {
			leecher := w.person(router, byte(1+router))
			leecher.say(getPeers1)
			pass(time.Second)
			named := 0
			for _, message := range leecher.take() {
				if got := len(message.(mediation.Peers).Peers); got > mediation.MaxPeers {
					t.Errorf("%d peers in one message", got)
				} else {
					named += got
				}
			}
			want := crowd
			if router != 0 { // of one other mediator
				want = DefaultMaxNamed / 4
			}
			if named != want {
				t.Errorf("%d of %d peers were named, not %d", named, crowd, want)
			}
		}
	})
}

func TestOperationsAreBoundedAndNoneIsLost(t *testing.T) {
	bubble(t, 0, func(t *testing.T, w *world) {
		w.add(0, Config{Concurrency: 2})
		p := w.person(0, 1)
		for n := range byte(100) {
			p.say(mediation.Announce{FullHash: fullHash(n)})
		}
		pass(10 * w.lookup)
		if got := len(p.take()); got < 18 || got > 20 {
			t.Errorf("%d announces done by two at a time in the time of ten", got)
		}
		pass(50 * w.lookup)
		if got := len(w.records); got != 100 {
			t.Errorf("%d of 100 announces done", got)
		}
	})
}

func TestTooManyLookupsAreRefused(t *testing.T) {
	bubble(t, 0, func(t *testing.T, w *world) {
		w.add(0, Config{Concurrency: 1})
		var last *person
		for n := range DefaultMaxPending/DefaultMaxLookups + 1 {
			last = w.person(0, byte(n+1))
			for i := range DefaultMaxLookups {
				last.say(mediation.GetPeers{FullHash: content.FullHash{0: byte(n + 1), 1: byte(i >> 8), 2: byte(i)}})
			}
		}
		refused := last.take()
		if len(refused) == 0 {
			t.Fatal("all were taken")
		}
		for _, message := range refused {
			if err, is := message.(*mediation.Error); !is || err.Code != mediation.CodeOverloaded {
				t.Fatalf("the last got %s", mediation.Encode(message))
			}
		}
	})
}

// TestFloodOfOneLeavesOthersAlone: whatever one peer asks for and takes back is
// not done, and nothing of it is left.
func TestFloodOfOneLeavesOthersAlone(t *testing.T) {
	bubble(t, 0, func(t *testing.T, w *world) {
		r := w.add(0, Config{Concurrency: 4})
		flood, other := w.person(0, 1), w.person(0, 2)
		for n := range 3 * DefaultMaxPending {
			hash := content.FullHash{0: 1, 1: byte(n >> 16), 2: byte(n >> 8), 3: byte(n)}
			flood.say(mediation.Announce{FullHash: hash})
			flood.say(mediation.GetPeers{FullHash: hash})
			flood.say(mediation.Finish{FullHash: hash})
		}
		r.mu.Lock()
		if r.queue.Len() > 0 || len(r.announces) > 4 || len(r.searches) > 0 {
			t.Errorf("%d operations wait, %d announces, %d searches", r.queue.Len(), len(r.announces), len(r.searches))
		}
		r.mu.Unlock()
		other.say(getPeers1)
		pass(3 * w.lookup)
		other.expect(peers(1))
		flood.peer.Detach()
		pass(time.Minute)
		if len(r.announces) != 0 || len(w.calls) > 20 {
			t.Errorf("%d announces left, %d calls of the DHT", len(r.announces), len(w.calls))
		}
	})
}

func TestAskingOftenAsksOthersNoMoreOften(t *testing.T) {
	bubble(t, 13, func(t *testing.T, w *world) {
		for n := range 13 {
			if n > 0 {
				w.records[fullHash(1)] = append(w.records[fullHash(1)], mediatorID(n))
			}
		}
		p := w.person(0, 1)
		const often, seconds = 1000, 2
		for range often {
			p.say(getPeers1)
			pass(seconds * time.Second / often)
		}
		most := 12 * seconds * int(time.Second/roundPause) * 2
		w.mu.Lock()
		defer w.mu.Unlock()
		asked := 0
		for _, message := range w.sent {
			if message.Type() == "get_peers" {
				asked++
			}
		}
		if asked > most {
			t.Errorf("%d get_peers of a peer became %d to 12 mediators, more than %d", often, asked, most)
		}
		if w.finds > seconds*int(time.Second/roundPause)+1 {
			t.Errorf("the DHT was asked %d times", w.finds)
		}
	})
}

func TestSignalsCannotOverwhelmAPeer(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		busy, near := w.person(0, 1), w.person(0, 2)
		busy.say(announce1)
		pass(time.Second)
		far := w.person(1, 3)
		far.say(getPeers1)
		pass(time.Second)
		far.expect(peers(1, 1))
		busy.expect(announced1)
		busy.mu.Lock()
		busy.full = true
		busy.mu.Unlock()
		near.say(signal(1, "x"))
		if err := near.refused(mediation.CodeOverloaded); err.PeerID != peerID(1) || *err.FullHash != fullHash(1) {
			t.Errorf("the error is about %v", err.PeerID)
		}
		far.say(signal(1, "x"))
		pass(time.Second)
		far.refused(mediation.CodeOverloaded)
		busy.say(getPeers1) // what it asks for itself it gets
		near.say(announce1)
		busy.expect(peers(1, 2))
	})
}

func TestInterestIsEndedWithWhoeverWasAsked(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		w.person(0, 1).say(announce1)
		pass(time.Second)
		leecher := w.person(1, 2)
		leecher.say(getPeers1)
		pass(w.lookup + time.Millisecond) // the question is on its way
		leecher.peer.Detach()
		pass(time.Minute)
		if got := w.router(0).registry.Subscriptions(mediatorID(1)); got != 0 {
			t.Errorf("%d subscriptions are left", got)
		}
	})
}

func TestWhatWasToldAndNotHeardIsFoundLater(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		w.person(0, 1).say(announce1)
		pass(time.Second)
		leecher := w.person(1, 2)
		leecher.say(getPeers1)
		pass(time.Second)
		leecher.expect(peers(1, 1))
		r := w.router(0)
		r.mu.Lock()
		relay := r.Relay
		r.Relay = full{r}
		r.mu.Unlock()
		w.person(0, 3).say(announce1)
		pass(time.Second)
		r.mu.Lock()
		r.Relay = relay
		r.mu.Unlock()
		leecher.expect()
		pass(trustTime + foundPause)
		leecher.expect(peers(1, 3))
	})
}

// full is a relay whose queue is.
type full struct{ router *Router }

func (f full) Send(to ident.MediatorID, message mediation.Message) {
	go f.router.Undelivered(to, message)
}

// TestMediatorThatLies names peers that it does not have.
func TestMediatorThatLies(t *testing.T) {
	lies := func(t *testing.T, before func(w *world, liar ident.MediatorID, r *Router)) {
		bubble(t, 3, func(t *testing.T, w *world) {
			seeder, leecher := w.person(0, 1), w.person(1, 2)
			seeder.say(announce1)
			pass(time.Second)
			liar, r := mediatorID(2), w.router(1)
			w.mu.Lock() // the liar is the first to be found
			w.records[fullHash(1)] = append([]ident.MediatorID{liar}, w.records[fullHash(1)]...)
			w.mu.Unlock()
			leecher.say(getPeers1)
			pass(w.lookup + time.Millisecond)
			before(w, liar, r)
			pass(time.Minute)
			named := false
			for _, message := range leecher.take() {
				if m, is := message.(mediation.Peers); is {
					named = named || slices.Contains(m.Peers, seeder.id)
				}
			}
			if !named {
				t.Error("the seeder was not named")
			}
			seeder.take()
			leecher.say(signal(1, "offer"))
			pass(time.Second)
			seeder.expect(signal(2, "offer"))
			seeder.say(signal(2, "answer"))
			pass(time.Second)
			leecher.expect(signal(1, "answer")) // and no error, though the liar did not have it
		})
	}
	t.Run("claims another's peer", func(t *testing.T) {
		lies(t, func(w *world, liar ident.MediatorID, r *Router) { r.HandleMediator(liar, peers(1, 1)) })
	})
	t.Run("names a crowd", func(t *testing.T) {
		lies(t, func(w *world, liar ident.MediatorID, r *Router) {
			for n := range 100 {
				crowd := mediation.Peers{FullHash: fullHash(1)}
				for i := range mediation.MaxPeers {
					crowd.Peers = append(crowd.Peers, ident.PeerID{0: 1, 1: byte(n), 2: byte(i)})
				}
				r.HandleMediator(liar, crowd)
			}
		})
	})
}

func TestMediatorsSpeakOnlyForThemselves(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		far, near := w.person(0, 1), w.person(1, 2)
		far.say(announce1)
		pass(time.Second)
		near.say(getPeers1)
		pass(time.Second)
		near.expect(peers(1, 1))
		hash, r, liar := fullHash(1), w.router(1), mediatorID(5)
		for _, code := range []mediation.ErrorCode{mediation.CodePeerNotFound, mediation.CodeOverloaded, mediation.CodeGoingAway} {
			r.HandleMediator(liar, &mediation.Error{Code: code, Message: "x", FullHash: &hash, PeerID: far.id, SenderID: near.id})
		}
		near.expect()
		near.say(signal(1, "x"))
		pass(time.Second)
		far.take()
		near.expect()
	})
}

func TestEveryAnnouncerIsToldThatItFailed(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		w.fails = 4
		first := w.person(0, 1)
		first.say(announce1)
		pass(2 * time.Second)
		first.refused(mediation.CodeAnnounceFailed)
		second, gone := w.person(0, 2), w.person(0, 3)
		second.say(announce1)
		gone.say(announce1)
		gone.peer.Detach()
		r := w.router(0)
		r.mu.Lock()
		if got := len(r.announces[fullHash(1)].asking); got != 2 {
			t.Errorf("%d are asking", got)
		}
		r.mu.Unlock()
		pass(3 * time.Second)
		second.refused(mediation.CodeAnnounceFailed)
		pass(time.Minute)
		first.expect(announced1)
		second.expect(announced1)
	})
}

func TestOneSearchServesAllWhoWait(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		w.person(0, 1).say(announce1)
		pass(time.Second)
		before := w.finds
		var leechers []*person
		for n := range byte(20) {
			leechers = append(leechers, w.person(1, 10+n))
			leechers[n].say(getPeers1)
		}
		pass(w.lookup + 10*w.hop)
		for _, leecher := range leechers {
			leecher.expect(peers(1, 1))
		}
		if got := w.finds - before; got != 1 {
			t.Errorf("%d lookups for one content", got)
		}
	})
}

func TestCloseInTheMiddleOfEverything(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		w.fails = 1000
		p := w.person(0, 1)
		p.say(announce1)
		p.say(mediation.GetPeers{FullHash: fullHash(2)})
		pass(w.lookup / 2)
		w.router(0).Close()
		w.router(0).Close()
		p.peer.Detach()
		pass(time.Hour)
		for _, message := range p.take() {
			if err, is := message.(*mediation.Error); is && !strings.Contains(string(err.Code), "announce") {
				t.Errorf("after the end came %v", err)
			}
		}
	})
}

// What waited for a place is taken back by its peer after the router has dropped it.
func TestAPeerLeavesWhileTheRouterEnds(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		r := w.router(0)
		r.Concurrency = 1
		p := w.person(0, 1)
		p.say(announce1)
		p.say(mediation.Announce{FullHash: fullHash(2)})
		pass(w.lookup / 2)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			r.Close()
		}()
		synctest.Wait() // it waits for the one that runs
		p.peer.Detach()
		<-ended
		if status := r.Status(); status.Pending != 0 || status.Running != 0 {
			t.Errorf("%d wait and %d run", status.Pending, status.Running)
		}
	})
}

func TestALookupCountsForThoseWhoAskAfterIt(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		seeder, _ := w.introduced()
		w.mu.Lock()
		before, sent := w.finds, len(w.sent)
		w.mu.Unlock()

		// At once, and nobody else is asked.
		second := w.person(1, 3)
		second.say(getPeers1)
		second.expect(peers(1, 1))
		w.mu.Lock()
		if w.finds != before {
			t.Error("the DHT was asked again")
		}
		w.mu.Unlock()
		second.say(signal(1, "offer"))
		pass(100 * time.Millisecond)
		seeder.expect(mediation.Announced{FullHash: fullHash(1)}, mediation.Signal{FullHash: fullHash(1), PeerID: second.id, SignalData: mediation.NewSignalData("offer")})
		w.mu.Lock()
		for _, message := range w.sent[sent:] {
			if message.Type() == "get_peers" {
				t.Error("another mediator was asked again")
			}
		}
		w.mu.Unlock()

		// Who announces later is remembered, and who is gone is not.
		other := w.person(0, 4)
		other.say(announce1)
		pass(time.Second)
		second.expect(peers(1, 4))
		seeder.peer.Detach()
		second.say(signal(1, "are you there"))
		pass(time.Second)
		second.refused(mediation.CodePeerNotFound)
		third := w.person(1, 5)
		third.say(getPeers1)
		third.expect(peers(1, 4))

		// In the end it is looked up again: within the pauses of the search, which goes on.
		pass(2 * foundPause)
		w.mu.Lock()
		before = w.finds
		w.mu.Unlock()
		pass(foundPause / 2)
		w.person(1, 6).say(getPeers1)
		pass(time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.finds == before {
			t.Error("the DHT is asked no more")
		}
	})
}

func TestWhoIsGoneIsNamedNoMore(t *testing.T) {
	for name, leave := range map[string]func(w *world, seeder *person){
		"finish":            func(_ *world, seeder *person) { seeder.say(mediation.Finish{FullHash: fullHash(1)}) },
		"a closed line":     func(_ *world, seeder *person) { seeder.peer.Detach() },
		"its mediator ends": func(w *world, _ *person) { w.kill(0) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, 2, func(t *testing.T, w *world) {
				seeder, first := w.introduced()
				leave(w, seeder)
				pass(100 * time.Millisecond)
				first.expect() // a peer is not told: it sees for itself
				second := w.person(1, 3)
				second.say(getPeers1)
				second.expect()
			})
		})
	}
}

func TestWhatAMediatorNamesThatWillNotTellIsNotRemembered(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		w.routers[mediatorID(0)].MaxSubscriptions = 1
		w.person(0, 9).say(mediation.Announce{FullHash: fullHash(2)})
		seeder := w.person(0, 1)
		seeder.say(announce1)
		pass(time.Second)
		first := w.person(1, 2)
		first.say(mediation.GetPeers{FullHash: fullHash(2)}) // takes the one place
		pass(time.Second)
		first.say(getPeers1)
		pass(time.Second)
		first.expect(peers(2, 9), peers(1, 1))
		seeder.say(mediation.Finish{FullHash: fullHash(1)})
		pass(time.Second)
		second := w.person(1, 3)
		second.say(getPeers1)
		second.expect()
	})
}

// The connection to a mediator that died without a word lives on for a while.
func TestASilentMediatorsPeersAreNamedNoLongerThanALookupCounts(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		_, first := w.introduced()
		w.mute(0)
		pass(4 * firstPause) // its search is made again meanwhile, without asking those that tell by themselves
		first.say(mediation.GetPeers{FullHash: fullHash(1)})
		pass(lookupCache)
		first.take()
		second := w.person(1, 3)
		second.say(getPeers1)
		pass(2 * roundTime)
		second.expect(peers(1))
	})
}

func TestALookupThatFoundNobodyIsMadeAgain(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		first, second := w.person(1, 2), w.person(1, 3)
		first.say(getPeers1)
		pass(500 * time.Millisecond)
		first.expect(peers(1))
		w.person(0, 1).say(announce1)
		pass(200 * time.Millisecond)
		second.say(getPeers1)
		pass(time.Second)
		second.expect(peers(1, 1))
	})
}

func TestWhatIsRememberedOfOthersIsBounded(t *testing.T) {
	var o other
	for n := range 3 * maxRemembered {
		o.remember([]ident.PeerID{{18: byte(n >> 8), 19: byte(n)}, {18: byte(n >> 8), 19: byte(n)}})
	}
	if len(o.peers) != maxRemembered || o.peers[maxRemembered-1] != (ident.PeerID{18: (3*maxRemembered - 1) >> 8, 19: (3*maxRemembered - 1) & 255}) {
		t.Errorf("%d are remembered, the last one %v", len(o.peers), o.peers[len(o.peers)-1])
	}
}
