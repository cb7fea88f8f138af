package neighbours

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"go.uber.org/goleak"

	"p2pcdn/common/ident"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testDeadline is when a test gives up: far beyond what anything here takes on a
// busy machine with the race detector.
const testDeadline = 30 * time.Second

// once are the times of tests in which everybody is asked once, and then only where a
// connection tells.
var once = Timing{Interval: time.Hour, Watch: 5 * time.Millisecond}

// often are those of tests in which mediators come and go.
var often = Timing{Interval: time.Second, Watch: 5 * time.Millisecond, CheckRetry: 10 * time.Millisecond}

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls, for what has no event.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	ctx := testContext(t)
	for !check() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal("never: " + what)
		}
	}
}

func newHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ForceReachabilityPublic(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func idOf(h host.Host) ident.MediatorID { return parseID(h.ID().String()) }

// node is a host with Neighbours and the HTTP side of a mediator.
type node struct {
	*Neighbours
	host   host.Host
	id     ident.MediatorID
	url    string
	serves atomic.Value // of ident.MediatorID: what /id says
	full   atomic.Bool

	mu      sync.Mutex
	members []ident.MediatorID // guarded by mu
}

// start runs a node; change may be nil.
func start(t *testing.T, timing Timing, change func(*Config)) *node {
	t.Helper()
	n := &node{host: newHost(t)}
	n.id = idOf(n.host)
	n.serves.Store(n.id)
	server := httptest.NewServer(saysID(func() ident.MediatorID { return n.serves.Load().(ident.MediatorID) }))
	t.Cleanup(server.Close)
	n.url = "ws://" + server.Listener.Addr().String() + "/mediation"
	config := Config{
		PublicURL: n.url, Version: "test", Timing: timing,
		Load: func() Load { return Load{Peers: 5, Swarms: 3, Full: n.full.Load()} },
		Members: func() []ident.MediatorID {
			n.mu.Lock()
			defer n.mu.Unlock()
			return slices.Clone(n.members)
		},
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&config)
	}
	var err error
	if n.Neighbours, err = New(n.host, config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.Close)
	return n
}

// knows puts others into the node's routing table.
func (n *node) knows(others ...host.Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, other := range others {
		n.host.Peerstore().AddAddrs(other.ID(), other.Addrs(), peerstore.PermanentAddrTTL)
		n.members = append(n.members, idOf(other))
	}
}

// world starts so many nodes that all know each other.
func world(t *testing.T, timing Timing, size int) []*node {
	t.Helper()
	var nodes []*node
	for range size {
		nodes = append(nodes, start(t, timing, nil))
	}
	for _, n := range nodes {
		for _, other := range nodes { // itself too
			n.knows(other.host)
		}
	}
	return nodes
}

// tells waits until a node names just these.
func (n *node) tells(t *testing.T, others ...*node) {
	t.Helper()
	var want []string
	for _, other := range others {
		want = append(want, other.url)
	}
	slices.Sort(want)
	eventually(t, fmt.Sprintf("just %v are told", want), func() bool {
		got := n.URLs(100)
		slices.Sort(got)
		return slices.Equal(got, want)
	})
}

// hears waits until just these are alive.
func (n *node) hears(t *testing.T, others ...host.Host) {
	t.Helper()
	var want []string
	for _, other := range others {
		want = append(want, other.ID().String())
	}
	slices.Sort(want)
	eventually(t, fmt.Sprintf("just %v are heard", want), func() bool {
		var got []string
		for _, one := range n.List() {
			got = append(got, one.ID.String())
		}
		return slices.Equal(got, want)
	})
}

func TestMediatorsLearnOfEachOther(t *testing.T) {
	nodes := world(t, once, 3)
	for i, n := range nodes {
		n.tells(t, slices.Delete(slices.Clone(nodes), i, i+1)...)
		for _, one := range n.List() {
			if one.Heard.IsZero() || one.RoundTrip <= 0 || one.RoundTrip > testDeadline {
				t.Errorf("%+v", one)
			}
			one.Heard, one.RoundTrip = time.Time{}, 0
			j := slices.IndexFunc(nodes, func(n *node) bool { return n.id == one.ID })
			if want := (Neighbour{ID: nodes[j].id, PublicURL: nodes[j].url, Proved: true, Version: "test", Peers: 5, Swarms: 3}); j == i || one != want {
				t.Errorf("node %d knows %+v", i, one)
			}
		}
		if got := n.Counts(); got.Asked != 2 || got.Unanswered != 0 || got.Checked != 2 || got.Refuted != 0 || got.Refused != 0 {
			t.Errorf("node %d: %+v", i, got)
		}
	}
}

func TestDeadMediatorIsForgotten(t *testing.T) {
	nodes := world(t, often, 3)
	a, b, dead := nodes[0], nodes[1], nodes[2]
	a.tells(t, b, dead)
	_ = dead.host.Close() // nobody is told
	a.tells(t, b)
	b.tells(t, a)
	a.hears(t, b.host)
}

func TestOneThatStopsAnsweringIsForgottenUntilItAnswers(t *testing.T) {
	nodes := world(t, often, 2)
	a, b := nodes[0], nodes[1]
	a.tells(t, b)
	b.host.RemoveStreamHandler(Protocol) // its connection stays
	a.tells(t)
	a.hears(t)
	b.host.SetStreamHandler(Protocol, b.serve)
	a.tells(t, b)
	if got := a.Counts().Checked; got != 1 {
		t.Errorf("its URL was checked %d times", got)
	}
}

func TestRoutingTableGrowsAndShrinks(t *testing.T) {
	a, b := start(t, often, nil), start(t, often, nil)
	a.tells(t)
	a.knows(b.host)
	a.tells(t, b)
	a.mu.Lock()
	a.members = nil
	a.mu.Unlock()
	asked := a.Counts().Asked
	eventually(t, "it was asked again", func() bool { return a.Counts().Asked > asked })
	a.tells(t, b) // it is alive, whatever the routing table says
	_ = b.host.Close()
	a.tells(t)
	eventually(t, "nothing is kept of it", func() bool {
		a.Neighbours.mu.Lock()
		defer a.Neighbours.mu.Unlock()
		return len(a.table.entries) == 0
	})
}

func TestLiarIsNotTold(t *testing.T) {
	victim := start(t, once, nil)
	liar := start(t, once, func(c *Config) { c.PublicURL = victim.url })
	a := start(t, often, nil)
	a.knows(liar.host)
	eventually(t, "the lie is found", func() bool { return a.Counts().Refuted > 2 })
	if got := a.URLs(9); len(got) != 0 {
		t.Errorf("%v are told", got)
	}
	if got := a.List(); len(got) != 1 || got[0].PublicURL != victim.url || got[0].Proved {
		t.Errorf("%+v", got)
	}
	a.knows(victim.host)
	a.tells(t, victim)
	victim.serves.Store(liar.id) // now it is the liar's server, and no lie
	eventually(t, "it is told", func() bool {
		return slices.ContainsFunc(a.List(), func(one Neighbour) bool { return one.ID == liar.id && one.Proved })
	})
	if got := a.URLs(9); len(got) != 1 {
		t.Errorf("%v lead to one server", got)
	}
}

func TestOwnURLIsNotTold(t *testing.T) {
	a := start(t, often, nil)
	thief := start(t, once, func(c *Config) { c.PublicURL = a.url + "?x" })
	a.knows(thief.host)
	eventually(t, "the lie is found", func() bool { return a.Counts().Refuted > 0 })
	a.serves.Store(thief.id)
	eventually(t, "nothing speaks against it", func() bool { return len(a.List()) == 1 && a.List()[0].Proved })
	if got := a.URLs(9); len(got) != 0 {
		t.Errorf("%v are told", got)
	}
}

// journal keeps what is logged.
type journal struct {
	mu   sync.Mutex
	text strings.Builder // guarded by mu
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func TestAMediatorLooksForItself(t *testing.T) {
	var log journal
	n := start(t, Timing{CheckInterval: 200 * time.Millisecond, CheckRetry: 50 * time.Millisecond}, func(c *Config) { c.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	eventually(t, "it finds itself", func() bool { return n.Own() == nil })
	n.serves.Store(idOf(newHost(t))) // another server took its place
	eventually(t, "it sees that it is not there any more", func() bool { return errors.Is(n.Own(), errNotTheirs) })
	n.serves.Store(n.id)
	eventually(t, "it finds itself again", func() bool { return n.Own() == nil })
	eventually(t, "its volunteer is told each once", func() bool {
		return strings.Count(log.String(), "does not lead here") == 1 && strings.Count(log.String(), "leads here") == 2
	})
	silent := start(t, once, func(c *Config) { c.PublicURL = "" })
	if err := silent.Own(); err != nil {
		t.Errorf("one without a URL says %v", err)
	}
}

func TestFullMediatorIsNotTold(t *testing.T) {
	nodes := world(t, often, 2)
	a, b := nodes[0], nodes[1]
	a.tells(t, b)
	b.full.Store(true)
	a.tells(t)
	a.hears(t, b.host)
	b.full.Store(false)
	a.tells(t, b)
}

func TestWithoutPublicURL(t *testing.T) {
	a, quiet := start(t, once, nil), start(t, once, func(c *Config) { c.PublicURL = "" })
	a.knows(quiet.host)
	quiet.knows(a.host)
	a.hears(t, quiet.host)
	quiet.tells(t, a)
	a.tells(t)
}

func TestBadAnswers(t *testing.T) {
	for name, answer := range map[string]func(network.Stream){
		"garbage":  func(s network.Stream) { _, _ = s.Write(frame("garbage")) },
		"too much": func(s network.Stream) { _, _ = s.Write(frame(strings.Repeat(" ", maxAnswer+1))) },
		"HTTP":     func(s network.Stream) { _, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n") },
		"half": func(s network.Stream) {
			_, _ = s.Write(frame(`{"version":"","peers":1,"swarms":1}`)[:20])
			_ = s.CloseWrite()
		},
		"the end":   func(s network.Stream) { _ = s.CloseWrite() },
		"a reset":   func(s network.Stream) { _ = s.Reset() },
		"silence":   func(network.Stream) {},
		"a trickle": func(s network.Stream) { trickle(s) },
	} {
		t.Run(name, func(t *testing.T) {
			timing := often // a good one may fail once, too, where time is so short
			timing.AnswerTimeout = 200 * time.Millisecond
			n := start(t, timing, nil)
			bad, ended := newHost(t), make(chan struct{}, 100)
			bad.SetStreamHandler(Protocol, func(s network.Stream) {
				answer(s)
				_, _ = io.Copy(io.Discard, s)
				_ = s.Close()
				ended <- struct{}{}
			})
			n.knows(bad)
			eventually(t, "it has failed", func() bool { return n.Counts().Unanswered > 0 })
			<-ended // the asker ends the stream too
			if got := n.List(); len(got) != 0 {
				t.Errorf("%+v", got)
			}
			good := start(t, once, nil)
			n.knows(good.host)
			n.hears(t, good.host)
		})
	}
}

// trickle writes an answer that never ends, though something of it comes all the time.
func trickle(s network.Stream) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	_, err := s.Write([]byte{maxAnswer >> 8, 0})
	for err == nil {
		<-ticker.C
		_, err = s.Write([]byte(" "))
	}
}

// askByHand returns what one byte brings, or why nothing.
func askByHand(t *testing.T, from host.Host, to *node, request ...byte) (answer, error) {
	t.Helper()
	from.Peerstore().AddAddrs(to.host.ID(), to.host.Addrs(), peerstore.PermanentAddrTTL)
	stream, err := from.NewStream(testContext(t), to.host.ID(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Reset()
	_ = stream.SetDeadline(time.Now().Add(testDeadline))
	_, _ = stream.Write(request)
	return readAnswer(stream)
}

func TestFloodIsLimitedWhileOthersAreAnswered(t *testing.T) {
	n := start(t, once, nil)
	flood, friend := newHost(t), newHost(t)
	answered := 0
	for i := range 100 {
		if _, err := askByHand(t, flood, n, request); err == nil {
			answered++
		}
		if i%50 == 25 {
			if got, err := askByHand(t, friend, n, request); err != nil || got.PublicURL != n.url {
				t.Errorf("in the flood another one got %+v, %v", got, err)
			}
		}
	}
	if answered != remoteBurst {
		t.Errorf("%d of the flood were answered", answered)
	}
	if got := n.Counts(); got.Refused != 100-remoteBurst {
		t.Errorf("%+v", got)
	}
}

func TestServedStreamsAreBounded(t *testing.T) {
	n := start(t, once, nil)
	n.Neighbours.mu.Lock()
	n.served = maxServed
	n.Neighbours.mu.Unlock()
	if _, err := askByHand(t, newHost(t), n, request); err == nil {
		t.Error("one more is answered")
	}
	n.Neighbours.mu.Lock()
	n.served = 0
	n.all.SetLimit(0)
	n.all.SetBurst(1)
	n.Neighbours.mu.Unlock()
	for i, want := range []bool{true, false} {
		if _, err := askByHand(t, newHost(t), n, request); (err == nil) != want {
			t.Errorf("number %d of all: %v", i, err)
		}
	}
}

func TestBadRequests(t *testing.T) {
	timing := once
	timing.AnswerTimeout = 100 * time.Millisecond
	n := start(t, timing, nil)
	for _, request := range [][]byte{{0}, []byte("GET / HTTP/1.1\r\n\r\n"), {}} {
		if got, err := askByHand(t, newHost(t), n, request...); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%q was answered with %+v, %v, not with a reset", request, got, err)
		}
	}
	eventually(t, "no stream is left", func() bool {
		n.Neighbours.mu.Lock()
		defer n.Neighbours.mu.Unlock()
		return n.served == 0
	})
}

func TestAsksAreBounded(t *testing.T) {
	n := start(t, once, nil)
	asked, release := make(chan struct{}, 100), make(chan struct{})
	var deaf []host.Host
	for range maxAsking + 4 {
		h := newHost(t)
		h.SetStreamHandler(Protocol, func(s network.Stream) {
			asked <- struct{}{}
			<-release
			_ = s.Reset()
		})
		deaf = append(deaf, h)
	}
	n.knows(deaf...)
	for range maxAsking {
		<-asked
	}
	if len(asked) != 0 {
		t.Errorf("%d more are asked", len(asked))
	}
	close(release)
	eventually(t, "all were asked", func() bool { return n.Counts().Asked == maxAsking+4 })
}

func TestClose(t *testing.T) {
	nodes := world(t, once, 2)
	a, b := nodes[0], nodes[1]
	a.tells(t, b)
	// One that is being asked, one that is being checked, and one that is asking.
	busy := make(chan struct{}, 2)
	deaf := newHost(t)
	deaf.SetStreamHandler(Protocol, func(s network.Stream) {
		busy <- struct{}{}
		_, _ = io.Copy(io.Discard, s)
		_ = s.Reset()
	})
	slow := start(t, once, func(c *Config) {
		c.PublicURL = "ws://" + silentServer(t, busy) + "/mediation"
	})
	a.knows(deaf, slow.host)
	<-busy
	<-busy
	asker := newHost(t)
	asker.Peerstore().AddAddrs(a.host.ID(), a.host.Addrs(), peerstore.PermanentAddrTTL)
	stream, err := asker.NewStream(testContext(t), a.host.ID(), Protocol)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Reset()
	if _, err := stream.Write(nil); err != nil { // negotiates
		t.Fatal(err)
	}
	eventually(t, "it is served", func() bool {
		a.Neighbours.mu.Lock()
		defer a.Neighbours.mu.Unlock()
		return a.served == 1
	})
	began := time.Now()
	a.Close()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closing took %v", took)
	}
	a.tells(t, b) // peers are still told where to go
	a.hears(t, b.host, slow.host)
	if _, err := stream.Write([]byte{request}); err == nil {
		if _, err := readAnswer(stream); err == nil {
			t.Error("it still answers")
		}
	}
	a.Close()
}

// silentServer accepts requests, says so, and never answers.
func silentServer(t *testing.T, accepted chan<- struct{}) string {
	release := make(chan struct{})
	server := httptest.NewServer(saysID(func() ident.MediatorID {
		accepted <- struct{}{}
		<-release
		return ident.MediatorID{}
	}))
	t.Cleanup(func() {
		close(release)
		server.Close()
	})
	return server.Listener.Addr().String()
}

func TestCloseAtAnyMoment(t *testing.T) {
	for round := range 20 {
		nodes := world(t, often, 2)
		for range round {
			nodes[0].step()
		}
		var wg sync.WaitGroup
		for _, n := range nodes {
			wg.Go(n.Close)
		}
		wg.Wait()
	}
}

func TestConfigThatCannotBeTold(t *testing.T) {
	h := newHost(t)
	nobody := func() []ident.MediatorID { return nil }
	for name, config := range map[string]Config{
		"no members":         {},
		"an http URL":        {Members: nobody, PublicURL: "http://a.example"},
		"an ambiguous host":  {Members: nobody, PublicURL: "ws://127.1/mediation"},
		"a long version":     {Members: nobody, Version: strings.Repeat("v", maxVersion+1)},
		"an unprintable one": {Members: nobody, Version: "v1\n"},
	} {
		if n, err := New(h, config); err == nil {
			n.Close()
			t.Errorf("%s is taken", name)
		}
	}
	n, err := New(h, Config{Members: nobody})
	if err != nil {
		t.Fatal(err)
	}
	n.Close()
}
