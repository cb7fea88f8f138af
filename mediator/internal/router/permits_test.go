package router

import (
	"testing"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

func TestWhatIsNotPermitted(t *testing.T) {
	bubble(t, 1, func(t *testing.T, w *world) {
		denied := map[content.FullHash]bool{fullHash(1): true}
		r := w.add(1, Config{Permits: func(hash content.FullHash) bool { return !denied[hash] }})
		p, other := w.person(1, 1), w.person(1, 2)
		for _, message := range []mediation.Message{announce1, getPeers1, mediation.Signal{FullHash: fullHash(1), PeerID: other.id, SignalData: mediation.NewSignalData("x")}} {
			p.say(message)
			p.refused(mediation.CodeContentRefused)
		}
		other.expect()
		if got := r.Status(); got != (Status{Peers: 2}) {
			t.Errorf("it holds %+v", got)
		}

		// Another mediator hears that there is nobody, and is not remembered.
		w.mu.Lock()
		w.sent = nil
		w.mu.Unlock()
		r.HandleMediator(mediatorID(0), mediation.GetPeers{FullHash: fullHash(1)})
		pass(time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.sent) != 1 || string(mediation.Encode(w.sent[0])) != string(mediation.Encode(peers(1))) || r.registry.Subscriptions(mediatorID(0)) != 0 {
			t.Errorf("it was told %v", show(w.sent))
		}
	})
}

func TestWhatIsNotPermittedAnyMoreEnds(t *testing.T) {
	bubble(t, 2, func(t *testing.T, w *world) {
		denied := map[content.FullHash]bool{}
		r := w.add(2, Config{Permits: func(hash content.FullHash) bool { return !denied[hash] }})
		seeder, waiting, elsewhere := w.person(2, 1), w.person(2, 2), w.person(0, 3)
		for n := range byte(2) {
			seeder.say(mediation.Announce{FullHash: fullHash(n + 1)})
		}
		pass(time.Second)
		seeder.take()
		waiting.say(getPeers1)
		elsewhere.say(getPeers1)
		pass(time.Second)
		waiting.expect(peers(1, 1))
		elsewhere.expect(peers(1, 1))

		denied[fullHash(1)] = true
		r.Enforce()
		pass(time.Second)
		seeder.refused(mediation.CodeContentRefused)
		waiting.refused(mediation.CodeContentRefused)
		if len(w.records[fullHash(1)]) != 0 || len(w.records[fullHash(2)]) != 1 {
			t.Errorf("in the DHT stand %v", w.records)
		}
		if got := r.Status(); got.Contents != 1 || got.Searches != 0 || got.Announced != 1 || r.registry.Subscriptions(mediatorID(0)) != 0 {
			t.Errorf("it holds %+v", got)
		}
		r.Enforce() // nothing is left to do
		seeder.expect()
		seeder.say(mediation.Announce{FullHash: fullHash(2)})
		seeder.expect(mediation.Announced{FullHash: fullHash(2)})
	})
}

func TestContentsAreBounded(t *testing.T) {
	bubble(t, 0, func(t *testing.T, w *world) {
		r := w.add(0, Config{MaxContents: 2})
		p := w.person(0, 1)
		p.say(announce1)
		p.say(mediation.GetPeers{FullHash: fullHash(2)})
		pass(time.Second)
		p.take()
		p.say(mediation.Announce{FullHash: fullHash(3)})
		p.refused(mediation.CodeTooManyContents)
		p.say(mediation.GetPeers{FullHash: fullHash(3)})
		p.refused(mediation.CodeTooManyContents)
		p.say(mediation.Announce{FullHash: fullHash(2)}) // what is held may be had to do with
		pass(time.Second)
		p.expect(mediation.Announced{FullHash: fullHash(2)})
		r.HandleMediator(mediatorID(1), mediation.GetPeers{FullHash: fullHash(4)})
		if got := r.Status().Contents; got != 2 {
			t.Errorf("another mediator's wish makes them %d", got)
		}
		p.say(mediation.Finish{FullHash: fullHash(1)})
		pass(time.Second)
		p.say(mediation.Announce{FullHash: fullHash(3)})
		pass(time.Second)
		p.expect(mediation.Announced{FullHash: fullHash(3)})
	})
}

func TestLimitsThatAreOff(t *testing.T) {
	bubble(t, 0, func(t *testing.T, w *world) {
		r := w.add(0, Config{
			MaxContents: limits.Off, MaxPending: limits.Off, MaxAnnounces: limits.Off, MaxLookups: limits.Off,
			MaxNamed: limits.Off, MaxSubscriptions: limits.Off, MaxRoutes: limits.Off, Concurrency: limits.Off,
		})
		p := w.person(0, 1)
		many := 2 * max(DefaultMaxAnnounces, DefaultMaxLookups)
		for n := range many {
			hash := content.FullHash{0: 1, 30: byte(n >> 8), 31: byte(n)}
			p.say(mediation.Announce{FullHash: hash})
			p.say(mediation.GetPeers{FullHash: hash})
		}
		if got := r.Status(); got.Running < many || got.Pending != 0 {
			t.Errorf("%+v", got)
		}
		pass(time.Minute)
		for _, message := range p.take() {
			if err, is := message.(*mediation.Error); is {
				t.Fatal(err)
			}
		}
		crowd := 2 * DefaultMaxNamed
		for n := range crowd {
			seeder := &person{w: w, id: ident.PeerID{0: 1, 18: byte(n >> 8), 19: byte(n)}}
			seeder.peer = r.Attach(seeder, "")
			seeder.say(mediation.Handshake{PeerID: seeder.id})
			seeder.say(mediation.Announce{FullHash: fullHash(200)})
		}
		p.say(mediation.GetPeers{FullHash: fullHash(200)})
		named := 0
		for _, message := range p.take() {
			named += len(message.(mediation.Peers).Peers)
		}
		if named != crowd {
			t.Errorf("%d of %d are named", named, crowd)
		}
	})
}
