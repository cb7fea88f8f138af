package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a few routers joined by a DHT and a relay in memory. Messages
// between mediators take hop, lookups take lookup, on the time of the bubble.
type world struct {
	t       *testing.T
	hop     time.Duration
	lookup  time.Duration
	mu      sync.Mutex
	routers map[ident.MediatorID]*Router
	records map[content.FullHash][]ident.MediatorID
	dead    map[ident.MediatorID]bool
	muted   map[ident.MediatorID]bool
	fails   int // so many of the next announces fail
	calls   []string
	finds   int
	sent    []mediation.Message // all that went between mediators
}

const digits = "123456789ABCDEFGH"

func mediatorID(n int) ident.MediatorID {
	id, err := ident.ParseMediatorID("12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ" + digits[n:n+1])
	if err != nil {
		panic(err)
	}
	return id
}

func peerID(n byte) ident.PeerID       { return ident.PeerID{19: n} }
func fullHash(n byte) content.FullHash { return content.FullHash{31: n} }

// bubble runs f in a synctest bubble, in a world of so many routers.
func bubble(t *testing.T, routers int, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, hop: 20 * time.Millisecond, lookup: 100 * time.Millisecond,
			routers: map[ident.MediatorID]*Router{}, records: map[content.FullHash][]ident.MediatorID{}, dead: map[ident.MediatorID]bool{}, muted: map[ident.MediatorID]bool{},
		}
		for n := range routers {
			w.add(n, Config{})
		}
		defer func() { // also where the test fails
			for _, r := range w.routers {
				r.Close()
			}
			pass(time.Minute) // for what is on the wires
		}()
		f(t, w)
	})
}

func (w *world) add(n int, config Config) *Router {
	id := mediatorID(n)
	config.Discovery, config.Relay = &dht{w, id}, newWires(w, id)
	config.Logger = slog.New(slog.DiscardHandler)
	r := New(config)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.routers[id] = r
	return r
}

func (w *world) router(n int) *Router {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.routers[mediatorID(n)]
}

// dht is the Discovery of one router.
type dht struct {
	w    *world
	self ident.MediatorID
}

func (d *dht) call(name string, hash content.FullHash) {
	d.w.calls = append(d.w.calls, fmt.Sprintf("%s %d", name, hash[31]))
}

func (d *dht) Announce(ctx context.Context, hash content.FullHash) error {
	time.Sleep(d.w.lookup)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.call("announce", hash)
	if d.w.fails > 0 {
		d.w.fails--
		return errors.New("the network is down")
	}
	if !slices.Contains(d.w.records[hash], d.self) {
		d.w.records[hash] = append(d.w.records[hash], d.self)
	}
	return ctx.Err()
}

func (d *dht) Finish(ctx context.Context, hash content.FullHash) error {
	time.Sleep(d.w.lookup)
	d.w.mu.Lock()
	defer d.w.mu.Unlock()
	d.call("finish", hash)
	d.w.records[hash] = slices.DeleteFunc(d.w.records[hash], func(id ident.MediatorID) bool { return id == d.self })
	return ctx.Err()
}

func (d *dht) Find(ctx context.Context, hash content.FullHash, yield func(ident.MediatorID) bool) error {
	time.Sleep(d.w.lookup)
	d.w.mu.Lock()
	d.w.finds++
	found := slices.Clone(d.w.records[hash])
	d.w.mu.Unlock()
	for _, id := range found {
		if id != d.self && !yield(id) {
			break
		}
	}
	return ctx.Err()
}

// wires is the Relay of one router: a queue per receiver, so that order is kept.
type wires struct {
	w     *world
	self  ident.MediatorID
	mu    sync.Mutex
	queue map[ident.MediatorID][]mediation.Message // present while a goroutine delivers
}

func newWires(w *world, self ident.MediatorID) *wires {
	return &wires{w: w, self: self, queue: map[ident.MediatorID][]mediation.Message{}}
}

func (r *wires) Send(to ident.MediatorID, message mediation.Message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, delivering := r.queue[to]
	r.queue[to] = append(r.queue[to], message)
	if !delivering {
		go r.deliver(to)
	}
}

func (r *wires) deliver(to ident.MediatorID) {
	for {
		time.Sleep(r.w.hop)
		r.mu.Lock()
		if len(r.queue[to]) == 0 {
			delete(r.queue, to)
			r.mu.Unlock()
			return
		}
		message := r.queue[to][0]
		r.queue[to] = r.queue[to][1:]
		r.mu.Unlock()

		r.w.mu.Lock()
		self, other, dead := r.w.routers[r.self], r.w.routers[to], r.w.dead[to] || r.w.dead[r.self]
		r.w.sent = append(r.w.sent, message)
		mute := r.w.muted[to] || r.w.muted[r.self]
		r.w.mu.Unlock()
		if mute {
			continue
		}
		if dead || other == nil {
			self.Undelivered(to, message)
		} else {
			other.HandleMediator(r.self, message)
		}
	}
}

// introduced returns a seeder of the first content at router 0, and a peer at router 1 that was told of it.
func (w *world) introduced() (seeder, leecher *person) {
	seeder = w.person(0, 1)
	seeder.say(announce1)
	pass(time.Second)
	leecher = w.person(1, 2)
	leecher.say(getPeers1)
	pass(time.Second)
	leecher.expect(peers(1, 1))
	return seeder, leecher
}

// mute has nothing arrive at a router any more, or come from it, and nobody notice.
func (w *world) mute(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.muted[mediatorID(n)] = true
}

// kill ends a router without a word; its record stays in the DHT.
func (w *world) kill(n int) {
	w.mu.Lock()
	w.dead[mediatorID(n)] = true
	others := w.routers
	w.mu.Unlock()
	for id, r := range others {
		if id != mediatorID(n) {
			r.MediatorGone(mediatorID(n))
		}
	}
}

// person is a peer, connected to a router.
type person struct {
	w    *world
	peer *Peer
	id   ident.PeerID
	mu   sync.Mutex
	got  []mediation.Message
	full bool // takes no more of what others want to tell it
}

func (p *person) Send(message mediation.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.got = append(p.got, message)
}

// Offer implements Conn; see full.
func (p *person) Offer(message mediation.Message) bool {
	p.mu.Lock()
	full := p.full
	p.mu.Unlock()
	if !full {
		p.Send(message)
	}
	return !full
}

// take returns what came since the last take, after everything has settled.
func (p *person) take() []mediation.Message {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

func (w *world) person(router int, n byte) *person {
	p := &person{w: w, id: peerID(n)}
	p.peer = w.router(router).Attach(p, "")
	p.peer.Receive(mediation.Handshake{PeerID: p.id})
	if got := p.take(); len(got) != 1 || got[0].Type() != "established" {
		w.t.Fatalf("a handshake was answered by %v", got)
	}
	return p
}

func (p *person) say(message mediation.Message) { p.peer.Receive(message) }

// expect fails unless exactly these came since the last take.
func (p *person) expect(want ...mediation.Message) {
	p.w.t.Helper()
	got := p.take()
	if len(got) != len(want) {
		p.w.t.Fatalf("peer %s got %v instead of %v", p.id.Short(), show(got), show(want))
	}
	for i := range want {
		if string(mediation.Encode(got[i])) != string(mediation.Encode(want[i])) {
			p.w.t.Fatalf("peer %s got %v instead of %v", p.id.Short(), show(got), show(want))
		}
	}
}

// refused fails unless exactly one error of that code came since the last take.
func (p *person) refused(code mediation.ErrorCode) *mediation.Error {
	p.w.t.Helper()
	got := p.take()
	if len(got) == 1 {
		if err, is := got[0].(*mediation.Error); is && err.Code == code {
			return err
		}
	}
	p.w.t.Fatalf("peer %s got %v instead of error %s", p.id.Short(), show(got), code)
	return nil
}

func show(messages []mediation.Message) (texts []string) {
	for _, message := range messages {
		texts = append(texts, string(mediation.Encode(message)))
	}
	return texts
}

func peers(hash byte, ids ...byte) mediation.Peers {
	m := mediation.Peers{FullHash: fullHash(hash)}
	for _, id := range ids {
		m.Peers = append(m.Peers, peerID(id))
	}
	return m
}

// pass lets time pass, the bubble's, and everything that happens in it settle.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
