package mediation

import (
	"bytes"
	"testing"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

// TestManyMessagesAreWrittenAsTheOthers: what has a way of its own is written to the same bytes.
func TestManyMessagesAreWrittenAsTheOthers(t *testing.T) {
	hash, one, two := content.FullHash{1, 31: 0xff}, ident.PeerID{1}, ident.PeerID{19: 0xab}
	for _, message := range []Message{
		Ping{}, Pong{}, GetPeers{hash}, Announce{hash}, Announced{hash}, Finish{hash}, Peers{FullHash: hash}, Peers{FullHash: hash, Peers: []ident.PeerID{one}}, Peers{FullHash: hash, Peers: []ident.PeerID{one, two}},
		Peers{FullHash: hash, Gone: []ident.PeerID{one}}, Peers{FullHash: hash, Peers: []ident.PeerID{one}, Gone: []ident.PeerID{two, one}},
		Signal{FullHash: hash, PeerID: one}, Signal{FullHash: hash, PeerID: one, SenderID: two, SignalData: NewSignalData("{\"type\":\"offer\",\"sdp\":\"v=0\\r\\n\"}\x01\u2028")},
		Established{}, Established{Mediators: []string{"wss://a/mediation"}}, Established{ICEServers: []ICEServer{{URLs: []string{"stun:a"}}}},
		Established{ICEServers: []ICEServer{{URLs: []string{"turn:a", "turn:\"b"}, Username: "u\n", Credential: "c"}, {URLs: []string{"stun:b"}}}, Mediators: []string{"ws://a", "ws://b"}},
	} {
		if got, want := Encode(message), encode(message); !bytes.Equal(got, want) {
			t.Errorf("%s instead of %s", got, want)
		}
	}
}
