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
		n := 0
		for i := 0; i < len(nodes); i += 2 {
			right := padding[height]
			if i+1 < len(nodes) {
				right = nodes[i+1]
			}
			nodes[n] = join(nodes[i], right)
			n++
		}
		nodes = nodes[:n]
	}
	if len(nodes) == 0 {
		return padding[height]
	}
	return nodes[0]
}

// HashPiece computes the node of the piece layer that covers data, which must
// be the whole piece. For content of one piece that node is the full hash.
func (g Geometry) HashPiece(data []byte) Hash {
	return g.PieceRoot(HashLeaves(data))
}

// HashLeaves returns the hashes of the leaves of data, which begins on the border of
// a leaf: one for each 16 KiB, and one for no data at all.
func HashLeaves(data []byte) []Hash {
	leaves := make([]Hash, 0, leafCount(int64(len(data))))
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

// MaxProofHashes is the largest number of piece hashes that are asked for, and
// proven, at a time (a power of two). 256 of them are 8 KiB, which fits any frame.
const MaxProofHashes = 256

// ProofSpan is the number of piece hashes that a request for hashes covers:
// the padded layer, or MaxProofHashes where the layer is wider. Requests start
// at multiples of it.
func (g Geometry) ProofSpan() int {
	_, width, _ := g.pieceLayer()
	return min(width, MaxProofHashes)
}

// spanBegins reports whether a span of piece hashes begins at index.
func (g Geometry) spanBegins(index int) bool {
	return index >= 0 && index < g.Pieces() && index%g.ProofSpan() == 0
}

// Prove returns the piece hashes from index on (ProofSpan of them, fewer at the
// end of the layer: padding is not carried) and their proof: the uncle hashes
// from the span's root up to the full hash, lowest first (BEP 52, "hashes").
// It returns nil, nil where no span begins at index (a multiple of ProofSpan within
// the layer), so that an index from a stranger may be handed in, and where
// pieceHashes are not one a piece. hashes aliases pieceHashes.
func (g Geometry) Prove(pieceHashes []Hash, index int) (hashes, proof []Hash) {
	height, width, _ := g.pieceLayer()
	span := g.ProofSpan()
	if !g.spanBegins(index) || len(pieceHashes) != g.Pieces() {
		return nil, nil
	}
	hashes = pieceHashes[index:min(index+span, len(pieceHashes))]

	// The layer of span roots, then upwards, taking each one's sibling.
	layer := make([]Hash, 0, width/span)
	spanHeight := height + bits.Len(uint(span)) - 1
	for i := 0; i < len(pieceHashes); i += span {
		nodes := append([]Hash(nil), pieceHashes[i:min(i+span, len(pieceHashes))]...)
		layer = append(layer, root(nodes, height, span))
	}
	at, h := index/span, spanHeight
	for w := width / span; w > 1; w, at, h = w/2, at/2, h+1 {
		uncle := padding[h]
		if at^1 < len(layer) {
			uncle = layer[at^1]
		}
		proof = append(proof, uncle)
		next := layer[:0]
		for i := 0; i < len(layer); i += 2 {
			right := padding[h]
			if i+1 < len(layer) {
				right = layer[i+1]
			}
			next = append(next, join(layer[i], right))
		}
		layer = next
	}
	return hashes, proof
}

// CheckProof checks what Prove made: that the hashes stand at index in the piece
// layer of the content with this full hash. A list of another length than the
// geometry asks for, and any wrong hash, is an [*Error] with code [CodeBadProof].
func (g Geometry) CheckProof(full FullHash, index int, hashes, proof []Hash) error {
	height, _, rootHeight := g.pieceLayer()
	span := g.ProofSpan()
	spanHeight := bits.Len(uint(span)) - 1
	pieces := g.Pieces()
	switch {
	case !g.spanBegins(index):
		return fail(CodeBadProof, "no span of piece hashes begins at %d", index)
	case len(hashes) != min(span, pieces-index):
		return fail(CodeBadProof, "%d piece hashes at %d instead of %d", len(hashes), index, min(span, pieces-index))
	case len(proof) != rootHeight-spanHeight:
		return fail(CodeBadProof, "a proof of %d hashes instead of %d", len(proof), rootHeight-spanHeight)
	}
	node := root(append([]Hash(nil), hashes...), height, span)
	for i, at := 0, index/span; i < len(proof); i, at = i+1, at/2 {
		if at%2 == 0 {
			node = join(node, proof[i])
		} else {
			node = join(proof[i], node)
		}
	}
	if FullHash(node) != full {
		return fail(CodeBadProof, "the piece hashes from %d do not lead to the full hash %s", index, full.Short())
	}
	return nil
}
