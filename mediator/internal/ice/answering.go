package ice

import (
	"net"
	"net/netip"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// maxAskers bounds the clients of which it is remembered which address they asked, those that were
// heard of least recently forgotten first; each takes about 150 bytes.
const maxAskers = 16384

// answering is a UDP socket of all addresses of the machine that answers from the one
// that was asked. The system would take the one of the way back, which on a machine with several
// is another: no NAT lets that in, and no client takes it for an answer (RFC 8489, section 6.3.3).
type answering struct {
	*net.UDPConn
	ask    func(control []byte) net.IP // the address that a packet came to
	asked  *lru.Cache[netip.AddrPort, netip.Addr]
	buffer []byte // of control messages; owned by the reader
}

// answerWhereAsked returns the socket as one that answers from where it was asked. Where it has
// one address alone, or the system does not say where packets come to, it is as it was.
func answerWhereAsked(conn net.PacketConn) net.PacketConn {
	udp, is := conn.(*net.UDPConn)
	if !is || !address(udp.LocalAddr()).Addr().IsUnspecified() {
		return conn
	}
	a := &answering{UDPConn: udp}
	a.asked, _ = lru.New[netip.AddrPort, netip.Addr](maxAskers) // it fails only for a size below one
	// A socket of both kinds says it as one of IPv6, with addresses of IPv4 mapped into those.
	switch {
	case ipv6.NewPacketConn(udp).SetControlMessage(ipv6.FlagDst, true) == nil:
		a.buffer = ipv6.NewControlMessage(ipv6.FlagDst)
		a.ask = func(control []byte) net.IP {
			var message ipv6.ControlMessage
			_ = message.Parse(control) // what says nothing leaves Dst nil
			return message.Dst
		}
	case ipv4.NewPacketConn(udp).SetControlMessage(ipv4.FlagDst, true) == nil:
		a.buffer = ipv4.NewControlMessage(ipv4.FlagDst)
		a.ask = func(control []byte) net.IP {
			var message ipv4.ControlMessage
			_ = message.Parse(control) // likewise
			return message.Dst
		}
	default:
		return conn
	}
	return a
}

// ReadFrom implements [net.PacketConn] for one reader.
func (a *answering) ReadFrom(p []byte) (int, net.Addr, error) {
	n, controls, _, from, err := a.ReadMsgUDPAddrPort(p, a.buffer)
	if err != nil {
		return n, nil, err
	}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	if asked, ok := netip.AddrFromSlice(a.ask(a.buffer[:controls])); ok {
		a.asked.Add(from, asked.Unmap())
	}
	return n, net.UDPAddrFromAddrPort(from), nil
}

// WriteTo implements [net.PacketConn].
func (a *answering) WriteTo(p []byte, to net.Addr) (int, error) {
	client := address(to)
	if from, known := a.asked.Get(client); known {
		if n, _, err := a.WriteMsgUDPAddrPort(p, leavesFrom(from), client); err == nil {
			return n, nil
		}
		a.asked.Remove(client) // an address that the machine has lost: the system finds another
	}
	return a.UDPConn.WriteTo(p, to)
}

// leavesFrom is the control message for a packet that is to leave from the address. One of IPv4
// is said as such also to a socket of both kinds.
func leavesFrom(from netip.Addr) []byte {
	if from.Is4() {
		return (&ipv4.ControlMessage{Src: from.AsSlice()}).Marshal()
	}
	return (&ipv6.ControlMessage{Src: from.AsSlice()}).Marshal()
}
