package discovery

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"p2pcdn/common/ident"
	"p2pcdn/mediator/internal/memnet"
)

// A mediator that dies without a word stays connected for up to 45 seconds, and takes
// the questions of others without an answer. It costs them seconds, and soon nothing any more.
func TestMediatorThatDiesWithoutAWord(t *testing.T) {
	const trip = 100 * time.Millisecond
	synctest.Test(t, func(t *testing.T) {
		world := memnet.New(memnet.Config{Latency: func(_, _ *memnet.Host) time.Duration { return trip / 2 }})
		var (
			hosts []*memnet.Host
			nodes []*Discovery
			seeds []string
		)
		for range 8 {
			host := world.Host("")
			d, err := New(t.Context(), Config{
				Key: newKey(t), Transport: host.Transport, ListenHosts: []string{host.IP()}, ListenPort: memnet.Port, Bootstrap: seeds,
			})
			if err != nil {
				t.Fatal(err)
			}
			closeTogether(t, d)
			hosts, nodes = append(hosts, host), append(nodes, d)
			seeds = nodes[0].Addrs()
		}
		time.Sleep(5 * time.Minute)
		for i, node := range nodes {
			if peers := node.Status().Peers; peers != len(nodes)-1 {
				t.Errorf("node %d knows %d others", i, peers)
			}
		}
		timed := func(what string, most time.Duration, f func()) {
			began := time.Now()
			f()
			if took := time.Since(began); took > most {
				t.Errorf("%s took %v, more than %v", what, took, most)
			}
		}
		found := func(by *Discovery, name string, who *Discovery, within time.Duration) {
			began, at := time.Now(), time.Duration(-1)
			if err := by.Find(t.Context(), hashOf(name), func(id ident.MediatorID) bool {
				if id == who.ID() {
					at = time.Since(began)
				}
				return true
			}); err != nil {
				t.Error(err)
			}
			if at < 0 || at > within {
				t.Errorf("%s was found after %v", name, at)
			}
		}
		timed("an announce where all live", 4*trip, func() { announce(t, nodes[1], hashOf("all live")) })
		found(nodes[2], "all live", nodes[1], trip)

		dead := nodes[7]
		hosts[7].Kill()
		timed("an announce when one has just died", hastyTimeout+4*trip, func() { announce(t, nodes[1], hashOf("one is silent")) })
		nodes[1].mu.Lock()
		if e := nodes[1].entries[hashOf("one is silent")]; !e.grown && !e.queued {
			t.Error("it is not looked again for the closest nodes, though some did not answer")
		}
		nodes[1].mu.Unlock()
		timed("two searches after it", answerTimeout+4*trip, func() {
			found(nodes[2], "one is silent", nodes[1], trip)
			found(nodes[2], "all live", nodes[1], trip)
		})
		time.Sleep(time.Minute)
		for i, node := range nodes[:7] {
			if peers := node.dht.RoutingTable().Find(dead.self); peers != "" {
				t.Errorf("node %d still thinks that the dead lives", i)
			}
		}
		timed("an announce after a while", 4*trip, func() { announce(t, nodes[1], hashOf("after a while")) })
		timed("a search after a while", 2*trip, func() { found(nodes[3], "after a while", nodes[1], trip) })
	})
}

// A node that does not answer is asked nothing for a while, and then again.
func TestSilenceIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := new(asked)
		h := impatient(asked)
		h.unanswered("one")
		if _, err := h.NewStream(t.Context(), "one"); err != errSilent {
			t.Errorf("one who has just not answered is asked again: %v", err)
		}
		if _, err := h.NewStream(t.Context(), "another"); err != nil {
			t.Error(err)
		}
		time.Sleep(silentFor)
		if _, err := h.NewStream(t.Context(), "one"); err != nil {
			t.Errorf("one who did not answer long ago is not asked again: %v", err)
		}
		if want := []peer.ID{"another", "one"}; !slices.Equal(asked.nodes, want) {
			t.Errorf("asked were %v, not %v", asked.nodes, want)
		}
		time.Sleep(time.Nanosecond)
		h.unanswered("another")
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, there := h.silent["one"]; there || len(h.silent) != 1 {
			t.Errorf("who did not answer long ago is remembered: %v", h.silent)
		}
	})
}

// asked is a host that notes whom streams are opened to.
type asked struct {
	host.Host
	nodes []peer.ID
}

func (a *asked) NewStream(_ context.Context, to peer.ID, _ ...protocol.ID) (network.Stream, error) {
	a.nodes = append(a.nodes, to)
	return nil, nil
}
