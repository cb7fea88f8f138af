package discovery

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
)

// unmapTimeout bounds how long the end of the host waits for libp2p to leave the
// router alone: it gives one that is gone ten seconds, but a mediator stops within five. Mappings
// end by themselves: each is for a minute, and is renewed as long as the host lives. (libp2p
// cannot be relied on to take them back.)
const unmapTimeout = 500 * time.Millisecond

// portMapper is libp2p's mapper of ports (UPnP and NAT-PMP), which ends in time.
type portMapper struct{ basichost.NATManager }

func newPortMapper(of network.Network) basichost.NATManager {
	return portMapper{basichost.NewNATManager(of)}
}

// Close implements [io.Closer].
func (m portMapper) Close() error {
	ended := make(chan error, 1)
	go func() { ended <- m.NATManager.Close() }()
	select {
	case err := <-ended:
		return err
	case <-time.After(unmapTimeout):
		return nil
	}
}
