package client

import (
	"testing"
	"testing/synctest"
	"time"

	"p2pcdn/peer/rtc"
)

// More peers than slots, each held back by its own limit: a peer that waits for its limit keeps
// no slot from the others, so that all get what they may.
func TestAPeersLimitKeepsNoSlot(t *testing.T) {
	bubble(t, func(t *testing.T, hub *hub, connect func(rtc.Peering) Conn) {
		const limit, leechers = 100_000, 6
		seeder := newPeer(t, Config{Line: hub.line(), Connect: connect, PeerUploadLimit: limit, UploadSlots: 2})
		begun := time.Now()
		var shares []*Share
		for i := range leechers { // a content each, so that they have nothing for each other
			_, source := random(1_000_000 + i)
			if _, err := seeder.Seed(source); err != nil {
				t.Fatal(err)
			}
			leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
			share, err := leecher.Get(source.info, newTarget(source.info))
			if err != nil {
				t.Fatal(err)
			}
			shares = append(shares, share)
		}
		for _, share := range shares {
			await(t, share)
		}
		synctest.Wait()
		if took := time.Since(begun); took > 12*time.Second { // simulated; with a slot each it is 10 s
			t.Errorf("%d contents of 1 MB at 0.1 MB/s each took %v", leechers, took)
		}
	})
}
