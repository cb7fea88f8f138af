package discovery

import (
	"testing"
	"testing/synctest"
	"time"

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

// A node that is busy for a while and does not answer is asked again, and stays where it was.
func TestSilenceIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := impatient(nil)
		h.unanswered("one")
		if _, err := h.NewStream(t.Context(), "one"); err != errSilent {
			t.Errorf("one who has just not answered is asked again: %v", err)
		}
		time.Sleep(silentFor + 1)
		h.unanswered("another")
		h.mu.Lock()
		defer h.mu.Unlock()
		if _, there := h.silent["one"]; there || len(h.silent) != 1 {
			t.Errorf("who did not answer long ago is remembered: %v", h.silent)
		}
	})
}
