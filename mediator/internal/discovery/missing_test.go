package discovery

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"p2pcdn/common/content"
)

// world is a network that can fall into two parts. Every node is in one of
// them from the start.
type world struct {
	mu    sync.Mutex
	part  map[peer.ID]int    // guarded by mu; of each node
	nodes map[*Discovery]int // guarded by mu
	cut   bool               // guarded by mu
}

func newWorld() *world {
	return &world{part: make(map[peer.ID]int), nodes: make(map[*Discovery]int)}
}

// start runs a node in one part.
func (w *world) start(t *testing.T, part int, change func(*Config)) *Discovery {
	t.Helper()
	node := start(t, func(c *Config) {
		if change != nil {
			change(c)
		}
		c.Timing.Refresh, c.Timing.Rejoin = 500*time.Millisecond, 100*time.Millisecond
		c.Timing.MissingMin, c.Timing.MissingMax = 50*time.Millisecond, 400*time.Millisecond
		id, err := peer.IDFromPrivateKey(c.Key)
		if err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.part[id] = part
		w.mu.Unlock()
		c.hostOptions = append(c.hostOptions, libp2p.ConnectionGater(wall{w, part}))
	})
	w.mu.Lock()
	w.nodes[node] = part
	w.mu.Unlock()
	return node
}

// divide cuts all connections between the parts, and allows no new ones.
func (w *world) divide() {
	w.mu.Lock()
	w.cut = true
	nodes := w.nodes
	w.mu.Unlock()
	for node, part := range nodes {
		for _, other := range node.raw.Network().Peers() {
			w.mu.Lock()
			apart := w.part[other] != part
			w.mu.Unlock()
			if apart {
				_ = node.raw.Network().ClosePeer(other)
			}
		}
	}
}

func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = false
}

// wall is the connection gater of the nodes of one part.
type wall struct {
	world *world
	part  int
}

func (w wall) lets(other peer.ID) bool {
	w.world.mu.Lock()
	defer w.world.mu.Unlock()
	return !w.world.cut || w.world.part[other] == w.part
}

func (w wall) InterceptPeerDial(id peer.ID) bool                        { return w.lets(id) }
func (w wall) InterceptAddrDial(id peer.ID, _ multiaddr.Multiaddr) bool { return w.lets(id) }
func (w wall) InterceptAccept(network.ConnMultiaddrs) bool              { return true }
func (w wall) InterceptSecured(_ network.Direction, id peer.ID, _ network.ConnMultiaddrs) bool {
	return w.lets(id)
}
func (w wall) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

// TestPartitionHeals has two halves, each alive in itself. Nobody restarts, and
// all bootstraps are in the first one.
func TestPartitionHeals(t *testing.T) {
	w := newWorld()
	nodes := []*Discovery{w.start(t, 0, nil)}
	for i := range 5 {
		nodes = append(nodes, w.start(t, (i+1)/3, joining(nodes[0])))
	}
	settle(t, nodes)
	left, right := nodes[:3], nodes[3:]
	before := hashOf("before")
	announce(t, right[1], before)

	w.divide()
	for _, node := range nodes {
		wantPeers(t, node, 2)
	}
	during, also := hashOf("left"), hashOf("right")
	announce(t, left[2], during)
	announce(t, right[2], also)
	wantFound(t, left, during, left[2])
	wantFound(t, right, also, right[2])
	wantFound(t, right, during)

	began := time.Now()
	w.heal()
	for _, node := range nodes {
		wantPeers(t, node, 5)
	}
	t.Logf("together again after %v", time.Since(began))
	var wg sync.WaitGroup
	for _, record := range []struct {
		hash  content.FullHash
		owner *Discovery
	}{{before, right[1]}, {during, left[2]}, {also, right[2]}} {
		for i, node := range nodes {
			wg.Go(func() {
				eventuallyFound(t, node, record.hash, record.owner, fmt.Sprintf("node %d does not find what is on the other side", i))
			})
		}
	}
	wg.Wait()
	finish(t, right[1], before)
	wantFound(t, nodes, before)
	for i, node := range nodes {
		eventually(t, func() error {
			if got := node.Missing(); got != 0 {
				return fmt.Errorf("node %d misses %d", i, got)
			}
			return nil
		})
	}
}

// eventuallyFound polls as eventually does, in a goroutine that is not the test's.
func eventuallyFound(t *testing.T, node *Discovery, hash content.FullHash, owner *Discovery, otherwise string) {
	ctx := testContext(t)
	for node != owner && !slices.Contains(find(t, node, hash), owner.ID()) {
		if ctx.Err() != nil {
			t.Error(otherwise)
			return
		}
	}
}

// TestCutOffAlone cuts off the one that all others have as their bootstrap, and
// that has none itself.
func TestCutOffAlone(t *testing.T) {
	w := newWorld()
	first := w.start(t, 0, nil)
	nodes := []*Discovery{first}
	for range 3 {
		nodes = append(nodes, w.start(t, 1, joining(first)))
	}
	settle(t, nodes)
	announce(t, first, hashOf("x"))
	w.divide()
	wantPeers(t, first, 0)
	for _, node := range nodes[1:] {
		wantPeers(t, node, 2)
	}
	w.heal()
	for _, node := range nodes {
		wantPeers(t, node, 3)
	}
	wantFound(t, nodes, hashOf("x"), first)
}

// TestDeadMediatorsAreForgotten: its place in the routing tables is free soon,
// and who finds its record does not hand it out again and again.
func TestDeadMediatorsAreForgotten(t *testing.T) {
	w := newWorld()
	nodes := []*Discovery{w.start(t, 0, nil)}
	for range 3 {
		nodes = append(nodes, w.start(t, 0, joining(nodes[0])))
	}
	settle(t, nodes)
	dead, alive, hash := nodes[3], nodes[:3], hashOf("x")
	announce(t, dead, hash)
	wantFound(t, alive, hash, dead)
	eventually(t, func() error { // an announce is told when half of them have it
		if got := recordsOf(alive, hash, dead); got != 3 {
			return fmt.Errorf("%d nodes hold its record, want all", got)
		}
		return nil
	})
	if err := dead.raw.Close(); err != nil { // nobody is told
		t.Fatal(err)
	}
	for _, node := range alive {
		wantPeers(t, node, 2)
	}
	if got := recordsOf(alive, hash, dead); got != 3 {
		t.Errorf("%d nodes hold its record, want all", got)
	}
	for i, node := range alive {
		eventually(t, func() error { // whether a seek has just forgotten that it was tried in vain
			if found := find(t, node, hash); len(found) != 0 {
				return fmt.Errorf("node %d hands out %v", i, found)
			}
			return nil
		})
	}
}

func TestMissingIsBounded(t *testing.T) {
	m := &missing{members: make(map[peer.ID]*absentee)}
	address := multiaddr.StringCast("/ip4/192.0.2.1/tcp/1")
	many := make([]multiaddr.Multiaddr, maxMissingAddresses+1)
	for i := range many {
		many[i] = address
	}
	now := time.Now()
	timing := DefaultTiming
	tired := peer.ID("tired")
	m.note(peer.AddrInfo{ID: tired, Addrs: many}, now, timing.MissingMin)
	if got := len(m.members[tired].info.Addrs); got != maxMissingAddresses {
		t.Errorf("%d addresses are kept", got)
	}
	var pauses []time.Duration
	for range 12 {
		one := m.members[tired]
		m.failed(one, now, timing)
		pauses = append(pauses, one.next.Sub(now))
	}
	if first, last := pauses[0], pauses[11]; first > 2*timing.MissingMin || last < timing.MissingMax/2 || last > 2*timing.MissingMax {
		t.Errorf("pauses %v", pauses)
	}
	for i := range maxMissing {
		m.note(peer.AddrInfo{ID: peer.ID(fmt.Sprint(i)), Addrs: many[:1]}, now, timing.MissingMin)
	}
	if _, still := m.members[tired]; still || m.size() != maxMissing {
		t.Errorf("%d are remembered, the one that was tried most: %v", m.size(), still)
	}
	m.note(peer.AddrInfo{ID: "without addresses"}, now, 0)
	if due := m.due(now.Add(timing.MissingMin*2), 3); len(due) != 3 {
		t.Errorf("%d are tried at a time", len(due))
	}
	for range m.size() { // the busy ones stay
		m.due(now.Add(missingFor+time.Hour), maxMissing)
	}
	if m.size() != 3 {
		t.Errorf("%d are remembered for ever", m.size())
	}
}
