package client

import (
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/peer/rtc"
)

// A seeder and eight leechers that come at once, all with the same uplink: the time over that which no swarm can
// do without, which is what the seeder needs to send everything once.
func TestFlashCrowd(t *testing.T) {
	const length, upload, leechers = 16 << 20, 4_000_000, 8
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		data, source := random(length)
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect, UploadLimit: upload})
		seed, err := seeder.Seed(source)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var clients []*Client
		var shares []*Share
		var targets []*memoryTarget
		for range leechers {
			leecher := newPeer(t, Config{Line: hub.line(), Connect: connect, UploadLimit: upload})
			target := newTarget(source.info)
			share, err := leecher.Get(source.info, target)
			if err != nil {
				t.Fatal(err)
			}
			clients, shares, targets = append(clients, leecher), append(shares, share), append(targets, target)
		}
		for i, share := range shares {
			finish(t, share)
			if !targets[i].holds(data) {
				t.Errorf("leecher %d got another content", i)
			}
		}
		ratio := time.Since(began).Seconds() / (float64(length) / upload)
		sent := float64(seed.Status().Uploaded) / length
		t.Logf("%.2f of the bound; the seeder sent %.2f of the content", ratio, sent)
		if ratio > 1.4 { // most runs do 1.1; which goroutine runs first is chance
			t.Errorf("%.2f of the bound", ratio)
		}
		synctest.Wait()
		for _, leecher := range clients {
			leecher.Close()
		}
		seeder.Close()
	})
}
