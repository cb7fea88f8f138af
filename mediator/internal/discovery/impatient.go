package discovery

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

const (
	// answerTimeout bounds the wait for an answer of the DHT on a connection that
	// stands: as long as a dial, for the same reasons. kad-dht waits ten seconds, twice, and
	// asks a node one question at a time. A mediator that died without a word is connected for
	// up to 45 seconds more; a lookup that met it took 20 s, and those behind it as long again.
	answerTimeout = dialTimeout

	// silentFor is how long a node that did not answer is not asked again: the
	// questions that wait behind that one fail at once, and so does kad-dht's second try. Then it may be
	// asked again: most of the dead are known to be by then, and the others were busy.
	silentFor = 10 * time.Second
)

var errSilent = errors.New("it has just not answered")

// impatientHost is the host that the DHT asks through.
type impatientHost struct {
	host.Host

	mu     sync.Mutex
	silent map[peer.ID]time.Time // until when each is not asked; guarded by mu; bounded by the nodes asked within silentFor
}

func impatient(h host.Host) *impatientHost {
	return &impatientHost{Host: h, silent: make(map[peer.ID]time.Time)}
}

// NewStream implements [host.Host].
func (h *impatientHost) NewStream(ctx context.Context, to peer.ID, protocols ...protocol.ID) (network.Stream, error) {
	h.mu.Lock()
	until, silent := h.silent[to]
	h.mu.Unlock()
	if silent && time.Now().Before(until) {
		return nil, errSilent
	}
	stream, err := h.Host.NewStream(ctx, to, protocols...)
	if err != nil {
		return nil, err
	}
	return &impatientStream{Stream: stream, host: h}, nil
}

// unanswered notes that a node did not answer.
func (h *impatientHost) unanswered(id peer.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	for other, until := range h.silent {
		if now.After(until) {
			delete(h.silent, other)
		}
	}
	h.silent[id] = now.Add(silentFor)
}

// impatientStream is a stream on which questions are asked one after the other: from
// each on, an answer must be there within answerTimeout.
type impatientStream struct {
	network.Stream
	host *impatientHost
}

// Write implements [network.MuxedStream].
func (s *impatientStream) Write(p []byte) (int, error) {
	_ = s.Stream.SetReadDeadline(time.Now().Add(answerTimeout))
	return s.Stream.Write(p)
}

// Read implements [network.MuxedStream].
func (s *impatientStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		s.host.unanswered(s.Conn().RemotePeer())
	}
	return n, err
}
