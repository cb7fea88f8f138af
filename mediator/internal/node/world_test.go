package node

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// go-libp2p's swarm and QUIC start these once for the process and never end them.
		goleak.IgnoreAnyFunction("github.com/quic-go/quic-go.(*Transport).listen"),
		goleak.IgnoreAnyFunction("github.com/libp2p/go-libp2p/p2p/transport/quicreuse.(*reuse).gc"),
		goleak.IgnoreTopFunction("github.com/ipfs/go-log/v2/writer.(*MirrorWriter).logRoutine"),
		goleak.IgnoreTopFunction("go.opencensus.io/stats/view.(*worker).start"),
	)
}

// patience bounds every wait of these tests, which have real networks in them
// and run on busy machines.
const patience = 30 * time.Second

func quiet() *slog.Logger {
	if os.Getenv("P2PCDN_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func loopback(t *testing.T, bootstrap ...string) Config {
	return Config{DataDir: t.TempDir(), Listen: "127.0.0.1", Bootstrap: bootstrap, Logger: quiet(), Version: "test"}
}

// start starts a mediator on free ports; it is closed at the end of the test.
func start(t *testing.T, config Config) *Node {
	t.Helper()
	n, err := New(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	ctx, stop := context.WithCancel(context.Background())
	go func() { ran <- n.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ran; err != nil {
			t.Errorf("it ended with %v", err)
		}
	})
	return n
}

// mediators starts so many mediators; all join by the HTTP side of the first.
func mediators(t *testing.T, size int) []*Node {
	t.Helper()
	nodes := []*Node{start(t, loopback(t))}
	for len(nodes) < size {
		nodes = append(nodes, start(t, loopback(t, nodes[0].Addr().String())))
	}
	for _, n := range nodes {
		eventually(t, "the mediator has joined", func() bool { return n.Status().Discovery.Peers >= min(1, size-1) })
	}
	return nodes
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// peer is a real WebSocket client.
type peer struct {
	t    *testing.T
	id   ident.PeerID
	conn *websocket.Conn
	got  chan mediation.Message // closed when the connection has ended
	err  error                  // why; to be read after that
}

// connect opens a connection and shakes hands.
func connect(t *testing.T, n *Node) *peer {
	t.Helper()
	id, err := ident.NewPeerID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := open(t, n)
	p.id = id
	p.say(mediation.Handshake{PeerID: id})
	if _, is := p.next().(mediation.Established); !is {
		t.Fatal("the handshake was not accepted")
	}
	return p
}

func open(t *testing.T, n *Node) *peer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+n.Addr().String()+mediation.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(mediation.MaxMessageSize)
	p := &peer{t: t, conn: conn, got: make(chan mediation.Message, 1000)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(p.got)
		for {
			_, text, err := conn.Read(context.Background())
			if err != nil {
				p.err = err
				return
			}
			message, err := mediation.Decode(text)
			if err != nil {
				t.Errorf("a mediator sent %s: %v", text, err)
				return
			}
			p.got <- message
		}
	}()
	t.Cleanup(func() {
		_ = conn.CloseNow()
		<-done
	})
	return p
}

func (p *peer) say(message mediation.Message) { p.raw(mediation.Encode(message)) }

func (p *peer) raw(text []byte) {
	p.t.Helper()
	if err := p.conn.Write(p.t.Context(), websocket.MessageText, text); err != nil {
		p.t.Fatal(err)
	}
}

// next returns the next message.
func (p *peer) next() mediation.Message {
	p.t.Helper()
	select {
	case message, more := <-p.got:
		if !more {
			p.t.Fatalf("the connection has ended: %v", p.err)
		}
		return message
	case <-time.After(patience):
		p.t.Fatal("no message came")
		return nil
	}
}

// vanish ends the connection without a word.
func (p *peer) vanish() { _ = p.conn.CloseNow() }

func (p *peer) announce(hash content.FullHash) {
	p.t.Helper()
	p.say(mediation.Announce{FullHash: hash})
	if got := p.next(); got != mediation.Message(mediation.Announced{FullHash: hash}) {
		p.t.Fatalf("an announce was answered by %v", show(got))
	}
}

// finds asks for a content until it is told of the peer.
func (p *peer) finds(hash content.FullHash, seeder *peer) {
	p.t.Helper()
	p.say(mediation.GetPeers{FullHash: hash})
	p.told(hash, seeder)
}

// told waits until the peer is named.
func (p *peer) told(hash content.FullHash, seeder *peer) {
	p.t.Helper()
	for {
		if m, is := p.next().(mediation.Peers); is && m.FullHash == hash {
			for _, id := range m.Peers {
				if id == seeder.id {
					return
				}
			}
		}
	}
}

// findsNobody asks for a content and fails unless the search ends with nobody.
func (p *peer) findsNobody(hash content.FullHash) {
	p.t.Helper()
	p.say(mediation.GetPeers{FullHash: hash})
	if m, is := p.next().(mediation.Peers); !is || m.FullHash != hash || len(m.Peers) != 0 {
		p.t.Fatalf("it was told %v", show(m))
	}
	p.say(mediation.Finish{FullHash: hash})
}

// refused fails unless the next message is an error of that code.
func (p *peer) refused(code mediation.ErrorCode) *mediation.Error {
	p.t.Helper()
	message := p.next()
	if err, is := message.(*mediation.Error); is && err.Code == code {
		return err
	}
	p.t.Fatalf("got %s instead of error %s", show(message), code)
	return nil
}

func show(message mediation.Message) string { return fmt.Sprintf("%.300s", mediation.Encode(message)) }

func hashOf(n byte) content.FullHash { return content.FullHash{0: 0xc0, 31: n} }
