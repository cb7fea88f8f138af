//go:build unix

package node

import (
	"syscall"
	"testing"

	"p2pcdn/common/content"
	"p2pcdn/common/mediation"
)

// findOnly has a newcomer at each mediator ask for the nth content of each n until he is told of its only seeder,
// or, where there is none, that there is nobody.
func findOnly(t *testing.T, nodes []*Node, seeders []*peer) {
	t.Helper()
	var leechers []*peer
	for _, n := range nodes {
		leecher := connect(t, n)
		for n := range seeders {
			leecher.say(mediation.GetPeers{FullHash: hashOf(byte(n))})
		}
		leechers = append(leechers, leecher)
	}
	for _, leecher := range leechers {
		leecher.toldOnly(seeders)
		leecher.vanish()
	}
}

func (p *peer) toldOnly(seeders []*peer) {
	p.t.Helper()
	open := make(map[content.FullHash]*peer)
	for n, seeder := range seeders {
		open[hashOf(byte(n))] = seeder
	}
	for len(open) > 0 {
		found, is := p.next().(mediation.Peers)
		if !is || len(found.Peers) > 1 {
			p.t.Fatalf("it was told %v", show(found))
		}
		seeder, asked := open[found.FullHash]
		switch {
		case !asked:
			p.t.Errorf("it was told again: %v", show(found))
		case len(found.Peers) == 0 && seeder != nil: // not found yet
			continue
		case len(found.Peers) == 1 && (seeder == nil || found.Peers[0] != seeder.id):
			p.t.Errorf("it was told of a peer that is not there: %v", show(found))
		}
		delete(open, found.FullHash)
	}
}

// Of five mediators two are killed, and one stands still with its connections open, while 50 peers seed. Theirs go on
// to the others, as package signaling of the peer has it. What they have is found there, and with nobody else. (With
// real peers, and a network that is cut: scripts.)
func TestMediatorsEndWithoutAWord(t *testing.T) {
	const each = 10
	alive := mediators(t, 2)
	var victims []*victim
	for range 3 {
		victims = append(victims, startVictim(t, alive[0].Addr().String()))
	}
	seeders := make([]*peer, 5*each) // the nth has the nth content
	for n := range seeders {
		if place := n / each; place < len(victims) {
			seeders[n] = victims[place].connect(t)
		} else {
			seeders[n] = connect(t, alive[place-len(victims)])
		}
		seeders[n].say(mediation.Announce{FullHash: hashOf(byte(n))})
	}
	findOnly(t, alive, seeders)

	victims[0].kill(t)
	victims[1].kill(t)
	if err := victims[2].process.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for n, seeder := range seeders {
		lost := n%(2*each) == 0 // of one that was killed, of the one that stands still and of one that is alive
		if !lost && n/each >= len(victims) {
			continue
		}
		seeder.vanish()
		seeders[n] = nil
		if !lost {
			seeders[n] = connect(t, alive[n%2])
			seeders[n].say(mediation.Announce{FullHash: hashOf(byte(n))})
		}
	}
	findOnly(t, alive, seeders)
}
