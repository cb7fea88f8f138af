package rtc

import (
	"net"
	"testing"

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
	conn.Close()
	wait(t, ended, "the end")
}
