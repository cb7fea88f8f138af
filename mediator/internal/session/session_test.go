package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pipe is a Transport in memory; the test is its other side.
type pipe struct {
	in     chan any // []byte or error
	out    chan string
	closed chan struct{}

	mu     sync.Mutex
	alive  bool                 // answers pings
	reason *mediation.ErrorCode // why it was closed first
	pings  int
}

func newPipe() *pipe {
	return &pipe{in: make(chan any), out: make(chan string), closed: make(chan struct{}), alive: true}
}

func (p *pipe) Read(ctx context.Context) ([]byte, error) {
	select {
	case in := <-p.in:
		if err, is := in.(error); is {
			return nil, err
		}
		return in.([]byte), nil
	case <-p.closed:
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *pipe) Write(ctx context.Context, text []byte) error {
	select {
	case p.out <- string(text):
		return nil
	case <-p.closed:
		return io.ErrClosedPipe
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pipe) Ping(ctx context.Context) error {
	p.mu.Lock()
	p.pings++
	alive := p.alive
	p.mu.Unlock()
	if alive {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (p *pipe) Close(reason mediation.ErrorCode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reason == nil {
		p.reason = &reason
		close(p.closed)
	}
}

// closedFor returns why the pipe was closed, nil if it was not.
func (p *pipe) closedFor() *mediation.ErrorCode {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reason
}

// echo is a Peer that answers get_peers with peers.
type echo struct {
	session     *Session
	established bool
	detached    int
}

func (e *echo) Receive(message mediation.Message) {
	switch m := message.(type) {
	case mediation.Handshake:
		e.established = true
		e.session.Send(mediation.Established{})
	case mediation.GetPeers:
		e.session.Send(mediation.Peers{FullHash: m.FullHash})
	}
}

func (e *echo) Established() bool { return e.established }
func (e *echo) Detach()           { e.detached++ }

type rig struct {
	*pipe
	session *Session
	peer    *echo
	cancel  context.CancelFunc
	done    chan struct{}
}

func start(t *testing.T, config Config) *rig {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	r := &rig{pipe: newPipe(), done: make(chan struct{})}
	r.session = New(r.pipe, config)
	ctx, cancel := context.WithCancel(t.Context())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.session.Run(ctx, func(s *Session) Peer {
			r.peer = &echo{session: s}
			return r.peer
		})
	}()
	return r
}

var (
	handshake = mediation.Encode(mediation.Handshake{PeerID: ident.PeerID{1}})
	getPeers  = mediation.Encode(mediation.GetPeers{FullHash: content.FullHash{1}})
)

func (r *rig) expect(t *testing.T, part string) {
	t.Helper()
	if got := <-r.out; !strings.Contains(got, part) {
		t.Fatalf("got %s instead of %s", got, part)
	}
}

// over fails unless Run has returned, the peer is detached once, and the
// connection was closed for that reason.
func (r *rig) over(t *testing.T, reason mediation.ErrorCode) {
	t.Helper()
	synctest.Wait()
	select {
	case <-r.done:
	default:
		t.Fatal("it has not ended")
	}
	if got := r.closedFor(); got == nil || *got != reason {
		t.Errorf("closed for %v instead of %q", got, reason)
	}
	if r.peer.detached != 1 {
		t.Errorf("detached %d times", r.peer.detached)
	}
}

func TestMessagesGoBothWaysInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		r.in <- handshake
		r.expect(t, "established")
		for n := range byte(10) {
			r.in <- mediation.Encode(mediation.GetPeers{FullHash: content.FullHash{n}})
		}
		for n := range byte(10) {
			r.expect(t, content.FullHash{n}.String())
		}
		synctest.Wait()
		r.session.mu.Lock()
		if r.session.writing || r.session.queued != 0 {
			t.Error("the writer outlived its work")
		}
		r.session.mu.Unlock()
		r.in <- io.EOF
		r.over(t, "")
	})
}

func TestNoHandshakeInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		begin := time.Now()
		r.expect(t, "handshake_timeout")
		if waited := time.Since(begin); waited != DefaultHandshakeTimeout {
			t.Errorf("it waited %v", waited)
		}
		r.over(t, mediation.CodeHandshakeTimeout)
	})
}

func TestHandshakeInTimeStaysConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		time.Sleep(DefaultHandshakeTimeout - time.Second)
		r.in <- handshake
		r.expect(t, "established")
		time.Sleep(time.Hour)
		if r.closedFor() != nil {
			t.Error("it was closed")
		}
		if r.pings != int(time.Hour/DefaultPingInterval) {
			t.Errorf("%d pings in an hour", r.pings)
		}
		r.cancel()
		r.over(t, "")
	})
}

func TestVanishedPeerIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		r.in <- handshake
		r.expect(t, "established")
		r.mu.Lock()
		r.alive = false
		r.mu.Unlock()
		time.Sleep(time.Minute)
		r.over(t, "")
	})
}

func TestMalformedMessagesAreToldAndDisturbNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{MaxErrors: 5})
		r.in <- handshake
		r.expect(t, "established")
		for range 20 { // never five in a row
			r.in <- []byte("nonsense")
			r.expect(t, "bad_message")
			r.in <- error(&mediation.Error{Code: mediation.CodeBadMessage, Message: "a binary frame"})
			r.expect(t, "a binary frame")
			r.in <- []byte(`{"type":"dance"}`)
			r.expect(t, "unknown_type")
			r.in <- getPeers
			r.expect(t, "peers")
		}
		for range 5 {
			r.in <- []byte("nonsense")
			r.expect(t, "bad_message")
		}
		r.expect(t, "too_many_errors")
		r.over(t, mediation.CodeTooManyErrors)
	})
}

func TestMessageTooBigEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		r.in <- error(&mediation.Error{Code: mediation.CodeMessageTooBig, Message: "x"})
		r.expect(t, "message_too_big")
		r.over(t, mediation.CodeMessageTooBig)
	})
}

func TestSlowReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{MaxQueued: 1000})
		r.in <- handshake
		for range 20 { // about 100 bytes each, and nobody reads
			select {
			case r.in <- getPeers:
			case <-r.done:
			}
		}
		r.over(t, mediation.CodeSlowReader)
	})
}

func TestStrangersCannotHaveAPeerCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{MaxQueued: 2000})
		r.in <- handshake
		r.expect(t, "established")
		refused := 0
		for range 100 { // about 150 bytes each, and nobody reads
			if !r.session.Offer(mediation.Signal{SignalData: "x"}) {
				refused++
			}
		}
		if refused < 90 || refused == 100 {
			t.Errorf("%d of 100 were refused", refused)
		}
		r.in <- getPeers // there is room for what it asks for itself
		for range 100 - refused {
			r.expect(t, "signal")
		}
		r.expect(t, "peers")
		if !r.session.Offer(mediation.Signal{SignalData: "y"}) {
			t.Error("there is no room again")
		}
		r.expect(t, `"y"`)
		r.in <- io.EOF
		r.over(t, "")
		if !r.session.Offer(mediation.Signal{}) {
			t.Error("after the end somebody is to be told of it")
		}
	})
}

func TestTooManyMessagesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{Messages: 10, Burst: 5})
		r.in <- handshake
		r.expect(t, "established")
		for range 4 {
			r.in <- getPeers
			r.expect(t, `"peers"`)
		}
		for text, about := range map[string]string{
			string(getPeers): content.FullHash{1}.String(),
			string(mediation.Encode(mediation.Announce{FullHash: content.FullHash{2}})):                        content.FullHash{2}.String(),
			string(mediation.Encode(mediation.Finish{FullHash: content.FullHash{3}})):                          content.FullHash{3}.String(),
			string(mediation.Encode(mediation.Signal{FullHash: content.FullHash{4}, PeerID: ident.PeerID{5}})): ident.PeerID{5}.String(),
		} {
			r.in <- []byte(text)
			if got := <-r.out; !strings.Contains(got, "rate_limited") || !strings.Contains(got, about) {
				t.Errorf("got %s", got)
			}
		}
		time.Sleep(time.Second / 10)
		r.in <- getPeers
		r.expect(t, `"peers"`)
		r.in <- getPeers
		r.expect(t, "rate_limited")
		r.in <- io.EOF
		r.over(t, "")
	})
}

func TestStuckWriteEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		r.in <- handshake
		time.Sleep(DefaultWriteTimeout)
		r.over(t, "")
	})
}

func TestEndTellsWhyBehindWhatIsQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		r.in <- handshake
		r.in <- getPeers
		synctest.Wait()
		r.session.End(&mediation.Error{Code: mediation.CodeGoingAway, Message: "x"})
		r.session.End(&mediation.Error{Code: mediation.CodeOverloaded, Message: "y"})
		r.session.Send(mediation.Established{}) // dropped
		r.expect(t, "established")
		r.expect(t, "peers")
		r.expect(t, "going_away")
		r.over(t, mediation.CodeGoingAway)
	})
}

func TestEndDoesNotWaitForASlowReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		r.in <- handshake
		r.session.End(&mediation.Error{Code: mediation.CodeGoingAway, Message: "x"})
		time.Sleep(flushTime)
		r.over(t, mediation.CodeGoingAway)
	})
}

func TestSendFromManyGoroutinesWhileItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		var senders sync.WaitGroup
		for range 20 {
			senders.Go(func() {
				for range 20 {
					r.session.Send(mediation.Established{})
				}
			})
		}
		r.in <- errors.New("reset by peer")
		go func() {
			for {
				select {
				case <-r.out:
				case <-r.done:
					return
				}
			}
		}()
		senders.Wait()
		r.over(t, "")
	})
}
