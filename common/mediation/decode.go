package mediation

import (
	"encoding/json"
	"fmt"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/strict"
)

// Decode parses one message. It accepts what the specification names and
// nothing else; every failure is an [*Error] that can be sent back, and names the
// content and the peer it is about where they were read before it. The text is not kept.
func Decode(text []byte) (Message, error) {
	if len(text) > MaxMessageSize {
		return nil, tooBig(len(text))
	}
	fields, ok := strict.Object(text)
	if !ok {
		return nil, bad("a message is one JSON object in UTF-8")
	}
	in := object{fields: fields}
	message := in.message()
	if in.err != nil {
		failure := *in.err // a copy: with in.err itself all of in would leave the stack
		if in.hashed {
			hash := in.hash
			failure.FullHash = &hash
		}
		failure.PeerID, failure.SenderID = in.peer, in.sender
		return nil, &failure
	}
	return message, nil
}

func bad(format string, args ...any) *Error {
	return &Error{Code: CodeBadMessage, Message: fmt.Sprintf(format, args...)}
}

func tooBig(length int) *Error {
	return &Error{Code: CodeMessageTooBig, Message: fmt.Sprintf("a message has at most %d bytes, not %d", MaxMessageSize, length)}
}

// object reads the fields of a JSON object, in the order in which they are
// asked for. The first failure sticks, and nothing is read after it.
type object struct {
	fields       strict.Fields
	err          *Error
	hash         content.FullHash // full_hash, where hashed says that it was read
	hashed       bool
	peer, sender ident.PeerID // likewise peer_id and sender_id, zero before
}

// message reads every field of a type in the order of the specification.
func (o *object) message() Message {
	switch kind := o.bytes("type", required, MaxText); string(kind) {
	case typeHandshake:
		return o.handshake()
	case typeEstablished:
		return Established{ICEServers: o.iceServers("ice_servers"), Mediators: o.texts("mediators", optional)}
	case typeGetPeers:
		return GetPeers{FullHash: o.fullHash(), Offer: o.signalData("offer", optional), SenderID: o.senderID()}
	case typePeers:
		return Peers{
			FullHash: o.fullHash(), Peers: o.peerIDs("peers", required),
			Offered: o.id("offered", optional), Gone: o.peerIDs("gone", optional),
		}
	case typeSignal:
		return Signal{
			FullHash: o.fullHash(), PeerID: o.peerID(required),
			SignalData: o.signalData("signal_data", required), SenderID: o.senderID(),
		}
	case typeAnnounce:
		return Announce{FullHash: o.fullHash()}
	case typeAnnounced:
		return Announced{FullHash: o.fullHash()}
	case typeFinish:
		return Finish{FullHash: o.fullHash()}
	case typePing:
		return Ping{}
	case typePong:
		return Pong{}
	case typeError:
		return o.errorMessage()
	default:
		o.fail(&Error{Code: CodeUnknownType, Message: fmt.Sprintf("no message has the type %.40q", kind)})
		return nil
	}
}

func (o *object) handshake() Message {
	switch string(o.bytes("connection_type", required, MaxText)) {
	case connectionMediation:
		return Handshake{PeerID: o.peerID(required)}
	case connectionReplication:
		return Replication{MediatorID: o.mediatorID("peer_id")}
	default:
		o.fail(&Error{Code: CodeBadConnectionType, Message: "connection_type is \"mediation\" or \"replication\""})
		return nil
	}
}

func (o *object) errorMessage() Message {
	message := &Error{Code: ErrorCode(o.text("code", required, MaxText)), Message: o.text("message", required, MaxText)}
	if _, there := o.fields.Get("full_hash"); there {
		hash := o.fullHash()
		message.FullHash = &hash
	}
	message.PeerID, message.SenderID = o.peerID(optional), o.senderID()
	message.Mediators = o.texts("mediators", optional)
	return message
}

type need bool

const (
	required need = true
	optional need = false
)

func (o *object) fail(err *Error) {
	if o.err == nil {
		o.err = err
	}
}

// raw looks a field up. It returns false where there is nothing to go on with.
func (o *object) raw(name string, need need) (raw json.RawMessage, there bool) {
	if o.err != nil {
		return nil, false
	}
	raw, there = o.fields.Get(name)
	if !there && need == required {
		o.fail(bad("the message has no %s", name))
	}
	return raw, there
}

func wrongType(name string) *Error { return bad("%s is of the wrong type", name) }

// anyText reads a text of any length. It may be a part of the message's text: what is kept of it is copied.
func (o *object) anyText(name string, need need) (text []byte, there bool) {
	raw, there := o.raw(name, need)
	if !there {
		return nil, false
	}
	text, ok := strict.Bytes(raw)
	if !ok {
		o.fail(wrongType(name))
	}
	return text, ok
}

// bytes is anyText of at most limit bytes.
func (o *object) bytes(name string, need need, limit int) []byte {
	text, _ := o.anyText(name, need)
	if len(text) > limit {
		o.fail(bad("%s has at most %d bytes", name, limit))
		return nil
	}
	return text
}

func (o *object) text(name string, need need, limit int) string {
	return string(o.bytes(name, need, limit))
}

// list reads a list of at most limit entries.
func (o *object) list(name string, need need, limit int) []json.RawMessage {
	raw, there := o.raw(name, need)
	if !there {
		return nil
	}
	items, ok := strict.List(raw)
	switch {
	case !ok:
		o.fail(wrongType(name))
	case len(items) > limit:
		o.fail(bad("%s has at most %d entries", name, limit))
		return nil
	}
	return items
}

func (o *object) fullHash() content.FullHash {
	text, there := o.anyText("full_hash", required)
	if !there {
		return content.FullHash{}
	}
	if !strict.Hex(o.hash[:], text) {
		o.fail(&Error{Code: CodeBadFullHash, Message: "full_hash is 64 lower-case hex digits"})
		return content.FullHash{}
	}
	o.hashed = true
	return o.hash
}

func (o *object) peerID(need need) ident.PeerID {
	o.peer = o.id("peer_id", need)
	return o.peer
}

func (o *object) senderID() ident.PeerID {
	o.sender = o.id("sender_id", optional)
	return o.sender
}

func (o *object) id(name string, need need) ident.PeerID {
	text, there := o.anyText(name, need)
	if !there {
		return ident.PeerID{}
	}
	var id ident.PeerID
	if !strict.Hex(id[:], text) {
		o.fail(&Error{Code: CodeBadPeerID, Message: name + " is 40 lower-case hex digits"})
		return ident.PeerID{}
	}
	return id
}

func (o *object) mediatorID(name string) ident.MediatorID {
	text, there := o.anyText(name, required)
	if !there {
		return ident.MediatorID{}
	}
	id, err := ident.ParseMediatorID(string(text))
	if err != nil {
		o.fail(&Error{Code: CodeBadPeerID, Message: name + " of a mediator is a libp2p peer id"})
	}
	return id
}

// peerIDs reads a list of them. An optional one that is empty says no more than none, and is nil.
func (o *object) peerIDs(name string, need need) (ids []ident.PeerID) {
	items := o.list(name, need, MaxPeers)
	if need == required {
		ids = make([]ident.PeerID, 0, len(items))
	}
	for _, item := range items {
		text, ok := strict.Bytes(item)
		if !ok {
			o.fail(bad("%s is a list of texts", name))
			return nil
		}
		var id ident.PeerID
		if !strict.Hex(id[:], text) {
			o.fail(&Error{Code: CodeBadPeerID, Message: "every entry of " + name + " is 40 lower-case hex digits"})
			return nil
		}
		ids = append(ids, id)
	}
	return ids
}

// texts reads a list of URLs, nil where there is none: an empty list and no
// list are one.
func (o *object) texts(name string, need need) (texts []string) {
	for _, item := range o.list(name, need, MaxURLs) {
		text, ok := strict.Text(item)
		if !ok || len(text) > MaxText {
			o.fail(bad("%s is a list of texts of at most %d bytes", name, MaxText))
			return nil
		}
		texts = append(texts, text)
	}
	return texts
}

func (o *object) iceServers(name string) (servers []ICEServer) {
	for _, item := range o.list(name, optional, MaxICEServers) {
		fields, ok := strict.Object(item)
		entry := object{fields: fields}
		server := ICEServer{
			URLs:     entry.texts("urls", required),
			Username: entry.text("username", optional, MaxText), Credential: entry.text("credential", optional, MaxText),
		}
		if !ok || entry.err != nil || len(server.URLs) == 0 {
			o.fail(bad("%s holds an entry that is no ICE server", name))
			return nil
		}
		servers = append(servers, server)
	}
	return servers
}

func (o *object) signalData(name string, need need) SignalData {
	raw, there := o.raw(name, need)
	if !there {
		return SignalData{}
	}
	data, ok := quoted(raw)
	switch {
	case !ok:
		o.fail(wrongType(name))
	case data.Len() > MaxSignalData || len(data.quoted) > maxQuotedSignalData:
		o.fail(&Error{Code: CodeSignalTooBig, Message: fmt.Sprintf("%s has at most %d bytes, and %d in quotes", name, MaxSignalData, maxQuotedSignalData)})
		return SignalData{}
	}
	return data
}
