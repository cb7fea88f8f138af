package relay

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"p2pcdn/mediator/internal/memnet"
)

// sober is a host whose streams are read in vain no more than so often.
type sober struct {
	host.Host
	t *testing.T
}

func (h sober) NewStream(ctx context.Context, to peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	s, err := h.Host.NewStream(ctx, to, protocols...)
	if err != nil {
		return nil, err
	}
	return &counted{Stream: s, t: h.t}, nil
}

func (h sober) SetStreamHandler(id protocol.ID, handler network.StreamHandler) {
	h.Host.SetStreamHandler(id, func(s network.Stream) { handler(&counted{Stream: s, t: h.t}) })
}

// counted is a stream that is not read again and again in vain.
type counted struct {
	network.Stream
	t     *testing.T
	reads int // owned by the reader
}

func (s *counted) Read(p []byte) (int, error) {
	if s.reads++; s.reads == 1000 {
		s.t.Error("a stream that has ended is read for ever")
	}
	if s.reads >= 1000 {
		time.Sleep(time.Minute) // or nothing else would happen any more
	}
	return s.Stream.Read(p)
}

// A connection to a mediator that died without a word ends with a timeout, as
// deadlines do; long before the stream would be closed because nothing is said.
func TestMediatorThatFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		world := memnet.New(memnet.Config{Latency: func(_, _ *memnet.Host) time.Duration { return 20 * time.Millisecond }})
		var nodes [2]*node
		var machines [2]*memnet.Host
		for i := range nodes {
			machines[i] = world.Host("")
			h, err := libp2p.New(
				libp2p.ListenAddrStrings("/ip4/"+machines[i].IP()+"/udp/4001/quic-v1"), libp2p.Transport(machines[i].Transport),
				libp2p.DisableRelay(), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}),
			)
			if err != nil {
				t.Fatal(err)
			}
			defer h.Close()
			nodes[i] = &node{host: h, id: idOf(h), events: make(events, 16)}
			nodes[i].relay = New(sober{h, t}, nodes[i].events, Config{})
			defer nodes[i].relay.Close()
		}
		a, b := nodes[0], nodes[1]
		introduce(a.host, b.host)
		a.relay.Send(b.id, getPeers(1))
		b.events.want(t, "message", a.id)
		b.relay.Send(a.id, getPeers(1))
		a.events.want(t, "message", b.id) // so the handshake was answered
		machines[1].Kill()
		began := time.Now()
		if got := <-a.events; got.kind != "gone" || got.id != b.id {
			t.Errorf("got %v", got)
		}
		if took := time.Since(began); took > memnet.DefaultKeepAlive+memnet.DefaultIdleTimeout {
			t.Errorf("it was noticed after %v", took)
		}
	})
}
