package ice

import (
	"encoding/binary"
	"time"
)

// Of STUN messages (RFC 8489, sections 5 and 14; RFC 8656, sections 17 and 18): the types and the
// attributes that matter here, and the bits of a type that tell a request from everything else.
const (
	classBits       = 0x0110 // zero: a request
	bindingSuccess  = 0x0101
	allocateSuccess = 0x0103
	refreshSuccess  = 0x0104

	attrLifetime       = 0x000d
	attrXORPeerAddress = 0x0012

	stunHeader      = 20
	attributeHeader = 4
)

// messageType is that of a STUN message.
func messageType(packet []byte) (kind uint16, isSTUN bool) {
	if len(packet) < 2 || packet[0] > 0x3f {
		return 0, false
	}
	return binary.BigEndian.Uint16(packet), true
}

// attributes calls visit for each attribute of a STUN message, and reports whether the message is
// made of a header and of whole attributes, and visit returned true for all of them.
func attributes(packet []byte, visit func(kind uint16, value []byte) bool) bool {
	if len(packet) < stunHeader || int(binary.BigEndian.Uint16(packet[2:])) != len(packet)-stunHeader {
		return false
	}
	for rest := packet[stunHeader:]; len(rest) > 0; {
		if len(rest) < attributeHeader {
			return false
		}
		kind, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		padded := attributeHeader + size + -size&3
		if len(rest) < padded || !visit(kind, rest[attributeHeader:attributeHeader+size]) {
			return false
		}
		rest = rest[padded:]
	}
	return true
}

// sound reports whether a STUN message may be given to the library. That reads the family of
// an address before it looks whether there is one, which would stop the whole program.
func sound(packet []byte) bool {
	return attributes(packet, func(kind uint16, value []byte) bool {
		if kind != attrXORPeerAddress {
			return true
		}
		// RFC 8489, section 14.2: a zero byte, the family, a port, the address.
		return len(value) == 8 && value[1] == 0x01 || len(value) == 20 && value[1] == 0x02
	})
}

// lifetime is the LIFETIME of a STUN message; zero where there is none.
func lifetime(packet []byte) (d time.Duration) {
	attributes(packet, func(kind uint16, value []byte) bool {
		if kind == attrLifetime && len(value) == 4 {
			d = time.Duration(binary.BigEndian.Uint32(value)) * time.Second
		}
		return true
	})
	return d
}
