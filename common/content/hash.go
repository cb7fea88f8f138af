// Package content names content and checks it: the full hash, the Merkle tree
// behind it, the info dictionary that describes a file, and the link that
// people pass around.
//
// # Full hash
//
// Content is named by the root of the Merkle tree of BEP 52 (BitTorrent v2,
// "pieces root"): SHA-256, leaves of 16 KiB, the last leaf at its own length,
// the leaf layer padded with 32 zero bytes per missing leaf to a power of two.
// Content of at most one leaf, the empty content included, is its own leaf:
// the full hash is its plain SHA-256.
//
// # Safety
//
// Leaves and inner nodes are not told apart by the hash: 64 bytes that are two
// hashes are also a possible content. A full hash is therefore safe only
// together with the total length, and the total length must come from where
// the full hash came from (the info dictionary, the link), never from a peer.
//
// # Pieces
//
// A piece is a whole subtree: piece_length is a power of two, at least one
// leaf. The layer of the tree at that height are the piece hashes. The last
// piece is padded to the full subtree with zero leaf hashes, as in BEP 52.
// Content of one piece only has no piece hashes: the full hash is its check.
//
// Source: https://www.bittorrent.org/beps/bep_0052.html
package content

import (
	"crypto/sha256"
	"encoding/hex"

	"p2pcdn/common/strict"
)

const (
	// LeafLength is the length of a leaf in bytes (BEP 52: 16 KiB blocks).
	LeafLength = 16 << 10

	// HashSize is the length of every node of the tree, in bytes.
	HashSize = sha256.Size
)

// Hash is one node of the Merkle tree.
type Hash [HashSize]byte

// FullHash is the root of the tree: the name of the content.
type FullHash Hash

// ParseFullHash parses 64 lower-case hex digits; anything else is an [*Error]
// with code [CodeBadFullHash].
func ParseFullHash(text string) (FullHash, error) {
	hash, ok := parseHash(text)
	if !ok {
		return FullHash{}, fail(CodeBadFullHash, "a full hash is 64 lower-case hex digits")
	}
	return FullHash(hash), nil
}

func parseHash(text string) (hash Hash, ok bool) {
	if !strict.Hex(hash[:], text) {
		return Hash{}, false
	}
	return hash, true
}

// String returns the hash as 64 lower-case hex digits.
func (h FullHash) String() string { return hex.EncodeToString(h[:]) }

// Short returns the first eight digits, for people to read in a log.
func (h FullHash) Short() string { return hex.EncodeToString(h[:4]) }

// MarshalText implements [encoding.TextMarshaler].
func (h FullHash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (h *FullHash) UnmarshalText(text []byte) error {
	parsed, err := ParseFullHash(string(text))
	if err != nil {
		return err
	}
	*h = parsed
	return nil
}

// String returns the hash as 64 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText implements [encoding.TextMarshaler].
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; a malformed text gives
// an [*Error] with code [CodeBadPieceHash].
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, ok := parseHash(string(text))
	if !ok {
		return fail(CodeBadPieceHash, "a piece hash is 64 lower-case hex digits")
	}
	*h = parsed
	return nil
}
