package swarm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// world is a network of swarms on simulated time: frames travel as bytes, each
// pair's in order, and everything that is random comes from one seed.
type world struct {
	t      *testing.T
	now    time.Time
	random *rand.Rand
	nodes  map[ident.PeerID]*node
	order  []*node
	queue  []delivery
	info   content.Info
	data   []byte
}

type delivery struct {
	at       time.Time
	from, to ident.PeerID
	frame    []byte
}

// node is a peer in the world: a swarm and what its driver would do.
type node struct {
	id        ident.PeerID
	swarm     *Swarm
	store     []byte
	kept      *wire.Bits                   // what a Check finds
	data      []byte                       // what it answers from, right or wrong
	reply     func(load Load) []wire.Frame // nil: the truth
	mute      bool                         // receives, and never says anything
	gone      map[ident.PeerID]bool        // whom it dropped or lost
	last      map[ident.PeerID]time.Time   // when its last frame to a peer arrives
	banned    map[ident.PeerID]bool
	broken    map[ident.PeerID]error
	complete  int
	described int
	sent      map[ident.PeerID][]wire.Frame
	maxFrame  int
}

func newWorld(t *testing.T, seed uint64, length, pieceLength int64) *world {
	t.Helper()
	data := make([]byte, length)
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	geometry := content.Geometry{TotalLength: length, PieceLength: pieceLength}
	summary, err := geometry.Sum(t.Context(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, now: time.Unix(0, 0), random: random, nodes: make(map[ident.PeerID]*node), data: data,
		info: content.Info{FullHash: summary.FullHash, TotalLength: length, PieceLength: pieceLength, PieceHashes: summary.PieceHashes},
	}
}

func (w *world) add(info content.Info, have *wire.Bits) *node {
	id := ident.PeerID{19: byte(len(w.order) + 1), 18: byte((len(w.order) + 1) >> 8)}
	n := &node{
		id: id, store: make([]byte, len(w.data)), data: w.data, maxFrame: 64 << 10,
		gone: map[ident.PeerID]bool{}, last: map[ident.PeerID]time.Time{}, banned: map[ident.PeerID]bool{},
		broken: map[ident.PeerID]error{}, sent: map[ident.PeerID][]wire.Frame{},
	}
	n.swarm = New(Config{
		Info: info, Number: wire.Number(len(w.order) + 100), Have: have,
		Random: rand.New(rand.NewPCG(w.random.Uint64(), 2)),
	})
	if have != nil {
		for piece := range have.Len() {
			if have.Has(piece) {
				copy(w.piece(n.store, piece), w.piece(w.data, piece))
			}
		}
	}
	w.nodes[id] = n
	w.order = append(w.order, n)
	return n
}

func (w *world) seeder() *node {
	all := wire.NewBits(w.info.Geometry().Pieces())
	all.Fill()
	return w.add(w.info, all)
}

func (w *world) leecher() *node { return w.add(w.info, nil) }

func (w *world) piece(data []byte, piece int) []byte {
	g := w.info.Geometry()
	return data[g.PieceOffset(piece) : g.PieceOffset(piece)+g.PieceSize(piece)]
}

func (w *world) connect(a, b *node) {
	a.swarm.Connected(b.id, a.maxFrame, w.now)
	b.swarm.Connected(a.id, b.maxFrame, w.now)
	w.act(a)
	w.act(b)
}

// mesh connects everybody with everybody.
func (w *world) mesh() {
	for i, a := range w.order {
		for _, b := range w.order[:i] {
			w.connect(a, b)
		}
	}
}

func (w *world) disconnect(a, b *node) {
	a.gone[b.id], b.gone[a.id] = true, true
	a.swarm.Disconnected(b.id, w.now)
	b.swarm.Disconnected(a.id, w.now)
	w.act(a)
	w.act(b)
}

func (w *world) send(from *node, to ident.PeerID, frame wire.Frame) {
	if from.mute || from.gone[to] || w.nodes[to] == nil || w.nodes[to].gone[from.id] {
		return
	}
	from.sent[to] = append(from.sent[to], frame)
	at := w.now.Add(10*time.Millisecond + time.Duration(w.random.IntN(10))*time.Millisecond)
	if last := from.last[to]; at.Before(last) {
		at = last
	}
	from.last[to] = at
	w.queue = append(w.queue, delivery{at, from.id, to, wire.Append(nil, frame)})
}

// act does what a driver does with the actions of a swarm.
func (w *world) act(n *node) {
	for actions := n.swarm.Actions(); len(actions) > 0; actions = n.swarm.Actions() {
		for _, action := range actions {
			switch a := action.(type) {
			case Send:
				w.send(n, a.Peer, a.Frame)
			case Load:
				w.load(n, a)
			case Keep:
				copy(w.piece(n.store, int(a.Block.Piece))[a.Block.Begin:], a.Data)
				n.swarm.Kept(a.Block, content.HashLeaves(a.Data), w.now)
			case Check:
				n.swarm.Checked(n.kept, w.now)
			case Verified:
				if !bytes.Equal(w.piece(n.store, a.Piece), w.piece(w.data, a.Piece)) {
					w.t.Errorf("%s verified a piece that is wrong", n)
				}
			case Drop:
				if a.Banned {
					n.banned[a.Peer] = true
				}
			case Break:
				n.broken[a.Peer] = a.Err
				w.disconnect(n, w.nodes[a.Peer])
			case Complete:
				n.complete++
			case Described:
				n.described++
				if err := a.Info.Validate(); err != nil {
					w.t.Errorf("described by an invalid dictionary: %v", err)
				}
			}
		}
	}
}

func (w *world) load(n *node, load Load) {
	if n.reply != nil {
		for _, frame := range n.reply(load) {
			w.send(n, load.Peer, frame)
		}
		return
	}
	w.send(n, load.Peer, n.truth(w, load))
}

// truth is the right answer out of what the node answers from.
func (n *node) truth(w *world, load Load) wire.Piece {
	data := w.piece(n.data, int(load.Block.Piece))[load.Block.Begin:][:load.Block.Length]
	return wire.Piece{Number: load.Number, Piece: load.Block.Piece, Begin: load.Block.Begin, Data: bytes.Clone(data)}
}

// run delivers and ticks until nothing is left to happen, or the bound is passed.
func (w *world) run(bound time.Duration) {
	w.t.Helper()
	end := w.now.Add(bound)
	for {
		// the earliest delivery; of one pair, and of one instant, the oldest
		next := -1
		for i, d := range w.queue {
			if next < 0 || d.at.Before(w.queue[next].at) {
				next = i
			}
		}
		var ticks *node
		at := end
		if next >= 0 && w.queue[next].at.Before(at) {
			at = w.queue[next].at
		}
		for _, n := range w.order {
			if tick, waits := n.swarm.NextTick(); waits && tick.Before(at) {
				at, ticks = tick, n
			}
		}
		switch {
		case at.Equal(end):
			return
		case ticks != nil:
			if at.After(w.now) {
				w.now = at
			}
			ticks.swarm.Tick(w.now)
			if tick, waits := ticks.swarm.NextTick(); waits && !tick.After(w.now) {
				w.t.Fatalf("a tick at %v left the next one at %v", w.now, tick)
			}
			w.act(ticks)
		default:
			d := w.queue[next]
			w.queue = append(w.queue[:next], w.queue[next+1:]...)
			w.now = d.at
			w.deliver(d)
		}
	}
}

func (w *world) deliver(d delivery) {
	to := w.nodes[d.to]
	if to.gone[d.from] {
		return
	}
	frame, err := wire.Decode(d.frame)
	if err != nil {
		w.t.Errorf("a swarm sent what does not decode: %v", err)
		return
	}
	if len(d.frame) > to.maxFrame {
		w.t.Errorf("a frame of %d bytes to a peer that takes %d", len(d.frame), to.maxFrame)
	}
	to.swarm.Received(d.from, frame, w.now)
	w.act(to)
}

// done fails unless the node has the content, said so once, and holds it rightly.
func (w *world) done(n *node) {
	w.t.Helper()
	status := n.swarm.Status()
	if !n.swarm.Complete() || status.HaveBytes != int64(len(w.data)) {
		w.t.Fatalf("peer %s has %d of %d pieces after %v", n.id.Short(), status.Have, status.Pieces, w.now.Sub(time.Unix(0, 0)))
	}
	if !bytes.Equal(n.store, w.data) {
		w.t.Fatalf("peer %s completed with wrong content", n.id.Short())
	}
	if n.complete != 1 {
		w.t.Fatalf("peer %s said complete %d times", n.id.Short(), n.complete)
	}
}

func (n *node) String() string { return fmt.Sprintf("peer %s", n.id.Short()) }
