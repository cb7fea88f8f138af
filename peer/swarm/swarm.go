package swarm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// The defaults of Config.
const (
	// DefaultInFlight is what may be asked of a peer and not have come: 1 MiB
	// keeps 80 Mbit/s busy over 100 ms.
	DefaultInFlight = 1 << 20

	// DefaultPatience is how long a peer may owe a block and send nothing. A
	// block takes this long only below 6.5 KB/s.
	DefaultPatience = 10 * time.Second

	// DefaultOpenBytes bounds the pieces that are partly there and held in memory.
	DefaultOpenBytes = 64 << 20
)

// Config is what a Swarm is made of.
type Config struct {
	Info   content.Info // must be valid; without piece hashes they are asked for
	Number wire.Number  // our content number, the same towards every peer
	Have   *wire.Bits   // the pieces that are in the store, verified; nil: none. The Swarm owns it from now on

	Random    *rand.Rand    // for the first piece and for ties
	InFlight  int           // bytes; 0: DefaultInFlight
	Patience  time.Duration // 0: DefaultPatience
	OpenBytes int           // bytes; 0: DefaultOpenBytes. At least one piece is always open
}

// Swarm is one content and all peers about it. Its methods must not be called
// together: one goroutine owns it. It also owns every map and slice below.
type Swarm struct {
	Config
	geometry content.Geometry
	info     content.Info // grows its piece hashes
	have     *wire.Bits
	complete bool // Complete was said

	peers     map[ident.PeerID]*remote
	order     []*remote             // the peers in the order in which they came: for determinism
	banned    map[ident.PeerID]bool // bounded by maxBanned
	open      []*openPiece          // pieces that are being fetched or verified, oldest first; bounded by OpenBytes
	solo      map[int]bool          // pieces that failed with several senders: fetch from one only
	available []int                 // per piece: how many peers have it
	spans     []*span               // spans of piece hashes that are missing; empty once they are known

	actions []Action
}

// maxBanned bounds the memory of liars. Ids are fresh for every connection, so
// remembering more of them would not keep anybody away.
const maxBanned = 1024

// remote is a peer, as far as this content goes.
type remote struct {
	id       ident.PeerID
	maxFrame int        // what our side of the channel can carry; then the smaller of both
	greeted  bool       // its handshake came
	has      *wire.Bits // nil before its bitfield came
	asked    []asked    // blocks that it owes, oldest first
	inFlight int        // bytes that it owes
	heard    time.Time  // when it last delivered, or was asked while it owed nothing
	silent   bool       // it ran out of our patience and delivered nothing since
	span     *span      // the span of hashes that it owes, or nil
	noHashes time.Time  // until when it is not asked for hashes: it had none, or never answered
	refused  []int      // pieces of which it rejected a block; taken out of has until pardon
	pardon   time.Time  // when it may be asked for them again; zero if there are none
}

// asked is a block that a peer owes. A cancelled one is still owed an answer,
// but is not waited for.
type asked struct {
	wire.Block
	of        *openPiece // what it was asked for; that may have been given up since, and the same piece begun anew
	cancelled bool
}

// openPiece is a piece on its way.
type openPiece struct {
	index   int
	data    []byte
	state   []leafState           // per leaf
	missing int                   // leaves that have not come
	from    *remote               // whom it is asked of; nil: nobody at the moment
	senders map[ident.PeerID]bool // who sent leaves of it
	solo    bool                  // one peer alone must send it, so that it can be blamed
	saving  bool                  // given to the driver
}

type leafState byte

const (
	leafMissing leafState = iota
	leafAsked
	leafHere
)

// span is a run of missing piece hashes.
type span struct {
	index int
	from  *remote // who was asked; nil: nobody
}

// New returns the swarm of a content. It sends nothing before a peer is connected.
func New(config Config) *Swarm {
	if config.InFlight == 0 {
		config.InFlight = DefaultInFlight
	}
	if config.Patience == 0 {
		config.Patience = DefaultPatience
	}
	if config.OpenBytes == 0 {
		config.OpenBytes = DefaultOpenBytes
	}
	geometry := config.Info.Geometry()
	s := &Swarm{
		Config:    config,
		geometry:  geometry,
		info:      config.Info,
		have:      config.Have,
		peers:     make(map[ident.PeerID]*remote),
		banned:    make(map[ident.PeerID]bool),
		solo:      make(map[int]bool),
		available: make([]int, geometry.Pieces()),
	}
	if s.have == nil {
		s.have = wire.NewBits(geometry.Pieces())
	}
	s.complete = s.have.All()
	if !s.info.HasPieceHashes() {
		for index := 0; index < geometry.Pieces(); index += geometry.ProofSpan() {
			s.spans = append(s.spans, &span{index: index})
		}
		s.info.PieceHashes = make([]content.Hash, geometry.Pieces())
	}
	return s
}

// Actions returns what is to be done since the last call, in order.
func (s *Swarm) Actions() []Action {
	actions := s.actions
	s.actions = nil
	return actions
}

func (s *Swarm) do(action Action) { s.actions = append(s.actions, action) }

func (s *Swarm) send(r *remote, frame wire.Frame) { s.do(Send{r.id, frame}) }

// Connected says that there is a channel to the peer for this content: because it was
// found, or because its handshake came (which is then to be handed to Received).
// maxFrame is what our side of the channel can send and receive, in bytes. A banned
// peer is said goodbye to at once; a peer that is connected already stays as it is.
func (s *Swarm) Connected(peer ident.PeerID, maxFrame int, now time.Time) {
	if s.peers[peer] != nil {
		return
	}
	if s.banned[peer] {
		s.do(Send{peer, wire.Goodbye{FullHash: s.info.FullHash, Reason: wire.ReasonPoisoned}})
		s.do(Drop{peer, wire.ReasonPoisoned, true})
		return
	}
	r := &remote{id: peer, maxFrame: maxFrame, heard: now}
	s.peers[peer] = r
	s.order = append(s.order, r)
	s.send(r, wire.Handshake{
		Number: s.Number, FullHash: s.info.FullHash, TotalLength: uint64(s.info.TotalLength),
		PieceLength: uint32(s.info.PieceLength), MaxFrame: uint32(maxFrame),
	})
	s.send(r, s.have.Frame(s.Number))
}

// Disconnected says that the channel to the peer is gone.
func (s *Swarm) Disconnected(peer ident.PeerID, now time.Time) {
	if r := s.peers[peer]; r != nil {
		s.forget(r)
		s.fill(now)
	}
}

// forget takes a peer out: what it owes can be asked of others.
func (s *Swarm) forget(r *remote) {
	s.release(r)
	if r.has != nil {
		for piece := range s.available {
			if r.has.Has(piece) {
				s.available[piece]--
			}
		}
	}
	delete(s.peers, r.id)
	for i, other := range s.order {
		if other == r {
			s.order = append(s.order[:i], s.order[i+1:]...)
			break
		}
	}
}

// release takes back everything that was asked of a peer, without a word to it.
func (s *Swarm) release(r *remote) {
	for _, a := range r.asked {
		if !a.cancelled {
			a.of.mark(a.Block, leafMissing)
		}
	}
	r.asked, r.inFlight = nil, 0
	if r.span != nil {
		r.span.from, r.span = nil, nil
	}
	s.orphan(r)
}

// orphan takes the peer's pieces from it: others may go on with them. A piece
// that one peer alone must send is begun anew.
func (s *Swarm) orphan(r *remote) {
	s.open = slices.DeleteFunc(s.open, func(p *openPiece) bool {
		if p.from != r {
			return false
		}
		p.from = nil
		return p.solo
	})
}

// leave says goodbye to a peer and forgets it.
func (s *Swarm) leave(r *remote, reason wire.Reason, banned bool) {
	s.send(r, wire.Goodbye{FullHash: s.info.FullHash, Reason: reason})
	s.forget(r)
	if banned && len(s.banned) < maxBanned {
		s.banned[r.id] = true
	}
	s.do(Drop{r.id, reason, banned})
}

func (s *Swarm) breach(r *remote, format string, args ...any) {
	s.forget(r)
	s.do(Break{r.id, fmt.Errorf(format, args...)})
}

// Received hands in a frame whose content number stands for this content in the
// peer's frames. A frame of a peer that is not connected is ignored.
func (s *Swarm) Received(peer ident.PeerID, frame wire.Frame, now time.Time) {
	r := s.peers[peer]
	if r == nil {
		return
	}
	switch f := frame.(type) {
	case wire.Handshake:
		s.handshake(r, f)
	case wire.Bitfield:
		if bits, err := wire.ParseBits(f.Bits, s.geometry.Pieces()); err != nil {
			s.breach(r, "reading its bitfield: %w", err)
		} else {
			s.learn(r, bits)
		}
	case wire.HaveAll:
		bits := wire.NewBits(s.geometry.Pieces())
		bits.Fill()
		s.learn(r, bits)
	case wire.HaveNone:
		s.learn(r, wire.NewBits(s.geometry.Pieces()))
	case wire.Have:
		s.haveOne(r, f)
	case wire.Request:
		s.serve(r, f)
	case wire.Cancel:
		s.do(Unload{r.id, s.Number, f.Block})
	case wire.Piece:
		s.delivered(r, f, now)
	case wire.Reject:
		s.rejected(r, f.Block, now)
	case wire.HashRequest:
		s.serveHashes(r, f)
	case wire.Hashes:
		s.hashes(r, f, now)
	case wire.HashReject:
		if r.span != nil && r.span.index == int(f.Index) {
			s.giveUpSpan(r, now)
		}
	case wire.Goodbye:
		s.forget(r)
		s.do(Drop{r.id, f.Reason, false})
	}
	s.fill(now)
}

func (s *Swarm) handshake(r *remote, f wire.Handshake) {
	switch {
	case r.greeted:
		s.breach(r, "a second handshake for %s", s.info.FullHash.Short())
	case f.TotalLength != uint64(s.info.TotalLength):
		s.leave(r, wire.ReasonWrongTotalLength, false)
	case f.PieceLength != uint32(s.info.PieceLength):
		s.leave(r, wire.ReasonWrongPieceLength, false)
	default:
		r.greeted = true
		r.maxFrame = min(r.maxFrame, int(f.MaxFrame))
	}
}

func (s *Swarm) learn(r *remote, bits *wire.Bits) {
	if !r.greeted || r.has != nil {
		s.breach(r, "a bitfield that does not follow its handshake")
		return
	}
	r.has = bits
	for piece := range s.available {
		if bits.Has(piece) {
			s.available[piece]++
		}
	}
	s.partIfDone(r)
}

func (s *Swarm) haveOne(r *remote, f wire.Have) {
	if r.has == nil || int64(f.Piece) >= int64(s.geometry.Pieces()) {
		s.breach(r, "it has piece %d of %d", f.Piece, s.geometry.Pieces())
		return
	}
	if r.has.Add(int(f.Piece)) {
		s.available[f.Piece]++
	}
	s.partIfDone(r)
}

// partIfDone says goodbye where neither side can ever want anything of the other.
func (s *Swarm) partIfDone(r *remote) {
	if s.complete && r.has != nil && r.has.All() {
		s.leave(r, wire.ReasonFinished, false)
	}
}

// checkBlock says whether a block lies within the content, on the borders of leaves.
func (s *Swarm) checkBlock(b wire.Block) error {
	if int64(b.Piece) >= int64(s.geometry.Pieces()) {
		return fmt.Errorf("piece %d of %d", b.Piece, s.geometry.Pieces())
	}
	size := s.geometry.PieceSize(int(b.Piece))
	end := int64(b.Begin) + int64(b.Length)
	switch {
	case int64(b.Begin)%content.LeafLength != 0 || int64(b.Begin) > size || end > size,
		end != size && end%content.LeafLength != 0,
		b.Length == 0 && size != 0,
		b.Length > wire.MaxBlock:
		return fmt.Errorf("%d bytes at %d of piece %d, which has %d", b.Length, b.Begin, b.Piece, size)
	}
	return nil
}

func (s *Swarm) serve(r *remote, f wire.Request) {
	if err := s.checkBlock(f.Block); err != nil {
		s.breach(r, "a request outside the content: %w", err)
		return
	}
	if !s.have.Has(int(f.Piece)) || int(f.Length) > wire.BlockLength(r.maxFrame) {
		s.send(r, wire.Reject{Number: s.Number, Block: f.Block})
		return
	}
	s.do(Load{r.id, s.Number, f.Block})
}

func (s *Swarm) serveHashes(r *remote, f wire.HashRequest) {
	if int64(f.Index) >= int64(s.geometry.Pieces()) || int(f.Index)%s.geometry.ProofSpan() != 0 {
		s.breach(r, "a request for piece hashes from %d of %d", f.Index, s.geometry.Pieces())
		return
	}
	if s.geometry.Pieces() == 1 || len(s.spans) > 0 {
		s.send(r, wire.HashReject{Number: s.Number, Index: f.Index})
		return
	}
	hashes, proof := s.geometry.Prove(s.info.PieceHashes, int(f.Index))
	s.send(r, wire.Hashes{Number: s.Number, Index: f.Index, Hashes: hashes, Proof: proof})
}

func (s *Swarm) hashes(r *remote, f wire.Hashes, now time.Time) {
	if r.span == nil || r.span.index != int(f.Index) {
		return // not asked for, or no longer
	}
	if err := s.geometry.CheckProof(s.info.FullHash, int(f.Index), f.Hashes, f.Proof); err != nil {
		s.leave(r, wire.ReasonPoisoned, true)
		return
	}
	done := r.span
	r.heard, r.span = now, nil
	copy(s.info.PieceHashes[f.Index:], f.Hashes)
	s.spans = slices.DeleteFunc(s.spans, func(other *span) bool { return other == done })
	if len(s.spans) == 0 {
		s.do(Described{s.info})
	}
}

// take removes the block from what the peer owes and returns it: the request that
// is waited for, if it was asked for twice, else one that was cancelled.
func (r *remote) take(b wire.Block) (a asked, found bool) {
	i := slices.IndexFunc(r.asked, func(a asked) bool { return a.Block == b && !a.cancelled })
	if i < 0 {
		i = slices.IndexFunc(r.asked, func(a asked) bool { return a.Block == b })
	}
	if i < 0 {
		return asked{}, false
	}
	a = r.asked[i]
	r.asked = slices.Delete(r.asked, i, i+1)
	if !a.cancelled {
		r.inFlight -= int(b.Length)
	}
	return a, true
}

func (s *Swarm) delivered(r *remote, f wire.Piece, now time.Time) {
	block := f.Block()
	a, found := r.take(block)
	if !found {
		return // not asked for: a wrong piece, begin or length, or no longer owed
	}
	r.heard, r.silent = now, false
	p := a.of
	if s.piece(f.Piece) != p || !p.wants(block, r, a.cancelled) {
		return
	}
	copy(p.data[f.Begin:], f.Data)
	p.missing -= p.mark(block, leafHere)
	p.senders[r.id] = true
	if p.missing == 0 {
		p.saving, p.from = true, nil // what it waits for is the driver, not a peer
		s.do(Save{p.index, s.info.PieceHash(p.index), p.data})
	}
}
