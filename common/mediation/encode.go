package mediation

import (
	"encoding/hex"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
	"p2pcdn/common/strict"
)

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
		if m.Offer.Len() > 0 {
			w = append(append(w, `,"offer":`...), m.Offer.json()...)
		}
		w = w.optionalID("sender_id", m.SenderID)
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
		w = w.hash(m.FullHash).ids(`,"peers":[`, m.Peers).optionalID("offered", m.Offered)
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
	case GetPeers:
		return 256 + len(m.Offer.json())
	case Peers:
		return 192 + (len(`"",`)+2*ident.PeerIDSize)*(len(m.Peers)+len(m.Gone))
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
