package wsserver

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
	"p2pcdn/mediator/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a Peer that answers get_peers with peers, and a signal with itself.
type echo struct {
	session     *session.Session
	established bool
}

func (e *echo) Receive(message mediation.Message) {
	switch m := message.(type) {
	case mediation.Handshake:
		e.established = true
		e.session.Send(mediation.Established{})
	case mediation.GetPeers:
		e.session.Send(mediation.Peers{FullHash: m.FullHash})
	default:
		e.session.Send(m)
	}
}

func (e *echo) Established() bool { return e.established }
func (e *echo) Detach()           {}

// serve starts a server on a free port and returns its address. It is shut down
// at the end of the test, if it was not before.
func serve(t *testing.T, change func(*Config)) (*Server, string) {
	t.Helper()
	config := Config{
		Attach:   func(s *session.Session, _ string) session.Peer { return &echo{session: s} },
		Identity: func() Identity { return Identity{ID: "12D3", Addresses: []string{"/ip4/127.0.0.1/tcp/1/p2p/12D3"}} },
		Home:     []byte("<p>home</p>"),
		Preview:  fstest.MapFS{"index.html": {Data: []byte("<p>preview</p>")}, "dist/cdn.mjs": {Data: []byte("export {}")}},
		Session:  session.Config{Logger: slog.New(slog.DiscardHandler)},
		Logger:   slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&config)
	}
	s := New(config)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.Shutdown(context.Background())
		if err := <-served; err != nil {
			t.Errorf("serving ended with %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return s, listener.Addr().String()
}

func dial(t *testing.T, address string) *websocket.Conn {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+address+mediation.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetReadLimit(mediation.MaxMessageSize)
	t.Cleanup(func() { _ = conn.CloseNow() })
	return conn
}

func write(t *testing.T, conn *websocket.Conn, text []byte) {
	t.Helper()
	if err := conn.Write(t.Context(), websocket.MessageText, text); err != nil {
		t.Fatal(err)
	}
}

// expect fails unless the next message holds part.
func expect(t *testing.T, conn *websocket.Conn, part string) {
	t.Helper()
	_, text, err := conn.Read(t.Context())
	if err != nil || !strings.Contains(string(text), part) {
		t.Fatalf("got %.200q, %v instead of %s", text, err, part)
	}
}

// closed fails unless the connection ends with that status and reason.
func closed(t *testing.T, conn *websocket.Conn, status websocket.StatusCode, reason mediation.ErrorCode) {
	t.Helper()
	_, text, err := conn.Read(t.Context())
	var closing websocket.CloseError
	if !errors.As(err, &closing) || closing.Code != status || closing.Reason != string(reason) {
		t.Fatalf("got %q, %v instead of close %d %s", text, err, status, reason)
	}
}

var (
	handshake = mediation.Encode(mediation.Handshake{PeerID: ident.PeerID{1}})
	getPeers  = mediation.Encode(mediation.GetPeers{FullHash: content.FullHash{1}})
)

func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// eventually waits until the condition holds, and fails after ten seconds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

func TestPages(t *testing.T) {
	_, address := serve(t, nil)
	for _, test := range []struct {
		path, kind, body string
		status           int
	}{
		{"/", "text/html", "home", 200},
		{"/healthz", "text/plain", "ok", 200},
		{"/id", "application/json", `"12D3"`, 200},
		{"/preview/", "text/html", "preview", 200},
		{"/preview", "text/html", "preview", 200},
		{"/preview/dist/cdn.mjs", "text/javascript", "export", 200},
		{"/preview/nothing", "text/plain", "not found", 404},
		{"/nothing", "text/plain", "not found", 404},
		{"/preview/../../etc/passwd", "text/plain", "not found", 404},
		{mediation.Path, "text/plain", "WebSocket", 426},
	} {
		response, body := get(t, "http://"+address+test.path)
		if response.StatusCode != test.status || !strings.HasPrefix(response.Header.Get("Content-Type"), test.kind) || !strings.Contains(body, test.body) {
			t.Errorf("%s gave %d %s %q", test.path, response.StatusCode, response.Header.Get("Content-Type"), body)
		}
		if response.Header.Get("Content-Security-Policy") == "" || response.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s came without its security headers", test.path)
		}
	}
	response, body := get(t, "http://"+address+"/id")
	var identity Identity
	if err := json.Unmarshal([]byte(body), &identity); err != nil || len(identity.Addresses) != 1 {
		t.Errorf("/id gave %s: %v", body, err)
	}
	if response.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Error("/id is not for every origin")
	}
	if response, err := http.Post("http://"+address+"/id", "text/plain", nil); err != nil || response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST /id gave %v, %v", response, err)
	} else {
		response.Body.Close()
	}
}

func TestMessagesOverWebSocket(t *testing.T) {
	server, address := serve(t, nil)
	conn := dial(t, address)
	write(t, conn, handshake)
	expect(t, conn, "established")
	write(t, conn, getPeers)
	expect(t, conn, "peers")
	if got := server.Sessions(); got != 1 {
		t.Errorf("%d sessions", got)
	}
	full := mediation.Encode(mediation.Signal{SignalData: mediation.NewSignalData(strings.Repeat(`"`, mediation.MaxSignalData))})
	if len(full) > mediation.MaxMessageSize {
		t.Fatal("a full signal does not fit a message")
	}
	write(t, conn, full)
	if _, text, err := conn.Read(t.Context()); err != nil || len(text) != len(full) {
		t.Errorf("a full signal came back as %d bytes, %v", len(text), err)
	}
}

func TestPagesOfAnyOriginMayConnect(t *testing.T) {
	_, address := serve(t, nil)
	conn, _, err := websocket.Dial(t.Context(), "ws://"+address+mediation.Path, &websocket.DialOptions{
		HTTPHeader: http.Header{"Origin": {"https://elsewhere.example"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.CloseNow()
}

func TestBinaryFrameIsRefusedAndLeavesTheConnection(t *testing.T) {
	_, address := serve(t, nil)
	conn := dial(t, address)
	if err := conn.Write(t.Context(), websocket.MessageBinary, handshake); err != nil {
		t.Fatal(err)
	}
	expect(t, conn, "bad_message")
	write(t, conn, handshake)
	expect(t, conn, "established")
}

func TestMessageTooBigIsToldThenClosed(t *testing.T) {
	for _, length := range []int{mediation.MaxMessageSize + 1, 4 << 20} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			_, address := serve(t, nil)
			conn := dial(t, address)
			// The server may close before it has read all: that the write fails then is right.
			wrote := make(chan error, 1)
			go func() { wrote <- conn.Write(t.Context(), websocket.MessageText, make([]byte, length)) }()
			expect(t, conn, "message_too_big")
			closed(t, conn, websocket.StatusMessageTooBig, mediation.CodeMessageTooBig)
			<-wrote
		})
	}
}

func TestHandshakeTimeout(t *testing.T) {
	_, address := serve(t, func(c *Config) { c.Session.HandshakeTimeout = 20 * time.Millisecond })
	conn := dial(t, address)
	expect(t, conn, "handshake_timeout")
	closed(t, conn, websocket.StatusPolicyViolation, mediation.CodeHandshakeTimeout)
}

func TestPeerThatNeverReadsIsCutOff(t *testing.T) {
	server, address := serve(t, func(c *Config) {
		c.Session.MaxQueued, c.Session.Signals, c.Session.SignalBytes = 256<<10, limits.Off, limits.Off
	})
	conn := dial(t, address)
	write(t, conn, handshake)
	expect(t, conn, "established")
	other := dial(t, address)
	write(t, other, handshake)
	expect(t, other, "established")
	signal := mediation.Encode(mediation.Signal{SignalData: mediation.NewSignalData(strings.Repeat("x", 32<<10))})
	for range 10_000 { // until the kernel's buffers and ours are full, and it closes
		if conn.Write(t.Context(), websocket.MessageText, signal) != nil {
			break
		}
	}
	eventually(t, "it is cut off", func() bool { return server.Sessions() == 1 })
	write(t, other, getPeers)
	expect(t, other, "peers") // nobody else was disturbed
}

func TestVanishedPeerIsNoticedByPing(t *testing.T) {
	server, address := serve(t, func(c *Config) {
		c.Session.PingInterval, c.Session.PingTimeout = 20*time.Millisecond, 50*time.Millisecond
	})
	conn := dial(t, address) // a client that does not read does not answer pings
	write(t, conn, handshake)
	expect(t, conn, "established")
	eventually(t, "it is noticed", func() bool { return server.Sessions() == 0 })
}

func TestShutdownTellsEverybody(t *testing.T) {
	server, address := serve(t, nil)
	var conns []*websocket.Conn
	for range 5 {
		conn := dial(t, address)
		write(t, conn, handshake)
		expect(t, conn, "established")
		conns = append(conns, conn)
	}
	done := make(chan struct{})
	go func() {
		server.Shutdown(context.Background())
		close(done)
	}()
	for _, conn := range conns {
		expect(t, conn, "going_away")
		closed(t, conn, websocket.StatusGoingAway, mediation.CodeGoingAway)
	}
	<-done
	if server.Sessions() != 0 {
		t.Error("a session outlived the server")
	}
}

func TestShutdownDoesNotWaitForTheSilent(t *testing.T) {
	server, address := serve(t, nil)
	tcp, err := net.Dial("tcp", address) // a client that upgrades and then is dead
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	fmt.Fprintf(tcp, "GET %s HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", mediation.Path)
	if status, err := bufio.NewReader(tcp).ReadString('\n'); err != nil || !strings.Contains(status, "101") {
		t.Fatalf("%q, %v", status, err)
	}
	half, err := net.Dial("tcp", address) // and one that never finishes its request
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	fmt.Fprint(half, "GET / HTTP/1.1\r\n")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	server.Shutdown(ctx)
	if server.Sessions() != 0 {
		t.Error("a session outlived the server")
	}
	recorder, _ := http.NewRequest(http.MethodGet, "/healthz", nil)
	answer := &answer{header: http.Header{}}
	server.ServeHTTP(answer, recorder)
	if answer.status != http.StatusServiceUnavailable {
		t.Errorf("/healthz gave %d after the end", answer.status)
	}
}

// answer is a ResponseWriter that keeps the status.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(b []byte) (int, error) { return len(b), nil }
func (a *answer) WriteHeader(status int)      { a.status = status }

func TestNoRoom(t *testing.T) {
	_, address := serve(t, func(c *Config) { c.MaxSessions = 1 })
	conn := dial(t, address)
	write(t, conn, handshake)
	expect(t, conn, "established")
	_, response, err := websocket.Dial(t.Context(), "ws://"+address+mediation.Path, nil)
	if err == nil || response == nil || response.StatusCode != http.StatusServiceUnavailable || response.Header.Get("Retry-After") == "" {
		t.Fatalf("the second of one got %v, %v", response, err)
	}
	write(t, conn, getPeers)
	expect(t, conn, "peers")
}

// dialFrom opens a WebSocket with these request headers; the status is 101 where it was accepted.
func dialFrom(t *testing.T, address string, header http.Header) (status int, refusal mediation.ErrorCode) {
	t.Helper()
	conn, response, err := websocket.Dial(t.Context(), "ws://"+address+mediation.Path, &websocket.DialOptions{HTTPHeader: header})
	if err == nil {
		t.Cleanup(func() { _ = conn.CloseNow() })
		return http.StatusSwitchingProtocols, ""
	}
	if response == nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	message, err := mediation.Decode(body)
	if err != nil {
		t.Fatalf("status %d came with %q", response.StatusCode, body)
	}
	return response.StatusCode, message.(*mediation.Error).Code
}

func TestConnectionsOfOneAddress(t *testing.T) {
	_, address := serve(t, func(c *Config) {
		c.MaxPerAddress = 2
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	via := func(hops ...string) http.Header { return http.Header{"X-Forwarded-For": hops} }
	for _, c := range []struct {
		hops   []string
		status int
	}{
		{[]string{"192.0.2.1"}, http.StatusSwitchingProtocols},
		{[]string{"203.0.113.9, 192.0.2.1"}, http.StatusSwitchingProtocols}, // what it says itself of where it comes from is nothing
		{[]string{"203.0.113.10", "192.0.2.1, 127.0.0.2"}, http.StatusTooManyRequests},
		{[]string{"192.0.2.2"}, http.StatusSwitchingProtocols},
		{[]string{"2001:db8::1"}, http.StatusSwitchingProtocols},
		{[]string{"2001:db8::2"}, http.StatusSwitchingProtocols},
		{[]string{"2001:db8::3"}, http.StatusTooManyRequests},
		{[]string{"2001:db8:0:1::1"}, http.StatusSwitchingProtocols},
	} {
		status, code := dialFrom(t, address, via(c.hops...))
		if status != c.status || (status == http.StatusTooManyRequests) != (code == mediation.CodeTooManyConnections) {
			t.Errorf("%v: %d %s instead of %d", c.hops, status, code, c.status)
		}
	}
	// Who is no proxy is who it is, whatever it says.
	_, address = serve(t, func(c *Config) { c.MaxPerAddress = 1 })
	if status, _ := dialFrom(t, address, via("192.0.2.1")); status != http.StatusSwitchingProtocols {
		t.Errorf("the first one got %d", status)
	}
	if status, _ := dialFrom(t, address, via("192.0.2.2")); status != http.StatusTooManyRequests {
		t.Errorf("the second one got %d", status)
	}
}

func TestALeftPlaceIsFree(t *testing.T) {
	server, address := serve(t, func(c *Config) { c.MaxPerAddress, c.MaxSessions = 1, 1 })
	conn := dial(t, address)
	eventually(t, "it is full", server.Full)
	if status, code := dialFrom(t, address, nil); status != http.StatusServiceUnavailable || code != mediation.CodeOverloaded {
		t.Fatalf("the second one got %d %s", status, code)
	}
	_ = conn.CloseNow()
	for deadline := time.Now().Add(10 * time.Second); ; {
		status, _ := dialFrom(t, address, nil)
		if status == http.StatusSwitchingProtocols {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("long afterwards it gets %d", status)
		}
	}
}

func TestOriginsThatMayConnect(t *testing.T) {
	_, address := serve(t, func(c *Config) { c.AllowOrigins = []string{"https://site.example"} })
	for origin, status := range map[string]int{
		"https://site.example": http.StatusSwitchingProtocols, "HTTPS://SITE.EXAMPLE": http.StatusSwitchingProtocols,
		"": http.StatusSwitchingProtocols, "https://other.example": http.StatusForbidden,
		"http://site.example": http.StatusForbidden, "null": http.StatusForbidden, "https://site.example.evil.example": http.StatusForbidden,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		got, code := dialFrom(t, address, header)
		if got != status || (got == http.StatusForbidden) != (code == mediation.CodeOriginRefused) {
			t.Errorf("%q: %d %s instead of %d", origin, got, code, status)
		}
	}
}

func TestShorterMessages(t *testing.T) {
	_, address := serve(t, func(c *Config) { c.MaxMessage = 1000 })
	conn := dial(t, address)
	write(t, conn, handshake)
	expect(t, conn, "established")
	write(t, conn, make([]byte, 1001))
	expect(t, conn, "at most 1000 bytes")
	closed(t, conn, websocket.StatusMessageTooBig, mediation.CodeMessageTooBig)
}

func TestVisitorsWithoutARequestAreBounded(t *testing.T) {
	refused := make(refusals, 100)
	server, address := serve(t, func(c *Config) { c.Session.Observer, c.visits = refused, 3 })
	var conns []net.Conn
	for range 3 {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	// They are let in in the order in which they come; the fourth is closed.
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the fourth is not closed: %v", err)
	}
	if code := <-refused; code != mediation.CodeTooManyConnections {
		t.Errorf("it counted as %s", code)
	}
	_ = conn.Close()
	for _, conn := range conns {
		_ = conn.Close()
	}
	eventually(t, "none is counted any more", func() bool {
		server.visitors.mu.Lock()
		defer server.visitors.mu.Unlock()
		return server.visitors.total == 0 && len(server.visitors.sources) == 0
	})
}

// refusals is an Observer that keeps the codes.
type refusals chan mediation.ErrorCode

func (refusals) Received(mediation.Message)         {}
func (r refusals) Refused(code mediation.ErrorCode) { r <- code }

func TestEarlyMessagesAreNotLost(t *testing.T) {
	_, address := serve(t, nil)
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := "GET " + mediation.Path + " HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	frames := []byte(request)
	for range 20 { // masked with zeros; more than the buffer of a WebSocket holds
		frames = append(frames, 0x81, 0x80|126, byte(len(handshake)>>8), byte(len(handshake)), 0, 0, 0, 0)
		frames = append(frames, handshake...)
	}
	if _, err := conn.Write(frames); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil || response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", response, err)
	}
	for n := range 20 {
		frame := make([]byte, 2+len(`{"type":"established"}`))
		if _, err := io.ReadFull(reader, frame); err != nil || !strings.Contains(string(frame), "established") {
			t.Fatalf("answer %d is %q, %v", n, frame, err)
		}
	}
}

func TestReadiness(t *testing.T) {
	var down atomic.Bool
	_, address := serve(t, func(c *Config) {
		c.Ready = func() error {
			if down.Load() {
				return errors.New("no other mediator is reached")
			}
			return nil
		}
		c.Status = func() any { return map[string]int{"peers": 3} }
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "peers 3") })
	})
	get := func(path string) (int, string) {
		t.Helper()
		response, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(body)
	}
	for path, want := range map[string]string{"/readyz": "ready\n", "/status.json": "{\"peers\":3}\n", "/metrics": "peers 3"} {
		if status, body := get(path); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	down.Store(true)
	if status, body := get("/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no other mediator") {
		t.Errorf("not ready: %d %q", status, body)
	}
	if status, _ := get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz is %d, and it serves", status)
	}
}

func TestParseProxy(t *testing.T) {
	for text, want := range map[string]string{"10.1.2.3/8": "10.0.0.0/8", "::1": "::1/128", "192.0.2.1": "192.0.2.1/32", "proxy": "", "10.0.0.0/33": ""} {
		got, err := ParseProxy(text)
		if (err != nil) != (want == "") || want != "" && got.String() != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
}

func FuzzForwardedFor(f *testing.F) {
	for _, seed := range []string{"", "192.0.2.1", "a, 192.0.2.1,", "10.0.0.1, 2001:db8::1, 10.0.0.2", ",,,"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, header string) {
		s := &Server{Config: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
		request := &http.Request{RemoteAddr: "10.0.0.1:80", Header: http.Header{"X-Forwarded-For": []string{header}}}
		if !s.client(request).IsValid() {
			t.Error("it counts for nobody")
		}
	})
}
