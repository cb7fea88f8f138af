package mediation

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/strict"
)

// TestMessagesAreWrittenAsByEncodingJSON: to the same bytes.
func TestMessagesAreWrittenAsByEncodingJSON(t *testing.T) {
	hash, one, two := content.FullHash{1, 31: 0xff}, ident.PeerID{1}, ident.PeerID{19: 0xab}
	mediator, err := ident.ParseMediatorID(strings.Repeat("Q", 46))
	if err != nil {
		t.Fatal(err)
	}
	replication := Replication{MediatorID: mediator}
	for _, message := range []Message{
		Handshake{PeerID: one}, Handshake{}, replication, &Error{}, &Error{Code: "x\"", Message: "a\xff\n"}, (&Error{Code: CodeOverloaded, Message: strings.Repeat("ä", MaxText)}).About(hash).With(one),
		&Error{Code: CodePeerNotFound, FullHash: &hash, PeerID: one, SenderID: two}, &Error{Code: CodeGoingAway, Mediators: []string{"ws://a", "ws://b"}},
		Ping{}, Pong{}, GetPeers{FullHash: hash}, GetPeers{FullHash: hash, Offer: NewSignalData("{\"sdp\":\"\\r\"}"), SenderID: one}, Announce{hash}, Announced{hash}, Finish{hash}, Peers{FullHash: hash}, Peers{FullHash: hash, Peers: []ident.PeerID{one}}, Peers{FullHash: hash, Peers: []ident.PeerID{one, two}},
		Peers{FullHash: hash, Peers: []ident.PeerID{one, two}, Offered: two}, Peers{FullHash: hash, Gone: []ident.PeerID{one}}, Peers{FullHash: hash, Peers: []ident.PeerID{one}, Gone: []ident.PeerID{two, one}},
		Signal{FullHash: hash, PeerID: one}, Signal{FullHash: hash, PeerID: one, SenderID: two, SignalData: NewSignalData("{\"type\":\"offer\",\"sdp\":\"v=0\\r\\n\"}\x01\u2028")},
		Established{}, Established{Mediators: []string{"wss://a/mediation"}}, Established{ICEServers: []ICEServer{{URLs: []string{"stun:a"}}}},
		Established{ICEServers: []ICEServer{{URLs: []string{"turn:a", "turn:\"b"}, Username: "u\n", Credential: "c"}, {URLs: []string{"stun:b"}}}, Mediators: []string{"ws://a", "ws://b"}},
	} {
		if got, want := Encode(message), encode(message); !bytes.Equal(got, want) {
			t.Errorf("%s instead of %s", got, want)
		}
	}
}

// envelope has every field of every message, in the order of the specification: what Encode writes.
type envelope struct {
	Type           string            `json:"type"`
	Code           *ErrorCode        `json:"code,omitempty"`
	Message        *string           `json:"message,omitempty"`
	FullHash       *content.FullHash `json:"full_hash,omitempty"`
	PeerID         string            `json:"peer_id,omitempty"`
	ConnectionType string            `json:"connection_type,omitempty"`
	SignalData     json.RawMessage   `json:"signal_data,omitempty"`
	Offer          json.RawMessage   `json:"offer,omitempty"`
	SenderID       string            `json:"sender_id,omitempty"`
	Peers          *[]ident.PeerID   `json:"peers,omitempty"`
	Offered        string            `json:"offered,omitempty"`
	Gone           []ident.PeerID    `json:"gone,omitempty"`
	ICEServers     []ICEServer       `json:"ice_servers,omitempty"`
	Mediators      []string          `json:"mediators,omitempty"`
}

// encode is Encode by way of encoding/json.
func encode(message Message) []byte {
	out := envelope{Type: message.Type()}
	switch m := message.(type) {
	case Handshake:
		out.PeerID, out.ConnectionType = m.PeerID.String(), connectionMediation
	case Replication:
		out.PeerID, out.ConnectionType = m.MediatorID.String(), connectionReplication
	case Established:
		out.ICEServers, out.Mediators = m.ICEServers, m.Mediators
	case GetPeers:
		out.FullHash, out.SenderID = &m.FullHash, optionalID(m.SenderID)
		if m.Offer.Len() > 0 {
			out.Offer = json.RawMessage(m.Offer.json())
		}
	case Peers:
		peers := m.Peers
		if peers == nil {
			peers = []ident.PeerID{}
		}
		out.FullHash, out.Peers, out.Gone = &m.FullHash, &peers, m.Gone
		out.Offered = optionalID(m.Offered)
	case Signal:
		out.FullHash, out.PeerID, out.SignalData = &m.FullHash, m.PeerID.String(), json.RawMessage(m.SignalData.json())
		out.SenderID = optionalID(m.SenderID)
	case Announce:
		out.FullHash = &m.FullHash
	case Announced:
		out.FullHash = &m.FullHash
	case Finish:
		out.FullHash = &m.FullHash
	case *Error:
		text := strict.Clip(m.Message, MaxText)
		out.Code, out.Message, out.FullHash = &m.Code, &text, m.FullHash
		out.PeerID, out.SenderID = optionalID(m.PeerID), optionalID(m.SenderID)
		out.Mediators = m.Mediators
	}
	return strict.Encode(out)
}

func optionalID(id ident.PeerID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}
