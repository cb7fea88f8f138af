package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"p2pcdn/scripts/lab/plan"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// apart runs the test again in an isolated process, and reports whether this is it. It skips the test where that cannot be done.
func apart(t *testing.T) bool {
	t.Helper()
	if Isolated() {
		if _, err := Prepare(); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if missing := Missing(); len(missing) > 0 {
		t.Skip("a lab needs " + strings.Join(missing, "; "))
	}
	again, err := Apart("-test.run=^"+t.Name()+"$", "-test.v", "-test.count=1")
	if err != nil {
		t.Fatal(err)
	}
	said, err := again.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		t.Skipf("a lab cannot be isolated: %v", err)
	}
	t.Logf("in a process of its own:\n%s", said)
	if err != nil {
		t.Fatal(err)
	}
	return false
}

func build(t *testing.T, hosts ...plan.Host) *Network {
	t.Helper()
	n, err := Build(1, hosts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func link(delay time.Duration) plan.Link {
	return plan.Link{Delay: delay, Up: 100_000_000, Down: 100_000_000}
}

// A round trip takes as long as the links say, whatever their delays are; how much longer is told, and depends on
// what else this machine does.
func TestRoundTrips(t *testing.T) {
	if !apart(t) {
		return
	}
	n := build(t,
		plan.Host{Name: "a", Link: link(12500 * time.Microsecond)},
		plan.Host{Name: "b", Link: link(12500 * time.Microsecond)},
		plan.Host{Name: "c", Link: link(0)},
		plan.Host{Name: "d", Link: link(3 * time.Millisecond), NAT: plan.Cone},
	)
	for _, trip := range []struct {
		from, to string
		want     time.Duration
	}{{"a", "b", 50 * time.Millisecond}, {"b", "a", 50 * time.Millisecond}, {"a", "c", 25 * time.Millisecond}, {"d", "c", 6 * time.Millisecond}} {
		trips, err := n.Host(trip.from).Ping(t.Context(), n.Host(trip.to).Address, 10, 10*time.Second)
		if err != nil || len(trips) != 10 {
			t.Fatalf("%s → %s: %v, %v", trip.from, trip.to, trips, err)
		}
		slices.Sort(trips)
		t.Logf("%s → %s: %v to %v, median %v", trip.from, trip.to, trips[0], trips[9], trips[5])
		if trips[0] < trip.want {
			t.Errorf("%s → %s takes %v, which is less than %v", trip.from, trip.to, trips[0], trip.want)
		}
	}
	t.Logf("late: %+v", n.Lateness())
	// They were a request and an answer each, also those of the NAT.
	if stats := n.Stats(); stats[2].Delivered != 20 || stats[0].LostUp != 0 {
		t.Errorf("counted: %+v", stats)
	}
}

func TestWhatIsLost(t *testing.T) {
	if !apart(t) {
		return
	}
	lossy := link(time.Millisecond)
	lossy.Loss = 1
	n := build(t, plan.Host{Name: "a", Link: link(0)}, plan.Host{Name: "b", Link: lossy})
	conn := open(t, n.Host("a"))
	for range 5 {
		if _, err := conn.WriteTo([]byte("hello"), udpTo(n.Host("b").Address)); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for n.Stats()[1].LostDown < 5 && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond) // there is no event of a packet that does not arrive
	}
	if stats := n.Stats(); stats[1].LostDown != 5 || stats[1].Delivered != 0 {
		t.Errorf("counted: %+v", stats)
	}
}

// open is a UDP socket on a host, at port 4000.
func open(t *testing.T, h *Host) (conn net.PacketConn) {
	t.Helper()
	err := h.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", ":4000")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func udpTo(address netip.Addr) net.Addr {
	return net.UDPAddrFromAddrPort(netip.AddrPortFrom(address, 4000))
}

// What a NAT is shows by which address two others see, whether they can answer, and whether a third one can.
func TestNATs(t *testing.T) {
	if !apart(t) {
		return
	}
	n := build(t,
		plan.Host{Name: "x", Link: link(0)}, plan.Host{Name: "y", Link: link(0)},
		plan.Host{Name: "cone", Link: link(0), NAT: plan.Cone},
		plan.Host{Name: "symmetric", Link: link(0), NAT: plan.Symmetric},
		plan.Host{Name: "blocked", Link: link(0), NAT: plan.UDPBlocked},
	)
	x, y := open(t, n.Host("x")), open(t, n.Host("y"))
	// What must not come is not waited for for long.
	const long, soon = 10 * time.Second, 100 * time.Millisecond
	// seen is from where a host's packet comes, and "" where none does.
	seen := func(by net.PacketConn, patience time.Duration) string {
		if err := by.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		_, from, err := by.ReadFrom(make([]byte, 100))
		if err != nil {
			return ""
		}
		return from.String()
	}
	say := func(from net.PacketConn, to net.Addr) {
		if _, err := from.WriteTo([]byte("hello"), to); err != nil {
			t.Errorf("it is told to the host, and not dropped without a word: %v", err)
		}
	}
	for _, name := range []string{"cone", "symmetric", "blocked"} {
		host := n.Host(name)
		home := open(t, host)
		public := udpTo(host.Address)
		say(x, public)
		if from := seen(home, soon); from != "" {
			t.Errorf("%s lets in what nobody asked for", name)
		}
		say(home, udpTo(n.Host("x").Address))
		say(home, udpTo(n.Host("y").Address))
		patience := long
		if name == "blocked" {
			patience = soon
		}
		atX, atY := seen(x, patience), seen(y, patience)
		switch {
		case name == "blocked":
			if atX != "" || atY != "" {
				t.Errorf("UDP comes from %s and %s", atX, atY)
			}
			continue
		case (atX == atY) != (name == "cone") || !strings.HasPrefix(atX, host.Address.String()+":"):
			t.Errorf("%s is seen at %s and %s", name, atX, atY)
		}
		back, err := net.ResolveUDPAddr("udp4", atX)
		if err != nil {
			t.Fatal(err)
		}
		say(x, back)
		if from := seen(home, long); from != udpTo(n.Host("x").Address).String() {
			t.Errorf("%s does not let in the answer, but from %q", name, from)
		}
	}
	// By TCP all of them reach others.
	var listener net.Listener
	if err := n.Host("x").Do(func() (err error) {
		listener, err = net.Listen("tcp4", ":4001")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, name := range []string{"cone", "symmetric", "blocked", "y"} {
		conn, err := n.Host(name).Dial(t.Context(), "tcp", fmt.Sprint(n.Host("x").Address, ":4001"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		conn.Close()
	}
	if _, err := n.Host("x").Dial(t.Context(), "tcp", "localhost:1"); err == nil {
		t.Error("a name is resolved")
	}
}

// One connection gets what the link gives, or what the router can carry: told, and held far below what it is.
func TestThroughput(t *testing.T) {
	if !apart(t) {
		return
	}
	for _, test := range []struct {
		rate  int64
		bytes int64
		least float64 // Mbit/s
	}{{20_000_000, 5 << 20, 14}, {10_000_000_000, 64 << 20, 20}} {
		fast := plan.Link{Up: test.rate, Down: test.rate, Delay: 250 * time.Microsecond, Queue: 4 << 20}
		n, err := Build(1, []plan.Host{{Name: "a", Link: fast}, {Name: "b", Link: fast}})
		if err != nil {
			t.Fatal(err)
		}
		took := transfer(t, n, test.bytes)
		rate := float64(test.bytes) * 8 / took.Seconds() / 1e6
		t.Logf("%d Mbit/s: one connection carries %.0f Mbit/s; late: %+v", test.rate/1e6, rate, n.Lateness())
		if rate < test.least || rate > float64(test.rate)/1e6 {
			t.Errorf("it carries %.0f Mbit/s", rate)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}

// transfer sends bytes from the first host to the second.
func transfer(t *testing.T, n *Network, bytes int64) time.Duration {
	t.Helper()
	var listener net.Listener
	if err := n.Hosts[1].Do(func() (err error) {
		listener, err = net.Listen("tcp4", ":4001")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	received := make(chan int64, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			received <- 0
			return
		}
		defer conn.Close()
		count, _ := io.Copy(io.Discard, conn)
		received <- count
	}()
	conn, err := n.Hosts[0].Dial(t.Context(), "tcp", fmt.Sprint(n.Hosts[1].Address, ":4001"))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	chunk := make([]byte, 64<<10)
	for left := bytes; left > 0; left -= int64(len(chunk)) {
		if _, err := conn.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
	if got := <-received; got != bytes {
		t.Fatalf("%d of %d bytes arrive", got, bytes)
	}
	return time.Since(began)
}

func TestACloseLeavesNoNamespace(t *testing.T) {
	if !apart(t) {
		return
	}
	n, err := Build(1, []plan.Host{{Name: "a", Link: link(0)}, {Name: "b", Link: link(0), NAT: plan.Cone}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if n.Stats() != nil {
		t.Error("what is closed counts")
	}
	left, err := os.ReadDir("/run/netns")
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := Build(1, []plan.Host{{Name: "a", Link: link(0)}, {Name: "a", Link: link(0)}}); err == nil || !strings.Contains(err.Error(), "making host a") {
		t.Errorf("two of one name: %v", err)
	}
	if left, err := os.ReadDir("/run/netns"); err != nil || len(left) > 0 {
		t.Errorf("left of what could not be built: %v, %v", left, err)
	}
}

func TestLateness(t *testing.T) {
	var l lateness
	for range 98 {
		l.count(3 * time.Microsecond)
	}
	l.count(100 * time.Microsecond)
	l.count(time.Hour)
	got := l.read()
	if want := (Lateness{100, 4 * time.Microsecond, 128 * time.Microsecond, 1 << 23 * time.Microsecond, 1}); got != want {
		t.Errorf("%+v, and not %+v", got, want)
	}
	if got := new(lateness).read(); got != (Lateness{}) {
		t.Errorf("of nothing: %+v", got)
	}
}
