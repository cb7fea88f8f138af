package swarm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"p2pcdn/common/wire"
)

// checkPicker compares a picker with what it should hold: the offered pieces in order of their counts.
func checkPicker(p *picker, offered map[int]bool, counts []int32) error {
	if len(p.order) != len(offered) || p.empty() != (len(offered) == 0) {
		return fmt.Errorf("%d pieces are offered instead of %d", len(p.order), len(offered))
	}
	for place, piece := range p.order {
		if !offered[int(piece)] || p.place[piece] != int32(place) {
			return fmt.Errorf("piece %d is at %d, and said to be at %d", piece, place, p.place[piece])
		}
		if place > 0 && counts[p.order[place-1]] > counts[piece] {
			return fmt.Errorf("piece %d with %d peers comes before piece %d with %d", p.order[place-1], counts[p.order[place-1]], piece, counts[piece])
		}
	}
	for piece, count := range counts {
		if p.count[piece] != count || p.offers(piece) != offered[piece] {
			return fmt.Errorf("piece %d: count %d instead of %d, offered %v", piece, p.count[piece], count, p.offers(piece))
		}
	}
	for n, end := range p.ends {
		if want := len(slices.DeleteFunc(slices.Clone(p.order), func(piece int32) bool { return counts[piece] > int32(n) })); int(end) != want {
			return fmt.Errorf("the pieces with at most %d peers end at %d instead of %d", n, end, want)
		}
	}
	return nil
}

// TestPickerAgainstAModel: whatever happens in whatever order, the rarest come first.
func TestPickerAgainstAModel(t *testing.T) {
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		pieces := 1 + random.IntN(40)
		have := wire.NewBits(pieces)
		offered, counts := map[int]bool{}, make([]int32, pieces)
		for piece := range pieces {
			if random.IntN(4) == 0 {
				have.Add(piece)
			} else {
				offered[piece] = true
			}
		}
		p := newPicker(have, 64*kib, random)
		for step := range 600 {
			piece := random.IntN(pieces)
			what := random.IntN(5)
			switch what {
			case 0, 1:
				p.more(piece)
				counts[piece]++
			case 2:
				if counts[piece] > 0 {
					p.fewer(piece)
					counts[piece]--
				}
			case 3:
				p.remove(piece)
				delete(offered, piece)
			case 4:
				p.add(piece)
				offered[piece] = true
			}
			if err := checkPicker(p, offered, counts); err != nil {
				t.Fatalf("seed %d, step %d (%d of piece %d): %v", seed, step, what, piece, err)
			}
			checkChoices(t, p, random, offered, counts)
		}
	}
}

// checkChoices compares what the picker chooses with what it may choose from.
func checkChoices(t *testing.T, p *picker, random *rand.Rand, offered map[int]bool, counts []int32) {
	t.Helper()
	allowed := map[int]bool{}
	least := int32(-1)
	for piece := range len(counts) {
		if offered[piece] && random.IntN(3) == 0 {
			allowed[piece] = true
			if least < 0 || counts[piece] < least {
				least = counts[piece]
			}
		}
	}
	may := func(piece int) bool { return allowed[piece] }
	rarest, any := p.rarest(may), p.any(may)
	if len(allowed) == 0 {
		if rarest != -1 || any != -1 {
			t.Fatalf("chose %d and %d out of nothing", rarest, any)
		}
		return
	}
	if !allowed[rarest] || counts[rarest] != least {
		t.Fatalf("piece %d is not the rarest", rarest)
	}
	if !allowed[any] {
		t.Fatalf("piece %d may not be taken", any)
	}
}

// TestTiesAreBroken: of pieces that are equally rare, each comes first about as often.
func TestTiesAreBroken(t *testing.T) {
	const pieces, rounds = 10, 4000
	random := rand.New(rand.NewPCG(1, 1))
	firsts := make([]int, pieces)
	for range rounds {
		p := newPicker(wire.NewBits(pieces), 64*kib, random)
		for _, piece := range random.Perm(pieces) {
			p.more(piece) // now all of them have one peer
		}
		firsts[p.rarest(func(int) bool { return true })]++
	}
	for piece, n := range firsts {
		if n < rounds/pieces*3/4 || n > rounds/pieces*5/4 {
			t.Errorf("piece %d came first %d times in %d: %v", piece, n, rounds, firsts)
		}
	}
}
