package swarm

import (
	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// Action is something that the driver must do. They are to be carried out in order.
type Action interface{ action() }

// Send sends a frame to a peer.
type Send struct {
	Peer  ident.PeerID
	Frame wire.Frame
}

// Load answers a peer's request: the driver reads the block from the store and
// sends it as [wire.Piece] with Number, or [wire.Reject] if it cannot.
type Load struct {
	Peer   ident.PeerID
	Number wire.Number
	Block  wire.Block
}

// Unload takes a Load back, if it is not done yet; the driver then sends [wire.Reject].
type Unload struct {
	Peer   ident.PeerID
	Number wire.Number
	Block  wire.Block
}

// Save asks the driver to verify a whole piece (its hash must be Hash) and to keep
// it, and to answer with Saved or Wrong. Data belongs to the driver.
type Save struct {
	Piece int
	Hash  content.Hash
	Data  []byte
}

// Drop ends this content with the peer: goodbye was sent before. The peer stays
// connected for other contents. Where Banned is set the driver must not connect
// it to this content again; it says so to the user, with the reason.
type Drop struct {
	Peer   ident.PeerID
	Reason wire.Reason
	Banned bool
}

// Break ends the whole connection with the peer, which broke the protocol.
type Break struct {
	Peer ident.PeerID
	Err  error
}

// Described says that the piece hashes are now known: Info is complete.
type Described struct{ Info content.Info }

// Complete says that every piece is verified and kept. It comes once.
type Complete struct{}

func (Send) action()      {}
func (Load) action()      {}
func (Unload) action()    {}
func (Save) action()      {}
func (Drop) action()      {}
func (Break) action()     {}
func (Described) action() {}
func (Complete) action()  {}
