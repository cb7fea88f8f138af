package ice

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// lowestPort is the first that is not one of the system ports (RFC 6335, section 6),
// where name servers, clocks and the like answer strangers, some with far more than
// they are asked. No peer is there: the ports of ICE are ephemeral.
const lowestPort = 1024

// special are the addresses that are not of the public internet, after the registries of
// IANA (RFC 6890). Those of somebody's network may be allowed; the others are nobody's.
// The first that contains an address counts.
var special = []struct {
	prefix  netip.Prefix
	network bool // AllowPrivate lifts it
}{
	{netip.MustParsePrefix("0.0.0.0/8"), false},      // this network, unspecified: RFC 1122, section 3.2.1.3
	{netip.MustParsePrefix("10.0.0.0/8"), true},      // private: RFC 1918
	{netip.MustParsePrefix("100.64.0.0/10"), true},   // behind a carrier's NAT: RFC 6598
	{netip.MustParsePrefix("127.0.0.0/8"), true},     // loopback: RFC 1122, section 3.2.1.3
	{netip.MustParsePrefix("169.254.0.0/16"), true},  // link-local: RFC 3927; where clouds keep their keys
	{netip.MustParsePrefix("172.16.0.0/12"), true},   // private: RFC 1918
	{netip.MustParsePrefix("192.0.0.0/24"), false},   // protocol assignments: RFC 6890
	{netip.MustParsePrefix("192.0.2.0/24"), true},    // documentation: RFC 5737; in laboratories, as the next ones
	{netip.MustParsePrefix("192.88.99.0/24"), false}, // relays of 6to4: RFC 7526
	{netip.MustParsePrefix("192.168.0.0/16"), true},  // private: RFC 1918
	{netip.MustParsePrefix("198.18.0.0/15"), true},   // benchmarks: RFC 2544
	{netip.MustParsePrefix("198.51.100.0/24"), true}, // documentation: RFC 5737
	{netip.MustParsePrefix("203.0.113.0/24"), true},  // documentation: RFC 5737
	{netip.MustParsePrefix("224.0.0.0/4"), false},    // multicast: RFC 5771
	{netip.MustParsePrefix("240.0.0.0/4"), false},    // reserved, broadcast: RFC 1112, RFC 919
	{netip.MustParsePrefix("::1/128"), true},         // loopback: RFC 4291
	{netip.MustParsePrefix("::/96"), false},          // unspecified, IPv4-compatible: RFC 4291
	{netip.MustParsePrefix("::ffff:0:0/96"), false},  // IPv4-mapped, which would go around all of the above: RFC 4291
	{netip.MustParsePrefix("64:ff9b::/96"), false},   // IPv4 behind a translator, likewise: RFC 6052
	{netip.MustParsePrefix("64:ff9b:1::/48"), false}, // likewise: RFC 8215
	{netip.MustParsePrefix("100::/64"), false},       // discard: RFC 6666
	{netip.MustParsePrefix("2001::/23"), false},      // protocol assignments, Teredo: RFC 2928, RFC 4380
	{netip.MustParsePrefix("2001:db8::/32"), true},   // documentation: RFC 3849
	{netip.MustParsePrefix("2002::/16"), false},      // 6to4, with IPv4 in it: RFC 3056
	{netip.MustParsePrefix("3fff::/20"), true},       // documentation: RFC 9637
	{netip.MustParsePrefix("5f00::/16"), false},      // segment routing: RFC 9602
	{netip.MustParsePrefix("fc00::/7"), true},        // unique local: RFC 4193
	{netip.MustParsePrefix("fe80::/10"), true},       // link-local: RFC 4291
	{netip.MustParsePrefix("fec0::/10"), false},      // site-local, deprecated: RFC 3879
	{netip.MustParsePrefix("ff00::/8"), false},       // multicast: RFC 4291
}

// public reports whether an address is of the public internet, or of a network that is allowed.
func public(ip netip.Addr, allowPrivate bool) bool {
	if !ip.IsValid() {
		return false
	}
	ip = ip.WithZone("")
	for _, s := range special {
		if s.prefix.Contains(ip) {
			return s.network && allowPrivate
		}
	}
	return true
}

// permits reports whether there may be something behind an address that is relayed to:
// a peer, or a relayed address of ours. A permission of TURN has no port.
func (s *Server) permits(ip netip.Addr) bool {
	if public(ip, s.config.AllowPrivate) {
		return true
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return ip == s.config.PublicIP || s.homes[ip] > 0
}

// reaches reports whether anything may be relayed to an address and port, or from there.
func (s *Server) reaches(a netip.AddrPort) bool {
	if a.Port() < lowestPort || s.isOwn(a.Addr()) && slices.Contains(s.ownPorts, a.Port()) {
		return false
	}
	if public(a.Addr(), s.config.AllowPrivate) {
		return true
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.announced[a] != nil || s.bound[a] != nil
}

// inside is where a datagram for a relayed address of ours is sent, though it is known
// outside by another: not every NAT sends back what comes from within (RFC 4787, section 6).
func (s *Server) inside(a netip.AddrPort) netip.AddrPort {
	if a.Addr() != s.config.PublicIP {
		return a
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.announced[a]; r != nil {
		return r.bound
	}
	return a
}

// outside undoes inside, for where a datagram came from.
func (s *Server) outside(a netip.AddrPort) netip.AddrPort {
	if !s.config.PublicIP.IsValid() {
		return a
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if r := s.bound[a]; r != nil {
		return r.announced
	}
	return a
}

// isOwn reports whether an address is one of this machine.
func (s *Server) isOwn(ip netip.Addr) bool {
	_, own := (*s.own.Load())[ip]
	return own || ip.IsLoopback() || ip.IsUnspecified() || ip == s.config.PublicIP
}

// lookAround learns which addresses the machine has now. It is done for every allocation,
// since they change.
func (s *Server) lookAround() {
	own := make(map[netip.Addr]struct{})
	interfaces, err := net.InterfaceAddrs()
	if err != nil { // those that are known by other means remain
		s.config.Logger.Debug("this machine does not tell its addresses", "error", err)
	}
	for _, found := range interfaces {
		if network, is := found.(*net.IPNet); is {
			if ip, ok := netip.AddrFromSlice(network.IP); ok {
				own[ip.Unmap()] = struct{}{}
			}
		}
	}
	s.own.Store(&own)
}

// home is where a relayed address for a client is bound, reached being where the client came to.
func (s *Server) home(client, reached netip.Addr) (netip.Addr, error) {
	switch {
	case s.config.RelayIP.IsValid():
		return s.config.RelayIP, nil
	case s.config.PublicIP.IsValid():
	case reached.Is4() && !reached.IsUnspecified():
		return reached, nil
	case client.Is4():
		// A socket of all addresses does not tell which one a datagram came to. But
		// its answers leave from the one that the system chooses for this client, and
		// the client would take them from no other.
		return routed(client)
	case client.IsLoopback():
		return routed(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	return routed(somewhere)
}

// somewhere is an address of the internet, as far as routing tables know (RFC 5737).
var somewhere = netip.AddrFrom4([4]byte{192, 0, 2, 1})

// routed returns the address by which this machine reaches another one. Nothing is
// sent: a UDP socket that is connected only knows whom it would send to.
func routed(to netip.Addr) (netip.Addr, error) {
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, lowestPort)))
	if err != nil {
		return netip.Addr{}, fmt.Errorf("looking for an address towards %s: %w", to, err)
	}
	defer conn.Close()
	return address(conn.LocalAddr()).Addr(), nil
}

// address is that of a UDP or TCP socket; of anything else it is not valid. IPv4
// that came through a socket of IPv6 is IPv4.
func address(a net.Addr) netip.AddrPort {
	if with, is := a.(interface{ AddrPort() netip.AddrPort }); is {
		at := with.AddrPort()
		return netip.AddrPortFrom(at.Addr().Unmap().WithZone(""), at.Port())
	}
	return netip.AddrPort{}
}
