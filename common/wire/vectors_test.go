package wire_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
)

func readVectors(t testing.TB, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// unhex reads hex digits; in the vectors they are always well formed.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	data, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// vector is one of frames.json, whose "format" field says what it means. The
// TypeScript tests read the same file.
type vector struct {
	Name, Hex, Encoded string
	Fill               struct {
		Hex   string
		Count int
	}
	Frame *fields
	Code  wire.Code
}

// fields has those of every frame.
type fields struct {
	Type                 string
	Number               wire.Number
	Piece, Begin, Length uint32
	Blocks               []wire.Block
	Index                uint32
	Bits, Data           string
	FullHash             content.FullHash `json:"full_hash"`
	TotalLength          uint64           `json:"total_length"`
	PieceLength          uint32           `json:"piece_length"`
	MaxFrame             uint32           `json:"max_frame"`
	Hashes, Proof        string
	Reason               wire.Reason
	Message              string
}

func (v vector) bytes(t testing.TB, text string) []byte {
	t.Helper()
	return unhex(t, strings.ReplaceAll(text, "{fill}", strings.Repeat(v.Fill.Hex, v.Fill.Count)))
}

func (v vector) hashes(t testing.TB, text string) []content.Hash {
	data := v.bytes(t, text)
	hashes := make([]content.Hash, len(data)/content.HashSize)
	for i := range hashes {
		hashes[i] = content.Hash(data[i*content.HashSize:])
	}
	return hashes
}

// frame is the frame that is expected.
func (v vector) frame(t testing.TB) wire.Frame {
	t.Helper()
	f := v.Frame
	block := wire.Block{Piece: f.Piece, Begin: f.Begin, Length: f.Length}
	switch f.Type {
	case "have":
		return wire.Have{Number: f.Number, Piece: f.Piece}
	case "bitfield":
		return wire.Bitfield{Number: f.Number, Bits: v.bytes(t, f.Bits)}
	case "request":
		return wire.Request{Number: f.Number, Blocks: f.Blocks}
	case "piece":
		return wire.Piece{Number: f.Number, Piece: f.Piece, Begin: f.Begin, Data: v.bytes(t, f.Data)}
	case "cancel":
		return wire.Cancel{Number: f.Number, Block: block}
	case "have_all":
		return wire.HaveAll{Number: f.Number}
	case "have_none":
		return wire.HaveNone{Number: f.Number}
	case "reject":
		return wire.Reject{Number: f.Number, Block: block}
	case "hash_request":
		return wire.HashRequest{Number: f.Number, Index: f.Index}
	case "hashes":
		return wire.Hashes{Number: f.Number, Index: f.Index, Hashes: v.hashes(t, f.Hashes), Proof: v.hashes(t, f.Proof)}
	case "hash_reject":
		return wire.HashReject{Number: f.Number, Index: f.Index}
	case "handshake":
		return wire.Handshake{Number: f.Number, FullHash: f.FullHash, TotalLength: f.TotalLength, PieceLength: f.PieceLength, MaxFrame: f.MaxFrame}
	case "goodbye":
		return wire.Goodbye{FullHash: f.FullHash, Reason: f.Reason, Message: f.Message}
	}
	t.Fatalf("%s: a frame of type %q", v.Name, f.Type)
	return nil
}

func readFrames(t testing.TB) []vector {
	t.Helper()
	var file struct{ Vectors []vector }
	readVectors(t, "frames.json", &file)
	return file.Vectors
}

// decoderCodes are all that Decode gives.
var decoderCodes = []wire.Code{
	wire.CodeUnknownType, wire.CodeBadLength, wire.CodeFrameTooBig, wire.CodeBadVersion, wire.CodeBadMaxFrame,
	wire.CodeBadGeometry, wire.CodeBadText, wire.CodeBadHashCount,
}

func TestFrameVectors(t *testing.T) {
	types, codes := map[string]bool{}, map[wire.Code]bool{}
	for _, v := range readFrames(t) {
		if (v.Frame == nil) == (v.Code == "") {
			t.Fatalf("%s: must have either frame or code", v.Name)
		}
		data := v.bytes(t, v.Hex)
		frame, err := wire.Decode(data)
		if v.Code != "" {
			codes[v.Code] = true
			var failure *wire.Error
			if !errors.As(err, &failure) || failure.Code != v.Code {
				t.Errorf("%s: %.200v, %v instead of %s", v.Name, frame, err, v.Code)
			}
			continue
		}
		types[v.Frame.Type] = true
		want := v.frame(t)
		if err != nil || !reflect.DeepEqual(frame, want) {
			t.Errorf("%s: %.200v, %v instead of %.200v", v.Name, frame, err, want)
			continue
		}
		if frame.ContentNumber() != v.Frame.Number {
			t.Errorf("%s: content number %d", v.Name, frame.ContentNumber())
		}
		encoded := data
		if v.Encoded != "" {
			encoded = v.bytes(t, v.Encoded)
		}
		if got := wire.Append([]byte("before"), frame); !bytes.Equal(got, append([]byte("before"), encoded...)) {
			t.Errorf("%s: encoded as %.200x", v.Name, got)
		}
		if again, err := wire.Decode(encoded); err != nil || !reflect.DeepEqual(again, frame) {
			t.Errorf("%s: encoded and decoded again %.200v, %v", v.Name, again, err)
		}
	}
	if len(types) != 13 {
		t.Errorf("the vectors have these types only: %v", types)
	}
	for _, code := range decoderCodes {
		if !codes[code] {
			t.Errorf("no vector has %s", code)
		}
	}
}

func TestBitsVectors(t *testing.T) {
	var file struct {
		Vectors []struct {
			Pieces     int
			Hex, Frame string
			Set        []int
			Code       wire.Code
		}
		BlockLengths []struct {
			MaxFrame    int `json:"max_frame"`
			BlockLength int `json:"block_length"`
		} `json:"block_lengths"`
	}
	readVectors(t, "bits.json", &file)
	good, refused := 0, 0
	for _, v := range file.Vectors {
		name := fmt.Sprintf("%s for %d pieces", v.Hex, v.Pieces)
		bits, err := wire.ParseBits(unhex(t, v.Hex), v.Pieces)
		if v.Code != "" {
			refused++
			if !errors.Is(err, &wire.Error{Code: v.Code}) {
				t.Errorf("%s: %v instead of %s", name, err, v.Code)
			}
			continue
		}
		if good++; err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		set := []int{}
		for piece := -9; piece < v.Pieces+9; piece++ {
			if bits.Has(piece) {
				set = append(set, piece)
			}
		}
		if !reflect.DeepEqual(set, v.Set) || bits.Count() != len(set) || bits.Len() != v.Pieces || bits.All() != (len(set) == v.Pieces) {
			t.Errorf("%s: %v", name, set)
		}
		want := map[string]wire.Frame{
			"have_none": wire.HaveNone{Number: 7}, "have_all": wire.HaveAll{Number: 7}, "bitfield": wire.Bitfield{Number: 7, Bits: unhex(t, v.Hex)},
		}[v.Frame]
		if got := bits.Frame(7); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: told by %#v", name, got)
		}
	}
	if good < 10 || refused < 10 || len(file.BlockLengths) < 10 {
		t.Errorf("only %d good vectors, %d bad ones, %d block lengths", good, refused, len(file.BlockLengths))
	}
	for _, v := range file.BlockLengths {
		if got := wire.BlockLength(v.MaxFrame); got != v.BlockLength {
			t.Errorf("the longest block for frames of %d is %d instead of %d", v.MaxFrame, got, v.BlockLength)
		}
	}
}
