package discovery

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p"
	kad "github.com/libp2p/go-libp2p-kad-dht"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"

	"p2pcdn/mediator/internal/limits"
)

// Config is what a Discovery is made of. The zero value of every field but Key
// is the default.
type Config struct {
	// Key is the mediator's identity; see [LoadOrCreateKey].
	Key crypto.PrivKey

	// ListenPort is the port of TCP and of QUIC; 0 picks one that is free for both.
	ListenPort int

	// ListenHosts are the IP addresses to listen on. None: all interfaces, IPv4
	// and, where the machine has it, IPv6.
	ListenHosts []string

	// Bootstrap names mediators of the DHT to join, in the forms that
	// [ParseBootstrap] reads. None: a DHT of its own, which others may join.
	Bootstrap []string

	// Logger is told what a volunteer should know. Nil discards it.
	Logger *slog.Logger

	// HTTPClient asks a bootstrap for its addresses. Only its transport is used.
	HTTPClient *http.Client

	// Timing overrides the times of [DefaultTiming] that are not zero.
	Timing Timing

	// Records bounds what is kept for other mediators.
	Records RecordLimits

	// PortMap asks the router, by UPnP or NAT-PMP, to forward the port.
	PortMap bool

	// Transport makes what connections are made of in place of the sockets of this
	// machine, TCP and QUIC: a network in memory, for simulations. It is called for
	// each libp2p identity that the host has, which are two: the mediator's, and the
	// one that AutoNAT dials back with. ListenHosts and ListenPort are addresses of
	// that network then, of those protocols that the transport has. Nil: sockets.
	Transport func(key crypto.PrivKey, resources network.ResourceManager) (transport.Transport, error)

	// For tests: a network that is cut, and what goes over it.
	hostOptions []libp2p.Option
	dhtOptions  []kad.Option
}

// Timing holds the intervals that tests shorten.
type Timing struct {
	RecordValidity time.Duration // how long a record of another mediator is kept after it was stored or renewed
	Renew          time.Duration // between renewals of a record; its first one comes after a quarter of that to five quarters
	Refresh        time.Duration // how often the routing table of a small network is filled up with those that are near
	RefreshAll     time.Duration // how often all of it is filled up; those that were not heard of for about four times as long are asked whether they live
	Watch          time.Duration // how often the routing table and what is due are looked at
	Settle         time.Duration // how long the routing table must not have grown before records are stored anew
	BootstrapMin   time.Duration // first pause after a bootstrap that was not reached; it doubles
	BootstrapMax   time.Duration // longest such pause
	Rejoin         time.Duration // how often a bootstrap that was reached is looked after
	MissingMin     time.Duration // first pause before a mediator that fell out of the routing table is tried again; it doubles
	MissingMax     time.Duration // longest such pause
	RetryMin       time.Duration // first pause after an announce or a withdrawal that failed; it doubles
	RetryMax       time.Duration // longest such pause
}

// DefaultTiming are the times of a mediator in the world.
//
// RecordValidity: each stale record of a mediator that died costs every finder a
// failed dial, so an hour and not kad-dht's two days. Renew: a renewal may fail
// before a record ends, and so may all its retries for half an hour.
// Refresh: kad-dht's ten minutes are for a network that does not grow. A node
// with 20 peers does not take a newcomer in before it meets it in a lookup, and
// stores records without it until then. RefreshAll: those ten minutes. A refresh is a
// dozen lookups; in a network of more than a hundred there is always room for newcomers that are near,
// and they come by themselves. In a simulation of 100 mediators (mediator/internal/simulation), all of which died
// in an hour, two minutes found nothing more and were 32,000 messages an hour in place of 19,000.
// BootstrapMin and Max: a pair of mediators that starts together meets within
// seconds, and a dead bootstrap is no burden. Rejoin: to look costs nothing while
// it is there. MissingMin and Max: 256 of them that never come back are a dial
// every two seconds, and a partition ends ten minutes after its cause at the latest,
// mostly after one, for the first that comes back has the others tried.
var DefaultTiming = Timing{
	RecordValidity: time.Hour,
	Renew:          20 * time.Minute,
	Refresh:        2 * time.Minute,
	RefreshAll:     10 * time.Minute,
	Watch:          time.Second,
	Settle:         2 * time.Second,
	BootstrapMin:   time.Second,
	BootstrapMax:   time.Minute,
	Rejoin:         2 * time.Minute,
	MissingMin:     10 * time.Second,
	MissingMax:     10 * time.Minute,
	RetryMin:       5 * time.Second,
	RetryMax:       5 * time.Minute,
}

func (t Timing) withDefaults() Timing {
	limits.Fill(&t.RecordValidity, DefaultTiming.RecordValidity)
	limits.Fill(&t.Renew, DefaultTiming.Renew)
	limits.Fill(&t.Refresh, DefaultTiming.Refresh)
	limits.Fill(&t.RefreshAll, DefaultTiming.RefreshAll)
	limits.Fill(&t.Watch, DefaultTiming.Watch)
	limits.Fill(&t.Settle, DefaultTiming.Settle)
	limits.Fill(&t.BootstrapMin, DefaultTiming.BootstrapMin)
	limits.Fill(&t.BootstrapMax, DefaultTiming.BootstrapMax)
	limits.Fill(&t.Rejoin, DefaultTiming.Rejoin)
	limits.Fill(&t.MissingMin, DefaultTiming.MissingMin)
	limits.Fill(&t.MissingMax, DefaultTiming.MissingMax)
	limits.Fill(&t.RetryMin, DefaultTiming.RetryMin)
	limits.Fill(&t.RetryMax, DefaultTiming.RetryMax)
	return t
}

// validate fills in the defaults, and returns the parsed bootstraps.
func (c *Config) validate() ([]Bootstrap, error) {
	if c.Key == nil {
		return nil, errors.New("discovery needs a key")
	}
	if c.ListenPort < 0 || c.ListenPort > 65535 {
		return nil, fmt.Errorf("the DHT port is 0 to 65535, not %d", c.ListenPort)
	}
	for _, host := range c.ListenHosts {
		if _, err := netip.ParseAddr(host); err != nil {
			return nil, fmt.Errorf("the DHT listens on IP addresses, not on %q", host)
		}
	}
	if c.Transport != nil && (c.ListenPort == 0 || len(c.ListenHosts) == 0) {
		return nil, errors.New("a transport needs an address to listen on: this machine's are of no use to it")
	}
	bootstraps := make([]Bootstrap, 0, len(c.Bootstrap))
	for _, text := range c.Bootstrap {
		bootstrap, err := ParseBootstrap(text)
		if err != nil {
			return nil, err
		}
		bootstraps = append(bootstraps, bootstrap)
	}
	c.Timing = c.Timing.withDefaults()
	for _, d := range []time.Duration{
		c.Timing.RecordValidity, c.Timing.Renew, c.Timing.Refresh, c.Timing.RefreshAll, c.Timing.Watch, c.Timing.Settle,
		c.Timing.BootstrapMin, c.Timing.BootstrapMax, c.Timing.Rejoin,
		c.Timing.MissingMin, c.Timing.MissingMax, c.Timing.RetryMin, c.Timing.RetryMax,
	} {
		if d < 0 {
			return nil, fmt.Errorf("an interval of discovery is negative: %v", d)
		}
	}
	if c.Timing.Renew >= c.Timing.RecordValidity-c.Timing.Renew/4 {
		return nil, fmt.Errorf("records end after %v but are renewed only every %v", c.Timing.RecordValidity, c.Timing.Renew)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.HTTPClient == nil {
		// No kept connections: /id is read once per attempt.
		c.HTTPClient = &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}}
	}
	c.Records = c.Records.withDefaults()
	return bootstraps, nil
}
