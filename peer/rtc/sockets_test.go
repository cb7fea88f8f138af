package rtc

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pion/ice/v2"
	"github.com/pion/stun"
	"github.com/pion/transport/v2"
)

func TestOfflineIsAMachineWithTheLoopbackAlone(t *testing.T) {
	one := func(flags net.Flags, addresses ...string) *transport.Interface {
		i := transport.NewInterface(net.Interface{Flags: flags})
		for _, text := range addresses {
			ip, network, err := net.ParseCIDR(text)
			if err != nil {
				t.Fatal(err)
			}
			network.IP = ip
			i.AddAddress(network)
		}
		return i
	}
	loopback := one(net.FlagUp|net.FlagLoopback, "127.0.0.1/8", "::1/128")
	for name, test := range map[string]struct {
		interfaces []*transport.Interface
		want       bool
	}{
		"nothing":            {nil, true},
		"loopback":           {[]*transport.Interface{loopback}, true},
		"link-local":         {[]*transport.Interface{loopback, one(net.FlagUp, "fe80::1/64", "169.254.7.7/16")}, true},
		"down":               {[]*transport.Interface{loopback, one(0, "192.168.1.7/24")}, true},
		"without an address": {[]*transport.Interface{loopback, one(net.FlagUp)}, true},
		"IPv4":               {[]*transport.Interface{loopback, one(net.FlagUp, "192.168.1.7/24")}, false},
		"IPv6":               {[]*transport.Interface{loopback, one(net.FlagUp, "fd00::2/64")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := offline(test.interfaces, nil); got != test.want {
				t.Errorf("offline is %v, not %v", got, test.want)
			}
		})
	}
}

// TestWhatComesOfDTLSWaitsForWhoTakesIt: of DTLS alone, in its order, and all else goes through meanwhile.
func TestWhatComesOfDTLSWaitsForWhoTakesIt(t *testing.T) {
	network, err := newSockets(nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := network.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	to := conn.LocalAddr().(*net.UDPAddr)
	sender, err := net.DialUDP("udp4", nil, to)
	if err != nil {
		t.Fatal(err)
	}
	defer sender.Close()
	read := make(chan byte, 2*maxHeld)
	ended := make(chan error, 1)
	go func() {
		buffer := make([]byte, 100)
		for {
			n, _, err := conn.ReadFrom(buffer)
			if err != nil {
				ended <- err
				return
			}
			if n != 2 {
				t.Errorf("a packet of %d bytes", n)
			}
			read <- buffer[1]
		}
	}()
	send := func(kind, number byte) {
		if _, err := sender.Write([]byte{kind, number}); err != nil {
			t.Fatal(err)
		}
	}
	for number := range byte(maxHeld + 2) {
		send(22, number)
	}
	send(128, 200) // SRTP; what is not held back comes
	if got := wait(t, read, "what is no DTLS"); got != 200 {
		t.Errorf("%d came first", got)
	}
	network.latch.open()
	for number := range byte(maxHeld) {
		if got := wait(t, read, "what was held back"); got != number {
			t.Errorf("%d came in the place of %d", got, number)
		}
	}
	send(22, 100)
	if got := wait(t, read, "what comes later"); got != 100 {
		t.Errorf("%d came", got)
	}
	network.latch.open() // again
	if err := conn.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if err := wait(t, ended, "the deadline"); !isTimeout(err) {
		t.Errorf("it ended with %v", err)
	}
}

// TestADeadlineHoldsBeforeTheLatchOpens: a STUN server that does not answer is given up.
func TestADeadlineHoldsBeforeTheLatchOpens(t *testing.T) {
	network, err := newSockets(nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := network.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, opens := range []bool{false, true} {
		if opens {
			network.latch.open()
		}
		if err := conn.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := conn.ReadFrom(make([]byte, 10)); !isTimeout(err) {
			t.Errorf("it ended with %v", err)
		}
	}
}

// TestTheEndEndsEveryRead: a STUN server that does not answer is not waited for.
func TestTheEndEndsEveryRead(t *testing.T) {
	network, err := newSockets(nil)
	if err != nil {
		t.Fatal(err)
	}
	listen := func() net.PacketConn {
		conn, err := network.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	ended := make(chan error, 1)
	read := func(conn net.PacketConn) {
		_, _, err := conn.ReadFrom(make([]byte, 10))
		ended <- err
	}
	waiting := listen()
	go read(waiting)
	network.latch.open() // which alone ends none
	network.latch.close()
	if err := wait(t, ended, "the read"); !isTimeout(err) {
		t.Errorf("it ended with %v", err)
	}
	go read(listen()) // one that is made only then
	if err := wait(t, ended, "another read"); !isTimeout(err) {
		t.Errorf("it ended with %v", err)
	}
}

// TestANominationIsSaidAgain: until DTLS is done, and not for ever.
func TestANominationIsSaidAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		times := 0
		l := new(latch)
		l.repeat(func() { times++ })
		time.Sleep(time.Hour) // of the bubble
		synctest.Wait()
		if times != timesAgain {
			t.Errorf("it was said %d times more", times)
		}
		times, l = 0, new(latch)
		l.repeat(func() { times++ })
		time.Sleep(firstAgain)
		synctest.Wait()
		l.end()
		time.Sleep(time.Hour)
		l.repeat(func() { times++ })
		time.Sleep(time.Hour)
		if times != 1 {
			t.Errorf("it was said %d times more, and once before the end", times)
		}
	})
}

// TestNomination: it is a check as ICE wants it, of the side that answers.
func TestNomination(t *testing.T) {
	request, err := stun.Build(stun.BindingRequest, stun.TransactionID, stun.NewUsername("ours:theirs"), ice.AttrControlled(1))
	if err != nil {
		t.Fatal(err)
	}
	packet, err := nomination(request, 7, "password")
	if err != nil {
		t.Fatal(err)
	}
	message := &stun.Message{Raw: packet}
	if err := message.Decode(); err != nil {
		t.Fatal(err)
	}
	var name stun.Username
	var priority ice.PriorityAttr
	if name.GetFrom(message) != nil || name.String() != "theirs:ours" || priority.GetFrom(message) != nil || priority != 7 {
		t.Errorf("it is of %q, with priority %d", name, priority)
	}
	if !ice.UseCandidate().IsSet(message) || !message.Contains(stun.AttrICEControlling) || stun.NewShortTermIntegrity("password").Check(message) != nil || stun.Fingerprint.Check(message) != nil {
		t.Errorf("it is %v", message)
	}
	if _, err := nomination(new(stun.Message), 7, "password"); err == nil {
		t.Error("a check of nobody is answered")
	}
}
