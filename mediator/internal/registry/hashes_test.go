package registry

import (
	"math/rand/v2"
	"testing"

	"p2pcdn/common/content"
)

// TestHashesAsAMap does by chance what a map does, too.
func TestHashesAsAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var set hashes
		want := map[content.FullHash]bool{}
		for range 100 {
			hash := content.FullHash{byte(random.IntN(3 * maxFew))}
			switch {
			case !want[hash]:
				set.add(hash)
				want[hash] = true
			default:
				set.remove(hash)
				delete(want, hash)
			}
			set.remove(content.FullHash{31: 1}) // which it never had
			if set.len() != len(want) {
				t.Fatalf("it has %d instead of %d", set.len(), len(want))
			}
			for n := range 3 * maxFew {
				if hash := (content.FullHash{byte(n)}); set.has(hash) != want[hash] {
					t.Fatalf("it has %d: %v", n, set.has(hash))
				}
			}
		}
		for hash := range set.all() {
			if !want[hash] {
				t.Fatalf("it yields %v", hash)
			}
			set.remove(hash)
			delete(want, hash)
		}
		if len(want) > 0 || set.few != nil || set.many != nil {
			t.Fatalf("%d are left, or it holds on to their room", len(want))
		}
	}
}
