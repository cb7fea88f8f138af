package discovery

import (
	"slices"
	"time"
	"unique"

	"github.com/libp2p/go-libp2p/core/peer"
)

// holders are the nodes that may hold a record, without this one: those that it
// has to be withdrawn from. A slice and not a map, and ids that are stored once
// for all records: with 20 holders a record takes 0.8 KB here and not 3. The
// owner's lock guards it.
type holders []holder

type holder struct {
	node unique.Handle[peer.ID]
	at   time.Time // when the record was last sent
	sure bool      // the node confirmed it, so nothing is still on its way
}

func (h holders) find(node peer.ID) int {
	handle := unique.Make(node)
	return slices.IndexFunc(h, func(one holder) bool { return one.node == handle })
}

// set notes that a record was sent to a node.
func (h *holders) set(node peer.ID, at time.Time, sure bool) {
	one := holder{unique.Make(node), at, sure}
	if i := h.find(node); i >= 0 {
		(*h)[i] = one
		return
	}
	if *h == nil {
		*h = make(holders, 0, bucketSize)
	}
	*h = append(*h, one)
}

// confirmed reports whether a node is known to hold the record.
func (h holders) confirmed(node peer.ID) bool {
	i := h.find(node)
	return i >= 0 && h[i].sure
}

func (h *holders) remove(node peer.ID) {
	if i := h.find(node); i >= 0 {
		*h = slices.Delete(*h, i, i+1)
	}
}

// forget drops those that the record was sent to longer ago.
func (h *holders) forget(validity time.Duration) {
	*h = slices.DeleteFunc(*h, func(one holder) bool { return time.Since(one.at) > validity })
}
