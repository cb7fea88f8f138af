// Package plan reads lab files: which hosts a network has, how they are linked, what runs there, and what must come of it. It
// looks at nothing but the text. The format is described in scripts/lab/README.md.
package plan

import (
	"time"

	"p2pcdn/common/timeline"
)

// Plan is a lab file that was found to be right: what it refers to is there, and every number is in its limits.
type Plan struct {
	Name  string // of the lab, for folders and headings
	Seed  uint64 // at most timeline.MaxNumber
	Hosts []Host
	Runs  []Run
	Musts []Must
}

// Host is a machine of its own in the lab.
type Host struct {
	Name     string
	Link     Link
	NAT      NAT
	Mediator *Mediator // that runs there, or nil
}

// Link is what joins a host to the hub, the same both ways but for its rates.
type Link struct {
	Name     string
	Delay    time.Duration // one way
	Jitter   time.Duration // at most so much more
	Loss     float64       // 0 to 1, of each passage
	Up, Down int64         // bits per second, from and to the host
	Queue    int           // bytes that may wait in each direction; 0: 100 ms at that direction's rate, at least 64 KiB
	Reorder  bool          // jitter may have packets overtake others
}

// NAT is what stands between a host and its link.
type NAT string

// The kinds.
const (
	// NoNAT: the host has a public address.
	NoNAT NAT = "none"
	// Cone keeps a connection's port where it can, so that one mapping serves all destinations, and lets in
	// what comes from where something was sent (RFC 4787: endpoint-independent mapping, address and port-dependent filtering).
	Cone NAT = "cone"
	// Symmetric gives each destination another port by chance, so that holes cannot be punched from port to port.
	Symmetric NAT = "symmetric"
	// UDPBlocked is a Cone that drops UDP both ways without a word.
	UDPBlocked NAT = "udp-blocked"
)

// Mediator is how the mediator of a host is started.
type Mediator struct {
	Bootstrap []string // names of hosts
	Args      []string // more flags
}

// Namespaces are the names of what is made for a host: its own one, and that of its NAT, if it has one.
func (h Host) Namespaces() []string {
	if h.NAT == NoNAT || h.NAT == "" {
		return []string{h.Name}
	}
	return []string{h.Name, h.Name + natSuffix}
}

// natSuffix makes of the name of a host that of its NAT.
const natSuffix = "-nat"

// What a run does.
type What string

// The kinds of runs.
const (
	Go         What = "go"         // headless peers: peer latency
	Browser    What = "browser"    // the browser peer
	WebTorrent What = "webtorrent" // WebTorrent, with a tracker on the mediator's host
	Announce   What = "announce"   // from an announce to the moment at which another mediator names the seeder
	Ping       What = "ping"       // round trips alone
)

// Run is something that is done in the lab, N times.
type Run struct {
	Name      string
	What      What
	Seeder    string   // the host of the seeders
	Leecher   string   // and of the leechers
	Mediators []string // hosts: seeders are at the first, leechers at the last
	N         int
	Contents  int   // that are fetched of each seeder, one after the other
	Size      int64 // bytes of each
	Piece     int64 // bytes of each piece; 0: as seeders cut them by themselves
	Flow      timeline.Flow
	Without   []string          // of what saves round trips (peer latency --without) these are left out, of the fast flow
	Browser   timeline.Endpoint // Chromium or Firefox, where there is one
	Flags     []string          // more of the browser's command line
	MDNS      bool              // browsers hide their addresses behind names
	STUN      bool              // browsers ask the mediator's STUN server for their addresses
	Fresh     bool              // the mediators are started anew for each introduction
	Timeout   time.Duration     // of each introduction
	Kill      string            // the host whose mediator is killed, or ""
	KillAfter time.Duration     // since the first introduction began
	Expect    Expectation
}

// Expectation is what is to become of a run's introductions.
type Expectation string

// The expectations.
const (
	ExpectComplete Expectation = "complete" // each of them
	ExpectFailed   Expectation = "failed"   // each of them: such peers cannot meet
	ExpectAny      Expectation = "any"
)

// Must is what a median must be, and at best would be.
type Must struct {
	What     string // for people
	Run      string
	Content  int            // which one of each seeder's, from 1
	From, To timeline.Phase // the time between these
	Against  string         // another run, which a Ratio is to, or ""
	AtMost   Bound
	Moonshot *Bound // nil: none
}

// Bound is a limit in one of three units.
type Bound struct {
	Value float64
	Unit  Unit
}

// Unit is what a bound counts.
type Unit string

// The units.
const (
	Milliseconds Unit = "ms"
	RoundTrips   Unit = "rtt" // between the leecher and its mediator, as measured
	Ratio        Unit = "x"   // of the same time of another run
)

// Host returns the host of this name; nil: there is none.
func (p *Plan) Host(name string) *Host {
	for i := range p.Hosts {
		if p.Hosts[i].Name == name {
			return &p.Hosts[i]
		}
	}
	return nil
}

// Run returns the run of this name; nil: there is none.
func (p *Plan) Run(name string) *Run {
	for i := range p.Runs {
		if p.Runs[i].Name == name {
			return &p.Runs[i]
		}
	}
	return nil
}

// RoundTrip is how long a small packet takes from one host to another and back, without jitter: the sum of
// both links' delays, both ways.
func (p *Plan) RoundTrip(a, b string) time.Duration {
	return 2 * (p.Host(a).Link.Delay + p.Host(b).Link.Delay)
}
