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

// Keep asks the driver to write a block to its place in the store, not verified yet, and
// to answer with Kept and the hashes of its leaves ([content.HashLeaves]). The
// block begins and ends on the border of a leaf, or at the piece's end. Data belongs to the driver.
// Blocks that are being kept at the same time never overlap.
type Keep struct {
	Block wire.Block
	Data  []byte
}

// Check asks the driver which pieces the store holds already, of an earlier attempt,
// and to answer with Checked. It comes where [Config.Check] is set, once the piece hashes are known, which
// Info has. Nothing is fetched before the answer.
type Check struct{ Info content.Info }

// Verified says that a piece is in the store and right: it may be read from now on.
type Verified struct{ Piece int }

// Drop ends this content with the peer: goodbye was said before. The peer stays
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

// Complete says that every piece is verified. It comes once.
type Complete struct{}

func (Send) action()      {}
func (Load) action()      {}
func (Unload) action()    {}
func (Keep) action()      {}
func (Check) action()     {}
func (Verified) action()  {}
func (Drop) action()      {}
func (Break) action()     {}
func (Described) action() {}
func (Complete) action()  {}
