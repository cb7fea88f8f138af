package swarm

import (
	"testing"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// asks are the blocks that frames ask for, and how many frames there were before the first that asks.
func asks(frames []wire.Frame) (blocks []wire.Block, before int) {
	for i, frame := range frames {
		if request, is := frame.(wire.Request); is {
			if len(blocks) == 0 {
				before = i
			}
			blocks = append(blocks, request.Blocks...)
		}
	}
	return blocks, before
}

func bytesOf(blocks []wire.Block) (sum int) {
	for _, block := range blocks {
		sum += int(block.Length)
	}
	return sum
}

// TestRequestsTravelWithTheHandshake: some before the other side said anything, and as many as it may owe when it has.
func TestRequestsTravelWithTheHandshake(t *testing.T) {
	w := newWorld(t, 1, 5*mib, 64*kib)
	seeder, leecher := w.seeder(), w.leecher()
	w.connect(leecher, seeder)
	blocks, before := asks(leecher.line(seeder).sent) // before any time has passed
	if before != 2 || bytesOf(blocks) != earlyBytes {
		t.Errorf("%d bytes are asked for, after %d frames", bytesOf(blocks), before)
	}
	for _, block := range blocks {
		if block.Length != content.LeafLength {
			t.Errorf("a block of %d bytes, before it is known what it can send", block.Length)
		}
	}
	w.until(time.Second, "an answer", func() bool { return len(leecher.line(seeder).sent) > 3 })
	for _, frame := range seeder.line(leecher).sent {
		if _, rejected := frame.(wire.Reject); rejected {
			t.Error("a seeder rejects what is asked for early")
		}
	}
	blocks, _ = asks(leecher.line(seeder).sent)
	if asked := bytesOf(blocks); asked < firstBudget || asked > firstBudget+wire.MaxBlock {
		t.Errorf("%d bytes in flight instead of %d", asked, firstBudget)
	}
	w.run(time.Minute)
	w.done(leecher)
}

// TestSmallContentComesWithTheFirstAnswer: after one round trip.
func TestSmallContentComesWithTheFirstAnswer(t *testing.T) {
	w := newWorld(t, 1, 10_000, 16*kib)
	seeder, leecher := w.seeder(), w.leecher()
	const trip = 100 * time.Millisecond
	w.over(trip, leecher, seeder)
	began := w.now
	w.until(time.Second, "the content", func() bool { return leecher.swarm.Complete() })
	if took := w.now.Sub(began); took < trip || took >= 2*trip {
		t.Errorf("it took %v at a round trip of %v", took, trip)
	}
}

// TestEarlyRequestsOfWhoHasNothing: they are taken back without a word, and asked of others; the rejections do no harm.
func TestEarlyRequestsOfWhoHasNothing(t *testing.T) {
	w := newWorld(t, 1, 1*mib, 64*kib)
	first, second, seeder := w.leecher(), w.leecher(), w.seeder()
	w.over(20*time.Millisecond, first, second)
	w.until(time.Second, "its bitfield", func() bool {
		return len(first.swarm.order) == 1 && first.swarm.order[0].has != nil && !first.swarm.order[0].presumed
	})
	r := first.swarm.order[0]
	if r.waits != 0 || r.inFlight != 0 || r.offered != 0 {
		t.Errorf("it is still waited for %d requests, %d bytes", r.waits, r.inFlight)
	}
	for _, frame := range first.line(second).sent {
		if _, cancels := frame.(wire.Cancel); cancels {
			t.Error("a request is cancelled that will be rejected")
		}
	}
	w.connect(first, seeder)
	w.run(time.Minute)
	w.done(first)
	if len(r.asked) != 0 {
		t.Errorf("%d requests were never answered", len(r.asked))
	}
}

// TestEarlyHashes: a link that lacks the piece hashes costs no round trip more where they are one answer.
func TestEarlyHashes(t *testing.T) {
	for name, test := range map[string]struct {
		check bool
		trips int
	}{"nothing is in the store": {false, 1}, "something may be": {true, 2}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 60_000, 16*kib)
			seeder, leecher := w.seeder(), w.bare(test.check)
			const trip = 100 * time.Millisecond
			w.over(trip, leecher, seeder)
			began := w.now
			w.until(time.Minute, "a piece", func() bool { return leecher.swarm.have.Count() > 0 })
			if took := w.now.Sub(began); took < time.Duration(test.trips)*trip || took >= time.Duration(test.trips+1)*trip {
				t.Errorf("it took %v at a round trip of %v", took, trip)
			}
			w.run(time.Minute)
			w.done(leecher)
		})
	}
}

// TestWhatComesBeforeItsHashes: a peer that answers in another order than it was asked is asked again.
func TestWhatComesBeforeItsHashes(t *testing.T) {
	w := newWorld(t, 1, 60_000, 16*kib)
	seeder, leecher := w.seeder(), w.bare(false)
	stranger := ident.PeerID{9}
	leecher.swarm.Connected(stranger, 64*kib, true, w.now)
	blocks, _ := asks(framesTo(leecher.swarm.Actions(), stranger))
	if len(blocks) == 0 {
		t.Fatal("nothing is asked for early")
	}
	for _, frame := range []wire.Frame{
		wire.Handshake{Number: 5, FullHash: w.info.FullHash, TotalLength: uint64(w.info.TotalLength), PieceLength: uint32(w.info.PieceLength), MaxFrame: 64 * kib},
		wire.HaveAll{Number: 5},
		wire.Piece{Number: 5, Piece: blocks[0].Piece, Begin: blocks[0].Begin, Data: make([]byte, blocks[0].Length)},
	} {
		leecher.swarm.Received(stranger, frame, w.now)
	}
	for _, action := range leecher.swarm.Actions() {
		if keep, is := action.(Keep); is {
			t.Errorf("%v is kept without its hash", keep.Block)
		}
	}
	leecher.swarm.Disconnected(stranger, w.now)
	w.connect(leecher, seeder)
	w.run(time.Minute)
	w.done(leecher)
}

// TestAPeerThatWasTakenForASeederSaysNothing: our patience with it ends as with any other.
func TestAPeerThatWasTakenForASeederSaysNothing(t *testing.T) {
	w := newWorld(t, 1, 1*mib, 64*kib)
	leecher := w.leecher()
	stranger := ident.PeerID{9}
	leecher.swarm.Connected(stranger, 64*kib, true, w.now)
	leecher.swarm.Tick(w.now.Add(DefaultPatience))
	if len(leecher.swarm.Status().Peers) != 0 {
		t.Error("it is still connected")
	}
}

// framesTo are the frames that actions send to a peer.
func framesTo(actions []Action, peer ident.PeerID) (frames []wire.Frame) {
	for _, action := range actions {
		if send, is := action.(Send); is && send.Peer == peer {
			frames = append(frames, send.Frame)
		}
	}
	return frames
}

// bare adds a leecher that has only a link; with check, there may be something in its store.
func (w *world) bare(check bool) *node {
	info := w.info
	info.PieceHashes = nil
	n := w.join(Config{Info: info, Check: check})
	n.kept = wire.NewBits(info.Geometry().Pieces())
	return n
}
