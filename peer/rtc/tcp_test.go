package rtc

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/stun"
)

// listen opens a port for ICE over TCP.
func listen(t testing.TB) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// newTransport returns one that is closed at the end.
func newTransport(t testing.TB, config Config) *Transport {
	transport := New(config)
	t.Cleanup(transport.Close)
	return transport
}

// withoutUDP hands on what would reach a peer whose network drops UDP.
func withoutUDP(send func(Signal)) func(Signal) {
	return func(signal Signal) {
		if c := signal.Candidate; c == nil || !strings.Contains(c.Candidate, " udp ") {
			send(signal)
		}
	}
}

// tcpPair returns two sides that know each other by TCP alone, one of which accepts it.
func tcpPair(t testing.TB, offererAccepts bool) (a, b *side) {
	accepting := newTransport(t, Config{TCP: listen(t), TCPAfter: time.Millisecond})
	other := newTransport(t, Config{})
	a, b = newSide(t), newSide(t)
	first, second := accepting, other
	if !offererAccepts {
		first, second = other, accepting
	}
	ready := make(chan struct{})
	a.send = withoutUDP(func(s Signal) { <-ready; b.conn.Signal(s) })
	b.send = withoutUDP(func(s Signal) { <-ready; a.conn.Signal(s) })
	a.conn = first.Connect(Peering{Local: lowID, Remote: highID, Offerer: true, Handler: a})
	b.conn = second.Connect(Peering{Local: highID, Remote: lowID, Handler: b})
	close(ready)
	return a, b
}

func TestOverTCP(t *testing.T) {
	for _, offererAccepts := range []bool{true, false} {
		for _, offererEnds := range []bool{true, false} {
			t.Run(fmt.Sprintf("offererAccepts=%v,offererEnds=%v", offererAccepts, offererEnds), func(t *testing.T) {
				a, b := tcpPair(t, offererAccepts)
				a.waitOpen()
				b.waitOpen()
				exchange(t, a, b)
				exchange(t, b, a)
				if !offererEnds {
					a, b = b, a
				}
				a.end()
				if err := b.waitClosed(); !errors.Is(err, ErrClosedByPeer) {
					t.Errorf("the other side ended with %v", err)
				}
			})
		}
	}
}

// exchange sends 6 MiB, more than the buffers on the way hold.
func exchange(t *testing.T, from, to *side) {
	t.Helper()
	const frames, length = 96, 64 << 10
	var sender sync.WaitGroup
	defer sender.Wait()
	sender.Go(func() {
		for i := range frames {
			if !from.conn.Room() || from.conn.Send(bytes.Repeat([]byte{byte(i)}, length)) != nil {
				t.Error("the connection broke")
				return
			}
		}
	})
	for i := range frames {
		if frame := wait(t, to.frames, "a frame"); !bytes.Equal(frame, bytes.Repeat([]byte{byte(i)}, length)) {
			t.Fatalf("frame %d is another", i)
		}
	}
}

// Where UDP works nobody hears of TCP.
func TestTCPIsTheSecondChoice(t *testing.T) {
	transport := newTransport(t, Config{TCP: listen(t)})
	a, b := newSide(t), newSide(t)
	var mu sync.Mutex
	var told []string
	ready := make(chan struct{})
	hear := func(s *side) func(Signal) {
		return func(signal Signal) {
			<-ready
			if signal.Candidate != nil {
				mu.Lock()
				told = append(told, signal.Candidate.Candidate)
				mu.Unlock()
			}
			s.conn.Signal(signal)
		}
	}
	a.send, b.send = hear(b), hear(a)
	a.conn = transport.Connect(Peering{Local: lowID, Remote: highID, Offerer: true, Handler: a})
	b.conn = transport.Connect(Peering{Local: highID, Remote: lowID, Handler: b})
	close(ready)
	a.waitOpen()
	b.waitOpen()
	a.end()
	b.waitClosed()
	mu.Lock()
	defer mu.Unlock()
	if len(told) == 0 || slices.ContainsFunc(told, func(c string) bool { return !strings.Contains(c, " udp ") }) {
		t.Errorf("told %q", told)
	}
}

func TestRemoteCandidatesAreBounded(t *testing.T) {
	s := &session{}
	tcp := func(port int) string {
		return fmt.Sprintf("candidate:1 1 tcp 1 192.0.2.1 %d typ host tcptype passive", port)
	}
	for _, port := range []int{0, 22, 25, 1023} {
		if err := s.allow(tcp(port)); !errors.Is(err, errServicePort) {
			t.Errorf("port %d: %v", port, err)
		}
	}
	for i := range maxTCPCandidates {
		if err := s.allow(tcp([]int{80, 443, 1024, 65535}[i%4])); err != nil {
			t.Errorf("candidate %d: %v", i, err)
		}
	}
	if err := s.allow(tcp(8000)); !errors.Is(err, errTooManyCandidates) {
		t.Errorf("one over TCP too many: %v", err)
	}
	for s.tried < maxCandidates {
		if err := s.allow("candidate:1 1 udp 1 192.0.2.1 9 typ host"); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.allow("candidate:1 1 udp 1 192.0.2.1 9 typ host"); !errors.Is(err, errTooManyCandidates) {
		t.Errorf("one too many: %v", err)
	}
}

func TestCandidatesInADescription(t *testing.T) {
	description, candidates := splitCandidates("v=0\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\na=mid:0\r\na=candidate:2\r\n")
	if description != "v=0\r\na=mid:0\r\n" {
		t.Errorf("left is %q", description)
	}
	if len(candidates) != 2 || candidates[0].Candidate != "candidate:1 1 udp 1 192.0.2.1 9 typ host" || *candidates[1].SDPMLineIndex != 0 {
		t.Errorf("taken out is %+v", candidates)
	}
}

// A street is a network of pipes: what listeners accept in these tests.
type street struct {
	conns chan net.Conn
	errs  chan error
	done  chan struct{}
	once  sync.Once
}

func newStreet() *street {
	return &street{conns: make(chan net.Conn), errs: make(chan error), done: make(chan struct{})}
}

var mainStreet = net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7000}

func (s *street) Addr() net.Addr { return &mainStreet }
func (s *street) Close() error   { s.once.Do(func() { close(s.done) }); return nil }
func (s *street) Accept() (net.Conn, error) {
	select {
	case conn := <-s.conns:
		return conn, nil
	case err := <-s.errs:
		return nil, err
	case <-s.done:
		return nil, net.ErrClosed
	}
}

// addressed is a pipe's end with addresses.
type addressed struct {
	net.Conn
	remote net.TCPAddr
}

func (a *addressed) LocalAddr() net.Addr  { return &mainStreet }
func (a *addressed) RemoteAddr() net.Addr { return &a.remote }

// visitor connects from a port and returns its end.
func (s *street) visitor(port int) net.Conn { return s.visitorFrom(net.IPv4(192, 0, 2, 2), port) }

func (s *street) visitorFrom(ip net.IP, port int) net.Conn {
	theirs, ours := net.Pipe()
	s.conns <- &addressed{ours, net.TCPAddr{IP: ip, Port: port}}
	return theirs
}

// check is an ICE check for a user name, as it travels over TCP.
func check(t testing.TB, kind stun.MessageType, name string) []byte {
	t.Helper()
	message, err := stun.Build(stun.TransactionID, kind, stun.NewUsername(name))
	if err != nil {
		t.Fatal(err)
	}
	return framed(message.Raw)
}

func framed(data []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(data))), data...)
}

// onTheStreet runs a test with a mux, in a time of its own.
func onTheStreet(t *testing.T, body func(t *testing.T, street *street, mux *tcpMux)) {
	synctest.Test(t, func(t *testing.T) {
		street := newStreet()
		mux := newTCPMux(street, slog.New(slog.DiscardHandler))
		body(t, street, mux)
		if err := mux.Close(); err != nil {
			t.Error(err)
		}
		mux.mu.Lock()
		defer mux.mu.Unlock()
		if len(mux.strangers) != 0 || len(mux.gates) != 0 {
			t.Errorf("left are %d strangers and %d gates", len(mux.strangers), len(mux.gates))
		}
	})
}

func (m *tcpMux) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.strangers)
}

// gone waits for a connection to be closed by the other side, and says how long that took.
func gone(t *testing.T, conn net.Conn) time.Duration {
	t.Helper()
	started := time.Now()
	if n, err := io.Copy(io.Discard, conn); n != 0 || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
	return time.Since(started)
}

func gate(t *testing.T, mux *tcpMux, fragment string) *tcpGate {
	t.Helper()
	conn, err := mux.GetConnByUfrag(fragment, false, mainStreet.IP)
	if err != nil {
		t.Fatal(err)
	}
	return conn.(*tcpGate)
}

func TestStrangersAreSentAway(t *testing.T) {
	for name, test := range map[string]struct {
		says  []byte
		after time.Duration
	}{
		"nothing":         {nil, strangerPatience},
		"half a packet":   {[]byte{0, 20, 0, 1}, strangerPatience},
		"a long packet":   {[]byte{0xff, 0xff}, 0},
		"an empty packet": {[]byte{0, 0}, 0},
		"HTTP":            {[]byte("GET / HTTP/1.1\r\n\r\n"), 0},
		"noise":           {framed([]byte("twenty bytes of noise, or some more")), 0},
		"no name":         {framed(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw), 0},
		"another name":    {check(t, stun.BindingRequest, "theirs:ours"), 0},
		"an answer":       {check(t, stun.BindingSuccess, "ours:theirs"), 0},
	} {
		t.Run(name, func(t *testing.T) {
			onTheStreet(t, func(t *testing.T, street *street, mux *tcpMux) {
				gate(t, mux, "ours")
				conn := street.visitor(1)
				var writer sync.WaitGroup
				writer.Go(func() { _, _ = conn.Write(test.says) }) // it may be cut off
				if took := gone(t, conn); took != test.after {
					t.Errorf("sent away after %v instead of %v", took, test.after)
				}
				writer.Wait()
				if n := mux.count(); n != 0 {
					t.Errorf("%d strangers are remembered", n)
				}
			})
		})
	}
}

func TestTheOldestStrangerGivesWay(t *testing.T) {
	onTheStreet(t, func(t *testing.T, street *street, mux *tcpMux) {
		var conns []net.Conn
		for i := range maxStrangers + 1 {
			conns = append(conns, street.visitor(i))
		}
		if took := gone(t, conns[0]); took != 0 {
			t.Errorf("it gave way after %v", took)
		}
		if n := mux.count(); n != maxStrangers {
			t.Errorf("%d strangers", n)
		}
		for _, conn := range conns[1:] {
			defer gone(t, conn) // by Close
		}
		go mux.Close()
	})
}

// Whoever takes all places sends only its own away: neither does a peer wait for one, nor does it lose its place
// before it has spoken.
func TestACrowdLeavesRoomForOthers(t *testing.T) {
	for name, test := range map[string]struct {
		crowd func(i int) net.IP
		peer  net.IP
	}{
		"of one IPv4 address":  {func(int) net.IP { return net.IPv4(192, 0, 2, 2) }, net.IPv4(192, 0, 2, 3)},
		"of one IPv6 subnet":   {func(i int) net.IP { return subnet(1, byte(i)) }, subnet(2, 1)},
		"and IPv4 beside IPv6": {func(i int) net.IP { return subnet(1, byte(i)) }, net.IPv4(192, 0, 2, 2)},
	} {
		t.Run(name, func(t *testing.T) {
			onTheStreet(t, func(t *testing.T, street *street, mux *tcpMux) {
				g := gate(t, mux, "ours")
				var crowd []net.Conn
				come := func(n int) {
					for range n {
						crowd = append(crowd, street.visitorFrom(test.crowd(len(crowd)), 1000+len(crowd)))
					}
				}
				started := time.Now()
				come(maxStrangers)
				peer := street.visitorFrom(test.peer, 1)
				come(2 * maxStrangers)
				synctest.Wait() // until the last has arrived
				if n := mux.count(); n != maxStrangers {
					t.Errorf("%d strangers", n)
				}
				hello := check(t, stun.BindingRequest, "ours:theirs")
				if _, err := peer.Write(hello); err != nil {
					t.Fatalf("the peer lost its place: %v", err)
				}
				buffer := make([]byte, maxPacket)
				if n, _, err := g.ReadFrom(buffer); err != nil || !bytes.Equal(framed(buffer[:n]), hello) {
					t.Fatalf("came %x, %v", buffer[:n], err)
				}
				if took := time.Since(started); took != 0 {
					t.Errorf("it took %v", took)
				}
				last := len(crowd) - (maxStrangers - 1) // those after it are still there
				for _, conn := range crowd[:last] {
					if took := gone(t, conn); took != 0 {
						t.Errorf("one of the crowd stayed for %v", took)
					}
				}
				gone(t, crowd[last])
				if took := time.Since(started); took != strangerPatience {
					t.Errorf("those who say nothing are sent away after %v", took)
				}
			})
		})
	}
}

// subnet returns a host's address in a /64.
func subnet(number, host byte) net.IP {
	return net.IP{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, number, 0, 0, 0, 0, 0, 0, 0, host}
}

func TestWhoGivesWay(t *testing.T) {
	for name, test := range map[string]struct {
		there    string // the oldest first
		newcomer string
		want     int
	}{
		"the oldest of all, where each has one":        {"192.0.2.1 192.0.2.2 2001:db8::1", "192.0.2.4", 0},
		"the newcomer's own, where each has one":       {"192.0.2.1 192.0.2.2 2001:db8::1", "192.0.2.2", 1},
		"the oldest of those who have most":            {"192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.2", "192.0.2.4", 1},
		"who has most, not the newcomer's":             {"192.0.2.1 192.0.2.2 192.0.2.2 192.0.2.2", "192.0.2.1", 1},
		"the newcomer's, which has most with it":       {"192.0.2.1 192.0.2.1 192.0.2.2 192.0.2.2", "192.0.2.2", 2},
		"the oldest of two households alike":           {"192.0.2.3 192.0.2.2 192.0.2.1 192.0.2.1 192.0.2.2", "192.0.2.4", 1},
		"a /64 is one household":                       {"192.0.2.1 2001:db8:0:1::1 2001:db8:0:1:ffff::2", "192.0.2.4", 1},
		"two /64 are two":                              {"2001:db8:0:1::1 2001:db8:0:2::1 192.0.2.1 192.0.2.1", "192.0.2.4", 2},
		"IPv4 addresses are not one, as IPv6 or not":   {"::ffff:192.0.2.1 ::ffff:192.0.2.2 2001:db8::1 2001:db8::2", "192.0.2.4", 2},
		"an IPv4 address is the same in both writings": {"192.0.2.3 ::ffff:192.0.2.1 192.0.2.1", "192.0.2.4", 1},
		"a zone makes no other household":              {"192.0.2.1 fe80::1%eth0 fe80::2%eth1", "192.0.2.4", 1},
		"unknown addresses are one household":          {"192.0.2.1 - -", "192.0.2.4", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var there []net.Conn
			for _, address := range strings.Fields(test.there) {
				there = append(there, from(address))
			}
			if got := crowding(there, from(test.newcomer)); got != test.want {
				t.Errorf("number %d gives way instead of %d", got, test.want)
			}
		})
	}
}

// from is a connection of which only the remote address is of interest; "-" is none.
func from(address string) net.Conn {
	ip, zone, _ := strings.Cut(address, "%")
	return &addressed{remote: net.TCPAddr{IP: net.ParseIP(ip), Zone: zone, Port: 1}}
}

// Over real sockets: one address (every one of 127/8 is this host's) opens more connections than there are places,
// twice, and says nothing; a peer at another address gets through nevertheless.
func TestACrowdOverTCP(t *testing.T) {
	mux := newTCPMux(listen(t), slog.New(slog.DiscardHandler))
	var reader sync.WaitGroup
	defer reader.Wait()
	defer mux.Close() // which ends the reader
	conn, err := mux.GetConnByUfrag("ours", false, net.IPv4(127, 0, 0, 1))
	if err != nil {
		t.Fatal(err)
	}
	dial := func(from string) net.Conn {
		t.Helper()
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
		conn, err := dialer.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", mux.port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	var crowd []net.Conn
	come := func() {
		for range maxStrangers + 10 {
			crowd = append(crowd, dial("127.0.0.1"))
		}
	}
	come()
	peer := dial("127.0.0.2")
	come()
	for _, conn := range crowd[:len(crowd)-(maxStrangers-1)] { // so that all have arrived
		gone(t, conn)
	}
	hello := check(t, stun.BindingRequest, "ours:theirs")
	if _, err := peer.Write(hello); err != nil {
		t.Fatal(err)
	}
	came := make(chan []byte, 1)
	reader.Go(func() {
		buffer := make([]byte, maxPacket)
		if n, from, err := conn.ReadFrom(buffer); err == nil {
			_, _ = conn.WriteTo(buffer[:n], from) // the peer misses it if it fails
			came <- framed(buffer[:n])
		}
	})
	if got := wait(t, came, "the peer's first packet"); !bytes.Equal(got, hello) {
		t.Errorf("came %x", got)
	}
	back := make([]byte, len(hello))
	if _, err := io.ReadFull(peer, back); err != nil || !bytes.Equal(back, hello) {
		t.Errorf("went %x, %v", back, err)
	}
	if err := mux.Close(); err != nil {
		t.Error(err)
	}
	for _, conn := range crowd[len(crowd)-(maxStrangers-1):] {
		gone(t, conn)
	}
	if n := mux.count(); n != 0 {
		t.Errorf("%d strangers are left", n)
	}
}

func TestAcceptingGoesOnAfterAnError(t *testing.T) {
	onTheStreet(t, func(t *testing.T, street *street, mux *tcpMux) {
		street.errs <- errors.New("too many open files")
		street.errs <- errors.New("too many open files")
		conn := street.visitor(1)
		if took := gone(t, conn); took != strangerPatience {
			t.Errorf("ended after %v", took)
		}
		street.errs <- errors.New("too many open files") // and Close does not wait for the next
	})
}

// What a peer sends comes out, from each of its connections, and what is sent to it
// takes the same way back; the end of one leaves the others.
func TestAPeerWithSeveralStreams(t *testing.T) {
	onTheStreet(t, func(t *testing.T, street *street, mux *tcpMux) {
		g := gate(t, mux, "ours")
		if again := gate(t, mux, "ours"); again != g {
			t.Error("another one for the same name")
		}
		hello := check(t, stun.BindingRequest, "ours:theirs")
		buffer := make([]byte, maxPacket)
		receive := func(want []byte) net.Addr {
			t.Helper()
			n, from, err := g.ReadFrom(buffer)
			if err != nil || !bytes.Equal(framed(buffer[:n]), want) {
				t.Fatalf("came %x, %v", buffer[:n], err)
			}
			return from
		}
		var conns []net.Conn
		var addresses []net.Addr
		for i := range maxStreams {
			conn := street.visitor(1000 + i)
			if _, err := conn.Write(hello); err != nil {
				t.Fatal(err)
			}
			conns, addresses = append(conns, conn), append(addresses, receive(hello))
		}
		tooMany := street.visitor(1)
		if _, err := tooMany.Write(hello); err != nil {
			t.Fatal(err)
		}
		gone(t, tooMany)

		for i, conn := range conns {
			if got := addresses[i].(*net.TCPAddr).Port; got != 1000+i {
				t.Errorf("stream %d came from %d", i, got)
			}
			there, back := framed([]byte{1, byte(i)}), []byte{2, byte(i)}
			if _, err := conn.Write(there); err != nil {
				t.Fatal(err)
			}
			if from := receive(there); from.String() != addresses[i].String() {
				t.Errorf("stream %d came from %v", i, from)
			}
			if n, err := g.WriteTo(back, addresses[i]); n != 2 || err != nil {
				t.Fatal(n, err)
			}
			got := make([]byte, 4)
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, framed(back)) {
				t.Fatalf("went %x, %v", got, err)
			}
			conn.Close()
			synctest.Wait()
			if _, err := g.WriteTo(back, addresses[i]); !errors.Is(err, io.ErrClosedPipe) {
				t.Errorf("writing to a stream that ended: %v", err)
			}
		}
	})
}

// Writing never blocks, the queue is bounded, and a peer that reads nothing holds nobody up for long.
func TestAStreamThatIsNotRead(t *testing.T) {
	onTheStreet(t, func(t *testing.T, street *street, mux *tcpMux) {
		g := gate(t, mux, "ours")
		conn := street.visitor(1)
		if _, err := conn.Write(check(t, stun.BindingRequest, "ours:theirs")); err != nil {
			t.Fatal(err)
		}
		_, from, err := g.ReadFrom(make([]byte, maxPacket))
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, 1200)
		for range 3 * tcpQueue / len(data) {
			if n, err := g.WriteTo(data, from); n != len(data) || err != nil {
				t.Fatal(n, err)
			}
		}
		for _, stream := range g.streams {
			if size := stream.out.Size(); size > tcpQueue {
				t.Errorf("%d bytes wait", size)
			}
		}
		started := time.Now()
		mux.RemoveConnByUfrag("ours")
		if took := time.Since(started); took > flushTimeout {
			t.Errorf("closing took %v", took)
		}
		if _, _, err := g.ReadFrom(data); !errors.Is(err, net.ErrClosed) {
			t.Errorf("reading after the end: %v", err)
		}
	})
}

// Goodbyes are sent although the end comes at once.
func TestWhatWaitsIsSentAtTheEnd(t *testing.T) {
	onTheStreet(t, func(t *testing.T, street *street, mux *tcpMux) {
		g := gate(t, mux, "ours")
		conn := street.visitor(1)
		if _, err := conn.Write(check(t, stun.BindingRequest, "ours:theirs")); err != nil {
			t.Fatal(err)
		}
		_, from, err := g.ReadFrom(make([]byte, maxPacket))
		if err != nil {
			t.Fatal(err)
		}
		const packets = 100
		for i := range packets {
			if _, err := g.WriteTo([]byte{byte(i)}, from); err != nil {
				t.Fatal(err)
			}
		}
		go g.Close()
		got, err := io.ReadAll(bufio.NewReader(conn))
		if err != nil || len(got) != 3*packets || got[3*packets-1] != packets-1 {
			t.Errorf("%d bytes came: %v", len(got), err)
		}
	})
}

func TestAMuxThatIsClosed(t *testing.T) {
	onTheStreet(t, func(t *testing.T, _ *street, mux *tcpMux) {
		if err := mux.Close(); err != nil {
			t.Error(err)
		}
		if _, err := mux.GetConnByUfrag("ours", false, mainStreet.IP); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := mux.GetConnByUfrag("ours", false, nil); err == nil {
			t.Error("no address is none")
		}
	})
}
