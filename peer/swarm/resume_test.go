package swarm

import (
	"fmt"
	"testing"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
)

// resumed returns a leecher whose store has these pieces of an earlier attempt.
func (w *world) resumed(info content.Info, pieces ...int) *node {
	n := w.join(Config{Info: info, Check: true})
	n.kept = wire.NewBits(w.info.Geometry().Pieces())
	for _, piece := range pieces {
		n.kept.Add(piece)
		copy(w.piece(n.store, piece), w.piece(w.data, piece))
	}
	return n
}

// TestWhatIsThereIsNeverAskedFor: it is told to everybody, served, and the rest fetched.
func TestWhatIsThereIsNeverAskedFor(t *testing.T) {
	const pieces = 40
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprint("bare ", bare), func(t *testing.T) {
			w := newWorld(t, 1, pieces*64*kib-9, 64*kib)
			info := w.info
			if bare {
				info.PieceHashes = nil
			}
			var there []int
			for piece := 0; piece < pieces; piece += 2 {
				there = append(there, piece)
			}
			leecher, seeder, other := w.resumed(info, there...), w.seeder(), w.leecher()
			w.connect(leecher, seeder)
			w.connect(leecher, other)
			w.finish(time.Minute, leecher, other)
			for _, block := range leecher.requests(seeder) {
				if block.Piece%2 == 0 {
					t.Errorf("it asked for piece %d, which is there", block.Piece)
				}
			}
			if told := leecher.told(other); told != pieces {
				t.Errorf("the other one was told of %d pieces", told)
			}
			w.settled(leecher)
		})
	}
}

// told is how many pieces another one was told of.
func (n *node) told(other *node) (pieces int) {
	for _, frame := range n.line(other).sent {
		switch f := frame.(type) {
		case wire.Have:
			pieces++
		case wire.Bitfield:
			bits, _ := wire.ParseBits(f.Bits, n.swarm.have.Len())
			pieces += bits.Count()
		case wire.HaveAll:
			pieces = n.swarm.have.Len()
		}
	}
	return pieces
}

// TestNothingIsFetchedBeforeTheStoreWasLookedAt, and Have goes out after it.
func TestNothingIsFetchedBeforeTheStoreWasLookedAt(t *testing.T) {
	w := newWorld(t, 2, 10*64*kib, 64*kib)
	leecher, seeder, other := w.join(Config{Info: w.info, Check: true}), w.seeder(), w.leecher()
	checks := 0
	leecher.check = func(Check) { checks++ }
	w.connect(leecher, seeder)
	w.connect(leecher, other)
	w.run(time.Minute)
	if n := len(leecher.requests(seeder)); n != 0 || checks != 1 {
		t.Fatalf("%d requests before the answer to %d checks", n, checks)
	}
	have := wire.NewBits(10)
	have.Add(3)
	copy(w.piece(leecher.store, 3), w.piece(w.data, 3))
	leecher.swarm.Checked(have, w.now)
	w.act(leecher)
	if told := leecher.told(other); told != 1 {
		t.Errorf("the other one was told of %d pieces", told)
	}
	leecher.swarm.Checked(w.all(), w.now) // nobody asked
	w.finish(time.Minute, leecher, other)
}

// TestEverythingIsThereAlready: it is complete without a peer, and seeds.
func TestEverythingIsThereAlready(t *testing.T) {
	w := newWorld(t, 3, 10*64*kib, 64*kib)
	leecher := w.resumed(w.info, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	w.act(leecher)
	w.done(leecher)
	other := w.leecher()
	w.connect(leecher, other)
	w.finish(time.Minute, other)
	if got := w.fetched(leecher); got != 0 {
		t.Errorf("%d bytes came", got)
	}
}
