package rtc

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/common/timeline"
)

func TestMain(m *testing.M) {
	if os.Getenv(victimVariable) != "" {
		victim()
		return
	}
	goleak.VerifyTestMain(m)
}

// patience bounds every wait in these tests; a connection over loopback takes
// a fraction of a second.
const patience = 20 * time.Second

// greeting is what every side says first of all, as peers do; the other does not record it.
const greeting = "greeting"

// side is one peer of a test: a Handler that records, and hands its signals to send.
type side struct {
	t      testing.TB
	conn   *Conn
	send   func(Signal)
	silent bool // it does not greet
	opened chan int
	frames chan []byte
	gate   chan struct{} // not nil: Frame waits for it to be closed
	closed chan error

	mu        sync.Mutex
	closes    int              // guarded by mu
	phases    []timeline.Phase // guarded by mu
	elsewhere func(Signal)     // guarded by mu; nil: signals go to send
}

func newSide(t testing.TB) *side {
	return &side{t: t, opened: make(chan int, 1), frames: make(chan []byte, 4096), closed: make(chan error, 1)}
}

func (s *side) Signal(data string) {
	signal, err := ParseSignal(data)
	if err != nil {
		s.t.Errorf("an own signal does not parse: %v: %s", err, data)
		return
	}
	s.mu.Lock()
	send := s.elsewhere
	s.mu.Unlock()
	if send == nil {
		send = s.send
	}
	send(signal)
}

func (s *side) Reached(phase timeline.Phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phases = append(s.phases, phase)
}

// reached returns the phases so far.
func (s *side) reached() []timeline.Phase {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.phases)
}

func (s *side) Opened(maxFrame int) {
	if !s.silent {
		_ = s.conn.Send([]byte(greeting)) // the other may be gone again
	}
	s.opened <- maxFrame
}

func (s *side) Frame(frame []byte) {
	if string(frame) == greeting {
		return
	}
	if s.gate != nil {
		<-s.gate
	}
	s.frames <- bytes.Clone(frame)
}

func (s *side) Closed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closes++
	if s.closes > 1 {
		s.t.Error("Closed was called again")
		return
	}
	s.closed <- err
}

func (s *side) waitOpen() int {
	s.t.Helper()
	return wait(s.t, s.opened, "the channel to open")
}

func (s *side) waitClosed() error {
	s.t.Helper()
	return wait(s.t, s.closed, "the connection to close")
}

func wait[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	select {
	case value := <-c:
		return value
	case <-time.After(patience):
		t.Fatalf("waited too long for %s", what)
		panic("unreachable")
	}
}

var (
	lowID  = ident.PeerID{1}
	highID = ident.PeerID{2}
)

// pair returns an offerer and an answerer whose signals reach each other.
func pair(t testing.TB, config Config) (a, b *side) { return gatedPair(t, config, nil) }

// gatedPair returns a pair whose answerer reads nothing before the gate is closed.
func gatedPair(t testing.TB, config Config, gate chan struct{}) (a, b *side) {
	a, b = newSide(t), newSide(t)
	b.gate = gate
	introduce(New(config), a, b)
	return a, b
}

// introduce lets a offer and b answer.
func introduce(transport *Transport, a, b *side) {
	ready := make(chan struct{}) // both conns are set
	a.send = func(s Signal) { <-ready; b.conn.Signal(s) }
	b.send = func(s Signal) { <-ready; a.conn.Signal(s) }
	a.conn = transport.Connect(Peering{Local: lowID, Remote: highID, Offerer: true, Handler: a})
	b.conn = transport.Connect(Peering{Local: highID, Remote: lowID, Handler: b})
	close(ready)
}

func (s *side) end() {
	s.t.Helper()
	s.conn.Close(nil)
	s.waitClosed()
}

func TestFramesBothWays(t *testing.T) {
	a, b := pair(t, Config{})
	if got := a.waitOpen(); got != 64<<10 {
		t.Errorf("max frame %d", got)
	}
	if got := b.waitOpen(); got != 64<<10 {
		t.Errorf("max frame %d", got)
	}
	for _, size := range []int{1, 3, 16 << 10, 64<<10 - 1, 64 << 10} {
		for _, way := range [][2]*side{{a, b}, {b, a}} {
			frame := bytes.Repeat([]byte{byte(size), 7}, size)[:size]
			if err := way[0].conn.Send(frame); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			if got := wait(t, way[1].frames, "a frame"); !bytes.Equal(got, frame) {
				t.Fatalf("%d bytes came as %d others", size, len(got))
			}
		}
	}
	a.end()
	if err := b.waitClosed(); !errors.Is(err, ErrClosedByPeer) {
		t.Errorf("the other side ended with %v", err)
	}
}

// A browser may lose what comes before it knows that its channel is open, so the
// answerer waits for the offerer's first frame.
func TestTheOffererSpeaksFirst(t *testing.T) {
	transport := New(Config{ConnectTimeout: time.Hour})
	a, b := newSide(t), newSide(t)
	a.silent = true
	introduce(transport, a, b)
	a.waitOpen()
	until(t, func() bool { return a.conn.open().BufferedAmount() == 0 }, "the channel's opening to arrive")
	if err := b.conn.Send([]byte("too early")); !errors.Is(err, ErrNotOpen) {
		t.Errorf("Send before the offerer spoke: %v", err)
	}
	if len(b.opened) != 0 {
		t.Error("open before the offerer spoke")
	}
	if err := a.conn.Send([]byte("first")); err != nil {
		t.Fatal(err)
	}
	b.waitOpen()
	if got := string(wait(t, b.frames, "the first frame")); got != "first" {
		t.Errorf("got %q", got)
	}
	a.end()
	b.waitClosed()
}

func TestFramesKeepTheirOrder(t *testing.T) {
	a, b := pair(t, Config{})
	a.waitOpen()
	b.waitOpen()
	const n = 2000
	for i := range n {
		if !a.conn.Room() {
			t.Fatal("closed")
		}
		if err := a.conn.Send([]byte(fmt.Sprint(i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		if got := string(wait(t, b.frames, "a frame")); got != fmt.Sprint(i) {
			t.Fatalf("frame %s instead of %d", got, i)
		}
	}
	a.end()
	b.waitClosed()
}

// What was sent before Close arrives: a goodbye must not be lost.
func TestCloseSendsWhatWaits(t *testing.T) {
	a, b := pair(t, Config{})
	a.waitOpen()
	b.waitOpen()
	for i := range 4 {
		if err := a.conn.Send(bytes.Repeat([]byte{byte(i)}, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	a.conn.Close(nil)
	for i := range 4 {
		if got := wait(t, b.frames, "a frame"); got[0] != byte(i) || len(got) != 1000 {
			t.Fatalf("frame %d is another", i)
		}
	}
	a.waitClosed()
	b.waitClosed()
}

// An answerer that gets candidates before any offer keeps them: it has no session yet.
func TestCandidatesBeforeTheDescriptionWait(t *testing.T) {
	transport := New(Config{})
	a, b := newSide(t), newSide(t)
	var mu sync.Mutex
	var offer *Signal
	candidates := 0
	done := make(chan struct{})
	ready := make(chan struct{})
	a.send = func(s Signal) { // the offer comes last of all
		<-ready
		mu.Lock()
		defer mu.Unlock()
		switch {
		case s.Kind == Offer:
			offer = &s
		case s.Candidate == nil:
			b.conn.Signal(s)
			b.conn.Signal(*offer)
			close(done)
		default:
			candidates++
			b.conn.Signal(s)
		}
	}
	b.send = func(s Signal) { // and the answerer gives none of its own candidates
		<-ready
		if s.Kind == Answer {
			a.conn.Signal(s)
		}
	}
	a.conn = transport.Connect(Peering{Local: lowID, Remote: highID, Offerer: true, Handler: a})
	b.conn = transport.Connect(Peering{Local: highID, Remote: lowID, Handler: b})
	close(ready)
	wait(t, done, "the candidates")
	a.waitOpen()
	b.waitOpen()
	if candidates == 0 {
		t.Error("no candidate was trickled")
	}
	a.end()
	b.waitClosed()
}

func TestGlare(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("late=%v", late), func(t *testing.T) {
			transport := New(Config{})
			low, high := newSide(t), newSide(t)
			ready := make(chan struct{})
			offers := make(chan string, 4)
			held := make(chan struct{}) // late: the lower side's offer comes after the other's was ignored
			seen := sync.OnceFunc(func() { close(held) })
			low.send = func(s Signal) {
				<-ready
				if s.Kind == Offer {
					offers <- "low"
					if late {
						<-held
					}
				}
				high.conn.Signal(s)
			}
			high.send = func(s Signal) {
				<-ready
				if s.Kind == Offer {
					offers <- "high"
				}
				low.conn.Signal(s)
				if s.Kind == Offer {
					seen()
				}
			}
			low.conn = transport.Connect(Peering{Local: lowID, Remote: highID, Offerer: true, Handler: low})
			high.conn = transport.Connect(Peering{Local: highID, Remote: lowID, Offerer: true, Handler: high})
			close(ready)
			low.waitOpen()
			high.waitOpen()
			if len(offers) != 2 {
				t.Errorf("%d offers instead of 2", len(offers))
			}
			if err := high.conn.Send([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if got := wait(t, low.frames, "a frame"); string(got) != "hello" {
				t.Errorf("got %q", got)
			}
			high.end()
			low.waitClosed()
		})
	}
}

func TestADeadlineEndsAConnectionThatNobodyAnswers(t *testing.T) {
	for _, offerer := range []bool{true, false} {
		s := newSide(t)
		s.send = func(Signal) {}
		s.conn = New(Config{ConnectTimeout: 50 * time.Millisecond}).Connect(
			Peering{Local: lowID, Remote: highID, Offerer: offerer, Handler: s})
		if err := s.waitClosed(); !errors.Is(err, ErrTimeout) {
			t.Errorf("offerer %v: ended with %v", offerer, err)
		}
		if err := s.conn.Send([]byte("x")); !errors.Is(err, ErrNotOpen) {
			t.Errorf("Send: %v", err)
		}
	}
}

func TestCloseIsToldOnceWithTheFirstReason(t *testing.T) {
	a, b := pair(t, Config{})
	a.waitOpen()
	reason := errors.New("the first reason")
	var together sync.WaitGroup
	a.conn.Close(reason)
	for range 8 {
		together.Go(func() { a.conn.Close(errors.New("another")) })
	}
	together.Wait()
	if err := a.waitClosed(); err != reason {
		t.Errorf("ended with %v", err)
	}
	b.waitClosed()
	a.conn.Signal(Signal{Kind: Candidate}) // and afterwards nothing happens
	a.conn.Close(nil)
}

// Closing at any moment of the way up leaves nothing behind; goleak says so.
func TestCloseWhileConnecting(t *testing.T) {
	for i := range 8 {
		a, b := pair(t, Config{})
		time.AfterFunc(time.Duration(i)*30*time.Millisecond, func() { a.conn.Close(nil) })
		a.waitClosed()
		b.conn.Close(nil)
		b.waitClosed()
	}
}

func TestASlowReaderHoldsTheSenderBack(t *testing.T) {
	gate := make(chan struct{})
	a, b := gatedPair(t, Config{}, gate)
	a.waitOpen()
	b.waitOpen()
	frame := make([]byte, 48<<10)
	const total = 256 // 12 MiB, far more than both buffers
	sent := make(chan int, total)
	var sender sync.WaitGroup
	sender.Go(func() {
		defer close(sent)
		for range total {
			if !a.conn.Room() || a.conn.Send(frame) != nil {
				return
			}
			sent <- 1
		}
	})
	// The reader reads nothing: the sender stops between HighWater and the bound.
	stuck := func() bool { return a.conn.open().BufferedAmount() >= HighWater }
	until(t, stuck, "the buffer to fill")
	if amount := a.conn.open().BufferedAmount(); amount > HighWater+uint64(len(frame)) {
		t.Errorf("%d bytes wait", amount)
	}
	if n := len(sent); n == total {
		t.Error("the sender was not held back")
	}
	close(gate)
	for range total {
		wait(t, b.frames, "a frame")
	}
	sender.Wait()
	a.end()
	b.waitClosed()
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

func TestAPeerThatNeverReadsIsDisconnected(t *testing.T) {
	gate := make(chan struct{})
	a, b := gatedPair(t, Config{}, gate)
	a.waitOpen()
	b.waitOpen()
	frame := make([]byte, 64<<10)
	var err error
	for range 1000 {
		if err = a.conn.Send(frame); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrStalled) {
		t.Errorf("sending without end: %v", err)
	}
	if a.conn.Room() {
		t.Error("there is room in a closed connection")
	}
	if err := a.waitClosed(); !errors.Is(err, ErrStalled) {
		t.Errorf("ended with %v", err)
	}
	close(gate)
	b.waitClosed()
}

func TestWhatIsNoFrameEndsTheConnection(t *testing.T) {
	t.Run("text", func(t *testing.T) {
		a, b := pair(t, Config{})
		a.waitOpen()
		b.waitOpen()
		if _, err := a.conn.open().raw.WriteDataChannel([]byte("hello"), true); err != nil {
			t.Fatal(err)
		}
		if err := b.waitClosed(); !errors.Is(err, ErrBadFrame) {
			t.Errorf("ended with %v", err)
		}
		a.waitClosed()
	})
	t.Run("too long to send", func(t *testing.T) {
		a, b := pair(t, Config{})
		a.waitOpen()
		b.waitOpen()
		if err := a.conn.Send(make([]byte, 64<<10+1)); err == nil {
			t.Error("a frame over the limit was sent")
		}
		a.waitClosed()
		b.waitClosed()
	})
}

func TestSignalsThatCannotBeUsed(t *testing.T) {
	t.Run("a broken offer", func(t *testing.T) {
		s := newSide(t)
		s.send = func(Signal) {}
		s.conn = New(Config{}).Connect(Peering{Local: highID, Remote: lowID, Handler: s})
		s.conn.Signal(Signal{Kind: Offer, SDP: "m=application nonsense"})
		if err := s.waitClosed(); err == nil || !strings.Contains(err.Error(), "using the peer's offer") {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("a peer of small messages", func(t *testing.T) {
		s := newSide(t)
		s.send = func(Signal) {}
		s.conn = New(Config{}).Connect(Peering{Local: highID, Remote: lowID, Handler: s})
		s.conn.Signal(Signal{Kind: Offer, SDP: "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=max-message-size:1000\r\n"})
		if err := s.waitClosed(); err == nil || !strings.Contains(err.Error(), "frames of 1000 bytes") {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("stray answers and candidates", func(t *testing.T) {
		a, b := newSide(t), newSide(t)
		ready := make(chan struct{})
		text := "candidate:1 1 quic 1 nowhere 1 typ odd"
		a.send = func(s Signal) { <-ready; b.conn.Signal(s) }
		b.send = func(s Signal) {
			<-ready
			if s.Kind == Answer {
				a.conn.Signal(Signal{Kind: Candidate, Candidate: &ICECandidate{Candidate: text}})
				a.conn.Signal(s)
				a.conn.Signal(s) // twice
				a.conn.Signal(Signal{Kind: Candidate, Candidate: &ICECandidate{Candidate: text}})
				return
			}
			a.conn.Signal(s)
		}
		transport := New(Config{})
		a.conn = transport.Connect(Peering{Local: lowID, Remote: highID, Offerer: true, Handler: a})
		b.conn = transport.Connect(Peering{Local: highID, Remote: lowID, Handler: b})
		b.conn.Signal(Signal{Kind: Answer, SDP: "m=application"}) // it never offered
		close(ready)
		a.waitOpen()
		b.waitOpen()
		a.end()
		b.waitClosed()
	})
	t.Run("a flood", func(t *testing.T) {
		s := newSide(t)
		block := make(chan struct{})
		s.send = func(Signal) { <-block } // holds run
		s.conn = New(Config{}).Connect(Peering{Local: lowID, Remote: highID, Offerer: true, Handler: s})
		for range signalQueue + 2 {
			s.conn.Signal(Signal{Kind: Candidate})
		}
		close(block)
		if err := s.waitClosed(); !errors.Is(err, ErrTooManySignals) {
			t.Errorf("ended with %v", err)
		}
	})
	t.Run("ICE servers that are none", func(t *testing.T) {
		s := newSide(t)
		s.send = func(Signal) {}
		s.conn = New(Config{ConnectTimeout: time.Second}).Connect(Peering{
			Local: lowID, Remote: highID, Offerer: true, Handler: s,
			ICEServers: []mediation.ICEServer{{URLs: []string{"nonsense"}}},
		})
		if err := s.waitClosed(); err == nil || errors.Is(err, ErrTimeout) {
			t.Errorf("ended with %v", err)
		}
	})
}

func TestPionIsLogged(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	a, b := pair(t, Config{Log: log})
	a.waitOpen()
	b.waitOpen()
	a.end()
	b.waitClosed()
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(out.String(), "pion=ice") {
		t.Error("pion's log is not in ours")
	}
}

type lockedWriter struct {
	mu  *sync.Mutex
	out *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(p)
}

func BenchmarkLoopback(b *testing.B) {
	for _, size := range []int{16<<10 + 11, 48<<10 + 11, 64 << 10} {
		b.Run(fmt.Sprintf("frame=%d", size), func(b *testing.B) {
			from, to := pair(b, Config{})
			from.waitOpen()
			to.waitOpen()
			frame := make([]byte, size)
			b.SetBytes(int64(size))
			var reader sync.WaitGroup
			reader.Go(func() {
				for range b.N {
					wait(b, to.frames, "a frame")
				}
			})
			b.ResetTimer()
			for range b.N {
				if !from.conn.Room() || from.conn.Send(frame) != nil {
					b.Fatal("the connection broke")
				}
			}
			reader.Wait()
			b.StopTimer()
			from.end()
			to.waitClosed()
		})
	}
}
