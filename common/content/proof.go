package content

import "math/bits"

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

// Proofs proves the piece hashes of one content to strangers. It keeps the tree from the
// spans' roots on, at most 510 hashes, so that a proof is looked up and not computed.
// Static after construction: it may be used by several goroutines at once.
type Proofs struct {
	geometry    Geometry
	pieceHashes []Hash
	layers      [][]Hash // the spans' roots and every layer above them but the root, without padding
	height      int      // of the first of layers, above the leaves
}

// NewProofs joins the piece hashes, one a piece, once: with 65,536 of them that takes
// about as long as hashing 8 MiB. It keeps pieceHashes, which must not change any more;
// where they are not one a piece, nothing is proven.
func NewProofs(g Geometry, pieceHashes []Hash) *Proofs {
	height, width, _ := g.pieceLayer()
	span := g.ProofSpan()
	p := &Proofs{geometry: g, pieceHashes: pieceHashes, height: height + bits.Len(uint(span)) - 1}
	if len(pieceHashes) != g.Pieces() {
		p.pieceHashes = nil
		return p
	}
	layer := make([]Hash, 0, width/span)
	nodes := make([]Hash, 0, span)
	for i := 0; i < len(pieceHashes); i += span {
		nodes = append(nodes[:0], pieceHashes[i:min(i+span, len(pieceHashes))]...)
		layer = append(layer, root(nodes, height, span))
	}
	for h, w := p.height, width/span; w > 1; h, w = h+1, w/2 {
		p.layers = append(p.layers, layer)
		layer = joinPairs(nil, layer, h)
	}
	return p
}

// Prove returns the piece hashes from index on (ProofSpan of them, fewer at the
// end of the layer: padding is not carried) and their proof: the uncle hashes
// from the span's root up to the full hash, lowest first (BEP 52, "hashes").
// It returns nil, nil where no span begins at index (a multiple of ProofSpan within
// the layer), so that an index from a stranger may be handed in. hashes aliases the
// piece hashes; proof is the caller's.
func (p *Proofs) Prove(index int) (hashes, proof []Hash) {
	if p.pieceHashes == nil || !p.geometry.spanBegins(index) {
		return nil, nil
	}
	span := p.geometry.ProofSpan()
	at := index / span
	for i, layer := range p.layers {
		uncle := padding[p.height+i]
		if at^1 < len(layer) {
			uncle = layer[at^1]
		}
		proof = append(proof, uncle)
		at /= 2
	}
	return p.pieceHashes[index:min(index+span, len(p.pieceHashes))], proof
}

// Prove is what [Proofs.Prove] of these piece hashes returns. It joins them anew each
// time: whoever proves more than once keeps a [Proofs].
func (g Geometry) Prove(pieceHashes []Hash, index int) (hashes, proof []Hash) {
	if !g.spanBegins(index) {
		return nil, nil
	}
	return NewProofs(g, pieceHashes).Prove(index)
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
