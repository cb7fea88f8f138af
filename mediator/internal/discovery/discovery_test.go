package discovery

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// quick are the times of a network that lives for seconds. Retries and
// renewals stay slow unless a test is about them.
var quick = Timing{
	Watch: 20 * time.Millisecond, Settle: 100 * time.Millisecond,
	BootstrapMin: 20 * time.Millisecond, BootstrapMax: 100 * time.Millisecond,
}

// testDeadline is when a test gives up waiting for something of the network: far
// beyond what it takes on a busy machine with the race detector.
const testDeadline = 60 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}

func newKey(t *testing.T) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// start runs a node on 127.0.0.1; change may be nil.
func start(t *testing.T, change func(*Config)) *Discovery {
	t.Helper()
	config := Config{
		Key: newKey(t), ListenHosts: []string{"127.0.0.1"}, Timing: quick,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&config)
	}
	d, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// startAll runs n nodes that all join through the first, and waits until each
// knows as many others as it can.
func startAll(t *testing.T, n int) []*Discovery {
	t.Helper()
	nodes := []*Discovery{start(t, nil)}
	for range n - 1 {
		nodes = append(nodes, start(t, joining(nodes[0])))
	}
	began := time.Now()
	settle(t, nodes)
	t.Logf("%d nodes settled after %v", n, time.Since(began))
	return nodes
}

func joining(to *Discovery) func(*Config) {
	return func(c *Config) { c.Bootstrap = tcpOnly(to.Addrs()) }
}

// tcpOnly keeps one address, so that a node has one bootstrap and not two.
func tcpOnly(addresses []string) []string { return addresses[:1] }

// settle waits until every node has most of the others in its routing table.
// (A bucket has 20 places, so in a larger network it cannot have all.)
func settle(t *testing.T, nodes []*Discovery) {
	t.Helper()
	want := min(len(nodes)-1, 15)
	for _, node := range nodes {
		eventually(t, func() error {
			if have := node.Status().Peers; have < want {
				return fmt.Errorf("node %s knows %d of %d", node.self, have, want)
			}
			return nil
		})
	}
}

// eventually polls, for what the network has no event for.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx := testContext(t)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal(err)
		}
	}
}

func hashOf(text string) content.FullHash { return content.FullHash(sha256.Sum256([]byte(text))) }

func find(t *testing.T, d *Discovery, hash content.FullHash) []ident.MediatorID {
	t.Helper()
	var found []ident.MediatorID
	err := d.Find(testContext(t), hash, func(id ident.MediatorID) bool {
		found = append(found, id)
		return true
	})
	if err != nil {
		t.Errorf("finding: %v", err)
	}
	return found
}

// wantFound checks from every node at the same time who is found: want, without
// the node itself.
func wantFound(t *testing.T, nodes []*Discovery, hash content.FullHash, want ...*Discovery) {
	t.Helper()
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			var ids []string
			for _, other := range want {
				if other != node {
					ids = append(ids, other.ID().String())
				}
			}
			var found []string
			for _, id := range find(t, node, hash) {
				found = append(found, id.String())
			}
			slices.Sort(ids)
			slices.Sort(found)
			if !slices.Equal(ids, found) {
				t.Errorf("node %d found %v, want %v", i, found, ids)
			}
		})
	}
	wg.Wait()
}

func announce(t *testing.T, d *Discovery, hash content.FullHash) {
	t.Helper()
	if err := d.Announce(testContext(t), hash); err != nil {
		t.Fatal(err)
	}
}

func finish(t *testing.T, d *Discovery, hash content.FullHash) {
	t.Helper()
	if err := d.Finish(testContext(t), hash); err != nil {
		t.Fatal(err)
	}
}

func TestAnnounceFindFinish(t *testing.T) {
	for _, size := range []int{1, 2, 5, 25} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			if size > 20 && testing.Short() {
				t.Skip("a network larger than a bucket takes its time")
			}
			nodes := startAll(t, size)
			hash, last := hashOf("content"), nodes[size-1]
			wantFound(t, nodes, hash)

			began := time.Now()
			announce(t, last, hash)
			t.Logf("announce took %v", time.Since(began))
			wantFound(t, nodes, hash, last)

			began = time.Now()
			announce(t, last, hash)
			if took := time.Since(began); took > time.Second {
				t.Errorf("announcing what is announced took %v", took)
			}

			announce(t, nodes[0], hash)
			wantFound(t, nodes, hash, nodes[0], last)

			began = time.Now()
			finish(t, last, hash)
			t.Logf("finish took %v", time.Since(began))
			if size == 1 {
				wantFound(t, nodes, hash)
				return
			}
			wantFound(t, nodes, hash, nodes[0])
			finish(t, nodes[0], hash)
			wantFound(t, nodes, hash)
			finish(t, nodes[0], hash)

			announce(t, last, hash)
			wantFound(t, nodes, hash, last)
		})
	}
}
