package discovery

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/p2p/host/autorelay"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/multiformats/go-multiaddr"
)

const (
	// The connection manager trims to lowConnections whenever there are more than
	// highConnections. A routing table of a network of thousands has some 200
	// peers; the rest is for mediators that share contents.
	lowConnections  = 256
	highConnections = 384

	// maxConnections is where the resource manager refuses. Room above
	// highConnections, for connections younger than a trim.
	maxConnections = 768

	// maxConnectionsPerIP: the default of 8 is for home users, but a lab or a
	// company runs many mediators behind one address.
	maxConnectionsPerIP = 64

	// dialTimeout bounds a dial. A mediator at the other end of the world answers
	// within a second, within two if a packet is lost; a lookup in a small network
	// waits for as long for a node that died, until its routing table drops it.
	dialTimeout = 3 * time.Second

	// ownRelays is how many relays a mediator that is not reached has: one, and
	// another for when that ends. relayBootDelay is how long it looks for as many
	// before it takes what there is, which in a network of three is one.
	// relayBackoff is the pause after one that refused: not libp2p's hour, for there
	// may be few others. maxRelayCandidates bounds those that are asked at a time.
	ownRelays          = 2
	relayBootDelay     = 10 * time.Second
	relayBackoff       = 10 * time.Minute
	maxRelayCandidates = 8

	// maxRelayStreams bounds what is relayed for others in all: two streams for
	// each of 256 connections. With the limit of relayResources they are at most half a MB/s.
	maxRelayStreams = 512

	// maxPortTries bounds the search for a port that TCP and QUIC both have free.
	maxPortTries = 20
)

// relayResources bounds what is relayed for mediators that are not reached.
// Introducing two peers takes some ten messages of a KiB, so a connection is
// enough for fifty introductions, and the next message opens another one. Each
// has two buffers. Reservations: a network in which one of five is reached.
var relayResources = relay.Resources{
	Limit:                 &relay.RelayLimit{Duration: 10 * time.Minute, Data: 512 << 10},
	ReservationTTL:        time.Hour, // libp2p's; it is renewed two minutes before
	MaxReservations:       64,
	MaxCircuits:           16, // of one mediator, as libp2p has it
	BufferSize:            2 << 10,
	MaxReservationsPerIP:  8, // libp2p's: a company behind one address
	MaxReservationsPerASN: 32,
}

// newHost makes a libp2p host that does not listen yet: TCP with Noise, and
// QUIC; AutoNAT, relaying and hole punching as the package comment says.
func (d *Discovery) newHost(config Config) (host.Host, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	limits := rcmgr.PartialLimitConfig{
		System: rcmgr.ResourceLimits{
			Conns: maxConnections, ConnsInbound: maxConnections, ConnsOutbound: maxConnections,
		},
		Service: map[string]rcmgr.ResourceLimits{
			relay.ServiceName: {Streams: maxRelayStreams, StreamsInbound: maxRelayStreams, StreamsOutbound: maxRelayStreams},
		},
	}.Build(scaling.AutoScale())
	resources, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits),
		rcmgr.WithMetricsDisabled(),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: maxConnectionsPerIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: maxConnectionsPerIP}, {PrefixLength: 48, ConnCount: 4 * maxConnectionsPerIP}},
		))
	if err != nil {
		return nil, err
	}
	connections, err := connmgr.NewConnManager(lowConnections, highConnections)
	if err != nil {
		return nil, errors.Join(err, resources.Close())
	}
	confirmed := new(atomic.Bool)
	options := []libp2p.Option{
		libp2p.Identity(config.Key),
		libp2p.NoListenAddrs,
		libp2p.Security(noise.ID, noise.New),
		libp2p.ResourceManager(resources),
		libp2p.ConnectionManager(connections),
		libp2p.WithDialTimeout(dialTimeout),
		libp2p.EnableAutoNATv2(),
		// Not a last word: until reachability has another one. And no AutoNAT v1
		// beside it, which knows one verdict for all addresses.
		libp2p.ForceReachabilityPublic(),
		libp2p.AddrsFactory(func(addresses []multiaddr.Multiaddr) []multiaddr.Multiaddr {
			return announced(addresses, confirmed.Load())
		}),
		libp2p.EnableRelay(),
		libp2p.EnableRelayService(relay.WithResources(relayResources)),
		libp2p.EnableAutoRelayWithPeerSource(d.relayCandidates,
			autorelay.WithNumRelays(ownRelays), autorelay.WithMinCandidates(ownRelays),
			autorelay.WithMaxCandidates(maxRelayCandidates),
			autorelay.WithBootDelay(relayBootDelay), autorelay.WithBackoff(relayBackoff)),
		libp2p.EnableHolePunching(),
		libp2p.DisableMetrics(),
		libp2p.UserAgent("p2pcdn-mediator"),
	}
	if config.Transport != nil {
		options = append(options, libp2p.Transport(config.Transport))
	} else {
		options = append(options,
			// Without SO_REUSEPORT, which would let two mediators share a port and
			// each see half of the connections. (So holes are punched for QUIC alone.)
			libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
			libp2p.Transport(quic.NewTransport))
	}
	if config.PortMap {
		options = append(options, libp2p.NATManager(newPortMapper))
	}
	raw, err := libp2p.New(append(options, config.hostOptions...)...)
	if err != nil {
		return nil, err
	}
	if d.reachable, err = newReachability(raw, confirmed, config.Logger); err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	return raw, nil
}

// listen opens the port for TCP and QUIC, or what else there is, on all hosts, or fails and says which
// one is taken.
func listen(network *swarm.Swarm, hosts []string, port int) error {
	if len(hosts) == 0 {
		hosts = []string{"0.0.0.0"}
		if probe, err := net.ListenPacket("udp6", "[::1]:0"); err == nil {
			_ = probe.Close()
			hosts = append(hosts, "::")
		}
	}
	if port != 0 {
		return listenOn(network, hosts, port)
	}
	var err error
	for range maxPortTries {
		var free int
		if free, err = freePort(hosts[0]); err != nil {
			return fmt.Errorf("listening on %s: %w", hosts[0], err)
		}
		if err = listenOn(network, hosts, free); !errors.Is(err, syscall.EADDRINUSE) {
			return err
		}
	}
	return err
}

// listenOn listens on every address or on none.
func listenOn(network *swarm.Swarm, hosts []string, port int) error {
	var opened []multiaddr.Multiaddr
	for _, host := range hosts {
		for _, address := range addressesOf(host, port) {
			if network.TransportForListening(address) == nil { // see Config.Transport
				continue
			}
			if err := network.AddListenAddr(address); err != nil {
				network.ListenClose(opened...)
				if errors.Is(err, syscall.EADDRINUSE) {
					return fmt.Errorf("the DHT port %d is in use: %w", port, err)
				}
				return fmt.Errorf("listening on %s: %w", address, err)
			}
			opened = append(opened, address)
		}
	}
	if len(opened) == 0 {
		return fmt.Errorf("listening on %v, port %d: %w", hosts, port, swarm.ErrNoTransport)
	}
	return nil
}

// addressesOf returns the multiaddrs of TCP and QUIC. The host is an IP address.
func addressesOf(host string, port int) []multiaddr.Multiaddr {
	kind := "/ip6/"
	if netip.MustParseAddr(host).Is4() {
		kind = "/ip4/"
	}
	number := strconv.Itoa(port)
	return []multiaddr.Multiaddr{
		multiaddr.StringCast(kind + host + "/tcp/" + number),
		multiaddr.StringCast(kind + host + "/udp/" + number + "/quic-v1"),
	}
}

// freePort asks the system for a free TCP port. Somebody may take it before it
// is used; then the next one is tried.
func freePort(host string) (int, error) {
	probe, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	defer probe.Close()
	return probe.Addr().(*net.TCPAddr).Port, nil
}
