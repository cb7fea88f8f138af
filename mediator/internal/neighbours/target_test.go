package neighbours

import (
	"net/netip"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for url, want := range map[string]string{
		"ws://a.example":                    "http://a.example/id",
		"wss://a.example":                   "https://a.example/id",
		"wss://A.Example.:0443/x?y=z":       "https://a.example/id",
		"ws://localhost:8080/mediation":     "http://localhost:8080/id",
		"ws://192.0.2.1:8080/mediation":     "http://192.0.2.1:8080/id",
		"ws://[2001:DB8:0::1]/mediation":    "http://[2001:db8::1]/id",
		"wss://[2001:db8::1]:80":            "https://[2001:db8::1]:80/id",
		"ws://[::ffff:192.0.2.1]/mediation": "http://[::ffff:192.0.2.1]/id",
		"ws://xn--bcher-kva.example":        "http://xn--bcher-kva.example/id",
		"ws://127.1/":                       "",
		"ws://2130706433/":                  "",
		"ws://0x7f.0.0.1/":                  "",
		"ws://a.0x7f":                       "",
		"ws://0177.0.0.01/":                 "",
		"ws://256.1.1.1/":                   "",
		"ws://./":                           "",
		"ws://[1:2]/":                       "",
		"ws://a.example:0/":                 "",
		"http://a.example/":                 "",
		"ws://u:p@a.example/":               "",
		"ws://a.example/#x":                 "",
		"":                                  "",
	} {
		got := ""
		if to, err := parseTarget(url); err == nil {
			got = to.id()
		}
		if got != want {
			t.Errorf("%s leads to %q, not to %q", url, got, want)
		}
	}
}

func TestReachOf(t *testing.T) {
	for text, want := range map[string]reach{
		"127.0.0.1": here, "127.9.9.9": here, "::1": here, "::ffff:127.0.0.1": here, "64:ff9b::7f00:1": here,
		"10.1.2.3": nearby, "172.31.0.1": nearby, "192.168.1.1": nearby, "100.64.0.1": nearby, "fd00::1": nearby,
		"::ffff:10.0.0.1": nearby, "64:ff9b::c0a8:101": nearby,
		"9.9.9.9": anywhere, "172.32.0.1": anywhere, "2620:fe::fe": anywhere, "64:ff9b::909:909": anywhere,
		"0.0.0.0": nowhere, "169.254.169.254": nowhere, "192.0.2.1": nowhere, "224.0.0.1": nowhere, "255.255.255.255": nowhere,
		"::": nowhere, "fe80::1": nowhere, "fe80::1%eth0": nowhere, "ff02::1": nowhere, "2001:db8::1": nowhere,
		"2002:7f00:1::": nowhere, "2001::1": nowhere, "64:ff9b:1::1": nowhere,
	} {
		if got := reachOf(netip.MustParseAddr(text)); got != want {
			t.Errorf("the reach of %s is %d, not %d", text, got, want)
		}
	}
	if reachOf(netip.Addr{}) != nowhere {
		t.Error("no address is somewhere")
	}
}

func TestNobodyNamesWhatLiesNearer(t *testing.T) {
	for from, want := range map[reach]map[reach]bool{
		here:     {nowhere: false, here: true, nearby: true, anywhere: true},
		nearby:   {nowhere: false, here: false, nearby: true, anywhere: true},
		anywhere: {nowhere: false, here: false, nearby: false, anywhere: true},
		nowhere:  {nowhere: false, here: false, nearby: false, anywhere: true},
	} {
		for to, may := range want {
			if from.mayName(to) != may {
				t.Errorf("%d names %d: %v", from, to, !may)
			}
		}
	}
}

func TestNetworkOf(t *testing.T) {
	for text, want := range map[string]string{
		"9.9.9.9": "9.9.9.0/24", "::ffff:9.9.9.9": "9.9.9.0/24", "64:ff9b::909:909": "9.9.9.0/24",
		"2620:fe:1:2::fe": "2620:fe:1::/48",
		"127.0.0.1":       "invalid Prefix", "192.168.1.1": "invalid Prefix", "fd00::1": "invalid Prefix", "fe80::1": "invalid Prefix",
	} {
		if got := networkOf(netip.MustParseAddr(text)).String(); got != want {
			t.Errorf("%s counts as %s, not as %s", text, got, want)
		}
	}
}
