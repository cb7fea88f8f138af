package client

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
	"p2pcdn/peer/signaling"
)

// partly returns a target that holds these pieces of an earlier attempt.
func partly(info content.Info, data []byte, pieces ...int) *memoryTarget {
	target := newTarget(info)
	target.kept = wire.NewBits(info.Geometry().Pieces())
	for _, piece := range pieces {
		target.kept.Add(piece)
		begin := info.Geometry().PieceOffset(piece)
		copy(target.data[begin:begin+info.Geometry().PieceSize(piece)], data[begin:])
	}
	return target
}

// What an earlier attempt left is told and read at once, and never fetched; it does not matter whether the piece hashes were known.
func TestADownloadGoesOn(t *testing.T) {
	for name, bare := range map[string]bool{"with piece hashes": false, "of a link": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				data, source := random(contentLength)
				info := source.info
				if bare {
					info = info.Link().Info()
				}
				target := partly(info, data, 0, 1, 2, 3, 5, 8, 16) // the last one is of three bytes
				leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
				share, err := leecher.Get(info, target)
				if err != nil {
					t.Fatal(err)
				}
				reader := share.NewReader()
				synctest.Wait()
				if !bare {
					if s := share.Status(); !s.Announced || s.Resumed != 7 || s.Swarm.Have != 7 || s.State != Searching {
						t.Errorf("before anybody is there: %+v", s)
					}
					buffer := make([]byte, 4*65536)
					if _, err := io.ReadFull(reader, buffer); err != nil || !bytes.Equal(buffer, data[:len(buffer)]) {
						t.Errorf("reading what is there: %v", err)
					}
				}
				seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
				seed, err := seeder.Seed(source)
				if err != nil {
					t.Fatal(err)
				}
				finish(t, share)
				if !target.holds(data) {
					t.Error("another content arrived")
				}
				if sent := seed.Status().Uploaded; sent != contentLength-6*65536-3 {
					t.Errorf("%d bytes were sent", sent)
				}
				if s := share.Status(); s.Resumed != 7 || !s.Announced {
					t.Errorf("at the end: %+v", s)
				}
				reader.Close()
				leecher.Close()
				seeder.Close()
			})
		})
	}
}

// Where everything is there, nobody is needed.
func TestEverythingIsThereAlready(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		target := partly(source.info, data, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
		client := newPeer(t, Config{Line: hub.line(), Connect: connect})
		share, err := client.Get(source.info, target)
		if err != nil {
			t.Fatal(err)
		}
		finish(t, share)
		synctest.Wait()
		if s := share.Status(); s.State != Complete || !s.Announced || !target.holds(data) {
			t.Errorf("%+v", s)
		}
		other := newPeer(t, Config{Line: hub.line(), Connect: connect})
		second := newTarget(source.info)
		download, err := other.Get(source.info, second)
		if err != nil {
			t.Fatal(err)
		}
		finish(t, download)
		if !second.holds(data) {
			t.Error("it does not seed what it has")
		}
		other.Close()
		client.Close()
	})
}

// checking is a target whose check takes as long as the test lets it.
type checking struct {
	*memoryTarget
	answer chan error // of Check; nil: what is kept
}

func (c *checking) Check(ctx context.Context, info content.Info, progress func(done, total int64)) (*wire.Bits, error) {
	progress(100_000, info.TotalLength)
	select {
	case err := <-c.answer:
		if err != nil {
			return nil, err
		}
		return c.memoryTarget.Check(ctx, info, progress)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Nothing is fetched before the store was looked at; how far that is can be seen, and it ends with the share.
func TestACheckTakesItsTime(t *testing.T) {
	errBroken := errors.New("broken")
	for _, test := range []struct {
		name string
		then func(share *Share, answer chan<- error)
		want error
	}{
		{"it ends", func(_ *Share, answer chan<- error) { answer <- nil }, nil},
		{"it fails", func(_ *Share, answer chan<- error) { answer <- errBroken }, errBroken},
		{"the share is stopped", func(share *Share, _ chan<- error) { share.Stop() }, ErrStopped},
		{"the client is closed", func(share *Share, _ chan<- error) { share.client.Close() }, ErrClosed},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				data, source := random(contentLength)
				seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
				seed, err := seeder.Seed(source)
				if err != nil {
					t.Fatal(err)
				}
				target := &checking{partly(source.info, data, 4), make(chan error)}
				leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
				share, err := leecher.Get(source.info, target)
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute) // of the bubble
				synctest.Wait()
				if s := share.Status(); s.Checked != 100_000 || s.Swarm.Have != 0 || s.Announced || len(s.Swarm.Peers) != 1 {
					t.Errorf("while it is looked at: %+v", s)
				}
				if sent := seed.Status().Uploaded; sent != 0 {
					t.Errorf("%d bytes were sent", sent)
				}
				test.then(share, target.answer)
				if err := share.Wait(t.Context()); !errors.Is(err, test.want) {
					t.Errorf("it ended with %v", err)
				}
				if test.want == nil && !target.holds(data) {
					t.Error("another content arrived")
				}
				if s := share.Status(); s.Checked != 0 {
					t.Errorf("%d bytes are still looked at", s.Checked)
				}
				leecher.Close()
				seeder.Close()
				if !target.closed || target.discarded {
					t.Error("it was not closed, or thrown away")
				}
			})
		})
	}
}

// Stop keeps what was fetched, Discard throws it away, but not what is complete; after either the content can be got again.
func TestStopAndDiscard(t *testing.T) {
	for _, test := range []struct {
		name      string
		complete  bool
		end       func(*Share)
		discarded bool
	}{
		{"stopped", false, (*Share).Stop, false},
		{"discarded", false, (*Share).Discard, true},
		{"complete, and stopped", true, (*Share).Stop, false},
		{"complete, and discarded", true, (*Share).Discard, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
				data, source := random(contentLength)
				seeder := newPeer(t, Config{Line: hub.line(), Connect: connect, UploadLimit: 200_000})
				if _, err := seeder.Seed(source); err != nil {
					t.Fatal(err)
				}
				leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
				target := newTarget(source.info)
				share, err := leecher.Get(source.info, target)
				if err != nil {
					t.Fatal(err)
				}
				if test.complete {
					finish(t, share)
				} else {
					time.Sleep(2 * time.Second) // of the bubble
					synctest.Wait()
					if s := share.Status(); s.Swarm.Have == 0 || s.State != Downloading {
						t.Fatalf("%+v", s)
					}
				}
				test.end(share)
				test.end(share)
				if err := share.Wait(t.Context()); test.complete == errors.Is(err, ErrStopped) {
					t.Errorf("Wait: %v", err)
				}
				synctest.Wait()
				target.mu.Lock()
				if !target.closed || target.discarded != test.discarded || target.committed != test.complete {
					t.Errorf("closed %v, discarded %v, committed %v", target.closed, target.discarded, target.committed)
				}
				target.mu.Unlock()
				hub.mu.Lock()
				if len(hub.seeds[source.info.FullHash]) != 1 {
					t.Error("it is still announced")
				}
				hub.mu.Unlock()
				again := newTarget(source.info)
				second, err := leecher.Get(source.info, again)
				if err != nil {
					t.Fatal(err)
				}
				finish(t, second)
				if !again.holds(data) {
					t.Error("another content arrived")
				}
				leecher.Close()
				seeder.Close()
			})
		})
	}
}

// A source that is discarded is stopped, and nothing more.
func TestASourceIsNotDiscarded(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		client := newPeer(t, Config{Line: hub.line(), Connect: connect})
		share, err := client.Seed(source)
		if err != nil {
			t.Fatal(err)
		}
		share.Discard()
		if err := share.Wait(t.Context()); !errors.Is(err, ErrStopped) {
			t.Errorf("Wait: %v", err)
		}
		client.Close()
	})
}

// asking is a line that remembers when peers were asked for, and does not tell of later ones.
type asking struct {
	*hubLine
	mu sync.Mutex
	at []time.Time // guarded by mu
}

func (a *asking) GetPeers(hash content.FullHash, offer signaling.Offering) {
	a.mu.Lock()
	a.at = append(a.at, time.Now())
	a.mu.Unlock()
	a.hubLine.GetPeers(hash, offer)
	a.hub.mu.Lock()
	delete(a.hub.waiting[hash], a.hubLine)
	a.hub.mu.Unlock()
}

func (a *asking) asked() []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]time.Time(nil), a.at...)
}

// When the last peer is lost, others are asked for at once, and then less and less often.
func TestTheLastPeerIsReplacedSoon(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(contentLength)
		first := newPeer(t, Config{Line: hub.line(), Connect: connect, UploadLimit: 100_000})
		if _, err := first.Seed(source); err != nil {
			t.Fatal(err)
		}
		line := &asking{hubLine: hub.line()}
		leecher := newPeer(t, Config{Line: line, Connect: connect})
		target := newTarget(source.info)
		share, err := leecher.Get(source.info, target)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // of the bubble
		if n := len(line.asked()); n != 1 {
			t.Errorf("peers were asked for %d times while there was one", n)
		}
		first.Close()
		_, source = random(contentLength)
		second := newPeer(t, Config{Line: hub.line(), Connect: connect})
		if _, err := second.Seed(source); err != nil {
			t.Fatal(err)
		}
		lost := time.Now()
		finish(t, share)
		if took := time.Since(lost); took > 2*time.Second {
			t.Errorf("it went on after %v", took)
		}
		if !target.holds(data) {
			t.Error("another content arrived")
		}
		leecher.Close()
		second.Close()
	})
}

// A search without success goes on, ever more slowly.
func TestASearchSlowsDown(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		_, source := random(contentLength)
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect, UploadLimit: 100_000})
		if _, err := seeder.Seed(source); err != nil {
			t.Fatal(err)
		}
		line := &asking{hubLine: hub.line()}
		leecher := newPeer(t, Config{Line: line, Connect: connect})
		if _, err := leecher.Get(source.info, newTarget(source.info)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second) // of the bubble
		seeder.Close()
		before := len(line.asked())
		time.Sleep(10 * time.Minute)
		asked := line.asked()[before:]
		if n := len(asked); n < 20 || n > 26 { // 1, 2, 4, 8, 16 s, then every 30 s
			t.Errorf("peers were asked for %d times in ten minutes", n)
		}
		for i := 1; i < len(asked); i++ {
			if gap := asked[i].Sub(asked[i-1]); gap > 31*time.Second || (i > 6 && gap < 29*time.Second) {
				t.Errorf("%v between questions %d and %d", gap, i-1, i)
			}
		}
		leecher.Close()
	})
}
