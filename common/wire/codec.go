package wire

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"p2pcdn/common/content"
	"p2pcdn/common/strict"
)

// Code is the class of a decoding failure; the vectors name it.
type Code string

// The classes of failure.
const (
	CodeUnknownType  Code = "unknown_type"   // to be ignored
	CodeBadLength    Code = "bad_length"     // too short or too long for its type or, a bitfield, for its pieces
	CodeFrameTooBig  Code = "frame_too_big"  // over MaxFrame
	CodeBadVersion   Code = "bad_version"    // a handshake of another version
	CodeBadMaxFrame  Code = "bad_max_frame"  // a handshake with a max_frame below MinFrame
	CodeBadGeometry  Code = "bad_geometry"   // total_length or piece_length that cannot be
	CodeBadText      Code = "bad_text"       // a goodbye whose message is not UTF-8 or too long
	CodeBadHashCount Code = "bad_hash_count" // hashes with none, more than a span, or more proof than any tree has
)

// Error is a decoding failure with its class.
type Error struct {
	Code    Code
	Message string // for people; may change
}

// Error returns the message, with the code behind it.
func (e *Error) Error() string { return e.Message + " (" + string(e.Code) + ")" }

// Is makes errors.Is(err, &Error{Code: c}) true for every error of class c.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

func fail(code Code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// Append appends the encoded frame to a buffer, which may be nil.
func Append(to []byte, frame Frame) []byte { return frame.append(to) }

func head(to []byte, kind byte, number Number) []byte {
	return binary.BigEndian.AppendUint16(append(to, kind), uint16(number))
}

func numbers(to []byte, values ...uint32) []byte {
	for _, value := range values {
		to = binary.BigEndian.AppendUint32(to, value)
	}
	return to
}

func (f Handshake) append(to []byte) []byte {
	to = append(head(to, typeHandshake, f.Number), Version)
	to = append(to, f.FullHash[:]...)
	to = binary.BigEndian.AppendUint64(to, f.TotalLength)
	return numbers(to, f.PieceLength, f.MaxFrame)
}

func (f Bitfield) append(to []byte) []byte {
	return append(head(to, typeBitfield, f.Number), f.Bits...)
}

func (f HaveAll) append(to []byte) []byte  { return head(to, typeHaveAll, f.Number) }
func (f HaveNone) append(to []byte) []byte { return head(to, typeHaveNone, f.Number) }

func (f Have) append(to []byte) []byte {
	return numbers(head(to, typeHave, f.Number), f.Piece)
}

func (f Request) append(to []byte) []byte {
	to = head(to, typeRequest, f.Number)
	for _, block := range f.Blocks {
		to = numbers(to, block.Piece, block.Begin, block.Length)
	}
	return to
}

func (f Cancel) append(to []byte) []byte {
	return numbers(head(to, typeCancel, f.Number), f.Piece, f.Begin, f.Length)
}

func (f Reject) append(to []byte) []byte {
	return numbers(head(to, typeReject, f.Number), f.Piece, f.Begin, f.Length)
}

func (f Piece) append(to []byte) []byte {
	return append(numbers(head(to, typePiece, f.Number), f.Piece, f.Begin), f.Data...)
}

func (f HashRequest) append(to []byte) []byte {
	return numbers(head(to, typeHashRequest, f.Number), f.Index)
}

func (f Hashes) append(to []byte) []byte {
	to = numbers(head(to, typeHashes, f.Number), f.Index)
	to = binary.BigEndian.AppendUint16(to, uint16(len(f.Hashes)))
	for _, hash := range f.Hashes {
		to = append(to, hash[:]...)
	}
	for _, hash := range f.Proof {
		to = append(to, hash[:]...)
	}
	return to
}

func (f HashReject) append(to []byte) []byte {
	return numbers(head(to, typeHashReject, f.Number), f.Index)
}

func (f Goodbye) append(to []byte) []byte {
	to = append(head(to, typeGoodbye, 0), f.FullHash[:]...)
	return append(append(to, byte(f.Reason)), strict.Clip(f.Message, MaxMessage)...)
}

// Decode parses one frame. Data and Bits alias it. Every failure is an [*Error];
// one with [CodeUnknownType] is to be ignored. Where several things are wrong, the
// first is told: the frame's size, its type, its length for that type, and then each
// field in its order. What a frame says about a content (is the piece within it?) is
// not checked here: only whoever knows the content can.
func Decode(frame []byte) (Frame, error) {
	if len(frame) > MaxFrame {
		return nil, fail(CodeFrameTooBig, "a frame has at most %d bytes, not %d", MaxFrame, len(frame))
	}
	if len(frame) < headLength {
		return nil, fail(CodeBadLength, "a frame has at least %d bytes, not %d", headLength, len(frame))
	}
	kind, number, body := frame[0], Number(binary.BigEndian.Uint16(frame[1:])), frame[headLength:]
	u32 := func(i int) uint32 { return binary.BigEndian.Uint32(body[4*i:]) }
	block := func(i int) Block { return Block{u32(3 * i), u32(3*i + 1), u32(3*i + 2)} }

	if least, most, known := bodyLength(kind); !known {
		return nil, fail(CodeUnknownType, "no frame has type %d", kind)
	} else if len(body) < least || len(body) > most {
		return nil, fail(CodeBadLength, "a frame of type %d and %d bytes", kind, len(frame))
	}
	switch kind {
	case typeHave:
		return Have{number, u32(0)}, nil
	case typeBitfield:
		return Bitfield{number, body}, nil
	case typeRequest:
		if len(body)%blockBody != 0 {
			return nil, fail(CodeBadLength, "a request of %d bytes", len(frame))
		}
		blocks := make([]Block, len(body)/blockBody)
		for i := range blocks {
			blocks[i] = block(i)
		}
		return Request{number, blocks}, nil
	case typePiece:
		return Piece{number, u32(0), u32(1), body[8:]}, nil
	case typeCancel:
		return Cancel{number, block(0)}, nil
	case typeHaveAll:
		return HaveAll{number}, nil
	case typeHaveNone:
		return HaveNone{number}, nil
	case typeReject:
		return Reject{number, block(0)}, nil
	case typeHashRequest:
		return HashRequest{number, u32(0)}, nil
	case typeHashes:
		return decodeHashes(number, body)
	case typeHashReject:
		return HashReject{number, u32(0)}, nil
	case typeHandshake:
		return decodeHandshake(number, body)
	default:
		return decodeGoodbye(body)
	}
}

// bodyLength returns the bounds of what follows the head of a frame, in bytes.
func bodyLength(kind byte) (least, most int, known bool) {
	switch kind {
	case typeHaveAll, typeHaveNone:
		return 0, 0, true
	case typeHave, typeHashRequest, typeHashReject:
		return 4, 4, true
	case typeRequest:
		return blockBody, MaxRequests * blockBody, true
	case typeCancel, typeReject:
		return blockBody, blockBody, true
	case typeBitfield:
		return 1, content.MaxPieces / 8, true
	case typePiece:
		return 8, 8 + MaxBlock, true
	case typeHashes:
		return 6 + content.HashSize, 6 + (content.MaxProofHashes+maxProof)*content.HashSize, true
	case typeHandshake:
		return handshakeLength - headLength, MinFrame - headLength, true
	case typeGoodbye:
		return content.HashSize + 1, MaxFrame - headLength, true
	}
	return 0, 0, false
}

func decodeHashes(number Number, body []byte) (Frame, error) {
	count := int(binary.BigEndian.Uint16(body[4:]))
	list := body[6:]
	if len(list)%content.HashSize != 0 || count*content.HashSize > len(list) {
		return nil, fail(CodeBadLength, "%d hashes in %d bytes", count, len(list))
	}
	all := make([]content.Hash, len(list)/content.HashSize)
	for i := range all {
		copy(all[i][:], list[i*content.HashSize:])
	}
	if count == 0 || count > content.MaxProofHashes || len(all)-count > maxProof {
		return nil, fail(CodeBadHashCount, "%d hashes with a proof of %d", count, len(all)-count)
	}
	return Hashes{number, binary.BigEndian.Uint32(body), all[:count:count], all[count:]}, nil
}

func decodeHandshake(number Number, body []byte) (Frame, error) {
	if body[0] != Version {
		return nil, fail(CodeBadVersion, "version %d instead of %d", body[0], Version)
	}
	f := Handshake{Number: number, FullHash: content.FullHash(body[1:])}
	rest := body[1+content.HashSize:]
	f.TotalLength = binary.BigEndian.Uint64(rest)
	f.PieceLength = binary.BigEndian.Uint32(rest[8:])
	f.MaxFrame = binary.BigEndian.Uint32(rest[12:])
	if f.TotalLength > content.MaxTotalLength {
		return nil, fail(CodeBadGeometry, "content of %d bytes", f.TotalLength)
	}
	if err := (content.Geometry{TotalLength: int64(f.TotalLength), PieceLength: int64(f.PieceLength)}).Check(); err != nil {
		return nil, fail(CodeBadGeometry, "%v", err)
	}
	if f.MaxFrame < MinFrame {
		return nil, fail(CodeBadMaxFrame, "max_frame is at least %d, not %d", MinFrame, f.MaxFrame)
	}
	return f, nil
}

func decodeGoodbye(body []byte) (Frame, error) {
	f := Goodbye{FullHash: content.FullHash(body), Reason: Reason(body[content.HashSize])}
	text := body[content.HashSize+1:]
	if len(text) > MaxMessage || !utf8.Valid(text) {
		return nil, fail(CodeBadText, "a goodbye's message is at most %d bytes of UTF-8", MaxMessage)
	}
	f.Message = string(text)
	return f, nil
}
