package discovery

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// Reach is how others reach this mediator, as far as is known.
type Reach string

// Who is presumed reachable and who serves the DHT, the package comment says.
const (
	ReachUnconfirmed Reach = "unconfirmed" // presumably, nobody having said otherwise
	ReachPublic      Reach = "public"      // others reached one of its public addresses
	ReachHidden      Reach = "hidden"      // it has no public address, but talks to mediators that have
	ReachRelayed     Reach = "relayed"     // others tried its public addresses in vain
)

// judgeAfter is how long a verdict of AutoNAT that leaves addresses open, or the
// lack of any public address, must last until it counts. A router that forwards
// the port says so within half a minute, and AutoNAT asks three mediators about
// each address, up to once in two minutes each.
const judgeAfter = 2 * time.Minute

// reachability turns what AutoNAT v2 finds about each address into one verdict,
// and tells it to the parts of libp2p that wait for one: the DHT serves or does
// not, relaying for others starts or ends, and so does the search for a relay.
type reachability struct {
	log       *slog.Logger
	host      confirmer
	emitter   event.Emitter
	confirmed *atomic.Bool // read by announced, in libp2p's goroutines
	verdict   atomic.Value // of Reach

	// Owned by the goroutine of watch.
	coming Reach     // what the verdict will be if nothing changes
	since  time.Time // when that began
}

// confirmer is what BasicHost knows beyond [host.Host].
type confirmer interface {
	host.Host
	AllAddrs() []multiaddr.Multiaddr
	ConfirmedAddrs() (reachable, unreachable, unknown []multiaddr.Multiaddr)
}

func newReachability(raw host.Host, confirmed *atomic.Bool, log *slog.Logger) (*reachability, error) {
	full, is := raw.(confirmer)
	if !is {
		return nil, fmt.Errorf("a host of the type %T does not know which of its addresses are reached", raw)
	}
	emitter, err := raw.EventBus().Emitter(new(event.EvtLocalReachabilityChanged), eventbus.Stateful)
	if err != nil {
		return nil, fmt.Errorf("telling what is reached: %w", err)
	}
	r := &reachability{log: log, host: full, emitter: emitter, confirmed: confirmed}
	r.verdict.Store(ReachUnconfirmed)
	r.coming = ReachUnconfirmed
	return r, nil
}

func (r *reachability) status() Reach { return r.verdict.Load().(Reach) }

func (r *reachability) close() { _ = r.emitter.Close() }

// judge looks at what is known now.
func (r *reachability) judge(now time.Time) {
	reachable, unreachable, unknown := r.host.ConfirmedAddrs()
	behind := len(reachable)+len(unreachable)+len(unknown) == 0 && r.behindNAT()
	verdict, sure := judge(len(reachable), len(unreachable), len(unknown), behind)
	if verdict != r.coming {
		r.coming, r.since = verdict, now
	}
	old := r.status()
	if verdict == old || !sure && now.Sub(r.since) < judgeAfter {
		return
	}
	r.verdict.Store(verdict)
	r.confirmed.Store(verdict == ReachPublic)
	told := event.EvtLocalReachabilityChanged{Reachability: network.ReachabilityPublic}
	switch verdict {
	case ReachHidden:
		told.Reachability = network.ReachabilityUnknown
	case ReachRelayed:
		told.Reachability = network.ReachabilityPrivate
		r.log.Warn("no other mediator reaches this one: it is reached through relays, and does not serve the DHT; open its DHT port, TCP and UDP",
			"addresses", unreachable)
	}
	if old == ReachRelayed {
		r.log.Info("others do not find this mediator unreachable any more")
	}
	if err := r.emitter.Emit(told); err != nil {
		r.log.Warn("the parts of libp2p were not told what is reached", "error", err)
	}
}

// judge is the verdict over so many public addresses, and whether it counts at once.
func judge(reachable, unreachable, unknown int, behindNAT bool) (verdict Reach, sure bool) {
	switch {
	case reachable > 0:
		return ReachPublic, true
	case unreachable > 0:
		return ReachRelayed, unknown == 0
	case behindNAT:
		return ReachHidden, false
	}
	return ReachUnconfirmed, false
}

// behindNAT reports whether this node, which has no public address, talks to one
// that has.
func (r *reachability) behindNAT() bool {
	if slices.ContainsFunc(r.host.AllAddrs(), manet.IsPublicAddr) {
		return false
	}
	return slices.ContainsFunc(r.host.Network().Conns(), func(conn network.Conn) bool {
		return !conn.Stat().Limited && manet.IsPublicAddr(conn.RemoteMultiaddr())
	})
}

// announced leaves loopback addresses out as soon as a public one is confirmed.
func announced(addresses []multiaddr.Multiaddr, confirmed bool) []multiaddr.Multiaddr {
	if !confirmed {
		return addresses
	}
	return slices.DeleteFunc(slices.Clone(addresses), manet.IsIPLoopback)
}

// relayed reports whether an address leads through a relay.
func relayed(address multiaddr.Multiaddr) bool {
	_, err := address.ValueForProtocol(multiaddr.P_CIRCUIT)
	return err == nil
}

// relayCandidates returns at most n mediators of the DHT that have public
// addresses, for libp2p to ask whether they relay. libp2p asks only after a
// verdict, when New has returned long since.
func (d *Discovery) relayCandidates(_ context.Context, n int) <-chan peer.AddrInfo {
	peers := d.dht.RoutingTable().ListPeers()
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	out := make(chan peer.AddrInfo, n)
	defer close(out)
	for _, id := range peers {
		info := d.raw.Peerstore().PeerInfo(id)
		public := slices.ContainsFunc(info.Addrs, func(a multiaddr.Multiaddr) bool { return manet.IsPublicAddr(a) && !relayed(a) })
		if public && len(out) < n {
			out <- info
		}
	}
	return out
}

// relayedHost is a host whose streams may go through a relay, where the other
// mediator is not reached otherwise. Signals and withdrawals are small, and fit
// the limits of a relayed connection. The DHT itself has no use for it: whoever
// is reached in this way does not serve it.
type relayedHost struct{ host.Host }

// NewStream implements [host.Host].
func (h relayedHost) NewStream(ctx context.Context, to peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	return h.Host.NewStream(network.WithAllowLimitedConn(ctx, "streams between mediators"), to, protocols...)
}
