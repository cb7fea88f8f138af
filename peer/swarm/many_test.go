package swarm

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// town is a world with hundreds of peers of all kinds, who come and leave.
type town struct {
	*world
	faults *rand.Rand
	liars  map[ident.PeerID]bool // who sends wrong data or wrong hashes
	stay   []*node               // honest leechers who do not leave
	here   []*node               // who is there
	gaveUp int                   // who left before it was complete
}

// arrives lets a node come, and connects it to some of those who are there.
func (t *town) arrives(n *node) {
	n.up = 100e3 + 1e6*t.faults.Float64()
	n.down = 5 * n.up
	n.disk = func() time.Duration { return time.Duration(t.faults.IntN(30)) * time.Millisecond }
	for _, i := range t.faults.Perm(len(t.here))[:min(12, len(t.here))] {
		t.connect(n, t.here[i])
	}
	t.here = append(t.here, n)
}

// leaves takes a node away from everybody.
func (t *town) leaves(n *node) {
	t.vanish(n)
	if n.complete == 0 {
		t.gaveUp++
	}
	t.here = slices.DeleteFunc(t.here, func(other *node) bool { return other == n })
}

func newTown(t *testing.T, seed uint64) *town {
	const pieces = 48
	w := newWorld(t, seed, pieces*16*kib-5, 16*kib)
	return &town{world: w, faults: rand.New(rand.NewPCG(seed, 99)), liars: map[ident.PeerID]bool{}}
}

// leechersCome lets honest leechers come in the first seconds; every second of them has only a link,
// and of four one leaves again.
func (t *town) leechersCome(count int) {
	bare := t.info
	bare.PieceHashes = nil
	for i := range count {
		info := t.info
		if i%2 == 0 {
			info = bare
		}
		n := t.add(info, nil)
		comes := time.Duration(t.faults.IntN(4000)) * time.Millisecond
		t.after(comes, func() { t.arrives(n) })
		if i%4 == 0 {
			t.after(comes+time.Duration(200+t.faults.IntN(1500))*time.Millisecond, func() { t.leaves(n) })
		} else {
			t.stay = append(t.stay, n)
		}
	}
}

// liarsCome lets peers come who have everything: always wrong, sometimes wrong, with wrong hashes.
func (t *town) liarsCome(count int) {
	wrong := t.info
	wrong.PieceHashes = slices.Clone(t.info.PieceHashes)
	wrong.PieceHashes[3][0] ^= 1
	for i := range count {
		var n *node
		switch i % 3 {
		case 0:
			n = t.liar()
		case 1:
			n = t.seeder()
			n.reply = func(load Load) []wire.Frame {
				piece := n.truth(t.world, load)
				if t.faults.IntN(5) == 0 {
					piece.Data[t.faults.IntN(len(piece.Data))] ^= 1
				}
				return []wire.Frame{piece}
			}
		case 2:
			n = t.add(wrong, t.all())
		}
		t.liars[n.id] = true
		t.after(time.Duration(t.faults.IntN(2000))*time.Millisecond, func() { t.arrives(n) })
	}
}

// stallersCome lets peers come who have everything, and stop to answer sooner or later.
func (t *town) stallersCome(count int) {
	for i := range count {
		n := t.seeder()
		left := i % 4 * 20
		n.reply = func(load Load) []wire.Frame {
			if left--; left < 0 {
				return nil
			}
			return []wire.Frame{n.truth(t.world, load)}
		}
		t.after(time.Duration(t.faults.IntN(4000))*time.Millisecond, func() { t.arrives(n) })
	}
}

// TestThreeHundredPeers: whoever is honest and stays gets the content, who lies is found out by those
// to whom he lied, and nobody else is blamed.
func TestThreeHundredPeers(t *testing.T) {
	w := newTown(t, 1)
	for range 4 {
		w.arrives(w.seeder())
	}
	w.leechersCome(250)
	w.liarsCome(30)
	w.stallersCome(16)
	w.finish(5*time.Minute, w.stay...)
	lied, banned := 0, 0
	for _, n := range w.order {
		if w.liars[n.id] {
			continue
		}
		for id := range n.banned {
			banned++
			if !w.liars[id] {
				t.Errorf("%v banned the honest %v", n, w.nodes[id])
			}
		}
		for id := range n.spoilt {
			lied++
			if n.complete > 0 && !n.banned[id] {
				t.Errorf("%v is complete and did not find out that %v lied", n, w.nodes[id])
			}
		}
		for id, err := range n.broken {
			t.Errorf("%v broke with %v: %v", n, w.nodes[id], err)
		}
	}
	for _, n := range w.stay {
		w.settled(n)
	}
	if lied < 50 || banned < lied || w.gaveUp < 20 {
		t.Errorf("%d lies, %d bans, %d left in the middle", lied, banned, w.gaveUp)
	}
	t.Logf("%d peers, %d complete after %v; %d left in the middle; %d were lied to, %d bans", len(w.order), len(w.stay), w.passed(), w.gaveUp, lied, banned)
}

// TestWorldsAreDeterministic: the same seed gives the same world, to the last frame.
func TestWorldsAreDeterministic(t *testing.T) {
	trace := func() [sha256.Size]byte {
		w := newTown(t, 7)
		w.arrives(w.seeder())
		w.leechersCome(20)
		w.liarsCome(3)
		w.stallersCome(2)
		w.finish(5*time.Minute, w.stay...)
		var all bytes.Buffer
		for _, n := range w.order {
			fmt.Fprintln(&all, n, n.doneAt)
			for _, l := range n.order {
				fmt.Fprintln(&all, l.to, l.sent)
			}
		}
		return sha256.Sum256(all.Bytes())
	}
	if first, second := trace(), trace(); first != second {
		t.Error("two worlds of one seed differ")
	}
}

// trouble is a leecher among peers with every fault that there is.
type trouble struct {
	*world
	faults  *rand.Rand
	leecher *node
	honest  *node
	faulty  []*node
}

// fault returns an answer with some fault, or the truth.
func (w *trouble) fault(n *node, load Load) []wire.Frame {
	piece := n.truth(w.world, load)
	switch w.faults.IntN(10) {
	case 0, 1:
		if len(piece.Data) > 0 {
			piece.Data[w.faults.IntN(len(piece.Data))] ^= 1
		}
	case 2:
		piece.Begin += uint32(w.faults.IntN(3)) * content.LeafLength
	case 3:
		piece.Data = piece.Data[:w.faults.IntN(len(piece.Data)+1)]
	case 4:
		piece.Piece = uint32(w.faults.IntN(w.info.Geometry().Pieces() + 1))
	case 5:
		return nil
	case 6:
		return []wire.Frame{wire.Reject{Number: load.Number, Block: load.Block}}
	case 7:
		return []wire.Frame{piece, piece}
	case 8:
		return []wire.Frame{wire.Reject{Number: load.Number, Block: load.Block}, piece}
	}
	return []wire.Frame{piece}
}

// newTrouble makes a world out of a seed: contents, pieces, frames, disks, what is there already, who stays.
func newTrouble(t *testing.T, seed uint64) *trouble {
	faults := rand.New(rand.NewPCG(seed, 7))
	pieceLength := int64(16*kib) << (seed % 4)
	if seed%11 == 0 {
		pieceLength = mib // which everybody fetches together
	}
	w := &trouble{world: newWorld(t, seed, int64(faults.IntN(700*kib)), pieceLength), faults: faults}
	info := w.info
	if faults.IntN(3) == 0 {
		info.PieceHashes = nil
	}
	w.leecher = w.join(Config{Info: info, Check: faults.IntN(2) == 0, OpenBytes: faults.IntN(300 * kib)})
	w.leecher.kept = wire.NewBits(w.info.Geometry().Pieces())
	if w.leecher.swarm.Config.Check {
		for range faults.IntN(3) {
			piece := faults.IntN(w.info.Geometry().Pieces())
			w.leecher.kept.Add(piece)
			copy(w.piece(w.leecher.store, piece), w.piece(w.data, piece))
		}
	}
	if faults.IntN(2) == 0 {
		w.leecher.disk = func() time.Duration { return time.Duration(faults.IntN(80)) * time.Millisecond }
	}
	frames := []int{wire.MinFrame, 40 * kib, 64 * kib, wire.MaxFrame}
	for range 1 + faults.IntN(3) {
		n := w.seeder()
		n.maxFrame = frames[faults.IntN(4)]
		n.reply = func(load Load) []wire.Frame { return w.fault(n, load) }
		w.faulty = append(w.faulty, n)
	}
	w.honest = w.seeder()
	w.honest.up = 300e3
	return w
}

// stir lets something happen to the faulty peers, or changes what a reader waits for.
func (w *trouble) stir() {
	n := w.faulty[w.faults.IntN(len(w.faulty))]
	switch w.faults.IntN(4) {
	case 0:
		if !w.leecher.line(n).gone {
			w.disconnect(w.leecher, n)
		}
	case 1:
		w.connect(w.leecher, n)
	case 2:
		piece := w.faults.IntN(w.info.Geometry().Pieces())
		w.leecher.swarm.Urge([]Range{{piece, piece + 3}}, w.now)
		w.act(w.leecher)
	case 3:
		w.leecher.swarm.Urge(nil, w.now)
		w.act(w.leecher)
	}
}

// TestWhateverHappens is a property: whatever order and faults, what a leecher holds at the end is the
// content, or it is not complete; with an honest seeder it is, and nothing is left over.
func TestWhateverHappens(t *testing.T) {
	for seed := range uint64(150) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newTrouble(t, seed)
			for range w.faults.IntN(6) {
				w.stir()
				w.run(time.Duration(w.faults.IntN(300)) * time.Millisecond)
			}
			if w.faults.IntN(4) > 0 {
				w.connect(w.leecher, w.honest)
			}
			for range w.faults.IntN(12) {
				w.stir()
				w.run(time.Duration(w.faults.IntN(500)) * time.Millisecond)
			}
			if w.leecher.complete == 0 {
				w.connect(w.leecher, w.honest) // sooner or later
			}
			w.finish(30*time.Minute, w.leecher)
			w.run(time.Minute)
			w.done(w.leecher)
			w.settled(w.leecher)
			if w.leecher.banned[w.honest.id] {
				t.Error("the honest peer was banned")
			}
			if kept := w.leecher.kept; w.leecher.swarm.Config.Check {
				for _, n := range append(w.faulty, w.honest) {
					for _, block := range w.leecher.requests(n) {
						if kept.Has(int(block.Piece)) {
							t.Errorf("piece %d was asked for, which was there", block.Piece)
						}
					}
				}
			}
		})
	}
}

// TestWithoutAnHonestSeederNothingWrongIsHeld: it may never be complete, and nothing else may happen.
func TestWithoutAnHonestSeederNothingWrongIsHeld(t *testing.T) {
	for seed := range uint64(40) {
		w := newTrouble(t, seed)
		for range 12 {
			w.stir()
			w.run(time.Duration(w.faults.IntN(400)) * time.Millisecond)
		}
		w.run(10 * time.Minute)
		s := w.leecher.swarm
		for piece := range s.have.Len() {
			if s.Has(piece) && !bytes.Equal(w.piece(w.leecher.store, piece), w.piece(w.data, piece)) {
				t.Errorf("seed %d: piece %d is verified, and wrong", seed, piece)
			}
		}
		if s.Complete() {
			w.done(w.leecher)
		}
	}
}
