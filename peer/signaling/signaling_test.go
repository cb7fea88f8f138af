package signaling

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait in these tests.
const patience = 10 * time.Second

// visit is one connection as a fake mediator sees it.
type visit struct {
	t    *testing.T
	conn *websocket.Conn
	ctx  context.Context
}

// serve starts a fake mediator whose connections are handled by script, one
// after the other by number from 0, and returns its URL.
func serve(t *testing.T, script func(number int, v visit)) string {
	t.Helper()
	numbers := make(chan int, 1)
	numbers <- 0
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	server := httptest.NewServer(visits(ctx, t, func(v visit) {
		number := <-numbers
		numbers <- number + 1
		script(number, v)
	}))
	t.Cleanup(func() {
		cancel()
		server.Close()
	})
	return "ws" + strings.TrimPrefix(server.URL, "http") + mediation.Path
}

// visits accepts connections, and lets script handle each.
func visits(ctx context.Context, t *testing.T, script func(v visit)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(mediation.MaxMessageSize)
		script(visit{t, conn, ctx})
	})
}

// hear reads one message, or nil when the connection ended.
func (v visit) hear() mediation.Message {
	_, text, err := v.conn.Read(v.ctx)
	if err != nil {
		return nil
	}
	message, err := mediation.Decode(text)
	if err != nil {
		v.t.Errorf("the client sent %s: %v", text, err)
	}
	return message
}

func (v visit) say(messages ...mediation.Message) {
	for _, message := range messages {
		v.raw(string(mediation.Encode(message)))
	}
}

func (v visit) raw(text string) { _ = v.conn.Write(v.ctx, websocket.MessageText, []byte(text)) }

// welcome takes the handshake and establishes, and names other mediators.
func (v visit) welcome(mediators ...string) ident.PeerID {
	first := v.hear()
	handshake, ok := first.(mediation.Handshake)
	if !ok && first != nil { // a client that is closed, or tries again until it is, may be gone before it said anything
		v.t.Errorf("the first message is %T, and no handshake", first)
	}
	v.say(mediation.Established{ICEServers: []mediation.ICEServer{{URLs: []string{"stun:example.org"}}}, Mediators: mediators})
	return handshake.PeerID
}

// untilClosed reads on until the connection ended.
func (v visit) untilClosed() {
	for v.hear() != nil {
	}
}

func start(t *testing.T, config Config) *Client {
	if config.Backoff == nil {
		config.Backoff = func(int) time.Duration { return time.Millisecond }
	}
	if config.Timeout == 0 {
		config.Timeout = patience
	}
	c := Start(config)
	t.Cleanup(c.Close)
	return c
}

// event waits for an event of this kind; only those that give times may come before it.
func event[T Event](t *testing.T, c *Client) T {
	t.Helper()
	for {
		select {
		case e, open := <-c.Events():
			got, ok := e.(T)
			switch e.(type) {
			case Opened, Asked:
			default:
				if !ok {
					t.Fatalf("event %#v (open: %v) instead of %T", e, open, got)
				}
			}
			if ok {
				return got
			}
		case <-time.After(patience):
			t.Fatal("waited too long for an event")
			panic("unreachable")
		}
	}
}

func heard[T mediation.Message](t *testing.T, c *Client) T {
	t.Helper()
	got, ok := event[Heard](t, c).Message.(T)
	if !ok {
		t.Fatalf("another message than %T", got)
	}
	return got
}

var (
	hash  = content.FullHash{1}
	other = content.FullHash{2}
	peer  = ident.PeerID{3}
)

func TestConversation(t *testing.T) {
	url := serve(t, func(_ int, v visit) {
		v.welcome("ws://other/mediation")
		for {
			switch m := v.hear().(type) {
			case mediation.Announce:
				v.say(mediation.Announced(m))
			case mediation.GetPeers:
				v.say(mediation.Peers{FullHash: m.FullHash, Peers: []ident.PeerID{peer}})
			case mediation.Signal:
				v.raw(`{"type":"from a later version"}`)
				v.say(mediation.Signal{FullHash: m.FullHash, PeerID: m.PeerID, SignalData: mediation.NewSignalData("re: " + m.SignalData.String())})
			case mediation.Finish:
				v.say((&mediation.Error{Code: mediation.CodeRateLimited, Message: "slowly"}).About(m.FullHash))
			case nil:
				return
			}
		}
	})
	c := start(t, Config{URLs: []string{url}})
	connected := event[Connected](t, c)
	if connected.URL != url || connected.PeerID.IsZero() || len(connected.ICEServers) != 1 || len(connected.Mediators) != 1 {
		t.Errorf("connected: %+v", connected)
	}
	c.Announce(hash)
	if m := heard[mediation.Announced](t, c); m.FullHash != hash {
		t.Error("another content was announced")
	}
	c.GetPeers(hash, nil)
	if m := heard[mediation.Peers](t, c); m.FullHash != hash || len(m.Peers) != 1 || m.Peers[0] != peer {
		t.Errorf("peers: %+v", m)
	}
	data := strings.Repeat("\"", mediation.MaxSignalData-len("re: ")) // the longest message there is
	if err := c.Signal(hash, peer, data); err != nil {
		t.Fatal(err)
	}
	if m := heard[mediation.Signal](t, c); m.PeerID != peer || m.SignalData.String() != "re: "+data {
		t.Error("another signal came")
	}
	c.Finish(hash)
	if m := heard[*mediation.Error](t, c); m.Code != mediation.CodeRateLimited || *m.FullHash != hash {
		t.Errorf("error: %+v", m)
	}
}

func TestWhatIsWantedIsSaidAgainAfterAReconnect(t *testing.T) {
	ids := make(chan ident.PeerID, 2)
	said := make(chan mediation.Message, 8)
	begin := make(chan struct{}) // before which there is no line
	url := serve(t, func(number int, v visit) {
		<-begin
		ids <- v.welcome()
		for range 2 {
			said <- v.hear()
		}
		if number == 0 {
			v.conn.Close(websocket.StatusGoingAway, "going_away")
			return
		}
		v.untilClosed()
	})
	c := start(t, Config{URLs: []string{url}})
	c.GetPeers(hash, nil)
	c.GetPeers(other, nil)
	c.Finish(other)
	c.Announce(hash)
	if err := c.Signal(hash, peer, "lost"); !errors.Is(err, ErrOffline) {
		t.Errorf("a signal without a line: %v", err)
	}
	close(begin)
	event[Connected](t, c)
	lost := event[Disconnected](t, c)
	if !errors.Is(lost.Err, ErrLost) || !strings.Contains(lost.Err.Error(), "going_away") || lost.Failures != 1 || lost.URL != url {
		t.Errorf("disconnected: %+v", lost)
	}
	event[Connected](t, c)
	if first, second := <-ids, <-ids; first == second {
		t.Error("the same id twice")
	}
	for range 2 {
		if m := <-said; m != (mediation.GetPeers{FullHash: hash}) {
			t.Errorf("%#v instead of the question", m)
		}
		if m := <-said; m != (mediation.Announce{FullHash: hash}) {
			t.Errorf("%#v instead of the announce", m)
		}
	}
}

// What was found is not asked for again after a reconnect, and goes on being announced.
func TestWhatIsFoundIsOnlyAnnouncedAfterAReconnect(t *testing.T) {
	said := make(chan mediation.Message, 8)
	leave := make(chan struct{})
	url := serve(t, func(number int, v visit) {
		v.welcome()
		if number == 0 {
			<-leave
			return
		}
		for m := v.hear(); m != nil; m = v.hear() {
			said <- m
		}
	})
	c := start(t, Config{URLs: []string{url}})
	c.GetPeers(hash, nil)
	c.Announce(hash)
	c.GetPeers(other, nil)
	event[Connected](t, c)
	c.Found(hash)
	close(leave)
	event[Disconnected](t, c)
	event[Connected](t, c)
	for _, want := range []mediation.Message{mediation.GetPeers{FullHash: other}, mediation.Announce{FullHash: hash}} {
		if m := <-said; m != want {
			t.Errorf("%#v instead of %#v", m, want)
		}
	}
}

func TestAnIDInUseIsReplaced(t *testing.T) {
	ids := make(chan ident.PeerID, 1)
	url := serve(t, func(_ int, v visit) {
		first := v.hear().(mediation.Handshake)
		v.say((&mediation.Error{Code: mediation.CodePeerIDInUse, Message: "taken"}).With(first.PeerID))
		second := v.welcome()
		if first.PeerID == second {
			t.Error("the same id again")
		}
		ids <- second
		v.untilClosed()
	})
	c := start(t, Config{URLs: []string{url}})
	if got := event[Connected](t, c).PeerID; got != <-ids {
		t.Error("connected under another id")
	}
}

func TestWhyThereIsNoLine(t *testing.T) {
	web := func(status int) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		t.Cleanup(server.Close)
		return "ws" + strings.TrimPrefix(server.URL, "http")
	}
	redirecting := httptest.NewServer(http.RedirectHandler(serve(t, func(_ int, v visit) { v.welcome(); v.untilClosed() }), http.StatusTemporaryRedirect))
	t.Cleanup(redirecting.Close)
	elsewhere := "ws" + strings.TrimPrefix(redirecting.URL, "http")
	refuse := func(code mediation.ErrorCode) string {
		return serve(t, func(_ int, v visit) {
			for v.hear() != nil {
				v.say(&mediation.Error{Code: code, Message: "no"})
			}
		})
	}
	answer := func(text string) string {
		return serve(t, func(_ int, v visit) {
			v.hear()
			v.raw(text)
			v.untilClosed()
		})
	}
	for name, test := range map[string]struct {
		url  string
		want error
		text string
	}{
		"nobody listens":   {"ws://127.0.0.1:1", ErrUnreachable, "refused"},
		"no such host":     {"ws://nowhere.invalid", ErrUnreachable, "nowhere.invalid"},
		"a web server":     {web(http.StatusOK), ErrNotMediator, "200"},
		"a wrong path":     {web(http.StatusNotFound), ErrNotMediator, "404"},
		"a redirection":    {elsewhere, ErrNotMediator, "307"},
		"a full mediator":  {web(http.StatusServiceUnavailable), ErrRefused, "503"},
		"says no":          {refuse(mediation.CodeOverloaded), ErrRefused, "overloaded"},
		"every id taken":   {refuse(mediation.CodePeerIDInUse), ErrRefused, "peer_id_in_use"},
		"speaks otherwise": {answer("hello"), ErrNotMediator, "JSON"},
		"answers oddly":    {answer(string(mediation.Encode(mediation.Peers{FullHash: hash}))), ErrNotMediator, "peers"},
		"binary": {serve(t, func(_ int, v visit) {
			v.hear()
			_ = v.conn.Write(v.ctx, websocket.MessageBinary, []byte{1})
			v.untilClosed()
		}), ErrNotMediator, "binary"},
		"hangs up":       {serve(t, func(_ int, v visit) { v.hear(); v.conn.Close(websocket.StatusPolicyViolation, "not you") }), ErrLost, "not you"},
		"nonsense later": {serve(t, func(_ int, v visit) { v.welcome(); v.raw(`{"type":"peers"}`); v.untilClosed() }), ErrNotMediator, "full_hash"},
		"a huge message": {serve(t, func(_ int, v visit) {
			v.welcome()
			v.raw(strings.Repeat("x", mediation.MaxMessageSize+1))
			v.untilClosed()
		}), ErrLost, "limit"},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t, Config{URLs: []string{test.url}})
			for {
				lost, is := (<-c.Events()).(Disconnected)
				if !is {
					continue
				}
				err := lost.Err
				if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
					t.Errorf("%v", err)
				}
				return
			}
		})
	}
}

func TestASilentServerIsGivenUp(t *testing.T) {
	url := serve(t, func(_ int, v visit) { v.untilClosed() })
	c := start(t, Config{URLs: []string{url}, Timeout: 100 * time.Millisecond})
	if err := event[Disconnected](t, c).Err; !errors.Is(err, ErrNotMediator) {
		t.Errorf("%v", err)
	}
}

// A mediator that stops reading answers no ping.
func TestADeadLineIsNoticed(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(_ int, v visit) {
		v.welcome()
		<-release // it does not read, so pings are not answered
	})
	c := start(t, Config{URLs: []string{url}, Timeout: 100 * time.Millisecond, PingEach: 20 * time.Millisecond})
	event[Connected](t, c)
	if err := event[Disconnected](t, c).Err; !errors.Is(err, ErrLost) || !strings.Contains(err.Error(), "ping") {
		t.Errorf("%v", err)
	}
	close(release)
}

func TestMediatorsAreTriedInTurn(t *testing.T) {
	good := serve(t, func(_ int, v visit) { v.welcome(); v.untilClosed() })
	urls := []string{"ws://127.0.0.1:1", "ws://127.0.0.1:2", good}
	c := start(t, Config{URLs: urls})
	for i := range 2 {
		if e := event[Disconnected](t, c); e.URL != urls[i] || e.Failures != i+1 || e.Next != urls[i+1] || e.Learnt {
			t.Errorf("disconnected: %+v", e)
		}
	}
	if got := event[Connected](t, c).URL; got != good {
		t.Errorf("connected to %s", got)
	}
}

func TestTheQueueOfSignalsIsBounded(t *testing.T) {
	release := make(chan struct{})
	url := serve(t, func(_ int, v visit) {
		v.welcome()
		<-release
		v.untilClosed()
	})
	c := start(t, Config{URLs: []string{url}})
	event[Connected](t, c)
	var err error
	data := strings.Repeat("x", mediation.MaxSignalData) // soon more than the socket's buffers take
	for sent := 0; err == nil && sent < 4*maxSignals; sent++ {
		err = c.Signal(hash, peer, data)
	}
	if !errors.Is(err, ErrBusy) {
		t.Errorf("signals without end: %v", err)
	}
	close(release)
}

func TestCloseSaysGoodbyeAndEndsTheEvents(t *testing.T) {
	ended := make(chan error, 1)
	url := serve(t, func(_ int, v visit) {
		v.welcome()
		_, _, err := v.conn.Read(v.ctx)
		ended <- err
	})
	c := start(t, Config{URLs: []string{url}})
	event[Connected](t, c)
	c.Close()
	if err := <-ended; websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		t.Errorf("the mediator saw %v", err)
	}
	if _, open := <-c.Events(); open {
		t.Error("events go on")
	}
	c.Close() // again
	c.Announce(hash)
}

// Nobody reads the events: Close ends all the same.
func TestCloseDoesNotWaitForTheReaderOfEvents(t *testing.T) {
	flooded := make(chan struct{})
	url := serve(t, func(_ int, v visit) {
		v.welcome()
		for range 2 * eventQueue {
			v.say(mediation.Announced{FullHash: hash})
		}
		close(flooded)
		v.untilClosed()
	})
	c := start(t, Config{URLs: []string{url}})
	<-flooded
	c.Close()
}

func TestBackoff(t *testing.T) {
	backoff := backoff(rand.New(rand.NewPCG(1, 2)))
	for range 50 {
		if wait := backoff(0); wait < 0 || wait > hop {
			t.Fatalf("%v before another one is tried", wait)
		}
	}
	for rounds := 1; rounds < 100; rounds++ {
		for range 50 {
			wait := backoff(rounds)
			if wait < firstRetry/2 || wait > lastRetry {
				t.Fatalf("%v after %d rounds", wait, rounds)
			}
			if rounds == 1 && wait > firstRetry {
				t.Fatalf("%v after the first round", wait)
			}
			if rounds > 10 && wait < lastRetry/2 {
				t.Fatalf("only %v after %d rounds", wait, rounds)
			}
		}
	}
}

// TestNothingWaitsForTheHandshake: all that is wanted is said before the mediator has answered, a lookup with its
// offer first.
func TestNothingWaitsForTheHandshake(t *testing.T) {
	said, begin := make(chan mediation.Message, 3), make(chan struct{})
	url := serve(t, func(_ int, v visit) {
		for range 3 {
			said <- v.hear()
		}
		<-begin
		v.say(mediation.Established{})
		v.untilClosed()
	})
	c := start(t, Config{URLs: []string{url}})
	c.Announce(other)
	c.GetPeers(hash, func() string { return "an offer" })
	if _, is := (<-said).(mediation.Handshake); !is {
		t.Error("the handshake is not the first message")
	}
	for range 2 { // the line may have been open before either of them was wanted
		switch m := (<-said).(type) {
		case mediation.GetPeers:
			if m.FullHash != hash || m.Offer.String() != "an offer" {
				t.Errorf("asked for %+v", m)
			}
		case mediation.Announce:
		default:
			t.Errorf("said %+v", m)
		}
	}
	opened, asked := event[Opened](t, c), event[Asked](t, c)
	if asked.FullHash != hash || !asked.Offer || asked.At.Before(opened.At) {
		t.Errorf("opened %+v, asked %+v", opened, asked)
	}
	close(begin)
	event[Connected](t, c)
}

// TestAllIsSaidAgainUnderAnotherID: what was said behind a handshake that was refused was not taken.
func TestAllIsSaidAgainUnderAnotherID(t *testing.T) {
	said := make(chan mediation.Message, 2)
	url := serve(t, func(_ int, v visit) {
		refused := v.hear().(mediation.Handshake)
		v.hear()
		v.say((&mediation.Error{Code: mediation.CodePeerIDInUse, Message: "taken"}).With(refused.PeerID),
			(&mediation.Error{Code: mediation.CodeHandshakeRequired, Message: "first"}).About(hash))
		if again := v.hear().(mediation.Handshake); again.PeerID == refused.PeerID {
			t.Error("the same id again")
		}
		said <- v.hear()
		v.say(mediation.Established{})
		v.untilClosed()
	})
	c := Start(Config{URLs: []string{url}, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		<-said // so that what is wanted is wanted before the line is open
		return new(net.Dialer).DialContext(ctx, network, address)
	}})
	t.Cleanup(c.Close)
	c.GetPeers(hash, func() string { return "an offer" })
	said <- nil
	event[Connected](t, c)
	if m, is := (<-said).(mediation.GetPeers); !is || m.FullHash != hash || m.Offer.String() != "an offer" {
		t.Errorf("said %+v", m)
	}
}

// TestAnOfferThatIsNone: one that is over, or longer than a signal may be, does not go with the question.
func TestAnOfferThatIsNone(t *testing.T) {
	for name, text := range map[string]string{"over": "", "too long": strings.Repeat("x", mediation.MaxSignalData+1)} {
		t.Run(name, func(t *testing.T) {
			said := make(chan mediation.Message, 1)
			url := serve(t, func(_ int, v visit) {
				v.welcome()
				said <- v.hear()
				v.untilClosed()
			})
			c := start(t, Config{URLs: []string{url}})
			c.GetPeers(hash, func() string { return text })
			if m := <-said; m != (mediation.GetPeers{FullHash: hash}) {
				t.Errorf("said %+v", m)
			}
			for e := range c.Events() {
				if asked, is := e.(Asked); is {
					if asked.Offer {
						t.Error("it says that there was an offer")
					}
					break
				}
			}
		})
	}
}
