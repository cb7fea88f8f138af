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
	// DefaultInFlight is the most that may be asked of a peer and not have come: with
	// 100 ms between the two, 4 MiB keep 40 MB/s busy.
	DefaultInFlight = 4 << 20

	// DefaultPatience is how long a peer may owe a block and send nothing. A
	// block of 32 KiB takes this long only below 3.3 KB/s.
	DefaultPatience = 10 * time.Second

	// DefaultOpenBytes bounds the pieces that are partly there, and with them what is
	// fetched anew after a kill. Of each leaf of them, some sixty bytes are held in memory.
	DefaultOpenBytes = 64 << 20
)

const (
	// MaxAsked is how many requests one content may have waiting at a peer: so that
	// eight contents stay within wire.MaxRequests.
	MaxAsked = wire.MaxRequests / 8

	// maxKeeping bounds what came and is not in the store yet, in bytes: a disk that is slower
	// than the network is waited for.
	maxKeeping = 8 << 20

	// maxBanned bounds the memory of liars. Ids are fresh for every connection, so
	// remembering more of them would not keep anybody away.
	maxBanned = 1024
)

// Config is what a Swarm is made of.
type Config struct {
	Info   content.Info // must be valid; without piece hashes they are asked for
	Number wire.Number  // our content number, the same towards every peer
	Have   *wire.Bits   // the pieces that are in the store, verified; nil: none. The Swarm owns it from now on
	Check  bool         // the store may hold more: ask it before anything is fetched

	Random    *rand.Rand    // for the first piece and for ties
	InFlight  int           // bytes; 0: DefaultInFlight
	Patience  time.Duration // 0: DefaultPatience
	OpenBytes int           // bytes; 0: DefaultOpenBytes. At least one piece is always open

	// Allow says whether so many bytes may be asked for now, and counts them then; if not,
	// when to ask again. nil: always. It holds downloads to a rate.
	Allow func(now time.Time, bytes int) (wait time.Duration)
}

// Swarm is one content and all peers about it. Its methods must not be called
// together: one goroutine owns it. It also owns every map and slice below.
type Swarm struct {
	Config
	geometry content.Geometry
	info     content.Info // grows its piece hashes
	have     *wire.Bits
	complete bool // Complete was said
	checking bool // Check was said, and not answered

	peers   map[ident.PeerID]*remote
	order   []*remote             // the peers in the order in which they came: for determinism
	banned  map[ident.PeerID]bool // bounded by maxBanned
	open    map[uint32]*openPiece // pieces that are being fetched, by index; bounded by OpenBytes, and what readers waited for
	opened  []*openPiece          // the same, oldest first
	solo    map[int]bool          // pieces that failed with several senders: fetch from one only
	picker  *picker               // the other missing pieces
	urgent  []Range               // what readers wait for, most urgent first
	spans   []*hashSpan           // spans of piece hashes that are missing; empty once they are known
	proofs  *content.Proofs       // of the piece hashes; nil before somebody asked for them
	keeping int                   // bytes that the driver keeps at the moment
	thirsty time.Time             // when Allow may say yes; zero: it never said no since

	actions []Action
}

// Range is a run of pieces.
type Range struct{ First, End int } // End is one behind the last

// remote is a peer, as far as this content goes.
type remote struct {
	id       ident.PeerID
	maxSend  int        // bytes: the largest frame that we can send it
	maxFrame int        // bytes: the largest that it can send; 0 before it was heard
	greeted  bool       // its handshake came
	has      *wire.Bits // nil before its bitfield came
	all      bool       // it has everything, and is not in the picker's counts
	presumed bool       // has is what we take it to have, before its bitfield; see early
	offered  int        // how many pieces it has of those that the picker offers
	asked    []asked    // blocks that it owes, oldest first; at most MaxAsked
	waits    int        // how many of them are not cancelled
	inFlight int        // bytes of those
	pace     pace
	heard    time.Time // when it last delivered, or was asked while it owed nothing
	stalled  bool      // it owes something and has delivered nothing for a moment
	silent   bool      // it ran out of our patience and delivered nothing since
	span     *hashSpan // the span of hashes that it owes, or nil
	noHashes time.Time // until when it is not asked for hashes: it had none, or never answered
	refused  []int     // pieces of which it rejected a block; taken out of has until pardon
	pardon   time.Time // when it may be asked for them again; zero if there are none
}

// asked is a block that a peer owes. A cancelled one is still owed an answer,
// but is not waited for.
type asked struct {
	wire.Block
	of        *openPiece // what it was asked for; that may have been given up since, and the same piece begun anew
	attempt   int        // of that
	cancelled bool
	at        time.Time
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
		Config:   config,
		geometry: geometry,
		info:     config.Info,
		have:     config.Have,
		peers:    make(map[ident.PeerID]*remote),
		banned:   make(map[ident.PeerID]bool),
		open:     make(map[uint32]*openPiece),
		solo:     make(map[int]bool),
	}
	if s.have == nil {
		s.have = wire.NewBits(geometry.Pieces())
	}
	s.picker = newPicker(s.have, geometry.PieceLength, config.Random)
	s.complete = s.have.All()
	switch {
	case !s.info.HasPieceHashes():
		for index := 0; index < geometry.Pieces(); index += geometry.ProofSpan() {
			s.spans = append(s.spans, &hashSpan{index: index})
		}
		s.info.PieceHashes = make([]content.Hash, geometry.Pieces())
	case !s.complete:
		s.check()
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
// maxFrame is the largest frame that we can send, in bytes; likely says that it should have the content, so
// that it may be asked before it said so. A banned
// peer is said goodbye to at once; a peer that is connected already stays as it is.
func (s *Swarm) Connected(peer ident.PeerID, maxFrame int, likely bool, now time.Time) {
	if s.peers[peer] != nil {
		return
	}
	if s.banned[peer] {
		s.do(Send{peer, wire.Goodbye{FullHash: s.info.FullHash, Reason: wire.ReasonPoisoned}})
		s.do(Drop{peer, wire.ReasonPoisoned, true})
		return
	}
	r := &remote{id: peer, maxSend: maxFrame, heard: now}
	s.peers[peer] = r
	s.order = append(s.order, r)
	s.send(r, wire.Handshake{
		Number: s.Number, FullHash: s.info.FullHash, TotalLength: uint64(s.info.TotalLength),
		PieceLength: uint32(s.info.PieceLength), MaxFrame: uint32(maxFrame),
	})
	s.send(r, s.have.Frame(s.Number))
	if likely {
		s.early(r, now)
	}
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
	if r.has != nil && !r.all {
		s.uncount(r)
	}
	delete(s.peers, r.id)
	s.order = slices.DeleteFunc(s.order, func(other *remote) bool { return other == r })
}

// count adds what the peer has to what is available.
func (s *Swarm) count(r *remote) {
	for piece := range r.has.Len() {
		if r.has.Has(piece) {
			s.picker.more(piece)
		}
	}
}

func (s *Swarm) uncount(r *remote) {
	for piece := range r.has.Len() {
		if r.has.Has(piece) {
			s.picker.fewer(piece)
		}
	}
}

// withdraw takes a piece out of what the picker offers, offer puts it back.
func (s *Swarm) withdraw(piece int) { s.shift(piece, true, s.picker.remove, -1) }
func (s *Swarm) offer(piece int)    { s.shift(piece, false, s.picker.add, +1) }

func (s *Swarm) shift(piece int, isOffered bool, move func(int), change int) {
	if s.picker.offers(piece) != isOffered {
		return
	}
	move(piece)
	for _, r := range s.order {
		if r.has != nil && r.has.Has(piece) {
			r.offered += change
		}
	}
}

// release takes back everything that was asked of a peer, without a word to it.
func (s *Swarm) release(r *remote) {
	for _, a := range r.asked {
		if !a.cancelled && a.attempt == a.of.attempt {
			a.of.unask(a.Block)
		}
	}
	r.asked, r.inFlight, r.waits = nil, 0, 0
	if r.span != nil {
		r.span.from, r.span = nil, nil
	}
	s.orphan(r)
}

// orphan takes the peer's pieces from it: others may go on with them. A piece
// that one peer alone must send is begun anew.
func (s *Swarm) orphan(r *remote) {
	for _, p := range s.opened {
		if p.from == r {
			s.abandon(p)
		}
	}
}

func (s *Swarm) abandon(p *openPiece) {
	if p.from = nil; p.solo {
		p.restart()
	}
}

// cancel takes a request back, so that the block can be asked of others.
func (s *Swarm) cancel(r *remote, a *asked) {
	s.disown(r, a)
	s.send(r, wire.Cancel{Number: s.Number, Block: a.Block})
}

// disown waits no longer for what a peer was asked for.
func (s *Swarm) disown(r *remote, a *asked) {
	a.cancelled = true
	if a.attempt == a.of.attempt {
		a.of.unask(a.Block)
	}
	r.waits--
	r.inFlight -= int(a.Length)
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
		for _, block := range f.Blocks {
			if s.peers[r.id] == r { // unless an earlier one was nonsense
				s.serve(r, block)
			}
		}
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
		r.maxFrame = int(min(f.MaxFrame, wire.MaxFrame))
	}
}

func (s *Swarm) learn(r *remote, bits *wire.Bits) {
	presumed := r.presumed
	if presumed {
		r.unpresume()
	}
	if !r.greeted || r.has != nil {
		s.breach(r, "a bitfield that does not follow its handshake")
		return
	}
	r.has, r.all = bits, bits.All()
	if !r.all {
		s.count(r)
	}
	for _, piece := range s.picker.order {
		if bits.Has(int(piece)) {
			r.offered++
		}
	}
	if presumed {
		s.reconsider(r)
	}
	s.partIfDone(r)
}

func (s *Swarm) haveOne(r *remote, f wire.Have) {
	if r.has == nil || r.presumed || int64(f.Piece) >= int64(s.geometry.Pieces()) {
		s.breach(r, "it has piece %d of %d", f.Piece, s.geometry.Pieces())
		return
	}
	s.gains(r, int(f.Piece))
	s.handOver(r, int(f.Piece))
	s.partIfDone(r)
}

// gains notes that the peer has one more piece, loses that it has one less.
func (s *Swarm) gains(r *remote, piece int) {
	if !r.has.Add(piece) {
		return
	}
	s.picker.more(piece)
	if s.picker.offers(piece) {
		r.offered++
	}
}

func (s *Swarm) loses(r *remote, piece int) {
	if !r.has.Has(piece) {
		return
	}
	if r.all {
		r.all = false
		s.count(r)
	}
	r.has.Remove(piece)
	s.picker.fewer(piece)
	if s.picker.offers(piece) {
		r.offered--
	}
}

// partIfDone says goodbye where neither side can ever want anything of the other.
func (s *Swarm) partIfDone(r *remote) {
	if s.complete && r.has != nil && !r.presumed && r.has.All() {
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

func (s *Swarm) serve(r *remote, block wire.Block) {
	if err := s.checkBlock(block); err != nil {
		s.breach(r, "a request outside the content: %w", err)
		return
	}
	if !s.have.Has(int(block.Piece)) || int(block.Length) > wire.BlockLength(r.maxSend) {
		s.send(r, wire.Reject{Number: s.Number, Block: block})
		return
	}
	s.do(Load{r.id, s.Number, block})
}

// take removes the block from what the peer owes and returns it. If it was asked for, cancelled, and asked for
// again, data is for the request that is waited for, and a refusal for the one that was cancelled.
func (r *remote) take(b wire.Block, refused bool) (a asked, found bool) {
	i := slices.IndexFunc(r.asked, func(a asked) bool { return a.Block == b && a.cancelled == refused })
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
		r.waits--
	}
	return a, true
}
