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
	return sockets{network, new(latch)}, nil
}

// latch is how far a connection is, for what has to wait for that.
//
// It holds back what comes of DTLS before there is somebody to take it. A side that has chosen its addresses
// may begin at once, and so what it says comes together with the check by which the other side chooses its
// own. pion drops what comes a moment before it listens, and it would be said again only after a second.
type latch struct {
	mu     sync.Mutex
	opened bool        // guarded by mu: somebody listens to DTLS
	done   bool        // guarded by mu: DTLS is done, or the connection over
	over   bool        // guarded by mu: the connection is being closed
	wake   []func()    // guarded by mu: has each socket look at what it holds, or see that it is over; bounded by the sockets
	again  *time.Timer // guarded by mu: of repeat; nil: nothing is repeated
}

// firstAgain is when a nomination is said again, and then after twice as long each time, so many times in all: some
// round trips, and no more than ICE itself would take.
const (
	firstAgain = 100 * time.Millisecond
	timesAgain = 6
)

// repeat says something again until DTLS is done, a bounded number of times.
func (l *latch) repeat(say func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.repeatAfter(firstAgain, timesAgain, say)
}

// repeatAfter is repeat for the rest. mu is held.
func (l *latch) repeatAfter(wait time.Duration, times int, say func()) {
	if l.done || times == 0 {
		return
	}
	l.again = time.AfterFunc(wait, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.done {
			say()
			l.repeatAfter(2*wait, times-1, say)
		}
	})
}

// end says that nothing is to be said again.
func (l *latch) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.done = true; l.again != nil {
		l.again.Stop()
	}
}

// maxHeld bounds the packets that a socket holds back: DTLS begins with a flight of one or two.
const maxHeld = 8

// isDTLS reports whether a packet is one of DTLS (RFC 7983).
func isDTLS(packet []byte) bool { return len(packet) > 0 && packet[0] >= 20 && packet[0] <= 63 }

// open lets everything through from now on.
func (l *latch) open() {
	l.mu.Lock()
	l.opened = true
	l.mu.Unlock()
	l.wakeAll()
}

// close ends every read that waits: a STUN server that does not answer would be waited for, for five seconds.
func (l *latch) close() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.end()
	l.wakeAll()
}

func (l *latch) wakeAll() {
	l.mu.Lock()
	wake := l.wake
	l.mu.Unlock()
	for _, wake := range wake {
		wake()
	}
}

// isOver reports whether the connection is being closed.
func (l *latch) isOver() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.over
}

// isOpen reports whether nothing is held back any more.
func (l *latch) isOpen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.opened
}

// watch has wake called when the latch opens, and when the connection is closed.
func (l *latch) watch(wake func()) {
	l.mu.Lock()
	l.wake = append(l.wake, wake)
	over := l.over
	l.mu.Unlock()
	if over {
		wake()
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
