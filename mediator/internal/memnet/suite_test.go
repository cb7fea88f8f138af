package memnet_test

import (
	"crypto/rand"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ttransport "github.com/libp2p/go-libp2p/p2p/transport/testsuite"

	"p2pcdn/mediator/internal/memnet"
)

func newKey(t testing.TB) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newTransport(t testing.TB, host *memnet.Host) (transport.Transport, peer.ID) {
	t.Helper()
	key := newKey(t)
	made, err := host.Transport(key, nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return made, id
}

// TestSuite is libp2p's own for transports.
func TestSuite(t *testing.T) {
	network := memnet.New(memnet.Config{})
	host := network.Host("a")
	a, id := newTransport(t, host)
	b, _ := newTransport(t, network.Host("b"))
	ttransport.SubtestTransport(t, a, b, "/ip4/"+host.IP()+"/udp/0/quic-v1", id)
}
