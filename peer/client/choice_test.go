package client

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
)

// Of the peers of a download the worst one makes room for one that was not tried yet, where it is much worse
// than the others, and only then.
func TestTheWorstPeerIsReplaced(t *testing.T) {
	for _, test := range []struct {
		name     string
		uploads  []int64 // bytes/s, in the order in which they are named; two are connected at first
		replaced bool
	}{
		{"one is much worse", []int64{100_000, 2_000, 100_000}, true},
		{"the other one is", []int64{2_000, 100_000, 100_000}, true},
		{"they are alike", []int64{100_000, 95_000, 100_000}, false},
		{"one is not so much worse", []int64{100_000, 50_000, 100_000}, false},
		{"nobody else is there", []int64{100_000, 2_000}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				const length = 20 << 20
				data, _ := random(length)
				var seeders []*Client
				var seeds []*Share
				for _, upload := range test.uploads {
					_, source := random(length)
					seeder := newPeer(t, Config{Line: hub.line(), Connect: connect, UploadLimit: upload})
					seed, err := seeder.Seed(source)
					if err != nil {
						t.Fatal(err)
					}
					seeders, seeds = append(seeders, seeder), append(seeds, seed)
				}
				leecher := newPeer(t, Config{Line: hub.line(), Connect: connect, MaxLeech: 2})
				info := seeds[0].Status().Info
				target := newTarget(info)
				share, err := leecher.Get(info, target)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(25 * time.Second) // of the bubble
				if peers := share.Status().Swarm.Peers; len(peers) != 2 {
					t.Fatalf("%d peers", len(peers))
				}
				time.Sleep(50 * time.Second)
				if peers := share.Status().Swarm.Peers; len(peers) != 2 {
					t.Errorf("%d peers later", len(peers))
				}
				if third := len(seeds) > 2 && seeds[2].Status().Served > 0; third != test.replaced {
					t.Errorf("the third one serves: %v", third)
				}
				finish(t, share)
				if !target.holds(data) {
					t.Error("another content arrived")
				}
				if third := len(seeds) > 2 && seeds[2].Status().Served > 0; third != test.replaced {
					t.Errorf("at the end, the third one served: %v", third)
				}
				leecher.Close()
				for _, seeder := range seeders {
					seeder.Close()
				}
			})
		})
	}
}

// What a swarm waits for is not rounded to the engine's half seconds.
func TestAlarmsAreExact(t *testing.T) {
	for _, patience := range []time.Duration{0, 1234 * time.Millisecond, 7 * time.Second} {
		bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
			_, source := random(contentLength)
			var mu sync.Mutex
			var asked, cancelled time.Time // guarded by mu
			silent := newStranger(hub.line(), connect, func(l *strangerLink, frame wire.Frame) {
				mu.Lock()
				defer mu.Unlock()
				switch frame.(type) {
				case wire.Handshake:
					greet(source.info, l)
				case wire.Request:
					if asked.IsZero() {
						asked = time.Now()
					}
				case wire.Cancel:
					if cancelled.IsZero() {
						cancelled = time.Now()
					}
				}
			}).start()
			silent.line.Announce(source.info.FullHash)
			leecher := newPeer(t, Config{Line: hub.line(), Connect: connect, Patience: patience})
			time.Sleep(123 * time.Millisecond) // of the bubble, so that the engine's ticks lie elsewhere
			if _, err := leecher.Get(source.info, newTarget(source.info)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
			want := patience
			if want == 0 {
				want = 10 * time.Second
			}
			mu.Lock()
			if took := cancelled.Sub(asked); took != want {
				t.Errorf("the requests were cancelled after %v instead of %v", took, want)
			}
			mu.Unlock()
			leecher.Close()
			silent.end()
		})
	}
}

// Of several contents, each gets its alarms, whichever is due first.
func TestAlarmsOfSeveralContents(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		line := hub.line()
		leecher := newPeer(t, Config{Line: line, Connect: connect})
		var mu sync.Mutex
		asked, silenced := map[wire.Number]time.Time{}, map[wire.Number]time.Duration{} // guarded by mu; by the leecher's number
		mute := newStranger(hub.line(), connect, func(l *strangerLink, frame wire.Frame) {
			mu.Lock()
			defer mu.Unlock()
			switch f := frame.(type) {
			case wire.Handshake:
				l.send(wire.Handshake{
					Number: f.Number + 100, FullHash: f.FullHash, TotalLength: f.TotalLength, PieceLength: f.PieceLength, MaxFrame: 64 << 10,
				}, wire.HaveAll{Number: f.Number + 100})
			case wire.Request:
				if asked[f.Number].IsZero() {
					asked[f.Number] = time.Now()
				}
			case wire.Cancel:
				if silenced[f.Number] == 0 {
					silenced[f.Number] = time.Since(asked[f.Number])
				}
			}
		}).start()
		for i := range 5 {
			_, source := random(100_000 + i)
			mute.line.Announce(source.info.FullHash)
			if _, err := leecher.Get(source.info, newTarget(source.info)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(777 * time.Millisecond) // of the bubble
		}
		time.Sleep(20 * time.Second)
		synctest.Wait()
		mu.Lock()
		if len(silenced) != 5 {
			t.Errorf("%d contents lost their patience", len(silenced))
		}
		for number, took := range silenced {
			if took != 10*time.Second {
				t.Errorf("content %d after %v", number, took)
			}
		}
		mu.Unlock()
		leecher.Close()
		mute.end()
	})
}
