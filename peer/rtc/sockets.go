package rtc

import (
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/pion/transport/v2"
	"github.com/pion/transport/v2/stdnet"
)

// socketBuffer is asked for as the receive buffer of every UDP socket, in bytes;
// the system gives less where it allows less. What arrives in one window (1 MiB) must
// fit: a packet of 1.2 KB counts as 2.3 KB, and with the usual 208 KiB a fast sender
// overruns a busy receiver every second, which then waits a second for each loss.
const socketBuffer = 4 << 20

// sockets is a network, the system's mostly, with larger buffers, and without what would stop the program. It is made for one
// connection, since it remembers the interfaces that there were.
type sockets struct {
	transport.Net
	latch *latch
}

// newSockets returns a network's sockets, or the system's for nil.
func newSockets(network transport.Net) (sockets, error) {
	if network == nil {
		system, err := stdnet.NewNet()
		if err != nil {
			return sockets{}, fmt.Errorf("looking at the network interfaces: %w", err)
		}
		network = system
	}
	return sockets{network, newLatch()}, nil
}

// latch holds back what comes of DTLS before there is somebody to take it. A side that has chosen its addresses
// may begin at once, and so what it says comes together with the check by which the other side chooses its
// own. pion drops what comes a moment before it listens, and it would be said again only after a second.
type latch struct {
	opened chan struct{}
	once   sync.Once
}

// holdBack bounds how long a packet is held back, and what comes behind it on the same socket: what pion does meanwhile
// takes it a fraction of a millisecond.
const holdBack = 50 * time.Millisecond

func newLatch() *latch { return &latch{opened: make(chan struct{})} }

func (l *latch) open() { l.once.Do(func() { close(l.opened) }) }

// pass returns when a packet may go on.
func (l *latch) pass(packet []byte) {
	if len(packet) == 0 || packet[0] < 20 || packet[0] > 63 { // RFC 7983: DTLS is all between
		return
	}
	select {
	case <-l.opened:
		return
	default:
	}
	impatient := time.NewTimer(holdBack)
	defer impatient.Stop()
	select {
	case <-l.opened:
	case <-impatient.C:
	}
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
	return soundUDP{conn, s.latch}, nil
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
