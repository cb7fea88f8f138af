package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
)

// bubble runs a test with its own network and its own time.
func bubble(t *testing.T, test func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn)) {
	synctest.Test(t, func(t *testing.T) { test(t, newHub(), newMemory().connect) })
}

// recorder keeps the events of a Client.
type recorder struct {
	mu     sync.Mutex
	events []Event
}

func (r *recorder) observe(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

func (r *recorder) find(match func(Event) bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if match(e) {
			return true
		}
	}
	return false
}

// greet answers a handshake as one who has everything.
func greet(info content.Info, l *strangerLink) {
	l.send(wire.Handshake{
		Number: 9, FullHash: info.FullHash, TotalLength: uint64(info.TotalLength),
		PieceLength: uint32(info.PieceLength), MaxFrame: 64 << 10,
	}, wire.HaveAll{Number: 9})
}

// Whatever one peer does, the content comes from the honest one, and the
// misbehaving one is treated as the specification says.
func TestMisbehavingSeeders(t *testing.T) {
	data, source := random(contentLength)
	info := source.info
	right := func(b wire.Block) []byte {
		at := info.Geometry().PieceOffset(int(b.Piece)) + int64(b.Begin)
		return data[at : at+int64(b.Length)]
	}
	type script func(l *strangerLink, r wire.Block)
	for _, test := range []struct {
		name   string
		script script
		banned bool // it is told to be a liar
		ended  bool // its connection is ended
	}{
		{"poisons", func(l *strangerLink, r wire.Block) {
			wrong := bytes.Clone(right(r))
			wrong[0] ^= 1
			l.send(wire.Piece{Number: 9, Piece: r.Piece, Begin: r.Begin, Data: wrong})
		}, true, false},
		{"one piece for another", func(l *strangerLink, r wire.Block) {
			other := wire.Block{Piece: (r.Piece + 1) % 16, Begin: r.Begin, Length: r.Length}
			l.send(wire.Piece{Number: 9, Piece: r.Piece, Begin: r.Begin, Data: right(other)})
		}, true, false},
		{"no such piece", func(l *strangerLink, r wire.Block) {
			l.send(wire.Piece{Number: 9, Piece: 1 << 31, Begin: r.Begin, Data: right(r)})
		}, false, false},
		{"too short", func(l *strangerLink, r wire.Block) {
			l.send(wire.Piece{Number: 9, Piece: r.Piece, Begin: r.Begin, Data: right(r)[:1]})
		}, false, false},
		{"too long", func(l *strangerLink, r wire.Block) {
			l.send(wire.Piece{Number: 9, Piece: r.Piece, Begin: r.Begin, Data: append(bytes.Clone(right(r)), 0)})
		}, false, false},
		{"never answers", func(*strangerLink, wire.Block) {}, false, false},
		{"rejects", func(l *strangerLink, r wire.Block) {
			l.send(wire.Reject{Number: 9, Block: r})
		}, false, false},
		{"disconnects", func(l *strangerLink, r wire.Block) { l.get().Close(nil) }, false, true},
		{"disconnects in the middle", func(l *strangerLink, r wire.Block) {
			l.send(wire.Piece{Number: 9, Piece: r.Piece, Begin: r.Begin, Data: right(r)})
			l.get().Close(nil)
		}, false, true},
		{"says goodbye", func(l *strangerLink, r wire.Block) {
			l.send(wire.Goodbye{FullHash: info.FullHash, Reason: wire.ReasonOverloaded})
		}, false, false},
		{"a number of nothing", func(l *strangerLink, r wire.Block) { l.send(wire.HaveAll{Number: 10}) }, false, true},
		{"nonsense", func(l *strangerLink, r wire.Block) { _ = l.get().Send([]byte{4}) }, false, true},
		{"an unknown type", func(l *strangerLink, r wire.Block) { _ = l.get().Send([]byte{99, 0, 9}) }, false, false},
		{"a huge frame", func(l *strangerLink, r wire.Block) {
			_ = l.get().Send(wire.Append(nil, wire.Piece{Number: 9, Data: make([]byte, wire.MaxBlock+1)}))
		}, false, true},
		{"greets twice", func(l *strangerLink, r wire.Block) { greet(info, l) }, false, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				asked := make(chan struct{}, 1)
				bad := newStranger(hub.line(), connect, func(l *strangerLink, frame wire.Frame) {
					switch f := frame.(type) {
					case wire.Handshake:
						greet(info, l)
					case wire.Request:
						for _, block := range f.Blocks {
							test.script(l, block)
						}
						token(asked)
					}
				}).start()
				bad.line.Announce(info.FullHash)
				heard := &recorder{}
				leecher := newPeer(t, Config{Line: hub.line(), Connect: connect, Observe: heard.observe})
				target := newTarget(info)
				share, err := leecher.Get(info, target)
				if err != nil {
					t.Fatal(err)
				}
				<-asked // so the bad one had its chance before the honest one came
				good := newPeer(t, Config{Line: hub.line(), Connect: connect})
				_, honest := random(contentLength)
				if _, err := good.Seed(honest); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if err := share.Wait(ctx); err != nil {
					t.Fatalf("%v: %+v", err, share.Status())
				}
				if !target.holds(data) {
					t.Error("another content arrived")
				}
				banned := heard.find(func(e Event) bool {
					dropped, is := e.(PeerDropped)
					return is && dropped.Banned && dropped.Peer == bad.line.id && dropped.Reason == wire.ReasonPoisoned
				})
				if banned != test.banned {
					t.Errorf("banned: %v", banned)
				}
				synctest.Wait()
				bad.mu.Lock()
				first := bad.links[0]
				bad.mu.Unlock()
				select {
				case err := <-first.closed:
					if !test.ended {
						t.Errorf("its connection ended: %v", err)
					}
				default:
					if test.ended {
						t.Error("its connection goes on")
					}
				}
				leecher.Close()
				good.Close()
				bad.end()
			})
		})
	}
}

// reply collects what a Client sends to a stranger.
type reply struct {
	mu     sync.Mutex
	frames []wire.Frame
}

func (r *reply) add(_ *strangerLink, frame wire.Frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if piece, is := frame.(wire.Piece); is {
		piece.Data = nil
		frame = piece
	}
	r.frames = append(r.frames, frame)
}

func (r *reply) count(match func(wire.Frame) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, frame := range r.frames {
		if match(frame) {
			n++
		}
	}
	return n
}

func is[T wire.Frame](frame wire.Frame) bool {
	_, ok := frame.(T)
	return ok
}

// seederAndStranger returns a seeder and a stranger that is connected to it.
func seederAndStranger(t *testing.T, hub *hub, connect func(rtc.Peering) Conn, source *memorySource, config Config) (*Client, *Share, *stranger, *strangerLink, *reply) {
	config.Line, config.Connect = hub.line(), connect
	seeder := newPeer(t, config)
	share, err := seeder.Seed(source)
	if err != nil {
		t.Fatal(err)
	}
	replies := &reply{}
	guest := newStranger(hub.line(), connect, replies.add).start()
	l := guest.dial(config.Line.(*hubLine))
	synctest.Wait()
	return seeder, share, guest, l, replies
}

func hello(info content.Info, number wire.Number) wire.Handshake {
	return wire.Handshake{
		Number: number, FullHash: info.FullHash, TotalLength: uint64(info.TotalLength),
		PieceLength: uint32(info.PieceLength), MaxFrame: 64 << 10,
	}
}

func TestTooManyRequestsAreRejected(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		gate := make(chan struct{})
		source.spoil = func(int, int64, []byte) error { <-gate; return nil }
		seeder, _, guest, l, replies := seederAndStranger(t, hub, connect, source, Config{})
		l.send(hello(source.info, 3), wire.HaveNone{Number: 3})
		block := func(i int) wire.Block {
			return wire.Block{Piece: uint32(i / 4 % 16), Begin: uint32(i % 4 * content.LeafLength), Length: content.LeafLength}
		}
		const above = 10
		l.send(wire.Request{Number: 3, Blocks: []wire.Block{block(0)}})
		synctest.Wait() // it is being read
		for i := range wire.MaxRequests + above {
			l.send(wire.Request{Number: 3, Blocks: []wire.Block{block(i + 1)}})
		}
		synctest.Wait()
		if n := replies.count(is[wire.Reject]); n != above {
			t.Errorf("%d rejects instead of %d", n, above)
		}
		// A cancelled request is answered too; one that is not there is not.
		l.send(wire.Cancel{Number: 3, Block: block(7)}, wire.Cancel{Number: 3, Block: wire.Block{Piece: 2, Begin: 0, Length: 2 * content.LeafLength}})
		synctest.Wait()
		if n := replies.count(is[wire.Reject]); n != above+1 {
			t.Errorf("%d rejects after a cancel instead of %d", n, above+1)
		}
		close(gate)
		synctest.Wait()
		if n := replies.count(is[wire.Piece]); n != wire.MaxRequests {
			t.Errorf("%d pieces instead of %d", n, wire.MaxRequests)
		}
		seeder.Close()
		guest.end()
	})
}

func TestUnknownContents(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		seeder, _, guest, l, replies := seederAndStranger(t, hub, connect, source, Config{})
		unknown := source.info
		unknown.FullHash[0] ^= 1
		// All in one flight, as the protocol allows: what follows the refused
		// handshake is ignored.
		l.send(hello(unknown, 3), wire.HaveNone{Number: 3}, wire.Request{Number: 3, Blocks: []wire.Block{{Length: content.LeafLength}}})
		synctest.Wait()
		if n := replies.count(func(f wire.Frame) bool {
			return f == wire.Goodbye{FullHash: unknown.FullHash, Reason: wire.ReasonNotHere}
		}); n != 1 {
			t.Errorf("%d goodbyes", n)
		}
		// The number may be used again.
		l.send(hello(source.info, 3), wire.HaveNone{Number: 3}, wire.Request{Number: 3, Blocks: []wire.Block{{Length: content.LeafLength}}})
		synctest.Wait()
		if n := replies.count(is[wire.Piece]); n != 1 {
			t.Errorf("%d pieces", n)
		}
		// But not for two contents at a time.
		l.send(hello(unknown, 3))
		synctest.Wait()
		if err := <-l.closed; !errors.Is(err, rtc.ErrClosedByPeer) {
			t.Errorf("ended with %v", err)
		}
		if n := replies.count(func(f wire.Frame) bool {
			bye, is := f.(wire.Goodbye)
			return is && bye.Reason == wire.ReasonProtocolError && bye.Message != ""
		}); n != 1 {
			t.Errorf("%d goodbyes with a reason", n)
		}
		// An offer about a content that is unknown is ignored.
		guest.line.Signal(unknown.FullHash, hub.lines[0].id, rtc.Signal{Kind: rtc.Offer, SDP: "m=application 0"}.String())
		guest.line.Signal(source.info.FullHash, hub.lines[0].id, "nonsense")
		synctest.Wait()
		seeder.do(func() {
			if len(seeder.links) != 0 {
				t.Error("it was answered")
			}
		})
		seeder.Close()
		guest.end()
	})
}

func TestAnIdleLinkIsClosed(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		seeder, _, guest, l, _ := seederAndStranger(t, hub, connect, source, Config{})
		l.send(wire.Goodbye{FullHash: source.info.FullHash, Reason: wire.ReasonFinished})
		began := time.Now()
		if err := <-l.closed; !errors.Is(err, rtc.ErrClosedByPeer) {
			t.Errorf("ended with %v", err)
		}
		if idle := time.Since(began); idle < 30*time.Second || idle > 31*time.Second {
			t.Errorf("closed after %v", idle)
		}
		seeder.Close()
		guest.end()
	})
}

func TestNoMorePeersAreServedThanAllowed(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		seeder, share, guest, l, _ := seederAndStranger(t, hub, connect, source, Config{MaxServe: 2})
		l.send(hello(source.info, 3), wire.HaveNone{Number: 3})
		guests, overloaded := []*stranger{guest}, 0
		for range 3 {
			replies := &reply{}
			another := newStranger(hub.line(), connect, replies.add).start()
			l := another.dial(hub.lines[0])
			guests = append(guests, another)
			synctest.Wait()
			l.send(hello(source.info, 3), wire.HaveNone{Number: 3}, wire.Request{Number: 3, Blocks: []wire.Block{{Length: content.LeafLength}}})
			synctest.Wait()
			bye := replies.count(func(f wire.Frame) bool {
				return f == wire.Goodbye{FullHash: source.info.FullHash, Reason: wire.ReasonOverloaded}
			})
			if bye+replies.count(is[wire.Piece]) != 1 || bye+replies.count(is[wire.Handshake]) != 1 {
				t.Error("neither served nor sent away, or both")
			}
			overloaded += bye
		}
		if served := len(share.Status().Swarm.Peers); served != 2 || overloaded != 2 {
			t.Errorf("%d are served, and %d sent away", served, overloaded)
		}
		seeder.Close()
		for _, g := range guests {
			g.end()
		}
	})
}

// Whatever strangers do, there are connections left for what we want.
func TestSomeConnectionsAreKeptForOurOwn(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		seeder, _, guest, _, _ := seederAndStranger(t, hub, connect, source, Config{MaxConnections: 4, MaxLeech: 2})
		guests := []*stranger{guest}
		for range 4 {
			another := newStranger(hub.line(), connect, (&reply{}).add).start()
			another.dial(hub.lines[0])
			guests = append(guests, another)
		}
		synctest.Wait()
		seeder.do(func() {
			if len(seeder.links) != 2 {
				t.Errorf("%d offers were answered", len(seeder.links))
			}
		})
		seeder.Close()
		for _, g := range guests {
			g.end()
		}
	})
}

// Who comes with nothing leaves room for a seeder that comes later.
func TestIdleLeechersDoNotStopADownload(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		line := hub.line()
		leecher := newPeer(t, Config{Line: line, Connect: connect})
		target := newTarget(source.info)
		share, err := leecher.Get(source.info, target)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		var guests []*stranger
		for range 8 {
			guest := newStranger(hub.line(), connect, (&reply{}).add).start()
			guests = append(guests, guest)
			l := guest.dial(line)
			synctest.Wait()
			l.send(hello(source.info, 3), wire.HaveNone{Number: 3})
		}
		synctest.Wait()
		if s := share.Status(); len(s.Swarm.Peers) != 8 {
			t.Fatalf("%d guests", len(s.Swarm.Peers))
		}
		hub.mu.Lock()
		delete(hub.waiting, source.info.FullHash) // so that it hears of the seeder only when it asks again
		hub.mu.Unlock()
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := share.Wait(ctx); err != nil {
			t.Errorf("%v: %+v", err, share.Status())
		} else if !target.holds(data) {
			t.Error("another content arrived")
		}
		leecher.Close()
		seeder.Close()
		for _, guest := range guests {
			guest.end()
		}
	})
}

// A content that is complete is served over the link and takes nobody's turn there.
func TestACompleteContentEndsItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		infos := make(map[content.FullHash]content.Info)
		numbers := wire.Number(0) // owned by the link of the stranger, of which there is one
		idle := newStranger(hub.line(), connect, func(l *strangerLink, frame wire.Frame) {
			if f, is := frame.(wire.Handshake); is {
				numbers++
				l.send(hello(infos[f.FullHash], numbers), wire.HaveNone{Number: numbers})
			}
		})
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		var sources []*memorySource
		for i := range maxFetched + 1 {
			_, source := random(100_000 + i)
			sources = append(sources, source)
			infos[source.info.FullHash] = source.info
			idle.line.Announce(source.info.FullHash)
		}
		idle.start()
		shares := make(map[*Share]*memorySource)
		fetched := func() (running []*Share) {
			for share := range shares {
				if len(share.Status().Swarm.Peers) > 0 {
					running = append(running, share)
				}
			}
			return running
		}
		for _, source := range sources {
			share, err := leecher.Get(source.info, newTarget(source.info))
			if err != nil {
				t.Fatal(err)
			}
			shares[share] = source
		}
		time.Sleep(describing) // of the bubble: the first one asks with an offer
		synctest.Wait()
		running := fetched()
		if len(running) != maxFetched {
			t.Fatalf("%d contents are fetched at a time", len(running))
		}
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(shares[running[0]]); err != nil {
			t.Fatal(err)
		}
		await(t, running[0])
		synctest.Wait()
		if n := len(fetched()); n != maxFetched+1 {
			t.Errorf("the link is used for %d contents", n)
		}
		leecher.Close()
		seeder.Close()
		idle.end()
	})
}

// Peers that were found and are of no use make room for those that come later.
func TestUselessPeersMakeRoom(t *testing.T) {
	for name, greeting := range map[string]wire.Frame{
		"they have nothing": wire.HaveNone{Number: 9},
		"they are silent":   wire.HaveAll{Number: 9},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				data, source := random(contentLength)
				var idle []*stranger
				for range 12 {
					s := newStranger(hub.line(), connect, func(l *strangerLink, frame wire.Frame) {
						if _, is := frame.(wire.Handshake); is {
							l.send(hello(source.info, 9), greeting)
						}
					}).start()
					s.line.Announce(source.info.FullHash)
					idle = append(idle, s)
				}
				leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
				target := newTarget(source.info)
				share, err := leecher.Get(source.info, target)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second) // of the bubble
				if s := share.Status(); len(s.Swarm.Peers) != 8 {
					t.Fatalf("%d peers", len(s.Swarm.Peers))
				}
				seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
				if _, err := seeder.Seed(source); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				if err := share.Wait(ctx); err != nil {
					t.Errorf("%v; %d pieces", err, share.Status().Swarm.Have)
				} else if !target.holds(data) {
					t.Error("another content arrived")
				}
				leecher.Close()
				seeder.Close()
				for _, s := range idle {
					s.end()
				}
			})
		})
	}
}

// A new line knows nothing of what the last one confirmed.
func TestANewLineIsAnnouncedTo(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		line := hub.line()
		seeder := newPeer(t, Config{Line: line, Connect: connect})
		share, err := seeder.Seed(source)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !share.Status().Announced {
			t.Error("it was not announced")
		}
		hub.rename(line) // and what the line says to the mediator then is refused
		synctest.Wait()
		if share.Status().Announced {
			t.Error("it is said to be announced to a mediator that did not confirm it")
		}
		time.Sleep(31 * time.Second) // of the bubble
		synctest.Wait()
		if !share.Status().Announced {
			t.Error("it was not announced again")
		}
		seeder.Close()
	})
}

// Who is complete asks for nobody any more.
func TestACompleteShareIsFound(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		line := hub.line()
		leecher := newPeer(t, Config{Line: line, Connect: connect})
		share, err := leecher.Get(source.info, newTarget(source.info))
		if err != nil {
			t.Fatal(err)
		}
		await(t, share)
		hub.mu.Lock()
		if hub.waiting[source.info.FullHash][line] || len(hub.seeds[source.info.FullHash]) != 2 {
			t.Error("it still asks, or is not announced")
		}
		hub.mu.Unlock()
		leecher.Close()
		seeder.Close()
	})
}

// More contents than fit over a link at a time wait for their turn, also behind one that is stopped.
func TestContentsWaitForTheirTurn(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		gate := make(chan struct{})
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		var shares []*Share
		for i := range 3 * maxFetched {
			_, source := random(100_000 + i)
			source.spoil = func(int, int64, []byte) error { <-gate; return nil }
			if _, err := seeder.Seed(source); err != nil {
				t.Fatal(err)
			}
			share, err := leecher.Get(source.info, newTarget(source.info))
			if err != nil {
				t.Fatal(err)
			}
			shares = append(shares, share)
		}
		synctest.Wait()
		fetched := func() (running []*Share) {
			for _, share := range shares {
				if len(share.Status().Swarm.Peers) > 0 {
					running = append(running, share)
				}
			}
			return running
		}
		running := fetched()
		if len(running) != maxFetched {
			t.Errorf("%d contents are fetched at a time", len(running))
		}
		stopped := running[0]
		stopped.Stop()
		synctest.Wait()
		if n := len(fetched()); n != maxFetched {
			t.Errorf("%d contents are fetched after one was stopped", n)
		}
		began := time.Now()
		close(gate)
		for _, share := range shares {
			if share != stopped {
				await(t, share)
			}
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the turns took %v", took)
		}
		leecher.Close()
		seeder.Close()
	})
}

func TestAFullDiskEndsOnlyItsDownload(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, first := random(contentLength)
		data, second := random(300_000)
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		for _, source := range []*memorySource{first, second} {
			if _, err := seeder.Seed(source); err != nil {
				t.Fatal(err)
			}
		}
		small, large := newTarget(first.info), newTarget(second.info)
		small.full = 3
		one, err := leecher.Get(first.info, small)
		if err != nil {
			t.Fatal(err)
		}
		two, err := leecher.Get(second.info, large)
		if err != nil {
			t.Fatal(err)
		}
		if err := one.Wait(t.Context()); !errors.Is(err, errFull) {
			t.Errorf("the first ended with %v", err)
		}
		await(t, two)
		if !large.holds(data) {
			t.Error("the second is another content")
		}
		if s := one.Status(); s.State != Failed || !errors.Is(s.Err, errFull) || small.committed || !small.closed {
			t.Errorf("status %+v", s)
		}
		leecher.Close()
		seeder.Close()
	})
}

func TestAChangedFileIsWithdrawnAlone(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, first := random(contentLength)
		data, second := random(300_000)
		errChanged := errors.New("changed")
		first.spoil = func(piece int, _ int64, _ []byte) error {
			if piece == 2 {
				return errChanged
			}
			return nil
		}
		heard := &recorder{}
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect, Observe: heard.observe})
		bad, err := seeder.Seed(first)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seeder.Seed(second); err != nil {
			t.Fatal(err)
		}
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		one, err := leecher.Get(first.info, newTarget(first.info))
		if err != nil {
			t.Fatal(err)
		}
		if err := bad.Wait(t.Context()); !errors.Is(err, errChanged) {
			t.Errorf("the seeder's share ended with %v", err)
		}
		synctest.Wait() // until the leecher got what was sent before
		if !heard.find(func(e Event) bool {
			changed, is := e.(StateChanged)
			return is && changed.Share == bad && changed.State == Failed && errors.Is(changed.Err, errChanged)
		}) {
			t.Error("nobody was told")
		}
		hub.mu.Lock()
		if len(hub.seeds[first.info.FullHash]) > 1 || len(hub.finish) != 1 { // the leecher has pieces too
			t.Error("the content was not withdrawn")
		}
		hub.mu.Unlock()
		if s := one.Status(); s.State != Searching || s.Swarm.Have == s.Swarm.Pieces {
			t.Errorf("the leecher: %+v", s)
		}
		target := newTarget(second.info)
		two, err := leecher.Get(second.info, target)
		if err != nil {
			t.Fatal(err)
		}
		await(t, two)
		if !target.holds(data) {
			t.Error("the second is another content")
		}
		leecher.Close()
		if err := one.Wait(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		seeder.Close()
	})
}

// The line comes back under another id while a connection is set up.
func TestANewIDBeginsConnectionsAnew(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		deaf := newStranger(hub.line(), connect, nil) // it never answers the offer
		deaf.line.Announce(source.info.FullHash)
		line := hub.line()
		leecher := newPeer(t, Config{Line: line, Connect: connect})
		target := newTarget(source.info)
		share, err := leecher.Get(source.info, target)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := share.Status(); s.State != Connecting || s.Connecting != 1 {
			t.Errorf("status %+v", s)
		}
		deaf.line.Finish(source.info.FullHash)
		hub.rename(line)
		synctest.Wait()
		if s := share.Status(); s.State != Searching {
			t.Errorf("status %+v", s)
		}
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		await(t, share)
		if !target.holds(data) {
			t.Error("another content arrived")
		}
		leecher.Close()
		seeder.Close()
		deaf.line.Close()
	})
}

// Another mediator may name a peer that lied, and ourselves as who we were: neither is called.
func TestWhoIsNotCalledAtANewMediator(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		line, liar := hub.line(), hub.line()
		leecher := newPeer(t, Config{Line: line, Connect: connect})
		share, err := leecher.Get(source.info, newTarget(source.info))
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		leecher.do(func() { share.known[liar.id] = &known{banned: true} })
		earlier := line.id
		hub.rename(line)
		hub.mu.Lock()
		line.tell(mediation.Peers{FullHash: source.info.FullHash, Peers: []ident.PeerID{liar.id, earlier, line.id}})
		hub.mu.Unlock()
		synctest.Wait()
		if s := share.Status(); s.State != Searching || s.Connecting != 0 {
			t.Errorf("%v, with %d connections", s.State, s.Connecting)
		}
		leecher.Close()
		liar.Close()
	})
}

// The mediator dies, for a while there is none, and then another one takes over: a transfer that runs
// does not notice, and who comes later finds everybody at the new one.
func TestATransferSurvivesItsMediator(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect, UploadLimit: contentLength / 25})
		seeded, err := seeder.Seed(source)
		if err != nil {
			t.Fatal(err)
		}
		var told recorder
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect, Observe: told.observe})
		target := newTarget(source.info)
		share, err := leecher.Get(source.info, target)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // of the bubble, as all here
		hub.die()
		synctest.Wait()
		before := share.Status()
		time.Sleep(10 * time.Second)
		if s := share.Status(); before.State != Downloading || s.Swarm.HaveBytes < before.Swarm.HaveBytes+contentLength/5 {
			t.Errorf("without a mediator: %v, then %v", before.Swarm, s.Swarm)
		}
		hub.takeOver()
		synctest.Wait()
		if s := share.Status(); s.State != Downloading || !s.Announced || !seeded.Status().Announced {
			t.Errorf("at the new one: %+v", s)
		}
		await(t, share)
		if !target.holds(data) {
			t.Error("another content arrived")
		}
		if got := told.states(); !slices.Equal(got, []State{Searching, Connecting, Downloading, Complete}) {
			t.Errorf("the transfer went %v", got)
		}
		late := newPeer(t, Config{Line: hub.line(), Connect: connect})
		found, err := late.Get(source.info, newTarget(source.info))
		if err != nil {
			t.Fatal(err)
		}
		await(t, found)
		for _, c := range []*Client{seeder, leecher, late} {
			c.Close()
		}
	})
}

// states are those that shares entered, in order.
func (r *recorder) states() (states []State) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.events {
		if changed, is := e.(StateChanged); is {
			states = append(states, changed.State)
		}
	}
	return states
}

// A connection to a peer that left is not waited for, and a search goes on for ever.
func TestASearchGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		gone := hub.line()
		gone.Announce(source.info.FullHash)
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		hub.mu.Lock()
		gone.closed = true // and the mediator still names it
		hub.mu.Unlock()
		target := newTarget(source.info)
		share, err := leecher.Get(source.info, target)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute) // of the bubble
		if s := share.Status(); s.State != Searching && s.State != Connecting {
			t.Errorf("status %+v", s)
		}
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		await(t, share)
		if !target.holds(data) {
			t.Error("another content arrived")
		}
		leecher.Close()
		seeder.Close()
		hub.mu.Lock()
		gone.closed = false
		hub.mu.Unlock()
		gone.Close()
	})
}

func TestWhatCannotBeShared(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		c := newPeer(t, Config{Line: hub.line(), Connect: connect, MaxShares: 1})
		share, err := c.Seed(source)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Get(source.info, newTarget(source.info)); !errors.Is(err, ErrTaken) {
			t.Errorf("twice: %v", err)
		}
		_, other := random(10)
		if _, err := c.Seed(other); !errors.Is(err, ErrTooMany) {
			t.Errorf("too many: %v", err)
		}
		if _, err := c.Get(content.Info{PieceLength: 1}, nil); !errors.Is(err, &content.Error{Code: content.CodeBadPieceLength}) {
			t.Errorf("invalid: %v", err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := share.Wait(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Wait: %v", err)
		}
		share.Stop()
		share.Stop()
		if err := share.Wait(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("stopped: %v", err)
		}
		if _, err := c.Seed(other); err != nil { // now there is room
			t.Error(err)
		}
		c.Close()
		c.Close()
		if _, err := c.Seed(source); !errors.Is(err, ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		share.Stop()
	})
}

// A leecher announces itself with its first piece and serves it while it fetches the rest.
func TestALeecherServesWhatItHas(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		gate := make(chan struct{})
		var first atomic.Int64
		first.Store(-1)
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		middle := newPeer(t, Config{Line: hub.line(), Connect: connect})
		slow := newTarget(source.info)
		slow.before = func(piece int) {
			if first.CompareAndSwap(-1, int64(piece)); first.Load() != int64(piece) {
				<-gate // of the other pieces
			}
		}
		one, err := middle.Get(source.info, slow)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := one.Status(); s.Swarm.Have != 1 || !s.Announced {
			t.Fatalf("the middle: %+v", s)
		}
		line := hub.line()
		hub.mu.Lock()
		hub.parted = [2]*hubLine{hub.lines[0], line} // the last one cannot reach the seeder
		hub.mu.Unlock()
		last := newPeer(t, Config{Line: line, Connect: connect})
		target := newTarget(source.info)
		two, err := last.Get(source.info, target)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if s := two.Status(); s.Swarm.Have != 1 {
			t.Errorf("the last: %+v", s)
		}
		close(gate)
		await(t, one)
		await(t, two)
		if !slow.holds(data) || !target.holds(data) {
			t.Error("another content arrived")
		}
		last.Close()
		middle.Close()
		seeder.Close()
	})
}

func TestABareLinkIsEnough(t *testing.T) {
	for _, length := range []int{0, 1, 65536, 65537, contentLength} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				data, source := random(length)
				seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
				if _, err := seeder.Seed(source); err != nil {
					t.Fatal(err)
				}
				heard := &recorder{}
				leecher := newPeer(t, Config{Line: hub.line(), Connect: connect, Observe: heard.observe})
				target := newTarget(source.info)
				share, err := leecher.Get(source.info.Link().Info(), target)
				if err != nil {
					t.Fatal(err)
				}
				await(t, share)
				if !target.holds(data) {
					t.Error("another content arrived")
				}
				described := heard.find(func(e Event) bool {
					d, is := e.(Described)
					return is && d.Info.Validate() == nil && d.Info.HasPieceHashes()
				})
				if described != (source.info.Geometry().Pieces() > 1) || !share.Status().Info.HasPieceHashes() {
					t.Error("the piece hashes are not told")
				}
				leecher.Close()
				seeder.Close()
			})
		})
	}
}

// Many contents between two peers go over one link.
func TestOneLinkForAllContents(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		connections := 0
		var mu sync.Mutex
		counting := func(p rtc.Peering) Conn {
			mu.Lock()
			connections++
			mu.Unlock()
			return connect(p)
		}
		seeder := newPeer(t, Config{Line: hub.line(), Connect: counting})
		leecher := newPeer(t, Config{Line: hub.line(), Connect: counting})
		for length := range 20 {
			_, source := random(length * 10_000)
			if _, err := seeder.Seed(source); err != nil {
				t.Fatal(err)
			}
		}
		var shares []*Share
		for length := range 20 {
			_, source := random(length * 10_000)
			share, err := leecher.Get(source.info, newTarget(source.info))
			if err != nil {
				t.Fatal(err)
			}
			shares = append(shares, share)
		}
		for _, share := range shares {
			await(t, share)
		}
		leecher.Close()
		seeder.Close()
		if connections != 2 {
			t.Errorf("%d ends of connections instead of 2", connections)
		}
	})
}

func TestWhatTheMediatorRefusesIsToldAndAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		heard := &recorder{}
		line := hub.line()
		deaf := &refusingLine{hubLine: line}
		c := newPeer(t, Config{Line: deaf, Connect: connect, Observe: heard.observe})
		share, err := c.Seed(source)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if !heard.find(func(e Event) bool {
			refused, is := e.(Refused)
			return is && refused.Share == share && refused.Err.Code == mediation.CodeAnnounceFailed
		}) || share.Status().Announced {
			t.Error("it was not told")
		}
		time.Sleep(31 * time.Second) // of the bubble
		synctest.Wait()
		if !share.Status().Announced {
			t.Error("it was not tried again")
		}
		c.Close()
	})
}

// refusingLine refuses the first announce.
type refusingLine struct {
	*hubLine
	refused bool // owned by the engine, which alone calls Announce
}

func (l *refusingLine) Announce(hash content.FullHash) {
	if l.refused {
		l.hubLine.Announce(hash)
		return
	}
	l.refused = true
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.tell((&mediation.Error{Code: mediation.CodeAnnounceFailed, Message: "not now"}).About(hash))
}
