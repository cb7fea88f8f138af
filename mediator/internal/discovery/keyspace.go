package discovery

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/bits"
	"math/rand/v2"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"

	"p2pcdn/common/content"
)

// place is where a key or a node is in the keyspace of Kademlia: the SHA-256 of
// its name, which of a hash is the multihash.
type place [sha256.Size]byte

func placeOf(name string) place { return sha256.Sum256([]byte(name)) }

func placeOfHash(hash content.FullHash) place { return placeOf(string(multihashOf(hash))) }

// located is a node with its place, so that it is hashed once.
type located struct {
	id    peer.ID
	place place
}

func locate(ids []peer.ID) []located {
	nodes := make([]located, len(ids))
	for i, id := range ids {
		nodes[i] = located{id, placeOf(string(id))}
	}
	return nodes
}

// shared returns how many leading bits two places have in common.
func (p place) shared(other place) int {
	for i := range p {
		if differ := p[i] ^ other[i]; differ != 0 {
			return 8*i + bits.LeadingZeros8(differ)
		}
	}
	return 8 * len(p)
}

// sibling returns a place that shares exactly bit leading bits with p.
func (p place) sibling(bit int) place {
	p[bit/8] ^= 0x80 >> (bit % 8)
	return p
}

// closer orders two places by their distance to p.
func (p place) closer(a, b place) int {
	for i := range p {
		if da, db := a[i]^p[i], b[i]^p[i]; da != db {
			return int(da) - int(db)
		}
	}
	return 0
}

// nearest returns the n nodes nearest to a place, and may reorder the nodes.
func nearest(at place, nodes []located, n int) []located {
	if len(nodes) <= n {
		return nodes
	}
	slices.SortFunc(nodes, func(a, b located) int { return at.closer(a.place, b.place) })
	return nodes[:n]
}

// leastShared returns how many leading bits all nodes have in common with a place.
func leastShared(at place, nodes []located) int {
	least := 8 * len(at)
	for _, node := range nodes {
		least = min(least, at.shared(node.place))
	}
	return least
}

// maxPrefix bounds the prefix that a key is made for: 65,536 regions of twenty
// nodes are a network of a million, and a key is found in 10 ms.
const maxPrefix = 16

var errPrefix = errors.New("no key with so long a prefix")

// keyWithin returns some key whose place shares the leading bits with a place. A
// place cannot be chosen, it is a hash: keys are tried.
func keyWithin(at place, prefix int) (string, error) {
	if prefix > maxPrefix {
		return "", errPrefix
	}
	var key [16]byte
	for range 64 << maxPrefix { // to fail 64 times as often as expected has a chance of e^-64
		for i := 0; i < len(key); i += 8 {
			word := rand.Uint64()
			for j := range 8 {
				key[i+j] = byte(word >> (8 * j))
			}
		}
		if at.shared(placeOf(string(key[:]))) >= prefix {
			return string(key[:]), nil
		}
	}
	return "", errPrefix
}

func byPlace(a, b *entry) int { return bytes.Compare(a.place[:], b.place[:]) }
