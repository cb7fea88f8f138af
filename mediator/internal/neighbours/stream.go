package neighbours

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	manet "github.com/multiformats/go-multiaddr/net"

	"p2pcdn/common/ident"
)

// Protocol is the libp2p protocol id; the package comment specifies it.
const Protocol = "/p2pcdn/neighbours/1.0.0"

const (
	// maxServed bounds the streams that are answered at a time, each a goroutine without
	// buffers. An honest one is over within a round trip.
	maxServed = 64

	// maxServedPerSecond and servedBurst bound all answers together: a mediator has some 400
	// connections, over each of which it is asked about once a minute, and at its start by
	// all at once. An answer takes some 0.1 ms.
	maxServedPerSecond = 100
	servedBurst        = 400

	// remoteBurst is how many asks one mediator may have saved up, one every
	// Timing.pause(): more than it makes, also if it starts anew.
	remoteBurst = 4

	// networkBurst and networkAsks hold one network to what 64 mediators ask, as many as
	// discovery lets connect from one address: all at once, and so many times per
	// Timing.Interval. Identities cost nothing.
	networkBurst = 64
	networkAsks  = 96
)

// report is what asking brought.
type report struct {
	answer answer
	took   time.Duration // the round trip
	from   reach         // where the connection goes
}

// remoteAddress is the zero address for transports without one; these are trusted no
// further than any other.
func remoteAddress(conn network.Conn) netip.Addr {
	ip, err := manet.ToIP(conn.RemoteMultiaddr())
	if err != nil {
		return netip.Addr{}
	}
	address, _ := netip.AddrFromSlice(ip)
	return plain(address)
}

// ask asks one mediator. It takes an existing connection where there is one, or dials.
func (n *Neighbours) ask(ctx context.Context, mediator ident.MediatorID) (report, error) {
	id, err := peer.Decode(mediator.String())
	if err != nil {
		return report{}, fmt.Errorf("asking %s: %w", mediator.Short(), err)
	}
	open, cancel := context.WithTimeout(ctx, n.config.Timing.OpenTimeout)
	defer cancel()
	stream, err := n.host.NewStream(open, id, Protocol)
	if err != nil {
		return report{}, fmt.Errorf("opening a stream to %s: %w", mediator.Short(), err)
	}
	// A read on a stream knows no context.
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	began := time.Now()
	_ = stream.SetDeadline(began.Add(n.config.Timing.AnswerTimeout))
	if _, err = stream.Write([]byte{request}); err == nil {
		var a answer
		if a, err = readAnswer(stream); err == nil {
			took := time.Since(began)
			_ = stream.Close()
			return report{a, took, reachOf(remoteAddress(stream.Conn()))}, nil
		}
	}
	_ = stream.Reset()
	return report{}, fmt.Errorf("asking %s: %w", mediator.Short(), err)
}

// serve answers one who asks, in libp2p's goroutine.
func (n *Neighbours) serve(stream network.Stream) {
	if !n.admit(stream.Conn()) {
		_ = stream.Reset()
		return
	}
	defer n.leave()
	stop := context.AfterFunc(n.ctx, func() { _ = stream.Reset() })
	defer stop()
	_ = stream.SetDeadline(time.Now().Add(n.config.Timing.AnswerTimeout))
	var asked [1]byte
	if _, err := io.ReadFull(stream, asked[:]); err != nil || asked[0] != request {
		_ = stream.Reset()
		return
	}
	if writeAnswer(stream, n.answer()) != nil {
		_ = stream.Reset()
		return
	}
	_ = stream.Close()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts.Answered++
}

// admit counts an asker in, if it has not asked too often. What is refused for one
// reason does not use up what the next one bounds.
func (n *Neighbours) admit(conn network.Conn) bool {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	if n.served >= maxServed || !n.networks.take(networkOf(remoteAddress(conn)), now) ||
		!n.remotes.take(conn.RemotePeer(), now) || !n.all.AllowN(now, 1) {
		n.counts.Refused++
		return false
	}
	n.served++
	n.wg.Add(1)
	return true
}

func (n *Neighbours) leave() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.served--
	n.wg.Done()
}

// answer is what this mediator says of itself now.
func (n *Neighbours) answer() answer {
	load := n.config.Load()
	a := answer{PublicURL: n.config.PublicURL, Version: n.config.Version, Peers: int64(load.Peers), Swarms: int64(load.Swarms)}
	if load.Full {
		a.PublicURL = ""
	}
	return a
}
