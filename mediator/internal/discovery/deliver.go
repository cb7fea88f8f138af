package discovery

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"

	pb "github.com/libp2p/go-libp2p-kad-dht/pb"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"
)

// deliver sends a node the records of all entries on one stream of Kademlia's
// own protocol, and asks for the last one there. The node handles the messages
// of a stream one after the other, and kad-dht resets the stream where it does
// not keep a record: the answer proves that it keeps them all. Without one it may
// have kept some. sent says that it may have any.
func (d *Discovery) deliver(ctx context.Context, node peer.ID, entries []*entry) (sent bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	if err := d.raw.Connect(ctx, peer.AddrInfo{ID: node}); err != nil {
		if ctx.Err() == nil {
			d.dht.RoutingTable().RemovePeer(node) // as a lookup that meets it does
		}
		return false, fmt.Errorf("connecting: %w", err)
	}
	if protocols, err := d.raw.Peerstore().SupportsProtocols(node, WithdrawProtocol); err != nil || len(protocols) == 0 {
		return false, errNotTaken
	}
	text, err := appendRecords(nil, entries, d.info())
	if err != nil {
		return false, err
	}
	stream, err := d.raw.NewStream(ctx, node, kadProtocol)
	if err != nil {
		return false, fmt.Errorf("opening a stream: %w", err)
	}
	defer func() {
		if err == nil {
			err = stream.Close()
		}
		if err != nil {
			_ = stream.Reset()
		}
	}()
	// A stream knows no context.
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	if _, err := stream.Write(text); err != nil {
		return true, fmt.Errorf("sending records: %w", err)
	}
	answer, err := readMessage(bufio.NewReader(stream))
	if err != nil {
		return true, fmt.Errorf("asking for a record: %w", err)
	}
	for _, provider := range answer.GetProviderPeers() {
		if peer.ID(provider.GetId()) == d.self {
			return true, nil
		}
	}
	return true, errNotTaken
}

// appendRecords encodes one ADD_PROVIDER for each entry, and a GET_PROVIDERS
// for the last one.
func appendRecords(out []byte, entries []*entry, self peer.AddrInfo) ([]byte, error) {
	providers := pb.RawPeerInfosToPBPeers([]peer.AddrInfo{self})
	var err error
	for _, e := range entries {
		message := pb.NewMessage(pb.Message_ADD_PROVIDER, multihashOf(e.hash), 0)
		message.ProviderPeers = providers
		if out, err = appendMessage(out, message); err != nil {
			return nil, err
		}
	}
	return appendMessage(out, pb.NewMessage(pb.Message_GET_PROVIDERS, multihashOf(entries[len(entries)-1].hash), 0))
}

// appendMessage encodes a message of Kademlia: its length as a varint, and protobuf.
func appendMessage(out []byte, message *pb.Message) ([]byte, error) {
	out = binary.AppendUvarint(out, uint64(proto.Size(message)))
	out, err := proto.MarshalOptions{}.MarshalAppend(out, message)
	if err != nil {
		return nil, fmt.Errorf("encoding a message of the DHT: %w", err)
	}
	return out, nil
}

// readMessage reads one message of at most network.MessageSizeMax bytes, which
// is kad-dht's own limit.
func readMessage(r *bufio.Reader) (*pb.Message, error) {
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, err
	}
	if size > network.MessageSizeMax {
		return nil, fmt.Errorf("a message of the DHT of %d bytes", size)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, err
	}
	message := new(pb.Message)
	if err := proto.Unmarshal(text, message); err != nil {
		return nil, fmt.Errorf("decoding a message of the DHT: %w", err)
	}
	return message, nil
}
