// Package ident holds the two kinds of identity that the network knows: the
// peer and the mediator. They are distinct types, parsed once at the boundary
// (a WebSocket message, a libp2p stream, a command line) and trusted inside.
package ident

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"p2pcdn/common/strict"
)

// PeerIDSize is the size of a peer id in bytes. Twenty bytes, as in BEP 3,
// are far more than needed for random ids never to meet.
const PeerIDSize = 20

// ErrBadPeerID is returned for anything but 40 lower-case hex digits.
var ErrBadPeerID = errors.New("a peer id is 40 lower-case hex digits")

// ErrBadMediatorID is returned for anything but the text form of a libp2p id.
var ErrBadMediatorID = errors.New("a mediator id is a base58 libp2p peer id")

// PeerID names one connection of a peer to its mediator. It is chosen at
// random for each connection, so it identifies nobody for longer than that.
// The zero value stands for no peer; see [PeerID.IsZero].
type PeerID [PeerIDSize]byte

// NewPeerID reads a fresh id from random. It fails only if random does.
func NewPeerID(random io.Reader) (PeerID, error) {
	var id PeerID
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return PeerID{}, fmt.Errorf("choosing a peer id: %w", err)
	}
	return id, nil
}

// ParsePeerID parses 40 lower-case hex digits. Any other text gives
// [ErrBadPeerID]. The id of zeros alone parses: it is well formed.
func ParsePeerID(text string) (PeerID, error) {
	var id PeerID
	if !strict.Hex(id[:], text) {
		return PeerID{}, ErrBadPeerID
	}
	return id, nil
}

// String returns the id as 40 lower-case hex digits.
func (id PeerID) String() string { return hex.EncodeToString(id[:]) }

// Short returns the first eight digits, for people to read in a log.
func (id PeerID) Short() string { return hex.EncodeToString(id[:4]) }

// IsZero reports whether the id was never set.
func (id PeerID) IsZero() bool { return id == PeerID{} }

// MarshalText implements [encoding.TextMarshaler].
func (id PeerID) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, id[:]), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *PeerID) UnmarshalText(text []byte) error {
	parsed, err := ParsePeerID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}

// MediatorID names a mediator for as long as it keeps its key: its libp2p
// peer id in base58. The zero value is no mediator.
type MediatorID struct{ text string }

// The lengths of a base58 multihash: 46 digits for a SHA-256 of an RSA key
// (Qm…), 52 or 53 for an inlined Ed25519 or secp256k1 key (12D3KooW…, 16Uiu2H…).
// A little slack costs nothing; the bound keeps the type small.
const (
	minMediatorID = 40
	maxMediatorID = 64
)

const base58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// ParseMediatorID checks the form of a libp2p id: base58, 40 to 64 digits.
// Whether a mediator of that name exists shows only when it is dialled.
func ParseMediatorID(text string) (MediatorID, error) {
	if len(text) < minMediatorID || len(text) > maxMediatorID {
		return MediatorID{}, ErrBadMediatorID
	}
	for _, digit := range text {
		if !strings.ContainsRune(base58, digit) {
			return MediatorID{}, ErrBadMediatorID
		}
	}
	return MediatorID{text}, nil
}

// String returns the id in base58, or "" for the zero value.
func (id MediatorID) String() string { return id.text }

// Short returns the last eight digits (the first are the same for all keys of
// one kind), for people to read in a log.
func (id MediatorID) Short() string {
	return id.text[max(0, len(id.text)-8):]
}

// IsZero reports whether the id was never set.
func (id MediatorID) IsZero() bool { return id.text == "" }

// MarshalText implements [encoding.TextMarshaler].
func (id MediatorID) MarshalText() ([]byte, error) { return []byte(id.text), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (id *MediatorID) UnmarshalText(text []byte) error {
	parsed, err := ParseMediatorID(string(text))
	if err != nil {
		return err
	}
	*id = parsed
	return nil
}
