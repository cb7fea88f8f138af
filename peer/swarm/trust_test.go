package swarm

import (
	"bytes"
	"testing"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// TestWhatElseALiarSentIsFetchedAnew: an honest peer is asked for each block once, and no second piece has to fail first.
func TestWhatElseALiarSentIsFetchedAnew(t *testing.T) {
	for name, disk := range map[string]time.Duration{"quick disk": 0, "slow disk": 400 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, 2*mib, 256*kib)
			liar, leecher, honest := w.liar(), w.leecher(), w.seeder()
			if disk > 0 {
				leecher.disk = func() time.Duration { return time.Duration(w.random.Int64N(int64(disk))) }
			}
			liar.up = 1e6
			w.connect(leecher, liar)
			w.until(time.Minute, "ban", func() bool { return leecher.banned[liar.id] })
			w.connect(leecher, honest)
			w.finish(time.Minute, leecher)
			if sent := honest.line(leecher).bytes; sent != 2*mib {
				t.Errorf("the honest peer sent %d bytes for %d", sent, 2*mib)
			}
			if liar.line(leecher).brought <= 256*kib {
				t.Errorf("the liar was found out after %d bytes, before a second piece", liar.line(leecher).brought)
			}
		})
	}
}

// TestADiskThatIsSlowIsWaitedFor: what came and is not in the store stays within a bound.
func TestADiskThatIsSlowIsWaitedFor(t *testing.T) {
	w := newWorld(t, 2, 24*mib, 256*kib)
	leecher := w.leecher()
	leecher.disk = func() time.Duration { return 20 * time.Second }
	for range 3 {
		w.connect(leecher, w.seeder())
	}
	most := 0
	w.until(5*time.Minute, "end", func() bool {
		kept := 0
		for _, block := range leecher.keeping {
			kept += int(block.Length)
		}
		most = max(most, kept)
		return leecher.complete > 0
	})
	if most < maxKeeping || most > maxKeeping+3*DefaultInFlight {
		t.Errorf("%d bytes waited for the disk", most)
	}
	w.done(leecher)
	w.settled(leecher)
}

// script is a swarm without a network: a test says what its peers do, and sees what they are asked for.
type script struct {
	*world
	s         *Swarm
	requested map[ident.PeerID][]wire.Block // since the last look
	cancelled map[ident.PeerID][]wire.Block
}

func newScript(t *testing.T, pieces int64) *script {
	w := newWorld(t, 1, pieces*64*kib, 64*kib)
	return &script{w, w.leecher().swarm, map[ident.PeerID][]wire.Block{}, map[ident.PeerID][]wire.Block{}}
}

// look takes the actions: requests and cancels are noted, blocks are kept at once.
func (s *script) look() {
	for actions := s.s.Actions(); len(actions) > 0; actions = s.s.Actions() {
		for _, action := range actions {
			switch a := action.(type) {
			case Send:
				switch f := a.Frame.(type) {
				case wire.Request:
					s.requested[a.Peer] = append(s.requested[a.Peer], f.Blocks...)
				case wire.Cancel:
					s.cancelled[a.Peer] = append(s.cancelled[a.Peer], f.Block)
				}
			case Keep:
				s.s.Kept(a.Block, content.HashLeaves(a.Data), s.now)
			case Drop:
				if a.Banned {
					s.t.Errorf("banned %v", a)
				}
			}
		}
	}
}

// requests returns what a peer was asked for since the last call.
func (s *script) requests(peer ident.PeerID) []wire.Block {
	s.look()
	blocks := s.requested[peer]
	delete(s.requested, peer)
	return blocks
}

// joins lets a peer come that has this.
func (s *script) joins(peer ident.PeerID, has wire.Frame) {
	s.s.Connected(peer, wire.MinFrame, false, s.now)
	s.s.Received(peer, wire.Handshake{
		FullHash: s.info.FullHash, TotalLength: uint64(s.info.TotalLength), PieceLength: uint32(s.info.PieceLength), MaxFrame: wire.MinFrame,
	}, s.now)
	s.s.Received(peer, has, s.now)
}

// gives lets a peer send a block.
func (s *script) gives(peer ident.PeerID, b wire.Block) {
	data := bytes.Clone(s.block(s.data, b))
	s.s.Received(peer, wire.Piece{Piece: b.Piece, Begin: b.Begin, Data: data}, s.now)
	s.look()
}

// TestWhatOthersHaveIsNotLeftToTheSeeder: what was asked of it goes over to who says it has it, but not what a reader waits for.
func TestWhatOthersHaveIsNotLeftToTheSeeder(t *testing.T) {
	for name, urgent := range map[string]bool{"nobody waits": false, "a reader waits": true} {
		t.Run(name, func(t *testing.T) {
			s := newScript(t, 64)
			seeder, other := ident.PeerID{1}, ident.PeerID{2}
			if urgent {
				s.s.Urge([]Range{{0, 64}}, s.now)
			}
			s.joins(seeder, wire.HaveAll{})
			s.joins(other, wire.HaveNone{})
			owed := s.requests(seeder)
			piece := owed[len(owed)-1].Piece
			s.s.Received(other, wire.Have{Piece: piece}, s.now)
			s.look()
			var moved []wire.Block
			for _, block := range owed {
				if block.Piece == piece {
					moved = append(moved, block)
				}
			}
			asked := s.requests(other)
			if urgent {
				if len(s.cancelled[seeder]) != 0 {
					t.Errorf("%v was taken from the seeder, for which a reader waits", s.cancelled[seeder])
				}
				return
			}
			if len(moved) == 0 || len(s.cancelled[seeder]) != len(moved) || len(asked) != 4 {
				t.Errorf("of %v the seeder was spared %v, and the other one asked for %v", moved, s.cancelled[seeder], asked)
			}
			for _, block := range append(asked, s.cancelled[seeder]...) {
				if block.Piece != piece {
					t.Errorf("%v was moved", block)
				}
			}
			if more := s.requests(seeder); len(more) != 0 && more[0].Piece == piece {
				t.Errorf("the seeder was asked again for %v", more)
			}
		})
	}
}

// TestASlowOneIsNotPreferredToTheSeeder: what it has stays with the seeder, which is sooner.
func TestASlowOneIsNotPreferredToTheSeeder(t *testing.T) {
	s := newScript(t, 64)
	seeder, slow := ident.PeerID{1}, ident.PeerID{2}
	s.joins(seeder, wire.HaveAll{})
	s.joins(slow, wire.HaveNone{})
	owed := s.requests(seeder)
	s.s.peers[slow].pace.lasted(1000, s.now)
	s.s.Received(slow, wire.Have{Piece: owed[0].Piece}, s.now)
	s.look()
	if len(s.cancelled[seeder]) != 0 {
		t.Errorf("%v was taken from the seeder", s.cancelled[seeder])
	}
}

// begunAnew has one peer refuse the first block of a piece that one alone must send, so that the
// next peer is asked for all of it: what the first one still owes, and the second one.
func (s *script) begunAnew() (refuser, honest ident.PeerID, owed, anew []wire.Block) {
	s.t.Helper()
	refuser, honest = ident.PeerID{1}, ident.PeerID{2}
	s.s.solo[0] = true
	s.joins(refuser, wire.HaveAll{})
	s.joins(honest, wire.HaveAll{})
	owed = s.requests(refuser)
	s.s.Received(refuser, wire.Reject{Block: owed[0]}, s.now)
	anew = s.requests(honest)
	if len(owed) != 4 || len(anew) != 4 {
		s.t.Fatalf("%d blocks were asked of the first one, %d of the next", len(owed), len(anew))
	}
	return refuser, honest, owed, anew
}

// TestWhoLeavesTakesNothingOfTheNextAttemptAlong: a piece that one alone must send was begun anew, and who failed owes
// some of its first attempt when it leaves.
func TestWhoLeavesTakesNothingOfTheNextAttemptAlong(t *testing.T) {
	s := newScript(t, 1)
	refuser, honest, _, anew := s.begunAnew()
	s.gives(honest, anew[0])
	s.s.Disconnected(refuser, s.now)
	if again := s.requests(honest); len(again) != 0 {
		t.Errorf("%v was asked for again", again)
	}
	for _, block := range anew[1:] {
		s.gives(honest, block)
	}
	if !s.s.Complete() {
		t.Error("it is not complete")
	}
	s.settled(s.order[0])
}

// TestASlowLiarDoesNotKeepAPiece: after a piece failed, one peer alone must send it, and the liar
// may be that one. It sends right blocks from then on, ever so slowly; the piece goes to somebody faster.
func TestASlowLiarDoesNotKeepAPiece(t *testing.T) {
	for seed := range uint64(5) {
		w := newWorld(t, seed, 8*mib, mib)
		liar, leecher, honest := w.seeder(), w.leecher(), w.seeder()
		liar.up, honest.up = 20e3, 4e6
		lied := false
		liar.reply = func(load Load) []wire.Frame {
			piece := liar.truth(w, load)
			if !lied {
				piece.Data[3] ^= 1
				lied = true
			}
			return []wire.Frame{piece}
		}
		w.connect(leecher, liar)
		w.connect(leecher, honest)
		w.run(30 * time.Second) // 2 s and what the liar costs; by the liar alone the piece takes a minute
		w.done(leecher)
		if leecher.banned[honest.id] {
			t.Error("the honest peer was blamed")
		}
	}
}
