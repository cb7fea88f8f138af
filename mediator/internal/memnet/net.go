package memnet

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The defaults of Config.
const (
	// DefaultIdleTimeout and DefaultKeepAlive are those of QUIC in go-libp2p v0.48.
	DefaultIdleTimeout = 30 * time.Second
	DefaultKeepAlive   = 15 * time.Second

	// DefaultWindow is QUIC's first window of a stream (quic-go: 512 KiB).
	DefaultWindow = 512 << 10

	// DefaultStreams is how many streams one side may have opened, as in go-libp2p's QUIC.
	DefaultStreams = 256

	// Port is where a host listens by convention; it may on any other.
	Port = 4001
)

// Config is what a Net is made of. Zero fields are defaults.
type Config struct {
	// Latency is the time from one host to another, in one direction, asked once for each
	// connection. It must be a function of the hosts alone. Nil: none, everything is there at once.
	Latency func(from, to *Host) time.Duration

	IdleTimeout time.Duration // after which a silent connection ends
	KeepAlive   time.Duration // after which a connection on which nothing is said is tried
	Window      int           // bytes of a stream that may be on their way or not read yet
	Streams     int           // open streams of a connection that one side opened
}

// Net is a network. Its methods may be called together.
type Net struct {
	config Config

	mu    sync.Mutex
	hosts map[netip.Addr]*Host // guarded by mu
}

// New returns a network without hosts.
func New(config Config) *Net {
	if config.Latency == nil {
		config.Latency = func(_, _ *Host) time.Duration { return 0 }
	}
	if config.IdleTimeout == 0 {
		config.IdleTimeout = DefaultIdleTimeout
	}
	if config.KeepAlive == 0 {
		config.KeepAlive = DefaultKeepAlive
	}
	if config.Window == 0 {
		config.Window = DefaultWindow
	}
	if config.Streams == 0 {
		config.Streams = DefaultStreams
	}
	return &Net{config: config, hosts: make(map[netip.Addr]*Host)}
}

// firstAddress is that of the first host; every IPv4 address from here to
// 99.255.255.255 is a public one.
const firstAddress = 11 << 24

// Host adds a host with an address of its own. Names are for people; two hosts may have the same.
// An address is never given again.
func (n *Net) Host(name string) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	number := len(n.hosts)
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], uint32(firstAddress+1+number))
	h := &Host{
		net: n, name: name, number: number, address: netip.AddrFrom4(ip),
		listeners: make(map[uint16]*listener), links: make(map[*link]struct{}),
	}
	h.ports.Store(firstEphemeral)
	n.hosts[h.address] = h
	return h
}

// at returns the host with an address, or nil.
func (n *Net) at(address netip.Addr) *Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[address]
}

// state is how a host is on the network.
type state int32

const (
	live state = iota
	cut
	dead
)

const firstEphemeral = 49152 // RFC 6335

// Host is a machine on the network, before, while and after something runs on it.
// Its methods may be called together.
type Host struct {
	net     *Net
	name    string
	number  int
	address netip.Addr

	state    atomic.Int32 // of type state; written with Net.mu held
	ports    atomic.Uint32
	sent     counters
	received counters
	dials    atomic.Int64
	failed   atomic.Int64

	// guarded by Net.mu
	listeners map[uint16]*listener
	links     map[*link]struct{} // connections that have not ended on both sides
}

// Name is what the host was called when it was made.
func (h *Host) Name() string { return h.name }

// Number counts the hosts of the network from 0 on.
func (h *Host) Number() int { return h.number }

// IP is the host's address, as text.
func (h *Host) IP() string { return h.address.String() }

func (h *Host) String() string { return fmt.Sprintf("%s (%s)", h.name, h.address) }

func (h *Host) online() bool { return state(h.state.Load()) == live }

// Kill takes the host off the network for ever, without a word.
func (h *Host) Kill() { h.become(dead) }

// Cut takes the host off the network until it is healed.
func (h *Host) Cut() { h.become(cut) }

// Heal puts a host back on the network that was cut off. A killed one stays dead.
func (h *Host) Heal() { h.become(live) }

func (h *Host) become(next state) {
	h.net.mu.Lock()
	if state(h.state.Load()) == dead {
		h.net.mu.Unlock()
		return
	}
	h.state.Store(int32(next))
	links := make([]*link, 0, len(h.links))
	for l := range h.links {
		links = append(links, l)
	}
	h.net.mu.Unlock()
	for _, l := range links {
		l.look()
	}
}

// Latency is the time from this host to another, in one direction.
func (h *Host) Latency(to *Host) time.Duration { return h.net.config.Latency(h, to) }

// counters count one direction.
type counters struct{ streams, messages, bytes atomic.Int64 }

// Traffic is what went in one direction.
type Traffic struct {
	Streams  int64 // that were opened
	Messages int64 // calls of Write; whoever writes a message in one call has it counted so
	Bytes    int64 // of streams, without the headers of any protocol below
}

func (c *counters) read() Traffic {
	return Traffic{c.streams.Load(), c.messages.Load(), c.bytes.Load()}
}

// Stats is what a host has done since it was made. What is sent to a host that
// is dead or cut off counts as sent.
type Stats struct {
	Sent, Received Traffic
	Dials          int64 // that were begun
	FailedDials    int64 // of these, those that have ended in vain
	Connections    int   // now, those included whose other side is dead
}

// Stats returns how things are.
func (h *Host) Stats() Stats {
	h.net.mu.Lock()
	connections := len(h.links)
	h.net.mu.Unlock()
	return Stats{
		Sent: h.sent.read(), Received: h.received.read(),
		Dials: h.dials.Load(), FailedDials: h.failed.Load(), Connections: connections,
	}
}
