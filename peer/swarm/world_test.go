package swarm

import (
	"bytes"
	"container/heap"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// world is a network of swarms on simulated time: frames travel as bytes, each
// pair's in order, over uplinks and downlinks that take their time, and everything that is
// random comes from one seed. Where nothing else is said, bandwidth is without end, a frame takes
// 10 to 20 ms, and disks take no time.
type world struct {
	t         *testing.T
	now       time.Time
	random    *rand.Rand
	nodes     map[ident.PeerID]*node
	order     []*node
	events    events
	seq       int // events so far
	completed int // nodes so far
	info      content.Info
	data      []byte
}

// start is when every world begins.
var start = time.Unix(0, 0)

// event is something that is going to happen.
type event struct {
	at  time.Time
	seq int // of events at the same instant, the oldest comes first
	do  func()
}

// events is a heap, soonest first.
type events []event

func (e events) Len() int      { return len(e) }
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e events) Less(i, j int) bool {
	if !e[i].at.Equal(e[j].at) {
		return e[i].at.Before(e[j].at)
	}
	return e[i].seq < e[j].seq
}

func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	(*e)[len(*e)-1] = event{}
	*e = (*e)[:len(*e)-1]
	return last
}

// node is a peer in the world: a swarm and what its driver would do.
type node struct {
	id    ident.PeerID
	swarm *Swarm
	lines map[ident.PeerID]*line
	order []*line

	// What it holds, and what became of it.

	store     []byte
	kept      *wire.Bits           // what a Check finds
	disk      func() time.Duration // how long the next Keep takes; nil: no time
	keeping   []wire.Block         // that take that time
	check     func(Check)          // answers it, at once or later
	verified  func(piece int)      // is told of each
	complete  int                  // how often it said so
	doneAt    time.Time            // when
	described int
	banned    map[ident.PeerID]bool
	broken    map[ident.PeerID]error
	spoilt    map[ident.PeerID]int // how many wrong blocks of whom came into its store

	// What it says.

	maxFrame int
	data     []byte                       // what it answers from, right or wrong; nil: its store
	reply    func(load Load) []wire.Frame // nil: the truth
	mute     bool                         // receives, and never says anything

	// Its network.

	up, down         float64         // bytes/s; 0: without end
	upFree, downFree time.Time       // until when they are busy
	slots            int             // peers that are sent blocks at a time
	busy             int             // slots in use
	queue            []*line         // who waits for one
	turns            []turn          // who has one, and waits for the uplink
	sending          bool            // it is busy with a block
	went             map[uint32]went // by piece
	uploaded         int64           // bytes of blocks
	alarm            time.Time       // when the next tick is due; zero: none

	ticks int // alarms so far: only the last one counts
}

// line is one direction between two nodes.
type line struct {
	from, to *node
	delay    time.Duration // of every frame; 0: 10 to 20 ms
	gone     bool          // nothing comes through any more
	epoch    int           // how often it was gone: what was on its way then is lost
	last     time.Time     // when its last frame arrives
	waits    []Load        // what the other side asked for
	queued   bool          // it waits for a slot, or has one
	sent     []wire.Frame  // all that was said; blocks without their data
	bytes    int64         // of blocks that were sent
	brought  int64         // of blocks that arrived
}

// turn is a peer that is sent blocks, and how many bytes it was sent since its turn began.
type turn struct {
	to   *line
	sent int
}

// went is who was last sent something of a piece, and when.
type went struct {
	to *line
	at time.Time
}

// The same as in package client.
const (
	turnBytes    = 256 * kib
	defaultSlots = 8
	passOn       = 500 * time.Millisecond
)

func newWorld(t *testing.T, seed uint64, length, pieceLength int64) *world {
	t.Helper()
	data := make([]byte, length)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), 1}).Read(data)
	geometry := content.Geometry{TotalLength: length, PieceLength: pieceLength}
	summary, err := geometry.Sum(t.Context(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{
		t: t, now: start, random: rand.New(rand.NewPCG(seed, 1)), nodes: make(map[ident.PeerID]*node), data: data,
		info: content.Info{FullHash: summary.FullHash, TotalLength: length, PieceLength: pieceLength, PieceHashes: summary.PieceHashes},
	}
}

func (w *world) add(info content.Info, have *wire.Bits) *node {
	return w.join(Config{Info: info, Have: have})
}

// join adds a node whose swarm has this config. What it has is the content's.
func (w *world) join(config Config) *node {
	n := &node{
		maxFrame: 64 * kib, slots: defaultSlots,
		lines: map[ident.PeerID]*line{}, banned: map[ident.PeerID]bool{}, broken: map[ident.PeerID]error{},
		spoilt: map[ident.PeerID]int{}, went: map[uint32]went{},
	}
	binary.BigEndian.PutUint32(n.id[16:], uint32(len(w.order)+1))
	if config.Have != nil && config.Have.All() {
		n.store = w.data // nothing will be written to it
	} else {
		n.store = make([]byte, len(w.data))
		for piece := range w.info.Geometry().Pieces() {
			if config.Have != nil && config.Have.Has(piece) {
				copy(w.piece(n.store, piece), w.piece(w.data, piece))
			}
		}
	}
	config.Number = wire.Number(len(w.order) + 100)
	config.Random = rand.New(rand.NewPCG(w.random.Uint64(), 2))
	n.swarm = New(config)
	n.check = func(Check) { n.swarm.Checked(n.kept, w.now) }
	n.verified = func(int) {}
	w.nodes[n.id] = n
	w.order = append(w.order, n)
	return n
}

// all returns a set of every piece.
func (w *world) all() *wire.Bits {
	all := wire.NewBits(w.info.Geometry().Pieces())
	all.Fill()
	return all
}

func (w *world) seeder() *node  { return w.add(w.info, w.all()) }
func (w *world) leecher() *node { return w.add(w.info, nil) }

// liar returns a seeder of another content.
func (w *world) liar() *node {
	n := w.seeder()
	n.data = bytes.Clone(w.data)
	for i := range n.data {
		n.data[i] ^= 0x55
	}
	return n
}

func (w *world) piece(data []byte, piece int) []byte {
	g := w.info.Geometry()
	return data[g.PieceOffset(piece) : g.PieceOffset(piece)+g.PieceSize(piece)]
}

func (w *world) block(data []byte, b wire.Block) []byte {
	return w.piece(data, int(b.Piece))[b.Begin:][:b.Length]
}

// after has something happen when the time has passed.
func (w *world) after(wait time.Duration, do func()) { w.at(w.now.Add(wait), do) }

func (w *world) at(at time.Time, do func()) {
	w.seq++
	heap.Push(&w.events, event{at, w.seq, do})
}

// connect brings two nodes together; also anew, after they were parted.
func (w *world) connect(a, b *node) {
	a.line(b).gone, b.line(a).gone = false, false
	a.swarm.Connected(b.id, a.maxFrame, true, w.now) // a was told of b
	b.swarm.Connected(a.id, b.maxFrame, false, w.now)
	w.act(a)
	w.act(b)
}

// over brings two nodes together, with a round trip that always takes the same.
func (w *world) over(rtt time.Duration, a, b *node) {
	a.line(b).delay, b.line(a).delay = rtt/2, rtt/2
	w.connect(a, b)
}

func (n *node) line(to *node) *line {
	if n.lines[to.id] == nil {
		n.lines[to.id] = &line{from: n, to: to}
		n.order = append(n.order, n.lines[to.id])
	}
	return n.lines[to.id]
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
	for _, l := range []*line{a.line(b), b.line(a)} {
		l.gone, l.waits = true, nil
		l.epoch++
	}
	a.swarm.Disconnected(b.id, w.now)
	b.swarm.Disconnected(a.id, w.now)
	w.act(a)
	w.act(b)
}

// vanish takes a node away from everybody.
func (w *world) vanish(n *node) {
	for _, l := range n.order {
		if !l.gone {
			w.disconnect(n, l.to)
		}
	}
}

// send lets a frame travel. It may pass others of other lines, but none of its own.
func (w *world) send(from *node, to ident.PeerID, frame wire.Frame) {
	l := from.lines[to]
	if from.mute || l == nil || l.gone {
		return
	}
	encoded := wire.Append(nil, frame)
	if piece, is := frame.(wire.Piece); is {
		l.bytes += int64(len(piece.Data))
		from.uploaded += int64(len(piece.Data))
		piece.Data = nil
		frame = piece
	}
	l.sent = append(l.sent, frame)
	delay := l.delay
	if delay == 0 {
		delay = 10*time.Millisecond + time.Duration(w.random.IntN(10))*time.Millisecond
	}
	at := later(w.now.Add(delay), l.last)
	l.last = at
	epoch := l.epoch
	w.at(at, func() { w.arrive(l, epoch, encoded) })
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// take returns when a link has taken so many bytes, behind what it takes already. What it could have
// taken before is lost, but for so many bytes.
func (w *world) take(free *time.Time, rate float64, bytes int, burst float64) time.Time {
	if rate == 0 {
		return w.now
	}
	seconds := func(bytes float64) time.Duration { return time.Duration(bytes / rate * float64(time.Second)) }
	*free = later(*free, w.now.Add(-seconds(burst))).Add(seconds(float64(bytes)))
	return later(*free, w.now)
}

// arrive takes a frame through the downlink.
func (w *world) arrive(l *line, epoch int, encoded []byte) {
	if l.to.down == 0 {
		w.deliver(l, epoch, encoded)
		return
	}
	w.at(w.take(&l.to.downFree, l.to.down, len(encoded), 0), func() { w.deliver(l, epoch, encoded) })
}

func (w *world) deliver(l *line, epoch int, encoded []byte) {
	if l.epoch != epoch {
		return
	}
	to := l.to
	frame, err := wire.Decode(encoded)
	if err != nil {
		w.t.Errorf("a swarm sent what does not decode: %v", err)
		return
	}
	if from := l.from; len(encoded) > from.maxFrame {
		w.t.Errorf("a frame of %d bytes of a peer that can send %d", len(encoded), from.maxFrame)
	}
	wrong := false
	if piece, is := frame.(wire.Piece); is {
		l.brought += int64(len(piece.Data))
		lies := l.from.reply != nil || l.from.data != nil
		wrong = lies && int(piece.Piece) < w.info.Geometry().Pieces() && to.swarm.checkBlock(piece.Block()) == nil &&
			!bytes.Equal(piece.Data, w.block(w.data, piece.Block()))
	}
	to.swarm.Received(l.from.id, frame, w.now)
	if wrong {
		w.spoils(to, l.from.id)
	}
	w.act(to)
}

// spoils notes that a wrong block came, if the swarm took some of it.
func (w *world) spoils(n *node, from ident.PeerID) {
	for _, action := range n.swarm.actions {
		if keep, is := action.(Keep); is && !bytes.Equal(keep.Data, w.block(w.data, keep.Block)) {
			n.spoilt[from]++
		}
	}
}

// act does what a driver does with the actions of a swarm, and sets its alarm.
func (w *world) act(n *node) {
	for actions := n.swarm.Actions(); len(actions) > 0; actions = n.swarm.Actions() {
		for _, action := range actions {
			w.perform(n, action)
		}
	}
	at, waits := n.swarm.NextTick()
	if !waits {
		at = time.Time{}
	}
	if at.Equal(n.alarm) {
		return
	}
	n.ticks++
	n.alarm = at
	if ticks := n.ticks; waits {
		w.at(later(at, w.now), func() {
			if ticks == n.ticks {
				w.tick(n)
			}
		})
	}
}

func (w *world) tick(n *node) {
	n.alarm = time.Time{}
	n.swarm.Tick(w.now)
	if next, waits := n.swarm.NextTick(); waits && !next.After(w.now) {
		w.t.Fatalf("a tick at %v left the next one at %v", w.now, next)
	}
	w.act(n)
}

func (w *world) perform(n *node, action Action) {
	switch a := action.(type) {
	case Send:
		w.send(n, a.Peer, a.Frame)
	case Load:
		w.load(n, a)
	case Unload:
		w.unload(n, a)
	case Keep:
		w.keep(n, a)
	case Check:
		n.check(a)
	case Verified:
		if !bytes.Equal(w.piece(n.store, a.Piece), w.piece(w.data, a.Piece)) {
			w.t.Errorf("%s verified a piece that is wrong", n)
		}
		n.verified(a.Piece)
	case Drop:
		if a.Banned {
			n.banned[a.Peer] = true
		}
	case Break:
		n.broken[a.Peer] = a.Err
		w.disconnect(n, w.nodes[a.Peer])
	case Complete:
		n.complete++
		w.completed++
		n.doneAt = w.now
	case Described:
		n.described++
		if err := a.Info.Validate(); err != nil {
			w.t.Errorf("described by an invalid dictionary: %v", err)
		}
	}
}

// keep writes a block, after a while where the disk takes one.
func (w *world) keep(n *node, a Keep) {
	for _, other := range n.keeping {
		if other.Piece == a.Block.Piece && other.Begin < a.Block.Begin+a.Block.Length && a.Block.Begin < other.Begin+other.Length {
			w.t.Errorf("%s is to keep %v while it keeps %v", n, a.Block, other)
		}
	}
	if n.swarm.have.Has(int(a.Block.Piece)) {
		w.t.Errorf("%s is to write %v over a piece that is verified", n, a.Block)
	}
	if n.disk == nil {
		copy(w.block(n.store, a.Block), a.Data)
		n.swarm.Kept(a.Block, content.HashLeaves(a.Data), w.now)
		return
	}
	n.keeping = append(n.keeping, a.Block)
	w.after(n.disk(), func() {
		i := slices.Index(n.keeping, a.Block)
		n.keeping = slices.Delete(n.keeping, i, i+1)
		copy(w.block(n.store, a.Block), a.Data)
		n.swarm.Kept(a.Block, content.HashLeaves(a.Data), w.now)
		w.act(n)
	})
}

// load puts a request behind the others of that peer, as package client does.
func (w *world) load(n *node, a Load) {
	l := n.lines[a.Peer]
	if l == nil || l.gone {
		return
	}
	if len(l.waits) >= wire.MaxRequests {
		w.send(n, a.Peer, wire.Reject{Number: a.Number, Block: a.Block})
		return
	}
	l.waits = append(l.waits, a)
	if !l.queued {
		l.queued = true
		n.queue = append(n.queue, l)
		w.serve(n)
	}
}

func (w *world) unload(n *node, a Unload) {
	l := n.lines[a.Peer]
	if l == nil {
		return
	}
	if i := slices.Index(l.waits, Load(a)); i >= 0 {
		l.waits = slices.Delete(l.waits, i, i+1)
		w.send(n, a.Peer, wire.Reject{Number: a.Number, Block: a.Block})
	}
}

// serve gives the free slots to those that have waited longest, and sends the next block of
// whoever's turn it is as soon as the uplink is free.
func (w *world) serve(n *node) {
	for n.busy < n.slots && len(n.queue) > 0 {
		n.turns = append(n.turns, turn{n.queue[0], 0})
		n.queue = n.queue[1:]
		n.busy++
	}
	if n.sending || len(n.turns) == 0 {
		return
	}
	t := n.turns[0]
	n.turns = n.turns[1:]
	if len(t.to.waits) == 0 || t.sent >= turnBytes {
		n.busy--
		if t.to.queued = len(t.to.waits) > 0; t.to.queued {
			n.queue = append(n.queue, t.to)
		}
		w.serve(n)
		return
	}
	load := w.pick(n, t.to)
	t.sent += int(load.Block.Length)
	n.sending = true
	w.at(w.take(&n.upFree, n.up, int(load.Block.Length), max(content.LeafLength, n.up/10)), func() {
		n.sending = false
		n.turns = append(n.turns, t)
		w.answer(n, load)
		w.serve(n)
	})
}

// pick takes the block that a peer is sent next: the oldest that it asked for, but what
// went to another peer a moment ago only if it waits for nothing else.
func (w *world) pick(n *node, l *line) Load {
	next := max(0, slices.IndexFunc(l.waits, func(load Load) bool {
		went, is := n.went[load.Block.Piece]
		return !is || went.to == l || w.now.Sub(went.at) >= passOn
	}))
	load := l.waits[next]
	l.waits = slices.Delete(l.waits, next, next+1)
	n.went[load.Block.Piece] = went{l, w.now}
	return load
}

func (w *world) answer(n *node, load Load) {
	if n.reply == nil {
		w.send(n, load.Peer, n.truth(w, load))
		return
	}
	for _, frame := range n.reply(load) {
		w.send(n, load.Peer, frame)
	}
}

// truth is the right answer out of what the node answers from.
func (n *node) truth(w *world, load Load) wire.Piece {
	from := n.data
	if from == nil {
		from = n.store
	}
	data := bytes.Clone(w.block(from, load.Block))
	return wire.Piece{Number: load.Number, Piece: load.Block.Piece, Begin: load.Block.Begin, Data: data}
}

// run lets happen what happens within the time.
func (w *world) run(bound time.Duration) {
	w.t.Helper()
	end := w.now.Add(bound)
	for len(w.events) > 0 && w.events[0].at.Before(end) {
		w.step()
	}
}

// until lets things happen until the condition holds, and fails where that takes longer than the bound.
func (w *world) until(bound time.Duration, what string, holds func() bool) {
	w.t.Helper()
	end := w.now.Add(bound)
	for !holds() {
		if len(w.events) == 0 || !w.events[0].at.Before(end) {
			w.t.Fatalf("after %v: no %s", w.now.Sub(start), what)
		}
		w.step()
	}
}

// finish runs until all these are complete, and checks them.
func (w *world) finish(bound time.Duration, nodes ...*node) {
	w.t.Helper()
	left, seen := len(nodes), -1
	w.until(bound, "end of all", func() bool {
		for seen != w.completed && left > 0 && nodes[left-1].complete > 0 {
			left--
		}
		if left > 0 {
			seen = w.completed
		}
		return left == 0
	})
	for _, n := range nodes {
		w.done(n)
	}
}

func (w *world) step() {
	next := heap.Pop(&w.events).(event)
	w.now = next.at
	next.do()
}

// passed is how long the world is old.
func (w *world) passed() time.Duration { return w.now.Sub(start) }

// done fails unless the node has the content, said so once, and holds it rightly.
func (w *world) done(n *node) {
	w.t.Helper()
	status := n.swarm.Status()
	if !n.swarm.Complete() || status.HaveBytes != int64(len(w.data)) {
		w.t.Fatalf("%s has %d of %d pieces after %v", n, status.Have, status.Pieces, w.passed())
	}
	if !bytes.Equal(n.store, w.data) {
		w.t.Fatalf("%s completed with wrong content", n)
	}
	if n.complete != 1 {
		w.t.Fatalf("%s said complete %d times", n, n.complete)
	}
}

// settled fails if a complete swarm still waits for something or holds what it does not need.
func (w *world) settled(n *node) {
	w.t.Helper()
	s := n.swarm
	if len(s.open) != 0 || len(s.opened) != 0 || s.keeping != 0 || len(s.solo) != 0 || !s.picker.empty() || len(s.spans) != 0 {
		w.t.Errorf("%s is complete, with %d/%d pieces open, %d bytes being kept, %d to come from one, %d offered",
			n, len(s.open), len(s.opened), s.keeping, len(s.solo), len(s.picker.order))
	}
	for _, r := range s.order {
		if r.waits != 0 || r.inFlight != 0 {
			w.t.Errorf("%s is complete and waits for %d blocks, %d bytes", n, r.waits, r.inFlight)
		}
	}
}

// fetched is how many bytes of blocks came to the node.
func (w *world) fetched(n *node) (bytes int64) {
	for _, l := range n.order {
		bytes += l.to.line(n).brought
	}
	return bytes
}

// requests returns what the node asked another one for, in order.
func (n *node) requests(of *node) (all []wire.Block) {
	for _, frame := range n.line(of).sent {
		if request, is := frame.(wire.Request); is {
			all = append(all, request.Blocks...)
		}
	}
	return all
}

func (n *node) String() string { return fmt.Sprintf("peer %d", binary.BigEndian.Uint32(n.id[16:])) }
