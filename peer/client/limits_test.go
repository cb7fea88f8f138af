package client

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
)

// within fails unless the time that passed is what was expected, give or take 5 %.
func within(t *testing.T, what string, began time.Time, seconds float64) {
	t.Helper()
	if took := time.Since(began).Seconds(); took < 0.95*seconds || took > 1.05*seconds {
		t.Errorf("%s took %.3f s instead of %.3f", what, took, seconds)
	}
}

// finish waits for a download, however long it takes in the bubble.
func finish(t *testing.T, share *Share) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := share.Wait(ctx); err != nil {
		t.Fatalf("the download ended with %v; %+v", err, share.Status())
	}
}

// Each limit is a rate over the whole transfer, but for what may go at once after a pause.
func TestLimitsHold(t *testing.T) {
	const length, rate, atOnce = 4 << 20, 1e6, 1e5
	for _, test := range []struct {
		name            string
		seeders         int
		seeder, leecher Config
		rate            float64 // what comes of it, bytes/s
	}{
		{"upload", 1, Config{UploadLimit: rate}, Config{}, rate},
		{"upload, of two seeders", 2, Config{UploadLimit: rate}, Config{}, 2 * rate},
		{"peer upload", 1, Config{PeerUploadLimit: rate}, Config{}, rate},
		{"both, the lower one counts", 1, Config{UploadLimit: 3 * rate, PeerUploadLimit: rate}, Config{}, rate},
		{"download", 2, Config{}, Config{DownloadLimit: rate}, rate},
		{"download below what two seeders upload", 2, Config{UploadLimit: rate}, Config{DownloadLimit: rate}, rate},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				data, source := random(length)
				var peers []*Client
				for range test.seeders {
					config := test.seeder
					config.Line, config.Connect = hub.line(), connect
					seeder := newPeer(t, config)
					_, source := random(length)
					if _, err := seeder.Seed(source); err != nil {
						t.Fatal(err)
					}
					peers = append(peers, seeder)
				}
				config := test.leecher
				config.Line, config.Connect = hub.line(), connect
				leecher := newPeer(t, config)
				target := newTarget(source.info)
				began := time.Now()
				share, err := leecher.Get(source.info, target)
				if err != nil {
					t.Fatal(err)
				}
				finish(t, share)
				within(t, "the transfer", began, (length-atOnce*test.rate/rate)/test.rate)
				if !target.holds(data) {
					t.Error("another content arrived")
				}
				for _, peer := range append(peers, leecher) {
					peer.Close()
				}
			})
		})
	}
}

// No limit is no limit: in a bubble nothing takes time.
func TestWithoutLimitsNothingWaits(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(4 << 20)
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		began := time.Now()
		share, err := leecher.Get(source.info, newTarget(source.info))
		if err != nil {
			t.Fatal(err)
		}
		finish(t, share)
		if took := time.Since(began); took > 0 {
			t.Errorf("the transfer took %v", took)
		}
		leecher.Close()
		seeder.Close()
	})
}

// asker is a stranger that keeps so many requests waiting.
type asker struct {
	*stranger
	waiting int

	mu   sync.Mutex
	got  int64 // guarded by mu, as is the next one: bytes
	next int
}

func newAsker(hub *hub, connect func(rtc.Peering) Conn, info content.Info, waiting int) *asker {
	a := &asker{waiting: waiting}
	ask := func(l *strangerLink) {
		leaves := int(info.TotalLength / content.LeafLength) // but for the last one
		perPiece := int(info.PieceLength / content.LeafLength)
		leaf := a.next % leaves
		a.next++
		l.send(wire.Request{Number: 3, Blocks: []wire.Block{{
			Piece: uint32(leaf / perPiece), Begin: uint32(leaf % perPiece * content.LeafLength), Length: content.LeafLength,
		}}})
	}
	a.stranger = newStranger(hub.line(), connect, func(l *strangerLink, frame wire.Frame) {
		a.mu.Lock()
		defer a.mu.Unlock()
		switch f := frame.(type) {
		case wire.HaveAll:
			for range a.waiting {
				ask(l)
			}
		case wire.Piece:
			a.got += int64(len(f.Data))
			ask(l)
		}
	})
	a.opened = func(l *strangerLink) { l.send(hello(info, 3), wire.HaveNone{Number: 3}) }
	a.start()
	return a
}

func (a *asker) bytes() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.got
}

// Whatever a peer asks for, it gets no more than the others.
func TestSharesAreFair(t *testing.T) {
	for _, slots := range []int{1, 3, 8} {
		bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
			_, source := random(contentLength)
			const rate = 2e6
			line := hub.line()
			seeder := newPeer(t, Config{Line: line, Connect: connect, UploadLimit: rate, UploadSlots: slots})
			if _, err := seeder.Seed(source); err != nil {
				t.Fatal(err)
			}
			var askers []*asker
			for _, waiting := range []int{500, 20, 20, 500, 20} {
				a := newAsker(hub, connect, source.info, waiting)
				a.dial(line)
				askers = append(askers, a)
			}
			const seconds = 20
			time.Sleep(seconds * time.Second) // of the bubble
			synctest.Wait()
			var sum int64
			for _, a := range askers {
				sum += a.bytes()
			}
			for i, a := range askers {
				part := float64(a.bytes()) / float64(sum)
				if part < 0.19 || part > 0.21 {
					t.Errorf("%d slots: asker %d, with %d requests, got %.3f of what was sent to five", slots, i, a.waiting, part)
				}
			}
			if got := float64(sum); got < 0.97*rate*seconds || got > 1.03*rate*seconds {
				t.Errorf("%d slots: %.0f bytes in %d s", slots, got, seconds)
			}
			seeder.Close()
			for _, a := range askers {
				a.end()
			}
		})
	}
}

// No more peers than there are slots are served at a time, and each gets its turn.
func TestUploadSlots(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		const slots = 2
		var mu sync.Mutex
		reading, most := 0, 0
		source.spoil = func(int, int64, []byte) error {
			mu.Lock()
			reading++
			most = max(most, reading)
			mu.Unlock()
			time.Sleep(10 * time.Millisecond) // of the bubble
			mu.Lock()
			reading--
			mu.Unlock()
			return nil
		}
		line := hub.line()
		seeder := newPeer(t, Config{Line: line, Connect: connect, UploadSlots: slots})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		var askers []*asker
		for range 6 {
			a := newAsker(hub, connect, source.info, 100)
			a.dial(line)
			askers = append(askers, a)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		mu.Lock()
		if most != slots {
			t.Errorf("%d peers were served at a time", most)
		}
		mu.Unlock()
		for i, a := range askers {
			if a.bytes() < askers[0].bytes()*9/10 {
				t.Errorf("asker %d got %d bytes, and the first one %d", i, a.bytes(), askers[0].bytes())
			}
		}
		seeder.Close()
		for _, a := range askers {
			a.end()
		}
	})
}

// A peer that takes nothing of what it asked for does not keep others waiting.
func TestAPeerThatTakesNothingHoldsNoSlot(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		line := hub.line()
		seeder := newPeer(t, Config{Line: line, Connect: connect, UploadSlots: 1})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		gate := make(chan struct{})
		stuck := newStranger(hub.line(), connect, func(_ *strangerLink, frame wire.Frame) {
			if _, is := frame.(wire.Piece); is {
				<-gate
			}
		}).start()
		l := stuck.dial(line)
		synctest.Wait()
		l.send(hello(source.info, 3), wire.HaveNone{Number: 3})
		for i := range wire.MaxRequests { // four times what a channel holds
			l.send(wire.Request{Number: 3, Blocks: []wire.Block{{Piece: uint32(i % 16), Length: content.LeafLength}}})
		}
		synctest.Wait()
		seeder.do(func() {
			for link := range seeder.all {
				if n := len(link.uploads.queue); n == 0 {
					t.Error("it was sent everything")
				}
			}
		})
		began := time.Now()
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		share, err := leecher.Get(source.info, newTarget(source.info))
		if err != nil {
			t.Fatal(err)
		}
		finish(t, share)
		if took := time.Since(began); took > 0 {
			t.Errorf("the transfer took %v", took)
		}
		leecher.Close()
		close(gate)
		seeder.Close()
		stuck.end()
	})
}

// Whoever takes its requests back leaves its slot, and what the limit lets through, to others.
func TestCancelledRequestsCostNothing(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		config := Config{UploadSlots: 1, UploadLimit: 1e6}
		seeder, share, fickle, l, replies := seederAndStranger(t, hub, connect, source, config)
		l.send(hello(source.info, 3), wire.HaveNone{Number: 3})
		synctest.Wait()
		blocks := make([]wire.Block, 60)
		for i := range blocks {
			blocks[i] = wire.Block{Piece: uint32(i / 4), Begin: uint32(i % 4 * content.LeafLength), Length: content.LeafLength}
			l.send(wire.Request{Number: 3, Blocks: []wire.Block{blocks[i]}})
		}
		time.Sleep(100 * time.Millisecond) // of the bubble
		for _, block := range blocks {
			l.send(wire.Cancel{Number: 3, Block: block})
		}
		synctest.Wait()
		// A tenth of a second at once, one more that passed, and what was chosen already.
		if n := replies.count(is[wire.Piece]); n > (100_000+100_000)/content.LeafLength+2 {
			t.Errorf("%d blocks were sent", n)
		}
		began := time.Now()
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		fetch, err := leecher.Get(source.info, newTarget(source.info))
		if err != nil {
			t.Fatal(err)
		}
		finish(t, fetch)
		within(t, "the transfer", began, contentLength/1e6)
		if n := replies.count(is[wire.Piece]) + replies.count(is[wire.Reject]); n != len(blocks) {
			t.Errorf("%d requests of %d were answered", n, len(blocks))
		}
		if up := share.Status().Uploaded; up < contentLength {
			t.Errorf("%d bytes were uploaded", up)
		}
		leecher.Close()
		seeder.Close()
		fickle.end()
	})
}

// A crowd is sent different pieces: what went to one peer a moment ago comes last for the others.
func TestAPieceIsPassedOnToOnePeerAtATime(t *testing.T) {
	_, source := random(contentLength)
	share := &Share{info: source.info}
	one, two := ident.PeerID{1}, ident.PeerID{2}
	synctest.Test(t, func(t *testing.T) {
		queues := map[ident.PeerID]*uploads{one: newUploads(), two: newUploads()}
		for _, queue := range queues {
			for i := range 4 {
				block := wire.Block{Piece: uint32(i / 2), Begin: uint32(i % 2 * content.LeafLength), Length: content.LeafLength}
				if !queue.add(upload{share, 3, block}) {
					t.Fatal("no room")
				}
			}
		}
		next := func(to ident.PeerID) [2]uint32 {
			job, there := queues[to].next(to)
			if !there {
				t.Fatal("nothing waits")
			}
			return [2]uint32{job.block.Piece, job.block.Begin / content.LeafLength}
		}
		expect := func(to ident.PeerID, want [2]uint32) {
			t.Helper()
			if got := next(to); got != want {
				t.Errorf("peer %d was sent block %d of piece %d instead of %d of %d", to[0], got[1], got[0], want[1], want[0])
			}
		}
		expect(one, [2]uint32{0, 0})
		expect(two, [2]uint32{1, 0}) // as piece 0 is on its way to the first
		expect(one, [2]uint32{0, 1})
		expect(one, [2]uint32{1, 0}) // of which nothing else waits
		expect(two, [2]uint32{0, 0})
		time.Sleep(2 * passOn)
		expect(two, [2]uint32{0, 1}) // in order again
		expect(one, [2]uint32{1, 1})
		expect(two, [2]uint32{1, 1})
		if _, there := queues[one].next(one); there {
			t.Error("there is more than was asked for")
		}
	})
}
