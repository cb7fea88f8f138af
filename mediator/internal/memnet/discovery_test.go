package memnet_test

import (
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/mediator/internal/discovery"
	"p2pcdn/mediator/internal/memnet"
)

func start(t *testing.T, host *memnet.Host, bootstrap ...string) *discovery.Discovery {
	t.Helper()
	d, err := discovery.New(t.Context(), discovery.Config{
		Key: newKey(t), Transport: host.Transport, ListenHosts: []string{host.IP()}, ListenPort: memnet.Port, Bootstrap: bootstrap,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// TestDiscovery runs some whole DHT nodes, AutoNAT and all, for some minutes.
func TestDiscovery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := memnet.New(memnet.Config{Latency: func(_, _ *memnet.Host) time.Duration { return 25 * time.Millisecond }})
		var (
			hosts []*memnet.Host
			nodes []*discovery.Discovery
			seeds []string
		)
		for i := range 5 {
			hosts = append(hosts, world.Host(fmt.Sprint("node ", i)))
			nodes = append(nodes, start(t, hosts[i], seeds...))
			seeds = nodes[0].Addrs()
		}
		time.Sleep(5 * time.Minute)
		for i, node := range nodes {
			if status := node.Status(); status.Peers != 4 {
				t.Errorf("node %d after some minutes: %+v", i, status)
			}
		}
		hash := content.FullHash{1}
		began := time.Now()
		if err := nodes[1].Announce(t.Context(), hash); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("an announce took %v", took)
		}
		find := func() (found []ident.MediatorID) {
			if err := nodes[2].Find(t.Context(), hash, func(id ident.MediatorID) bool {
				found = append(found, id)
				return true
			}); err != nil {
				t.Error(err)
			}
			return found
		}
		if found := find(); len(found) != 1 || found[0] != nodes[1].ID() {
			t.Errorf("found %v, want %v", found, nodes[1].ID())
		}
		hosts[1].Kill()
		time.Sleep(10 * time.Minute)
		for _, i := range []int{0, 2, 3, 4} {
			if status := nodes[i].Status(); status.Peers != 3 {
				t.Errorf("node %d long after the death of another: %+v", i, status)
			}
		}
	})
}
