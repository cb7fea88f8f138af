package router

import (
	"slices"

	lru "github.com/hashicorp/golang-lru/v2"

	"p2pcdn/common/ident"
)

const (
	// maxCandidates is how many mediators may claim one peer. Ids are unique, so
	// a second one is mistaken or lies; but which of them cannot be told, so
	// signals go to all, and a liar that was first takes nobody's peers away.
	maxCandidates = 3

	// maxRouteMediators bounds the mediators of which peers are remembered, the
	// least recently heard of forgotten first.
	maxRouteMediators = 512
)

// routes remembers through which mediators the peers of others are reached.
// Each mediator has room for so many peers, and pushes out none but its own. The
// router's lock guards it.
type routes struct {
	perMediator int
	by          *lru.Cache[ident.MediatorID, *lru.Cache[ident.PeerID, struct{}]]
	via         map[ident.PeerID][]ident.MediatorID // the inverse of by; each list bounded by maxCandidates
}

func newRoutes(perMediator int) *routes {
	r := &routes{perMediator: perMediator, via: make(map[ident.PeerID][]ident.MediatorID)}
	r.by, _ = lru.NewWithEvict(maxRouteMediators, func(mediator ident.MediatorID, peers *lru.Cache[ident.PeerID, struct{}]) {
		for _, peer := range peers.Keys() {
			r.unlink(peer, mediator)
		}
	}) // it fails only for a size below one
	return r
}

// learn remembers that the mediator says that it has the peer, and reports
// whether that is believed: others may have said so before.
func (r *routes) learn(peer ident.PeerID, mediator ident.MediatorID) bool {
	peers, known := r.by.Get(mediator)
	if known {
		if _, has := peers.Get(peer); has {
			return true
		}
	}
	if len(r.via[peer]) == maxCandidates {
		return false
	}
	if !known {
		peers, _ = lru.NewWithEvict(r.perMediator, func(peer ident.PeerID, _ struct{}) { r.unlink(peer, mediator) })
		r.by.Add(mediator, peers)
	}
	peers.Add(peer, struct{}{})
	r.via[peer] = append(r.via[peer], mediator)
	return true
}

// get returns the mediators that say that they have the peer, in the order in
// which they said so. It must not be changed.
func (r *routes) get(peer ident.PeerID) []ident.MediatorID { return r.via[peer] }

// knows reports whether the mediator said that it has the peer.
func (r *routes) knows(peer ident.PeerID, mediator ident.MediatorID) bool {
	return slices.Contains(r.via[peer], mediator)
}

// forget takes a route out, if it is there.
func (r *routes) forget(peer ident.PeerID, mediator ident.MediatorID) {
	if peers, known := r.by.Peek(mediator); known {
		peers.Remove(peer) // which unlinks it
	}
}

func (r *routes) unlink(peer ident.PeerID, mediator ident.MediatorID) {
	left := slices.DeleteFunc(slices.Clone(r.via[peer]), func(other ident.MediatorID) bool { return other == mediator })
	if len(left) == 0 {
		delete(r.via, peer)
	} else {
		r.via[peer] = left
	}
}
