package router

import (
	"math/rand/v2"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

// maxTakers is how many seeders are tried for an offer, one of which is to take it: one whose queue is full
// does not.
const maxTakers = 3

// offer is what a peer who waits would signal to the first seeder that is named to it. It is handed to one as soon
// as one is known, so that the seeder's answer comes a round trip earlier.
type offer struct {
	data mediation.SignalData
	with ident.MediatorID // the mediator that was asked with it; zero: none was
}

// hold keeps a peer's offer until a seeder is known, in place of its earlier one; where there is no
// room it is not kept, and the peer will signal it itself. mu is held.
func (r *Router) hold(s *search, id ident.PeerID, data mediation.SignalData) {
	r.letGo(s, id)
	if data.Len() == 0 || r.MaxOfferBytes > 0 && r.held+data.Len() > r.MaxOfferBytes {
		return
	}
	if s.offers == nil {
		s.offers = make(map[ident.PeerID]*offer, 1)
	}
	s.offers[id] = &offer{data: data}
	r.held += data.Len()
}

// letGo forgets a peer's offer, if there is one. mu is held.
func (r *Router) letGo(s *search, id ident.PeerID) {
	if s == nil || s.offers[id] == nil {
		return
	}
	r.held -= s.offers[id].data.Len()
	delete(s.offers, id)
}

// letGoAll forgets the offers of a search. mu is held.
func (r *Router) letGoAll(s *search) {
	for id := range s.offers {
		r.letGo(s, id)
	}
	s.offers = nil
}

// take returns a peer's offer, which is forgotten: it is told of seeders now, and either one of them has
// the offer or the peer signals it itself. mu is held.
func (r *Router) take(id ident.PeerID, hash content.FullHash, news []ident.PeerID) *offer {
	s := r.searches[hash]
	if s == nil || len(news) == 0 {
		return nil
	}
	o := s.offers[id]
	r.letGo(s, id)
	return o
}

// handOut hands a peer's offer, if it has one, to one of the seeders of this mediator that it is told
// of, and returns which; zero: none. mu is held.
func (r *Router) handOut(id ident.PeerID, hash content.FullHash, news []ident.PeerID) ident.PeerID {
	o := r.take(id, hash, news)
	if o == nil {
		return ident.PeerID{}
	}
	return r.deliver(mediation.Signal{FullHash: hash, PeerID: id, SignalData: o.data}, news)
}

// handOutFor hands an offer that came with another mediator's get_peers to one of the seeders here. The sender
// is a peer of that mediator, or nothing is handed out. mu is held.
func (r *Router) handOutFor(from ident.MediatorID, m mediation.GetPeers, seeders []ident.PeerID) ident.PeerID {
	if _, ours := r.registry.Conn(m.SenderID); ours || m.Offer.Len() == 0 || m.SenderID.IsZero() || !r.routes.learn(m.SenderID, from) {
		return ident.PeerID{}
	}
	return r.deliver(mediation.Signal{FullHash: m.FullHash, PeerID: m.SenderID, SignalData: m.Offer}, seeders)
}

// deliver hands the signal to one of the peers, by chance, and returns which took it; zero: none. mu is held.
func (r *Router) deliver(signal mediation.Signal, peers []ident.PeerID) ident.PeerID {
	first := rand.IntN(len(peers))
	for i := range min(len(peers), maxTakers) {
		peer := peers[(first+i)%len(peers)]
		if conn, here := r.registry.Conn(peer); here && conn.Offer(signal) {
			return peer
		}
	}
	return ident.PeerID{}
}

// sendOn sees to it that a peer's offer, if it has one, is with one of another mediator's seeders, of whom it
// is told: with the one to whom that mediator handed it, or it is signalled to one. It returns which; zero: none. mu is held.
func (r *Router) sendOn(from ident.MediatorID, id ident.PeerID, hash content.FullHash, news []ident.PeerID, offered ident.PeerID) ident.PeerID {
	o := r.take(id, hash, news)
	switch {
	case o == nil:
		return ident.PeerID{}
	case o.with == from && !offered.IsZero():
		return offered
	}
	to := news[rand.IntN(len(news))]
	r.Relay.Send(from, mediation.Signal{FullHash: hash, PeerID: to, SenderID: id, SignalData: o.data})
	return to
}

// travels chooses an offer that is to travel with a get_peers to another mediator, and whose it is; none
// where all have one already.
func (s *search) travels(mediator ident.MediatorID) (sender ident.PeerID, data mediation.SignalData) {
	for id, o := range s.offers {
		if o.with == (ident.MediatorID{}) {
			o.with = mediator
			return id, o.data
		}
	}
	return ident.PeerID{}, mediation.SignalData{}
}
