package node

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/neighbours"
)

// body is what a mediator answers; each request has a connection of its own.
func body(t *testing.T, url string) string {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	answer, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", answer.StatusCode, text)
}

// certificate writes a pair for localhost to the folder, and returns the pool that knows it.
func certificate(t *testing.T, dir string, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}

// shakeHands introduces a peer, and returns what it is told; the test fails where it is not let in.
func shakeHands(t *testing.T, conn *websocket.Conn) mediation.Established {
	t.Helper()
	id, err := ident.NewPeerID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Write(t.Context(), websocket.MessageText, mediation.Encode(mediation.Handshake{PeerID: id})); err != nil {
		t.Fatal(err)
	}
	_, text, err := conn.Read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	message, err := mediation.Decode(text)
	established, is := message.(mediation.Established)
	if err != nil || !is {
		t.Fatalf("the handshake was answered by %s, %v", text, err)
	}
	return established
}

func TestTLSFromFiles(t *testing.T) {
	dir, config := t.TempDir(), loopback(t)
	pool := certificate(t, dir, 1)
	config.TLSCert, config.TLSKey = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	n := start(t, config)
	if !n.Secure() {
		t.Error("it does not say that it is")
	}
	serial := func(pool *x509.CertPool) (serial string, err error) {
		conn, err := tls.Dial("tcp", n.Addr().String(), &tls.Config{RootCAs: pool, ServerName: "localhost"})
		if err != nil {
			return "", err
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
	}
	if got, err := serial(pool); err != nil || got != "1" {
		t.Fatalf("certificate %s, %v", got, err)
	}

	// A peer, as a page would.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}, DisableKeepAlives: true}}
	conn, _, err := websocket.Dial(t.Context(), "wss://"+n.Addr().String()+mediation.Path, &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	shakeHands(t, conn)

	pool = certificate(t, dir, 2)
	if err := n.Reload(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new certificate is shown", func() bool {
		got, err := serial(pool)
		return err == nil && got == "2"
	})
	if err := conn.Ping(contextWithReader(t, conn)); err != nil {
		t.Errorf("the peer that was there is gone: %v", err)
	}
}

// contextWithReader has somebody read from the connection, as Ping wants it.
func contextWithReader(t *testing.T, conn *websocket.Conn) context.Context {
	return conn.CloseRead(t.Context())
}

// freePort is a port of TCP and UDP that nobody listens on. It is none of those that systems give to
// connections (from 32768 on), so that no connection of another test takes it meanwhile.
func freePort(t *testing.T) int {
	t.Helper()
	var err error
	for range 100 {
		port := 20_000 + mathrand.IntN(12_000)
		address := fmt.Sprintf("127.0.0.1:%d", port)
		var listener net.Listener
		if listener, err = net.Listen("tcp", address); err != nil {
			continue
		}
		_ = listener.Close()
		var packets net.PacketConn
		if packets, err = net.ListenPacket("udp", address); err != nil {
			continue
		}
		_ = packets.Close()
		return port
	}
	t.Fatal(err)
	return 0
}

// public is a mediator that says where peers reach it.
func public(t *testing.T, bootstrap ...string) *Node {
	t.Helper()
	config := loopback(t, bootstrap...)
	config.Port = freePort(t)
	config.PublicURL = fmt.Sprintf("ws://127.0.0.1:%d%s", config.Port, mediation.Path)
	config.Limits.Neighbours = neighbours.Timing{Watch: 20 * time.Millisecond, Interval: 500 * time.Millisecond, CheckRetry: 100 * time.Millisecond}
	return start(t, config)
}

func TestPeersAreToldOfOtherMediators(t *testing.T) {
	first := public(t)
	second := public(t, first.Addr().String())
	silent := start(t, loopback(t, first.Addr().String())) // it is in the DHT, and says nothing of where it is
	want := []string{second.config.PublicURL}
	eventually(t, "the first one knows of the second", func() bool { return slices.Equal(first.elsewhere(), want) })
	eventually(t, "and the silent one of both", func() bool { return len(silent.elsewhere()) == 2 })

	p := open(t, first)
	p.say(mediation.Handshake{PeerID: ident.PeerID{1}})
	established, is := p.next().(mediation.Established)
	if !is || !slices.Equal(established.Mediators, want) {
		t.Fatalf("it was told %v", established)
	}
	first.Close()
	goodbye := p.refused(mediation.CodeGoingAway)
	if !slices.Equal(goodbye.Mediators, want) {
		t.Errorf("at the end it was told of %v", goodbye.Mediators)
	}
	eventually(t, "the second one has forgotten the first", func() bool { return len(second.elsewhere()) == 0 })
}

func TestListsAreReadAgain(t *testing.T) {
	config := loopback(t)
	config.DenyList = filepath.Join(t.TempDir(), "deny")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(config.DenyList, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(hashOf(1).String() + " # for a reason\n")
	n := start(t, config)
	seeder := connect(t, n)
	seeder.say(mediation.Announce{FullHash: hashOf(1)})
	seeder.refused(mediation.CodeContentRefused)
	seeder.announce(hashOf(2))

	write("nonsense")
	if err := n.Reload(); err == nil || !strings.Contains(err.Error(), config.DenyList) {
		t.Errorf("a wrong list: %v", err)
	}
	write(hashOf(2).String())
	if err := n.Reload(); err != nil {
		t.Fatal(err)
	}
	if about := seeder.refused(mediation.CodeContentRefused).FullHash; about == nil || *about != hashOf(2) {
		t.Errorf("it was told of %v", about)
	}
	seeder.announce(hashOf(1))
	leecher := connect(t, n)
	leecher.say(mediation.GetPeers{FullHash: hashOf(2)})
	leecher.refused(mediation.CodeContentRefused)
}

func TestReport(t *testing.T) {
	n := start(t, loopback(t))
	seeder := connect(t, n)
	seeder.announce(hashOf(1))
	seeder.raw([]byte("nonsense"))
	seeder.refused(mediation.CodeBadMessage)
	at := "http://" + n.Addr().String()
	status, text, _ := strings.Cut(body(t, at+"/status.json"), " ")
	var report Report
	if err := json.Unmarshal([]byte(text), &report); status != "200" || err != nil {
		t.Fatalf("%s %s, %v", status, text, err)
	}
	if report.ID != n.ID().String() || report.Version != "test" || report.Connections != 1 || report.Peers != 1 || report.Contents != 1 ||
		report.Announced != 1 || report.Messages != 2 || report.Refusals["bad_message"] != 1 || report.Mediators == nil {
		t.Errorf("it says %s", text)
	}
	metrics := body(t, at+"/metrics")
	for _, line := range []string{
		"p2pcdn_mediator_peers 1", "p2pcdn_mediator_announced 1", `p2pcdn_mediator_refusals_total{code="bad_message"} 1`,
		`p2pcdn_mediator_messages_received_total{type="announce"} 1`, `version="test"`, "p2pcdn_mediator_neighbours 0",
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics do not say %s", line)
		}
	}
	if got := body(t, at+"/readyz"); !strings.HasPrefix(got, "200 ") {
		t.Errorf("a mediator that starts a network of its own is not ready: %s", got)
	}
	lonely := start(t, loopback(t, "127.0.0.1:1"))
	if got := body(t, "http://"+lonely.Addr().String()+"/readyz"); !strings.HasPrefix(got, "503 ") {
		t.Errorf("one that reaches nobody is ready: %s", got)
	}
}

func TestAdmin(t *testing.T) {
	config := loopback(t)
	config.Admin = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	n := start(t, config)
	if got := body(t, "http://"+config.Admin+"/debug/pprof/goroutine?debug=1"); !strings.HasPrefix(got, "200 ") || !strings.Contains(got, "goroutine") {
		t.Errorf("the profile is %.100s", got)
	}
	if got := body(t, "http://"+n.Addr().String()+"/debug/pprof/"); !strings.HasPrefix(got, "404 ") {
		t.Errorf("peers see profiles: %.100s", got)
	}
	config = loopback(t)
	config.Admin = n.config.Admin
	if _, err := New(t.Context(), config); err == nil || !strings.Contains(err.Error(), "admin address") {
		t.Errorf("an address that is taken: %v", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	config := loopback(t)
	config.Limits.PerAddress = 2
	n := start(t, config)
	connect(t, n)
	connect(t, n)
	_, response, err := websocket.Dial(t.Context(), "ws://"+n.Addr().String()+mediation.Path, nil)
	if err == nil || response == nil || response.StatusCode != http.StatusTooManyRequests {
		t.Errorf("the third of two got %v, %v", response, err)
	}
	if got := body(t, "http://"+n.Addr().String()+"/metrics"); !strings.Contains(got, `refusals_total{code="too_many_connections"} 1`) {
		t.Error("it is not counted")
	}
}

// iceServers are those that a peer is told when it comes to the mediator as this host.
func iceServers(t *testing.T, n *Node, host string) []mediation.ICEServer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), "ws://"+n.Addr().String()+mediation.Path, &websocket.DialOptions{Host: host})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	return shakeHands(t, conn).ICEServers
}

// reflexive asks a STUN server for the port from which a socket comes (RFC 8489): 0 where it does not say.
func reflexive(t *testing.T, conn net.Conn) int {
	t.Helper()
	const cookie = "\x21\x12\xa4\x42"
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("\x00\x01\x00\x00" + cookie + "twelve bytes")); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 1500)
	size, err := conn.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	const attribute = "\x00\x20\x00\x08\x00\x01" // XOR-MAPPED-ADDRESS, of IPv4
	_, rest, found := strings.Cut(string(answer[:size]), attribute)
	if !found || len(rest) < 2 {
		return 0
	}
	return (int(rest[0])<<8 | int(rest[1])) ^ 0x2112
}

func TestSTUN(t *testing.T) {
	n := start(t, loopback(t))
	port := n.Addr().Port
	want := fmt.Sprintf("stun:mediator.example:%d", port)
	if servers := iceServers(t, n, fmt.Sprintf("mediator.example:%d", port)); len(servers) != 1 || !slices.Equal(servers[0].URLs, []string{want}) {
		t.Errorf("peers are told %v", servers)
	}
	conn, err := net.Dial("udp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := reflexive(t, conn); got != conn.LocalAddr().(*net.UDPAddr).Port {
		t.Errorf("a peer is told that it comes from port %d, not %s", got, conn.LocalAddr())
	}

	config := loopback(t)
	config.TURN.NoSTUN = true
	config.ICEServers = []mediation.ICEServer{{URLs: []string{"stun:other.example:3478"}}}
	if servers := iceServers(t, start(t, config), "mediator.example"); len(servers) != 1 || servers[0].URLs[0] != "stun:other.example:3478" {
		t.Errorf("without STUN, peers are told %v", servers)
	}
}

func TestTURNSharesThePort(t *testing.T) {
	config := loopback(t)
	config.TURN.Relay = true
	n := start(t, config)
	servers := iceServers(t, n, "[::1]:80")
	urls := fmt.Sprint(servers)
	for _, url := range []string{"stun:[::1]", "turn:[::1]:%d?transport=udp", "turn:[::1]:%d?transport=tcp"} {
		if strings.Contains(url, "%d") {
			url = fmt.Sprintf(url, n.Addr().Port)
		}
		if !strings.Contains(urls, url) {
			t.Errorf("peers are not told %s: %s", url, urls)
		}
	}
	for _, server := range servers {
		if strings.HasPrefix(server.URLs[0], "turn:") && (server.Username == "" || server.Credential == "") {
			t.Errorf("%s comes without credentials", server.URLs[0])
		}
	}
	// TURN over TCP begins with a STUN message, and HTTP is on the same port.
	conn, err := net.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := reflexive(t, conn); got != conn.LocalAddr().(*net.TCPAddr).Port {
		t.Errorf("over TCP a peer is told that it comes from port %d, not %s", got, conn.LocalAddr())
	}
	if got := body(t, "http://"+n.Addr().String()+"/healthz"); got != "200 ok\n" {
		t.Errorf("/healthz: %s", got)
	}
	var report Report
	_, text, _ := strings.Cut(body(t, "http://"+n.Addr().String()+"/status.json"), " ")
	if err := json.Unmarshal([]byte(text), &report); err != nil || report.TURN == nil {
		t.Errorf("it says %s, %v", text, err)
	}
	if !strings.Contains(body(t, "http://"+n.Addr().String()+"/metrics"), "p2pcdn_mediator_stun_bindings_total 1") {
		t.Error("what it told is not counted")
	}
}

func TestAPortThatIsTakenForUDP(t *testing.T) {
	config := loopback(t)
	config.Port = freePort(t)
	packets, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", config.Port))
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	if _, err := New(t.Context(), config); err == nil || !strings.Contains(err.Error(), "--stun") {
		t.Errorf("it started, or says %v", err)
	}
	config.TURN.NoSTUN = true
	start(t, config)
}
