package discovery

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/multiformats/go-multiaddr"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		reachable, unreachable, unknown int
		behindNAT                       bool
		want                            Reach
		sure                            bool
	}{
		{0, 0, 0, false, ReachUnconfirmed, false},
		{0, 0, 3, false, ReachUnconfirmed, false},
		{0, 0, 0, true, ReachHidden, false},
		{0, 2, 0, false, ReachRelayed, true},
		{0, 2, 1, false, ReachRelayed, false},
		{1, 2, 1, false, ReachPublic, true},
		{1, 0, 0, false, ReachPublic, true},
	} {
		got, sure := judge(c.reachable, c.unreachable, c.unknown, c.behindNAT)
		if got != c.want || sure != c.sure {
			t.Errorf("%+v: %s, %v", c, got, sure)
		}
	}
}

// found is a host of which AutoNAT has found something. Its libp2p is not told.
type found struct {
	host.Host
	bus                             event.Bus
	reachable, unreachable, unknown []multiaddr.Multiaddr
}

func (f *found) EventBus() event.Bus             { return f.bus }
func (f *found) AllAddrs() []multiaddr.Multiaddr { return f.Addrs() }
func (f *found) ConfirmedAddrs() (reachable, unreachable, unknown []multiaddr.Multiaddr) {
	return f.reachable, f.unreachable, f.unknown
}

func TestVerdictIsToldOnce(t *testing.T) {
	d := start(t, nil)
	finding := &found{Host: d.raw, bus: eventbus.NewBus()}
	confirmed := new(atomic.Bool)
	r, err := newReachability(finding, confirmed, d.log)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	told, err := finding.bus.Subscribe(new(event.EvtLocalReachabilityChanged))
	if err != nil {
		t.Fatal(err)
	}
	defer told.Close()
	wantTold := func(want network.Reachability) {
		t.Helper()
		select {
		case e := <-told.Out():
			if got := e.(event.EvtLocalReachabilityChanged).Reachability; got != want {
				t.Errorf("told %v, want %v", got, want)
			}
		case <-testContext(t).Done():
			t.Errorf("%v was not told", want)
		}
	}
	one := []multiaddr.Multiaddr{multiaddr.StringCast("/ip4/192.0.2.1/tcp/1")}
	now := time.Now()
	r.judge(now)
	finding.unreachable, finding.unknown = one, one
	r.judge(now)
	r.judge(now.Add(judgeAfter - 1))
	if got := r.status(); got != ReachUnconfirmed {
		t.Errorf("with an address that nobody has tried yet it is %s", got)
	}
	r.judge(now.Add(judgeAfter))
	wantTold(network.ReachabilityPrivate)
	finding.reachable = one
	r.judge(now.Add(judgeAfter))
	r.judge(now.Add(judgeAfter))
	wantTold(network.ReachabilityPublic)
	if !confirmed.Load() || r.status() != ReachPublic {
		t.Error("not confirmed")
	}
	finding.reachable, finding.unknown = nil, nil
	r.judge(now.Add(judgeAfter))
	wantTold(network.ReachabilityPrivate)
	if confirmed.Load() {
		t.Error("confirmed for ever")
	}
}

func TestLoopbackIsAnnouncedUntilAPublicAddressIsConfirmed(t *testing.T) {
	addresses := []multiaddr.Multiaddr{
		multiaddr.StringCast("/ip4/127.0.0.1/tcp/1"), multiaddr.StringCast("/ip6/::1/tcp/1"),
		multiaddr.StringCast("/ip4/192.168.1.1/tcp/1"), multiaddr.StringCast("/ip4/192.0.2.1/tcp/1"),
	}
	if got := announced(addresses, false); len(got) != 4 {
		t.Errorf("announced %v", got)
	}
	if got := announced(addresses, true); fmt.Sprint(got) != fmt.Sprint(addresses[2:]) {
		t.Errorf("announced %v", got)
	}
}

// silentRouter is a mapper of ports whose router does not answer any more.
type silentRouter struct {
	basichost.NATManager
	ended chan struct{}
}

func (r silentRouter) Close() error {
	<-r.ended
	return nil
}

func TestEndsWithoutTheRouter(t *testing.T) {
	router := silentRouter{ended: make(chan struct{})}
	defer close(router.ended)
	if err := (portMapper{router}).Close(); err != nil {
		t.Error(err)
	}
}

// inside is set in the process that has a network of its own.
const inside = "P2PCDN_TEST_INSIDE"

// closed is a connection gater that lets nobody in, as a NAT does. What the node
// itself opens is not concerned, and what comes on that from a relay.
type closed struct{ wall }

func (closed) InterceptAccept(conn network.ConnMultiaddrs) bool {
	return relayed(conn.RemoteMultiaddr())
}

// TestUnreachableMediators runs in a network namespace with public addresses,
// for AutoNAT tries no others. Four mediators are reached by everybody, two by nobody.
func TestUnreachableMediators(t *testing.T) {
	if os.Getenv(inside) == "" {
		again(t)
		return
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	at := func(n int) func(*Config) {
		address := fmt.Sprintf("5.5.5.%d", n)
		if out, err := exec.Command("ip", "addr", "add", address+"/32", "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return func(c *Config) { c.ListenHosts = []string{address, "127.0.0.1"} }
	}
	var nodes []*Discovery
	for n := range 6 {
		where := at(n + 1)
		nodes = append(nodes, start(t, func(c *Config) {
			where(c)
			c.Timing.Refresh = time.Second // so that whoever stops serving while it is taken in leaves again
			if n > 0 {
				for _, address := range nodes[0].Addrs() {
					if strings.Contains(address, "/5.5.5.1/tcp/") {
						c.Bootstrap = []string{address}
					}
				}
			}
			if n >= 4 {
				c.hostOptions = []libp2p.Option{libp2p.ConnectionGater(closed{wall{newWorld(), 0}})}
			}
		}))
	}
	public, hidden, other := nodes[:4], nodes[4], nodes[5]
	for _, node := range nodes[4:] {
		// TCP alone: it is refused at once, and four mediators are enough to say so.
		for _, address := range node.swarm.ListenAddresses() {
			if _, err := address.ValueForProtocol(multiaddr.P_UDP); err == nil {
				node.swarm.ListenClose(address)
			}
		}
	}
	for _, node := range public {
		wantReach(t, node, ReachPublic)
		for _, address := range node.Addrs() {
			if strings.Contains(address, "/127.0.0.1/") {
				t.Errorf("a public mediator announces %s", address)
			}
		}
	}
	for _, node := range []*Discovery{hidden, other} {
		wantReach(t, node, ReachRelayed)
		eventually(t, func() error {
			text := strings.Join(node.Addrs(), " ")
			if !strings.Contains(text, "/p2p-circuit/") {
				return errors.New("it has no relay")
			}
			return nil
		})
		for _, address := range node.Addrs() {
			if strings.Contains(address, "/5.5.5.5/") || strings.Contains(address, "/5.5.5.6/") {
				t.Errorf("it announces %s, where nobody reaches it", address)
			}
		}
	}
	// They do not serve the DHT, and use it.
	for _, node := range public {
		wantPeers(t, node, 3)
	}
	hash := hashOf("behind a NAT")
	announce(t, hidden, hash)
	wantFound(t, append(public, other), hash, hidden)

	// A stream reaches it through its relay.
	const protocol = "/p2pcdn/test/1"
	hidden.Host().SetStreamHandler(protocol, func(stream network.Stream) {
		_, _ = io.Copy(stream, stream)
		_ = stream.Close()
	})
	for _, node := range []*Discovery{public[1], other} {
		_ = node.raw.Network().ClosePeer(hidden.self)
		stream, err := node.Host().NewStream(testContext(t), hidden.self, protocol)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SetDeadline(time.Now().Add(testDeadline))
		if _, err := stream.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		_ = stream.CloseWrite()
		if text, err := io.ReadAll(stream); err != nil || string(text) != "hello" {
			t.Errorf("it said %q, %v", text, err)
		}
		t.Logf("reached through %s", stream.Conn().RemoteMultiaddr())
		if node == other && !stream.Conn().Stat().Limited {
			t.Error("two mediators that let nobody in are connected directly")
		}
		_ = stream.Reset()
	}
	// The DHT has records of another one that nobody reaches withdrawn as well.
	finish(t, hidden, hash)
	wantFound(t, append(public, other), hash)
}

func wantReach(t *testing.T, d *Discovery, want Reach) {
	t.Helper()
	eventually(t, func() error {
		if got := d.Status().Reach; got != want {
			return fmt.Errorf("it is %s, want %s; announced %v", got, want, d.Addrs())
		}
		return nil
	})
}
