package client

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
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

// Of peers that deliver little, and about the same, the farthest one makes room.
func TestOfEquallySlowPeersTheFarthestIsReplaced(t *testing.T) {
	const fast, slow, hardlyFaster, faster = 200_000, 40_000, 44_000, 60_000 // bytes/s
	const distance = 500 * time.Millisecond                                  // less than a block takes at these rates
	type seeder struct {
		upload int64
		far    time.Duration // added to the round trip
	}
	for _, test := range []struct {
		name    string
		seeders [3]seeder // in the order in which they are named
		leaves  int
	}{
		{"the far one delivers a little more", [3]seeder{{slow, 0}, {hardlyFaster, distance}, {fast, 0}}, 1},
		{"and was named first", [3]seeder{{hardlyFaster, distance}, {slow, 0}, {fast, 0}}, 0},
		{"the far one delivers a little less", [3]seeder{{hardlyFaster, 0}, {slow, distance}, {fast, 0}}, 1},
		{"the near one delivers much less", [3]seeder{{slow, 0}, {faster, distance}, {fast, 0}}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				var info content.Info
				var seeders []*Client
				var ids []ident.PeerID
				for _, s := range append(test.seeders[:], seeder{fast, 0}) {
					_, source := random(16 << 20)
					info = source.info
					line := hub.line()
					seeders = append(seeders, newPeer(t, Config{Line: line, Connect: late(connect, s.far), UploadLimit: s.upload}))
					ids = append(ids, line.id)
					if _, err := seeders[len(seeders)-1].Seed(source); err != nil {
						t.Fatal(err)
					}
				}
				leecher := newPeer(t, Config{Line: hub.line(), Connect: connect, MaxLeech: 3})
				share, err := leecher.Get(info, newTarget(info))
				if err != nil {
					t.Fatal(err)
				}
				connected := func(want ...ident.PeerID) {
					t.Helper()
					var got []ident.PeerID
					for _, peer := range share.Status().Swarm.Peers {
						got = append(got, peer.ID)
					}
					slices.SortFunc(got, func(a, b ident.PeerID) int { return slices.Compare(a[:], b[:]) })
					if !slices.Equal(got, want) {
						t.Errorf("connected to %v instead of %v", got, want)
					}
				}
				time.Sleep(25 * time.Second) // of the bubble
				connected(ids[:3]...)
				time.Sleep(20 * time.Second)
				connected(slices.Delete(ids, test.leaves, test.leaves+1)...)
				leecher.Close()
				for _, seeder := range seeders {
					seeder.Close()
				}
			})
		})
	}
}

// late is a Connect whose frames are handed over later, one after the other.
func late(connect func(rtc.Peering) Conn, by time.Duration) func(rtc.Peering) Conn {
	return func(p rtc.Peering) Conn {
		p.Handler = lateHandler{p.Handler, by}
		return connect(p)
	}
}

type lateHandler struct {
	rtc.Handler
	by time.Duration
}

func (h lateHandler) Frame(frame []byte) {
	time.Sleep(h.by) // of the bubble
	h.Handler.Frame(frame)
}

func TestTheWorstCandidate(t *testing.T) {
	const near, far = 10 * time.Millisecond, 300 * time.Millisecond
	for _, test := range []struct {
		name       string
		candidates []candidate
		want       int
	}{
		{"the only one", []candidate{{got: 1000}}, 0},
		{"equal, the far one", []candidate{{got: 1000, rtt: near}, {got: 1000, rtt: far}}, 1},
		{"the far one, although faster", []candidate{{got: 1000, rtt: near}, {got: 1030, rtt: far}}, 1},
		{"the far one, slower", []candidate{{got: 1000, rtt: far}, {got: 1030, rtt: near}}, 0},
		{"at the limit", []candidate{{got: 1000, rtt: near}, {got: 1200, rtt: far}}, 1},
		{"beyond it, the slow one", []candidate{{got: 1000, rtt: near}, {got: 1201, rtt: far}}, 0},
		{"compared with the slowest, not one by one", []candidate{{got: 1000, rtt: near}, {got: 1150, rtt: 2 * near}, {got: 1300, rtt: far}}, 1},
		{"in whatever order", []candidate{{got: 1300, rtt: far}, {got: 1150, rtt: 2 * near}, {got: 1000, rtt: near}}, 1},
		{"equally far, the slower one", []candidate{{got: 1100, rtt: far}, {got: 1000, rtt: far}}, 1},
		{"alike in all, the first", []candidate{{got: 1000, rtt: far}, {got: 1000, rtt: far}}, 0},
		{"who never answered, of those that sent nothing", []candidate{{got: 0, rtt: far}, {got: 0}, {got: 0, rtt: near}}, 1},
		{"and the first of them", []candidate{{got: 0, rtt: far}, {got: 0}, {got: 0}}, 1},
		{"who sent nothing, before who sent something", []candidate{{got: 1, rtt: far}, {got: 0, rtt: near}}, 1},
	} {
		for i := range test.candidates {
			test.candidates[i].link = &link{}
		}
		before := slices.Clone(test.candidates)
		if got := slices.Index(before, worst(test.candidates)); got != test.want {
			t.Errorf("%s: it is number %d instead of %d", test.name, got, test.want)
		}
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
