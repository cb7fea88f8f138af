package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/ice"
	"p2pcdn/mediator/internal/portmux"
)

// TURN is how a mediator helps peers to reach each other beyond introducing them.
type TURN struct {
	NoSTUN       bool       // it tells nobody his own address
	Relay        bool       // it relays what peers cannot send directly
	PublicIP     netip.Addr // IPv4 at which relayed addresses are reached; zero: as ice.Config
	AllowPrivate bool       // it relays to private addresses, too
}

// portAttempts is how often a port is picked that must be free for TCP and for UDP.
const portAttempts = 20

// openPorts opens the port of HTTP, and the UDP port of the same number unless there is no STUN.
func openPorts(config Config) (listener net.Listener, packets net.PacketConn, err error) {
	for attempt := 1; ; attempt++ {
		listener, err = net.Listen("tcp", net.JoinHostPort(config.Listen, strconv.Itoa(config.Port)))
		if err != nil {
			return nil, nil, fmt.Errorf("opening the HTTP port %d: %w", config.Port, err)
		}
		if config.TURN.NoSTUN {
			return listener, nil, nil
		}
		port := listener.Addr().(*net.TCPAddr).Port
		packets, err = net.ListenPacket("udp", net.JoinHostPort(config.Listen, strconv.Itoa(port)))
		if err == nil {
			return listener, packets, nil
		}
		_ = listener.Close() // it never served
		if config.Port != 0 || attempt == portAttempts {
			return nil, nil, fmt.Errorf("opening the UDP port %d for STUN (see --stun): %w", port, err)
		}
	}
}

// startICE serves STUN and TURN; what is left of the TCP port is listener.
func (n *Node) startICE(config Config) error {
	if n.packets == nil {
		return nil
	}
	settings := ice.Config{
		UDP: n.packets, Turn: config.TURN.Relay, PublicIP: config.TURN.PublicIP, AllowPrivate: config.TURN.AllowPrivate,
		OwnPorts: udpPorts(n.discovery.Addrs()), Limits: config.Limits.ICE, Random: rand.Reader, Logger: config.Logger,
	}
	if config.TURN.Relay {
		n.mux = portmux.Split(n.listener, portmux.Config{Logger: config.Logger})
		n.listener, settings.TCP = n.mux.HTTP(), n.mux.TURN()
	}
	server, err := ice.New(settings)
	if err != nil {
		return fmt.Errorf("starting STUN and TURN: %w", err)
	}
	n.ice, n.packets = server, nil
	return nil
}

// udpPorts are those of multiaddrs.
func udpPorts(addresses []string) (ports []uint16) {
	for _, address := range addresses {
		_, rest, found := strings.Cut(address, "/udp/")
		number, _, _ := strings.Cut(rest, "/")
		if port, err := strconv.ParseUint(number, 10, 16); found && err == nil && !slices.Contains(ports, uint16(port)) {
			ports = append(ports, uint16(port))
		}
	}
	return ports
}

// closeICE ends what startICE began.
func (n *Node) closeICE() {
	if n.ice != nil {
		_ = n.ice.Close() // its sockets have nothing left to fail at
	}
	if n.packets != nil {
		_ = n.packets.Close() // likewise
	}
	if n.mux != nil {
		_ = n.mux.Close() // likewise
	}
}

// iceServers are those of this mediator, for a peer that reached it as host, and those that
// its volunteer names.
func (n *Node) iceServers(id ident.PeerID, host string) []mediation.ICEServer {
	if n.ice == nil {
		return n.config.ICEServers
	}
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return append(n.ice.Servers(host, id, time.Now()), n.config.ICEServers...)
}

var errTURNNeedsSTUN = errors.New("TURN is served where STUN is: it cannot be without")

func (t TURN) validate() error {
	if t.Relay && t.NoSTUN {
		return errTURNNeedsSTUN
	}
	if t.PublicIP.IsValid() && !t.PublicIP.Is4() {
		return fmt.Errorf("relayed addresses are IPv4, and %s is not", t.PublicIP)
	}
	return nil
}
