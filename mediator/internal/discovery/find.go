package discovery

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multiaddr"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

const (
	// foundAddressTTL is how long the addresses of a mediator that was found are
	// kept. kad-dht keeps them for two minutes, but a leecher that found nobody to
	// connect to asks the same mediators again later.
	foundAddressTTL = 30 * time.Minute

	// maxFoundAddresses bounds what is kept of one provider's addresses, which
	// are whatever it says. Ten interfaces have forty.
	maxFoundAddresses = 64
)

// Find yields the other mediators that announced the content, each once, as
// they are found, until the search has ended, ctx is done or yield returns
// false. A mediator that died may be among them until its record ends, but not
// while a dial to it would be refused anyway, see undialable. The error
// is that of ctx or says that discovery is closed; ending with nobody is none.
func (d *Discovery) Find(ctx context.Context, hash content.FullHash, yield func(ident.MediatorID) bool) error {
	ctx, done, err := d.begin(ctx)
	if err != nil {
		return err
	}
	defer done()
	search, cancel := context.WithCancel(ctx)
	defer cancel()
	seen := map[peer.ID]bool{d.self: true}
	stopped := false
	// 0: all there are, each node that is asked included. A number would count
	// this mediator and those that died.
	for info := range d.dht.FindProvidersAsync(search, cidOf(hash), 0) {
		addresses := info.Addrs[:min(len(info.Addrs), maxFoundAddresses)]
		if info.ID != d.self {
			d.raw.Peerstore().AddAddrs(info.ID, addresses, foundAddressTTL)
		}
		id, err := ident.ParseMediatorID(info.ID.String())
		if stopped || seen[info.ID] || err != nil {
			continue // to the end: the search blocks on what nobody takes
		}
		seen[info.ID] = true
		if d.undialable(info.ID) {
			continue
		}
		if !yield(id) {
			stopped = true
			cancel()
		}
	}
	if stopped {
		return nil
	}
	return ctx.Err()
}

// undialable reports whether a mediator was dialled in vain moments ago, at
// every address that is known. The swarm remembers that for five seconds, longer
// each time, five minutes at most, and refuses to dial until then: to hand such a
// mediator out would help nobody.
func (d *Discovery) undialable(id peer.ID) bool {
	if d.raw.Network().Connectedness(id) != network.NotConnected {
		return false
	}
	own, _ := d.swarm.InterfaceListenAddresses() // these the swarm leaves out of a dial; without them, none
	tried := 0
	for _, address := range d.raw.Peerstore().Addrs(id) {
		if multiaddr.Contains(own, address) {
			continue
		}
		if !d.swarm.Backoff().Backoff(id, address) {
			return false
		}
		tried++
	}
	return tried > 0
}
