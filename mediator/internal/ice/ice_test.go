package ice

import (
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pion/turn/v4"

	"p2pcdn/common/mediation"
	"p2pcdn/mediator/internal/limits"
	"p2pcdn/mediator/internal/portmux"
)

func TestBinding(t *testing.T) {
	for name, config := range map[string]Config{"STUN alone": {}, "with TURN": {Turn: true}} {
		t.Run(name, func(t *testing.T) {
			s := start(t, config)
			conn := socket(t, "127.0.0.1:0")
			c := client(t, s.addr(), "", "", conn)
			reflexive, err := c.SendBindingRequest()
			if err != nil || reflexive.String() != conn.LocalAddr().String() {
				t.Errorf("%v is told that it is %v, %v", conn.LocalAddr(), reflexive, err)
			}
			if got := s.Stats(); got.Bindings != 1 {
				t.Errorf("counted %+v", got)
			}
		})
	}
	t.Run("over a socket of both families", func(t *testing.T) {
		s := start(t, Config{UDP: socket(t, "[::]:0")})
		conn := socket(t, "127.0.0.1:0")
		c := client(t, netip.AddrPortFrom(ip("127.0.0.1"), s.port).String(), "", "", conn)
		if reflexive, err := c.SendBindingRequest(); err != nil || reflexive.String() != conn.LocalAddr().String() {
			t.Errorf("%v is told that it is %v, %v", conn.LocalAddr(), reflexive, err)
		}
	})
	t.Run("without TURN nothing is allocated", func(t *testing.T) {
		s := start(t, Config{})
		if _, err := of(t, s, peerID(1)).Allocate(); err == nil {
			t.Error("an allocation was made")
		}
		if got := s.Stats(); got.Allocations != 0 {
			t.Errorf("counted %+v", got)
		}
	})
}

func TestRelayOverUDP(t *testing.T) {
	for _, at := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(at, func(t *testing.T) {
			s := start(t, Config{UDP: socket(t, at), Turn: true, AllowPrivate: true})
			name, password := s.Credentials(peerID(1), time.Now())
			c := client(t, netip.AddrPortFrom(ip("127.0.0.1"), s.port).String(), name, password, socket(t, "127.0.0.1:0"))
			relayed, other := allocate(t, c), echo(t)
			if host := address(relayed.LocalAddr()).Addr(); host != ip("127.0.0.1") {
				t.Errorf("it was relayed at %v", host)
			}
			for range 3 { // the first as an indication, later ones through a channel
				write(t, relayed, other, "there and back")
				receives(t, relayed, other, "there and back")
			}
			want := Stats{Allocated: 1, Allocations: 1, RelayedBytes: 3 * 2 * uint64(len("there and back"))}
			if got := s.Stats(); got != want {
				t.Errorf("counted %+v, not %+v", got, want)
			}
			if err := relayed.Close(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the allocation has ended", func() bool { return s.Stats().Allocations == 0 })
		})
	}
}

func TestOnePortForHTTPAndTURN(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mux := portmux.Split(listener, portmux.Config{})
	defer mux.Close()
	s := start(t, Config{UDP: socket(t, listener.Addr().String()), TCP: mux.TURN(), Turn: true, AllowPrivate: true})
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })}
	served := make(chan error)
	go func() { served <- web.Serve(mux.HTTP()) }()
	defer func() {
		_ = web.Close()
		<-served
	}()

	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	name, password := s.Credentials(peerID(1), time.Now())
	relayed, other := allocate(t, client(t, s.addr(), name, password, turn.NewSTUNConn(conn))), echo(t)
	for range 3 {
		write(t, relayed, other, "there and back")
		receives(t, relayed, other, "there and back")
	}

	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := (&http.Client{Transport: transport, Timeout: patience}).Get("http://" + listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || string(text) != "ok" {
		t.Errorf("HTTP gave %q, %v", text, err)
	}
	if got := s.Stats(); got.Allocations != 1 || got.Connections != 1 {
		t.Errorf("counted %+v", got)
	}
	_ = conn.Close()
	eventually(t, "the allocation has gone with its connection", func() bool {
		return s.Stats() == Stats{
			Allocated: 1, RelayedBytes: 3 * 2 * uint64(len("there and back")),
		}
	})
}

// TestRelayToRelay is two peers of which neither can be reached, at one mediator.
func TestRelayToRelay(t *testing.T) {
	for name, config := range map[string]Config{
		"by the address of the machine":               {},
		"by an address that a NAT has given to it":    {RelayIP: ip("127.0.0.1"), PublicIP: ip("198.51.100.7")},
		"and private addresses are allowed otherwise": {AllowPrivate: true},
	} {
		t.Run(name, func(t *testing.T) {
			config.Turn = true
			s := start(t, config)
			a, b := allocate(t, of(t, s, peerID(1))), allocate(t, of(t, s, peerID(2)))
			if public := config.PublicIP; public.IsValid() && address(a.LocalAddr()).Addr() != public {
				t.Errorf("it was relayed at %v", a.LocalAddr())
			}
			// b must want to hear from a first.
			write(t, b, a.LocalAddr(), "is lost: a does not want to hear from b yet")
			eventually(t, "it was lost", func() bool { return s.Stats().RelayedBytes > 0 })
			write(t, a, b.LocalAddr(), "from a")
			receives(t, b, a.LocalAddr(), "from a")
			write(t, b, a.LocalAddr(), "from b")
			receives(t, a, b.LocalAddr(), "from b")
		})
	}
}

func TestCredentials(t *testing.T) {
	now := newClock()
	s := start(t, Config{Turn: true, AllowPrivate: true, Now: now.Now})
	name, password := s.Credentials(peerID(1), now.Now())
	expired, expiredPassword := s.Credentials(peerID(1), now.Now().Add(-DefaultCredentialLifetime-time.Second))
	malformed := "nobody"
	for what, pair := range map[string][2]string{
		"a wrong password":        {name, "wrong"},
		"the password of another": {strings.Replace(name, "01", "02", 1), password},
		"an expired name":         {expired, expiredPassword},
		"a malformed name":        {malformed, s.password(malformed)},
	} {
		before := s.Stats().RefusedCredentials
		if _, err := client(t, s.addr(), pair[0], pair[1], socket(t, "127.0.0.1:0")).Allocate(); err == nil {
			t.Errorf("%s was taken", what)
		}
		if got := s.Stats(); got.RefusedCredentials != before+1 || got.Allocated != 0 {
			t.Errorf("%s: counted %+v", what, got)
		}
	}

	c := of(t, s, peerID(1))
	relayed := allocate(t, c)
	now.advance(DefaultCredentialLifetime + time.Second)
	if _, err := client(t, s.addr(), name, password, socket(t, "127.0.0.1:0")).Allocate(); err == nil {
		t.Error("an allocation was made with a name that has expired meanwhile")
	}
	if err := relayed.Close(); err != nil { // a refresh, with a lifetime of zero
		t.Fatal(err)
	}
	eventually(t, "an allocation that was made in time is served", func() bool { return s.Stats().Allocations == 0 })
}

func TestForbiddenAddresses(t *testing.T) {
	t.Run("a permission", func(t *testing.T) {
		s := start(t, Config{Turn: true})
		c := of(t, s, peerID(1))
		allocate(t, c)
		for i, refused := range []string{"127.0.0.2", "10.0.0.1", "100.64.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.251", "255.255.255.255"} {
			if err := c.CreatePermission(&net.UDPAddr{IP: net.ParseIP(refused), Port: 5000}); err == nil {
				t.Errorf("%s may be relayed to", refused)
			}
			if got := s.Stats().RefusedAddresses; got != uint64(i+1) {
				t.Errorf("%s: counted %d", refused, got)
			}
		}
		if err := c.CreatePermission(&net.UDPAddr{IP: net.IPv4(8, 8, 8, 8), Port: 5000}); err != nil {
			t.Errorf("the internet may not be relayed to: %v", err)
		}
	})
	t.Run("a port of the machine on which relayed addresses are", func(t *testing.T) {
		s := start(t, Config{Turn: true})
		relayed := allocate(t, of(t, s, peerID(1)))
		victim := socket(t, "127.0.0.1:0")
		write(t, relayed, victim.LocalAddr(), "must not come")
		eventually(t, "it was refused", func() bool { return s.Stats().RefusedAddresses == 1 })
		if got := s.Stats(); got.RelayedBytes != 0 {
			t.Errorf("counted %+v", got)
		}
	})
	t.Run("the mediator's own ports", func(t *testing.T) {
		another := socket(t, "127.0.0.1:0")
		s := start(t, Config{Turn: true, AllowPrivate: true, OwnPorts: []uint16{address(another.LocalAddr()).Port()}})
		relayed := allocate(t, of(t, s, peerID(1)))
		for i, to := range []net.Addr{another.LocalAddr(), s.config.UDP.LocalAddr(), &net.UDPAddr{IP: net.IPv4(127, 9, 9, 9), Port: int(s.port)}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 53}} {
			write(t, relayed, to, "must not come")
			eventually(t, "it was refused", func() bool { return s.Stats().RefusedAddresses == uint64(i+1) })
		}
	})
	t.Run("a stranger", func(t *testing.T) {
		s := start(t, Config{Turn: true, AllowPrivate: true})
		relayed, other := allocate(t, of(t, s, peerID(1))), echo(t)
		stranger := socket(t, "127.0.0.2:0")
		write(t, stranger, relayed.LocalAddr(), "nobody asked for this")
		write(t, relayed, other, "there and back")
		receives(t, relayed, other, "there and back")
		if got := s.Stats().RelayedBytes; got != 2*uint64(len("there and back")) {
			t.Errorf("%d bytes were relayed", got)
		}
	})
}

func TestSpecialAddresses(t *testing.T) {
	for text, want := range map[string][2]bool{ // normally, and with private addresses allowed
		"8.8.8.8": {true, true}, "1.1.1.1": {true, true}, "100.63.255.255": {true, true}, "100.128.0.1": {true, true},
		"172.15.0.1": {true, true}, "172.32.0.1": {true, true}, "2a00:1450::1": {true, true}, "2606:4700::1111": {true, true},
		"10.1.2.3": {false, true}, "172.16.0.1": {false, true}, "172.31.255.255": {false, true}, "192.168.0.1": {false, true},
		"100.64.0.1": {false, true}, "100.127.255.255": {false, true}, "127.0.0.1": {false, true}, "169.254.169.254": {false, true},
		"198.18.0.1": {false, true}, "203.0.113.1": {false, true}, "::1": {false, true}, "fd00::1": {false, true},
		"fe80::1": {false, true}, "fe80::1%eth0": {false, true}, "2001:db8::1": {false, true},
		"0.0.0.0": {}, "0.1.2.3": {}, "192.0.0.8": {}, "192.88.99.1": {}, "224.0.0.1": {}, "239.255.255.250": {}, "240.0.0.1": {}, "255.255.255.255": {},
		"::": {}, "::127.0.0.1": {}, "::ffff:8.8.8.8": {}, "::ffff:127.0.0.1": {}, "::ffff:10.0.0.1": {}, "64:ff9b::a00:1": {}, "64:ff9b:1::1": {},
		"2002:a00:1::": {}, "2001::1": {}, "fec0::1": {}, "ff02::1": {}, "100::1": {},
	} {
		for i, allowPrivate := range []bool{false, true} {
			if got := public(ip(text), allowPrivate); got != want[i] {
				t.Errorf("public(%s, %v) is %v", text, allowPrivate, got)
			}
		}
	}
	if public(netip.Addr{}, true) {
		t.Error("no address at all is public")
	}
}

func TestByteQuotas(t *testing.T) {
	datagram := strings.Repeat("x", 1024)
	// say sends datagrams one after the other, and returns how many of them were relayed and dropped.
	say := func(t *testing.T, s *Server, relayed net.PacketConn, to net.Addr, count int) (passed, dropped uint64) {
		before := s.Stats()
		for i := range count {
			write(t, relayed, to, datagram)
			eventually(t, "it was counted", func() bool {
				now := s.Stats()
				return now.RelayedBytes+now.DroppedBytes >= before.RelayedBytes+before.DroppedBytes+uint64(1024*(i+1))
			})
		}
		after := s.Stats()
		return (after.RelayedBytes - before.RelayedBytes) / 1024, (after.DroppedBytes - before.DroppedBytes) / 1024
	}
	for name, test := range map[string]struct {
		limits                Limits
		first, second, before uint64 // of 80 datagrams: those of one peer; then of another; then of the first, a second later
	}{
		"of a peer":   {Limits{PeerRate: 64 << 10, TotalRate: limits.Off}, 64, 64, 64},
		"of all":      {Limits{PeerRate: limits.Off, TotalRate: 64 << 10}, 64, 0, 64},
		"of both":     {Limits{PeerRate: 64 << 10, TotalRate: 96 << 10}, 64, 32, 64},
		"off":         {Limits{PeerRate: limits.Off, TotalRate: limits.Off}, 80, 80, 80},
		"a small one": {Limits{PeerRate: 16 << 10, TotalRate: limits.Off}, leastBurst >> 10, leastBurst >> 10, 16},
	} {
		t.Run(name, func(t *testing.T) {
			now := newClock()
			s := start(t, Config{Turn: true, AllowPrivate: true, Now: now.Now, Limits: test.limits})
			sink := socket(t, "127.0.0.1:0").LocalAddr()
			a, b := allocate(t, of(t, s, peerID(1))), allocate(t, of(t, s, peerID(2)))
			for _, step := range []struct {
				conn net.PacketConn
				want uint64
			}{{a, test.first}, {b, test.second}} {
				if passed, dropped := say(t, s, step.conn, sink, 80); passed != step.want || passed+dropped != 80 {
					t.Errorf("%d passed and %d were dropped, not %d", passed, dropped, step.want)
				}
			}
			// Another allocation of the same peer shares what there is, also when it comes after the first.
			if test.limits.PeerRate > 0 {
				if err := a.Close(); err != nil {
					t.Fatal(err)
				}
				eventually(t, "the allocation has ended", func() bool { return s.Stats().Allocations == 1 })
				a = allocate(t, of(t, s, peerID(1)))
				if passed, _ := say(t, s, a, sink, 1); passed != 0 {
					t.Error("a second allocation has an allowance of its own")
				}
			}
			now.advance(time.Second)
			if passed, _ := say(t, s, a, sink, 80); passed != test.before {
				t.Errorf("a second later %d passed, not %d", passed, test.before)
			}
		})
	}
	t.Run("in both directions", func(t *testing.T) {
		now := newClock()
		s := start(t, Config{Turn: true, AllowPrivate: true, Now: now.Now, Limits: Limits{PeerRate: 64 << 10}})
		relayed, other := allocate(t, of(t, s, peerID(1))), echo(t)
		for i := range 32 {
			write(t, relayed, other, datagram)
			eventually(t, "it came back", func() bool { return s.Stats().RelayedBytes == uint64(2*1024*(i+1)) })
		}
		write(t, relayed, other, datagram)
		eventually(t, "no more passes", func() bool { return s.Stats().DroppedBytes == 1024 })
	})
}

func TestAllocationLimits(t *testing.T) {
	s := start(t, Config{Turn: true, AllowPrivate: true, Limits: Limits{PeerAllocations: 2, TotalAllocations: 3}})
	first := allocate(t, of(t, s, peerID(1)))
	allocate(t, of(t, s, peerID(1)))
	if _, err := of(t, s, peerID(1)).Allocate(); err == nil {
		t.Error("a peer has more allocations than it may")
	}
	allocate(t, of(t, s, peerID(2)))
	if _, err := of(t, s, peerID(2)).Allocate(); err == nil {
		t.Error("there are more allocations than there may be")
	}
	if got, want := s.Stats(), (Stats{Allocated: 3, Allocations: 3, RefusedAllocations: 2}); got != want {
		t.Errorf("counted %+v, not %+v", got, want)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the allocation has ended", func() bool { return s.Stats().Allocations == 2 })
	allocate(t, of(t, s, peerID(2)))
}

func TestAccounts(t *testing.T) {
	a := newAccounts(Limits{PeerAllocations: limits.Off, TotalAllocations: limits.Off}.WithDefaults())
	for n := range 3 * maxSpent {
		of, err := a.enter([20]byte{byte(n), byte(n >> 8)})
		if err != nil {
			t.Fatal(err)
		}
		a.leave(of)
	}
	if len(a.open) != 0 || a.count() != 0 || a.spent.Len() != maxSpent {
		t.Errorf("%d peers are known, and %d that have gone", len(a.open), a.spent.Len())
	}
}

func TestPermissionsAreBounded(t *testing.T) {
	now := newClock()
	s := start(t, Config{Turn: true, Now: now.Now, Limits: Limits{Requests: limits.Off}})
	c := of(t, s, peerID(1))
	allocate(t, c)
	at := func(n int) net.Addr { return &net.UDPAddr{IP: net.IPv4(8, 8, 0, byte(n)), Port: 5000} }
	for n := range maxPeers {
		if err := c.CreatePermission(at(n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.CreatePermission(at(maxPeers)); err == nil {
		t.Error("a relay has more permissions than it may")
	}
	if err := c.CreatePermission(at(0)); err != nil {
		t.Errorf("one that it has is not refreshed: %v", err)
	}
	now.advance(10 * time.Minute) // at which the allocation would end; it does not, since this is not the library's clock
	if err := c.CreatePermission(at(0)); err == nil {
		t.Error("a permission was given at the end of the allocation")
	}
}

func TestFlood(t *testing.T) {
	now := newClock()
	s := start(t, Config{UDP: socket(t, "0.0.0.0:0"), Turn: true, Now: now.Now, Limits: Limits{Requests: 1, RequestBurst: 5}})
	flooding, another := socket(t, "127.0.0.1:0"), socket(t, "127.0.0.2:0")
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(s.port)}
	for i := range 20 {
		kind := uint16(0x0001) // a binding request
		if i%2 == 1 {
			kind = 0x0003 // an allocation without credentials is answered with a challenge, which is longer
		}
		write(t, flooding, to, string(message(kind, byte(i))))
	}
	// They are heard in the order in which they were sent.
	write(t, another, to, string(message(0x0001, 99)))
	buffer := make([]byte, 2000)
	if n, _, err := another.ReadFrom(buffer); err != nil || !slices.Equal(buffer[8:20], message(0, 99)[8:]) {
		t.Fatalf("another source got %x, %v", buffer[:n], err)
	}
	if got := s.Stats(); got.RefusedRequests != 15 || got.Bindings != 4 {
		t.Errorf("counted %+v", got)
	}
	answered := make(map[byte]bool)
	for range 5 {
		if _, _, err := flooding.ReadFrom(buffer); err != nil {
			t.Fatal(err)
		}
		answered[buffer[8]] = true
	}
	if got := slices.Sorted(maps.Keys(answered)); !slices.Equal(got, []byte{0, 1, 2, 3, 4}) {
		t.Errorf("%v were answered", got)
	}
	now.advance(time.Second)
	write(t, flooding, to, string(message(0x0001, 77)))
	if _, _, err := flooding.ReadFrom(buffer); err != nil || buffer[8] != 77 {
		t.Errorf("a second later %d was answered, %v", buffer[8], err)
	}
}

// TestUnsoundMessages sends, from a client that has an allocation, what would stop the program if
// the library saw it.
func TestUnsoundMessages(t *testing.T) {
	s := start(t, Config{Turn: true, AllowPrivate: true})
	name, password := s.Credentials(peerID(1), time.Now())
	conn := socket(t, "127.0.0.1:0")
	c := client(t, s.addr(), name, password, conn)
	relayed, other := allocate(t, c), echo(t)
	for size := range 128 {
		data := attribute(0x0013, strings.Repeat("x", size))
		for _, text := range [][]byte{
			message(0x0016, 1, data, attribute(attrXORPeerAddress, "")),
			message(0x0016, 1, data, attribute(attrXORPeerAddress, "\x00")),
			message(0x0016, 1, data, attribute(attrXORPeerAddress, "\x00\x01\x00\x00")),
			message(0x0016, 1, data)[:20+size/2],
		} {
			write(t, conn, s.config.UDP.LocalAddr(), string(text))
		}
		write(t, relayed, other, "there and back") // each time, so that nothing waits in a socket that is full
		receives(t, relayed, other, "there and back")
	}
}

func TestClose(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Config{UDP: socket(t, listener.Addr().String()), TCP: listener, Turn: true, AllowPrivate: true})
	other := echo(t)
	name, password := s.Credentials(peerID(1), time.Now())
	for range 3 {
		conn, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for _, relayed := range []net.PacketConn{
			allocate(t, client(t, s.addr(), name, password, turn.NewSTUNConn(conn))),
			allocate(t, of(t, s, peerID(2))),
		} {
			write(t, relayed, other, "there and back")
			receives(t, relayed, other, "there and back")
		}
	}
	silent, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	eventually(t, "all are in", func() bool { got := s.Stats(); return got.Allocations == 6 && got.Connections == 4 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := s.Stats(); got.Allocations != 0 || got.Connections != 0 || s.waiting != 0 || len(s.bound)+len(s.announced)+len(s.homes) != 0 {
		t.Errorf("left are %+v, %d waiting, %v", got, s.waiting, s.bound)
	}
	if err := s.Close(); err != nil {
		t.Errorf("closing it again: %v", err)
	}
	if _, err := net.Dial("tcp", listener.Addr().String()); err == nil {
		t.Error("the port is still open")
	}
}

func TestServers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp := socket(t, "127.0.0.1:0")
	port := udp.LocalAddr().String()[len("127.0.0.1"):]
	s := start(t, Config{UDP: udp, TCP: listener, Turn: true})
	now := time.Unix(1_700_000_000, 0)
	for host, want := range map[string]string{
		"mediator.example": "mediator.example", "localhost": "localhost", "192.0.2.1": "192.0.2.1", "a_b.example.": "a_b.example.",
		"2001:db8::1": "[2001:db8::1]", "[2001:DB8::1]": "[2001:db8::1]", "fe80::1%eth0": "[fe80::1]", "::ffff:192.0.2.1": "192.0.2.1",
	} {
		got := s.Servers(host, peerID(7), now)
		name := "1700043200:0700000000000000000000000000000000000007"
		wanted := []mediation.ICEServer{
			{URLs: []string{"stun:" + want + port}},
			{
				URLs:     []string{"turn:" + want + port + "?transport=udp", "turn:" + want + port + "?transport=tcp"},
				Username: name, Credential: s.password(name),
			},
		}
		if !slices.EqualFunc(got, wanted, func(a, b mediation.ICEServer) bool {
			return slices.Equal(a.URLs, b.URLs) && a.Username == b.Username && a.Credential == b.Credential
		}) {
			t.Errorf("at %s: %+v", host, got)
		}
		text := mediation.Encode(mediation.Established{ICEServers: got})
		if _, err := mediation.Decode(text); err != nil {
			t.Errorf("%s cannot be told: %v", text, err)
		}
	}
	for _, host := range []string{"", "a b", "a/b", "a:80", "[::1", "::1]", "[a.example]", "ä.example", "a?b", strings.Repeat("a", maxHost+1), "a\r\nb"} {
		if got := s.Servers(host, peerID(7), now); got != nil {
			t.Errorf("at %q: %+v", host, got)
		}
	}
	if got := start(t, Config{}).Servers("a.example", peerID(7), now); len(got) != 1 || len(got[0].URLs) != 1 || got[0].Username != "" {
		t.Errorf("with STUN alone: %+v", got)
	}
}

func TestConfig(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	udp, zeros := socket(t, "127.0.0.1:0"), strings.NewReader(strings.Repeat("\x00", secretSize))
	for name, config := range map[string]Config{
		"no socket":               {Random: zeros},
		"no randomness":           {UDP: udp},
		"too little of it":        {UDP: udp, Random: strings.NewReader("x")},
		"a relay address of IPv6": {UDP: udp, Random: zeros, RelayIP: ip("::1")},
		"all addresses":           {UDP: udp, Random: zeros, RelayIP: ip("0.0.0.0")},
		"a mapped public address": {UDP: udp, Random: zeros, PublicIP: ip("::ffff:192.0.2.1")},
		"eternal credentials":     {UDP: udp, Random: zeros, Limits: Limits{CredentialLifetime: limits.Off}},
		"no burst":                {UDP: udp, Random: zeros, Limits: Limits{RequestBurst: limits.Off}},
	} {
		if s, err := New(config); err == nil {
			t.Errorf("%s was taken", name)
			_ = s.Close()
		}
	}
	if err := udp.SetDeadline(time.Now()); errors.Is(err, net.ErrClosed) {
		t.Error("a server that was never made has closed the socket")
	}
}
