// Package flights counts how often something has to cross the network before two strangers exchange content:
// whole mediators and whole peers, WebSocket, libp2p's streams, ICE, DTLS and SCTP, on a network in memory where each
// crossing takes the same time and nothing else takes any. So a round trip that somebody adds is a failing
// test, and not a slower graph.
//
// It is the only room that sees mediators and peers at once, and has nothing but tests.
package flights

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"maps"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/pion/logging"
	"github.com/pion/transport/v2/vnet"
	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/mediator/internal/discovery"
	"p2pcdn/mediator/internal/memnet"
	"p2pcdn/mediator/internal/relay"
	"p2pcdn/mediator/internal/router"
	"p2pcdn/mediator/internal/session"
	"p2pcdn/mediator/internal/wsserver"
	"p2pcdn/peer/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// flight is how long anything takes from anywhere to anywhere else: half a round trip.
const flight = 25 * time.Millisecond

// world is a network of mediators and peers.
type world struct {
	t      *testing.T
	wires  *wires      // between peers and mediators
	libp2p *memnet.Net // between mediators
	seeds  []string    // where the mediators' DHT is
	hosts  []*vnet.Net // of peers to come
}

// in runs f in a bubble, in which all time is that of the network.
func in(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		udp, err := vnet.NewRouter(&vnet.RouterConfig{CIDR: "10.0.0.0/8", MinDelay: flight, LoggerFactory: silent{}})
		if err != nil {
			t.Fatal(err)
		}
		var hosts []*vnet.Net
		for n := range 6 {
			host, err := vnet.NewNet(&vnet.NetConfig{StaticIPs: []string{fmt.Sprintf("10.0.0.%d", n+1)}})
			if err == nil {
				err = udp.AddNet(host)
			}
			if err != nil {
				t.Fatal(err)
			}
			hosts = append(hosts, host)
		}
		if err := udp.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = udp.Stop() })
		f(t, &world{
			t: t, wires: &wires{listeners: make(map[string]*listener)}, hosts: hosts,
			libp2p: memnet.New(memnet.Config{Latency: func(_, _ *memnet.Host) time.Duration { return flight }}),
		})
	})
}

// silent is where pion's virtual network logs to: nowhere.
type silent struct{}

func (silent) NewLogger(string) logging.LeveledLogger {
	return logging.NewDefaultLeveledLoggerForScope("", logging.LogLevelDisabled, io.Discard)
}

// mediator starts a whole mediator, but for its ports, and returns its WebSocket URL. Its id, and so which records
// it holds, follows from its name.
func (w *world) mediator(name string) (url string) {
	w.t.Helper()
	host := w.libp2p.Host(name)
	seed := sha256.Sum256([]byte(name))
	key, _, err := crypto.GenerateEd25519Key(bytes.NewReader(seed[:]))
	if err != nil {
		w.t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	d, err := discovery.New(w.t.Context(), discovery.Config{
		Key: key, Transport: host.Transport, ListenHosts: []string{host.IP()}, ListenPort: memnet.Port,
		Bootstrap: w.seeds, Logger: logger,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.seeds = append(w.seeds, d.Addrs()...)
	handler := &handler{ready: make(chan struct{})}
	streams := relay.New(d.Host(), handler, relay.Config{Logger: logger})
	handler.Router = router.New(router.Config{Discovery: d, Relay: streams, Logger: logger})
	close(handler.ready)
	server := wsserver.New(wsserver.Config{
		Attach:   func(s *session.Session, host string) session.Peer { return handler.Attach(s, host) },
		Identity: func() wsserver.Identity { return wsserver.Identity{ID: d.ID().String(), Addresses: d.Addrs()} },
		Preview:  fstest.MapFS{}, Session: session.Config{Logger: logger}, Logger: logger,
	})
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(w.wires.listen(name + ":80")); err != nil {
			w.t.Error(err)
		}
	})
	w.t.Cleanup(func() {
		handler.Close()
		server.Shutdown(context.Background())
		_ = streams.Close()
		_ = d.Close()
		serving.Wait()
	})
	return "ws://" + name + mediation.Path
}

// handler is the router as the relay's handler: the relay is made first.
type handler struct {
	*router.Router
	ready chan struct{} // closed once the router is there
}

func (h *handler) HandleMediator(from ident.MediatorID, message mediation.Message) {
	<-h.ready
	h.Router.HandleMediator(from, message)
}

func (h *handler) Undelivered(to ident.MediatorID, message mediation.Message) {
	<-h.ready
	h.Router.Undelivered(to, message)
}

func (h *handler) MediatorGone(from ident.MediatorID) {
	<-h.ready
	h.Router.MediatorGone(from)
}

// peer starts a whole peer at a mediator.
func (w *world) peer(mediator string, without ...client.Cut) *client.Client {
	w.t.Helper()
	if len(w.hosts) == 0 {
		w.t.Fatal("more peers than hosts")
	}
	c := client.StartOn(w.hosts[0], w.wires.dial, []string{mediator}, client.Config{
		Without: without, Log: slog.New(slog.NewTextHandler(w.t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	w.hosts = w.hosts[1:]
	w.t.Cleanup(c.Close)
	return c
}

// seed has a peer seed a content of so many bytes, which differ from one number to another.
func (w *world) seed(peer *client.Client, number byte, length int64) *client.Share {
	w.t.Helper()
	path := filepath.Join(w.t.TempDir(), "content")
	data := make([]byte, length)
	mathrand.NewChaCha8([32]byte{number}).Read(data)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		w.t.Fatal(err)
	}
	source, err := client.OpenFile(w.t.Context(), path, content.LeafLength, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	share, err := peer.Seed(source)
	if err != nil {
		w.t.Fatal(err)
	}
	return share
}

// get has a peer fetch what another one seeds, and returns how many flights each phase took from the call on.
func (w *world) get(peer *client.Client, of *client.Share) map[timeline.Phase]int {
	w.t.Helper()
	info := of.Status().Info
	target, err := client.CreateTemporary(info, client.FileOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	share, err := peer.Get(info, target)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	if err := share.Wait(ctx); err != nil {
		w.t.Fatal(err)
	}
	stamps := share.Timeline()
	trips := make(map[timeline.Phase]int)
	for phase, at := range stamps {
		took := at.Sub(stamps[timeline.Started])
		trips[phase] = int(took / flight)
		if rest := took % flight; rest > slack {
			w.t.Errorf("%s came after %v: a timer was waited for", phase, took)
		}
	}
	return trips
}

// getBoth has a leecher of one mediator fetch two contents of a seeder of another one, one after the other. Both peers
// leave out what they are told to.
func (w *world) getBoth(seeders, leechers []client.Cut) (cold, warm map[timeline.Phase]int) {
	w.t.Helper()
	first, second := w.mediator("first"), w.mediator("second")
	time.Sleep(settle) // of the bubble
	seeding := w.peer(first, seeders...)
	seeder, next := w.seed(seeding, 1, 3_000), w.seed(seeding, 2, 2_000)
	w.announced(seeder)
	w.announced(next)
	leecher := w.peer(second, leechers...)
	return w.get(leecher, seeder), w.get(leecher, next)
}

// slack is what timers may add to a phase before it counts as more than its flights.
const slack = time.Millisecond

// announced waits until a seeder can be found.
func (w *world) announced(share *client.Share) {
	w.t.Helper()
	for !share.Status().Announced {
		if time.Sleep(time.Second); w.t.Context().Err() != nil {
			w.t.Fatal("it is never announced")
		}
	}
}

// expect compares flights with what they are to be, and draws them where they are not.
func expect(t *testing.T, got, want map[timeline.Phase]int) {
	t.Helper()
	if !maps.Equal(got, want) {
		t.Errorf("the flights are\n%sand should be\n%s", chart(got), chart(want))
	}
}

func chart(flights map[timeline.Phase]int) string {
	var out strings.Builder
	for _, phase := range timeline.Phases {
		if n, there := flights[phase]; there {
			fmt.Fprintf(&out, "%3d %s%s\n", n, strings.Repeat("·", n), phase)
		}
	}
	return out.String()
}

// settle is how long mediators have to find each other.
const settle = 2 * time.Minute

// TestOneMediator: 8 flights are to the mediator and to the seeder and back, with offer and answer: 4 to open the WebSocket, 4
// for all that is said then. The other 8 are between the peers: 2 for ICE, 2 for DTLS (of whose four the
// last two go with the first of SCTP), 4 for SCTP. The request and its answer take 2: for as much as SCTP sends at
// first, 4,380 bytes (RFC 9260, 7.2.1); of more it is no flight's doing how it is cut.
func TestOneMediator(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		mediator := w.mediator("first")
		time.Sleep(settle)
		seeder := w.seed(w.peer(mediator), 1, 3_000)
		w.announced(seeder)
		expect(t, w.get(w.peer(mediator), seeder), map[timeline.Phase]int{
			timeline.Started: 0, timeline.MediatorOpen: 4, timeline.LookupSent: 4, timeline.OfferSent: 4,
			timeline.Established: 6, timeline.PeersNamed: 6, timeline.AnswerReceived: 8, timeline.ICEConnected: 10,
			timeline.DTLSConnected: 12, timeline.ChannelOpen: 16, timeline.FirstPiece: 18, timeline.Complete: 18,
		})
	})
}

// TestTwoMediators: two flights more than with one, to the other mediator and back. The record is where it is asked for, as
// in every network of up to twenty mediators.
func TestTwoMediators(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		first, second := w.mediator("first"), w.mediator("second")
		time.Sleep(settle)
		seeding := w.peer(first)
		seeder, small := w.seed(seeding, 1, 3_000), w.seed(seeding, 2, 2_000)
		w.announced(seeder)
		w.announced(small)
		leecher := w.peer(second)
		expect(t, w.get(leecher, seeder), map[timeline.Phase]int{
			timeline.Started: 0, timeline.MediatorOpen: 4, timeline.LookupSent: 4, timeline.OfferSent: 4,
			timeline.Established: 6, timeline.PeersNamed: 8, timeline.AnswerReceived: 10, timeline.ICEConnected: 12,
			timeline.DTLSConnected: 14, timeline.ChannelOpen: 18, timeline.FirstPiece: 20, timeline.Complete: 20,
		})
		// The next content of the same peer takes one round trip, and waits for no mediator.
		expect(t, w.get(leecher, small), map[timeline.Phase]int{
			timeline.Started: 0, timeline.MediatorOpen: 0, timeline.LookupSent: 0, timeline.Established: 0,
			timeline.FirstPiece: 2, timeline.Complete: 2,
		})
	})
}

// TestLargerNetwork: where there are more mediators than hold a record, those that hold it are asked first, which takes two flights
// more where one of them is known, as of some hundred mediators all are.
func TestLargerNetwork(t *testing.T) {
	if raced {
		t.Skip("too large for the race detector: scripts/test.sh runs it without")
	}
	in(t, func(t *testing.T, w *world) {
		var mediators []string
		for n := range 30 {
			mediators = append(mediators, w.mediator(fmt.Sprintf("m%d", n)))
			time.Sleep(time.Second)
		}
		time.Sleep(15 * time.Minute)
		seeding := w.peer(mediators[0])
		atHome, away := 0, 0
		for number := range byte(5) {
			seeder := w.seed(seeding, number, 3_000)
			w.announced(seeder)
			switch named := w.get(w.peer(mediators[29]), seeder)[timeline.PeersNamed]; named {
			case 8:
				atHome++
			case 10:
				away++
			default:
				t.Errorf("the seeder is named after %d flights", named)
			}
		}
		if atHome == 0 || away == 0 {
			t.Errorf("%d records were at the leecher's own mediator, and %d were not: not both were looked at", atHome, away)
		}
	})
}

// TestOnlyOneSaves: a peer that leaves all cuts out, as one that only knows the basic protocol, gets along with one that leaves out none.
func TestOnlyOneSaves(t *testing.T) {
	for name, test := range map[string]struct {
		seeder, leecher []client.Cut // that they leave out
		flights
	}{
		"the seeder":  {nil, all(), flights{open: 28, first: 32, next: 8}},
		"the leecher": {all(), nil, flights{open: 20, first: 22, next: 2}},
	} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				cold, warm := w.getBoth(test.seeder, test.leecher)
				if !took(cold, warm).are(test.flights, test.leecher) {
					t.Errorf("it takes\n%sand then\n%s", chart(cold), chart(warm))
				}
			})
		})
	}
}

// TestCuts leaves the cuts out, one at a time and all together, of both peers, and says what each of them saves on the way to
// the channel, to the first content, and to the next one.
func TestCuts(t *testing.T) {
	tests := map[string]struct {
		without []client.Cut
		saved   flights
	}{
		"nothing":    {nil, flights{}},
		"pipelining": {[]client.Cut{client.CutPipelining}, flights{open: 2, first: 2, next: 0}},
		"offer":      {[]client.Cut{client.CutOffer}, flights{open: 4, first: 4, next: 0}},
		"pair":       {[]client.Cut{client.CutPair}, flights{open: 2, first: 2, next: 0}},
		"cookie":     {[]client.Cut{client.CutCookie}, flights{open: 2, first: 2, next: 0}},
		"early":      {[]client.Cut{client.CutEarly}, flights{open: 0, first: 2, next: 2}},
		"join":       {[]client.Cut{client.CutJoin}, flights{open: 0, first: 0, next: 4}},
		"all":        {all(), flights{open: 10, first: 12, next: 6}},
	}
	for _, cut := range all() {
		if alone := tests[string(cut)].without; !slices.Equal(alone, []client.Cut{cut}) {
			t.Errorf("what %s saves is not looked at", cut)
		}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				cold, warm := w.getBoth(test.without, test.without)
				got := took(cold, warm)
				want := flights{open: 18 + test.saved.open, first: 20 + test.saved.first, next: 2 + test.saved.next}
				if !got.are(want, test.without) {
					t.Errorf("without %v it takes %+v flights, not %+v", test.without, got, want)
				}
			})
		})
	}
}

// flights are those to the channel, to the first byte, and to the first byte of the next content.
type flights struct{ open, first, next int }

func took(cold, warm map[timeline.Phase]int) flights {
	return flights{cold[timeline.ChannelOpen], cold[timeline.FirstPiece], warm[timeline.FirstPiece]}
}

// are compares flights with what they are to be. A leecher that waits for the nomination may come to that
// only with pion's next look at the pairs.
func (f flights) are(want flights, leftOut []client.Cut) bool {
	const look = int(200 * time.Millisecond / flight)
	later := f.open - want.open
	return later == 0 && f == want ||
		slices.Contains(leftOut, client.CutPair) && later > 0 && later <= look && f == flights{want.open + later, want.first + later, want.next}
}

func all() (cuts []client.Cut) {
	for _, c := range client.Cuts {
		cuts = append(cuts, c.Cut)
	}
	return cuts
}

// TestAnnounce: two flights to and from the mediator, and in between it finds the nodes that are to
// hold the record, stores it, and has it confirmed. From then on another mediator names who announced, to whoever is connected to
// it: two flights there and back, and two more to the seeder's mediator.
func TestAnnounce(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		first := w.mediator("first")
		second := w.mediator("second")
		time.Sleep(settle)
		seeding, leecher := w.peer(first), w.peer(second)
		time.Sleep(time.Second)
		share := w.seed(seeding, 1, 1_000)
		w.announced(share)
		stamps := share.Timeline()
		if took := stamps[timeline.Announced].Sub(stamps[timeline.Started]); took/flight != 6 || took%flight > slack {
			t.Errorf("it took %v", took)
		}
		if named := w.get(leecher, share)[timeline.PeersNamed]; named != 4 {
			t.Errorf("who announced is named after %d flights", named)
		}
	})
}
