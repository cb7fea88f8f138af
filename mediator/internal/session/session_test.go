package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
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

func (p *pipe) Read(take func(text []byte)) error {
	select {
	case in := <-p.in:
		if err, is := in.(error); is {
			return err
		}
		text := slices.Clone(in.([]byte))
		take(text)
		clear(text) // it must not have been kept
		return nil
	case <-p.closed:
		return io.EOF
	}
}

func (p *pipe) Write(text []byte, within time.Duration) error {
	select {
	case p.out <- string(text):
		return nil
	case <-p.closed:
		return io.ErrClosedPipe
	case <-time.After(within):
		return os.ErrDeadlineExceeded
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
	last        mediation.Message // that came
}

func (e *echo) Receive(message mediation.Message) {
	e.last = message
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
	done    chan struct{}
}

func start(t *testing.T, config Config) *rig {
	t.Helper()
	config.Logger = slog.New(slog.DiscardHandler)
	r := &rig{pipe: newPipe(), done: make(chan struct{})}
	r.session = New(r.pipe, config)
	go func() {
		defer close(r.done)
		r.session.Run(func(s *Session) Peer {
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

// A mediator may shut down between a connection's upgrade and its service.
func TestEndBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, peer := newPipe(), &echo{}
		session := New(p, Config{Logger: slog.New(slog.DiscardHandler)})
		session.End(&mediation.Error{Code: mediation.CodeGoingAway, Message: "the mediator shuts down"})
		done := make(chan struct{})
		go func() {
			defer close(done)
			session.Run(func(*Session) Peer { return peer })
		}()
		if got := <-p.out; !strings.Contains(got, "going_away") {
			t.Errorf("it is told %s", got)
		}
		<-done
		if reason := p.closedFor(); reason == nil || *reason != mediation.CodeGoingAway || peer.detached != 1 {
			t.Errorf("it was closed for %v, and detached %d times", reason, peer.detached)
		}
		time.Sleep(2 * DefaultPingInterval) // of the bubble
		if p.pings != 0 {
			t.Errorf("%d pings to a connection that has ended", p.pings)
		}
	})
}

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
		r.in <- io.EOF
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
		for range 20 { // each counts for more than 100 bytes, and nobody reads
			select {
			case r.in <- getPeers:
			case <-r.done:
			}
		}
		r.over(t, mediation.CodeSlowReader)
	})
}

// A peer that floods is not listened to while it does not take what it is told.
func TestFloodWaitsForItsAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most = 100
		r := start(t, Config{Messages: 1, Lookups: limits.Off, MaxQueued: 10_000})
		r.in <- handshake
		r.expect(t, "established")
		taken := 0
		flood := func() {
			for range most {
				synctest.Wait()
				select {
				case r.in <- getPeers:
					taken++
				default:
					return
				}
			}
		}
		flood()
		if taken == most || r.closedFor() != nil {
			t.Fatalf("%d were taken, and it was cut off: %v", taken, r.closedFor())
		}
		was := taken
		for range was {
			if text := <-r.out; !strings.Contains(text, "rate_limited") && !strings.Contains(text, `"peers"`) {
				t.Errorf("it was told %s", text)
			}
		}
		if flood(); taken < was+was/2 {
			t.Errorf("%d and then %d were taken", was, taken-was)
		}
		time.Sleep(DefaultWriteTimeout)
		r.over(t, mediation.CodeSlowReader)
	})
}

// A peer that takes what it is told, however slowly, is not asked whether it is there while it is not listened to.
func TestSlowButSteadyReaderStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{MaxQueued: 10_000})
		r.mu.Lock()
		r.alive = false // its pongs stand behind what is not read
		r.mu.Unlock()
		r.in <- handshake
		r.expect(t, "established")
		full := func() bool {
			r.session.mu.Lock()
			defer r.session.mu.Unlock()
			return r.session.full()
		}
		for !full() {
			r.in <- getPeers
			synctest.Wait()
		}
		for began := time.Now(); time.Since(began) < 2*DefaultPingInterval+DefaultPingTimeout; {
			time.Sleep(5 * time.Second)
			if reason := r.closedFor(); reason != nil {
				t.Fatalf("after %v it was cut off: %q", time.Since(began), *reason)
			}
			r.expect(t, `"peers"`)
			select {
			case r.in <- getPeers:
			default:
			}
			synctest.Wait()
		}
		r.Close("")
		r.over(t, "")
	})
}

func TestStrangersCannotHaveAPeerCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{MaxQueued: 2000})
		r.in <- handshake
		r.expect(t, "established")
		refused := 0
		for range 100 { // each counts for more than 100 bytes, and nobody reads
			if !r.session.Offer(mediation.Signal{SignalData: mediation.NewSignalData("x")}) {
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
		if !r.session.Offer(mediation.Signal{SignalData: mediation.NewSignalData("y")}) {
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
		r := start(t, Config{Messages: 10, Lookups: limits.Off})
		r.in <- handshake
		r.expect(t, "established")
		for range 10*limits.BurstSeconds - 1 {
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

// counts is an Observer that counts.
type counts struct {
	mu       sync.Mutex
	received map[string]int
	refused  map[mediation.ErrorCode]int
}

func newCounts() *counts {
	return &counts{received: make(map[string]int), refused: make(map[mediation.ErrorCode]int)}
}

func (c *counts) Received(message mediation.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.received[message.Type()]++
}

func (c *counts) Refused(code mediation.ErrorCode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused[code]++
}

func TestLookupsAndSignalsHaveRatesOfTheirOwn(t *testing.T) {
	signal := func(bytes int) []byte {
		return mediation.Encode(mediation.Signal{FullHash: content.FullHash{4}, PeerID: ident.PeerID{5}, SignalData: mediation.NewSignalData(strings.Repeat("a", bytes))})
	}
	for _, c := range []struct {
		name    string
		config  Config
		message []byte
		burst   int
		again   time.Duration // after which one more is taken
	}{
		{"lookups", Config{Lookups: 2}, getPeers, 2 * limits.BurstSeconds, time.Second / 2},
		{"signals", Config{Signals: 3}, signal(1), 3 * limits.BurstSeconds, time.Second / 3},
		{"bytes of signals", Config{SignalBytes: 10_000}, signal(50_000), 10_000 * limits.BurstSeconds / 50_000, 5 * time.Second},
		{"one signal of the largest size", Config{SignalBytes: 1}, signal(mediation.MaxSignalData), 1, mediation.MaxSignalData * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				observer := newCounts()
				config := c.config
				config.Observer, config.HandshakeTimeout = observer, limits.Off
				r := start(t, config)
				refused := func() bool {
					r.in <- c.message
					synctest.Wait()
					select {
					case text := <-r.out:
						return strings.Contains(text, "rate_limited")
					default: // the peer of these tests does not answer a signal
						return false
					}
				}
				for n := range c.burst {
					if refused() {
						t.Fatalf("number %d of %d is refused", n, c.burst)
					}
				}
				if !refused() {
					t.Error("one more is not")
				}
				r.in <- handshake // what else the peer says is not concerned
				r.expect(t, "established")
				time.Sleep(c.again + time.Millisecond)
				if refused() {
					t.Errorf("nor is one taken after %v", c.again)
				}
				r.in <- io.EOF
				r.over(t, "")
				if observer.refused[mediation.CodeRateLimited] != 1 || observer.received["handshake"] != 1 {
					t.Errorf("it counted %v refused, %v received", observer.refused, observer.received)
				}
			})
		})
	}
}

// An offer counts as a signal, and where it is one too many the question that it came with is asked without it.
func TestOfferAboveTheRateIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{Signals: 1})
		r.in <- handshake
		r.expect(t, "established")
		for n := range 2 * limits.BurstSeconds {
			r.in <- mediation.Encode(mediation.GetPeers{FullHash: content.FullHash{1}, Offer: mediation.NewSignalData("x")})
			r.expect(t, `"peers"`)
			if asked := r.peer.last.(mediation.GetPeers); asked.Offer.Len() > 0 != (n < limits.BurstSeconds) {
				t.Errorf("question %d has an offer of %d bytes", n, asked.Offer.Len())
			}
		}
		r.in <- io.EOF
		r.over(t, "")
	})
}

func TestLimitsThatAreOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{
			HandshakeTimeout: limits.Off, MaxErrors: limits.Off, Messages: limits.Off,
			Lookups: limits.Off, Signals: limits.Off, SignalBytes: limits.Off, MaxQueued: limits.Off,
		})
		time.Sleep(time.Hour)
		for range 10 * DefaultMaxErrors {
			r.in <- []byte("nonsense")
			r.expect(t, "bad_message")
		}
		r.in <- handshake
		r.expect(t, "established")
		for range DefaultMessages * limits.BurstSeconds * 2 {
			r.in <- getPeers
			r.expect(t, `"peers"`)
		}
		for range 2 * DefaultMaxQueued / mediation.MaxSignalData {
			r.session.Send(mediation.Signal{SignalData: mediation.NewSignalData(strings.Repeat("a", mediation.MaxSignalData))})
			if !r.session.Offer(mediation.Signal{}) {
				t.Error("there is no room")
			}
		}
		r.in <- io.EOF
		r.over(t, "")
	})
}

func TestEveryRefusalIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		observer := newCounts()
		r := start(t, Config{Observer: observer, MaxErrors: 3})
		for range 3 {
			r.in <- []byte(`{"type":"what"}`)
			r.expect(t, "unknown_type")
		}
		r.expect(t, "too_many_errors")
		r.over(t, mediation.CodeTooManyErrors)
		slow := start(t, Config{Observer: observer, MaxQueued: 10})
		synctest.Wait() // it runs
		slow.session.Send(mediation.Established{})
		slow.over(t, mediation.CodeSlowReader)
		late := start(t, Config{Observer: observer})
		time.Sleep(DefaultHandshakeTimeout)
		late.expect(t, "handshake_timeout")
		late.over(t, mediation.CodeHandshakeTimeout)
		want := map[mediation.ErrorCode]int{
			mediation.CodeUnknownType: 3, mediation.CodeTooManyErrors: 1, mediation.CodeSlowReader: 1, mediation.CodeHandshakeTimeout: 1,
		}
		if !maps.Equal(observer.refused, want) {
			t.Errorf("it counted %v", observer.refused)
		}
	})
}

func TestStuckWriteEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, Config{})
		r.in <- handshake
		time.Sleep(DefaultWriteTimeout)
		r.over(t, mediation.CodeSlowReader)
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
