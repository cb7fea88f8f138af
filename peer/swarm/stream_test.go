package swarm

import (
	"slices"
	"testing"
	"time"

	"p2pcdn/common/wire"
)

// reading is a swarm that a reader waits for, with seeders of which each could take a while.
func reading(t *testing.T, length, pieceLength int64) (*world, *node, []*node) {
	w := newWorld(t, 1, length, pieceLength)
	leecher := w.leecher()
	var seeders []*node
	for range 3 {
		seeder := w.seeder()
		seeder.up = 1e6
		seeders = append(seeders, seeder)
		w.over(40*time.Millisecond, leecher, seeder)
	}
	return w, leecher, seeders
}

// verified returns the pieces in the order in which they will be verified; the world has to run for it.
func (w *world) verified(n *node) *[]int {
	pieces := new([]int)
	n.verified = func(piece int) { *pieces = append(*pieces, piece) }
	return pieces
}

// TestTheHeadComesFirst: what a reader waits for comes before everything else, in about its order, from everybody.
func TestTheHeadComesFirst(t *testing.T) {
	w, leecher, seeders := reading(t, 32*mib, 256*kib)
	const head = 16
	leecher.swarm.Urge([]Range{{0, head}}, w.now)
	order := w.verified(leecher)
	w.until(time.Minute, "head", func() bool { return len(*order) >= head })
	got := (*order)[:head]
	for i, piece := range got {
		if piece >= head || piece < i-3 || piece > i+3 {
			t.Fatalf("pieces came in the order %v", got)
		}
	}
	for _, seeder := range seeders {
		if seeder.uploaded < head*256*kib/6 {
			t.Errorf("%v sent %d bytes of the head", seeder, seeder.uploaded)
		}
	}
	if took, alone := w.passed().Seconds(), head*256*kib/3e6; took > 1.15*alone {
		t.Errorf("the head took %.2f s where %.2f would do", took, alone)
	}
}

// TestReadingAtTheRateOfTheNetwork: a reader that goes on as pieces come is never far behind what came.
func TestReadingAtTheRateOfTheNetwork(t *testing.T) {
	w, leecher, _ := reading(t, 16*mib, 64*kib)
	pieces := w.info.Geometry().Pieces()
	at := 0
	order := w.verified(leecher)
	urge := func() { leecher.swarm.Urge([]Range{{at, at + 64}}, w.now); w.act(leecher) }
	urge()
	seen := 0
	w.until(time.Minute, "end", func() bool {
		if len(*order) > seen {
			seen = len(*order)
			before := at
			for at < pieces && leecher.swarm.Has(at) {
				at++
			}
			if at > before {
				urge()
			}
			if seen-at > 24 { // half a second of all three
				t.Fatalf("at piece %d the reader waits for %d", seen, at)
			}
		}
		return at == pieces
	})
	w.done(leecher)
}

// TestSeekMovesAtOnce: after a jump to the end the next requests are for that.
func TestSeekMovesAtOnce(t *testing.T) {
	w, leecher, seeders := reading(t, 64*mib, 256*kib)
	last := w.info.Geometry().Pieces() - 4
	leecher.swarm.Urge([]Range{{0, 32}}, w.now)
	w.run(2 * time.Second)
	order := w.verified(leecher)
	asked := make([]int, len(seeders))
	for i, seeder := range seeders {
		asked[i] = len(leecher.requests(seeder))
	}
	leecher.swarm.Urge([]Range{{last, last + 4}}, w.now)
	w.act(leecher)
	jumped := w.now
	w.until(time.Minute, "end of the content", func() bool { return slices.Contains(*order, last) })
	// What was asked for before comes first: 0.3 s of it and two round trips.
	if took := w.now.Sub(jumped); took > time.Second {
		t.Errorf("the first piece came after %v", took)
	}
	for i, seeder := range seeders {
		for n, block := range leecher.requests(seeder)[asked[i]:] {
			if int(block.Piece) < last && n < 4 {
				t.Errorf("request %d after the jump was for piece %d", n, block.Piece)
			}
		}
	}
	leecher.swarm.Urge(nil, w.now)
	w.finish(2*time.Minute, leecher)
}

// TestUrgesAreBounded: ranges beyond the content, or the wrong way round, wait for nothing.
func TestUrgesAreBounded(t *testing.T) {
	w := newWorld(t, 1, 10*64*kib, 64*kib)
	leecher := w.leecher()
	leecher.swarm.Urge([]Range{{-5, 3}, {8, 20}, {5, 5}, {7, 6}, {100, 200}, {-9, -2}}, w.now)
	if want := []Range{{0, 3}, {8, 10}}; !slices.Equal(leecher.swarm.urgent, want) {
		t.Errorf("it waits for %v", leecher.swarm.urgent)
	}
	w.connect(leecher, w.seeder())
	w.finish(time.Minute, leecher)
}

// TestAReaderIsNotHeldUpByASlowPeer: what a slow peer owes of the first piece is asked of another one, too.
func TestAReaderIsNotHeldUpByASlowPeer(t *testing.T) {
	for _, test := range []struct {
		name  string
		setUp func(slow *node)
	}{
		{"it takes requests, and that is all", func(slow *node) { slow.reply = func(Load) []wire.Frame { return nil } }},
		{"one block in five seconds", func(slow *node) { slow.up = 10e3 }},
		{"one block in half a second", func(slow *node) { slow.up = 100e3 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, 2, 16*mib, 256*kib)
			leecher, slow, fast := w.leecher(), w.seeder(), w.seeder()
			test.setUp(slow)
			fast.up = 2e6
			w.over(20*time.Millisecond, leecher, slow)
			leecher.swarm.Urge([]Range{{0, 8}}, w.now)
			w.run(100 * time.Millisecond)
			w.over(20*time.Millisecond, leecher, fast)
			for piece := range 8 { // as a reader says it
				leecher.swarm.Urge([]Range{{piece, 8}}, w.now)
				w.until(4*time.Second, "head", func() bool { return leecher.swarm.Has(piece) })
			}
			if took := w.passed(); took > 3*time.Second { // one until it counts as stalled, and one for the 2 MiB
				t.Errorf("the head took %v", took)
			}
			leecher.swarm.Urge(nil, w.now)
			w.finish(time.Minute, leecher)
			if waste := w.waste(leecher); waste > 0.05 {
				t.Errorf("%.3f of the content for nothing", waste)
			}
		})
	}
}
