package mediation

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
)

// Decode parses one message. It accepts what the specification names and
// nothing else; every failure is an [*Error] that can be sent back, and names the
// content or the peer it is about where they could be read.
func Decode(text []byte) (Message, error) {
	if len(text) > MaxMessageSize {
		return nil, &Error{Code: CodeMessageTooBig, Message: fmt.Sprintf("a message has at most %d bytes, not %d", MaxMessageSize, len(text))}
	}
	if !utf8.Valid(text) {
		return nil, bad("a message is UTF-8 text")
	}
	var in object
	if err := json.Unmarshal(text, &in.fields); err != nil || in.fields == nil {
		return nil, bad("a message is one JSON object")
	}
	message := in.message()
	if in.err != nil {
		return nil, in.err
	}
	return message, nil
}

func bad(format string, args ...any) *Error {
	return &Error{Code: CodeBadMessage, Message: fmt.Sprintf(format, args...)}
}

// object reads fields out of a JSON object. A map, and not a struct, so that
// names must match to the letter. The first failure sticks.
type object struct {
	fields map[string]json.RawMessage
	err    error
}

func (o *object) message() Message {
	switch kind := o.text("type", required, MaxText); kind {
	case typeHandshake:
		switch connection := o.text("connection_type", required, MaxText); connection {
		case connectionMediation:
			return Handshake{PeerID: o.peerID("peer_id", required)}
		case connectionReplication:
			return Replication{MediatorID: o.mediatorID("peer_id")}
		default:
			o.fail(&Error{Code: CodeBadConnectionType, Message: "connection_type is \"mediation\" or \"replication\""})
			return nil
		}
	case typeEstablished:
		return Established{ICEServers: o.iceServers("ice_servers"), Mediators: o.urls("mediators")}
	case typeGetPeers:
		return GetPeers{FullHash: o.fullHash()}
	case typePeers:
		return Peers{FullHash: o.fullHash(), Peers: o.peerIDs("peers")}
	case typeSignal:
		signal := Signal{
			FullHash: o.fullHash(), PeerID: o.peerID("peer_id", required),
			SenderID: o.peerID("sender_id", optional),
		}
		signal.SignalData = o.signalData(signal)
		return signal
	case typeAnnounce:
		return Announce{FullHash: o.fullHash()}
	case typeAnnounced:
		return Announced{FullHash: o.fullHash()}
	case typeFinish:
		return Finish{FullHash: o.fullHash()}
	case typeError:
		message := &Error{
			Code: ErrorCode(o.text("code", required, MaxText)), Message: o.text("message", required, MaxText),
			PeerID: o.peerID("peer_id", optional), SenderID: o.peerID("sender_id", optional),
		}
		if o.has("full_hash") {
			hash := o.fullHash()
			message.FullHash = &hash
		}
		return message
	default:
		if o.err == nil {
			o.fail(&Error{Code: CodeUnknownType, Message: fmt.Sprintf("no message has the type %.40q", kind)})
		}
		return nil
	}
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

func (o *object) has(name string) bool {
	_, there := o.fields[name]
	return there
}

// read decodes a field; null counts as a wrong type.
func (o *object) read(name string, need need, into any) bool {
	raw, there := o.fields[name]
	if !there {
		if need == required {
			o.fail(bad("the message has no %s", name))
		}
		return false
	}
	if string(raw) == "null" || json.Unmarshal(raw, into) != nil {
		o.fail(bad("%s is of the wrong type", name))
		return false
	}
	return true
}

func (o *object) text(name string, need need, limit int) (text string) {
	if o.read(name, need, &text) && len(text) > limit {
		o.fail(bad("%s has at most %d bytes", name, limit))
		return ""
	}
	return text
}

func (o *object) fullHash() content.FullHash {
	var text string
	if !o.read("full_hash", required, &text) {
		return content.FullHash{}
	}
	hash, err := content.ParseFullHash(text)
	if err != nil {
		o.fail(&Error{Code: CodeBadFullHash, Message: "full_hash is 64 lower-case hex digits"})
	}
	return hash
}

func (o *object) peerID(name string, need need) ident.PeerID {
	var text string
	if !o.read(name, need, &text) {
		return ident.PeerID{}
	}
	id, err := ident.ParsePeerID(text)
	if err != nil {
		o.fail(&Error{Code: CodeBadPeerID, Message: name + " is 40 lower-case hex digits"})
	}
	return id
}

func (o *object) mediatorID(name string) ident.MediatorID {
	var text string
	if !o.read(name, required, &text) {
		return ident.MediatorID{}
	}
	id, err := ident.ParseMediatorID(text)
	if err != nil {
		o.fail(&Error{Code: CodeBadPeerID, Message: name + " of a mediator is a libp2p peer id"})
	}
	return id
}

func (o *object) peerIDs(name string) []ident.PeerID {
	var texts []*string
	if !o.read(name, required, &texts) {
		return nil
	}
	if len(texts) > MaxPeers {
		o.fail(bad("%s has at most %d entries", name, MaxPeers))
		return nil
	}
	ids := make([]ident.PeerID, 0, len(texts))
	for _, text := range texts {
		if text == nil {
			o.fail(bad("%s is of the wrong type", name))
			return nil
		}
		id, err := ident.ParsePeerID(*text)
		if err != nil {
			o.fail(&Error{Code: CodeBadPeerID, Message: "every entry of " + name + " is 40 lower-case hex digits"})
			return nil
		}
		ids = append(ids, id)
	}
	return ids
}

func (o *object) urls(name string) []string {
	var texts []*string
	if !o.read(name, optional, &texts) {
		return nil
	}
	return o.boundedTexts(name, texts)
}

func (o *object) boundedTexts(name string, texts []*string) []string {
	if len(texts) > MaxURLs {
		o.fail(bad("%s has at most %d entries", name, MaxURLs))
		return nil
	}
	var out []string // nil where there is none, so that an empty list and no list are one
	for _, text := range texts {
		if text == nil || len(*text) > MaxText {
			o.fail(bad("%s is a list of texts of at most %d bytes", name, MaxText))
			return nil
		}
		out = append(out, *text)
	}
	return out
}

func (o *object) iceServers(name string) []ICEServer {
	var list []map[string]json.RawMessage
	if !o.read(name, optional, &list) {
		return nil
	}
	if len(list) > MaxICEServers {
		o.fail(bad("%s has at most %d entries", name, MaxICEServers))
		return nil
	}
	var servers []ICEServer
	for _, fields := range list {
		entry := object{fields: fields}
		var urls []*string
		entry.read("urls", required, &urls)
		server := ICEServer{
			URLs:     entry.boundedTexts("urls", urls),
			Username: entry.text("username", optional, MaxText), Credential: entry.text("credential", optional, MaxText),
		}
		if entry.err != nil || len(server.URLs) == 0 {
			o.fail(bad("%s holds an entry that is no ICE server", name))
			return nil
		}
		servers = append(servers, server)
	}
	return servers
}

func (o *object) signalData(signal Signal) (data string) {
	if !o.read("signal_data", required, &data) {
		return ""
	}
	if len(data) > MaxSignalData {
		o.fail((&Error{Code: CodeSignalTooBig, Message: fmt.Sprintf("signal_data has at most %d bytes, not %d", MaxSignalData, len(data))}).
			About(signal.FullHash).With(signal.PeerID))
		return ""
	}
	return data
}

// envelope has every field of every message: what Encode writes.
type envelope struct {
	Type           string            `json:"type"`
	PeerID         string            `json:"peer_id,omitempty"`
	ConnectionType string            `json:"connection_type,omitempty"`
	ICEServers     []ICEServer       `json:"ice_servers,omitempty"`
	Mediators      []string          `json:"mediators,omitempty"`
	FullHash       *content.FullHash `json:"full_hash,omitempty"`
	Peers          *[]ident.PeerID   `json:"peers,omitempty"`
	SenderID       string            `json:"sender_id,omitempty"`
	SignalData     *string           `json:"signal_data,omitempty"`
	Code           *ErrorCode        `json:"code,omitempty"`
	Message        *string           `json:"message,omitempty"`
}

// Encode returns the message as JSON. Decoding that gives the message again.
func Encode(message Message) []byte {
	out := envelope{Type: message.Type()}
	switch m := message.(type) {
	case Handshake:
		out.PeerID, out.ConnectionType = m.PeerID.String(), connectionMediation
	case Replication:
		out.PeerID, out.ConnectionType = m.MediatorID.String(), connectionReplication
	case Established:
		out.ICEServers, out.Mediators = m.ICEServers, m.Mediators
	case GetPeers:
		out.FullHash = &m.FullHash
	case Peers:
		peers := m.Peers
		if peers == nil {
			peers = []ident.PeerID{}
		}
		out.FullHash, out.Peers = &m.FullHash, &peers
	case Signal:
		out.FullHash, out.PeerID, out.SignalData = &m.FullHash, m.PeerID.String(), &m.SignalData
		out.SenderID = optionalID(m.SenderID)
	case Announce:
		out.FullHash = &m.FullHash
	case Announced:
		out.FullHash = &m.FullHash
	case Finish:
		out.FullHash = &m.FullHash
	case *Error:
		out.Code, out.Message, out.FullHash = &m.Code, &m.Message, m.FullHash
		out.PeerID, out.SenderID = optionalID(m.PeerID), optionalID(m.SenderID)
	}
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(out); err != nil { // every field is a string or a list of strings
		panic(err)
	}
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n"))
}

func optionalID(id ident.PeerID) string {
	if id.IsZero() {
		return ""
	}
	return id.String()
}

// WriteTo writes the message to a stream between mediators, in one write.
func WriteTo(w io.Writer, message Message) error {
	text := Encode(message)
	if len(text) > MaxMessageSize {
		return &Error{Code: CodeMessageTooBig, Message: fmt.Sprintf("a message has at most %d bytes, not %d", MaxMessageSize, len(text))}
	}
	framed := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(text)), uint32(len(text)))
	_, err := w.Write(append(framed, text...))
	return err
}

// ReadFrom reads one message from a stream between mediators. io.EOF says that
// the stream ended between messages. An [*Error] says that the message was
// wrong: unless its code is [CodeMessageTooBig], the next one can be read.
// Nothing is allocated for a length over MaxMessageSize.
func ReadFrom(r io.Reader) (Message, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("reading a message's length: %w", err)
		}
		return nil, err
	}
	length := binary.BigEndian.Uint32(head[:])
	if length > MaxMessageSize {
		return nil, &Error{Code: CodeMessageTooBig, Message: fmt.Sprintf("a message has at most %d bytes, not %d", MaxMessageSize, length)}
	}
	text := make([]byte, length)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, fmt.Errorf("reading a message of %d bytes: %w", length, err)
	}
	return Decode(text)
}
