package mediation

import (
	"net/netip"
	"strings"

	"p2pcdn/common/content"
)

// MayName reports whether a peer follows the mediator at the URL from to the one at
// the URL to, which it named. The URL must have the form that [content.CheckMediatorURL] wants, and
//
//   - a wss mediator names wss mediators only. Who was given an encrypted line is never led
//     to one on which anybody in between reads who wants what, and puts himself between two peers;
//   - nobody names what lies nearer than himself: one on the internet no address of our own
//     network, one in our network nothing on our machine. Else whoever runs a mediator could have all its
//     peers knock at what they alone can reach: routers, printers, services on localhost.
//
// A name is judged by its letters alone, without looking it up: one on the internet may
// still stand for an address nearby. What listens there is asked for a WebSocket, and for nothing else.
func MayName(from, to string) bool {
	if content.CheckMediatorURL(to) != nil || (strings.HasPrefix(from, "wss:") && !strings.HasPrefix(to, "wss:")) {
		return false
	}
	near, ok := reachOf(from)
	if !ok {
		near = anywhere // it is trusted no further than any other
	}
	far, ok := reachOf(to)
	return ok && far >= near
}

// reach is from where a host can be reached, under the same name as here.
type reach int

const (
	here     reach = iota // on this machine
	nearby                // in this network
	anywhere              // on the internet
)

// reachOf judges the host of a URL; false where there is none that can be judged.
func reachOf(url string) (reach, bool) {
	_, rest, _ := strings.Cut(url, "://")
	if inside, isIPv6 := strings.CutPrefix(rest, "["); isIPv6 {
		inside, _, _ = strings.Cut(inside, "]")
		address, err := netip.ParseAddr(inside)
		return reachOfIPv6(address), err == nil && address.Is6()
	}
	host := rest
	if end := strings.IndexAny(rest, ":/?"); end >= 0 {
		host = rest[:end]
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if address, err := netip.ParseAddr(host); err == nil {
		return reachOfIPv4(address), true
	}
	labels := strings.Split(host, ".")
	switch last := labels[len(labels)-1]; {
	case last == "" || (last[0] >= '0' && last[0] <= '9'):
		// Systems read 127.1, 0x7f000001 and the like as addresses, each its own way; no domain begins with a digit.
		return 0, false
	case last == "localhost": // RFC 6761
		return here, true
	case len(labels) == 1 || last == "local" || last == "internal" || strings.HasSuffix(host, ".home.arpa"):
		return nearby, true // RFC 6762, RFC 8375, and the resolver's search list
	}
	return anywhere, true
}

// nearbyIPv4 are the addresses that mean another host in every network: private (RFC 1918), of a
// provider's own network (RFC 6598), link-local (RFC 3927), of groups and reserved.
var nearbyIPv4 = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/3"),
}

func reachOfIPv4(address netip.Addr) reach {
	if address.IsLoopback() || address.As4()[0] == 0 { // 0.0.0.0 leads to this machine, too
		return here
	}
	for _, prefix := range nearbyIPv4 {
		if prefix.Contains(address) {
			return nearby
		}
	}
	return anywhere
}

// globalIPv6 are the addresses that are given out for the internet (RFC 4291). All else is
// local, or stands for an IPv4 address.
var globalIPv6 = netip.MustParsePrefix("2000::/3")

func reachOfIPv6(address netip.Addr) reach {
	switch {
	case address == netip.IPv6Loopback() || address == netip.IPv6Unspecified():
		return here
	case globalIPv6.Contains(address):
		return anywhere
	}
	return nearby
}
