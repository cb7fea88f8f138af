package wire

import (
	"p2pcdn/common/content"
)

const (
	// Version is the version of the protocol in the handshake.
	Version = 1

	// ChannelLabel is the label of the data channel.
	ChannelLabel = "p2pcdn/1"

	// MinFrame is the max_frame that every peer must handle: a block of one
	// leaf, the piece hashes of a span with their proof, or the longest bitfield, with room.
	MinFrame = 20 << 10

	// MaxFrame bounds every frame, and so max_frame. Chromium takes messages of at most 256 KiB.
	MaxFrame = 256 << 10

	// MaxBlock bounds a block. In a page each block costs a request, a message to the
	// disk and a write: with 128 KiB, a transfer between two Chromiums takes a tenth
	// less of the processor than with 64 KiB. The channels themselves gain nothing: all are
	// within a tenth of their best from 64 KiB on. Whoever asks takes less of a slow peer.
	// To measure again: scripts/bench/run.sh chromium-chromium;
	// node peer/browser/e2e/frames.bench.mjs; go test -run - -bench Loopback ./peer/rtc
	MaxBlock = 128 << 10

	// MaxRequests is how many requests of a peer may wait at the other side. At
	// 48 KiB each, which is what pion sends, they cover 24 MiB: 1 Gbit/s over 200 ms.
	MaxRequests = 512

	// MaxMessage bounds the text of a goodbye, in bytes.
	MaxMessage = 256

	headLength      = 3              // type, content number
	blockHead       = headLength + 8 // and piece, begin
	blockBody       = 3 * 4          // piece, begin, length
	handshakeLength = headLength + 1 + content.HashSize + 8 + 4 + 4

	// maxProof bounds a proof, in hashes: MaxPieces are 2^8 spans of MaxProofHashes.
	maxProof = 8
)

// The types of frames.
const (
	typeHave        = 4
	typeBitfield    = 5
	typeRequest     = 6
	typePiece       = 7
	typeCancel      = 8
	typeHaveAll     = 14
	typeHaveNone    = 15
	typeReject      = 16
	typeHashRequest = 21
	typeHashes      = 22
	typeHashReject  = 23
	typeHandshake   = 64
	typeGoodbye     = 65
)

// Reason says why a goodbye was said.
type Reason uint8

// The reasons of a goodbye. An unknown one is treated as Finished.
const (
	ReasonFinished         Reason = 1 // has what it wants, or stops seeding
	ReasonNotHere          Reason = 2 // neither has nor wants the content
	ReasonWrongTotalLength Reason = 3 // total_length is not what the receiver of the handshake knows
	ReasonWrongPieceLength Reason = 4 // piece_length is not what the receiver of the handshake uses
	ReasonPoisoned         Reason = 5 // sent data that does not hash to what it should
	ReasonOverloaded       Reason = 6 // serves as many peers as it can
	ReasonProtocolError    Reason = 7 // sent what the specification does not allow; the connection ends
)

// String returns the reason in words.
func (r Reason) String() string {
	switch r {
	case ReasonFinished:
		return "finished"
	case ReasonNotHere:
		return "not here"
	case ReasonWrongTotalLength:
		return "wrong total length"
	case ReasonWrongPieceLength:
		return "wrong piece length"
	case ReasonPoisoned:
		return "poisoned"
	case ReasonOverloaded:
		return "overloaded"
	case ReasonProtocolError:
		return "protocol error"
	}
	return "unknown reason"
}

// BlockLength returns the longest block, in bytes, whose piece frame fits in
// frames of maxFrame bytes: a multiple of the leaf, at most MaxBlock.
func BlockLength(maxFrame int) int {
	return min(MaxBlock, max(1, (maxFrame-blockHead)/content.LeafLength)*content.LeafLength)
}

// Number is a content number: it stands for a full hash in the frames of the
// peer that chose it.
type Number uint16

// Frame is one of the frame types of this file.
type Frame interface {
	// ContentNumber returns the frame's content number, 0 for a goodbye.
	ContentNumber() Number
	append(to []byte) []byte
}

// Handshake opens a content.
type Handshake struct {
	Number      Number
	FullHash    content.FullHash
	TotalLength uint64 // bytes
	PieceLength uint32 // bytes
	MaxFrame    uint32 // bytes; the largest frame that its sender can send
}

// Bitfield says what its sender has, one bit per piece; see [Bits].
type Bitfield struct {
	Number Number
	Bits   []byte // aliases the decoded frame
}

// HaveAll says that its sender has every piece.
type HaveAll struct{ Number Number }

// HaveNone says that its sender has no piece yet.
type HaveNone struct{ Number Number }

// Have says that its sender now has one more piece.
type Have struct {
	Number Number
	Piece  uint32
}

// Block is a run of bytes within a piece.
type Block struct {
	Piece  uint32
	Begin  uint32 // bytes from the start of the piece
	Length uint32 // bytes
}

// Request asks for one block or several, each of which is answered by itself.
type Request struct {
	Number Number
	Blocks []Block // at most MaxRequests
}

// Cancel takes a request back.
type Cancel struct {
	Number Number
	Block
}

// Reject says that a request will not be answered with data.
type Reject struct {
	Number Number
	Block
}

// Piece carries the data of a block.
type Piece struct {
	Number Number
	Piece  uint32
	Begin  uint32 // bytes from the start of the piece
	Data   []byte // aliases the decoded frame
}

// Block returns which block the frame carries.
func (p Piece) Block() Block { return Block{p.Piece, p.Begin, uint32(len(p.Data))} }

// HashRequest asks for a span of piece hashes.
type HashRequest struct {
	Number Number
	Index  uint32 // of the first piece
}

// Hashes carries a span of piece hashes and its proof.
type Hashes struct {
	Number Number
	Index  uint32
	Hashes []content.Hash
	Proof  []content.Hash
}

// HashReject says that its sender does not have the piece hashes.
type HashReject struct {
	Number Number
	Index  uint32
}

// Goodbye ends a content between two peers.
type Goodbye struct {
	FullHash content.FullHash
	Reason   Reason
	Message  string // for people; Append cuts it to MaxMessage bytes
}

// ContentNumber implements [Frame].
func (f Handshake) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f Bitfield) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f HaveAll) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f HaveNone) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f Have) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f Request) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f Cancel) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f Reject) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f Piece) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f HashRequest) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f Hashes) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame].
func (f HashReject) ContentNumber() Number { return f.Number }

// ContentNumber implements [Frame]; it is 0.
func (f Goodbye) ContentNumber() Number { return 0 }
