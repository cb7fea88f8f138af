package neighbours

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"

	"p2pcdn/common/ident"
	"p2pcdn/mediator/internal/limits"
)

const (
	// maxAsking bounds the mediators that are asked at a time. With so many every
	// two seconds a full table is through within half a minute.
	maxAsking = 16

	// maxChecking bounds the URLs that are checked at a time.
	maxChecking = 4
)

// Load is how much a mediator has to do.
type Load struct {
	Peers  int  // connected
	Swarms int  // contents that they have or want
	Full   bool // it takes no more peers now: its URL is not named meanwhile
}

// Config is what Neighbours are made of. The zero value of every field but Members
// is the default.
type Config struct {
	// Members returns the mediators in the routing table. It is called every
	// Timing.Watch, and must not wait for the network.
	Members func() []ident.MediatorID

	// PublicURL is the WebSocket URL at which peers reach this mediator; "": it names none.
	PublicURL string

	// Version is that of the program, for people.
	Version string

	// Load returns how much there is to do. It is called from any goroutine, also before New
	// has returned. Nil: nothing.
	Load func() Load

	// Timing overrides the times of [DefaultTiming] that are not zero.
	Timing Timing

	// Lookup resolves the host of a URL that is checked. Default: [net.DefaultResolver].
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

	// Dial connects to an address of it that was found fit, as IP:port. Default: a
	// [net.Dialer]. There is no proxy: it would look names up itself, where nobody judges the addresses.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// TLS is how servers of wss URLs are known. Nil: by the system's certificates.
	TLS *tls.Config

	// Random is where jitter and the order of URLs come from. Nil: a seed of its own.
	Random rand.Source

	// Logger is told of mediators that misbehave. Nil discards it.
	Logger *slog.Logger
}

// Timing holds the times that tests shorten.
type Timing struct {
	Interval      time.Duration // mean time between asks of one mediator; each is drawn from ± a quarter
	Watch         time.Duration // how often the routing table and what is due are looked at
	OpenTimeout   time.Duration // for dialling and opening a stream
	AnswerTimeout time.Duration // for the answer, on either side
	CheckInterval time.Duration // mean time until a URL that held is checked again; each is drawn from ± a quarter
	CheckRetry    time.Duration // first pause after a check that failed; it doubles
	CheckTimeout  time.Duration // for a check: the name, the connection, the answer
}

// DefaultTiming are the times of a mediator in the world.
//
// Interval: a mediator with 200 others in its routing table asks three a second, 1 KiB each. One
// that dies is forgotten much sooner where its connection tells. Watch: a newcomer,
// or a loss, is noticed about as fast as a page reconnects. OpenTimeout and AnswerTimeout: two
// round trips at the other end of the world, and a lost packet. CheckInterval: a
// name that changed hands is told for an hour at most, and 200 neighbours cost three requests
// a minute. CheckRetry: a server that comes up a minute after its mediator.
var DefaultTiming = Timing{
	Interval:      time.Minute,
	Watch:         2 * time.Second,
	OpenTimeout:   5 * time.Second,
	AnswerTimeout: 5 * time.Second,
	CheckInterval: time.Hour,
	CheckRetry:    time.Minute,
	CheckTimeout:  12 * time.Second,
}

func (t Timing) withDefaults() Timing {
	limits.Fill(&t.Interval, DefaultTiming.Interval)
	limits.Fill(&t.Watch, DefaultTiming.Watch)
	limits.Fill(&t.OpenTimeout, DefaultTiming.OpenTimeout)
	limits.Fill(&t.AnswerTimeout, DefaultTiming.AnswerTimeout)
	limits.Fill(&t.CheckInterval, DefaultTiming.CheckInterval)
	limits.Fill(&t.CheckRetry, DefaultTiming.CheckRetry)
	limits.Fill(&t.CheckTimeout, DefaultTiming.CheckTimeout)
	return t
}

func (c Config) withDefaults() Config {
	c.Timing = c.Timing.withDefaults()
	if c.Load == nil {
		c.Load = func() Load { return Load{} }
	}
	if c.Lookup == nil {
		c.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.Dial == nil {
		c.Dial = new(net.Dialer).DialContext
	}
	if c.Random == nil {
		c.Random = rand.NewPCG(rand.Uint64(), rand.Uint64())
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// Neighbours is what one mediator knows of the others. Its methods may be called
// together. Fields without a note never change.
type Neighbours struct {
	host    host.Host
	config  Config
	log     *slog.Logger
	checker *checker
	ctx     context.Context
	cancel  context.CancelFunc
	wg      sync.WaitGroup // everything that runs; added to under mu and before closed

	mu       sync.Mutex // guards what follows
	closed   bool
	table    table
	asking   int // goroutines; bounded by maxAsking
	checking int // bounded by maxChecking
	served   int // streams; bounded by maxServed
	all      *rate.Limiter
	remotes  *allowances[peer.ID]
	networks *allowances[netip.Prefix]
	counts   Counts
	own      error // see Own
}

// New answers other mediators on the host, and asks those in the routing table until Close. It fails
// where PublicURL or Version cannot be told. The host must know, or be able to look up, where the
// members are; it must outlive the Neighbours.
func New(host host.Host, config Config) (*Neighbours, error) {
	config = config.withDefaults()
	if config.Members == nil {
		return nil, errors.New("neighbours need the routing table's members")
	}
	own := ""
	if config.PublicURL != "" {
		parsed, err := parseTarget(config.PublicURL)
		if err != nil {
			return nil, fmt.Errorf("the public URL: %w", err)
		}
		own = parsed.id()
	}
	self, err := ident.ParseMediatorID(host.ID().String())
	if err != nil { // every libp2p id is one
		panic(err)
	}
	n := &Neighbours{
		host: host, config: config, log: config.Logger,
		checker: &checker{
			lookup: config.Lookup, dial: config.Dial, tls: config.TLS, timeout: config.Timing.CheckTimeout,
			networks: newAllowances[netip.Prefix](checkEvery, checksBurst),
		},
		table: table{
			self: self, own: own, timing: config.Timing, random: rand.New(config.Random),
			entries: make(map[ident.MediatorID]*entry),
		},
		all:      rate.NewLimiter(maxServedPerSecond, servedBurst),
		remotes:  newAllowances[peer.ID](config.Timing.pause(), remoteBurst),
		networks: newAllowances[netip.Prefix](config.Timing.Interval/networkAsks, networkBurst),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	// Without the load, which the caller may not be able to tell yet.
	if _, err := decodeAnswer(encodeAnswer(answer{PublicURL: config.PublicURL, Version: config.Version})); err != nil {
		n.cancel()
		return nil, fmt.Errorf("what is said of this mediator: %w", err)
	}
	host.SetStreamHandler(Protocol, n.serve)
	n.wg.Go(n.run)
	if config.PublicURL != "" {
		n.own = ErrUnchecked
		n.wg.Go(n.watchOwn)
	}
	return n, nil
}

// run starts what is due, until Close.
func (n *Neighbours) run() {
	ticker := time.NewTicker(n.config.Timing.Watch)
	defer ticker.Stop()
	for {
		n.step()
		select {
		case <-ticker.C:
		case <-n.ctx.Done():
			return
		}
	}
}

// step looks who is there, and asks and checks as many as there are places for. The
// others stay due.
func (n *Neighbours) step() {
	members := n.config.Members()
	links := make(map[string]bool)
	for _, id := range n.host.Network().Peers() {
		links[id.String()] = true
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	now := time.Now()
	n.table.look(now, members, func(id ident.MediatorID) bool { return links[id.String()] })
	for _, id := range n.table.dueAsks(now, maxAsking-n.asking) {
		n.asking++
		n.wg.Go(func() { n.askOne(id) })
	}
	for _, check := range n.table.dueChecks(now, maxChecking-n.checking) {
		n.checking++
		n.wg.Go(func() { n.checkOne(check) })
	}
}

func (n *Neighbours) askOne(id ident.MediatorID) {
	report, err := n.ask(n.ctx, id)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed { // which may be why it failed
		return
	}
	n.asking--
	n.counts.Asked++
	if err != nil {
		n.counts.Unanswered++
		n.table.unanswered(time.Now(), id)
		n.log.Debug("a mediator is not heard of", "mediator", id.Short(), "error", err)
		return
	}
	n.table.answered(time.Now(), id, report)
}

func (n *Neighbours) checkOne(check toCheck) {
	found, err := n.checker.check(n.ctx, check)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	n.checking--
	n.counts.Checked++
	verdict := holds
	switch {
	case errors.Is(err, errTooMany):
		verdict = putOff
	case err != nil:
		verdict = refuted
		n.counts.Refuted++
		n.log.Debug("a mediator's URL is not told to peers", "mediator", check.id.Short(), "url", check.url, "error", err)
	}
	n.table.checked(time.Now(), check, found, verdict)
}

// URLs returns up to limit WebSocket URLs of other mediators that are alive and were found to be at
// theirs; see the package comment. The order is random, so that the peers of a mediator that
// ends go to many others; no two lead to the same server, and none to this one.
func (n *Neighbours) URLs(limit int) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.urls(limit)
}

// Neighbour is another mediator that is alive. But for ID, Proved, RoundTrip
// and Heard everything is what it says of itself.
type Neighbour struct {
	ID        ident.MediatorID
	PublicURL string // ""; or of the form that content.CheckMediatorURL wants
	Proved    bool   // the URL was found to be its own
	Version   string // printable, at most 64 bytes
	Peers     int64
	Swarms    int64
	RoundTrip time.Duration // at the last ask
	Heard     time.Time     // when that was
}

// List returns the mediators that are alive, by id; at most 256.
func (n *Neighbours) List() []Neighbour {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.table.list()
}

// Counts are how often things happened.
type Counts struct {
	Asked      uint64 // asks that have ended
	Unanswered uint64 // of these, those without a good answer
	Checked    uint64 // checks of a URL that have ended, or were put off
	Refuted    uint64 // of these, those that did not hold
	Answered   uint64 // askers that were answered
	Refused    uint64 // askers that were refused because of a limit
}

// Counts returns how often things happened since New.
func (n *Neighbours) Counts() Counts {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.counts
}

// Close ends everything and waits for it. What was heard stays: URLs tells peers where to go
// also after it.
func (n *Neighbours) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.host.RemoveStreamHandler(Protocol)
	n.cancel()
	n.wg.Wait()
}
