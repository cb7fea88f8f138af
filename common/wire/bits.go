package wire

import "math/bits"

// Bits is a set of pieces in the form of a bitfield: the first piece is the
// highest bit of the first byte. Its methods must not be called together.
type Bits struct {
	bytes  []byte // spare bits at the end are zero
	pieces int    // static after construction
	count  int    // how many bits are set
}

// NewBits returns an empty set for a content of so many pieces.
func NewBits(pieces int) *Bits { return &Bits{bytes: make([]byte, (pieces+7)/8), pieces: pieces} }

// ParseBits returns the set that a bitfield says. A bitfield of another length
// than the pieces need, or with a spare bit set, gives an [*Error] with code [CodeBadLength].
func ParseBits(field []byte, pieces int) (*Bits, error) {
	b := NewBits(pieces)
	if len(field) != len(b.bytes) {
		return nil, fail(CodeBadLength, "a bitfield of %d bytes for %d pieces", len(field), pieces)
	}
	copy(b.bytes, field)
	for _, value := range b.bytes {
		b.count += bits.OnesCount8(value)
	}
	for spare := pieces; spare < 8*len(b.bytes); spare++ {
		if b.bytes[spare/8]&(0x80>>(spare%8)) != 0 {
			return nil, fail(CodeBadLength, "a bitfield with a bit set beyond its %d pieces", pieces)
		}
	}
	return b, nil
}

// Has reports whether the piece is in the set; a piece that is none is not.
func (b *Bits) Has(piece int) bool {
	return piece >= 0 && piece < b.pieces && b.bytes[piece/8]&(0x80>>(piece%8)) != 0
}

// Add adds a piece and reports whether it was new.
func (b *Bits) Add(piece int) bool {
	if piece < 0 || piece >= b.pieces || b.Has(piece) {
		return false
	}
	b.bytes[piece/8] |= 0x80 >> (piece % 8)
	b.count++
	return true
}

// Remove takes a piece out.
func (b *Bits) Remove(piece int) {
	if b.Has(piece) {
		b.bytes[piece/8] &^= 0x80 >> (piece % 8)
		b.count--
	}
}

// Fill adds every piece.
func (b *Bits) Fill() {
	for piece := range b.pieces {
		b.Add(piece)
	}
}

// Count is the number of pieces in the set, Len the number of pieces there are.
func (b *Bits) Count() int { return b.count }

// Len is the number of pieces of the content.
func (b *Bits) Len() int { return b.pieces }

// All reports whether every piece is in the set.
func (b *Bits) All() bool { return b.count == b.pieces }

// Frame returns the set as the frame that follows a handshake: have none, have
// all, or a bitfield with a copy of the bits.
func (b *Bits) Frame(number Number) Frame {
	switch b.count {
	case 0:
		return HaveNone{number}
	case b.pieces:
		return HaveAll{number}
	}
	return Bitfield{number, append([]byte(nil), b.bytes...)}
}
