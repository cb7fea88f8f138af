package discovery

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	basichost "github.com/libp2p/go-libp2p/p2p/host/basic"
)

// unmapTimeout bounds how long the end of the host waits for the router to take
// a port mapping back. A router answers within milliseconds, or it is gone and
// libp2p waits ten seconds for it, but a mediator stops within five. What is left
// ends by itself: a mapping is for a minute, and is renewed as long as the host lives.
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
