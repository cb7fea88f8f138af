package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/coder/websocket"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

// testMediator introduces the peers that are connected to it, and knows no other
// mediator. It is as much of the mediation protocol as a peer needs.
type testMediator struct {
	url string

	mu      sync.Mutex
	peers   map[ident.PeerID]*websocket.Conn // guarded by mu, as are the next two
	seeds   map[content.FullHash]map[ident.PeerID]bool
	waiting map[content.FullHash]map[ident.PeerID]bool
}

func startMediator(t *testing.T) *testMediator {
	m := &testMediator{
		peers:   make(map[ident.PeerID]*websocket.Conn),
		seeds:   make(map[content.FullHash]map[ident.PeerID]bool),
		waiting: make(map[content.FullHash]map[ident.PeerID]bool),
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.CloseNow()
		conn.SetReadLimit(mediation.MaxMessageSize)
		m.serve(ctx, conn)
	}))
	t.Cleanup(func() {
		cancel()
		server.Close()
	})
	m.url = "ws" + strings.TrimPrefix(server.URL, "http") + mediation.Path
	return m
}

func (m *testMediator) serve(ctx context.Context, conn *websocket.Conn) {
	var self ident.PeerID
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.peers, self)
		for _, seeds := range m.seeds {
			delete(seeds, self)
		}
		for _, waiting := range m.waiting {
			delete(waiting, self)
		}
	}()
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return
		}
		message, err := mediation.Decode(text)
		if err != nil {
			return
		}
		m.mu.Lock()
		if handshake, is := message.(mediation.Handshake); is {
			self = handshake.PeerID
			m.peers[self] = conn
		}
		m.handle(ctx, self, message)
		m.mu.Unlock()
	}
}

// handle is called with mu held.
func (m *testMediator) handle(ctx context.Context, from ident.PeerID, message mediation.Message) {
	say := func(to ident.PeerID, message mediation.Message) {
		if conn := m.peers[to]; conn != nil {
			_ = conn.Write(ctx, websocket.MessageText, mediation.Encode(message))
		}
	}
	set := func(sets map[content.FullHash]map[ident.PeerID]bool, hash content.FullHash) {
		if sets[hash] == nil {
			sets[hash] = make(map[ident.PeerID]bool)
		}
		sets[hash][from] = true
	}
	switch message := message.(type) {
	case mediation.Handshake:
		say(from, mediation.Established{})
	case mediation.Announce:
		set(m.seeds, message.FullHash)
		say(from, mediation.Announced(message))
		for id := range m.waiting[message.FullHash] {
			if id != from {
				say(id, mediation.Peers{FullHash: message.FullHash, Peers: []ident.PeerID{from}})
			}
		}
	case mediation.GetPeers:
		set(m.waiting, message.FullHash)
		var ids []ident.PeerID
		for id := range m.seeds[message.FullHash] {
			if id != from {
				ids = append(ids, id)
			}
		}
		say(from, mediation.Peers{FullHash: message.FullHash, Peers: ids})
	case mediation.Signal:
		say(message.PeerID, mediation.Signal{FullHash: message.FullHash, PeerID: from, SignalData: message.SignalData})
	case mediation.Finish:
		delete(m.seeds[message.FullHash], from)
		delete(m.waiting[message.FullHash], from)
	}
}
