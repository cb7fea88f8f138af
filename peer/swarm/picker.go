package swarm

import (
	"math/rand/v2"

	"p2pcdn/common/wire"
)

// picker offers the pieces that are missing and that nobody fetches, rarest
// first. They stand in one list, ordered by availability and at random within the same, so
// that whatever changes is an exchange of a few places: no pass over all pieces.
// Its swarm owns it.
type picker struct {
	random *rand.Rand
	order  []int32 // the pieces that are offered
	place  []int32 // per piece: where it stands in order; notOffered
	count  []int32 // per piece: how many peers have it (not counting those that have everything)
	ends   []int32 // ends[n]: where the pieces in order with at most n peers end
}

const notOffered = -1

const (
	// runBytes is how long the runs are in which pieces that lie beside each other are fetched, where
	// nothing speaks for another order: whoever sends them reads them at once, and a page that reads a
	// file pays by the call.
	runBytes = 1 << 20

	// leastRuns is how many runs there are at least, so that leechers who start together have
	// something to exchange.
	leastRuns = 32
)

// newPicker offers every piece that is not in have; pieceLength in bytes.
func newPicker(have *wire.Bits, pieceLength int64, random *rand.Rand) *picker {
	p := &picker{random: random, place: make([]int32, have.Len()), count: make([]int32, have.Len())}
	run := max(1, min(int(runBytes/pieceLength), have.Len()/leastRuns))
	for _, i := range random.Perm((have.Len() + run - 1) / run) {
		// The last ones first: whatever is taken, the last of its rarity takes its place.
		for piece := min((i+1)*run, have.Len()) - 1; piece >= i*run; piece-- {
			p.place[piece] = notOffered
			if !have.Has(piece) {
				p.place[piece] = int32(len(p.order))
				p.order = append(p.order, int32(piece))
			}
		}
	}
	p.ends = []int32{int32(len(p.order))}
	return p
}

func (p *picker) empty() bool            { return len(p.order) == 0 }
func (p *picker) offers(piece int) bool  { return p.place[piece] != notOffered }
func (p *picker) put(piece, place int32) { p.order[place], p.place[piece] = piece, place }

func (p *picker) swap(i, j int32) {
	a, b := p.order[i], p.order[j]
	p.put(a, j)
	p.put(b, i)
}

// begin is where the pieces with n peers begin.
func (p *picker) begin(n int32) int32 {
	if n == 0 {
		return 0
	}
	return p.ends[n-1]
}

// mix exchanges a piece with any that has as many peers: which of them comes first is chance.
func (p *picker) mix(piece int) {
	n := p.count[piece]
	begin := p.begin(n)
	p.swap(p.place[piece], begin+p.random.Int32N(p.ends[n]-begin))
}

// more notes that one more peer has the piece.
func (p *picker) more(piece int) {
	n := p.count[piece]
	p.count[piece]++
	if !p.offers(piece) {
		return
	}
	p.grow(n + 1)
	p.ends[n]--
	p.swap(p.place[piece], p.ends[n])
	p.mix(piece)
}

// fewer notes that one peer less has it.
func (p *picker) fewer(piece int) {
	n := p.count[piece]
	p.count[piece]--
	if !p.offers(piece) {
		return
	}
	p.swap(p.place[piece], p.begin(n))
	p.ends[n-1]++
	p.mix(piece)
}

// grow makes room for pieces with n peers.
func (p *picker) grow(n int32) {
	for int32(len(p.ends)) <= n {
		p.ends = append(p.ends, int32(len(p.order)))
	}
}

// remove takes a piece out of the offer: it is fetched, or there.
func (p *picker) remove(piece int) {
	if !p.offers(piece) {
		return
	}
	for n := p.count[piece]; n < int32(len(p.ends)); n++ {
		p.ends[n]--
		p.swap(p.place[piece], p.ends[n])
	}
	p.order = p.order[:len(p.order)-1]
	p.place[piece] = notOffered
}

// add offers a piece again.
func (p *picker) add(piece int) {
	if p.offers(piece) {
		return
	}
	p.grow(p.count[piece])
	p.order = append(p.order, int32(piece))
	p.place[piece] = int32(len(p.order) - 1)
	for n := int32(len(p.ends)) - 1; n >= p.count[piece]; n-- {
		p.ends[n]++
		if n > p.count[piece] {
			p.swap(p.place[piece], p.begin(n))
		}
	}
	p.mix(piece)
}

// rarest returns the first piece in the order that may be taken, or -1.
func (p *picker) rarest(may func(piece int) bool) int {
	for _, piece := range p.order {
		if may(int(piece)) {
			return int(piece)
		}
	}
	return -1
}

// any returns a piece that may be taken, each about as likely, or -1.
func (p *picker) any(may func(piece int) bool) int {
	if len(p.order) == 0 {
		return -1
	}
	start := p.random.IntN(len(p.order))
	for i := range p.order {
		if piece := int(p.order[(start+i)%len(p.order)]); may(piece) {
			return piece
		}
	}
	return -1
}
