package client

import (
	"slices"
	"sync"

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

// upload serves the peer until the link is closed.
func (l *link) upload() {
	defer l.client.post(func() { l.client.jobs-- })
	data, frame := make([]byte, wire.MaxBlock), make([]byte, 0, wire.MaxFrame)
	told := make(map[*Share]bool) // of which shares the engine knows that this peer is served
	for l.uploads.wait() && l.conn.Room() {
		job, more := l.uploads.next()
		if !more {
			return
		}
		block := data[:job.block.Length]
		if err := job.share.read(job.block, block); err != nil {
			l.sendFrame(wire.Append(frame[:0], wire.Reject{Number: job.number, Block: job.block}))
			l.client.post(func() { job.share.unreadable(err) })
			continue
		}
		l.sendFrame(wire.Append(frame[:0], wire.Piece{Number: job.number, Piece: job.block.Piece, Begin: job.block.Begin, Data: block}))
		job.share.uploaded.Add(int64(len(block)))
		if !told[job.share] {
			told[job.share] = true
			l.client.post(func() { job.share.serves(l.id) })
		}
	}
}
