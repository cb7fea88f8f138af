package node

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/pion/logging"
	"github.com/pion/turn/v4"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/discovery"
	"p2pcdn/mediator/internal/ice"
	"p2pcdn/mediator/internal/neighbours"
	"p2pcdn/mediator/internal/relay"
	"p2pcdn/mediator/internal/router"
	"p2pcdn/mediator/internal/session"
)

// The limits of the mediator that is attacked, where the usual ones would take long to reach.
const (
	besiegedPerAddress  = 16
	besiegedAnnounces   = 32
	besiegedLookups     = 32
	besiegedContents    = 96
	besiegedStreams     = 3
	besiegedMessages    = 20 // a second, of a mediator
	besiegedAllocations = 2  // of a peer
	besiegedQueue       = 128 << 10

	// besiegedPatience is for handshakes and pongs: longer than a busy machine makes an honest peer
	// take, and shorter than the slowest attack takes anyway.
	besiegedPatience = 5 * time.Second
	besiegedPing     = time.Second
)

// siege is a mediator that is attacked, and another one that should not notice. (But for what
// pings find out: the other one sends many, and has nobody to fill the buffers before a ping.)
type siege struct {
	first, second *Node
	goroutines    int // while nobody is there
	state         string
}

// attack is something that somebody does to the first mediator.
type attack struct {
	name    string
	counted string // the figure of /metrics that grows by it: a code, or the name of another one; "": none does
	run     func(*testing.T, *siege)
}

// attacks are tried one after the other. After each of them the mediator must be as before.
var attacks = []attack{
	{"a flood of messages", "rate_limited", floodOfMessages},
	{"a flood of get_peers", "rate_limited", floodOfLookups},
	{"a flood of signals to one victim", "rate_limited", floodOfSignals},
	{"long signals to a victim that does not read", "overloaded", drowning},
	{"waiting for everything", "too_many_lookups", waitingForEverything},
	{"announcing everything", "too_many_announces", announcingEverything},
	{"announcing everything, as many peers", "too_many_contents", announcingTogether},
	{"nothing but nonsense", "too_many_errors", nothingButNonsense},
	{"nested JSON", "bad_message", nonsense(`{"type":"announce","full_hash":"`+hashOf(1).String()+`","x":`+strings.Repeat("[", 50_000)+strings.Repeat("]", 50_000)+`}`, mediation.CodeBadMessage)},
	{"JSON that ends nowhere", "bad_message", nonsense(strings.Repeat(`{"a":`, 20_000), mediation.CodeBadMessage)},
	{"invalid UTF-8", "bad_message", nonsense(`{"type":"finish","full_hash":"`+hashOf(1).String()+`","x":"`+"\xff\xfe\"}", mediation.CodeBadMessage)},
	{"half a surrogate", "bad_message", nonsense(`{"type":"finish","full_hash":"`+hashOf(1).String()+`","x":"\ud800"}`, mediation.CodeBadMessage)},
	{"an unknown type", "unknown_type", nonsense(`{"type":"shutdown"}`, mediation.CodeUnknownType)},
	{"a mediator's message", "unexpected_type", nonsense(`{"type":"announced","full_hash":"`+hashOf(1).String()+`"}`, mediation.CodeUnexpectedType)},
	{"binary frames", "bad_message", binaryFrames},
	{"a giant message", "message_too_big", giant},
	{"a giant message in small frames", "message_too_big", giantInFrames},
	{"frames that are none", "", brokenFrames},
	{"a giant head of a request", "", giantHead},
	{"requests that are none", "", otherRequests},
	{"a page of a site that may not", "origin_refused", foreignPage},
	{"too many connections", "too_many_connections", tooManyConnections},
	{"too many requests at once", "too_many_connections", tooManyRequests},
	{"the id of another peer", "peer_id_in_use", theft},
	{"no id", "bad_peer_id", noID},
	{"signals to strangers", "peer_not_found", signalsToStrangers},
	{"a peer that does not read", "slow_reader", neverReading},
	{"a peer that calls itself a mediator", "replication_refused", replicationOverWebSocket},

	{"a mediator with another's id", "replication_refused", anothersID},
	{"a mediator without a handshake", "handshake_required", noHandshake},
	{"a mediator's unknown types", "too_many_errors", unknownTypes},
	{"a mediator's giant message", "message_too_big", giantBetweenMediators},
	{"a mediator's flood", "rate_limited", floodOfAMediator},
	{"a mediator with too many streams", "overloaded", tooManyStreams},
	{"a mediator that forges senders", "bad_peer_id", forgedSenders},
	{"a mediator that asks too often", "", askingTooOften},
	{"answers that nobody asked for", "", unaskedAnswers},
	{"forged withdrawals", "", forgedWithdrawals},

	{"TURN with a wrong password", "turn_refused_credentials_total", wrongPassword},
	{"TURN with what has expired", "turn_refused_credentials_total", expiredCredentials},
	{"TURN into private networks", "turn_refused_addresses_total", privateNetworks},
	{"TURN without end", "turn_refused_allocations_total", tooManyAllocations},
	{"TURN above the rate", "turn_dropped_bytes_total", tooManyBytes},
	{"TURN of frames that are none", "", brokenTURN},
	{"a flood of STUN", "stun_refused_requests_total", floodOfSTUN},

	{"slowness", "handshake_timeout", slowness},
	{"a mediator that names others' peers", "", namingOthersPeers}, // the last: the DHT looks for it for a while when it has gone
}

func TestHostileClients(t *testing.T) {
	if own, err := net.Listen("tcp", strangerAddress+":0"); err != nil {
		t.Skip("strangers need a loopback address of their own, and this system has one alone:", err)
	} else {
		_ = own.Close()
	}
	s := besiege(t)
	for _, a := range attacks {
		before := s.counter(t, a.counted)
		if !t.Run(a.name, func(t *testing.T) { a.run(t, s) }) {
			continue
		}
		if after := s.counter(t, a.counted); a.counted != "" && after <= before {
			t.Errorf("%s: %s was %v and is %v", a.name, a.counted, before, after)
		}
		if !t.Run(a.name+": the mediator is whole", func(t *testing.T) { s.serves(t) }) {
			return // what follows would be blamed on others
		}
		s.returns(t, a.name)
	}
}

func besiege(t *testing.T) *siege {
	config := loopback(t)
	config.TURN.Relay = true
	config.AllowOrigins = []string{"https://site.example"}
	config.Limits.PerAddress = besiegedPerAddress
	config.Limits.Session = session.Config{HandshakeTimeout: besiegedPatience, MaxQueued: besiegedQueue, WriteTimeout: besiegedPatience}
	config.Limits.Router = router.Config{MaxAnnounces: besiegedAnnounces, MaxLookups: besiegedLookups, MaxContents: besiegedContents}
	config.Limits.Relay = relay.Config{
		MaxStreamsPerMediator: besiegedStreams, MessagesPerMediator: besiegedMessages, HandshakeTimeout: besiegedPatience,
	}
	config.Limits.Discovery = discovery.Timing{RetryMin: 100 * time.Millisecond, RetryMax: time.Second} // what a busy machine makes fail
	config.Limits.ICE = ice.Limits{PeerAllocations: besiegedAllocations, PeerRate: 1}                   // at once, 64 KiB may be relayed nevertheless
	s := &siege{first: start(t, config)}
	impatient := loopback(t, s.first.Addr().String())
	impatient.Limits.Discovery = config.Limits.Discovery
	impatient.Limits.Session = session.Config{PingInterval: besiegedPing, PingTimeout: besiegedPatience}
	s.second = start(t, impatient)
	eventually(t, "they have met", func() bool {
		return s.first.Status().Discovery.Peers == 1 && s.second.Status().Discovery.Peers == 1
	})
	t.Run("before", func(t *testing.T) { s.serves(t) }) // what is made once is made
	for _, n := range []*Node{s.first, s.second} {
		eventually(t, "nobody is there", func() bool {
			status := n.Status()
			return status.Connections+status.Router.Peers+status.Router.Contents+status.Router.Running+status.Discovery.Held+status.Discovery.Announced == 0
		})
	}
	s.state, s.goroutines = s.moment(), len(ours())
	for range 20 { // the least: what comes and goes is not to be counted in
		s.goroutines = min(s.goroutines, len(ours()))
	}
	return s
}

// serves introduces honest peers to each other, at one mediator and across both.
func (s *siege) serves(t *testing.T) {
	t.Helper()
	seeder, near, far := connect(t, s.first), connect(t, s.first), connect(t, s.second)
	seeder.announce(hashOf(1))
	for _, leecher := range []*peer{near, far} {
		leecher.finds(hashOf(1), seeder)
		exchangeSignals(t, seeder, leecher)
	}
}

// moment is all that a mediator holds of others, of both.
func (s *siege) moment() string {
	var text strings.Builder
	for _, n := range []*Node{s.first, s.second} {
		status := n.Status()
		status.Discovery.Peers, status.Discovery.Refused = 0, 0 // who has left is forgotten later; and a count
		fmt.Fprintf(&text, "%+v", status)
	}
	stats := s.first.ice.Stats()
	fmt.Fprintf(&text, " %d allocations, %d connections for TURN", stats.Allocations, stats.Connections)
	return text.String()
}

// ours is how many goroutines serve somebody: all but those of libp2p, which come and go.
func ours() (stacks []string) {
	all := make([]byte, 4<<20)
	all = all[:runtime.Stack(all, true)]
	for stack := range strings.SplitSeq(string(all), "\n\n") {
		if slices.ContainsFunc([]string{"p2pcdn/", "net/http", "coder/websocket", "pion/"}, func(part string) bool { return strings.Contains(stack, part) }) {
			stacks = append(stacks, stack)
		}
	}
	return stacks
}

// returns waits until nothing is left of an attack.
func (s *siege) returns(t *testing.T, after string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for s.moment() != s.state || len(ours()) > s.goroutines {
		if time.Now().After(deadline) {
			stacks := ours()
			t.Fatalf("after %s, of\n%s, %d goroutines\nthere is left\n%s, %d goroutines:\n%s",
				after, s.state, s.goroutines, s.moment(), len(stacks), strings.Join(stacks, "\n\n"))
		}
		<-time.After(10 * time.Millisecond)
	}
}

// counter is a figure of the first mediator's /metrics: the refusals with a code, or one by its name.
func (s *siege) counter(t *testing.T, name string) float64 {
	t.Helper()
	if name == "" {
		return 0
	}
	wanted := "p2pcdn_mediator_" + name + " "
	if !strings.HasSuffix(name, "_total") {
		wanted = `p2pcdn_mediator_refusals_total{code="` + name + `"} `
	}
	for line := range strings.Lines(body(t, "http://"+s.first.Addr().String()+"/metrics")) {
		if text, is := strings.CutPrefix(line, wanted); is {
			value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				t.Fatal(err)
			}
			return value
		}
	}
	return 0 // nothing was refused for it yet
}

// many is the nth of contents that nobody has.
func many(n int) content.FullHash {
	return content.FullHash{0: 0xbb, 1: byte(n >> 16), 30: byte(n >> 8), 31: byte(n)}
}

// flood has the peer send messages until one is refused with that code.
func (s *stranger) flood(code mediation.ErrorCode, message func(n int) mediation.Message) {
	s.t.Helper()
	const most = 50_000 // far more than anybody may, also while a busy machine lets time pass
	for n := range most {
		if n%100 == 99 && s.count(string(code)) > 0 {
			s.stays()
			return
		}
		s.say(message(n))
	}
	s.refused(code)
}

func floodOfMessages(t *testing.T, s *siege) {
	intrude(t, s.first).flood(mediation.CodeRateLimited, func(n int) mediation.Message { return mediation.Finish{FullHash: many(n)} })
}

func floodOfLookups(t *testing.T, s *siege) {
	p := intrude(t, s.first)
	p.flood(mediation.CodeRateLimited, func(int) mediation.Message { return mediation.GetPeers{FullHash: many(1)} })
	p.mu.Lock()
	defer p.mu.Unlock()
	if about := p.last.FullHash; about == nil || *about != many(1) {
		t.Errorf("it was told of %v", about)
	}
}

func floodOfSignals(t *testing.T, s *siege) {
	victim, p := intrude(t, s.first), intrude(t, s.first)
	sent := 0
	p.flood(mediation.CodeRateLimited, func(n int) mediation.Message {
		sent = n + 1
		return mediation.Signal{FullHash: many(1), PeerID: victim.id, SignalData: mediation.NewSignalData("x")}
	})
	victim.stays()
	if got := victim.count(mediation.Signal{}.Type()); got >= sent {
		t.Errorf("all %d signals reached the victim", got)
	}
}

// drowning sends more to a victim than it reads: the sender is refused, and the victim stays.
func drowning(t *testing.T, s *siege) {
	victim := connectDeaf(t, s.first)
	long := mediation.NewSignalData(strings.Repeat("x", mediation.MaxSignalData))
	refused := func(p *stranger) bool { return p.count(string(mediation.CodeOverloaded)) > 0 }
	for range besiegedPerAddress - 2 { // each may send some twenty of these at once
		p := intrude(t, s.first)
		for range 20 {
			p.say(mediation.Signal{FullHash: many(1), PeerID: victim.id, SignalData: long})
		}
		p.say(mediation.Handshake{PeerID: p.id}) // its answer comes after those
		p.refused(mediation.CodeAlreadyEstablished)
		if refused(p) {
			if here := s.first.Status().Router.Peers; here < 2 {
				t.Errorf("the victim was cut off: %d peers are left", here)
			}
			return
		}
	}
	t.Error("nobody was refused")
}

// deaf is a peer that does not read.
type deaf struct {
	tcp *net.TCPConn
	id  ident.PeerID
}

func connectDeaf(t *testing.T, n *Node) *deaf {
	t.Helper()
	d := &deaf{tcp: reach(t, n), id: ident.PeerID{0: 0xdf, 19: 1}}
	if response, _ := upgrade(t, d.tcp); response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("a WebSocket was refused with %d", response.StatusCode)
	}
	before := n.Status().Router.Peers
	if _, err := d.tcp.Write(wsFrame(final|opText, mediation.Encode(mediation.Handshake{PeerID: d.id}))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "its handshake is taken", func() bool { return n.Status().Router.Peers > before })
	return d
}

func waitingForEverything(t *testing.T, s *siege) {
	p := intrude(t, s.first)
	for n := range besiegedLookups + 1 {
		p.say(mediation.GetPeers{FullHash: many(n)})
	}
	p.refused(mediation.CodeTooManyLookups)
	p.stays()
}

func announcingEverything(t *testing.T, s *siege) {
	p := intrude(t, s.first)
	for n := range besiegedAnnounces + 1 {
		p.say(mediation.Announce{FullHash: many(n)})
	}
	p.refused(mediation.CodeTooManyAnnounces)
	p.stays()
}

func announcingTogether(t *testing.T, s *siege) {
	var last *stranger
	for n := range besiegedContents + 1 {
		if n%besiegedAnnounces == 0 {
			last = intrude(t, s.first)
		}
		last.say(mediation.Announce{FullHash: many(n)})
		if (n+1)%besiegedAnnounces == 0 { // else the next one may overtake it
			eventually(t, "they are taken", func() bool { return s.first.Status().Router.Contents > n })
		}
	}
	last.refused(mediation.CodeTooManyContents)
}

func nothingButNonsense(t *testing.T, s *siege) {
	p := intrude(t, s.first)
	for range session.DefaultMaxErrors {
		p.text("hello")
	}
	p.expelled(int(websocket.StatusPolicyViolation), mediation.CodeTooManyErrors)
	if got := p.count(string(mediation.CodeBadMessage)); got != session.DefaultMaxErrors {
		t.Errorf("it was told %d times that it is nonsense", got)
	}
}

// nonsense is a message that is answered with a code, and changes nothing.
func nonsense(text string, code mediation.ErrorCode) func(*testing.T, *siege) {
	return func(t *testing.T, s *siege) {
		p := intrude(t, s.first)
		p.text(text)
		p.refused(code)
		p.stays()
	}
}

func binaryFrames(t *testing.T, s *siege) {
	p := intrude(t, s.first)
	p.raw(wsFrame(final|opBinary, mediation.Encode(mediation.Announce{FullHash: many(1)})))
	p.refused(mediation.CodeBadMessage)
	p.stays()
}

func giant(t *testing.T, s *siege) {
	p := intrude(t, s.first)
	p.raw(append(wsHead(final|opText, 1<<40), bytes.Repeat([]byte(" "), mediation.MaxMessageSize+1)...))
	p.refused(mediation.CodeMessageTooBig)
	p.expelled(int(websocket.StatusMessageTooBig), mediation.CodeMessageTooBig)
}

func giantInFrames(t *testing.T, s *siege) {
	const part = 1000
	p := intrude(t, s.first)
	opcode := byte(opText)
	for sent := 0; sent <= mediation.MaxMessageSize; sent += part {
		p.raw(wsFrame(opcode, bytes.Repeat([]byte(" "), part)))
		opcode = opContinuation
	}
	p.refused(mediation.CodeMessageTooBig)
	p.expelled(int(websocket.StatusMessageTooBig), mediation.CodeMessageTooBig)
}

// brokenFrames violate the WebSocket itself: there is nobody to tell a code to.
func brokenFrames(t *testing.T, s *siege) {
	for _, bytes := range [][]byte{
		{final | 3, 0x80, 0, 0, 0, 0},                  // an opcode that is reserved
		{final | 0x70 | opText, 0x80, 0, 0, 0, 0},      // bits that are
		{final | opText, 2, '{', '}'},                  // not masked
		{opPing, 0x80, 0, 0, 0, 0},                     // a ping in parts
		wsFrame(final|opPing, make([]byte, 126)),       // one that is too long
		wsFrame(final|opContinuation, []byte("{}")),    // of nothing
		append(wsHead(final|opText, 1<<62), "{}"...),   // cut short, below
		wsFrame(final|opClose, []byte{0, 1, 'b', 'y'}), // a status that there is not
	} {
		p := intrude(t, s.first)
		p.raw(bytes)
		_ = p.tcp.CloseWrite()
		eventually(t, fmt.Sprintf("%x is the end", bytes[:2]), func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.over
		})
	}
}

func giantHead(t *testing.T, s *siege) {
	conn := reach(t, s.first)
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Long: "+strings.Repeat("x", 64<<10)+"\r\n\r\n") // it may be cut off earlier
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("it was answered by %v, %v", response, err)
	}
}

func otherRequests(t *testing.T, s *siege) {
	for request, status := range map[string]int{
		"POST /mediation HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n":          http.StatusMethodNotAllowed,
		"GET /mediation HTTP/1.1\r\nHost: x\r\n\r\n":                                http.StatusUpgradeRequired,
		"GET /preview/../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n":              http.StatusNotFound,
		"GET /debug/pprof/heap HTTP/1.1\r\nHost: x\r\n\r\n":                         http.StatusNotFound,
		"GET / HTTP/1.1\r\n\r\n":                                                    http.StatusBadRequest,
		"GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n": http.StatusNotImplemented,
		"NONSENSE\r\n\r\n": http.StatusBadRequest,
		"GET /status.json HTTP/9.9\r\nHost: x\r\n\r\n":                                      http.StatusHTTPVersionNotSupported,
		"GET /mediation HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n": http.StatusUpgradeRequired,
	} {
		conn := reach(t, s.first)
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		_ = conn.CloseWrite()
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatalf("%q: %v", request, err)
		}
		if path := response.Header.Get("Location"); response.StatusCode != status && !(path != "" && response.StatusCode/100 == 3) {
			t.Errorf("%q was answered by %s", request, response.Status)
		}
	}
}

// turnedAway fails unless a WebSocket is refused so.
func turnedAway(t *testing.T, n *Node, status int, code mediation.ErrorCode, headers ...string) {
	t.Helper()
	response, _ := upgrade(t, reach(t, n), headers...)
	text, err := io.ReadAll(io.LimitReader(response.Body, 1000))
	if err != nil {
		t.Fatal(err)
	}
	message, _ := mediation.Decode(text)
	if refusal, is := message.(*mediation.Error); !is || refusal.Code != code || response.StatusCode != status {
		t.Errorf("it was answered by %d %s", response.StatusCode, text)
	}
}

func foreignPage(t *testing.T, s *siege) {
	turnedAway(t, s.first, http.StatusForbidden, mediation.CodeOriginRefused, "Origin: https://another.example")
}

func tooManyConnections(t *testing.T, s *siege) {
	for range besiegedPerAddress {
		knock(t, s.first)
	}
	turnedAway(t, s.first, http.StatusTooManyRequests, mediation.CodeTooManyConnections)
	connect(t, s.first) // from another address
}

// tooManyRequests keeps more HTTP connections open than one address may have.
func tooManyRequests(t *testing.T, s *siege) {
	const visits = 512
	cut := make(chan struct{}, 1)
	for range visits + 10 {
		conn := reach(t, s.first)
		if _, err := io.WriteString(conn, "G"); err != nil {
			t.Fatal(err)
		}
		go func() {
			if _, err := conn.Read(make([]byte, 1)); err == io.EOF { // not when it is closed here
				select {
				case cut <- struct{}{}:
				default:
				}
			}
		}()
	}
	select {
	case <-cut:
	case <-time.After(patience):
		t.Error("none was cut off")
	}
	connect(t, s.first) // from another address
}

func theft(t *testing.T, s *siege) {
	owner, other := connect(t, s.first), connect(t, s.first)
	owner.announce(hashOf(1))
	thief := knock(t, s.first)
	const attempts = 20
	for range attempts {
		thief.say(mediation.Handshake{PeerID: owner.id})
	}
	eventually(t, "each is refused", func() bool { return thief.count(string(mediation.CodePeerIDInUse)) == attempts })
	thief.say(mediation.Announce{FullHash: hashOf(1)})
	thief.refused(mediation.CodeHandshakeRequired)
	_ = thief.tcp.Close()
	other.finds(hashOf(1), owner)
	exchangeSignals(t, owner, other)
}

func noID(t *testing.T, s *siege) {
	p := knock(t, s.first)
	p.say(mediation.Handshake{})
	p.refused(mediation.CodeBadPeerID)
}

func signalsToStrangers(t *testing.T, s *siege) {
	p := intrude(t, s.first)
	far := connect(t, s.second) // somebody is there, but nobody here was told of it
	for _, id := range []ident.PeerID{{1: 9}, far.id} {
		before := p.count(string(mediation.CodePeerNotFound))
		p.say(mediation.Signal{FullHash: many(1), PeerID: id, SignalData: mediation.NewSignalData("x")})
		eventually(t, "it is told that there is nobody", func() bool { return p.count(string(mediation.CodePeerNotFound)) > before })
	}
	p.say(mediation.Signal{FullHash: many(1), PeerID: p.id, SignalData: mediation.NewSignalData("x")})
	p.refused(mediation.CodeSignalToSelf)
	if len(far.got) != 0 {
		t.Error("a stranger's signal reached somebody")
	}
}

// neverReading asks and asks, and takes no answers.
func neverReading(t *testing.T, s *siege) {
	d := connectDeaf(t, s.first)
	batch := bytes.Repeat(wsFrame(final|opText, mediation.Encode(mediation.Handshake{PeerID: d.id})), 100) // each is answered
	var writing sync.WaitGroup
	defer writing.Wait()
	defer d.tcp.Close()
	writing.Go(func() {
		const most = 2000 // of these are far more than fits anywhere
		for range most {
			if _, err := d.tcp.Write(batch); err != nil {
				return
			}
		}
	})
	eventually(t, "it is cut off", func() bool { return s.first.Status().Connections == 0 })
}

func replicationOverWebSocket(t *testing.T, s *siege) {
	p := knock(t, s.first)
	p.say(mediation.Replication{MediatorID: s.second.ID()})
	p.refused(mediation.CodeReplicationRefused)
	p.stays()
}

func anothersID(t *testing.T, s *siege) {
	h, to := foreigner(t, s.first)
	stream := streamTo(t, h, to, mediation.StreamProtocol)
	if _, err := stream.Write(mustFrame(mediation.Replication{MediatorID: s.second.ID()})); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(stream)
	until(t, reader, mediation.CodeReplicationRefused)
	if _, err := reader.ReadByte(); err != io.EOF {
		t.Errorf("the stream goes on: %v", err)
	}
}

func noHandshake(t *testing.T, s *siege) {
	h, to := foreigner(t, s.first)
	stream := streamTo(t, h, to, mediation.StreamProtocol)
	reader := bufio.NewReader(stream)
	for range 3 { // asking for other people's peers
		if _, err := stream.Write(mustFrame(mediation.GetPeers{FullHash: hashOf(1)})); err != nil {
			t.Fatal(err)
		}
		until(t, reader, mediation.CodeHandshakeRequired)
	}
}

func unknownTypes(t *testing.T, s *siege) {
	h, to := foreigner(t, s.first)
	stream, reader := greet(t, h, to)
	for range 10 {
		if _, err := stream.Write(frame(`{"type":"shutdown"}`)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, reader, mediation.CodeUnknownType)
	until(t, reader, mediation.CodeTooManyErrors)
	if _, err := reader.ReadByte(); err != io.EOF {
		t.Errorf("the stream goes on: %v", err)
	}
}

func giantBetweenMediators(t *testing.T, s *siege) {
	h, to := foreigner(t, s.first)
	stream, reader := greet(t, h, to)
	if _, err := stream.Write([]byte{0xff, 0xff, 0xff, 0xff, '{'}); err != nil {
		t.Fatal(err)
	}
	until(t, reader, mediation.CodeMessageTooBig)
	if _, err := reader.ReadByte(); err != io.EOF {
		t.Errorf("the stream goes on: %v", err)
	}
}

func floodOfAMediator(t *testing.T, s *siege) {
	const lookups = besiegedMessages*20 + 100
	h, to := foreigner(t, s.first)
	stream, reader := greet(t, h, to)
	written := make(chan error, 1)
	go func() {
		_, err := stream.Write(bytes.Repeat(mustFrame(mediation.GetPeers{FullHash: many(1)}), lookups))
		written <- err
	}()
	if about := until(t, reader, mediation.CodeRateLimited).FullHash; about == nil || *about != many(1) {
		t.Errorf("it was told of %v", about)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}

func tooManyStreams(t *testing.T, s *siege) {
	h, to := foreigner(t, s.first)
	for range besiegedStreams {
		greet(t, h, to)
	}
	reader := bufio.NewReader(streamTo(t, h, to, mediation.StreamProtocol))
	until(t, reader, mediation.CodeOverloaded)
	if _, err := reader.ReadByte(); err != io.EOF {
		t.Errorf("the stream goes on: %v", err)
	}
}

func forgedSenders(t *testing.T, s *siege) {
	victim, other := connect(t, s.first), connect(t, s.first)
	h, to := foreigner(t, s.first)
	stream, reader := greet(t, h, to)
	for _, sender := range []ident.PeerID{other.id, victim.id, {}} {
		forged := mediation.Signal{FullHash: hashOf(1), PeerID: victim.id, SenderID: sender, SignalData: mediation.NewSignalData("x")}
		if _, err := stream.Write(mustFrame(forged)); err != nil {
			t.Fatal(err)
		}
		until(t, reader, mediation.CodeBadPeerID)
	}
	if len(victim.got) != 0 {
		t.Error("the victim was reached")
	}
}

// askingTooOften asks who the mediator is: that stream has no codes, and is reset.
func askingTooOften(t *testing.T, s *siege) {
	const often = 10
	h, to := foreigner(t, s.first)
	refused := 0
	for range often {
		stream, err := h.NewStream(network.WithNoDial(t.Context(), "it is connected"), to, neighbours.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.SetDeadline(time.Now().Add(patience))
		_, _ = stream.Write([]byte{1}) // it may be refused already
		if text, err := io.ReadAll(stream); err != nil || len(text) == 0 {
			refused++
		}
		_ = stream.Reset()
	}
	if refused == 0 || refused == often {
		t.Errorf("%d of %d were refused", refused, often)
	}
}

// unaskedAnswers names peers to somebody who waits, and errors to somebody who sent nothing.
func unaskedAnswers(t *testing.T, s *siege) {
	leecher, seeder := connect(t, s.first), connect(t, s.first)
	seeder.announce(hashOf(1))
	leecher.finds(hashOf(1), seeder)
	leecher.say(mediation.GetPeers{FullHash: many(1)})
	if m, is := leecher.next().(mediation.Peers); !is || len(m.Peers) != 0 {
		t.Fatalf("it was told %v", m)
	}
	h, to := foreigner(t, s.first)
	stream, reader := greet(t, h, to)
	hash := hashOf(1)
	for _, message := range []mediation.Message{
		mediation.Peers{FullHash: many(1), Peers: []ident.PeerID{{1: 1}, {1: 2}, seeder.id}},
		mediation.Peers{FullHash: hash, Peers: []ident.PeerID{{1: 1}, {1: 2}}},
		&mediation.Error{Code: mediation.CodePeerNotFound, Message: "x", FullHash: &hash, PeerID: seeder.id, SenderID: leecher.id},
		&mediation.Error{Code: mediation.CodeOverloaded, Message: "x", FullHash: &hash, PeerID: seeder.id, SenderID: leecher.id},
		&mediation.Error{Code: mediation.CodeRateLimited, Message: "x", FullHash: &hash},
		mediation.Finish{FullHash: hash},
		mediation.Signal{FullHash: hash, PeerID: ident.PeerID{1: 3}, SenderID: ident.PeerID{1: 4}}, // its answer comes after all of these
	} {
		if _, err := stream.Write(mustFrame(message)); err != nil {
			t.Fatal(err)
		}
	}
	until(t, reader, mediation.CodePeerNotFound)
	if len(leecher.got) != 0 {
		t.Errorf("the leecher was told %s", show(<-leecher.got))
	}
	exchangeSignals(t, seeder, leecher)
}

// namingOthersPeers is a whole mediator of the DHT that lies about whom it has.
func namingOthersPeers(t *testing.T, s *siege) {
	key, err := discovery.LoadOrCreateKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	liar, err := discovery.New(t.Context(), discovery.Config{Key: key, ListenHosts: []string{"127.0.0.1"}, Bootstrap: []string{s.first.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	defer liar.Close()
	seeder, near, leecher := connect(t, s.second), connect(t, s.first), connect(t, s.first)
	nobody := ident.PeerID{1: 7}
	seeder.announce(hashOf(1))
	leecher.finds(hashOf(1), seeder) // so that it is known who has it, before the liar says so, too
	leecher.say(mediation.Finish{FullHash: hashOf(1)})
	lie(t, liar.Host(), []ident.PeerID{seeder.id, near.id, leecher.id, nobody})
	eventually(t, "the liar is in the DHT", func() bool {
		return liar.Announce(t.Context(), hashOf(1)) == nil && s.first.Status().Discovery.Held > 1
	})

	leecher.say(mediation.GetPeers{FullHash: hashOf(1)})
	for named := map[ident.PeerID]bool{}; !named[seeder.id] || !named[nobody]; {
		message, is := leecher.next().(mediation.Peers)
		if !is {
			continue
		}
		for _, id := range message.Peers {
			if named[id] = true; id == near.id || id == leecher.id {
				t.Error("it named a peer of the mediator's own")
			}
		}
	}
	leecher.say(mediation.Signal{FullHash: hashOf(1), PeerID: nobody, SignalData: mediation.NewSignalData("x")})
	leecher.refused(mediation.CodePeerNotFound)
	exchangeSignals(t, seeder, leecher) // though both say that they have it
	if len(near.got) != 0 {
		t.Error("a peer of the mediator's own was told something")
	}
	seeder.say(mediation.Finish{FullHash: hashOf(1)}) // while the liar, who holds its record, is there to be told
	eventually(t, "the record is withdrawn", func() bool {
		status := s.second.Status().Discovery
		return status.Announced+status.Pending == 0
	})
}

// lie answers get_peers with peers that it does not have, and signals with that.
func lie(t *testing.T, h host.Host, peers []ident.PeerID) {
	var work sync.WaitGroup
	t.Cleanup(work.Wait)
	h.SetStreamHandler(mediation.StreamProtocol, func(stream network.Stream) {
		work.Add(1)
		defer work.Done()
		defer stream.Reset()
		_ = stream.SetDeadline(time.Now().Add(patience))
		reader := bufio.NewReader(stream)
		for {
			message, err := mediation.ReadFrom(reader)
			if err != nil {
				return
			}
			switch m := message.(type) {
			case mediation.Replication:
				err = mediation.WriteTo(stream, mediation.Established{})
			case mediation.GetPeers:
				err = mediation.WriteTo(stream, mediation.Peers{FullHash: m.FullHash, Peers: peers})
			case mediation.Signal:
				err = mediation.WriteTo(stream, &mediation.Error{
					Code: mediation.CodePeerNotFound, Message: "x", FullHash: &m.FullHash, PeerID: m.PeerID, SenderID: m.SenderID,
				})
			}
			if err != nil {
				return
			}
		}
	})
}

// forgedWithdrawals withdraws another mediator's record from whoever holds it.
func forgedWithdrawals(t *testing.T, s *siege) {
	seeder, leecher := connect(t, s.first), connect(t, s.second)
	seeder.announce(hashOf(1))
	eventually(t, "the other one holds the record", func() bool { return s.second.Status().Discovery.Held == 1 })
	hash := hashOf(1)
	for _, holder := range []*Node{s.first, s.second} {
		h, to := foreigner(t, holder)
		stream := streamTo(t, h, to, discovery.WithdrawProtocol)
		if _, err := stream.Write(append([]byte{0, 1}, hash[:]...)); err != nil {
			t.Fatal(err)
		}
		var done [1]byte
		if _, err := io.ReadFull(stream, done[:]); err != nil || done[0] != 1 {
			t.Fatalf("withdrawing nothing of one's own is fine, but it was answered by %x, %v", done, err)
		}
	}
	if held := s.second.Status().Discovery.Held; held != 1 {
		t.Errorf("%d records are left", held)
	}
	leecher.finds(hash, seeder)
}

// relayed is a client of TURN from the strangers' address.
func relayed(t *testing.T, n *Node, name, password string) *turn.Client {
	t.Helper()
	conn, err := net.ListenPacket("udp4", strangerAddress+":0")
	if err != nil {
		t.Fatal(err)
	}
	at := n.Addr().String()
	client, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: at, TURNServerAddr: at, Username: name, Password: password, Conn: conn,
		RTO: patience, LoggerFactory: &logging.DefaultLoggerFactory{Writer: io.Discard}, // nothing is lost here: nothing is sent twice
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		client.Close()
		_ = conn.Close()
	})
	return client
}

// turnFails fails unless the error is of that code (RFC 8489, section 14.8).
func turnFails(t *testing.T, err error, code int) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), strconv.Itoa(code)) {
		t.Errorf("it ended with %v instead of %d", err, code)
	}
}

func wrongPassword(t *testing.T, s *siege) {
	name, _ := s.first.ice.Credentials(ident.PeerID{1}, time.Now())
	_, err := relayed(t, s.first, name, "wrong").Allocate()
	turnFails(t, err, 400) // the library's way to say it
}

func expiredCredentials(t *testing.T, s *siege) {
	name, password := s.first.ice.Credentials(ident.PeerID{1}, time.Now().Add(-ice.DefaultCredentialLifetime-time.Second))
	_, err := relayed(t, s.first, name, password).Allocate()
	turnFails(t, err, 400)
}

// paid is a client with credentials that are right.
func paid(t *testing.T, n *Node) *turn.Client {
	t.Helper()
	name, password := n.ice.Credentials(ident.PeerID{1}, time.Now())
	return relayed(t, n, name, password)
}

// allocated gives the client an allocation, which ends with the test.
func allocated(t *testing.T, c *turn.Client) net.PacketConn {
	t.Helper()
	conn, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func privateNetworks(t *testing.T, s *siege) {
	client := paid(t, s.first)
	allocated(t, client)
	for _, forbidden := range []string{"127.0.0.2", "10.0.0.1", "192.168.1.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1"} {
		before := s.first.ice.Stats().RefusedAddresses
		err := client.CreatePermission(&net.UDPAddr{IP: net.ParseIP(forbidden), Port: 5000}) // the library does not tell the code
		if after := s.first.ice.Stats().RefusedAddresses; err == nil || after != before+1 {
			t.Errorf("%s may be relayed to: %v, and %d are counted", forbidden, err, after-before)
		}
	}
}

func tooManyAllocations(t *testing.T, s *siege) {
	for range besiegedAllocations {
		allocated(t, paid(t, s.first))
	}
	_, err := paid(t, s.first).Allocate()
	turnFails(t, err, 486)
}

// tooManyBytes relays from one allocation of a peer to its other one.
func tooManyBytes(t *testing.T, s *siege) {
	const size, atOnce = 1 << 10, 10 // more at once might not fit in the socket, and what ends the allocation neither
	from, to := allocated(t, paid(t, s.first)), allocated(t, paid(t, s.first))
	before := s.first.ice.Stats().RelayedBytes
	for range 20 { // 64 KiB may pass at once
		for range atOnce {
			if _, err := from.WriteTo(make([]byte, size), to.LocalAddr()); err != nil {
				t.Fatal(err)
			}
		}
		sent := before + size*atOnce
		eventually(t, "it has arrived", func() bool {
			stats := s.first.ice.Stats()
			return stats.RelayedBytes >= sent || stats.DroppedBytes > 0
		})
		if before = sent; s.first.ice.Stats().DroppedBytes > 0 {
			return
		}
	}
	t.Error("nothing was dropped")
}

func brokenTURN(t *testing.T, s *siege) {
	for _, text := range []string{"\x00\x01\x00\x03\x21\x12\xa4\x42", "\x01\x01\xff\xfc", "\x00\xff\xff\xff"} {
		conn := reach(t, s.first)
		if _, err := io.WriteString(conn, text+strings.Repeat("\xff", 4096)); err != nil {
			t.Fatal(err)
		}
		ended(t, conn)
	}
}

func floodOfSTUN(t *testing.T, s *siege) {
	conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: net.ParseIP(strangerAddress)}}).Dial("udp", s.first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const binding = "\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes" // a request (RFC 8489, section 5)
	before := s.first.ice.Stats().RefusedRequests
	eventually(t, "requests are refused", func() bool {
		for range 100 {
			_, _ = io.WriteString(conn, binding) // what does not arrive is no flood
		}
		return s.first.ice.Stats().RefusedRequests > before
	})
	honest, err := net.Dial("udp", s.first.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer honest.Close()
	for range int(patience / time.Second) { // the first may be lost where the flood has filled the socket: clients send again
		_, _ = io.WriteString(honest, binding)
		_ = honest.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := honest.Read(make([]byte, 1500)); err == nil {
			return
		}
	}
	t.Error("meanwhile an honest peer is told nothing")
}

// drip sends a text byte by byte, again and again, until it is cut off, and returns what waits for that.
func drip(send func([]byte) bool, text string) (wait func(*testing.T)) {
	cut := make(chan bool, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		deadline := time.Now().Add(patience)
		for n := 0; ; n++ {
			if now := <-tick.C; now.After(deadline) || !send([]byte{text[n%len(text)]}) {
				cut <- !now.After(deadline)
				return
			}
		}
	}()
	return func(t *testing.T) {
		t.Helper()
		if !<-cut {
			t.Error("it was not cut off")
		}
	}
}

func into(conn net.Conn) func([]byte) bool {
	return func(bytes []byte) bool {
		_, err := conn.Write(bytes)
		return err == nil
	}
}

// slowness is everything that has to be waited for, all at the same time: each begins, and
// returns what waits for its end.
func slowness(t *testing.T, s *siege) {
	waits := make(map[string]func(*testing.T))
	for name, begin := range map[string]func() func(*testing.T){
		"a connection that says nothing": func() func(*testing.T) {
			conn := reach(t, s.first)
			return func(t *testing.T) { ended(t, conn) }
		},
		"half a request": func() func(*testing.T) {
			conn := reach(t, s.first)
			_, _ = io.WriteString(conn, "GET /mediation HTTP/1.1\r\nHost: x\r\n") // where it fails that is the end
			return func(t *testing.T) { ended(t, conn) }
		},
		"a request, byte by byte": func() func(*testing.T) {
			conn := reach(t, s.first)
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nX: ")
			return drip(into(conn), "slow")
		},
		"no handshake": func() func(*testing.T) {
			p := knock(t, s.first)
			return func(t *testing.T) {
				p.expelled(int(websocket.StatusPolicyViolation), mediation.CodeHandshakeTimeout)
				p.refused(mediation.CodeHandshakeTimeout)
			}
		},
		"a handshake, byte by byte": func() func(*testing.T) {
			p := knock(t, s.first)
			p.raw(wsHead(final|opText, 1000))
			wait := drip(p.raw, "slow")
			return func(t *testing.T) {
				wait(t)
				p.refused(mediation.CodeHandshakeTimeout)
			}
		},
		"a message, byte by byte": func() func(*testing.T) { // between which there is no room for a pong
			p := intrude(t, s.second)
			p.silence()
			p.raw(wsHead(final|opText, 100_000))
			return drip(p.raw, "slow")
		},
		"a peer that vanished": func() func(*testing.T) {
			p, leecher := intrude(t, s.second), connect(t, s.first)
			p.say(mediation.Announce{FullHash: many(1)})
			p.hears(mediation.Announced{}.Type())
			p.silence()
			return func(t *testing.T) {
				p.expelled(0, "")
				leecher.findsNobody(many(1))
			}
		},
		"a mediator that says nothing": func() func(*testing.T) {
			h, to := foreigner(t, s.first)
			stream := streamTo(t, h, to, mediation.StreamProtocol)
			_, _ = stream.Write([]byte{0}) // likewise
			return func(t *testing.T) { until(t, bufio.NewReader(stream), mediation.CodeHandshakeTimeout) }
		},
	} {
		waits[name] = begin()
	}
	for name, wait := range waits {
		t.Run(name, wait)
	}
}
