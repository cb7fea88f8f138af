package mediation

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"sync"

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
		if in.hashed {
			in.err = in.err.About(in.hash)
		}
		in.err.PeerID, in.err.SenderID = in.peer, in.sender
		return nil, in.err
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
		return GetPeers{FullHash: o.fullHash()}
	case typePeers:
		return Peers{FullHash: o.fullHash(), Peers: o.peerIDs("peers", required), Gone: o.peerIDs("gone", optional)}
	case typeSignal:
		return Signal{
			FullHash: o.fullHash(), PeerID: o.peerID(required),
			SignalData: o.signalData(), SenderID: o.senderID(),
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

// anyText reads a text of any length, to be used before the message is.
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

func (o *object) signalData() SignalData {
	raw, there := o.raw("signal_data", required)
	if !there {
		return SignalData{}
	}
	data, ok := quoted(raw)
	switch {
	case !ok:
		o.fail(wrongType("signal_data"))
	case data.Len() > MaxSignalData || len(data.quoted) > maxQuotedSignalData:
		o.fail(&Error{Code: CodeSignalTooBig, Message: fmt.Sprintf("signal_data has at most %d bytes, and %d in quotes", MaxSignalData, maxQuotedSignalData)})
		return SignalData{}
	}
	return data
}

// Encode returns the message as JSON in its shortest form. Decoding that gives
// the message again, if its lists and texts are within the limits; the text of an
// error, which is for people, is cut to MaxText.
func Encode(message Message) []byte { return Append(make([]byte, 0, 256), message) }

// Append appends what Encode returns.
func Append(out []byte, message Message) []byte {
	w := begin(out, message)
	switch m := message.(type) { // without the detour of encoding/json, and the stack that it takes
	case Handshake:
		w = w.id("peer_id", m.PeerID).text("connection_type", connectionMediation)
	case Replication:
		w = w.text("peer_id", m.MediatorID.String()).text("connection_type", connectionReplication)
	case GetPeers:
		w = w.hash(m.FullHash)
	case Announce:
		w = w.hash(m.FullHash)
	case Announced:
		w = w.hash(m.FullHash)
	case Finish:
		w = w.hash(m.FullHash)
	case Signal:
		w = w.hash(m.FullHash).id("peer_id", m.PeerID)
		w = append(append(w, `,"signal_data":`...), m.SignalData.json()...)
		w = w.optionalID("sender_id", m.SenderID)
	case Peers:
		w = w.hash(m.FullHash).ids(`,"peers":[`, m.Peers)
		if len(m.Gone) > 0 {
			w = w.ids(`,"gone":[`, m.Gone)
		}
	case Established:
		w = w.servers(m.ICEServers).texts(`,"mediators":[`, m.Mediators)
	case *Error:
		w = w.text("code", string(m.Code)).text("message", strict.Clip(m.Message, MaxText))
		if m.FullHash != nil {
			w = w.hash(*m.FullHash)
		}
		w = w.optionalID("peer_id", m.PeerID).optionalID("sender_id", m.SenderID).texts(`,"mediators":[`, m.Mediators)
	}
	return append(w, '}')
}

// Room is what a message counts for that waits to be written, in bytes: what Encode returns has at
// most so many, and not many fewer.
func Room(message Message) int {
	switch m := message.(type) {
	case Signal:
		return 256 + len(m.SignalData.json())
	case Peers:
		return 128 + (len(`"",`)+2*ident.PeerIDSize)*(len(m.Peers)+len(m.Gone))
	case Replication, Established, *Error: // few, and with texts that may be long
		return len(Encode(message))
	}
	return 160
}

// writer is a message that is being written.
type writer []byte

func begin(out []byte, message Message) writer {
	return append(append(append(writer(out), `{"type":"`...), message.Type()...), '"')
}

func (w writer) quoted(bytes []byte) writer {
	return append(hex.AppendEncode(append(w, '"'), bytes), '"')
}

func (w writer) hash(hash content.FullHash) writer {
	return append(w, `,"full_hash":`...).quoted(hash[:])
}

func (w writer) id(name string, id ident.PeerID) writer {
	return append(append(append(w, `,"`...), name...), `":`...).quoted(id[:])
}

func (w writer) optionalID(name string, id ident.PeerID) writer {
	if id.IsZero() {
		return w
	}
	return w.id(name, id)
}

func (w writer) text(name, text string) writer {
	return strict.AppendText(append(append(append(w, `,"`...), name...), `":`...), text)
}

func (w writer) ids(head string, ids []ident.PeerID) writer {
	w = append(w, head...)
	for i, id := range ids {
		if i > 0 {
			w = append(w, ',')
		}
		w = w.quoted(id[:])
	}
	return append(w, ']')
}

// texts appends a list of texts with what is before it, nothing where it is empty.
func (w writer) texts(head string, texts []string) writer {
	for i, text := range texts {
		if i == 0 {
			w = append(w, head...)
		} else {
			w = append(w, ',')
		}
		w = strict.AppendText(w, text)
	}
	if len(texts) > 0 {
		w = append(w, ']')
	}
	return w
}

func (w writer) servers(servers []ICEServer) writer {
	for i, server := range servers {
		if i == 0 {
			w = append(w, `,"ice_servers":[{`...)
		} else {
			w = append(w, `,{`...)
		}
		w = w.texts(`"urls":[`, server.URLs)
		if server.Username != "" {
			w = w.text("username", server.Username)
		}
		if server.Credential != "" {
			w = w.text("credential", server.Credential)
		}
		w = append(w, '}')
	}
	if len(servers) > 0 {
		w = append(w, ']')
	}
	return w
}

// buffers are those of messages between mediators that are being written or read, mostly: a
// message that is longer has one of its own.
var buffers = sync.Pool{New: func() any { return new([4 << 10]byte) }}

// lengthSize is the size of the length before a message between mediators, in bytes.
const lengthSize = 4

// WriteTo writes the message to a stream between mediators, in one write.
func WriteTo(w io.Writer, message Message) error {
	buffer := buffers.Get().(*[4 << 10]byte)
	defer buffers.Put(buffer)
	framed := Append(buffer[:lengthSize], message)
	length := len(framed) - lengthSize
	if length > MaxMessageSize {
		return tooBig(length)
	}
	binary.BigEndian.PutUint32(framed, uint32(length))
	if _, err := w.Write(framed); err != nil {
		return fmt.Errorf("writing a message of %d bytes: %w", length, err)
	}
	return nil
}

// ReadFrom reads one message from a stream between mediators. io.EOF says that
// the stream ended between messages; within one it is io.ErrUnexpectedEOF. An [*Error] says that the message was
// wrong: unless its code is [CodeMessageTooBig], the next one can be read.
// Nothing is allocated for a length over MaxMessageSize.
func ReadFrom(r io.Reader) (Message, error) {
	buffer := buffers.Get().(*[4 << 10]byte)
	defer buffers.Put(buffer)
	if _, err := io.ReadFull(r, buffer[:lengthSize]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("reading a message's length: %w", err)
	}
	length := binary.BigEndian.Uint32(buffer[:])
	if length > MaxMessageSize {
		return nil, tooBig(int(length))
	}
	text := buffer[:min(int(length), len(buffer))]
	if int(length) > len(buffer) {
		text = make([]byte, length)
	}
	if _, err := io.ReadFull(r, text); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // the length was there
		}
		return nil, fmt.Errorf("reading a message of %d bytes: %w", length, err)
	}
	return Decode(text)
}

// Whole reports whether all of a message is in the reader's buffer, so that ReadFrom need not wait.
func Whole(r *bufio.Reader) bool {
	head, err := r.Peek(min(lengthSize, r.Buffered()))
	return err == nil && len(head) == lengthSize && uint64(r.Buffered()) >= lengthSize+uint64(binary.BigEndian.Uint32(head))
}
