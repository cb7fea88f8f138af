package latency

import (
	"bytes"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/common/wire"
	"p2pcdn/peer/client"
	"p2pcdn/peer/rtc"
	"p2pcdn/peer/signaling"
)

// prototype is a leecher whose protocol flow is that of the prototype; see the package comment.
type prototype struct {
	mediator  string // static after construction, as are the next two
	poll      time.Duration
	transport *rtc.Transport

	line    *signaling.Client // nil before the first fetch, with which the clock begins
	self    ident.PeerID
	servers []mediation.ICEServer
	up      bool        // the line is established
	opened  atomic.Bool // the present content's connection is
}

func newPrototype(mediator string, poll time.Duration) *prototype {
	return &prototype{mediator: mediator, poll: poll, transport: rtc.New(rtc.Config{NoTrickle: true})}
}

func (p *prototype) begin() { p.opened.Store(false) }

func (p *prototype) connected() bool { return p.opened.Load() }

func (p *prototype) peerID() string {
	if p.self.IsZero() {
		return ""
	}
	return p.self.Short()
}

func (p *prototype) close() {
	if p.line != nil {
		p.line.Close()
	}
	p.transport.Close()
}

func (p *prototype) fetch(ctx context.Context, info content.Info) (timeline.Stamps, *Failure) {
	p.opened.Store(false)
	f := &fetching{
		peer: p, info: info, geometry: info.Geometry(), reached: map[timeline.Phase]time.Time{timeline.Started: time.Now()},
		steps: make(chan func()), left: make(chan struct{}), closed: make(chan struct{}), pieces: make(map[int]*piece),
	}
	target, err := client.CreateTemporary(info, client.FileOptions{})
	if err != nil {
		return nil, &Failure{CodeLocal, err}
	}
	defer func() { _ = target.Discard() }() // it is temporary anyway
	f.target = target
	if p.line == nil {
		p.line = signaling.Start(signaling.Config{URLs: []string{p.mediator}})
	}
	f.run(ctx)
	f.leave()
	stamps := timeline.Since(timeline.Leecher, f.reached)
	if f.failure == nil && !f.complete {
		f.failure = cause(ctx, stamps)
	}
	return stamps, f.failure
}

// fetching is one content that is fetched, over a connection of its own. It is owned by the goroutine of
// fetch; the connection hands it what is to be done there.
type fetching struct {
	peer     *prototype // static after construction, as are the next seven
	info     content.Info
	geometry content.Geometry
	target   client.Target
	reached  map[timeline.Phase]time.Time
	steps    chan func()   // what the connection wants to be done
	left     chan struct{} // closed when nothing is done any more
	closed   chan struct{} // closed when the connection is gone

	answered bool         // the last question was: what the mediator tells by itself is not heard
	remote   ident.PeerID // zero before peers were named
	conn     *rtc.Conn    // nil before
	maxFrame int          // of what we send; 0: not open yet
	theirs   *wire.Handshake
	next     wire.Block     // what is asked for next: of that piece, from there on
	asked    int            // blocks that were asked for and did not come
	spans    int            // of piece hashes that were asked for and did not come
	pieces   map[int]*piece // of which something is asked for; bounded by wire.MaxRequests blocks
	have     int            // pieces that are there
	complete bool
	failure  *Failure
}

// piece is a piece that comes.
type piece struct {
	data    []byte
	missing int // bytes
	blocks  int // that did not come
}

// ours is our content number: there is one content on a connection.
const ours = wire.Number(1)

func (f *fetching) mark(phase timeline.Phase, at time.Time) {
	if f.reached[phase].IsZero() {
		f.reached[phase] = at
	}
}

func (f *fetching) fail(failure *Failure) {
	if f.failure == nil && !f.complete {
		f.failure = failure
	}
}

// run does everything, until the content is there, or fails, or ctx ends.
func (f *fetching) run(ctx context.Context) {
	ticker := time.NewTicker(f.peer.poll)
	defer ticker.Stop()
	if f.peer.up {
		f.lookup()
	}
	for f.failure == nil && !f.complete {
		select {
		case <-ctx.Done():
			return
		case e := <-f.peer.line.Events():
			f.heard(e)
		case <-ticker.C:
			if f.peer.up && f.remote.IsZero() {
				f.lookup()
			}
		case step := <-f.steps:
			step()
		}
	}
}

// leave says goodbye and waits for the end of the connection.
func (f *fetching) leave() {
	f.peer.line.Finish(f.info.FullHash)
	if f.conn == nil {
		return
	}
	if f.maxFrame > 0 {
		f.send(wire.Goodbye{FullHash: f.info.FullHash, Reason: wire.ReasonFinished})
	}
	close(f.left)
	f.conn.Close(nil)
	<-f.closed
}

func (f *fetching) lookup() {
	f.answered = false
	f.peer.line.GetPeers(f.info.FullHash, nil)
	f.peer.line.Ping() // what comes before its answer is the answer to the question
}

// heard handles what the mediator says.
func (f *fetching) heard(e signaling.Event) {
	switch e := e.(type) {
	case signaling.Opened:
		f.mark(timeline.MediatorOpen, e.At)
	case signaling.Asked:
		f.mark(timeline.LookupSent, e.At)
	case signaling.Connected:
		f.peer.up, f.peer.self, f.peer.servers = true, e.PeerID, e.ICEServers
		f.mark(timeline.Established, time.Now())
		f.lookup()
	case signaling.Disconnected:
		f.peer.up = false
		if f.maxFrame == 0 {
			f.fail(lineFailure(e.Err))
		}
	case signaling.Heard:
		switch m := e.Message.(type) {
		case mediation.Peers:
			if !f.answered {
				f.named(m)
			}
		case mediation.Pong:
			f.answered = true
		case mediation.Signal:
			f.signalled(m)
		case *mediation.Error:
			if m.Code == mediation.CodePeerNotFound && m.PeerID == f.remote && !f.remote.IsZero() {
				f.fail(&Failure{CodeConnectionFailed, fmt.Errorf("the mediator says: %w", m)})
			}
		}
	}
}

// named connects to the first peer.
func (f *fetching) named(m mediation.Peers) {
	if m.FullHash != f.info.FullHash || !f.remote.IsZero() {
		return
	}
	for _, id := range m.Peers {
		if id == f.peer.self {
			continue
		}
		f.mark(timeline.PeersNamed, time.Now())
		f.remote = id
		f.conn = f.peer.transport.Connect(rtc.Peering{
			Local: f.peer.self, Remote: id, Offerer: true, ICEServers: f.peer.servers, Handler: f,
		})
		return
	}
}

func (f *fetching) signalled(m mediation.Signal) {
	if m.PeerID != f.remote || f.conn == nil {
		return
	}
	signal, err := rtc.ParseSignal(m.SignalData.String())
	if err != nil {
		return // of a later version
	}
	f.conn.Signal(signal)
}

// post has the goroutine of fetch do something, unless that is over.
func (f *fetching) post(step func()) {
	select {
	case f.steps <- step:
	case <-f.left:
	}
}

// Signal implements [rtc.Handler].
func (f *fetching) Signal(data string) {
	f.post(func() {
		if err := f.peer.line.Signal(f.info.FullHash, f.remote, data); err != nil {
			f.fail(&Failure{CodeMediatorLost, fmt.Errorf("signalling: %w", err)})
		}
	})
}

// Reached implements [rtc.Handler].
func (f *fetching) Reached(phase timeline.Phase) {
	at := time.Now()
	f.post(func() { f.mark(phase, at) })
}

// Opened implements [rtc.Handler].
func (f *fetching) Opened(maxFrame int) {
	at := time.Now()
	f.post(func() {
		f.mark(timeline.ChannelOpen, at)
		f.maxFrame = maxFrame
		f.peer.opened.Store(true)
		f.send(wire.Handshake{
			Number: ours, FullHash: f.info.FullHash, TotalLength: uint64(f.info.TotalLength),
			PieceLength: uint32(f.info.PieceLength), MaxFrame: uint32(maxFrame),
		})
		f.send(wire.HaveNone{Number: ours})
	})
}

// Frame implements [rtc.Handler].
func (f *fetching) Frame(data []byte) {
	frame, err := wire.Decode(bytes.Clone(data))
	f.post(func() {
		if err == nil { // one of a later version
			f.received(frame)
		}
	})
}

// Closed implements [rtc.Handler].
func (f *fetching) Closed(err error) {
	defer close(f.closed)
	f.post(func() {
		switch {
		case f.maxFrame == 0:
			f.fail(&Failure{CodeConnectionFailed, fmt.Errorf("connecting: %w", err)})
		default:
			f.fail(&Failure{CodeConnectionLost, err})
		}
	})
}

func (f *fetching) send(frame wire.Frame) {
	if err := f.conn.Send(wire.Append(nil, frame)); err != nil {
		f.fail(&Failure{CodeConnectionLost, err})
	}
}

// received handles a frame.
func (f *fetching) received(frame wire.Frame) {
	switch m := frame.(type) {
	case wire.Handshake:
		f.greeted(m)
	case wire.Hashes:
		f.hashes(m)
	case wire.Piece:
		f.block(m)
	case wire.Reject, wire.HashReject:
		f.fail(failed(CodePeerRefused, "the peer rejects a request"))
	case wire.Goodbye:
		f.fail(failed(CodePeerRefused, "the peer says goodbye: "+m.Reason.String()))
	}
}

// greeted asks for everything, now that the other side was heard.
func (f *fetching) greeted(m wire.Handshake) {
	if f.theirs != nil || m.FullHash != f.info.FullHash {
		return
	}
	f.theirs = &m
	if !f.info.HasPieceHashes() {
		f.info.PieceHashes = make([]content.Hash, f.geometry.Pieces())
		for index := 0; index < f.geometry.Pieces(); index += f.geometry.ProofSpan() {
			f.spans++
			f.send(wire.HashRequest{Number: ours, Index: uint32(index)})
		}
	}
	f.ask()
}

// ask asks for blocks, in order, for as many as may be under way.
func (f *fetching) ask() {
	length := int64(wire.BlockLength(int(f.theirs.MaxFrame)))
	var blocks []wire.Block
	for ; f.asked < wire.MaxRequests && int(f.next.Piece) < f.geometry.Pieces(); f.asked++ {
		index := int(f.next.Piece)
		size := f.geometry.PieceSize(index)
		p := f.pieces[index]
		if p == nil {
			p = &piece{data: make([]byte, size), missing: int(size)}
			f.pieces[index] = p
		}
		block := f.next
		block.Length = uint32(min(length, size-int64(block.Begin)))
		blocks = append(blocks, block)
		p.blocks++
		if f.next.Begin += block.Length; int64(f.next.Begin) == size {
			f.next = wire.Block{Piece: f.next.Piece + 1}
		}
	}
	if len(blocks) > 0 {
		f.send(wire.Request{Number: ours, Blocks: blocks})
	}
}

// hashes takes piece hashes that were asked for.
func (f *fetching) hashes(m wire.Hashes) {
	if f.spans == 0 {
		return
	}
	if err := f.geometry.CheckProof(f.info.FullHash, int(m.Index), m.Hashes, m.Proof); err != nil {
		f.fail(&Failure{CodeWrongData, err})
		return
	}
	copy(f.info.PieceHashes[m.Index:], m.Hashes)
	if f.spans--; f.spans > 0 {
		return
	}
	for index, p := range f.pieces {
		f.verify(index, p)
	}
}

// block takes a block that was asked for.
func (f *fetching) block(m wire.Piece) {
	index := int(m.Piece)
	p := f.pieces[index]
	if f.theirs == nil || p == nil || p.blocks == 0 || int64(m.Begin)+int64(len(m.Data)) > int64(len(p.data)) {
		return // not asked for
	}
	p.missing -= copy(p.data[m.Begin:], m.Data)
	p.blocks--
	f.asked--
	f.verify(index, p)
	if f.failure == nil && !f.complete {
		f.ask()
	}
}

// verify looks at a piece that is there as a whole, once it can be checked.
func (f *fetching) verify(index int, p *piece) {
	if p.missing > 0 || p.blocks > 0 || f.spans > 0 {
		return
	}
	if f.geometry.HashPiece(p.data) != f.info.PieceHash(index) {
		f.fail(failed(CodeWrongData, "the peer sent what is not the content"))
		return
	}
	if err := f.target.WriteBlock(index, 0, p.data); err != nil {
		f.fail(&Failure{CodeLocal, err})
		return
	}
	f.mark(timeline.FirstPiece, time.Now())
	delete(f.pieces, index)
	if f.have++; f.have < f.geometry.Pieces() {
		return
	}
	if err := f.target.Commit(); err != nil {
		f.fail(&Failure{CodeLocal, err})
		return
	}
	f.complete = true
	f.mark(timeline.Complete, time.Now())
}
