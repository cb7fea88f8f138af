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
