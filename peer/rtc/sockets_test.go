package rtc

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

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

// TestWhatComesOfDTLSWaitsForWhoTakesIt: of DTLS alone, and not for ever.
func TestWhatComesOfDTLSWaitsForWhoTakesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		waits := func(l *latch, packet ...byte) time.Duration {
			began := time.Now()
			l.pass(packet)
			return time.Since(began)
		}
		l := newLatch()
		for name, packet := range map[string][]byte{"nothing": nil, "STUN": {0, 1}, "TURN channel data": {64, 0}, "SRTP": {128}} {
			if waited := waits(l, packet...); waited != 0 {
				t.Errorf("%s waits for %v", name, waited)
			}
		}
		if waited := waits(l, 22); waited != holdBack {
			t.Errorf("it waits for %v where nobody comes", waited)
		}
		time.AfterFunc(time.Millisecond, l.open)
		if waited := waits(l, 22); waited != time.Millisecond {
			t.Errorf("it waits for %v", waited)
		}
		l.open() // again
		if waited := waits(l, 22); waited != 0 {
			t.Errorf("it waits for %v when somebody is there", waited)
		}
	})
}
