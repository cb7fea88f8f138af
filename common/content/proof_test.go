package content_test

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"

	"p2pcdn/common/content"
)

// TestProofs proves every span of layers of random width, and checks that any
// change of any part is refused.
func TestProofs(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 60 {
		pieces := 2 + random.IntN(1<<random.IntN(13))
		pieceLength := int64(leaf) << random.IntN(5)
		geometry := content.Geometry{TotalLength: int64(pieces)*pieceLength - random.Int64N(pieceLength), PieceLength: pieceLength}
		layer := randomHashes(random, pieces)
		full := geometry.Root(layer)
		kept := append([]content.Hash(nil), layer...)
		proofs := content.NewProofs(geometry, layer)

		for index := 0; index < pieces; index += geometry.ProofSpan() {
			hashes, proof := proofs.Prove(index)
			if once, sameProof := geometry.Prove(layer, index); !reflect.DeepEqual(once, hashes) || !reflect.DeepEqual(sameProof, proof) {
				t.Fatalf("%d pieces, from %d: proven alone it is another proof", pieces, index)
			}
			if err := geometry.CheckProof(full, index, hashes, proof); err != nil {
				t.Fatalf("%d pieces, from %d: %v", pieces, index, err)
			}
			if len(hashes) != min(geometry.ProofSpan(), pieces-index) || hashes[0] != layer[index] {
				t.Fatalf("%d pieces, from %d: %d hashes", pieces, index, len(hashes))
			}
			refused := func(what string, full content.FullHash, index int, hashes, proof []content.Hash) {
				t.Helper()
				if err := geometry.CheckProof(full, index, hashes, proof); !errors.Is(err, &content.Error{Code: content.CodeBadProof}) {
					t.Fatalf("%d pieces, from %d: %s: %v", pieces, index, what, err)
				}
			}
			refused("a flipped hash", full, index, flipped(random, hashes), proof)
			refused("a hash too few", full, index, hashes[1:], proof)
			refused("a hash too many", full, index, append(randomHashes(random, 1), hashes...), proof)
			refused("a proof hash too many", full, index, hashes, append(randomHashes(random, 1), proof...))
			refused("another full hash", content.FullHash(flipped(random, []content.Hash{content.Hash(full)})[0]), index, hashes, proof)
			if len(proof) > 0 {
				refused("a flipped proof", full, index, hashes, flipped(random, proof))
				refused("a proof hash too few", full, index, hashes, proof[1:])
			}
			for other := -geometry.ProofSpan(); other <= pieces+geometry.ProofSpan(); other += geometry.ProofSpan() {
				if other != index {
					refused("another index", full, other, hashes, proof)
				}
			}
			refused("an index within the span", full, index+1, hashes, proof)
		}
		if !reflect.DeepEqual(layer, kept) {
			t.Fatal("proving changed the piece hashes")
		}
	}
}

// An index comes from a stranger: it must not be able to do harm.
func TestProveWhereNoSpanBegins(t *testing.T) {
	geometry := content.Geometry{TotalLength: 600 * leaf, PieceLength: leaf}
	layer := randomHashes(rand.New(rand.NewPCG(5, 6)), 600)
	proofs := content.NewProofs(geometry, layer)
	for _, index := range []int{-256, -1, 1, 255, 513, 600, 768, 1 << 32, 1<<63 - 1} {
		for name, prove := range map[string]func() ([]content.Hash, []content.Hash){
			"Proofs":   func() ([]content.Hash, []content.Hash) { return proofs.Prove(index) },
			"Geometry": func() ([]content.Hash, []content.Hash) { return geometry.Prove(layer, index) },
		} {
			if hashes, proof := prove(); hashes != nil || proof != nil {
				t.Errorf("%s: %d hashes were proven from %d", name, len(hashes), index)
			}
		}
	}
	for _, wrong := range [][]content.Hash{nil, layer[:599], append(layer, layer...)} {
		if hashes, proof := content.NewProofs(geometry, wrong).Prove(0); hashes != nil || proof != nil {
			t.Errorf("%d hashes of 600 prove something", len(wrong))
		}
	}
}

// A proof is looked up: whoever serves them hashes nothing for it, even of the widest layer.
func TestProofsAreKept(t *testing.T) {
	geometry := content.Geometry{TotalLength: content.MaxPieces * leaf, PieceLength: leaf}
	layer := randomHashes(rand.New(rand.NewPCG(7, 8)), content.MaxPieces)
	full, proofs := geometry.Root(layer), content.NewProofs(geometry, layer)
	for index := 0; index < content.MaxPieces; index += geometry.ProofSpan() {
		hashes, proof := proofs.Prove(index)
		if err := geometry.CheckProof(full, index, hashes, proof); err != nil {
			t.Fatalf("from %d: %v", index, err)
		}
		clear(proof) // it is the caller's: the next one must not suffer
	}
	before := append([]content.Hash(nil), layer...)
	_, proof := proofs.Prove(256)
	clear(layer) // what is kept above the spans does not come from here any more
	if _, again := proofs.Prove(256); !reflect.DeepEqual(again, proof) {
		t.Error("a proof was computed anew")
	}
	if hashes, _ := proofs.Prove(256); reflect.DeepEqual(hashes, before[256:512]) {
		t.Error("the piece hashes are a copy, 2 MiB of them")
	}
}

// BenchmarkProofs is what one answer to a stranger costs, of the widest layer.
func BenchmarkProofs(b *testing.B) {
	geometry := content.Geometry{TotalLength: content.MaxPieces * leaf, PieceLength: leaf}
	proofs := content.NewProofs(geometry, randomHashes(rand.New(rand.NewPCG(9, 10)), content.MaxPieces))
	for b.Loop() {
		proofs.Prove(256 * 200)
	}
}

func randomHashes(random *rand.Rand, count int) []content.Hash {
	hashes := make([]content.Hash, count)
	for i := range hashes {
		for j := range hashes[i] {
			hashes[i][j] = byte(random.Uint32())
		}
	}
	return hashes
}

// flipped returns a copy in which one bit is another.
func flipped(random *rand.Rand, hashes []content.Hash) []content.Hash {
	changed := append([]content.Hash(nil), hashes...)
	changed[random.IntN(len(changed))][random.IntN(content.HashSize)] ^= 1 << random.IntN(8)
	return changed
}
