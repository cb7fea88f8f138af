package rtc

import (
	"fmt"
	"net"

	"github.com/pion/transport/v2"
	"github.com/pion/transport/v2/stdnet"
)

// socketBuffer is asked for as the receive buffer of every UDP socket, in bytes;
// the system gives less where it allows less. What arrives in one window (1 MiB) must
// fit: a packet of 1.2 KB counts as 2.3 KB, and with the usual 208 KiB a fast sender
// overruns a busy receiver every second, which then waits a second for each loss.
const socketBuffer = 4 << 20

// sockets is the system's network, with larger buffers, and without what would stop the program. It is made for one
// connection, since it remembers the interfaces that there were.
type sockets struct{ *stdnet.Net }

func newSockets() (sockets, error) {
	network, err := stdnet.NewNet()
	if err != nil {
		return sockets{}, fmt.Errorf("looking at the network interfaces: %w", err)
	}
	return sockets{network}, nil
}

// offline reports whether none of the interfaces that are up has an address that
// others could reach. What cannot be looked at does not count.
func offline(interfaces []*transport.Interface, _ error) bool {
	for _, i := range interfaces {
		addresses, _ := i.Addrs()
		for _, address := range addresses {
			if ip, _, err := net.ParseCIDR(address.String()); err == nil && i.Flags&net.FlagUp != 0 && ip.IsGlobalUnicast() {
				return false
			}
		}
	}
	return true
}

// ListenUDP implements [transport.Net].
func (s sockets) ListenUDP(network string, local *net.UDPAddr) (transport.UDPConn, error) {
	conn, err := s.Net.ListenUDP(network, local)
	if err != nil {
		return nil, err
	}
	_ = conn.SetReadBuffer(socketBuffer) // it works without, only slower
	return soundUDP{conn}, nil
}

// ListenPacket implements [transport.Net].
func (s sockets) ListenPacket(network, local string) (net.PacketConn, error) {
	conn, err := s.Net.ListenPacket(network, local)
	if err != nil {
		return nil, err
	}
	return soundPackets{conn}, nil
}

// DialTCP implements [transport.Net]: pion connects to TURN servers by it.
func (s sockets) DialTCP(network string, local, remote *net.TCPAddr) (transport.TCPConn, error) {
	conn, err := s.Net.DialTCP(network, local, remote)
	if err != nil {
		return nil, err
	}
	return &soundTCP{TCPConn: conn}, nil
}
