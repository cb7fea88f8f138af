package swarm

import (
	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/wire"
)

// openPiece is a piece on its way: what is known of each of its leaves. The data
// is in the store as it comes.
type openPiece struct {
	index   int
	size    int64 // bytes
	leaves  []leaf
	unasked int     // leaves that have not come and that nobody owes
	arrived int     // leaves that the driver keeps at the moment
	missing int     // leaves that are not kept
	from    *remote // who fetches it in the first place; nil: nobody at the moment
	attempt int     // how often it was begun anew: what was asked for before does not count
	solo    bool    // one peer alone must send it, so that it can be blamed
	spoilt  bool    // to be begun anew, as soon as nothing of it is being kept

	// evidence is what came in an attempt that failed and to which several peers contributed.
	// The right piece will tell who of them lied.
	evidence []leaf
}

// leaf is one leaf of a piece.
type leaf struct {
	state  leafState
	askers uint8 // peers that owe it; at most maxAskers
	sender ident.PeerID
	hash   content.Hash // once it is kept
}

type leafState byte

const (
	leafMissing leafState = iota
	leafArrived           // the driver is keeping it
	leafKept
)

// maxAskers is how many peers may be asked for the same leaf at a time.
const maxAskers = 2

func newOpenPiece(index int, g content.Geometry, solo bool) *openPiece {
	leaves := g.Leaves(index)
	return &openPiece{
		index: index, size: g.PieceSize(index), leaves: make([]leaf, leaves),
		unasked: leaves, missing: leaves, solo: solo,
	}
}

// span returns the leaves of a block, as first and one behind the last.
func span(b wire.Block) (first, end int) {
	first = int(b.Begin) / content.LeafLength
	return first, first + max(1, (int(b.Length)+content.LeafLength-1)/content.LeafLength)
}

// block returns the leaves from first to before end as a block.
func (p *openPiece) block(first, end int) wire.Block {
	begin := int64(first) * content.LeafLength
	return wire.Block{
		Piece: uint32(p.index), Begin: uint32(begin),
		Length: uint32(min(int64(end)*content.LeafLength, p.size) - begin),
	}
}

// run returns the first run of leaves that fit, from first to before end, as a block of at
// most length bytes; false if there is none.
func (p *openPiece) run(first, end, length int, fits func(*leaf) bool) (wire.Block, bool) {
	for first < end && !fits(&p.leaves[first]) {
		first++
	}
	last := first
	for last < end && (last-first+1)*content.LeafLength <= length && fits(&p.leaves[last]) {
		last++
	}
	return p.block(first, last), last > first
}

// unaskedLeaf reports whether nobody owes the leaf.
func unaskedLeaf(l *leaf) bool { return l.state == leafMissing && l.askers == 0 }

// ask notes that one more peer owes the block.
func (p *openPiece) ask(b wire.Block) {
	for first, end := span(b); first < end; first++ {
		l := &p.leaves[first]
		if unaskedLeaf(l) {
			p.unasked--
		}
		l.askers++
	}
}

// unask notes that one peer less does.
func (p *openPiece) unask(b wire.Block) {
	for first, end := span(b); first < end; first++ {
		l := &p.leaves[first]
		l.askers--
		if unaskedLeaf(l) {
			p.unasked++
		}
	}
}

// arrive takes leaves that came: they are with the driver now.
func (p *openPiece) arrive(first, end int, sender ident.PeerID) {
	for i := first; i < end; i++ {
		l := &p.leaves[i]
		if unaskedLeaf(l) {
			p.unasked--
		}
		l.state, l.sender = leafArrived, sender
	}
	p.arrived += end - first
}

// settle ends the keeping of a leaf. A leaf that is not accepted is missing again.
func (p *openPiece) settle(i int, hash content.Hash, accepted bool) {
	l := &p.leaves[i]
	if l.state != leafArrived {
		return
	}
	p.arrived--
	if accepted {
		l.state, l.hash = leafKept, hash
		p.missing--
	} else {
		p.lose(l)
	}
}

// lose makes a leaf missing that was there.
func (p *openPiece) lose(l *leaf) {
	if l.state == leafKept {
		p.missing++
	}
	l.state = leafMissing
	if unaskedLeaf(l) {
		p.unasked++
	}
}

// renounce loses what a liar sent.
func (p *openPiece) renounce(liar ident.PeerID) {
	for i := range p.leaves {
		if l := &p.leaves[i]; l.state == leafKept && l.sender == liar {
			p.lose(l)
		}
	}
}

// restart begins the piece anew, from whoever comes; while something of it is being kept,
// it waits for that, so that writes to the same place keep their order.
func (p *openPiece) restart() {
	p.from = nil
	p.spoilt = p.arrived > 0
	if p.spoilt {
		return
	}
	clear(p.leaves)
	p.unasked, p.missing = len(p.leaves), len(p.leaves)
	p.attempt++
}

// root folds the hashes of the leaves, all of which are kept.
func (p *openPiece) root(g content.Geometry) content.Hash {
	hashes := make([]content.Hash, len(p.leaves))
	for i, l := range p.leaves {
		hashes[i] = l.hash
	}
	return g.PieceRoot(hashes)
}

// senders returns who sent leaves of it, in order of the leaves.
func senders(leaves []leaf) []ident.PeerID {
	var all []ident.PeerID
	seen := make(map[ident.PeerID]bool)
	for _, l := range leaves {
		if !seen[l.sender] {
			seen[l.sender] = true
			all = append(all, l.sender)
		}
	}
	return all
}
