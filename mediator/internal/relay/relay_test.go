package relay

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// testDeadline is when a test gives up: far beyond what anything here takes on a
// busy machine with the race detector.
const testDeadline = 30 * time.Second

func testContext(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline)
	t.Cleanup(cancel)
	return ctx
}

// event is one call to a Handler.
type event struct {
	kind    string // message, undelivered or gone
	id      ident.MediatorID
	message mediation.Message
}

// events is a Handler that hands its calls to the test.
type events chan event

func (e events) HandleMediator(from ident.MediatorID, m mediation.Message) {
	e <- event{"message", from, m}
}
func (e events) Undelivered(to ident.MediatorID, m mediation.Message) {
	e <- event{"undelivered", to, m}
}
func (e events) MediatorGone(from ident.MediatorID) { e <- event{"gone", from, nil} }

func (e events) next(t *testing.T) event {
	t.Helper()
	select {
	case got := <-e:
		return got
	case <-testContext(t).Done():
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

func (e events) want(t *testing.T, kind string, id ident.MediatorID) mediation.Message {
	t.Helper()
	got := e.next(t)
	if got.kind != kind || got.id != id {
		t.Fatalf("got %s of %s (%v), want %s of %s", got.kind, got.id.Short(), got.message, kind, id.Short())
	}
	return got.message
}

// node is a host with a Relay.
type node struct {
	host   host.Host
	relay  *Relay
	id     ident.MediatorID
	events events
}

func newHost(t *testing.T, options ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		// As discovery's host: with one port for both directions, two sides that
		// dial each other at the same moment can get one connection with two clients.
		libp2p.Transport(tcp.NewTCPTransport, tcp.DisableReuseport()),
		libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ForceReachabilityPublic(),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func newNode(t *testing.T, config Config, options ...libp2p.Option) *node {
	t.Helper()
	config.Logger = slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	n := &node{host: newHost(t, options...), events: make(events, 4096)}
	n.id = idOf(n.host)
	n.relay = New(n.host, n.events, config)
	t.Cleanup(func() { _ = n.relay.Close() })
	return n
}

func idOf(h host.Host) ident.MediatorID {
	id, err := ident.ParseMediatorID(h.ID().String())
	if err != nil {
		panic(err)
	}
	return id
}

// introduce lets two hosts know where the other one is.
func introduce(a, b host.Host) {
	a.Peerstore().AddAddrs(b.ID(), b.Addrs(), peerstore.PermanentAddrTTL)
	b.Peerstore().AddAddrs(a.ID(), a.Addrs(), peerstore.PermanentAddrTTL)
}

func pair(t *testing.T, config Config, options ...libp2p.Option) (a, b *node) {
	t.Helper()
	a, b = newNode(t, config, options...), newNode(t, config, options...)
	introduce(a.host, b.host)
	return a, b
}

func hash(n int) content.FullHash {
	var h content.FullHash
	binary.BigEndian.PutUint32(h[:], uint32(n))
	return h
}

func getPeers(n int) mediation.Message { return mediation.GetPeers{FullHash: hash(n)} }

// number is what getPeers was given.
func number(t *testing.T, message mediation.Message) int {
	t.Helper()
	m, ok := message.(mediation.GetPeers)
	if !ok {
		t.Fatalf("got %v, want get_peers", message)
	}
	return int(binary.BigEndian.Uint32(m.FullHash[:]))
}

// mediationStreams counts the mediation streams of a host.
func mediationStreams(h host.Host) int {
	count := 0
	for _, conn := range h.Network().Conns() {
		for _, stream := range conn.GetStreams() {
			if stream.Protocol() == mediation.StreamProtocol {
				count++
			}
		}
	}
	return count
}

// eventually polls, for what has no event.
func eventually(t *testing.T, what string, check func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	ctx := testContext(t)
	for !check() {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatal("never: " + what)
		}
	}
}

func TestBothDirectionsShareAStream(t *testing.T) {
	for name, options := range map[string][]libp2p.Option{
		"tcp":  nil,
		"quic": {libp2p.Transport(quic.NewTransport), libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/quic-v1")},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, Config{}, options...)
			for i := range 100 {
				a.relay.Send(b.id, getPeers(i))
				if got := number(t, b.events.want(t, "message", a.id)); got != i {
					t.Fatalf("got message %d, want %d", got, i)
				}
				b.relay.Send(a.id, getPeers(-i))
				a.events.want(t, "message", b.id)
			}
			for _, n := range []*node{a, b} {
				if got := n.relay.Status(); got != (Status{Mediators: 1, Streams: 1}) {
					t.Errorf("status %+v, want one stream", got)
				}
				if got := mediationStreams(n.host); got != 1 {
					t.Errorf("%d libp2p streams, want 1", got)
				}
			}
		})
	}
}

func TestEveryKindOfMessage(t *testing.T) {
	a, b := pair(t, Config{})
	peerID := ident.PeerID{1}
	h := hash(1)
	for _, message := range []mediation.Message{
		mediation.GetPeers{FullHash: h},
		mediation.Peers{FullHash: h, Peers: []ident.PeerID{peerID}},
		mediation.Signal{FullHash: h, PeerID: peerID, SenderID: ident.PeerID{2}, SignalData: mediation.NewSignalData(strings.Repeat("\\", mediation.MaxSignalData))},
		mediation.Finish{FullHash: h},
		&mediation.Error{Code: mediation.CodePeerNotFound, Message: "gone", FullHash: &h, PeerID: peerID, SenderID: ident.PeerID{2}},
	} {
		a.relay.Send(b.id, message)
		got := b.events.want(t, "message", a.id)
		if !bytes.Equal(mediation.Encode(got), mediation.Encode(message)) {
			t.Errorf("got %s, want %s", mediation.Encode(got), mediation.Encode(message))
		}
	}
}

func TestSimultaneousOpen(t *testing.T) {
	a, b := pair(t, Config{})
	const messages = 50
	var wg sync.WaitGroup
	for _, side := range [][2]*node{{a, b}, {b, a}} {
		wg.Go(func() {
			for i := range messages {
				side[0].relay.Send(side[1].id, getPeers(i))
			}
		})
	}
	wg.Wait()
	for _, side := range [][2]*node{{a, b}, {b, a}} {
		for i := range messages {
			if got := number(t, side[0].events.want(t, "message", side[1].id)); got != i {
				t.Fatalf("message %d came in the place of %d", got, i)
			}
		}
	}
	if got := a.relay.Status(); got.Streams < 1 || got.Streams > 2 {
		t.Errorf("status %+v, want one or two streams", got)
	}
}

func TestManySenders(t *testing.T) {
	a, b := pair(t, Config{QueueLength: 10_000})
	const senders, each = 20, 100
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for i := range each {
				a.relay.Send(b.id, getPeers(s*each+i))
			}
		})
	}
	last := make(map[int]int)
	for range senders * each {
		n := number(t, b.events.want(t, "message", a.id))
		s, i := n/each, n%each
		if i != last[s] {
			t.Fatalf("sender %d: message %d came in the place of %d", s, i, last[s])
		}
		last[s]++
	}
	wg.Wait()
	if got := b.relay.Status().Streams; got != 1 {
		t.Errorf("%d streams, want 1", got)
	}
}

func TestUnknownMediatorIsUndelivered(t *testing.T) {
	a := newNode(t, Config{})
	gone := idOf(newHost(t))
	notAKey, err := ident.ParseMediatorID(strings.Repeat("1", 46))
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []ident.MediatorID{gone, notAKey, a.id} {
		a.relay.Send(to, getPeers(7))
		if got := number(t, a.events.want(t, "undelivered", to)); got != 7 {
			t.Errorf("message %d came back", got)
		}
	}
	if len(a.events) > 0 {
		t.Errorf("then %v", a.events.next(t))
	}
	eventually(t, "nothing is left of them", func() bool {
		a.relay.mu.Lock()
		defer a.relay.mu.Unlock()
		return len(a.relay.links) == 0
	})
}

func TestMediatorThatDies(t *testing.T) {
	a, b := pair(t, Config{})
	a.relay.Send(b.id, getPeers(1))
	b.events.want(t, "message", a.id)
	b.relay.Send(a.id, getPeers(1))
	a.events.want(t, "message", b.id) // so the handshake was answered
	// The host goes and not the Relay, as when the process is killed.
	if err := b.host.Close(); err != nil {
		t.Fatal(err)
	}
	a.events.want(t, "gone", b.id)
	b.events.want(t, "gone", a.id)
	a.relay.Send(b.id, getPeers(2))
	if got := number(t, a.events.want(t, "undelivered", b.id)); got != 2 {
		t.Errorf("message %d came back", got)
	}
}

func TestGoneOncePerEnd(t *testing.T) {
	a, b := pair(t, Config{})
	for i := range 3 {
		a.relay.Send(b.id, getPeers(i))
		b.events.want(t, "message", a.id)
		b.relay.Send(a.id, getPeers(i))
		a.events.want(t, "message", b.id) // so the handshake was answered
		if err := a.host.Network().ClosePeer(b.host.ID()); err != nil {
			t.Fatal(err)
		}
		a.events.want(t, "gone", b.id)
		b.events.want(t, "gone", a.id)
	}
}

func TestCloseSaysGoingAway(t *testing.T) {
	a, b := pair(t, Config{})
	a.relay.Send(b.id, getPeers(1))
	b.events.want(t, "message", a.id)
	if err := b.relay.Close(); err != nil {
		t.Fatal(err)
	}
	var goodbye *mediation.Error
	if message := a.events.want(t, "message", b.id); !errors.As(message.(error), &goodbye) || goodbye.Code != mediation.CodeGoingAway {
		t.Errorf("got %v, want going_away", message)
	}
	a.events.want(t, "gone", b.id)
	b.events.want(t, "gone", a.id)
	b.relay.Send(a.id, getPeers(2)) // dropped
	a.relay.Send(b.id, getPeers(3)) // nobody serves it
	a.events.want(t, "undelivered", b.id)
	if len(b.events) > 0 {
		t.Errorf("after Close: %v", b.events.next(t))
	}
}

func TestIdleStreamEndsAndLosesNothing(t *testing.T) {
	a, b := pair(t, Config{IdleTimeout: 50 * time.Millisecond})
	for i := range 5 {
		a.relay.Send(b.id, getPeers(i))
		if got := number(t, b.events.want(t, "message", a.id)); got != i {
			t.Fatalf("message %d came in the place of %d", got, i)
		}
		a.events.want(t, "gone", b.id)
		b.events.want(t, "gone", a.id)
	}
	eventually(t, "no stream is left", func() bool { return mediationStreams(a.host)+mediationStreams(b.host) == 0 })
}

func TestWritingKeepsAStreamAlive(t *testing.T) {
	a, b := pair(t, Config{IdleTimeout: 2 * time.Second})
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for i := range 30 { // longer than the stream lives when idle
		a.relay.Send(b.id, getPeers(i))
		b.events.want(t, "message", a.id) // "gone" would come instead
		<-ticker.C
	}
}

// stranger is the other end of a stream to a Relay, without a Relay.
type stranger struct {
	t      *testing.T
	to     *node
	stream network.Stream
}

func dial(t *testing.T, n *node, h host.Host) stranger {
	t.Helper()
	introduce(n.host, h)
	stream, err := h.NewStream(testContext(t), n.host.ID(), mediation.StreamProtocol)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Reset() })
	_ = stream.SetDeadline(time.Now().Add(testDeadline))
	return stranger{t, n, stream}
}

func (s stranger) send(message mediation.Message) {
	s.t.Helper()
	if err := mediation.WriteTo(s.stream, message); err != nil {
		s.t.Fatal(err)
	}
}

func (s stranger) sendText(text string) {
	s.t.Helper()
	framed := append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
	if _, err := s.stream.Write(framed); err != nil {
		s.t.Fatal(err)
	}
}

func (s stranger) read() (mediation.Message, error) { return mediation.ReadFrom(s.stream) }

func (s stranger) wantError(code mediation.ErrorCode) {
	s.t.Helper()
	message, err := s.read()
	if err != nil {
		s.t.Fatalf("got %v, want the error %s", err, code)
	}
	if got, ok := message.(*mediation.Error); !ok || got.Code != code {
		s.t.Fatalf("got %s, want the error %s", mediation.Encode(message), code)
	}
}

func (s stranger) wantEnd() {
	s.t.Helper()
	if message, err := s.read(); err == nil {
		s.t.Fatalf("got %s, want the end", mediation.Encode(message))
	}
}

// shakeHands returns when the Relay sends on the stream too.
func (s stranger) shakeHands(as ident.MediatorID) {
	s.t.Helper()
	before := s.to.relay.Status().Streams
	s.send(mediation.Replication{MediatorID: as})
	message, err := s.read()
	if _, ok := message.(mediation.Established); err != nil || !ok {
		s.t.Fatalf("got %v, %v, want established", message, err)
	}
	eventually(s.t, "the stream counts", func() bool { return s.to.relay.Status().Streams > before })
}

func TestHandshakeRefused(t *testing.T) {
	n, other := newNode(t, Config{}), newHost(t)
	for name, test := range map[string]struct {
		text string
		code mediation.ErrorCode
		ends bool
	}{
		"somebody else's id": {string(mediation.Encode(mediation.Replication{MediatorID: n.id})), mediation.CodeReplicationRefused, true},
		"a peer's handshake": {string(mediation.Encode(mediation.Handshake{})), mediation.CodeHandshakeRequired, false},
		"no handshake":       {string(mediation.Encode(getPeers(1))), mediation.CodeHandshakeRequired, false},
		"an error":           {`{"type":"error","code":"x","message":"y"}`, mediation.CodeHandshakeRequired, false},
		"no id":              {`{"type":"handshake","connection_type":"replication"}`, mediation.CodeBadMessage, false},
		"not an id":          {`{"type":"handshake","connection_type":"replication","peer_id":"0"}`, mediation.CodeBadPeerID, false},
		"no kind":            {`{"type":"handshake","connection_type":"love","peer_id":"0"}`, mediation.CodeBadConnectionType, false},
		"not JSON":           {`hello`, mediation.CodeBadMessage, false},
		"nothing":            {``, mediation.CodeBadMessage, false},
		"an unknown type":    {`{"type":"marry"}`, mediation.CodeUnknownType, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := dial(t, n, other)
			s.sendText(test.text)
			s.wantError(test.code)
			if test.ends {
				s.wantEnd()
				return
			}
			s.shakeHands(idOf(other)) // it may try again
			_ = s.stream.Close()
			n.events.want(t, "gone", idOf(other))
		})
	}
	if len(n.events) > 0 {
		t.Errorf("the handler was told: %v", n.events.next(t))
	}
}

func TestHandshakeTimeout(t *testing.T) {
	n := newNode(t, Config{HandshakeTimeout: 50 * time.Millisecond})
	s := dial(t, n, newHost(t))
	if _, err := s.stream.Write([]byte{0}); err != nil { // libp2p opens a stream with its first byte
		t.Fatal(err)
	}
	s.wantError(mediation.CodeHandshakeTimeout)
	s.wantEnd()
}

func TestNonsense(t *testing.T) {
	n, other := newNode(t, Config{}), newHost(t)
	s := dial(t, n, other)
	s.shakeHands(idOf(other))
	fine := func(i int) {
		t.Helper()
		s.send(getPeers(i))
		if got := number(t, n.events.want(t, "message", idOf(other))); got != i {
			t.Errorf("message %d came in the place of %d", got, i)
		}
	}
	for i, test := range []struct {
		text string
		code mediation.ErrorCode
	}{
		{`hello`, mediation.CodeBadMessage},
		{``, mediation.CodeBadMessage},
		{`[]`, mediation.CodeBadMessage},
		{`null`, mediation.CodeBadMessage},
		{"{\"type\":\"\xff\"}", mediation.CodeBadMessage},
		{`{"type":1}`, mediation.CodeBadMessage},
		{`{"type":"marry"}`, mediation.CodeUnknownType},
		{`{"type":"get_peers"}`, mediation.CodeBadMessage},
		{`{"type":"get_peers","full_hash":"00"}`, mediation.CodeBadFullHash},
		{`{"type":"peers","full_hash":"` + hash(1).String() + `","peers":["x"]}`, mediation.CodeBadPeerID},
		{string(mediation.Encode(mediation.Signal{SignalData: mediation.NewSignalData(strings.Repeat("x", mediation.MaxSignalData+1))})), mediation.CodeSignalTooBig},
		{string(mediation.Encode(mediation.Handshake{})), mediation.CodeUnexpectedType},
		{string(mediation.Encode(mediation.Established{})), mediation.CodeUnexpectedType},
		{string(mediation.Encode(mediation.Announce{})), mediation.CodeUnexpectedType},
		{string(mediation.Encode(mediation.Announced{})), mediation.CodeUnexpectedType},
		{string(mediation.Encode(mediation.Replication{MediatorID: idOf(other)})), mediation.CodeAlreadyEstablished},
	} {
		s.sendText(test.text)
		s.wantError(test.code)
		fine(i) // and the stream is as it was
	}
	for range maxErrors - 1 {
		s.sendText(`hello`)
		s.wantError(mediation.CodeBadMessage)
	}
	s.sendText(`hello`)
	s.wantError(mediation.CodeTooManyErrors)
	s.wantEnd()
	n.events.want(t, "gone", idOf(other))
}

func TestErrorsAreNeverAnswered(t *testing.T) {
	n, other := newNode(t, Config{}), newHost(t)
	s := dial(t, n, other)
	s.shakeHands(idOf(other))
	for range 2 * maxErrors {
		s.send(&mediation.Error{Code: mediation.CodeOverloaded, Message: "no"})
		n.events.want(t, "message", idOf(other))
	}
	n.relay.Send(idOf(other), getPeers(1))
	if message, err := s.read(); err != nil || number(t, message) != 1 {
		t.Errorf("got %v, %v", message, err)
	}
}

func TestMessageTooBig(t *testing.T) {
	n, other := newNode(t, Config{}), newHost(t)
	for _, established := range []bool{false, true} {
		s := dial(t, n, other)
		if established {
			s.shakeHands(idOf(other))
		}
		if _, err := s.stream.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
			t.Fatal(err)
		}
		s.wantError(mediation.CodeMessageTooBig)
		s.wantEnd()
		if established {
			n.events.want(t, "gone", idOf(other))
		}
	}
	// This side's own are never written.
	s := dial(t, n, other)
	s.shakeHands(idOf(other))
	n.relay.Send(idOf(other), mediation.Signal{SignalData: mediation.NewSignalData(strings.Repeat("\x00", 2*mediation.MaxSignalData))})
	n.events.want(t, "undelivered", idOf(other))
	n.relay.Send(idOf(other), getPeers(1))
	if message, err := s.read(); err != nil || number(t, message) != 1 {
		t.Errorf("got %v, %v", message, err)
	}
}

func TestMessageCutShort(t *testing.T) {
	n, other := newNode(t, Config{MessageTimeout: 100 * time.Millisecond}), newHost(t)
	for name, end := range map[string]func(stranger){
		"silence": func(stranger) {},
		"close":   func(s stranger) { _ = s.stream.CloseWrite() },
		"reset":   func(s stranger) { _ = s.stream.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			s := dial(t, n, other)
			s.shakeHands(idOf(other))
			if _, err := s.stream.Write([]byte{0, 0, 1, 0, '{'}); err != nil {
				t.Fatal(err)
			}
			end(s)
			n.events.want(t, "gone", idOf(other))
		})
	}
}

func TestWrongStreamDisturbsNoOther(t *testing.T) {
	a, b := pair(t, Config{})
	bad := newHost(t)
	a.relay.Send(b.id, getPeers(1))
	b.events.want(t, "message", a.id)
	s := dial(t, b, bad)
	s.shakeHands(idOf(bad))
	if _, err := s.stream.Write([]byte{0xff, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	b.events.want(t, "gone", idOf(bad))
	b.relay.Send(a.id, getPeers(2))
	a.events.want(t, "message", b.id)
}

func TestStreamCaps(t *testing.T) {
	n, other, third := newNode(t, Config{MaxStreamsPerMediator: 2, MaxStreams: 3}), newHost(t), newHost(t)
	for range 2 {
		dial(t, n, other).shakeHands(idOf(other))
	}
	s := dial(t, n, other)
	s.send(mediation.Replication{MediatorID: idOf(other)})
	s.wantError(mediation.CodeOverloaded)
	s.wantEnd()
	eventually(t, "the refused stream is forgotten", func() bool {
		n.relay.mu.Lock()
		defer n.relay.mu.Unlock()
		return len(n.relay.live) == 2
	})
	dial(t, n, third).shakeHands(idOf(third))
	s = dial(t, n, third)
	s.send(mediation.Replication{MediatorID: idOf(third)})
	s.wantError(mediation.CodeOverloaded)
	if got := n.relay.Status(); got != (Status{Mediators: 2, Streams: 3}) {
		t.Errorf("status %+v", got)
	}
}

// lonely serves mediation streams by hand.
func lonely(t *testing.T, n *node, serve func(network.Stream)) host.Host {
	t.Helper()
	h := newHost(t)
	introduce(n.host, h)
	h.SetStreamHandler(mediation.StreamProtocol, serve)
	return h
}

func TestOpenerIsRefused(t *testing.T) {
	for name, answer := range map[string]func(network.Stream){
		"an error": func(s network.Stream) {
			_ = mediation.WriteTo(s, &mediation.Error{Code: mediation.CodeOverloaded, Message: "no"})
		},
		"something else": func(s network.Stream) { _ = mediation.WriteTo(s, getPeers(1)) },
		"nonsense":       func(s network.Stream) { _, _ = io.WriteString(s, "HTTP/1.1 200 OK\r\n\r\n") },
		"silence":        func(network.Stream) {},
		"reset":          func(s network.Stream) { _ = s.Reset() },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, Config{HandshakeTimeout: 100 * time.Millisecond, MessageTimeout: 100 * time.Millisecond})
			other := lonely(t, n, func(s network.Stream) {
				answer(s)
				_, _ = io.Copy(io.Discard, s)
				_ = s.Close()
			})
			for i := range 3 {
				n.relay.Send(idOf(other), getPeers(i))
			}
			for i := range 3 { // in order, and without the handler being told that a mediator was there
				if got := number(t, n.events.want(t, "undelivered", idOf(other))); got != i {
					t.Errorf("message %d came back in the place of %d", got, i)
				}
			}
		})
	}
}

// establish is the accepting side's handshake, by hand.
func establish(s network.Stream) bool {
	_, err := mediation.ReadFrom(s)
	return err == nil && mediation.WriteTo(s, mediation.Established{}) == nil
}

func TestMediatorThatNeverReads(t *testing.T) {
	n := newNode(t, Config{MessageTimeout: 100 * time.Millisecond, QueueLength: 8})
	release := make(chan struct{})
	defer close(release)
	other := lonely(t, n, func(s network.Stream) {
		if establish(s) {
			<-release
		}
		_ = s.Reset()
	})
	// More than any window takes: 40 MB.
	signal := mediation.Signal{SignalData: mediation.NewSignalData(strings.Repeat("x", mediation.MaxSignalData))}
	const messages = 640
	began := time.Now()
	for range messages {
		n.relay.Send(idOf(other), signal)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("sending to it took %v", took)
	}
	back := 0
	for back < messages-8-1 { // what does not fit into the queue comes back at once
		if got := n.events.next(t); got.kind == "undelivered" {
			back++
		}
	}
	// Another mediator is none the worse for it.
	friend := newNode(t, Config{})
	introduce(n.host, friend.host)
	n.relay.Send(friend.id, getPeers(1))
	friend.events.want(t, "message", n.id)
}

func TestNothingIsWrittenForever(t *testing.T) {
	n := newNode(t, Config{MessageTimeout: 100 * time.Millisecond, QueueLength: 100_000})
	release := make(chan struct{})
	defer close(release)
	other := lonely(t, n, func(s network.Stream) {
		if establish(s) {
			<-release
		}
		_ = s.Reset()
	})
	signal := mediation.Signal{SignalData: mediation.NewSignalData(strings.Repeat("x", mediation.MaxSignalData))}
	for range 300 { // 20 MB: more than a window
		n.relay.Send(idOf(other), signal)
	}
	for n.events.next(t).kind != "undelivered" { // the stream's end may be told first
	}
}

func TestStreamThatBreaksIsReplaced(t *testing.T) {
	n := newNode(t, Config{})
	received, end := make(chan mediation.Message, 100), make(chan struct{})
	other := lonely(t, n, func(s network.Stream) { // serves one message per stream
		if establish(s) && mediation.WriteTo(s, getPeers(0)) == nil {
			if message, err := mediation.ReadFrom(s); err == nil {
				received <- message
				<-end
			}
		}
		_ = s.Reset()
	})
	for i := range 10 {
		n.relay.Send(idOf(other), getPeers(i))
		select {
		case got := <-received:
			if number(t, got) != i {
				t.Fatalf("got %v in the place of %d", got, i)
			}
		case <-testContext(t).Done():
			t.Fatalf("message %d did not come", i)
		}
		n.events.want(t, "message", idOf(other))
		end <- struct{}{}
		n.events.want(t, "gone", idOf(other))
	}
}

// TestEarlyMessagesComeBack: what was written behind a handshake that is refused was not read, and so
// comes back, in its order, however many messages there were.
func TestEarlyMessagesComeBack(t *testing.T) {
	n := newNode(t, Config{})
	refuse := make(chan struct{})
	other := lonely(t, n, func(s network.Stream) {
		_, _ = mediation.ReadFrom(s)
		<-refuse
		_ = mediation.WriteTo(s, &mediation.Error{Code: mediation.CodeOverloaded, Message: "no"})
		_ = s.Close()
	})
	for i := range 3 {
		n.relay.Send(idOf(other), getPeers(i))
	}
	eventually(t, "all to be written", func() bool { return earlyTo(n, idOf(other)) == 3 })
	close(refuse)
	for i := range 3 {
		if got := number(t, n.events.want(t, "undelivered", idOf(other))); got != i {
			t.Errorf("message %d came back in the place of %d", got, i)
		}
	}
}

// TestMoreThanMayBeEarly: what is above that waits for the handshake's answer, and follows it in order.
func TestMoreThanMayBeEarly(t *testing.T) {
	n := newNode(t, Config{})
	received, answer := make(chan int, 3*maxEarly), make(chan struct{})
	other := lonely(t, n, func(s network.Stream) {
		if _, err := mediation.ReadFrom(s); err != nil {
			return
		}
		<-answer
		_ = mediation.WriteTo(s, mediation.Established{})
		for {
			message, err := mediation.ReadFrom(s)
			if err != nil {
				return
			}
			received <- number(t, message)
		}
	})
	for i := range 2 * maxEarly {
		n.relay.Send(idOf(other), getPeers(i))
	}
	eventually(t, "as many as may be early", func() bool { return earlyTo(n, idOf(other)) == maxEarly })
	close(answer)
	for i := range 2 * maxEarly {
		select {
		case got := <-received:
			if got != i {
				t.Fatalf("message %d came in the place of %d", got, i)
			}
		case <-testContext(t).Done():
			t.Fatalf("message %d did not come", i)
		}
	}
}

func TestQueueOverflow(t *testing.T) {
	n := newNode(t, Config{QueueLength: 3, HandshakeTimeout: time.Hour})
	greeted, proceed := make(chan struct{}), make(chan struct{})
	received := make(chan int, 100)
	other := lonely(t, n, func(s network.Stream) {
		close(greeted)
		<-proceed
		if !establish(s) {
			return
		}
		for {
			message, err := mediation.ReadFrom(s)
			if err != nil {
				_ = s.Close()
				return
			}
			full := message.(mediation.GetPeers).FullHash
			received <- int(binary.BigEndian.Uint32(full[:]))
		}
	})
	for i := range 3 {
		n.relay.Send(idOf(other), getPeers(i))
		eventually(t, "it to be written", func() bool { return earlyTo(n, idOf(other)) == i+1 })
	}
	<-greeted // so there is a stream, but no answer yet
	for i := 3; i < 10; i++ {
		n.relay.Send(idOf(other), getPeers(i))
	}
	for i := 3; i < 10; i++ {
		if got := number(t, n.events.want(t, "undelivered", idOf(other))); got != i {
			t.Errorf("message %d came back in the place of %d", got, i)
		}
	}
	close(proceed)
	for i := range 3 {
		select {
		case got := <-received:
			if got != i {
				t.Errorf("message %d came in the place of %d", got, i)
			}
		case <-testContext(t).Done():
			t.Fatalf("message %d did not come", i)
		}
	}
}

func TestCloseWhileAllIsBusy(t *testing.T) {
	n := newNode(t, Config{})
	release := make(chan struct{})
	defer close(release)
	for i := range 3 {
		other := lonely(t, n, func(s network.Stream) {
			if i == 0 || establish(s) { // 0 never answers the handshake, the others never read
				<-release
			}
			_ = s.Reset()
		})
		for range 100 {
			n.relay.Send(idOf(other), mediation.Signal{SignalData: mediation.NewSignalData(strings.Repeat("x", mediation.MaxSignalData))})
		}
	}
	dial(t, n, newHost(t)) // opened, never used
	began := time.Now()
	if err := n.relay.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("closing took %v", took)
	}
	for len(n.events) > 0 {
		<-n.events
	}
	n.relay.Send(n.id, getPeers(1))
	if err := n.relay.Close(); err != nil {
		t.Error(err)
	}
	if len(n.events) > 0 {
		t.Errorf("after Close: %v", n.events.next(t))
	}
}

// reentrant is a Handler that, as the router does, sends while it holds its lock,
// and takes the same lock in every call.
type reentrant struct {
	mu    sync.Mutex
	relay *Relay
	got   chan int
}

func (h *reentrant) HandleMediator(from ident.MediatorID, m mediation.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if get, ok := m.(mediation.GetPeers); ok {
		h.relay.Send(from, mediation.Peers(mediation.Peers{FullHash: get.FullHash}))
		return
	}
	h.got <- 1
}

func (h *reentrant) Undelivered(ident.MediatorID, mediation.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.got <- 1
}

func (h *reentrant) MediatorGone(ident.MediatorID) {
	h.mu.Lock()
	defer h.mu.Unlock()
}

func TestHandlerMaySendUnderItsLock(t *testing.T) {
	var sides [2]*reentrant
	var hosts [2]host.Host
	for i := range sides {
		hosts[i] = newHost(t)
		sides[i] = &reentrant{got: make(chan int, 10_000)}
		sides[i].mu.Lock()
		sides[i].relay = New(hosts[i], sides[i], Config{QueueLength: 10})
		sides[i].mu.Unlock()
		t.Cleanup(func() { _ = sides[i].relay.Close() })
	}
	introduce(hosts[0], hosts[1])
	const messages = 500
	for i := range sides {
		go func() {
			for n := range messages {
				sides[i].mu.Lock()
				sides[i].relay.Send(idOf(hosts[1-i]), getPeers(n))
				sides[i].mu.Unlock()
			}
		}()
	}
	for i := range sides {
		select { // each is answered or comes back; answers may be lost to overflow over there
		case <-sides[i].got:
		case <-testContext(t).Done():
			t.Fatal("stuck")
		}
	}
}

func TestNewStreamAfterAddressIsKnown(t *testing.T) {
	a, b := newNode(t, Config{}), newNode(t, Config{})
	a.relay.Send(b.id, getPeers(1))
	a.events.want(t, "undelivered", b.id)
	a.host.Peerstore().AddAddrs(b.host.ID(), b.host.Addrs(), peerstore.PermanentAddrTTL)
	a.relay.Send(b.id, getPeers(2))
	if got := number(t, b.events.want(t, "message", a.id)); got != 2 {
		t.Error(fmt.Errorf("got %d", got))
	}
}

func TestMediatorThatSaysTooMuch(t *testing.T) {
	codes := make(chan mediation.ErrorCode, 100)
	n := newNode(t, Config{MessagesPerMediator: 1, Refused: func(code mediation.ErrorCode) { codes <- code }})
	loud, calm := newHost(t), newHost(t)
	s, quiet := dial(t, n, loud), dial(t, n, calm)
	s.shakeHands(idOf(loud))
	quiet.shakeHands(idOf(calm))
	const said = 3 * limits.BurstSeconds
	for i := range said {
		s.send(getPeers(i))
	}
	signal := mediation.Signal{FullHash: hash(1), PeerID: ident.PeerID{1}, SenderID: ident.PeerID{2}, SignalData: mediation.NewSignalData("x")}
	s.send(signal)
	s.send(&mediation.Error{Code: mediation.CodePeerNotFound}) // is not answered, whatever becomes of it
	quiet.send(getPeers(said))

	refused := 0
	for {
		message, failure := s.read()
		err, is := message.(*mediation.Error)
		if failure != nil || !is || err.Code != mediation.CodeRateLimited {
			t.Fatalf("it was answered by %v, %v", message, failure)
		}
		if !err.SenderID.IsZero() {
			if err.FullHash == nil || *err.FullHash != signal.FullHash || err.PeerID != signal.PeerID || err.SenderID != signal.SenderID {
				t.Errorf("the signal was refused with %+v", err)
			}
			break
		}
		refused++
	}
	taken, others := 0, 0
	for taken+refused < said || others == 0 {
		if got := n.events.next(t); got.id == idOf(calm) {
			others++
		} else {
			taken++
		}
	}
	if taken < limits.BurstSeconds || refused == 0 {
		t.Errorf("%d were taken, %d refused", taken, refused)
	}
	if len(codes) < refused+1 {
		t.Errorf("%d refusals were counted of %d", len(codes), refused+1)
	}
}

// earlyTo is how many messages to a mediator wait for its handshake's answer.
func earlyTo(n *node, mediator ident.MediatorID) int {
	n.relay.mu.Lock()
	defer n.relay.mu.Unlock()
	if l := n.relay.links[mediator]; l != nil && l.out != nil {
		return len(l.out.early)
	}
	return 0
}
