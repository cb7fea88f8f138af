package rtc

import (
	"fmt"
	"net"
	"sync"

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
	return sockets{network, new(latch)}, nil
}

// latch holds back what comes of DTLS before there is somebody to take it. A side that has chosen its addresses
// may begin at once, and so what it says comes together with the check by which the other side chooses its
// own. pion drops what comes a moment before it listens, and it would be said again only after a second.
type latch struct {
	mu     sync.Mutex
	opened bool     // guarded by mu
	wake   []func() // guarded by mu: has each socket look at what it holds; bounded by the sockets
}

// maxHeld bounds the packets that a socket holds back: DTLS begins with a flight of one or two.
const maxHeld = 8

// isDTLS reports whether a packet is one of DTLS (RFC 7983).
func isDTLS(packet []byte) bool { return len(packet) > 0 && packet[0] >= 20 && packet[0] <= 63 }

// open lets everything through from now on.
func (l *latch) open() {
	l.mu.Lock()
	wake := l.wake
	l.opened, l.wake = true, nil
	l.mu.Unlock()
	for _, wake := range wake {
		wake()
	}
}

// isOpen reports whether nothing is held back any more.
func (l *latch) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened
}

// onOpen has wake called when the latch opens, unless it is open.
func (l *latch) onOpen(wake func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.opened {
		l.wake = append(l.wake, wake)
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
	return newSoundUDP(conn, s.latch), nil
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
