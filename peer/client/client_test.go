package client

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
	"p2pcdn/common/wire"
	"p2pcdn/peer/rtc"
	"p2pcdn/peer/signaling"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait in these tests.
const patience = 30 * time.Second

// hub is a mediator in memory.
type hub struct {
	mu      sync.Mutex
	lines   []*hubLine                             // guarded by mu, in the order in which they came
	seeds   map[content.FullHash][]*hubLine        // guarded by mu
	waiting map[content.FullHash]map[*hubLine]bool // guarded by mu: who is told of later seeders
	finish  []content.FullHash                     // guarded by mu: every finish
	parted  [2]*hubLine                            // guarded by mu: no signal leads from one to the other
	offers  bool                                   // static: it hands offers out that come with a question
	dead    bool                                   // guarded by mu: there is no line, until another mediator takes over
}

func newHub() *hub {
	return &hub{seeds: make(map[content.FullHash][]*hubLine), waiting: make(map[content.FullHash]map[*hubLine]bool)}
}

// hubLine is a Line to the hub.
type hubLine struct {
	hub    *hub
	id     ident.PeerID
	events chan signaling.Event
	closed bool // guarded by hub.mu
}

// line returns a line that is up. Ids grow with the number of lines.
func (h *hub) line() *hubLine {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := &hubLine{hub: h, id: ident.PeerID{byte(len(h.lines) + 1)}, events: make(chan signaling.Event, 4096)}
	h.lines = append(h.lines, l)
	l.events <- signaling.Opened{At: time.Now()}
	l.events <- signaling.Connected{URL: "ws://hub", PeerID: l.id}
	return l
}

// rename gives a line another id, as a reconnect does.
func (h *hub) rename(l *hubLine) {
	h.mu.Lock()
	h.lines = append(h.lines, &hubLine{hub: h, id: l.id, closed: true})
	l.id = ident.PeerID{byte(len(h.lines))}
	l.events <- signaling.Connected{URL: "ws://hub", PeerID: l.id}
	h.mu.Unlock()
}

// die takes every line down, as when their mediator dies.
func (h *hub) die() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.dead = true
	for _, l := range h.lines {
		if !l.closed {
			l.events <- signaling.Disconnected{URL: "ws://hub", Err: signaling.ErrLost, Failures: 1, Next: "ws://other"}
		}
	}
}

// takeOver brings every line up again at another mediator, under another id, and says there what is wanted.
func (h *hub) takeOver() {
	h.mu.Lock()
	h.dead = false
	for _, l := range slices.Clone(h.lines) {
		if !l.closed {
			h.lines = append(h.lines, &hubLine{hub: h, id: l.id, closed: true}) // so that ids stay apart
			l.id = ident.PeerID{byte(len(h.lines))}
			l.events <- signaling.Connected{URL: "ws://other", PeerID: l.id}
		}
	}
	seeds, waiting := h.seeds, h.waiting
	h.seeds, h.waiting = make(map[content.FullHash][]*hubLine), make(map[content.FullHash]map[*hubLine]bool)
	h.mu.Unlock()
	for hash, lines := range seeds {
		for _, l := range lines {
			l.Announce(hash)
		}
	}
	for hash, lines := range waiting {
		for l := range lines {
			l.GetPeers(hash, nil)
		}
	}
}

func (l *hubLine) Events() <-chan signaling.Event { return l.events }

// tell is called with hub.mu held.
func (l *hubLine) tell(m mediation.Message) {
	if !l.closed && !l.hub.dead {
		l.events <- signaling.Heard{Message: m}
	}
}

// GetPeers names all seeders; where the hub knows offers, the first of them is handed this one.
func (l *hubLine) GetPeers(hash content.FullHash, offer signaling.Offering) {
	text := ""
	if offer != nil {
		text = offer()
	}
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.events <- signaling.Asked{FullHash: hash, Offer: text != "", At: time.Now()}
	if l.hub.waiting[hash] == nil {
		l.hub.waiting[hash] = make(map[*hubLine]bool)
	}
	l.hub.waiting[hash][l] = true
	var ids []ident.PeerID
	for _, seed := range l.hub.seeds[hash] {
		if seed != l {
			ids = append(ids, seed.id)
		}
	}
	named := mediation.Peers{FullHash: hash, Peers: ids}
	if l.hub.offers && text != "" && len(ids) > 0 {
		named.Offered = ids[0]
		for _, seed := range l.hub.seeds[hash] {
			if seed.id == named.Offered {
				seed.tell(mediation.Signal{FullHash: hash, PeerID: l.id, SignalData: mediation.NewSignalData(text)})
			}
		}
	}
	l.tell(named)
}

func (l *hubLine) Announce(hash content.FullHash) {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.seeds[hash] = append(l.hub.seeds[hash], l)
	l.tell(mediation.Announced{FullHash: hash})
	for other := range l.hub.waiting[hash] {
		if other != l {
			other.tell(mediation.Peers{FullHash: hash, Peers: []ident.PeerID{l.id}})
		}
	}
}

func (l *hubLine) Finish(hash content.FullHash) {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	l.hub.finish = append(l.hub.finish, hash)
	l.hub.forget(hash, l)
}

func (l *hubLine) Found(hash content.FullHash) {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	delete(l.hub.waiting[hash], l)
}

func (h *hub) forget(hash content.FullHash, l *hubLine) {
	delete(h.waiting[hash], l)
	var rest []*hubLine
	for _, seed := range h.seeds[hash] {
		if seed != l {
			rest = append(rest, seed)
		}
	}
	h.seeds[hash] = rest
}

func (l *hubLine) Signal(hash content.FullHash, to ident.PeerID, data string) error {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if l.hub.dead {
		return signaling.ErrOffline
	}
	for _, other := range l.hub.lines {
		if h := l.hub; (h.parted[0] == l && h.parted[1] == other) || (h.parted[1] == l && h.parted[0] == other) {
			continue
		}
		if other.id == to && !other.closed {
			other.tell(mediation.Signal{FullHash: hash, PeerID: l.id, SignalData: mediation.NewSignalData(data)})
			return nil
		}
	}
	l.tell((&mediation.Error{Code: mediation.CodePeerNotFound, Message: "gone"}).About(hash).With(to))
	return nil
}

func (l *hubLine) Close() {
	l.hub.mu.Lock()
	defer l.hub.mu.Unlock()
	if l.closed {
		return
	}
	l.closed = true
	for hash := range l.hub.seeds {
		l.hub.forget(hash, l)
	}
	close(l.events)
}

// memorySource is a Source in memory; spoil, where it is set, replaces what is read.
type memorySource struct {
	info  content.Info
	data  []byte
	spoil func(piece int, begin int64, buffer []byte) error
}

func (s *memorySource) Info() content.Info { return s.info }
func (s *memorySource) Close() error       { return nil }
func (s *memorySource) ReadBlock(piece int, begin int64, buffer []byte) error {
	copy(buffer, s.data[s.info.Geometry().PieceOffset(piece)+begin:])
	if s.spoil != nil {
		return s.spoil(piece, begin, buffer)
	}
	return nil
}

// memoryTarget is a Target in memory.
type memoryTarget struct {
	geometry content.Geometry

	mu        sync.Mutex
	data      []byte // guarded by mu, as are the next ones
	committed bool
	closed    bool
	discarded bool
	before    func(piece int) // static: called before a block is written; may be nil
	full      int             // so many blocks can still be written, if it is not negative
	kept      *wire.Bits      // static: what Check finds; nil: nothing
}

var errFull = errors.New("full")

func newTarget(info content.Info) *memoryTarget {
	return &memoryTarget{geometry: info.Geometry(), data: make([]byte, info.TotalLength), full: -1}
}

func (t *memoryTarget) Found() bool { return true } // so that whatever there is is checked

func (t *memoryTarget) Check(_ context.Context, info content.Info, _ func(done, total int64)) (*wire.Bits, error) {
	if t.kept != nil {
		return t.kept, nil
	}
	return wire.NewBits(info.Geometry().Pieces()), nil
}

func (t *memoryTarget) WriteBlock(piece int, begin int64, data []byte) error {
	if t.before != nil {
		t.before(piece)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.full == 0 {
		return errFull
	}
	t.full--
	copy(t.data[t.geometry.PieceOffset(piece)+begin:], data)
	return nil
}

func (t *memoryTarget) ReadBlock(piece int, begin int64, buffer []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	copy(buffer, t.data[t.geometry.PieceOffset(piece)+begin:])
	return nil
}

func (t *memoryTarget) Commit() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.committed = true
	return nil
}

func (t *memoryTarget) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	return nil
}

func (t *memoryTarget) Discard() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.discarded = true, true
	return nil
}

func (t *memoryTarget) holds(data []byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.committed && bytes.Equal(t.data, data)
}

// random returns a content of n bytes, always the same.
func random(n int) ([]byte, *memorySource) {
	return randomPieces(n, content.DefaultPieceLength(int64(n)))
}

// randomPieces is random with pieces of that length.
func randomPieces(n int, pieceLength int64) ([]byte, *memorySource) {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(data)
	info := content.Info{FileName: "random.bin", TotalLength: int64(n), PieceLength: pieceLength}
	summary, err := info.Geometry().Sum(context.Background(), bytes.NewReader(data), nil)
	if err != nil {
		panic(err)
	}
	info.FullHash, info.PieceHashes = summary.FullHash, summary.PieceHashes
	return data, &memorySource{info: info, data: data}
}

// overWebRTC is a Connect with real connections.
func overWebRTC() func(rtc.Peering) Conn {
	transport := rtc.New(rtc.Config{})
	return func(p rtc.Peering) Conn { return transport.Connect(p) }
}

func newPeer(t testing.TB, config Config) *Client {
	if config.Log == nil && testing.Verbose() {
		config.Log = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	c := New(config)
	t.Cleanup(c.Close)
	return c
}

func await(t testing.TB, share *Share) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := share.Wait(ctx); err != nil {
		t.Fatalf("the download ended with %v; %+v", err, share.Status())
	}
}

func TestSeederToLeecherOverWebRTC(t *testing.T) {
	data, source := random(5<<20 + 3)
	hub, connect := newHub(), overWebRTC()
	seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
	seed, err := seeder.Seed(source)
	if err != nil {
		t.Fatal(err)
	}
	leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
	target := newTarget(source.info)
	share, err := leecher.Get(source.info, target)
	if err != nil {
		t.Fatal(err)
	}
	await(t, share)
	if !target.holds(data) {
		t.Error("another content arrived")
	}
	status := share.Status()
	last, stamps := time.Time{}, share.Timeline()
	for _, phase := range []timeline.Phase{
		timeline.Started, timeline.MediatorOpen, timeline.LookupSent, timeline.PeersNamed, timeline.AnswerReceived,
		timeline.ICEConnected, timeline.DTLSConnected, timeline.ChannelOpen, timeline.FirstPiece, timeline.Complete,
	} {
		if at := stamps[phase]; at.IsZero() || at.Before(last) {
			t.Errorf("phase %s was reached at %v, the one before it at %v", phase, at, last)
		}
		last = stamps[phase]
	}
	if stamps[timeline.Established].IsZero() || stamps[timeline.OfferSent].IsZero() || stamps[timeline.OfferSent].After(stamps[timeline.AnswerReceived]) {
		t.Errorf("the phases were reached at %v", stamps)
	}
	if status.State != Complete || status.Swarm.HaveBytes != int64(len(data)) {
		t.Errorf("status %+v", status)
	}
	if s := seed.Status(); s.State != Seeding || s.Uploaded < int64(len(data)) || s.Served != 1 || !s.Announced {
		t.Errorf("the seeder's status: %+v", s)
	}
}

// strangersHash is the content that strangers signal about: what tests share.
var strangersHash = func() content.FullHash {
	_, source := random(contentLength)
	return source.info.FullHash
}()

// contentLength is that of most contents here: 16 pieces of 64 KiB and a short one.
const contentLength = 1<<20 + 3

func signalOf(e signaling.Event) (from ident.PeerID, signal rtc.Signal, is bool) {
	if heard, ok := e.(signaling.Heard); ok {
		if m, ok := heard.Message.(mediation.Signal); ok {
			signal, err := rtc.ParseSignal(m.SignalData.String())
			return m.PeerID, signal, err == nil
		}
	}
	return from, signal, false
}

func TestThreeSeedersOverWebRTC(t *testing.T) {
	data, source := random(5<<20 + 3)
	hub, connect := newHub(), overWebRTC()
	var seeds []*Share
	together := make(chan struct{}) // nobody serves before all three are connected
	for range 3 {
		_, source := random(5<<20 + 3)
		source.spoil = func(int, int64, []byte) error { <-together; return nil }
		seed, err := newPeer(t, Config{Line: hub.line(), Connect: connect}).Seed(source)
		if err != nil {
			t.Fatal(err)
		}
		seeds = append(seeds, seed)
	}
	leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
	target := newTarget(source.info)
	share, err := leecher.Get(source.info, target)
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return len(share.Status().Swarm.Peers) == 3 }, "three connections")
	close(together)
	await(t, share)
	if !target.holds(data) {
		t.Error("another content arrived")
	}
	sent := int64(0)
	for i, seed := range seeds {
		n := seed.Status().Uploaded
		if n == 0 {
			t.Errorf("seeder %d sent nothing", i)
		}
		sent += n
	}
	if sent < int64(len(data)) || sent > int64(len(data))*11/10 {
		t.Errorf("%d bytes were sent for %d", sent, len(data))
	}
}

// until polls for what has no event, with a deadline.
func until(t testing.TB, condition func() bool, what string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// The first fetches from the seeder, which leaves; the next fetches from the
// first, and so on.
func TestAChainOverWebRTC(t *testing.T) {
	data, source := random(contentLength)
	hub, connect := newHub(), overWebRTC()
	last := newPeer(t, Config{Line: hub.line(), Connect: connect})
	if _, err := last.Seed(source); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		next := newPeer(t, Config{Line: hub.line(), Connect: connect})
		target := newTarget(source.info)
		share, err := next.Get(source.info, target)
		if err != nil {
			t.Fatal(err)
		}
		await(t, share)
		if !target.holds(data) {
			t.Errorf("another content arrived at %d", i)
		}
		last.Close()
		last = next
	}
}

// Leechers hear of each other at about the same moment, and offer to each other at once.
func TestLeechersTogetherOverWebRTC(t *testing.T) {
	_, source := random(contentLength)
	hub, connect := newHub(), overWebRTC()
	seeder := newPeer(t, Config{Line: hub.line(), Connect: connect})
	if _, err := seeder.Seed(source); err != nil {
		t.Fatal(err)
	}
	var shares []*Share
	for range 4 {
		leecher := newPeer(t, Config{Line: hub.line(), Connect: connect})
		share, err := leecher.Get(source.info, newTarget(source.info))
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, share)
	}
	for _, share := range shares {
		await(t, share)
	}
}

func BenchmarkSeederToLeecher(b *testing.B) {
	const length = 64 << 20
	data, source := random(length)
	b.SetBytes(length)
	for range b.N {
		hub, connect := newHub(), overWebRTC()
		seeder := newPeer(b, Config{Line: hub.line(), Connect: connect})
		if _, err := seeder.Seed(source); err != nil {
			b.Fatal(err)
		}
		leecher := newPeer(b, Config{Line: hub.line(), Connect: connect})
		target := newTarget(source.info)
		share, err := leecher.Get(source.info, target)
		if err != nil {
			b.Fatal(err)
		}
		await(b, share)
		if !target.holds(data) {
			b.Error("another content arrived")
		}
		leecher.Close()
		seeder.Close()
	}
}
