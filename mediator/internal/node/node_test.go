package node

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/session"
)

func TestOneMediator(t *testing.T) {
	n := mediators(t, 1)[0]
	seeder, leecher := connect(t, n), connect(t, n)
	seeder.announce(hashOf(1))
	leecher.finds(hashOf(1), seeder)
	exchangeSignals(t, seeder, leecher)
	seeder.say(mediation.Finish{FullHash: hashOf(1)})
	eventually(t, "the announce is withdrawn", func() bool { return n.Status().Discovery.Announced == 0 })
	connect(t, n).findsNobody(hashOf(1))
}

// exchangeSignals sends an offer and its answer.
func exchangeSignals(t *testing.T, seeder, leecher *peer) {
	t.Helper()
	leecher.say(mediation.Signal{FullHash: hashOf(1), PeerID: seeder.id, SignalData: mediation.NewSignalData(`{"type":"offer"}`)})
	if got := seeder.next(); got != mediation.Message(mediation.Signal{FullHash: hashOf(1), PeerID: leecher.id, SignalData: mediation.NewSignalData(`{"type":"offer"}`)}) {
		t.Fatalf("the seeder got %s", show(got))
	}
	seeder.say(mediation.Signal{FullHash: hashOf(1), PeerID: leecher.id, SignalData: mediation.NewSignalData(`{"type":"answer"}`)})
	if got := leecher.next(); got != mediation.Message(mediation.Signal{FullHash: hashOf(1), PeerID: seeder.id, SignalData: mediation.NewSignalData(`{"type":"answer"}`)}) {
		t.Fatalf("the leecher got %s", show(got))
	}
}

func TestSeveralMediators(t *testing.T) {
	for _, size := range []int{2, 5} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			nodes := mediators(t, size)
			seeder := connect(t, nodes[0])
			seeder.announce(hashOf(1))
			for _, n := range nodes[1:] {
				leecher := connect(t, n)
				leecher.finds(hashOf(1), seeder)
				exchangeSignals(t, seeder, leecher)
				leecher.say(mediation.Finish{FullHash: hashOf(1)})
			}
			seeder.say(mediation.Finish{FullHash: hashOf(1)})
			withdrawn(t, nodes, 0)
			for _, n := range nodes {
				connect(t, n).findsNobody(hashOf(1))
			}
		})
	}
}

// withdrawn waits until nothing stands in the DHT for a mediator's peers any more:
// neither at home nor with any other mediator.
func withdrawn(t *testing.T, nodes []*Node, of int) {
	t.Helper()
	eventually(t, "the announce is withdrawn", func() bool {
		held := 0
		for _, n := range nodes {
			held += n.Status().Discovery.Held
		}
		home := nodes[of].Status().Discovery
		return home.Announced+home.Pending+held == 0
	})
}

func TestVanishedPeer(t *testing.T) {
	nodes := mediators(t, 5)
	seeder := connect(t, nodes[0])
	seeder.announce(hashOf(1))
	connect(t, nodes[3]).finds(hashOf(1), seeder)
	seeder.vanish()
	withdrawn(t, nodes, 0)
	for _, n := range nodes {
		connect(t, n).findsNobody(hashOf(1))
	}
}

func TestKilledMediator(t *testing.T) {
	nodes := mediators(t, 3)
	victim := startVictim(t, nodes[0].Addr().String())
	doomed := victim.connect(t)
	doomed.announce(hashOf(1))
	survivor := connect(t, nodes[1])
	survivor.announce(hashOf(1))

	leecher := connect(t, nodes[2])
	leecher.finds(hashOf(1), doomed)
	victim.kill(t) // its record stays in the DHT
	other := connect(t, nodes[0])
	other.say(mediation.GetPeers{FullHash: hashOf(1)})
	named := map[ident.PeerID]bool{}
	for !named[survivor.id] {
		for _, id := range other.next().(mediation.Peers).Peers {
			named[id] = true
		}
	}
	if named[doomed.id] {
		t.Error("a peer of the dead mediator was named")
	}
}

func TestLateAnnounceReachesAWaitingLeecher(t *testing.T) {
	nodes := mediators(t, 3)
	leecher := connect(t, nodes[2])
	leecher.say(mediation.GetPeers{FullHash: hashOf(1)})
	if m := leecher.next().(mediation.Peers); len(m.Peers) != 0 {
		t.Fatalf("told of %v", m.Peers)
	}
	local, first, second := connect(t, nodes[2]), connect(t, nodes[0]), connect(t, nodes[0])
	local.announce(hashOf(1))
	leecher.told(hashOf(1), local)
	waiting := connect(t, nodes[1]) // which knows nobody, and so searches often
	waiting.say(mediation.GetPeers{FullHash: hashOf(2)})
	first.announce(hashOf(2))
	waiting.told(hashOf(2), first)
	second.announce(hashOf(2)) // told by the mediator itself
	waiting.told(hashOf(2), second)
}

func TestMediatorJoinsLater(t *testing.T) {
	first := start(t, loopback(t))
	seeder := connect(t, first)
	seeder.announce(hashOf(1)) // while it is alone
	second := start(t, loopback(t, "http://"+first.Addr().String()))
	connect(t, second).finds(hashOf(1), seeder)
	multiaddr := ""
	for _, address := range second.DHTAddrs() {
		if strings.Contains(address, "/tcp/") {
			multiaddr = address
		}
	}
	third := start(t, loopback(t, multiaddr))
	connect(t, third).finds(hashOf(1), seeder)
}

func TestBootstrapThatIsNotThereYet(t *testing.T) {
	port := freePort(t)
	config := loopback(t, fmt.Sprintf("127.0.0.1:%d", port))
	config.Limits.Discovery.BootstrapMin = 50 * time.Millisecond
	config.Limits.Discovery.BootstrapMax = 100 * time.Millisecond
	early := start(t, config) // it starts anyway
	seeder := connect(t, early)
	seeder.announce(hashOf(1))
	late := loopback(t)
	late.Port = port
	leecher := connect(t, start(t, late))
	eventually(t, "they have met", func() bool { return early.Status().Discovery.Peers == 1 })
	leecher.finds(hashOf(1), seeder)
}

func TestBootstrapThatIsNoMediator(t *testing.T) {
	stranger := httptest.NewServer(http.NotFoundHandler())
	defer stranger.Close()
	n := start(t, loopback(t, stranger.URL))
	seeder, leecher := connect(t, n), connect(t, n)
	seeder.announce(hashOf(1))
	leecher.finds(hashOf(1), seeder)
}

func TestWhatCannotStart(t *testing.T) {
	running := start(t, loopback(t))
	taken := running.Addr().Port
	var dhtPort int
	for _, address := range running.DHTAddrs() {
		if _, err := fmt.Sscanf(address, "/ip4/127.0.0.1/tcp/%d/", &dhtPort); err == nil {
			break
		}
	}
	for _, test := range []struct {
		name, message string
		change        func(*Config)
	}{
		{"port in use", "in use", func(c *Config) { c.Port = taken }},
		{"dht-port in use", "in use", func(c *Config) { c.DHTPort = dhtPort }},
		{"negative port", "port must be", func(c *Config) { c.Port = -1 }},
		{"large dht-port", "dht-port must be", func(c *Config) { c.DHTPort = 65536 }},
		{"no address", "IP address", func(c *Config) { c.Listen = "localhost" }},
		{"bad bootstrap", "bootstrap", func(c *Config) { c.Bootstrap = []string{"ftp://x"} }},
		{"no data directory", "data directory", func(c *Config) { c.DataDir = "" }},
		{"data directory is a file", "not a directory", func(c *Config) {
			c.DataDir = filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(c.DataDir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		config := loopback(t)
		test.change(&config)
		n, err := New(t.Context(), config)
		if err == nil {
			n.Close()
			t.Errorf("%s: it started", test.name)
		} else if !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: the error says %q", test.name, err)
		}
	}
}

func TestOneDataDirectoryServesOneMediator(t *testing.T) {
	config := loopback(t)
	first := start(t, config)
	if n, err := New(t.Context(), config); err == nil {
		n.Close()
		t.Fatal("two mediators share a key")
	} else if !strings.Contains(err.Error(), "in use by another mediator") {
		t.Errorf("the error says %q", err)
	}
	id := first.ID()
	first.Close()
	second := start(t, config)
	if second.ID() != id {
		t.Error("the id did not survive")
	}
	other := start(t, loopback(t))
	if other.ID() == id {
		t.Error("two data directories have one id")
	}
}

// TestNonsense is everything that a peer can send wrong: each is told with its
// code, and the connection goes on.
func TestNonsense(t *testing.T) {
	n := mediators(t, 1)[0]
	honest := connect(t, n)
	hash := hashOf(1).String()
	early := open(t, n)
	early.say(mediation.GetPeers{FullHash: hashOf(1)})
	early.refused(mediation.CodeHandshakeRequired)
	early.say(mediation.Handshake{PeerID: honest.id})
	early.refused(mediation.CodePeerIDInUse)

	p := connect(t, n)
	for text, code := range map[string]mediation.ErrorCode{
		``:                                       mediation.CodeBadMessage,
		`hello`:                                  mediation.CodeBadMessage,
		`[]`:                                     mediation.CodeBadMessage,
		`{"type":"get_pe`:                        mediation.CodeBadMessage,
		`{"type":"dance"}`:                       mediation.CodeUnknownType,
		`{"type":"get_peers","full_hash":"xyz"}`: mediation.CodeBadFullHash,
		`{"type":"get_peers","full_hash":"` + strings.ToUpper(hash) + `"}`: mediation.CodeBadFullHash,
		`{"type":"announce"}`:             mediation.CodeBadMessage,
		`{"type":"finish","full_hash":7}`: mediation.CodeBadMessage,
		`{"type":"signal","full_hash":"` + hash + `","peer_id":"12","signal_data":""}`:                                                                               mediation.CodeBadPeerID,
		`{"type":"handshake","peer_id":"` + p.id.String() + `","connection_type":"mediation"}`:                                                                       mediation.CodeAlreadyEstablished,
		`{"type":"handshake","peer_id":"` + p.id.String() + `","connection_type":"friendship"}`:                                                                      mediation.CodeBadConnectionType,
		`{"type":"handshake","peer_id":"` + n.ID().String() + `","connection_type":"replication"}`:                                                                   mediation.CodeReplicationRefused,
		`{"type":"peers","full_hash":"` + hash + `","peers":[]}`:                                                                                                     mediation.CodeUnexpectedType,
		`{"type":"signal","full_hash":"` + hash + `","peer_id":"` + p.id.String() + `","signal_data":""}`:                                                            mediation.CodeSignalToSelf,
		`{"type":"signal","full_hash":"` + hash + `","peer_id":"` + strings.Repeat("9", 40) + `","signal_data":""}`:                                                  mediation.CodePeerNotFound,
		`{"type":"signal","full_hash":"` + hash + `","peer_id":"` + honest.id.String() + `","signal_data":"` + strings.Repeat("x", mediation.MaxSignalData+1) + `"}`: mediation.CodeSignalTooBig,
		strings.Repeat(`[`, 100_000):    mediation.CodeBadMessage,
		strings.Repeat(`{"a":`, 20_000): mediation.CodeBadMessage,
	} {
		p.raw([]byte(text))
		p.refused(code)
	}
	if err := p.conn.Write(t.Context(), websocket.MessageBinary, []byte("{}")); err != nil {
		t.Fatal(err)
	}
	p.refused(mediation.CodeBadMessage)
	p.raw([]byte(strings.Repeat(" ", mediation.MaxMessageSize+1)))
	p.refused(mediation.CodeMessageTooBig)
	if _, more := <-p.got; more || websocket.CloseStatus(p.err) != websocket.StatusMessageTooBig {
		t.Errorf("it ended with %v", p.err)
	}
	honest.announce(hashOf(1))
	connect(t, n).finds(hashOf(1), honest)
	if len(honest.got) != 0 {
		t.Error("a stranger's nonsense reached an honest peer")
	}
}

func TestHandshakeTimeout(t *testing.T) {
	config := loopback(t)
	config.Limits.Session = session.Config{HandshakeTimeout: 50 * time.Millisecond}
	p := open(t, start(t, config))
	p.refused(mediation.CodeHandshakeTimeout)
}

// TestHostileMediator is a libp2p host that speaks the mediators' protocol, badly.
func TestHostileMediator(t *testing.T) {
	nodes := mediators(t, 2)
	seeder, leecher := connect(t, nodes[0]), connect(t, nodes[1])
	seeder.announce(hashOf(1))
	hostile, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	defer hostile.Close()
	address, err := libp2ppeer.AddrInfoFromString(nodes[0].DHTAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := hostile.Connect(t.Context(), *address); err != nil {
		t.Fatal(err)
	}
	hello := func(id string) []byte {
		return frame(`{"type":"handshake","connection_type":"replication","peer_id":"` + id + `"}`)
	}
	us := hostile.ID().String()
	nobody := ident.PeerID{7}
	for _, test := range []struct {
		name   string
		send   []byte
		answer string // part of it; "": the stream is ended without one
	}{
		{"silence", nil, ""},
		{"no length", []byte{0, 0}, ""},
		{"a huge length", []byte{0xff, 0xff, 0xff, 0xff, 'x'}, string(mediation.CodeMessageTooBig)},
		{"no JSON", frame("hello"), string(mediation.CodeBadMessage)},
		{"no handshake", mustFrame(mediation.GetPeers{FullHash: hashOf(1)}), string(mediation.CodeHandshakeRequired)},
		{"another's id", hello(nodes[1].ID().String()), string(mediation.CodeReplicationRefused)},
		{"a peer's handshake", mustFrame(mediation.Handshake{PeerID: nobody}), string(mediation.CodeHandshakeRequired)},
		{"nonsense after", append(hello(us), frame("hello")...), string(mediation.CodeBadMessage)},
		{"an announce after", append(hello(us), mustFrame(mediation.Announce{FullHash: hashOf(1)})...), string(mediation.CodeUnexpectedType)},
		{"a forged sender", append(hello(us), mustFrame(mediation.Signal{FullHash: hashOf(1), PeerID: seeder.id, SenderID: seeder.id, SignalData: mediation.NewSignalData("x")})...), string(mediation.CodeBadPeerID)},
		{"a signal to nobody", append(hello(us), mustFrame(mediation.Signal{FullHash: hashOf(1), PeerID: nobody, SenderID: ident.PeerID{8}, SignalData: mediation.NewSignalData("x")})...), string(mediation.CodePeerNotFound)},
		{"cut short", append(hello(us), 0, 0, 1, 0, '{'), "established"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if answer := tell(t, hostile, address.ID, test.send, test.answer); !strings.Contains(answer, test.answer) {
				t.Errorf("answered by %q instead of %s", answer, test.answer)
			}
		})
	}
	if len(seeder.got) != 0 {
		t.Error("a stranger reached a peer")
	}
	leecher.finds(hashOf(1), seeder)
	exchangeSignals(t, seeder, leecher)
}

// tell opens a mediation stream, says something, and returns what is answered
// until that holds the expected part, or the stream ends.
func tell(t *testing.T, from host.Host, to libp2ppeer.ID, what []byte, expected string) string {
	t.Helper()
	stream, err := from.NewStream(network.WithNoDial(t.Context(), "connected above"), to, mediation.StreamProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Reset()
	_ = stream.SetDeadline(time.Now().Add(patience))
	if _, err := stream.Write(what); err != nil {
		t.Fatal(err)
	}
	if expected == "" {
		_ = stream.CloseWrite()
	}
	var answer strings.Builder
	buffer := make([]byte, 4096)
	for expected == "" || !strings.Contains(answer.String(), expected) {
		n, err := stream.Read(buffer)
		answer.Write(buffer[:n])
		if err != nil { // a reset is a right end, too
			break
		}
	}
	return answer.String()
}

func frame(text string) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
}

func mustFrame(message mediation.Message) []byte { return frame(string(mediation.Encode(message))) }

func TestCloseTellsPeersAndWithdraws(t *testing.T) {
	nodes := mediators(t, 3)
	leaving, err := New(t.Context(), loopback(t, nodes[0].Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- leaving.Run(ctx) }()
	var seeders []*peer
	for n := range byte(20) {
		seeders = append(seeders, connect(t, leaving))
		seeders[n].announce(hashOf(n))
	}
	connect(t, nodes[1]).finds(hashOf(3), seeders[3])
	stop()
	for _, seeder := range seeders {
		seeder.refused(mediation.CodeGoingAway)
		if _, more := <-seeder.got; more || websocket.CloseStatus(seeder.err) != websocket.StatusGoingAway {
			t.Errorf("it ended with %v", seeder.err)
		}
	}
	if err := <-ran; err != nil {
		t.Error(err)
	}
	for _, n := range nodes {
		if held := n.Status().Discovery.Held; held != 0 {
			t.Errorf("a mediator still holds %d records of the one that left", held)
		}
		connect(t, n).findsNobody(hashOf(3))
	}
}

func TestCloseOfABusyMediator(t *testing.T) {
	nodes := mediators(t, 2)
	var peers []*peer
	for range 10 {
		peers = append(peers, connect(t, nodes[1]))
	}
	for n := range byte(50) {
		p := peers[int(n)%len(peers)]
		p.say(mediation.Announce{FullHash: hashOf(n)})
		p.say(mediation.GetPeers{FullHash: hashOf(n + 100)})
	}
	nodes[1].Close()
	nodes[1].Close()
}

func TestPreviewIsServed(t *testing.T) {
	n := mediators(t, 1)[0]
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{}}}
	defer client.CloseIdleConnections()
	for path, part := range map[string]string{"/": "<html", "/preview/": "<html", "/id": n.ID().String(), "/healthz": "ok"} {
		response, err := client.Get("http://" + n.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || response.StatusCode != http.StatusOK || !strings.Contains(string(body), part) {
			t.Errorf("%s gave %d, %v", path, response.StatusCode, err)
		}
	}
}
