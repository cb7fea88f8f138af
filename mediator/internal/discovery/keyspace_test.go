package discovery

import (
	"crypto/rand"
	"fmt"
	"slices"
	"testing"

	kb "github.com/libp2p/go-libp2p-kbucket"
	"github.com/libp2p/go-libp2p/core/peer"
)

func TestPlacesAreThoseOfTheDHT(t *testing.T) {
	id := peer.ID("some node")
	hash := hashOf("some content")
	if got, want := locate([]peer.ID{id})[0].place, kb.ConvertPeerID(id); !slices.Equal(got[:], want) {
		t.Errorf("a node is at %x, want %x", got, want)
	}
	if got, want := placeOfHash(hash), kb.ConvertKey(string(multihashOf(hash))); !slices.Equal(got[:], want) {
		t.Errorf("a hash is at %x, want %x", got, want)
	}
}

func TestSharedBits(t *testing.T) {
	var at place
	_, _ = rand.Read(at[:])
	if got := at.shared(at); got != 256 {
		t.Errorf("a place shares %d bits with itself", got)
	}
	for bit := range 256 {
		if got := at.shared(at.sibling(bit)); got != bit {
			t.Errorf("sibling %d shares %d bits", bit, got)
		}
	}
}

func TestNearest(t *testing.T) {
	var ids []peer.ID
	for i := range 100 {
		ids = append(ids, peer.ID(fmt.Sprint(i)))
	}
	for i := range 20 {
		hash := hashOf(fmt.Sprint(i))
		at := placeOfHash(hash)
		var got []peer.ID
		for _, node := range nearest(at, locate(ids), bucketSize) {
			got = append(got, node.id)
		}
		want := kb.SortClosestPeers(ids, kb.ID(at[:]))[:bucketSize]
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if all := nearest(at, locate(ids), 200); len(all) != len(ids) {
			t.Errorf("%d of all", len(all))
		}
	}
}

func TestKeyWithin(t *testing.T) {
	var at place
	_, _ = rand.Read(at[:])
	for prefix := range maxPrefix + 1 {
		key, err := keyWithin(at, prefix)
		if err != nil || at.shared(placeOf(key)) < prefix {
			t.Errorf("prefix %d: %v", prefix, err)
		}
	}
	if _, err := keyWithin(at, maxPrefix+1); err == nil {
		t.Error("a key with too long a prefix")
	}
}
