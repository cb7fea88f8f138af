package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"p2pcdn/common/wire"
)

// upload is a block that a peer asked for.
type upload struct {
	share  *Share
	number wire.Number // ours, of the share
	block  wire.Block
}

// uploads are the blocks that a peer waits for, in the order in which it asked.
// The engine fills the queue, the link's uploader empties it.
type uploads struct {
	mu     sync.Mutex
	more   sync.Cond // the queue is not empty, or closed
	queue  []upload  // guarded by mu; at most wire.MaxRequests
	closed bool      // guarded by mu
}

func newUploads() *uploads {
	u := &uploads{}
	u.more.L = &u.mu
	return u
}

// add reports whether there was room.
func (u *uploads) add(job upload) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed || len(u.queue) >= wire.MaxRequests {
		return false
	}
	u.queue = append(u.queue, job)
	u.more.Signal()
	return true
}

// remove reports whether the block still waited.
func (u *uploads) remove(job upload) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.Index(u.queue, job)
	if i < 0 {
		return false
	}
	u.queue = slices.Delete(u.queue, i, i+1)
	return true
}

// drop takes out everything of a share.
func (u *uploads) drop(share *Share) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.queue = slices.DeleteFunc(u.queue, func(job upload) bool { return job.share == share })
}

func (u *uploads) close() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.closed, u.queue = true, nil
	u.more.Broadcast()
}

// next waits for the next block, and takes it; false once closed.
func (u *uploads) next() (upload, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.queue) == 0 && !u.closed {
		u.more.Wait()
	}
	if u.closed {
		return upload{}, false
	}
	job := u.queue[0]
	u.queue = slices.Delete(u.queue, 0, 1)
	return job, true
}

// waiting reports whether a block is waited for.
func (u *uploads) waiting() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.queue) > 0
}

// wait waits until there is a block, without taking it: while the channel is
// full it can still be cancelled.
func (u *uploads) wait() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	for len(u.queue) == 0 && !u.closed {
		u.more.Wait()
	}
	return !u.closed
}

// turn is how many bytes a peer is sent before the next one has its turn: few enough that nobody
// waits for long, and enough that the turns do not cost.
const turn = 256 << 10

// uplink shares what we send between the peers. Whoever has something to send waits for a
// slot, sends a turn's worth, and waits behind the others again; so peers get equal
// shares, whatever they ask for. It is safe to be used by all uploaders.
type uplink struct {
	slots   chan struct{} // holds a token for each slot in use; those who wait are served in order
	all     *rate.Limiter // nil: no limit
	perPeer int64         // bytes/s; 0: no limit
}

func newUplink(config Config) uplink {
	return uplink{make(chan struct{}, config.UploadSlots), newLimiter(config.UploadLimit), config.PeerUploadLimit}
}

// newLimiter returns a limiter of so many bytes per second, nil for 0. What was not used
// for a tenth of a second is lost; a block goes through in any case.
func newLimiter(bytesPerSecond int64) *rate.Limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(wire.MaxBlock, bytesPerSecond/10)))
}

// allow is for [swarm.Config]: whether so many bytes may be asked for now.
func (c *Client) allow(now time.Time, bytes int) time.Duration {
	if c.rate == nil {
		return 0
	}
	reservation := c.rate.ReserveN(now, bytes)
	wait := reservation.DelayFrom(now)
	if wait > 0 {
		reservation.CancelAt(now)
	}
	return wait
}

// wait waits until the limiters let so many bytes through.
func wait(ctx context.Context, bytes int, limiters ...*rate.Limiter) error {
	for _, limiter := range limiters {
		if limiter != nil {
			if err := limiter.WaitN(ctx, bytes); err != nil {
				return err
			}
		}
	}
	return nil
}

// upload serves the peer until the link is closed.
func (l *link) upload() {
	defer l.client.post(func() { l.client.jobs-- })
	up := &l.client.uplink
	u := uploader{
		link: l, own: newLimiter(up.perPeer), told: make(map[*Share]bool),
		data: make([]byte, wire.MaxBlock), frame: make([]byte, 0, wire.MaxFrame),
	}
	// Not while it has a slot: a peer that takes nothing must not keep others waiting.
	for l.uploads.wait() && l.conn.Room() {
		select {
		case up.slots <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		more := u.turn(up.all)
		<-up.slots
		if !more {
			return
		}
	}
}

// uploader is what the goroutine that serves a peer owns.
type uploader struct {
	link  *link
	own   *rate.Limiter   // of this peer
	told  map[*Share]bool // of which shares the engine knows that this peer is served
	data  []byte
	frame []byte
}

// turn sends what is waited for, up to a turn's worth; false once the link is closed.
func (u *uploader) turn(all *rate.Limiter) bool {
	for sent := 0; sent < turn && u.link.uploads.waiting(); {
		job, more := u.link.uploads.next()
		if !more || wait(u.link.ctx, int(job.block.Length), all, u.own) != nil {
			return false
		}
		u.send(job)
		sent += int(job.block.Length)
	}
	return true
}

// send answers a request.
func (u *uploader) send(job upload) {
	l, block := u.link, u.data[:job.block.Length]
	if err := job.share.read(job.block, block); err != nil {
		l.sendFrame(wire.Append(u.frame[:0], wire.Reject{Number: job.number, Block: job.block}))
		l.client.post(func() { job.share.unreadable(err) })
		return
	}
	l.sendFrame(wire.Append(u.frame[:0], wire.Piece{Number: job.number, Piece: job.block.Piece, Begin: job.block.Begin, Data: block}))
	job.share.uploaded.Add(int64(len(block)))
	if !u.told[job.share] {
		u.told[job.share] = true
		l.client.post(func() { job.share.serves(l.id) })
	}
}
