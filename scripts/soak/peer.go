//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

const (
	// callTime bounds what a peer waits for: its connection, its announces, being told of peers.
	callTime = 20 * time.Second

	// answerTime bounds the wait for the answer to an offer. Who has just left gives none.
	answerTime = 10 * time.Second

	// heardBound is how many messages may wait for who is introduced. More are dropped: nobody
	// needs them.
	heardBound = 64
)

// wire is a peer's TCP connection, which can be made to look like that of a machine that is gone.
type wire struct {
	net.Conn
	frozen, closed     chan struct{}
	freezing, stopping sync.Once
}

// Read implements [net.Conn]. Once the wire is frozen it says nothing more, until it is closed.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	select {
	case <-w.frozen:
		<-w.closed
		return 0, net.ErrClosed
	default:
		return n, err
	}
}

// Close implements [net.Conn].
func (w *wire) Close() error {
	w.stopping.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

func (w *wire) freeze() { w.freezing.Do(func() { close(w.frozen) }) }

// dial opens a WebSocket from a local address.
func dial(ctx context.Context, url string, from net.IP) (*websocket.Conn, *wire, *http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	var tcp *wire
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).DialContext(ctx, network, to)
		if err != nil {
			return nil, err
		}
		tcp = &wire{Conn: conn, frozen: make(chan struct{}), closed: make(chan struct{})}
		return tcp, nil
	}}
	conn, response, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		return nil, nil, response, err
	}
	conn.SetReadLimit(mediation.MaxMessageSize)
	return conn, tcp, response, nil
}

// peer is one that announces contents, answers offers, and is introduced to others.
type peer struct {
	conn  *websocket.Conn
	tcp   *wire
	id    ident.PeerID
	seeds []content.FullHash
	heard chan mediation.Message // bounded by heardBound
	ready chan struct{}          // closed when all that it seeds can be found
	ended chan struct{}          // closed when the connection has
	err   error                  // why; to be read after that
	index int                    // in its crowd; -1: none. Guarded by the crowd

	unstored int         // announces that are not stored yet; owned by read
	busy     atomic.Bool // it is being introduced
}

// join connects a peer, and returns it when all that it seeds can be found. refused is told of
// errors that are nobody's fault but the mediator's.
func join(ctx context.Context, url string, from net.IP, seeds []content.FullHash, refused func(mediation.ErrorCode)) (_ *peer, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	p := &peer{
		seeds: seeds, heard: make(chan mediation.Message, heardBound), index: -1,
		ready: make(chan struct{}), ended: make(chan struct{}), unstored: len(seeds),
	}
	if p.id, err = ident.NewPeerID(rand.Reader); err != nil {
		return nil, err
	}
	if p.conn, p.tcp, _, err = dial(ctx, url, from); err != nil {
		return nil, err
	}
	go p.read(refused)
	if err := p.enter(ctx); err != nil {
		p.reset()
		return nil, err
	}
	return p, nil
}

func (p *peer) enter(ctx context.Context) error {
	if err := p.say(ctx, mediation.Handshake{PeerID: p.id}); err != nil {
		return err
	}
	for _, hash := range p.seeds {
		if err := p.say(ctx, mediation.Announce{FullHash: hash}); err != nil {
			return err
		}
	}
	if len(p.seeds) == 0 { // established is all there is to wait for
		_, err := p.hear(ctx, func(m mediation.Message) bool { return m.Type() == mediation.Established{}.Type() })
		return err
	}
	select {
	case <-p.ready:
		return nil
	case <-p.ended:
		return fmt.Errorf("the connection ended: %w", p.err)
	case <-ctx.Done():
		return errors.New("its announces are not stored in time")
	}
}

func (p *peer) say(ctx context.Context, message mediation.Message) error {
	return p.conn.Write(ctx, websocket.MessageText, mediation.Encode(message))
}

// The texts of signals, as long as those of a browser: a data channel's description.
var (
	offer  = `{"type":"offer","sdp":"` + strings.Repeat("a=candidate ", 40) + `"}`
	answer = `{"type":"answer","sdp":"` + strings.Repeat("a=candidate ", 40) + `"}`

	offered, answered = mediation.NewSignalData(offer), mediation.NewSignalData(answer)
)

// read takes what comes, and answers offers, until the connection ends.
func (p *peer) read(refused func(mediation.ErrorCode)) {
	defer close(p.ended)
	for {
		_, text, err := p.conn.Read(context.Background())
		if err != nil {
			p.err = err
			return
		}
		message, err := mediation.Decode(text)
		if err != nil {
			p.err = fmt.Errorf("the mediator sent %.100s: %w", text, err)
			return
		}
		switch m := message.(type) {
		case mediation.Announced:
			if p.unstored--; p.unstored == 0 {
				close(p.ready)
			}
			continue
		case mediation.Signal:
			if m.SignalData == offered {
				reply := mediation.Signal{FullHash: m.FullHash, PeerID: m.PeerID, SignalData: answered}
				_ = p.say(context.Background(), reply) // where it fails the next read does
				continue
			}
		case *mediation.Error:
			if m.Code != mediation.CodePeerNotFound { // that one has just left: nobody's fault
				refused(m.Code)
			}
		}
		select {
		case p.heard <- message:
		default:
		}
	}
}

// hear returns the first message that is wanted.
func (p *peer) hear(ctx context.Context, wanted func(mediation.Message) bool) (mediation.Message, error) {
	for {
		select {
		case message := <-p.heard:
			if wanted(message) {
				return message, nil
			}
		case <-p.ended:
			return nil, p.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// errMissed says that the one to be introduced to has left meanwhile.
var errMissed = errors.New("whoever it was has left")

// unanswered says that one who was named does not answer.
type unanswered struct{ id ident.PeerID }

func (u unanswered) Error() string { return "no answer came from " + u.id.Short() }

// introduce has the peer find a seeder of the content, and exchange an offer and an answer
// with it. It waits on for others, unless it is to forget.
func (p *peer) introduce(ctx context.Context, hash content.FullHash, forget bool) error {
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	for len(p.heard) > 0 { // what came of earlier ones
		<-p.heard
	}
	if forget {
		defer func() { _ = p.say(whole, mediation.Finish{FullHash: hash}) }() // where it fails, read has, too
	}
	if err := p.say(ctx, mediation.GetPeers{FullHash: hash}); err != nil {
		return err
	}
	named, err := p.hear(ctx, func(m mediation.Message) bool {
		peers, is := m.(mediation.Peers)
		return is && peers.FullHash == hash
	})
	if err != nil {
		return fmt.Errorf("waiting for peers: %w", err)
	}
	others := slices.DeleteFunc(slices.Clone(named.(mediation.Peers).Peers), func(id ident.PeerID) bool { return id == p.id })
	if len(others) == 0 {
		return errMissed
	}
	if err := p.say(ctx, mediation.Signal{FullHash: hash, PeerID: others[0], SignalData: offered}); err != nil {
		return err
	}
	waiting, enough := context.WithTimeout(ctx, answerTime)
	defer enough()
	reply, err := p.hear(waiting, func(m mediation.Message) bool {
		switch m := m.(type) {
		case mediation.Signal:
			return m.PeerID == others[0] && m.FullHash == hash
		case *mediation.Error:
			return m.PeerID == others[0]
		}
		return false
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return unanswered{others[0]}
	}
	if err != nil {
		return fmt.Errorf("waiting for an answer: %w", err)
	}
	if refusal, is := reply.(*mediation.Error); is {
		if refusal.Code == mediation.CodePeerNotFound {
			return errMissed
		}
		return refusal
	}
	return nil
}

// The ways to leave. Each ends read, at last.

// close says goodbye, as a page does that is closed.
func (p *peer) close() {
	_ = p.conn.Close(websocket.StatusNormalClosure, "") // the other side may be gone
	<-p.ended
}

// reset ends the connection without a word, as a program does that is killed.
func (p *peer) reset() {
	_ = p.conn.CloseNow()
	<-p.ended
}

// vanish says nothing any more and answers nothing, as a machine does that lost its network:
// the mediator must find out. reset takes back what is kept here.
func (p *peer) vanish() { p.tcp.freeze() }
