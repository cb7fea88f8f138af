package discovery

import (
	"context"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

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
// false. A mediator that died may be among them until its record ends. The error
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
