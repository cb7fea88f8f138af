package signaling

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/common/mediation"
)

// world is a network of fake mediators in memory, in the time of synctest.
type world struct {
	t *testing.T

	mu    sync.Mutex
	hosts map[string]*mediator // guarded by mu, by host and port
	calls []call               // guarded by mu: every attempt to connect
}

// call is an attempt to connect.
type call struct {
	url string
	at  time.Time
}

// mediator is one of the world. It is also the listener of its server.
type mediator struct {
	world  *world
	url    string
	calls  chan net.Conn
	ctx    context.Context // until it dies
	cancel context.CancelFunc
	said   chan mediation.Message // what peers said after their handshake
}

var errRefused = errors.New("connection refused")

func newWorld(t *testing.T) *world { return &world{t: t, hosts: make(map[string]*mediator)} }

// add starts a mediator, each of whose connections is handled by script.
func (w *world) add(name string, script func(m *mediator, v visit)) *mediator {
	m := &mediator{world: w, url: "ws://" + name + "/mediation", calls: make(chan net.Conn), said: make(chan mediation.Message, 64)}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	w.mu.Lock()
	w.hosts[name+":80"] = m
	w.mu.Unlock()
	server := &http.Server{Handler: visits(m.ctx, w.t, func(v visit) { script(m, v) })}
	go func() { _ = server.Serve(m) }()
	return m
}

// die ends a mediator without a word: its connections break, and nobody answers there any more.
func (m *mediator) die() { m.cancel() }

// Accept implements [net.Listener].
func (m *mediator) Accept() (net.Conn, error) {
	select {
	case conn := <-m.calls:
		return conn, nil
	case <-m.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (m *mediator) Close() error { return nil }

// Addr implements [net.Listener].
func (m *mediator) Addr() net.Addr { return &net.TCPAddr{} }

func (w *world) dial(ctx context.Context, _, address string) (net.Conn, error) {
	w.mu.Lock()
	w.calls = append(w.calls, call{"ws://" + strings.TrimSuffix(address, ":80") + "/mediation", time.Now()})
	m := w.hosts[address]
	w.mu.Unlock()
	if m == nil {
		return nil, errRefused
	}
	ours, theirs := net.Pipe()
	select {
	case m.calls <- theirs:
		return ours, nil
	case <-m.ctx.Done():
		return nil, errRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// called returns every attempt so far.
func (w *world) called() []call {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

// naming is a mediator that serves its peers, and names others in established.
func naming(others ...string) func(*mediator, visit) {
	return func(m *mediator, v visit) {
		v.welcome(others...)
		m.listen(v)
	}
}

// listen notes what the peer says, until the connection ends.
func (m *mediator) listen(v visit) {
	for message := v.hear(); message != nil; message = v.hear() {
		m.said <- message
	}
}

// client starts a Client in the world, with chances of its own.
func (w *world) client(seed uint64, urls ...string) *Client {
	return Start(Config{URLs: urls, Dial: w.dial, Chance: seeded(seed)})
}

// end closes the client and every mediator.
func (w *world) end(clients ...*Client) {
	for _, c := range clients {
		c.Close()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.hosts {
		m.die()
	}
}

// in runs a test in a world and a time of its own.
func in(t *testing.T, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t)) })
}

const wellKnown, learntURL = "ws://known.example/mediation", "ws://learnt.example/mediation"

// A peer that was told of one mediator survives its death, and says there what it wants.
func TestALearntMediatorTakesOver(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		known := w.add("known.example", naming(learntURL))
		learnt := w.add("learnt.example", naming(wellKnown))
		c := w.client(1, known.url)
		c.Announce(hash)
		c.GetPeers(other, nil)
		first := event[Connected](t, c)
		for range 2 {
			<-known.said
		}
		time.Sleep(time.Hour) // of the bubble, as all here
		began := time.Now()
		known.die()
		lost := event[Disconnected](t, c)
		if !errors.Is(lost.Err, ErrLost) || lost.URL != known.url || lost.Learnt || lost.Next != learnt.url || lost.Retry > hop {
			t.Errorf("disconnected: %+v", lost)
		}
		second := event[Connected](t, c)
		if second.URL != learnt.url || second.PeerID == first.PeerID || time.Since(began) > hop {
			t.Errorf("after %v: %+v", time.Since(began), second)
		}
		for _, want := range []mediation.Message{mediation.GetPeers{FullHash: other}, mediation.Announce{FullHash: hash}} {
			if m := <-learnt.said; m != want {
				t.Errorf("%#v instead of %#v", m, want)
			}
		}
		// It stays there, also when the first one is back.
		w.add("known.example", naming())
		time.Sleep(24 * time.Hour)
		if calls := w.called(); len(calls) != 2 {
			t.Errorf("it called %v", calls)
		}
		w.end(c)
	})
}

// A mediator that goes away is left before it closes anything, for one that it names then.
func TestGoingAwayIsNotWaitedFor(t *testing.T) {
	for name, early := range map[string]bool{"in the middle": false, "instead of established": true} {
		t.Run(name, func(t *testing.T) {
			in(t, func(t *testing.T, w *world) {
				leave := make(chan struct{})
				known := w.add("known.example", func(m *mediator, v visit) {
					if early {
						v.hear()
					} else {
						v.welcome()
					}
					<-leave
					v.say(&mediation.Error{Code: mediation.CodeGoingAway, Message: "the mediator shuts down", Mediators: []string{"nonsense", learntURL}})
					m.listen(v) // it never closes
				})
				learnt := w.add("learnt.example", naming())
				c := w.client(1, known.url)
				c.Announce(hash)
				if !early {
					event[Connected](t, c)
				}
				synctest.Wait()
				began := time.Now()
				close(leave)
				lost := event[Disconnected](t, c) // and nothing that is heard
				var said *mediation.Error
				if !errors.As(lost.Err, &said) || said.Code != mediation.CodeGoingAway || lost.Next != learnt.url {
					t.Errorf("disconnected: %+v", lost)
				}
				if got := event[Connected](t, c); got.URL != learnt.url || time.Since(began) > hop {
					t.Errorf("after %v: %+v", time.Since(began), got)
				}
				if m := <-learnt.said; m != (mediation.Announce{FullHash: hash}) {
					t.Errorf("%#v instead of the announce", m)
				}
				w.end(c)
			})
		})
	}
}

// Waits grow only when all were tried: until then each attempt comes within a hop.
func TestWaitsGrowWithRounds(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		others := names("learnt", 5)
		known := w.add("known.example", naming(others...))
		c := w.client(1, known.url)
		event[Connected](t, c)
		time.Sleep(time.Hour)
		known.die()
		all := append([]string{known.url}, others...)
		longest := firstRetry
		for round := range 12 {
			tried := make(map[string]bool)
			for i := range all {
				e := disconnected(c)
				if tried[e.URL] = true; e.Learnt != (e.URL != known.url) || e.Failures != len(all)*round+i+1 {
					t.Errorf("round %d: %+v", round, e)
				}
				switch last := i == len(all)-1; {
				case !last && e.Retry > hop:
					t.Errorf("round %d, attempt %d: the next one after %v", round, i, e.Retry)
				case last && (e.Retry < longest/2 || e.Retry > longest || e.Next != known.url):
					t.Errorf("after round %d: %s in %v", round, e.Next, e.Retry)
				}
			}
			if len(tried) != len(all) {
				t.Errorf("round %d: tried %v", round, tried)
			}
			longest = min(2*longest, lastRetry)
		}
		w.end(c)
	})
}

// Two peers that lose their mediator at the same moment go elsewhere at different ones.
func TestPeersDoNotMoveTogether(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		others := names("learnt", mediation.MaxURLs)
		for _, url := range others {
			w.add(strings.Split(url, "/")[2], naming())
		}
		known := w.add("known.example", naming(others...))
		const peers = 64
		var clients []*Client
		for seed := range uint64(peers) {
			c := w.client(seed, known.url)
			event[Connected](t, c)
			clients = append(clients, c)
		}
		time.Sleep(time.Hour)
		died := time.Now()
		known.die()
		for _, c := range clients {
			event[Disconnected](t, c)
			event[Connected](t, c)
		}
		moments, chosen := make(map[time.Duration]bool), make(map[string]int)
		for _, call := range w.called()[peers:] {
			moments[call.at.Sub(died).Truncate(10*time.Millisecond)] = true
			chosen[call.url]++
		}
		if len(moments) < peers/2 {
			t.Errorf("they came at %d different moments", len(moments))
		}
		for url, n := range chosen {
			if n > peers/4 {
				t.Errorf("%d of %d came to %s", n, peers, url)
			}
		}
		w.end(clients...)
	})
}

// A mediator that establishes and breaks again and again gets no more attempts than one that is down.
func TestAMediatorThatBreaksIsNotStormed(t *testing.T) {
	in(t, func(t *testing.T, w *world) {
		known := w.add("known.example", func(_ *mediator, v visit) {
			v.welcome(learntURL)
			time.Sleep(time.Second)
		})
		w.add("learnt.example", func(_ *mediator, v visit) { v.welcome(wellKnown) })
		c := w.client(1, known.url)
		go func() {
			for range c.Events() {
			}
		}()
		time.Sleep(10 * time.Minute)
		if calls := w.called(); len(calls) < 40 || len(calls) > 100 {
			t.Errorf("%d calls in ten minutes", len(calls))
		}
		w.end(c)
	})
}

// disconnected waits for the line to be lost, for however long: the waits are longer than our patience.
func disconnected(c *Client) Disconnected {
	for e := range c.Events() {
		if lost, is := e.(Disconnected); is {
			return lost
		}
	}
	panic("the client is closed")
}
