package mediation

import (
	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

// Message is one of the message types of this file. They are values: a message
// is never changed once it is made.
type Message interface {
	// Type is the message's "type".
	Type() string
}

// Handshake opens a peer's connection: connection_type "mediation".
type Handshake struct {
	PeerID ident.PeerID
}

// Replication opens a stream between mediators: a handshake with
// connection_type "replication".
type Replication struct {
	MediatorID ident.MediatorID
}

// Established answers a handshake.
type Established struct {
	ICEServers []ICEServer // for RTCPeerConnection; may be empty
	Mediators  []string    // WebSocket URLs of other mediators; may be empty
}

// ICEServer is an RTCIceServer dictionary (W3C WebRTC, section 4.2.2).
type ICEServer struct {
	URLs       []string `json:"urls"` // at least one
	Username   string   `json:"username,omitempty"`
	Credential string   `json:"credential,omitempty"`
}

// GetPeers asks for the peers that seed a content.
type GetPeers struct {
	FullHash content.FullHash
	Offer    SignalData   // for one of them, from the peer that asks; empty: none
	SenderID ident.PeerID // between mediators: the peer whose offer it is; else zero
}

// Peers names peers that seed a content; none: the search ended with nobody.
type Peers struct {
	FullHash content.FullHash
	Peers    []ident.PeerID
	Offered  ident.PeerID   // the one of them that was handed the offer of the get_peers; may be zero
	Gone     []ident.PeerID // between mediators: peers that were named and seed it no more; may be empty
}

// Signal carries SignalData from one peer to another.
type Signal struct {
	FullHash   content.FullHash
	PeerID     ident.PeerID // the receiver; towards a peer: the sender
	SenderID   ident.PeerID // between mediators: the sender; else zero
	SignalData SignalData
}

// Announce says that the peer seeds a content.
type Announce struct {
	FullHash content.FullHash
}

// Announced says that the announce can be found by every mediator.
type Announced struct {
	FullHash content.FullHash
}

// Finish ends a peer's announce of a content and its interest in it.
type Finish struct {
	FullHash content.FullHash
}

// Ping asks whether the mediator is there.
type Ping struct{}

// Pong answers a ping.
type Pong struct{}

// Error says what was wrong. It is both a message and a Go error: what Decode
// returns can be sent back as it is.
type Error struct {
	Code     ErrorCode
	Message  string            // for people; may change
	FullHash *content.FullHash // what it is about; may be nil
	PeerID   ident.PeerID      // whom it is about; may be zero
	SenderID ident.PeerID      // between mediators: the peer whose signal it answers; may be zero

	// Mediators are WebSocket URLs of others, with CodeGoingAway; may be empty.
	Mediators []string
}

// Type returns "handshake".
func (Handshake) Type() string { return typeHandshake }

// Type returns "handshake".
func (Replication) Type() string { return typeHandshake }

// Type returns "established".
func (Established) Type() string { return typeEstablished }

// Type returns "get_peers".
func (GetPeers) Type() string { return typeGetPeers }

// Type returns "peers".
func (Peers) Type() string { return typePeers }

// Type returns "signal".
func (Signal) Type() string { return typeSignal }

// Type returns "announce".
func (Announce) Type() string { return typeAnnounce }

// Type returns "announced".
func (Announced) Type() string { return typeAnnounced }

// Type returns "finish".
func (Finish) Type() string { return typeFinish }

// Type returns "ping".
func (Ping) Type() string { return typePing }

// Type returns "pong".
func (Pong) Type() string { return typePong }

// Type returns "error".
func (*Error) Type() string { return typeError }

// Error returns the message, with the code behind it.
func (e *Error) Error() string { return e.Message + " (" + string(e.Code) + ")" }

// Is makes errors.Is(err, &Error{Code: c}) true for every error of class c.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

// About returns a copy of the error that names the content it is about.
func (e *Error) About(hash content.FullHash) *Error {
	about := *e
	about.FullHash = &hash
	return &about
}

// With returns a copy of the error that names the peer it is about.
func (e *Error) With(peer ident.PeerID) *Error {
	with := *e
	with.PeerID = peer
	return &with
}

const (
	typeHandshake   = "handshake"
	typeEstablished = "established"
	typeGetPeers    = "get_peers"
	typePeers       = "peers"
	typeSignal      = "signal"
	typeAnnounce    = "announce"
	typeAnnounced   = "announced"
	typeFinish      = "finish"
	typePing        = "ping"
	typePong        = "pong"
	typeError       = "error"

	connectionMediation   = "mediation"
	connectionReplication = "replication"
)
