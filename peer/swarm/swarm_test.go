package swarm

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

const (
	kib = 1 << 10
	mib = 1 << 20
)

func TestLeecherFetchesFromSeeder(t *testing.T) {
	for _, length := range []int64{0, 1, 16*kib - 1, 16 * kib, 16*kib + 1, 64 * kib, 64*kib + 1, 200_001, 5*mib + 3} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			w := newWorld(t, 1, length, 64*kib)
			seeder, leecher := w.seeder(), w.leecher()
			w.connect(leecher, seeder)
			w.run(time.Minute)
			w.done(leecher)
			if len(leecher.swarm.Status().Peers) != 0 || len(seeder.swarm.Status().Peers) != 0 {
				t.Error("two complete peers did not part")
			}
		})
	}
}

func TestBlocksFitWhatThePeerCanSend(t *testing.T) {
	for _, maxFrame := range []int{wire.MinFrame, 40 * kib, 64 * kib, wire.MaxFrame} {
		w := newWorld(t, 1, mib, 256*kib)
		seeder, leecher := w.seeder(), w.leecher()
		seeder.maxFrame, leecher.maxFrame = maxFrame, wire.MinFrame
		w.connect(leecher, seeder)
		w.run(time.Minute) // deliver fails the test for a frame that is too large
		w.done(leecher)
	}
}

func TestBareLinkFetchesPieceHashesFirst(t *testing.T) {
	for _, pieces := range []int64{2, 256, 257, 700} {
		t.Run(fmt.Sprint(pieces), func(t *testing.T) {
			w := newWorld(t, 2, pieces*16*kib-5, 16*kib)
			bare := w.info
			bare.PieceHashes = nil
			seeder, leecher := w.seeder(), w.add(bare, nil)
			if leecher.swarm.Info().HasPieceHashes() {
				t.Error("it has piece hashes before it asked")
			}
			w.connect(leecher, seeder)
			w.run(time.Minute)
			w.done(leecher)
			if leecher.described != 1 || !slices.Equal(leecher.swarm.Info().PieceHashes, w.info.PieceHashes) {
				t.Error("the piece hashes are not the right ones")
			}
			requested := false
			for _, frame := range leecher.line(seeder).sent {
				switch frame.(type) {
				case wire.Request:
					requested = true
				case wire.HashRequest:
					if requested {
						t.Fatal("content was asked for before the piece hashes were complete")
					}
				}
			}
		})
	}
}

func TestWrongPieceHashesAreFoundOutBeforeContent(t *testing.T) {
	w := newWorld(t, 3, 10*64*kib, 64*kib)
	bare := w.info
	bare.PieceHashes = nil
	wrong := w.info
	wrong.PieceHashes = slices.Clone(w.info.PieceHashes)
	wrong.PieceHashes[3][0] ^= 1
	all := wire.NewBits(10)
	all.Fill()
	liar, leecher := w.add(wrong, all), w.add(bare, nil)
	w.connect(leecher, liar)
	w.run(time.Minute)
	if !leecher.banned[liar.id] {
		t.Fatal("the liar was not banned")
	}
	honest := w.seeder()
	w.connect(leecher, honest)
	w.run(time.Minute)
	w.done(leecher)
}

func TestBareLinkAmongPeersWithoutHashes(t *testing.T) {
	w := newWorld(t, 4, 10*64*kib, 64*kib)
	bare := w.info
	bare.PieceHashes = nil
	first, second := w.add(bare, nil), w.add(bare, nil)
	w.connect(first, second)
	w.run(time.Minute)
	if first.swarm.Complete() || second.swarm.Complete() {
		t.Fatal("content out of nothing")
	}
	w.connect(first, w.seeder())
	w.run(5 * time.Minute)
	w.done(first)
	w.done(second) // from the first, which had no hashes when it was asked
}

func TestSeveralSeedersShareTheWork(t *testing.T) {
	w := newWorld(t, 5, 8*mib, 64*kib)
	leecher := w.leecher()
	seeders := []*node{w.seeder(), w.seeder(), w.seeder()}
	for _, seeder := range seeders {
		w.connect(leecher, seeder)
	}
	w.run(time.Minute)
	w.done(leecher)
	for _, seeder := range seeders {
		if sent := seeder.line(leecher).bytes; sent < mib {
			t.Errorf("%v sent %d bytes of 8 MiB", seeder, sent)
		}
	}
}

func TestLeechersServeEachOther(t *testing.T) {
	w := newWorld(t, 6, 2*mib, 64*kib)
	seeder, near, far := w.seeder(), w.leecher(), w.leecher()
	w.connect(near, seeder)
	w.connect(far, near) // which is all that it ever sees
	w.run(time.Minute)
	w.done(near)
	w.done(far)
}

func TestFirstPieceIsRandomAndTheRestRarestFirst(t *testing.T) {
	firsts := map[uint32]bool{}
	for seed := range uint64(20) {
		w := newWorld(t, seed, 20*64*kib, 64*kib)
		seeder, leecher := w.seeder(), w.leecher()
		w.connect(leecher, seeder)
		w.run(time.Minute)
		for _, frame := range leecher.line(seeder).sent {
			if request, is := frame.(wire.Request); is {
				firsts[request.Blocks[0].Piece] = true
				break
			}
		}
	}
	if len(firsts) < 5 {
		t.Errorf("20 leechers began with only %d different pieces", len(firsts))
	}

	w := newWorld(t, 7, 20*64*kib, 64*kib)
	leecher, seeder := w.leecher(), w.seeder()
	leecher.swarm.InFlight = 1 // a block at a time, so that the order shows
	const rare = 13
	for range 3 {
		common := wire.NewBits(20)
		common.Fill()
		common.Remove(rare)
		other := w.add(w.info, common)
		other.reply = func(Load) []wire.Frame { return nil }
		other.swarm.InFlight = 0
		leecher.swarm.Connected(other.id, other.maxFrame, false, w.now)
		leecher.swarm.Received(other.id, wire.Handshake{FullHash: w.info.FullHash, TotalLength: uint64(w.info.TotalLength), PieceLength: 64 * kib, MaxFrame: wire.MinFrame}, w.now)
		leecher.swarm.Received(other.id, common.Frame(1), w.now)
	}
	leecher.swarm.has(0) // past the first piece
	leecher.swarm.Actions()
	w.connect(leecher, seeder)
	w.until(time.Second, "request", func() bool { return len(leecher.requests(seeder)) > 0 })
	if piece := leecher.requests(seeder)[0].Piece; piece != rare {
		t.Errorf("asked for piece %d before the rare one", piece)
	}
}

// TestLiars has one test per way to lie; in each an honest seeder makes the
// download complete, and the liar is named where it can be.
func TestLiars(t *testing.T) {
	for _, lie := range []struct {
		name   string
		banned bool // found out by the content's hash
		reply  func(n *node, w *world, load Load) []wire.Frame
	}{
		{"wrong data", true, func(n *node, w *world, load Load) []wire.Frame {
			piece := n.truth(w, load)
			piece.Data[0] ^= 1
			return []wire.Frame{piece}
		}},
		{"wrong index", true, func(n *node, w *world, load Load) []wire.Frame {
			piece := n.truth(w, load)
			piece.Piece = (piece.Piece + 1) % 10
			return []wire.Frame{piece}
		}},
		{"index beyond the content", false, func(n *node, w *world, load Load) []wire.Frame {
			piece := n.truth(w, load)
			piece.Piece = 1 << 31
			return []wire.Frame{piece}
		}},
		{"wrong begin", false, func(n *node, w *world, load Load) []wire.Frame {
			piece := n.truth(w, load)
			piece.Begin += 7
			return []wire.Frame{piece}
		}},
		{"too short", false, func(n *node, w *world, load Load) []wire.Frame {
			piece := n.truth(w, load)
			piece.Data = piece.Data[:len(piece.Data)-1]
			return []wire.Frame{piece}
		}},
		{"too long", false, func(n *node, w *world, load Load) []wire.Frame {
			piece := n.truth(w, load)
			piece.Data = append(piece.Data, 0)
			return []wire.Frame{piece}
		}},
		{"never answers", false, func(*node, *world, Load) []wire.Frame { return nil }},
		{"rejects all", false, func(n *node, w *world, load Load) []wire.Frame {
			return []wire.Frame{wire.Reject{Number: load.Number, Block: load.Block}}
		}},
		{"twice", false, func(n *node, w *world, load Load) []wire.Frame {
			return []wire.Frame{n.truth(w, load), n.truth(w, load)}
		}},
	} {
		t.Run(lie.name, func(t *testing.T) {
			w := newWorld(t, 8, 10*64*kib, 64*kib)
			liar, leecher, honest := w.seeder(), w.leecher(), w.seeder()
			liar.reply = func(load Load) []wire.Frame { return lie.reply(liar, w, load) }
			w.connect(leecher, liar)
			w.run(25 * time.Millisecond) // the liar is asked first
			w.connect(leecher, honest)
			w.run(5 * time.Minute)
			w.done(leecher)
			if leecher.banned[liar.id] != lie.banned {
				t.Errorf("banned: %v", leecher.banned)
			}
			if leecher.banned[honest.id] {
				t.Error("the honest peer was banned")
			}
			if lie.banned {
				asked := len(leecher.line(liar).sent)
				w.connect(leecher, liar)
				w.run(time.Minute)
				for _, frame := range leecher.line(liar).sent[asked:] {
					if _, is := frame.(wire.Request); is {
						t.Error("a banned peer was asked again")
					}
				}
			}
		})
	}
}

func TestPieceOfSeveralSendersIsFetchedAnewFromOne(t *testing.T) {
	w := newWorld(t, 9, 256*kib, 256*kib)
	liar, leecher, honest := w.seeder(), w.leecher(), w.seeder()
	served := 0
	liar.reply = func(load Load) []wire.Frame {
		if served++; served == 1 { // one wrong block, then nothing more
			piece := liar.truth(w, load)
			piece.Data[5] ^= 1
			return []wire.Frame{piece}
		}
		return nil
	}
	w.connect(leecher, liar)
	w.run(time.Second)
	w.connect(leecher, honest)
	w.run(10 * time.Minute)
	w.done(leecher)
	if leecher.banned[honest.id] {
		t.Error("the honest peer was blamed for the liar's block")
	}
	if !leecher.banned[liar.id] {
		t.Error("the liar was not found out by the leaf that it sent")
	}
}

func TestRefusedPieceIsAskedForAgainLater(t *testing.T) {
	w := newWorld(t, 20, 10*64*kib, 64*kib)
	seeder, leecher := w.seeder(), w.leecher()
	busy := true
	seeder.reply = func(load Load) []wire.Frame {
		if busy {
			return []wire.Frame{wire.Reject{Number: load.Number, Block: load.Block}}
		}
		return []wire.Frame{seeder.truth(w, load)}
	}
	w.connect(leecher, seeder)
	w.run(DefaultPatience - time.Second)
	asked := 0
	for _, frame := range leecher.line(seeder).sent {
		if _, is := frame.(wire.Request); is {
			asked++
		}
	}
	if asked == 0 || asked > 20 { // two blocks a piece
		t.Errorf("a peer that rejects was asked %d times", asked)
	}
	busy = false
	w.run(time.Minute)
	w.done(leecher)
}

// TestRefusalsOfAGivenUpPieceDoNotTouchTheNextOne: one peer refuses the blocks of a
// piece that one alone must send, one by one; the next peer must not be blamed.
func TestRefusalsOfAGivenUpPieceDoNotTouchTheNextOne(t *testing.T) {
	for seed := range uint64(30) {
		w := newWorld(t, seed, 3*64*kib, 64*kib)
		refuser, leecher, honest := w.seeder(), w.leecher(), w.seeder()
		refuser.maxFrame, honest.maxFrame = wire.MinFrame, wire.MinFrame // a leaf a block
		for piece := range 3 {
			leecher.swarm.solo[piece] = true // as after a piece of several senders that was wrong
		}
		refuser.reply = func(load Load) []wire.Frame {
			return []wire.Frame{wire.Reject{Number: load.Number, Block: load.Block}}
		}
		w.connect(leecher, refuser)
		w.run(time.Duration(seed) * time.Millisecond)
		w.connect(leecher, honest)
		w.run(time.Minute)
		w.done(leecher)
		if leecher.banned[honest.id] {
			t.Fatalf("seed %d: the honest peer was banned", seed)
		}
	}
}

// TestLateRefusalOfAGivenUpPiece is the same, step by step.
func TestLateRefusalOfAGivenUpPiece(t *testing.T) {
	s := newScript(t, 1)
	refuser, honest, owed, anew := s.begunAnew()
	s.gives(honest, anew[0])
	s.gives(honest, anew[1])
	s.s.Received(refuser, wire.Reject{Block: owed[1]}, s.now)
	if more := s.requests(honest); len(more) != 0 {
		t.Errorf("the next peer was asked again for %v", more)
	}
	s.gives(honest, anew[2])
	s.gives(honest, anew[3])
	if !s.s.Complete() {
		t.Error("it is not complete")
	}
}

func TestSilentPeerIsAskedAgainWhenItWakes(t *testing.T) {
	w := newWorld(t, 10, 10*64*kib, 64*kib)
	seeder, leecher := w.seeder(), w.leecher()
	asleep := true
	seeder.reply = func(load Load) []wire.Frame {
		if asleep {
			return nil
		}
		return []wire.Frame{seeder.truth(w, load)}
	}
	w.connect(leecher, seeder)
	w.run(30 * time.Second)
	if !leecher.swarm.Status().Peers[0].Silent {
		t.Fatal("a peer that never answered is not silent")
	}
	asleep = false
	w.run(time.Minute)
	w.done(leecher)
}

func TestForeverSilentPeerIsAskedABoundedNumberOfTimes(t *testing.T) {
	w := newWorld(t, 11, 10*64*kib, 64*kib)
	seeder, leecher := w.seeder(), w.leecher()
	seeder.reply = func(Load) []wire.Frame { return nil }
	w.connect(leecher, seeder)
	w.run(24 * time.Hour)
	if got := len(leecher.swarm.peers[seeder.id].asked); got > wire.MaxRequests {
		t.Errorf("%d requests wait", got)
	}
	w.connect(leecher, w.seeder())
	w.run(time.Minute)
	w.done(leecher)
}

func TestPeerThatNeverSaysWhatItHasIsLeft(t *testing.T) {
	w := newWorld(t, 12, 64*kib, 64*kib)
	mute, leecher := w.seeder(), w.leecher()
	mute.mute = true
	w.connect(leecher, mute)
	w.run(time.Minute)
	if len(leecher.swarm.Status().Peers) != 0 {
		t.Error("a mute peer was kept")
	}
}

func TestDisconnectedPeersBlocksGoToOthers(t *testing.T) {
	w := newWorld(t, 13, 4*mib, 64*kib)
	first, leecher, second := w.seeder(), w.leecher(), w.seeder()
	w.connect(leecher, first)
	w.run(100 * time.Millisecond)
	if have := leecher.swarm.Status().Have; have == 0 || leecher.swarm.Complete() {
		t.Fatalf("%d pieces after 100 ms", have)
	}
	w.disconnect(leecher, first)
	w.connect(leecher, second)
	w.run(time.Minute)
	w.done(leecher)
}

func TestOpenPiecesAreBoundedAndNeverBlock(t *testing.T) {
	w := newWorld(t, 14, 64*64*kib, 64*kib)
	half, other := wire.NewBits(64), wire.NewBits(64)
	for piece := range 64 {
		if piece < 32 {
			half.Add(piece)
		} else {
			other.Add(piece)
		}
	}
	first, leecher := w.add(w.info, half), w.leecher()
	leecher.swarm.OpenBytes = 4 * 64 * kib
	delivered := 0
	first.reply = func(load Load) []wire.Frame { // the first block of every piece, so that all stay open
		if load.Block.Begin > 0 {
			return nil
		}
		delivered++
		return []wire.Frame{first.truth(w, load)}
	}
	w.connect(leecher, first)
	w.run(time.Second)
	if got := len(leecher.swarm.open); got != 4 {
		t.Errorf("%d pieces open instead of 4", got)
	}
	w.disconnect(leecher, first)
	second := w.add(w.info, other)
	w.connect(leecher, second)
	w.run(time.Minute)
	if got := leecher.swarm.Status().Have; got != 32 {
		t.Errorf("%d pieces of the 32 that are there", got)
	}
}

func TestGeometryMismatchIsAGoodbye(t *testing.T) {
	for _, test := range []struct {
		change func(*content.Info)
		reason wire.Reason
	}{
		{func(i *content.Info) { i.TotalLength++ }, wire.ReasonWrongTotalLength},
		{func(i *content.Info) { i.PieceLength *= 2 }, wire.ReasonWrongPieceLength},
	} {
		w := newWorld(t, 15, 10*64*kib, 64*kib)
		other := w.info
		other.PieceHashes = nil
		test.change(&other)
		seeder, leecher := w.seeder(), w.add(other, nil)
		w.connect(leecher, seeder)
		w.run(time.Minute)
		if len(leecher.swarm.Status().Peers)+len(seeder.swarm.Status().Peers) != 0 {
			t.Error("they did not part")
		}
		said := false
		for _, frame := range seeder.line(leecher).sent {
			goodbye, is := frame.(wire.Goodbye)
			said = said || is && goodbye.Reason == test.reason
		}
		if !said {
			t.Errorf("no goodbye with reason %v: %v", test.reason, seeder.line(leecher).sent)
		}
	}
}

func TestBreaches(t *testing.T) {
	block := func(piece, begin, length uint32) wire.Block {
		return wire.Block{Piece: piece, Begin: begin, Length: length}
	}
	greeting := func(w *world) wire.Handshake {
		return wire.Handshake{Number: 1, FullHash: w.info.FullHash, TotalLength: uint64(w.info.TotalLength), PieceLength: 64 * kib, MaxFrame: wire.MinFrame}
	}
	for name, frames := range map[string][]wire.Frame{
		"second handshake":       {wire.HaveNone{}, wire.Handshake{}},
		"second bitfield":        {wire.HaveNone{}, wire.HaveAll{}},
		"bitfield too long":      {wire.Bitfield{Bits: make([]byte, 3)}},
		"bitfield with spare":    {wire.Bitfield{Bits: []byte{0, 1}}},
		"have before bitfield":   {wire.Have{Piece: 1}},
		"have beyond":            {wire.HaveNone{}, wire.Have{Piece: 10}},
		"request beyond":         {wire.Request{Blocks: []wire.Block{block(10, 0, 16*kib)}}},
		"request past the end":   {wire.Request{Blocks: []wire.Block{block(0, 64*kib, 16*kib)}}},
		"request across the end": {wire.Request{Blocks: []wire.Block{block(0, 48*kib, 32*kib)}}},
		"request unaligned":      {wire.Request{Blocks: []wire.Block{block(0, 1, 16*kib)}}},
		"request odd length":     {wire.Request{Blocks: []wire.Block{block(0, 0, 16*kib+1)}}},
		"request of nothing":     {wire.Request{Blocks: []wire.Block{block(0, 0, 0)}}},
		"request overflowing":    {wire.Request{Blocks: []wire.Block{block(0, 1<<32-16*kib, 16*kib)}}},
		"hash request unaligned": {wire.HashRequest{Index: 1}},
		"hash request beyond":    {wire.HashRequest{Index: 16}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 16, 10*64*kib, 64*kib)
			seeder := w.seeder()
			peer := ident.PeerID{1}
			seeder.swarm.Connected(peer, wire.MinFrame, false, w.now)
			seeder.swarm.Received(peer, greeting(w), w.now)
			var broken error
			for _, frame := range frames {
				if _, is := frame.(wire.Handshake); is {
					frame = greeting(w)
				}
				seeder.swarm.Received(peer, frame, w.now)
			}
			for _, action := range seeder.swarm.Actions() {
				if b, is := action.(Break); is {
					broken = errors.Join(broken, b.Err)
				}
			}
			if broken == nil {
				t.Fatal("it was let pass")
			}
			if len(seeder.swarm.Status().Peers) != 0 {
				t.Error("the peer is still in the swarm")
			}
		})
	}
}

func TestRequestsThatCannotBeServedAreRejected(t *testing.T) {
	w := newWorld(t, 17, 10*64*kib, 64*kib)
	leecher := w.leecher()
	peer := ident.PeerID{1}
	leecher.swarm.Connected(peer, wire.MinFrame, false, w.now)
	leecher.swarm.Actions()
	for _, block := range []wire.Block{{Piece: 1, Begin: 0, Length: 16 * kib}, {Piece: 1, Begin: 0, Length: 64 * kib}} {
		leecher.swarm.Received(peer, wire.Request{Number: 5, Blocks: []wire.Block{block}}, w.now)
		actions := leecher.swarm.Actions()
		want := Send{peer, wire.Reject{Number: leecher.swarm.Number, Block: block}}
		if len(actions) != 1 || actions[0] != Action(want) {
			t.Errorf("%v answered by %v", block, actions)
		}
	}
}

func TestARefusalIsOfTheRequestThatWasCancelled(t *testing.T) {
	block := wire.Block{Length: 16 * kib}
	owing := func() *remote {
		return &remote{asked: []asked{{Block: block}, {Block: block, cancelled: true}}, waits: 1, inFlight: 16 * kib}
	}
	r := owing()
	if a, found := r.take(block, true); !found || !a.cancelled || r.waits != 1 || r.inFlight != 16*kib {
		t.Errorf("the refusal took %v, and %d bytes are waited for", a, r.inFlight)
	}
	if a, found := r.take(block, true); !found || a.cancelled || r.waits != 0 || r.inFlight != 0 {
		t.Errorf("the second refusal took %v, and %d bytes are waited for", a, r.inFlight)
	}
	r = owing()
	if a, found := r.take(block, false); !found || a.cancelled || r.waits != 0 || r.inFlight != 0 {
		t.Errorf("the data took %v, and %d bytes are waited for", a, r.inFlight)
	}
}

// TestSeedersPartAfterARefusal: a refusal hides that the peer has everything only for a while.
func TestSeedersPartAfterARefusal(t *testing.T) {
	w := newWorld(t, 19, 4*64*kib, 64*kib)
	refuser, other, leecher := w.seeder(), w.seeder(), w.leecher()
	refuser.reply = func(load Load) []wire.Frame {
		return []wire.Frame{wire.Reject{Number: load.Number, Block: load.Block}}
	}
	w.connect(leecher, refuser)
	w.run(100 * time.Millisecond)
	refuser.mute = true // it does not say goodbye by itself
	w.connect(leecher, other)
	w.run(time.Minute)
	w.done(leecher)
	if len(leecher.swarm.peers) != 0 {
		t.Error("peers that have everything stay together")
	}
}

func TestCancelTakesALoadBack(t *testing.T) {
	w := newWorld(t, 18, 10*64*kib, 64*kib)
	seeder := w.seeder()
	peer := ident.PeerID{1}
	seeder.swarm.Connected(peer, 64*kib, false, w.now)
	seeder.swarm.Actions()
	block := wire.Block{Piece: 1, Begin: 0, Length: 16 * kib}
	seeder.swarm.Received(peer, wire.Request{Blocks: []wire.Block{block}}, w.now)
	seeder.swarm.Received(peer, wire.Cancel{Block: block}, w.now)
	want := []Action{Load{peer, seeder.swarm.Number, block}, Unload{peer, seeder.swarm.Number, block}}
	if got := seeder.swarm.Actions(); !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestLeaveSaysGoodbye(t *testing.T) {
	w := newWorld(t, 19, 4*mib, 64*kib)
	seeder, leecher := w.seeder(), w.leecher()
	w.connect(leecher, seeder)
	w.run(100 * time.Millisecond)
	seeder.swarm.Leave()
	w.act(seeder)
	w.run(time.Minute)
	if len(leecher.swarm.Status().Peers) != 0 || leecher.swarm.Complete() {
		t.Fatal("the leecher did not lose its seeder")
	}
	w.connect(leecher, w.seeder())
	w.run(time.Minute)
	w.done(leecher)
}
