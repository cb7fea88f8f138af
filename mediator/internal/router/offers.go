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
	data    mediation.SignalData
	travels bool // with a get_peers that is not answered
}

// hold keeps a peer's offer until a seeder is known; where there is no
// room it is not kept, and the peer will signal it itself. mu is held.
func (r *Router) hold(s *search, id ident.PeerID, data mediation.SignalData) {
	if data.Len() == 0 || r.MaxOfferBytes > 0 && r.held+data.Len() > r.MaxOfferBytes {
		return
	}
	if s.offers == nil {
		s.offers = make(map[ident.PeerID]*offer, 1)
	}
	s.offers[id] = &offer{data: data}
	r.held += data.Len()
}

// letGo forgets a peer's offer, if there is one; what a mediator to which it travels says of it then counts for
// no later one. mu is held.
func (r *Router) letGo(s *search, id ident.PeerID) {
	if s == nil || s.offers[id] == nil {
		return
	}
	for _, o := range s.others {
		if o.carries == id {
			o.carries = ident.PeerID{}
		}
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

// handOut hands a peer's offer, or the one that was held for it, to one of the seeders of this mediator that it is told
// of, and returns which; zero: none. mu is held.
func (r *Router) handOut(id ident.PeerID, hash content.FullHash, news []ident.PeerID, data mediation.SignalData) ident.PeerID {
	if o := r.take(id, hash, news); o != nil {
		data = o.data
	}
	if data.Len() == 0 || len(news) == 0 {
		return ident.PeerID{}
	}
	return r.deliver(mediation.Signal{FullHash: hash, PeerID: id, SignalData: data}, news)
}

// handOutFor hands an offer that came with another mediator's get_peers to one of the seeders here. The sender
// is a peer of that mediator, or nothing is handed out. mu is held.
func (r *Router) handOutFor(from ident.MediatorID, m mediation.GetPeers, seeders []ident.PeerID) ident.PeerID {
	if _, ours := r.registry.Conn(m.SenderID); ours || m.Offer.Len() == 0 || m.SenderID.IsZero() || !r.routes.learn(m.SenderID, from) {
		return ident.PeerID{}
	}
	return r.deliver(mediation.Signal{FullHash: m.FullHash, PeerID: m.SenderID, SignalData: m.Offer}, seeders)
}

// deliver hands the signal to one of the peers, by chance among those that the first message will name, and returns
// which took it; zero: none. mu is held.
func (r *Router) deliver(signal mediation.Signal, peers []ident.PeerID) ident.PeerID {
	peers = peers[:min(len(peers), mediation.MaxPeers)]
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
// is told: with the one to whom that mediator handed it, where it did, or it is signalled to one. It returns which; zero: none. mu is held.
func (r *Router) sendOn(from ident.MediatorID, id ident.PeerID, hash content.FullHash, news []ident.PeerID, offered ident.PeerID) ident.PeerID {
	o := r.take(id, hash, news)
	switch {
	case o == nil:
		return ident.PeerID{}
	case !offered.IsZero():
		return offered
	}
	to := news[rand.IntN(min(len(news), mediation.MaxPeers))]
	r.Relay.Send(from, mediation.Signal{FullHash: hash, PeerID: to, SenderID: id, SignalData: o.data})
	return to
}

// travels chooses an offer that is to travel with a get_peers, and whose it is; none
// where all do already.
func (s *search) travels() (sender ident.PeerID, data mediation.SignalData) {
	for id, o := range s.offers {
		if !o.travels {
			o.travels = true
			return id, o.data
		}
	}
	return ident.PeerID{}, mediation.SignalData{}
}

// arrived ends the travel of an offer with the question to a mediator, which was answered or will not be, and returns whose it
// was. Where it is still held it may travel elsewhere.
func (s *search) arrived(with *other) (sender ident.PeerID) {
	sender, with.carries = with.carries, ident.PeerID{}
	if o := s.offers[sender]; o != nil {
		o.travels = false
	}
	return sender
}
