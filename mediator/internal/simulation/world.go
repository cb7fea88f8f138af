package simulation

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/discovery"
	"p2pcdn/mediator/internal/memnet"
	"p2pcdn/mediator/internal/relay"
	"p2pcdn/mediator/internal/router"
)

// Config is a network and what happens in it. [Default] says what it usually is.
type Config struct {
	Mediators  int           // at all times
	Bootstraps int           // of these, those that others join through, and that stay
	Seed       uint64        // of latencies, keys, and of who does what when
	JoinEvery  time.Duration // between two that start, in the beginning
	Settle     time.Duration // from the last of these to the first announce
	Announcing time.Duration // from there to the measurement; the announces are spread over its first half
	Measured   time.Duration // how long lookups are made and counted
	Leaving    float64       // the part of the mediators that die in an hour, each replaced by a new one
	Contents   int           // each with one seeder
	Lookups    int           // in all of Measured
	Patience   time.Duration // after which a lookup has failed
	Moving     time.Duration // after which the seeder of a mediator that died is at another one

	Discovery discovery.Timing // zero fields: those of every mediator
	Logger    *slog.Logger     `json:"-"` // of all mediators; nil: none
}

// Default is an hour of so many mediators as in the issue: a tenth of them die in it.
func Default(mediators int) Config {
	return Config{
		Mediators: mediators, Bootstraps: min(5, max(1, mediators/5)), Seed: 1,
		JoinEvery: 200 * time.Millisecond, Settle: 10 * time.Minute, Announcing: 30 * time.Minute,
		Measured: time.Hour, Leaving: 0.1, Contents: max(100, mediators/2), Lookups: 5000,
		Patience: 10 * time.Second, Moving: 30 * time.Second,
	}
}

// world is a running simulation.
type world struct {
	Config
	net    *memnet.Net
	joined []string        // multiaddrs of the bootstraps; static once they run
	ctx    context.Context // of all calls
	wg     sync.WaitGroup  // what was started in the background: peers' replies, mediators that end

	mu      sync.Mutex                     // guards what follows
	random  *rand.Rand                     // who does what when
	living  []*mediator                    // in no order
	byID    map[ident.MediatorID]*mediator // the dead included
	seeders map[ident.PeerID]*seeder       // all
	lookups map[lookupKey]*lookup          // that run
	result  *Result
	ever    []*mediator // the dead included, in the order in which they came
}

// mediator is one of the network: everything of the node but HTTP, ICE and what it knows of others' URLs.
type mediator struct {
	world     *world
	number    int
	id        ident.MediatorID
	host      *memnet.Host
	discovery *discovery.Discovery
	relay     *relay.Relay
	router    *router.Router
	stays     bool // a bootstrap

	alive   bool         // guarded by world.mu
	before  memnet.Stats // when the measurement began; guarded by world.mu
	after   memnet.Stats // when it ended, or the mediator died; guarded by world.mu
	seeders []*seeder    // guarded by world.mu
}

// start adds a mediator to the network.
func (w *world) start(stays bool) (*mediator, error) {
	m := &mediator{world: w, host: w.net.Host("mediator"), stays: stays, alive: true}
	m.number = m.host.Number()
	key, err := keyOf(w.Seed, m.number)
	if err != nil {
		return nil, err
	}
	logger := w.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	logger = logger.With("mediator", m.number)
	m.discovery, err = discovery.New(w.ctx, discovery.Config{
		Key: key, Transport: m.host.Transport, ListenHosts: []string{m.host.IP()}, ListenPort: memnet.Port,
		Bootstrap: w.through(), Timing: w.Discovery, Logger: logger,
	})
	if err != nil {
		return nil, fmt.Errorf("starting mediator %d: %w", m.number, err)
	}
	m.id = m.discovery.ID()
	handler := &handler{ready: make(chan struct{})}
	m.relay = relay.New(m.discovery.Host(), handler, relay.Config{Logger: logger})
	m.router = router.New(router.Config{Discovery: traced{m}, Relay: m.relay, Logger: logger})
	handler.Router = m.router
	close(handler.ready)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.living = append(w.living, m)
	w.ever = append(w.ever, m)
	w.byID[m.id] = m
	return m, nil
}

// through returns the bootstraps that a new mediator is given: two of them.
func (w *world) through() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	some := slices.Clone(w.joined)
	w.random.Shuffle(len(some), func(i, j int) { some[i], some[j] = some[j], some[i] })
	return some[:min(2, len(some))]
}

// keyOf is the identity of a mediator.
func keyOf(seed uint64, number int) (crypto.PrivKey, error) {
	var bytes [32]byte
	binary.LittleEndian.PutUint64(bytes[:], seed)
	binary.LittleEndian.PutUint64(bytes[8:], uint64(number))
	key, _, err := crypto.GenerateEd25519Key(rand.NewChaCha8(bytes))
	if err != nil {
		return nil, fmt.Errorf("making the key of mediator %d: %w", number, err)
	}
	return key, nil
}

// handler is the router as the relay's handler, as node has it.
type handler struct {
	ready chan struct{} // closed once Router is set
	*router.Router
}

// HandleMediator implements [relay.Handler].
func (h *handler) HandleMediator(from ident.MediatorID, message mediation.Message) {
	<-h.ready
	h.Router.HandleMediator(from, message)
}

// Undelivered implements [relay.Handler].
func (h *handler) Undelivered(to ident.MediatorID, message mediation.Message) {
	<-h.ready
	h.Router.Undelivered(to, message)
}

// MediatorGone implements [relay.Handler].
func (h *handler) MediatorGone(from ident.MediatorID) {
	<-h.ready
	h.Router.MediatorGone(from)
}

// die takes a mediator off the network without a word. What runs of it is ended
// in the background, which nobody can notice.
func (w *world) die(m *mediator) {
	w.mu.Lock()
	m.alive = false
	w.living = slices.DeleteFunc(w.living, func(other *mediator) bool { return other == m })
	left := m.seeders
	m.seeders = nil
	m.after = m.host.Stats()
	w.mu.Unlock()
	m.host.Kill()
	w.wg.Go(func() { m.close() })
	for _, s := range left {
		w.wg.Go(func() {
			if pause(w.ctx, w.Moving) {
				s.settle(w.anyone(nil))
			}
		})
	}
}

func (m *mediator) close() {
	m.router.Close()
	_ = m.relay.Close()
	_ = m.discovery.Close() // what it could not withdraw is no concern of the dead
}

// anyone returns a living mediator by chance, other than one.
func (w *world) anyone(but *mediator) *mediator {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		if m := w.living[w.random.IntN(len(w.living))]; m != but || len(w.living) == 1 {
			return m
		}
	}
}

// pause reports whether d passed before ctx was done.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func contentOf(number int) (hash content.FullHash) {
	// Full hashes are spread evenly over the keyspace, whatever they are: the DHT hashes them.
	binary.BigEndian.PutUint64(hash[:], uint64(number))
	return hash
}
