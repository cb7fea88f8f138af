package discovery

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"p2pcdn/common/content"
)

// WithdrawProtocol is the libp2p protocol of withdrawals; the package comment
// specifies it.
const WithdrawProtocol = "/p2pcdn/withdraw/1.0.0"

const (
	// maxWithdrawal bounds the hashes of one message: 16 KiB, what a stream
	// delivers in one go.
	maxWithdrawal = 512

	// withdrawTimeout bounds the wait for one message or one answer. A dial, a
	// handshake and a round trip take a second at the other end of the world.
	withdrawTimeout = 5 * time.Second

	// servePause bounds a provider's pause between two messages.
	servePause = 10 * time.Second

	// maxServed bounds the withdrawal streams that are served at a time; each is
	// a goroutine with 16 KiB. More are reset, and come again.
	maxServed = 256

	// maxWithdrawing bounds the withdrawal streams that this node has open at a
	// time: all the holders of one hash, and some.
	maxWithdrawing = 32

	withdrawn = 0x01
)

var errBadWithdrawal = errors.New("not a withdrawal")

// appendWithdrawal encodes a withdrawal of 1 to maxWithdrawal hashes.
func appendWithdrawal(out []byte, hashes []content.FullHash) []byte {
	out = binary.BigEndian.AppendUint16(out, uint16(len(hashes)))
	for _, hash := range hashes {
		out = append(out, hash[:]...)
	}
	return out
}

// readWithdrawal reads one withdrawal. io.EOF says that there are no more.
func readWithdrawal(r io.Reader) ([]content.FullHash, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, errBadWithdrawal
		}
		return nil, err
	}
	count := binary.BigEndian.Uint16(head[:])
	if count == 0 || count > maxWithdrawal {
		return nil, errBadWithdrawal
	}
	body := make([]byte, int(count)*content.HashSize)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, fmt.Errorf("%w: %w", errBadWithdrawal, err)
	}
	hashes := make([]content.FullHash, count)
	for i := range hashes {
		hashes[i] = content.FullHash(body[i*content.HashSize:])
	}
	return hashes, nil
}

// serveWithdrawals is the holder's side: it runs in the goroutine that libp2p
// made for the stream.
func (d *Discovery) serveWithdrawals(stream network.Stream) {
	_, done, err := d.begin(context.Background())
	if err != nil {
		_ = stream.Reset()
		return
	}
	defer done()
	select {
	case d.serving <- struct{}{}:
		defer func() { <-d.serving }()
	default:
		_ = stream.Reset()
		return
	}
	provider := stream.Conn().RemotePeer()
	for {
		_ = stream.SetDeadline(time.Now().Add(servePause))
		hashes, err := readWithdrawal(stream)
		if errors.Is(err, io.EOF) && !errors.Is(err, errBadWithdrawal) {
			_ = stream.Close()
			return
		}
		if err != nil {
			_ = stream.Reset()
			return
		}
		for _, hash := range hashes {
			d.records.remove(hash, provider)
		}
		if _, err := stream.Write([]byte{withdrawn}); err != nil {
			_ = stream.Reset()
			return
		}
	}
}

// withdrawer is the provider's side. Withdrawals for one holder that are asked
// for at about the same time travel in one message.
type withdrawer struct {
	host  host.Host
	ctx   context.Context // ends with the Discovery, after the last withdrawals
	slots chan struct{}   // one token per stream
	wg    sync.WaitGroup  // the goroutines of run

	mu    sync.Mutex
	boxes map[peer.ID][]withdrawal // guarded by mu; a box exists while its run does
}

type withdrawal struct {
	hash content.FullHash
	done chan<- error // has room for the one answer
}

func newWithdrawer(ctx context.Context, host host.Host) *withdrawer {
	return &withdrawer{
		host: host, ctx: ctx,
		slots: make(chan struct{}, maxWithdrawing), boxes: make(map[peer.ID][]withdrawal),
	}
}

// withdraw tells one holder to drop the record of one hash and waits for its
// answer. When ctx ends first the message may still be sent.
func (w *withdrawer) withdraw(ctx context.Context, holder peer.ID, hash content.FullHash) error {
	done := make(chan error, 1)
	w.mu.Lock()
	box, running := w.boxes[holder]
	w.boxes[holder] = append(box, withdrawal{hash, done})
	if !running {
		w.wg.Go(func() { w.run(holder) })
	}
	w.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run empties the box of one holder.
func (w *withdrawer) run(holder peer.ID) {
	for {
		var err error
		select {
		case w.slots <- struct{}{}:
		case <-w.ctx.Done():
			err = w.ctx.Err()
		}
		w.mu.Lock()
		box := w.boxes[holder]
		if len(box) == 0 {
			delete(w.boxes, holder)
			w.mu.Unlock()
			if err == nil {
				<-w.slots
			}
			return
		}
		w.boxes[holder] = nil
		w.mu.Unlock()
		if err == nil {
			hashes := make([]content.FullHash, len(box))
			for i, one := range box {
				hashes[i] = one.hash
			}
			err = w.send(w.ctx, holder, hashes)
			<-w.slots
		}
		for _, one := range box {
			one.done <- err
		}
	}
}

// send withdraws any number of hashes from one holder, on one stream.
func (w *withdrawer) send(ctx context.Context, holder peer.ID, hashes []content.FullHash) error {
	open, cancel := context.WithTimeout(ctx, withdrawTimeout)
	defer cancel()
	stream, err := w.host.NewStream(open, holder, WithdrawProtocol)
	if err != nil {
		return fmt.Errorf("opening a withdrawal to %s: %w", holder, err)
	}
	// A read on a stream knows no context.
	stop := context.AfterFunc(ctx, func() { _ = stream.Reset() })
	defer stop()
	for len(hashes) > 0 {
		some := hashes[:min(len(hashes), maxWithdrawal)]
		hashes = hashes[len(some):]
		_ = stream.SetDeadline(time.Now().Add(withdrawTimeout))
		if _, err := stream.Write(appendWithdrawal(nil, some)); err != nil {
			_ = stream.Reset()
			return fmt.Errorf("withdrawing from %s: %w", holder, err)
		}
		var answer [1]byte
		if _, err := io.ReadFull(stream, answer[:]); err != nil {
			_ = stream.Reset()
			return fmt.Errorf("withdrawing from %s: no answer: %w", holder, err)
		}
		if answer[0] != withdrawn {
			_ = stream.Reset()
			return fmt.Errorf("withdrawing from %s: %w: the answer 0x%02x", holder, errBadWithdrawal, answer[0])
		}
	}
	_ = stream.Close()
	return nil
}
