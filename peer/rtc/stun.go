package rtc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pion/transport/v2"
)

// Of STUN messages (RFC 8489, sections 5 and 14; RFC 8656, section 18), and of ChannelData
// (RFC 8656, section 12.4), which share a connection with them.
const (
	stunHeader    = 20
	stunAttribute = 4 // type and length of an attribute

	attrXORPeerAddress    = 0x0012
	attrXORRelayedAddress = 0x0016
	attrXORMappedAddress  = 0x0020

	leastXORAddress = 8 // a zero byte, the family, a port, four bytes of IPv4

	channelDataHeader = 4
	maxTurnFrame      = 4 << 10 // what is relayed is a UDP packet, of an Ethernet's 1.5 KB
)

var errUnsound = errors.New("the TURN server sends what is no STUN message")

// isSTUN reports whether a packet is a STUN message, by its first bits.
func isSTUN(packet []byte) bool { return len(packet) > 0 && packet[0] < 4 }

// sound reports whether a STUN message may be given to pion/stun (v0.6.1), which reads the family of an
// address before it looks whether there is one: that would stop the whole program, and
// STUN servers are whatever a mediator names.
func sound(packet []byte) bool {
	if len(packet) < stunHeader {
		return false
	}
	for rest := packet[stunHeader:]; len(rest) >= stunAttribute; {
		kind, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		switch kind {
		case attrXORMappedAddress, attrXORRelayedAddress, attrXORPeerAddress:
			if size < leastXORAddress {
				return false
			}
		}
		rest = rest[min(len(rest), stunAttribute+size+-size&3):]
	}
	return true
}

// readSound reads a packet; unsound messages are as if they had been lost.
func readSound(conn net.PacketConn, p []byte) (n int, from net.Addr, err error) {
	for {
		n, from, err = conn.ReadFrom(p)
		if err != nil || !isSTUN(p[:n]) || sound(p[:n]) {
			return n, from, err
		}
	}
}

// soundUDP and soundPackets are UDP sockets without unsound messages, in the two forms in which
// pion wants them. The first, on which peers talk to each other, holds back what the latch says. One goroutine reads.
type (
	soundUDP struct {
		transport.UDPConn
		latch *latch
		held  []held // the reader's: what came too early; bounded by maxHeld

		mu       sync.Mutex
		deadline time.Time // guarded by mu: the reader's own, for STUN servers that do not answer; zero: none
		woken    bool      // guarded by mu: the latch has opened, and a read that waits was ended for it
	}
	soundPackets struct{ net.PacketConn }
)

// held is a packet that came before there was somebody to take it.
type held struct {
	data []byte
	from net.Addr
}

func newSoundUDP(conn transport.UDPConn, latch *latch) *soundUDP {
	c := &soundUDP{UDPConn: conn, latch: latch}
	latch.watch(c.wake)
	return c
}

// wake ends a read that waits, so that what is held is looked at.
func (c *soundUDP) wake() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.woken = true
	_ = c.UDPConn.SetReadDeadline(time.Unix(1, 0)) // in a closed socket nobody waits
}

// awoke reports whether a read was ended by wake, and is to go on, and gives the reader its own deadline back.
func (c *soundUDP) awoke() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.woken || c.latch.isOver() {
		return false
	}
	c.woken = false
	return c.UDPConn.SetReadDeadline(c.deadline) == nil
}

// SetReadDeadline implements [net.PacketConn].
func (c *soundUDP) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = at
	if c.woken { // awoke sets it, unless it is the end
		return nil
	}
	return c.UDPConn.SetReadDeadline(at)
}

// SetDeadline implements [net.PacketConn].
func (c *soundUDP) SetDeadline(at time.Time) error {
	return errors.Join(c.SetReadDeadline(at), c.SetWriteDeadline(at))
}

// ReadFrom implements [net.PacketConn].
func (c *soundUDP) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		open := c.latch.isOpen()
		if open && len(c.held) > 0 {
			first := c.held[0]
			c.held = c.held[1:]
			return copy(p, first.data), first.from, nil
		}
		n, from, err := readSound(c.UDPConn, p)
		switch {
		case isTimeout(err) && c.awoke():
		case err != nil || open || !isDTLS(p[:n]):
			return n, from, err
		case len(c.held) < maxHeld:
			c.held = append(c.held, held{bytes.Clone(p[:n]), from})
		}
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// ReadFrom implements [net.PacketConn].
func (c soundPackets) ReadFrom(p []byte) (int, net.Addr, error) { return readSound(c.PacketConn, p) }

// soundTCP is a connection to a TURN server that ends with the first unsound message. Under TLS it is
// as it was: what is in it cannot be seen here, and certificates tell whose it is. One goroutine reads.
type soundTCP struct {
	transport.TCPConn
	frame []byte // what is left of the frame that is being read
	plain bool   // it is no TURN
}

// Read implements [net.Conn].
func (c *soundTCP) Read(p []byte) (int, error) {
	if len(c.frame) == 0 {
		if c.plain {
			return c.TCPConn.Read(p)
		}
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.frame)
	c.frame = c.frame[n:]
	return n, nil
}

// next reads a frame.
func (c *soundTCP) next() error {
	head := make([]byte, channelDataHeader)
	if _, err := io.ReadFull(c.TCPConn, head); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint16(head[2:]))
	switch {
	case isSTUN(head):
		size += stunHeader
	case head[0]&0xc0 == 0x40: // ChannelData
		size += channelDataHeader + -size&3
	default:
		c.frame, c.plain = head, true
		return nil
	}
	if size > maxTurnFrame {
		return errUnsound
	}
	c.frame = append(head, make([]byte, size-len(head))...)
	if _, err := io.ReadFull(c.TCPConn, c.frame[len(head):]); err != nil {
		return err
	}
	if isSTUN(c.frame) && !sound(c.frame) {
		return errUnsound
	}
	return nil
}
