package neighbours

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"p2pcdn/common/content"
)

// target is what the URL of a mediator leads to.
type target struct {
	secure bool   // wss
	host   string // an IP address, or a name in lower case without the dot at its end
	port   string // decimal digits
}

var errBadTarget = errors.New("not a host that is the same for everybody")

// parseTarget reads the URL of a mediator. Beyond its form, the host must mean the same to every
// program: browsers read 127.1, 0x7f000001 and the like as addresses, resolvers as
// names. No domain begins its last label with a digit.
func parseTarget(text string) (target, error) {
	if err := content.CheckMediatorURL(text); err != nil {
		return target{}, err
	}
	parsed, err := url.Parse(text)
	if err != nil {
		return target{}, err
	}
	t := target{secure: parsed.Scheme == "wss", host: strings.ToLower(parsed.Hostname()), port: parsed.Port()}
	t.port = strings.TrimLeft(t.port, "0") // browsers do so too
	if t.port == "" {
		t.port = t.usualPort()
	}
	if address, err := netip.ParseAddr(t.host); err == nil {
		t.host = address.String()
		return t, nil
	}
	t.host = strings.TrimSuffix(t.host, ".")
	last := t.host[strings.LastIndexByte(t.host, '.')+1:]
	if last == "" || last[0] >= '0' && last[0] <= '9' || strings.Contains(t.host, ":") {
		return target{}, errBadTarget
	}
	return t, nil
}

func (t target) usualPort() string {
	if t.secure {
		return "443"
	}
	return "80"
}

// id is where the mediator at the target says who it is, in the shortest form: two
// targets are one server if these are the same.
func (t target) id() string {
	scheme, authority := "http", t.host
	if t.secure {
		scheme = "https"
	}
	switch {
	case t.port != t.usualPort():
		authority = net.JoinHostPort(t.host, t.port)
	case strings.Contains(t.host, ":"):
		authority = "[" + t.host + "]"
	}
	return scheme + "://" + authority + "/id"
}

// reach is from where an address can be reached.
type reach int

const (
	nowhere  reach = iota // no address of one host, or of none that we have to do with
	here                  // on this machine
	nearby                // in this network
	anywhere              // on the internet
)

// mayName reports whether a mediator to which our connection goes there may name an
// address: none that lies nearer than itself.
func (from reach) mayName(to reach) bool {
	if from == nowhere { // it is trusted no further than any other
		from = anywhere
	}
	return to != nowhere && to >= from
}

var (
	// nearbyNetworks are private (RFC 1918, RFC 4193) or a provider's own (RFC 6598,
	// also of overlay networks).
	nearbyNetworks = prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")

	// noNetworks are those of the IANA's special-purpose registries that no host of the internet
	// has: for protocols, documentation and benchmarks, tunnels that hide an IPv4 address, and reserved.
	noNetworks = prefixes("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15",
		"198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")

	// globalIPv6 is what is given out for the internet (RFC 4291).
	globalIPv6 = netip.MustParsePrefix("2000::/3")

	// nat64 is how hosts without IPv4 see one that has nothing else (RFC 6052): the address is in the last four bytes.
	nat64 = netip.MustParsePrefix("64:ff9b::/96")
)

func prefixes(texts ...string) (out []netip.Prefix) {
	for _, text := range texts {
		out = append(out, netip.MustParsePrefix(text))
	}
	return out
}

func among(networks []netip.Prefix, address netip.Addr) bool {
	for _, network := range networks {
		if network.Contains(address) {
			return true
		}
	}
	return false
}

// plain is the address without its disguises: IPv4 in IPv6, and a zone.
func plain(address netip.Addr) netip.Addr {
	address = address.Unmap().WithZone("")
	if nat64.Contains(address) {
		bytes := address.As16()
		return netip.AddrFrom4([4]byte(bytes[12:]))
	}
	return address
}

func reachOf(address netip.Addr) reach {
	switch address = plain(address); {
	case !address.IsValid() || among(noNetworks, address):
		return nowhere
	case address.IsLoopback():
		return here
	case among(nearbyNetworks, address):
		return nearby
	case address.Is4() || globalIPv6.Contains(address):
		return anywhere
	}
	return nowhere
}

const (
	networkBits4 = 24 // the least that is routed
	networkBits6 = 48 // what one customer is given (RFC 6177)
)

// networkOf is the network of which an address counts as a part: whoever has
// one address there may well have all of them. Those on this machine and in this network
// count as none, the zero prefix: nobody gets there by buying identities.
func networkOf(address netip.Addr) netip.Prefix {
	address = plain(address)
	if reachOf(address) != anywhere {
		return netip.Prefix{}
	}
	bits := networkBits6
	if address.Is4() {
		bits = networkBits4
	}
	network, err := address.Prefix(bits)
	if err != nil { // an address has these bits
		panic(err)
	}
	return network
}
