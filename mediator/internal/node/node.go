// Package node is a whole mediator: it wires the rooms together, and is the only
// one that sees them all.
//
//	wsserver ─ session ─┐
//	                    ├─▶ router ─▶ registry
//	relay ──────────────┤      │
//	                    └──────┴────▶ discovery
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/admin"
	"p2pcdn/mediator/internal/discovery"
	"p2pcdn/mediator/internal/ice"
	"p2pcdn/mediator/internal/lists"
	"p2pcdn/mediator/internal/metrics"
	"p2pcdn/mediator/internal/neighbours"
	"p2pcdn/mediator/internal/portmux"
	"p2pcdn/mediator/internal/relay"
	"p2pcdn/mediator/internal/router"
	"p2pcdn/mediator/internal/session"
	"p2pcdn/mediator/internal/wsserver"
	"p2pcdn/preview"
)

// shutdownTime bounds how long peers have to go. Withdrawing from the DHT takes
// up to two seconds beside it, and the whole mediator is to be gone within five.
const shutdownTime = 3 * time.Second

// Config is what a mediator is made of.
type Config struct {
	Port       int      // of HTTP and WebSocket; 0 picks a free one
	DHTPort    int      // of libp2p, TCP and QUIC; 0 picks a free one
	Bootstrap  []string // as [discovery.ParseBootstrap] reads them
	DataDir    string   // where the key is kept; created if need be, and used by one mediator at a time
	Listen     string   // the IP address to listen on; "": all interfaces
	PortMap    bool     // the router is asked to forward the DHT port
	ICEServers []mediation.ICEServer
	Version    string
	Logger     *slog.Logger
	Limits     Limits

	PublicURL    string         // the WebSocket URL at which peers reach this mediator; "": it is told to nobody
	AllowOrigins []string       // of pages that may use it, as browsers write them; none: all
	Proxies      []netip.Prefix // whose X-Forwarded-For is believed
	AllowList    string         // file of the only contents that it has to do with; "": all
	DenyList     string         // file of contents that it has nothing to do with
	TURN         TURN
	TLSCert      string // PEM file of the certificate; "": no TLS, unless ACME has domains
	TLSKey       string // and of its key
	ACME         ACME   // certificates that it gets itself
	Admin        string // host:port of profiles and metrics for the volunteer alone; "": none
}

// ACME is how certificates are got from a CA; nothing is, where there are no domains.
type ACME struct {
	Domains   []string // host names
	Email     string   // whom the CA may write to; "": nobody
	Directory string   // the CA; "": Let's Encrypt
	RootFile  string   // PEM file of the roots that the CA's own server is known by; "": the system's
	HTTP      string   // host:port at which HTTP-01 is answered; "": TLS-ALPN-01 alone is
}

// Validate checks what can be checked without touching anything.
func (c Config) Validate() error {
	for _, port := range []struct {
		name   string
		number int
	}{{"port", c.Port}, {"dht-port", c.DHTPort}} {
		if port.number < 0 || port.number > 65535 {
			return fmt.Errorf("%s must be 0 to 65535, not %d", port.name, port.number)
		}
	}
	if c.Port != 0 && c.Port == c.DHTPort {
		return fmt.Errorf("port and dht-port must differ: both serve TCP")
	}
	if c.DataDir == "" {
		return errors.New("a data directory is needed")
	}
	if c.Listen != "" && net.ParseIP(c.Listen) == nil {
		return fmt.Errorf("the address to listen on must be an IP address, not %q", c.Listen)
	}
	for _, origin := range c.AllowOrigins {
		if at, err := url.Parse(origin); err != nil || at.Host == "" || origin != at.Scheme+"://"+at.Host {
			return fmt.Errorf("an origin is as https://site.example or https://site.example:8443, not %q", origin)
		}
	}
	if err := c.TURN.validate(); err != nil {
		return err
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("a certificate and its key are given together")
	}
	if c.TLSCert != "" && len(c.ACME.Domains) > 0 {
		return errors.New("a certificate comes from files or from a CA, not from both")
	}
	if len(c.ACME.Domains) > 0 {
		if err := c.acme().Validate(); err != nil {
			return err
		}
	}
	if c.PublicURL != "" {
		if err := content.CheckMediatorURL(c.PublicURL); err != nil {
			return fmt.Errorf("the public URL: %w", err)
		}
	}
	established := mediation.Encode(mediation.Established{ICEServers: c.ICEServers})
	if _, err := mediation.Decode(established); err != nil {
		return fmt.Errorf("these ICE servers cannot be told to peers: %w", err)
	}
	for _, text := range c.Bootstrap {
		if _, err := discovery.ParseBootstrap(text); err != nil {
			return err
		}
	}
	return nil
}

// Node is a mediator whose ports are open. Run serves; Close ends it.
type Node struct {
	lock       *flock.Flock
	discovery  *discovery.Discovery
	relay      *relay.Relay
	router     *router.Router
	server     *wsserver.Server
	listener   net.Listener   // what HTTP has of the port
	address    *net.TCPAddr   // of the port
	packets    net.PacketConn // the UDP port of the same number, until ice has it; nil: none
	mux        *portmux.Mux   // nil: HTTP has all of it
	ice        *ice.Server    // nil: none
	tls        *tlsSide       // nil: none
	neighbours *neighbours.Neighbours
	admin      *admin.Server // nil: none
	metrics    *metrics.Metrics
	lists      *lists.Lists
	config     Config    // static
	started    time.Time // static
	close      sync.Once
}

// New opens the ports and starts everything but serving peers. It fails where the
// configuration is wrong, a port is taken, or the data directory cannot be used.
func New(ctx context.Context, config Config) (_ *Node, err error) {
	if err := config.Validate(); err != nil {
		return nil, err
	}
	n := &Node{config: config, started: time.Now(), metrics: metrics.New()}
	defer func() {
		if err != nil {
			n.Close()
		}
	}()
	if n.lists, err = lists.Read(config.AllowList, config.DenyList); err != nil {
		return nil, err
	}
	key, err := discovery.LoadOrCreateKey(config.DataDir)
	if err != nil {
		return nil, err
	}
	if n.lock, err = lock(config.DataDir); err != nil {
		return nil, err
	}
	if n.listener, n.packets, err = openPorts(config); err != nil {
		return nil, err
	}
	n.address = n.listener.Addr().(*net.TCPAddr)
	if n.tls, err = startTLS(config); err != nil {
		return nil, err
	}
	if config.Admin != "" {
		listener, err := net.Listen("tcp", config.Admin)
		if err != nil {
			return nil, fmt.Errorf("opening the admin address %s: %w", config.Admin, err)
		}
		n.admin = admin.Serve(listener, n.metrics.Handler(), config.Logger)
	}
	var hosts []string
	if config.Listen != "" {
		hosts = []string{config.Listen}
	}
	n.discovery, err = discovery.New(ctx, discovery.Config{
		Key: key, ListenPort: config.DHTPort, ListenHosts: hosts, Bootstrap: config.Bootstrap,
		Logger: config.Logger, Timing: config.Limits.Discovery, Records: config.Limits.Records,
		PortMap: config.PortMap,
	})
	if err != nil {
		return nil, err
	}
	if err := n.startICE(config); err != nil {
		return nil, err
	}
	handler := &handler{ready: make(chan struct{})}
	streams := config.Limits.Relay
	streams.Logger, streams.Refused = config.Logger, n.metrics.Refused
	n.relay = relay.New(n.discovery.Host(), handler, streams)
	rules := config.Limits.Router
	rules.Discovery, rules.Relay, rules.Logger = n.discovery, n.relay, config.Logger
	rules.Established, rules.Permits = n.established, n.lists.Permits
	n.router = router.New(rules)
	handler.router = n.router
	close(handler.ready)

	sessions := config.Limits.Session
	sessions.Logger, sessions.Observer = config.Logger, n.metrics
	n.server = wsserver.New(wsserver.Config{
		Attach: func(s *session.Session, host string) session.Peer { return n.router.Attach(s, host) },
		Identity: func() wsserver.Identity {
			return wsserver.Identity{ID: n.discovery.ID().String(), Addresses: n.discovery.Addrs(), Version: config.Version}
		},
		Home: preview.Home(), Preview: preview.FS(), Session: sessions, Logger: config.Logger,
		Ready: n.ready, Status: func() any { return n.Report() }, Metrics: n.metrics.Handler(),
		MaxSessions: config.Limits.Connections, MaxPerAddress: config.Limits.PerAddress, MaxMessage: config.Limits.MessageLength,
		AllowOrigins: config.AllowOrigins, TrustedProxies: config.Proxies, GoingAway: n.elsewhere,
	})
	n.neighbours, err = neighbours.New(n.discovery.Host(), neighbours.Config{
		Members: n.discovery.Members, PublicURL: config.PublicURL, Version: config.Version, Load: n.load,
		Timing: config.Limits.Neighbours, Logger: config.Logger,
	})
	if err != nil {
		return nil, err
	}
	n.observe(n.metrics)
	return n, nil
}

// established is what a peer's handshake is answered with.
func (n *Node) established(id ident.PeerID, host string) mediation.Established {
	return mediation.Established{ICEServers: n.iceServers(id, host), Mediators: n.elsewhere()}
}

// elsewhere is where else peers may go.
func (n *Node) elsewhere() []string { return n.neighbours.URLs(mediation.MaxURLs) }

// load is what other mediators are told.
func (n *Node) load() neighbours.Load {
	status := n.router.Status()
	return neighbours.Load{Peers: status.Peers, Swarms: status.Contents, Full: n.server.Full()}
}

// Reload reads the files again that may have changed: the certificate, and the lists of
// contents. What is not permitted any more ends. Where a file is wrong, what was read before stays.
func (n *Node) Reload() error {
	if n.tls != nil {
		n.tls.source.Reload()
	}
	if err := n.lists.Reload(); err != nil {
		return err
	}
	if n.lists.Any() {
		allowed, denied := n.lists.Sizes()
		n.config.Logger.Info("the lists of contents were read", "allowed", allowed, "denied", denied)
		n.router.Enforce()
	}
	return nil
}

// lock takes the data directory for this process: two mediators with one key
// would take each other's connections.
func lock(dir string) (*flock.Flock, error) {
	held := flock.New(filepath.Join(dir, "lock"), flock.SetPermissions(0o600))
	switch taken, err := held.TryLock(); {
	case err != nil:
		return nil, fmt.Errorf("locking the data directory: %w", err)
	case !taken:
		return nil, fmt.Errorf("the data directory %s is in use by another mediator; give each its own with --data-dir", dir)
	}
	return held, nil
}

// handler is the router as the relay's handler. The relay is made first, and may
// have something to say before there is a router.
type handler struct {
	ready  chan struct{} // closed once router is set
	router *router.Router
}

func (h *handler) HandleMediator(from ident.MediatorID, message mediation.Message) {
	<-h.ready
	h.router.HandleMediator(from, message)
}

func (h *handler) Undelivered(to ident.MediatorID, message mediation.Message) {
	<-h.ready
	h.router.Undelivered(to, message)
}

func (h *handler) MediatorGone(from ident.MediatorID) {
	<-h.ready
	h.router.MediatorGone(from)
}

// Run serves until ctx is done, or serving fails, and then closes the node.
func (n *Node) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, n.Close)
	defer stop()
	err := n.server.Serve(n.tls.over(n.listener))
	n.Close()
	if err != nil {
		return fmt.Errorf("serving HTTP: %w", err)
	}
	return nil
}

// Close ends the mediator within five seconds: peers are told, records are
// withdrawn from the DHT, and everything that was started is waited for.
func (n *Node) Close() {
	n.close.Do(func() {
		var peers sync.WaitGroup
		if n.router != nil {
			n.router.Close() // first: what peers leave behind is withdrawn all at once, below
		}
		if n.server != nil {
			peers.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
				defer cancel()
				n.server.Shutdown(ctx)
			})
		}
		if n.neighbours != nil {
			n.neighbours.Close()
		}
		if n.relay != nil {
			_ = n.relay.Close() // it has no errors worth telling at the end
		}
		if n.discovery != nil {
			_ = n.discovery.Close() // likewise: what could not be withdrawn it has logged
		}
		peers.Wait()
		if n.admin != nil {
			n.admin.Close()
		}
		n.tls.close()
		n.closeICE()
		if n.listener != nil {
			_ = n.listener.Close() // the server has closed it if it ever served
		}
		if n.lock != nil {
			_ = n.lock.Unlock() // ends with the process anyway
		}
	})
}

// Addr is the address of HTTP and WebSocket.
func (n *Node) Addr() *net.TCPAddr { return n.address }

// Secure reports whether it is reached by https and wss.
func (n *Node) Secure() bool { return n.tls != nil }

// ID is the mediator's id.
func (n *Node) ID() ident.MediatorID { return n.discovery.ID() }

// DHTAddrs are the multiaddrs under which other mediators reach this one.
func (n *Node) DHTAddrs() []string { return n.discovery.Addrs() }

// DefaultDataDir is where the key is kept if nothing else is said.
func DefaultDataDir() string {
	if dir := os.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "p2pcdn", "mediator")
	}
	if home, err := os.UserHomeDir(); err == nil {
		return filepath.Join(home, ".local", "share", "p2pcdn", "mediator")
	}
	return filepath.Join(".", "p2pcdn-mediator")
}
