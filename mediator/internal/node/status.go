package node

import (
	"errors"
	"maps"
	"slices"
	"time"

	"p2pcdn/mediator/internal/discovery"
	"p2pcdn/mediator/internal/ice"
	"p2pcdn/mediator/internal/metrics"
	"p2pcdn/mediator/internal/neighbours"
	"p2pcdn/mediator/internal/relay"
	"p2pcdn/mediator/internal/router"
)

// Status is a moment of a mediator.
type Status struct {
	Connections int // open WebSockets
	Router      router.Status
	Discovery   discovery.Status
	Relay       relay.Status
}

// Status returns how things are.
func (n *Node) Status() Status {
	return Status{n.server.Sessions(), n.router.Status(), n.discovery.Status(), n.relay.Status()}
}

// Report is what /status.json says: numbers, and nothing about any one peer or content.
type Report struct {
	ID             string             `json:"id"`
	Version        string             `json:"version"`
	PublicURL      string             `json:"public_url,omitempty"`       // where peers reach it, if its volunteer says so
	PublicURLError string             `json:"public_url_error,omitempty"` // why others will not tell peers of it, as far as can be seen from here
	UptimeSeconds  int64              `json:"uptime_seconds"`
	Connections    int                `json:"connections"` // open WebSockets
	Peers          int                `json:"peers"`       // those that have shaken hands
	Contents       int                `json:"contents"`    // that anyone seeds or waits for
	Announced      int                `json:"announced"`   // contents that can be found in the DHT through this mediator
	Searches       int                `json:"searches"`    // contents that peers here wait for
	Pending        int                `json:"pending"`     // DHT operations that wait
	Running        int                `json:"running"`     // DHT operations that run
	Messages       float64            `json:"messages"`    // of peers, since it started
	Refusals       map[string]float64 `json:"refusals"`    // by error code, since it started
	DHT            DHTReport          `json:"dht"`
	Mediators      []MediatorReport   `json:"mediators"` // that are alive, by id; of another's figures each is what it says itself
	TURN           *TURNReport        `json:"turn,omitempty"`
}

// DHTReport is this mediator's part in the DHT.
type DHTReport struct {
	Mediators int `json:"mediators"` // in the routing table
	Streams   int `json:"streams"`   // mediation streams to other mediators
	Records   int `json:"records"`   // kept for others
	Unstored  int `json:"unstored"`  // own records that are not stored, or not withdrawn, everywhere yet
	Missing   int `json:"missing"`   // mediators that fell out of the routing table, and are tried again

	Reach discovery.Reach `json:"reach"` // how other mediators reach this one
}

// MediatorReport is another mediator.
type MediatorReport struct {
	ID        string  `json:"id"`
	PublicURL string  `json:"public_url,omitempty"`
	Version   string  `json:"version,omitempty"`
	Peers     int64   `json:"peers"`
	RTT       float64 `json:"rtt_ms,omitempty"`
}

// TURNReport is what the relay for peers behind strict NATs does.
type TURNReport struct {
	Allocations int    `json:"allocations"`
	Bytes       uint64 `json:"bytes"`
	Dropped     uint64 `json:"dropped_bytes"`
}

// Report returns how things are, for programs.
func (n *Node) Report() Report {
	status := n.Status()
	received, refused := n.metrics.Totals()
	report := Report{
		ID: n.ID().String(), Version: n.config.Version, PublicURL: n.config.PublicURL,
		UptimeSeconds: int64(time.Since(n.started) / time.Second),
		Connections:   status.Connections, Peers: status.Router.Peers, Contents: status.Router.Contents,
		Announced: status.Router.Announced, Searches: status.Router.Searches,
		Pending: status.Router.Pending, Running: status.Router.Running,
		Messages: received, Refusals: refused,
		DHT: DHTReport{
			status.Discovery.Peers, status.Relay.Streams, status.Discovery.Held, status.Discovery.Pending,
			n.discovery.Missing(), status.Discovery.Reach,
		},
		Mediators: []MediatorReport{},
	}
	if err := n.neighbours.Own(); err != nil && !errors.Is(err, neighbours.ErrUnchecked) {
		report.PublicURLError = err.Error()
	}
	for _, other := range n.neighbours.List() {
		report.Mediators = append(report.Mediators, MediatorReport{
			ID: other.ID.String(), PublicURL: other.PublicURL, Version: other.Version, Peers: other.Peers,
			RTT: float64(other.RoundTrip.Microseconds()) / 1000,
		})
	}
	if n.config.TURN.Relay {
		relayed := n.ice.Stats()
		report.TURN = &TURNReport{relayed.Allocations, relayed.RelayedBytes, relayed.DroppedBytes}
	}
	return report
}

// ready says why peers should not be sent here: others cannot be found through a
// mediator that is to join a network, and has not.
func (n *Node) ready() error {
	if len(n.config.Bootstrap) > 0 && n.discovery.Status().Peers == 0 {
		return errors.New("no other mediator is reached yet")
	}
	return nil
}

// observe adds what the rooms hold to the metrics.
func (n *Node) observe(m *metrics.Metrics) {
	m.Info("info", "Which mediator this is.", map[string]string{"id": n.ID().String(), "version": n.config.Version})
	gauges := map[string]struct {
		help string
		read func(Status) int
	}{
		"connections":        {"Open WebSockets.", func(s Status) int { return s.Connections }},
		"peers":              {"Peers that have shaken hands.", func(s Status) int { return s.Router.Peers }},
		"contents":           {"Contents that anyone here, or another mediator, seeds or waits for.", func(s Status) int { return s.Router.Contents }},
		"announced":          {"Contents whose record can be found in the DHT.", func(s Status) int { return s.Router.Announced }},
		"searches":           {"Contents that peers here wait for.", func(s Status) int { return s.Router.Searches }},
		"operations_pending": {"DHT operations that wait for a place.", func(s Status) int { return s.Router.Pending }},
		"operations_running": {"DHT operations that run.", func(s Status) int { return s.Router.Running }},
		"dht_mediators":      {"Mediators in the routing table.", func(s Status) int { return s.Discovery.Peers }},
		"dht_records":        {"Records kept for other mediators.", func(s Status) int { return s.Discovery.Held }},
		"dht_unstored":       {"Own records that are not stored, or not withdrawn, everywhere yet.", func(s Status) int { return s.Discovery.Pending }},
		"mediation_streams":  {"Streams to other mediators.", func(s Status) int { return s.Relay.Streams }},
	}
	for _, name := range slices.Sorted(maps.Keys(gauges)) {
		gauge := gauges[name]
		m.Gauge(name, gauge.help, func() float64 { return float64(gauge.read(n.Status())) })
	}
	m.Gauge("dht_missing", "Mediators that fell out of the routing table, and are tried again.",
		func() float64 { return float64(n.discovery.Missing()) })
	m.Gauge("neighbours", "Other mediators that are alive.", func() float64 { return float64(len(n.neighbours.List())) })
	n.observeICE(m)
	if n.tls != nil {
		m.Gauge("certificate_expires_seconds", "When the first certificate ends, in Unix time; 0 while there is a name without one.", func() float64 {
			if end := n.tls.source.Expires(); !end.IsZero() {
				return float64(end.Unix())
			}
			return 0
		})
	}
	m.Counter("dht_records_refused_total", "Records of other mediators that there was no room for.",
		func() float64 { return float64(n.discovery.Status().Refused) })
}

// observeICE adds what STUN and TURN do, where they are served.
func (n *Node) observeICE(m *metrics.Metrics) {
	if n.ice == nil {
		return
	}
	m.Gauge("turn_allocations", "Addresses that are relayed for peers.", func() float64 { return float64(n.ice.Stats().Allocations) })
	for _, counter := range []struct {
		name, help string
		read       func(ice.Stats) uint64
	}{
		{"stun_bindings_total", "Peers that were told their address.", func(s ice.Stats) uint64 { return s.Bindings }},
		{"turn_allocated_total", "Addresses that were ever relayed.", func(s ice.Stats) uint64 { return s.Allocated }},
		{"turn_relayed_bytes_total", "Bytes that were relayed, both ways.", func(s ice.Stats) uint64 { return s.RelayedBytes }},
		{"turn_dropped_bytes_total", "Bytes that were not, for the limits.", func(s ice.Stats) uint64 { return s.DroppedBytes }},
		{"stun_refused_requests_total", "Requests of sources that ask too often.", func(s ice.Stats) uint64 { return s.RefusedRequests }},
		{"turn_refused_credentials_total", "Requests with wrong or expired credentials.", func(s ice.Stats) uint64 { return s.RefusedCredentials }},
		{"turn_refused_allocations_total", "Allocations beyond the limits.", func(s ice.Stats) uint64 { return s.RefusedAllocations }},
		{"turn_refused_addresses_total", "Addresses that nothing is relayed to.", func(s ice.Stats) uint64 { return s.RefusedAddresses }},
		{"turn_refused_connections_total", "TCP connections beyond the limits.", func(s ice.Stats) uint64 { return s.RefusedConnections }},
	} {
		m.Counter(counter.name, counter.help, func() float64 { return float64(counter.read(n.ice.Stats())) })
	}
}
