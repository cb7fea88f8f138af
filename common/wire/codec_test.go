package wire_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
)

// Every frame that a peer can need to send before it knows the other's limit fits.
func TestFramesFitInMinFrame(t *testing.T) {
	hashes := make([]content.Hash, content.MaxProofHashes)
	longest := content.Geometry{TotalLength: content.MaxTotalLength, PieceLength: content.MaxPieceLength}
	_, proof := longest.Prove(make([]content.Hash, longest.Pieces()), 0)
	for name, frame := range map[string]wire.Frame{
		"a block":        wire.Piece{Data: make([]byte, wire.BlockLength(wire.MinFrame))},
		"a bitfield":     wire.Bitfield{Bits: make([]byte, content.MaxPieces/8)},
		"piece hashes":   wire.Hashes{Hashes: hashes, Proof: proof},
		"a goodbye":      wire.Goodbye{Message: strings.Repeat("a", 9999)},
		"many requests":  wire.Request{Blocks: make([]wire.Block, wire.MaxRequests)},
		"the last index": wire.HashRequest{Index: content.MaxPieces - 1},
	} {
		encoded := wire.Append(nil, frame)
		if _, err := wire.Decode(encoded); err != nil || len(encoded) > wire.MinFrame {
			t.Errorf("%s: a frame of %d bytes, %v", name, len(encoded), err)
		}
	}
}

func TestBlockLengthFits(t *testing.T) {
	for maxFrame := wire.MinFrame; maxFrame <= 100<<10; maxFrame++ {
		length := wire.BlockLength(maxFrame)
		frame := 11 + length // type, content number, piece, begin
		if length%content.LeafLength != 0 || length == 0 || length > wire.MaxBlock || frame > maxFrame ||
			(length < wire.MaxBlock && frame+content.LeafLength <= maxFrame) {
			t.Fatalf("%d for frames of %d", length, maxFrame)
		}
	}
}

func TestLongGoodbyeIsCut(t *testing.T) {
	frame, err := wire.Decode(wire.Append(nil, wire.Goodbye{Reason: wire.ReasonProtocolError, Message: "a" + strings.Repeat("ä", 200) + "\xff"}))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := frame.(wire.Goodbye).Message, "a"+strings.Repeat("ä", 127); got != want {
		t.Errorf("%d bytes instead of %d", len(got), len(want))
	}
}

// Data and Bits alias the frame; hashes do not, and appending to one list of
// them does not write over the other.
func TestAliases(t *testing.T) {
	encoded := wire.Append(nil, wire.Piece{Data: []byte{1}})
	piece, _ := wire.Decode(encoded)
	encoded[len(encoded)-1] = 2
	if piece.(wire.Piece).Data[0] != 2 {
		t.Error("the data was copied")
	}
	if got, want := piece.(wire.Piece).Block(), (wire.Block{Length: 1}); got != want {
		t.Errorf("%+v", got)
	}
	frame, _ := wire.Decode(wire.Append(nil, wire.Hashes{Hashes: make([]content.Hash, 1), Proof: []content.Hash{{7}}}))
	hashes := frame.(wire.Hashes)
	_ = append(hashes.Hashes, content.Hash{9})
	if hashes.Proof[0] != (content.Hash{7}) {
		t.Error("appending to the hashes changed the proof")
	}
}

func TestReasons(t *testing.T) {
	seen := map[string]bool{}
	for reason := range wire.ReasonProtocolError {
		seen[(reason + 1).String()] = true
	}
	if len(seen) != int(wire.ReasonProtocolError) || seen[wire.Reason(0).String()] || wire.Reason(0).String() != wire.Reason(99).String() {
		t.Errorf("%v", seen)
	}
}

func TestErrorClasses(t *testing.T) {
	_, err := wire.Decode(nil)
	if !errors.Is(err, &wire.Error{Code: wire.CodeBadLength}) || errors.Is(err, &wire.Error{Code: wire.CodeBadText}) || errors.Is(err, errors.New("x")) {
		t.Error(err)
	}
	if !strings.HasSuffix(err.Error(), " (bad_length)") {
		t.Error(err)
	}
}

// TestBits compares with a map under random changes.
func TestBits(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		pieces := 1 + random.IntN(100)
		bits, model := wire.NewBits(pieces), map[int]bool{}
		for range 200 {
			piece := random.IntN(pieces+20) - 10
			within := piece >= 0 && piece < pieces
			if random.IntN(3) == 0 {
				bits.Remove(piece)
				delete(model, piece)
				continue
			}
			if added := bits.Add(piece); added != (within && !model[piece]) {
				t.Fatalf("adding %d of %d: %v", piece, pieces, added)
			}
			if within {
				model[piece] = true
			}
		}
		for piece := -20; piece < pieces+20; piece++ {
			if bits.Has(piece) != model[piece] {
				t.Fatalf("%d of %d is %v", piece, pieces, bits.Has(piece))
			}
		}
		if bits.Count() != len(model) || bits.Len() != pieces || bits.All() != (len(model) == pieces) {
			t.Fatalf("%d of %d instead of %d", bits.Count(), bits.Len(), len(model))
		}
		if frame, is := bits.Frame(3).(wire.Bitfield); is {
			again, err := wire.ParseBits(frame.Bits, pieces)
			if err != nil || !reflect.DeepEqual(again, bits) {
				t.Fatalf("%+v became %+v, %v", bits, again, err)
			}
			frame.Bits[0] ^= 0xff
			if !reflect.DeepEqual(again, bits) {
				t.Fatal("the frame aliases the set")
			}
		}
		bits.Fill()
		if !bits.All() || bits.Has(pieces) || !reflect.DeepEqual(bits.Frame(3), wire.HaveAll{Number: 3}) {
			t.Fatalf("filled: %+v", bits)
		}
	}
	if !bytes.Equal(wire.Append(nil, wire.NewBits(5).Frame(3)), []byte{15, 0, 3}) {
		t.Error("an empty set is no have none")
	}
}
