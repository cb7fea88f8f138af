package ice

import (
	"bytes"
	"crypto/rand"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pion/turn/v4"
	"go.uber.org/goleak"

	"p2pcdn/common/ident"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of these tests, which have real sockets in them and run
// on busy machines.
const patience = 30 * time.Second

func quiet() *slog.Logger {
	if os.Getenv("P2PCDN_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: levelTrace}))
	}
	return slog.New(slog.DiscardHandler)
}

// clock stands still unless the test moves it.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// start starts a server on loopback; it is closed at the end of the test.
func start(t *testing.T, config Config) *Server {
	t.Helper()
	if config.UDP == nil {
		config.UDP = socket(t, "127.0.0.1:0")
	}
	config.Logger, config.Random = quiet(), rand.Reader
	s, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func (s *Server) addr() string { return s.config.UDP.LocalAddr().String() }

// socket opens a UDP socket; it is closed at the end of the test.
func socket(t *testing.T, at string) net.PacketConn {
	t.Helper()
	conn, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// echo sends everything back to where it came from.
func echo(t *testing.T) net.Addr {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		buffer := make([]byte, 2000)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buffer[:n], from)
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-ended
	})
	return conn.LocalAddr()
}

func peerID(n byte) ident.PeerID { return ident.PeerID{0: n, 19: n} }

// client is a client of TURN. It is closed at the end of the test.
func client(t *testing.T, at, name, password string, conn net.PacketConn) *turn.Client {
	t.Helper()
	c, err := turn.NewClient(&turn.ClientConfig{
		STUNServerAddr: at, TURNServerAddr: at, Username: name, Password: password, Conn: conn,
		RTO: patience, LoggerFactory: loggers{quiet()}, // nothing is lost, and a machine may be busy: nothing is sent twice
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		_ = conn.Close()
	})
	return c
}

// of returns a client of a peer, over UDP.
func of(t *testing.T, s *Server, peer ident.PeerID) *turn.Client {
	t.Helper()
	name, password := s.Credentials(peer, s.config.Now())
	return client(t, s.addr(), name, password, socket(t, "127.0.0.1:0"))
}

// allocate gives the client an allocation, which ends with the test.
func allocate(t *testing.T, c *turn.Client) net.PacketConn {
	t.Helper()
	relayed, err := c.Allocate()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relayed.Close() })
	return relayed
}

func write(t *testing.T, conn net.PacketConn, to net.Addr, text string) {
	t.Helper()
	if _, err := conn.WriteTo([]byte(text), to); err != nil {
		t.Fatal(err)
	}
}

// receives fails unless the next datagram is that.
func receives(t *testing.T, conn net.PacketConn, from net.Addr, text string) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2000)
	n, source, err := conn.ReadFrom(buffer)
	if err != nil || string(buffer[:n]) != text || source.String() != from.String() {
		t.Fatalf("%q came from %v (%v) instead of %q from %v", buffer[:n], source, err, text, from)
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("it never came to be that %s", what)
		}
	}
}

// message is a STUN message of a type, with attributes as they are.
func message(kind uint16, transaction byte, attributes ...[]byte) []byte {
	body := bytes.Join(attributes, nil)
	head := []byte{byte(kind >> 8), byte(kind), byte(len(body) >> 8), byte(len(body)), 0x21, 0x12, 0xa4, 0x42}
	head = append(head, bytes.Repeat([]byte{transaction}, 12)...)
	return append(head, body...)
}

// attribute is one of those; padded.
func attribute(kind uint16, value string) []byte {
	text := append([]byte{byte(kind >> 8), byte(kind), byte(len(value) >> 8), byte(len(value))}, value...)
	return append(text, strings.Repeat("\x00", -len(value)&3)...)
}

func ip(text string) netip.Addr { return netip.MustParseAddr(text) }
