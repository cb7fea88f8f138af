package registry

import (
	"iter"
	"maps"
	"slices"

	"p2pcdn/common/content"
)

// maxFew is up to how many contents a list of them is both smaller than a map and as fast.
const maxFew = 8

// hashes is a set of contents. Most peers have to do with one, for which a map would take ten times
// its size. The zero value is empty.
type hashes struct {
	few  []content.FullHash            // all of them, in no order; nil where there is none, or many has them
	many map[content.FullHash]struct{} // nil unless there have been more than maxFew
}

func (h *hashes) len() int { return len(h.few) + len(h.many) }

func (h *hashes) has(hash content.FullHash) bool {
	_, has := h.many[hash]
	return has || slices.Contains(h.few, hash)
}

// add adds one that it does not have.
func (h *hashes) add(hash content.FullHash) {
	switch {
	case h.many != nil:
		h.many[hash] = struct{}{}
	case len(h.few) == maxFew:
		h.many = make(map[content.FullHash]struct{}, 2*maxFew)
		for _, old := range append(h.few, hash) {
			h.many[old] = struct{}{}
		}
		h.few = nil
	case h.few == nil:
		h.few = []content.FullHash{hash} // append would make room for more
	default:
		h.few = append(h.few, hash)
	}
}

func (h *hashes) remove(hash content.FullHash) {
	if i := slices.Index(h.few, hash); i >= 0 {
		last := len(h.few) - 1
		h.few[i] = h.few[last]
		h.few = h.few[:last]
	}
	delete(h.many, hash)
	if h.len() == 0 {
		*h = hashes{}
	}
}

// all yields each of them, also one that is being removed while it is yielded.
func (h *hashes) all() iter.Seq[content.FullHash] {
	if h.many != nil {
		return maps.Keys(h.many)
	}
	return slices.Values(slices.Clone(h.few))
}
