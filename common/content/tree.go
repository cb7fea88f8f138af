package content

import (
	"crypto/sha256"
	"math/bits"
)

// Limits of what can be named. They bound what a dictionary or a peer can
// make anyone allocate.
const (
	// MaxPieceLength is the largest piece: it must fit in memory to be checked.
	MaxPieceLength = 64 << 20

	// MaxPieces bounds the piece hashes to 2 MiB and a bitfield to 8 KiB.
	MaxPieces = 1 << 16

	// MaxTotalLength is what MaxPieces pieces of MaxPieceLength hold: 4 TiB.
	MaxTotalLength = MaxPieceLength * MaxPieces
)

// Geometry is how a total length is cut into pieces and leaves.
type Geometry struct {
	TotalLength int64 // bytes
	PieceLength int64 // bytes, a power of two, at least LeafLength
}

// DefaultPieceLength is the piece length that is used where none is named: the
// smallest power of two from 64 KiB that gives at most 1,024 pieces, then, from
// 16 MiB on, at most MaxPieces. Small pieces arrive and can be passed on early;
// a thousand of them keep the dictionary of a large file below 80 KiB.
func DefaultPieceLength(totalLength int64) int64 {
	pieceLength := int64(64 << 10)
	for pieceLength < 16<<20 && totalLength > pieceLength*1024 {
		pieceLength *= 2
	}
	for pieceLength < MaxPieceLength && totalLength > pieceLength*MaxPieces {
		pieceLength *= 2
	}
	return pieceLength
}

// Check reports whether the geometry is one that can be named.
func (g Geometry) Check() error {
	switch {
	case g.TotalLength < 0 || g.TotalLength > MaxTotalLength:
		return fail(CodeBadTotalLength, "total_length must be 0 to %d, not %d", int64(MaxTotalLength), g.TotalLength)
	case g.PieceLength < LeafLength || g.PieceLength > MaxPieceLength || g.PieceLength&(g.PieceLength-1) != 0:
		return fail(CodeBadPieceLength, "piece_length must be a power of two from %d to %d, not %d", LeafLength, MaxPieceLength, g.PieceLength)
	case (g.TotalLength+g.PieceLength-1)/g.PieceLength > MaxPieces:
		return fail(CodeTooManyPieces, "%d bytes in pieces of %d are more than %d pieces", g.TotalLength, g.PieceLength, MaxPieces)
	}
	return nil
}

// The methods below hold for a geometry that passed Check.

// Pieces is the number of pieces. The empty content has one piece of no bytes,
// so that every content has something that can be asked for and checked.
func (g Geometry) Pieces() int {
	return max(1, int((g.TotalLength+g.PieceLength-1)/g.PieceLength))
}

// PieceOffset is where the piece begins, in bytes.
func (g Geometry) PieceOffset(piece int) int64 { return int64(piece) * g.PieceLength }

// PieceSize is the length of the piece in bytes: PieceLength, but for the last.
func (g Geometry) PieceSize(piece int) int64 {
	return min(g.PieceLength, g.TotalLength-g.PieceOffset(piece))
}

// Leaves is the number of leaves in the piece, at least one.
func (g Geometry) Leaves(piece int) int { return leafCount(g.PieceSize(piece)) }

// pieceLayer is the height of the piece layer above the leaves, the width that
// it has when padded, and the height of the root above it.
func (g Geometry) pieceLayer() (height, width, rootHeight int) {
	width = ceilPow2(g.Pieces())
	return bits.Len64(uint64(g.PieceLength/LeafLength)) - 1, width, bits.Len(uint(width)) - 1
}

func leafCount(length int64) int {
	return max(1, int((length+LeafLength-1)/LeafLength))
}

func ceilPow2(n int) int {
	if n <= 1 {
		return 1
	}
	return 1 << bits.Len(uint(n-1))
}

func join(left, right Hash) Hash {
	var both [2 * HashSize]byte
	copy(both[:], left[:])
	copy(both[HashSize:], right[:])
	return sha256.Sum256(both[:])
}

// padding[h] is the root of a subtree of height h whose leaves are all missing.
var padding = func() (pads [64]Hash) {
	for h := 1; h < len(pads); h++ {
		pads[h] = join(pads[h-1], pads[h-1])
	}
	return pads
}()

// root folds the nodes of a layer at the given height up to one node, padding
// the layer to width (a power of two, at least len(nodes)). It overwrites nodes.
func root(nodes []Hash, height, width int) Hash {
	for ; width > 1; width, height = width/2, height+1 {
		nodes = joinPairs(nodes[:0], nodes, height)
	}
	if len(nodes) == 0 {
		return padding[height]
	}
	return nodes[0]
}

// joinPairs appends to above the layer above nodes, which are at the given height: each
// pair joined, the odd one out with padding. above may begin where nodes begin.
func joinPairs(above, nodes []Hash, height int) []Hash {
	for i := 0; i < len(nodes); i += 2 {
		right := padding[height]
		if i+1 < len(nodes) {
			right = nodes[i+1]
		}
		above = append(above, join(nodes[i], right))
	}
	return above
}

// HashPiece computes the node of the piece layer that covers data, which must
// be the whole piece. For content of one piece that node is the full hash.
func (g Geometry) HashPiece(data []byte) Hash {
	return g.PieceRoot(HashLeaves(data))
}

// HashLeaves returns the hashes of the leaves of data, which begins on the border of
// a leaf: one for each 16 KiB, and one for no data at all.
func HashLeaves(data []byte) []Hash {
	return appendLeaves(make([]Hash, 0, leafCount(int64(len(data)))), data)
}

// appendLeaves appends what HashLeaves returns.
func appendLeaves(leaves []Hash, data []byte) []Hash {
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), LeafLength)
		leaves = append(leaves, sha256.Sum256(data[:n]))
		data = data[n:]
	}
	return leaves
}

// PieceRoot folds the leaf hashes of one piece, all of them and in order, to the
// hash of the piece; it overwrites them.
func (g Geometry) PieceRoot(leaves []Hash) Hash {
	if g.Pieces() == 1 { // the tree of the content itself, no higher than it needs to be
		return root(leaves, 0, ceilPow2(len(leaves)))
	}
	return root(leaves, 0, int(g.PieceLength/LeafLength))
}

// Root folds the piece hashes up to the full hash. They must be as many as
// there are pieces; for one piece, that hash is the full hash. It leaves
// pieceHashes as they are.
func (g Geometry) Root(pieceHashes []Hash) FullHash {
	height, width, _ := g.pieceLayer()
	return FullHash(root(append([]Hash(nil), pieceHashes...), height, width))
}
