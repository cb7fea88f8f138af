package client

import (
	"context"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"p2pcdn/common/content"
	"p2pcdn/common/ident"
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

// next takes the block that the peer is sent next; false if it waits for none. It is the oldest, but
// what went to another peer a moment ago comes after everything else: it can soon be had from there, and
// whoever hears that takes its request back. So a crowd gets different pieces from a seeder, and not all the same.
func (u *uploads) next(to ident.PeerID) (upload, bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.queue) == 0 {
		return upload{}, false
	}
	now := time.Now()
	i := max(0, slices.IndexFunc(u.queue, func(job upload) bool {
		return !job.share.passing.elsewhere(job.block.Piece, to, now)
	}))
	job := u.queue[i]
	u.queue = slices.Delete(u.queue, i, i+1)
	job.share.passing.note(job.block.Piece, to, now)
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

// passing remembers to whom the pieces of a share went lately. It is safe to be used by all uploaders.
type passing struct {
	mu     sync.Mutex
	since  time.Time               // guarded by mu, as are the next two: when now began
	now    map[uint32]ident.PeerID // by piece: who was last sent something of it
	before map[uint32]ident.PeerID // the same, of the time before that
}

const (
	// passOn is how long a piece counts at least as being passed on: twice what a peer needs to
	// verify it and to tell others, 100 ms away.
	passOn = 500 * time.Millisecond

	// maxPassing bounds what is remembered of that time: at 64 KiB apiece, 500 MB/s.
	maxPassing = 4096
)

// turnOver forgets what is too old. It is called with mu held.
func (p *passing) turnOver(now time.Time) {
	switch age := now.Sub(p.since); {
	case age >= 2*passOn:
		p.since, p.now, p.before = now, make(map[uint32]ident.PeerID), nil
	case age >= passOn:
		p.since, p.now, p.before = now, make(map[uint32]ident.PeerID), p.now
	}
}

// note says that a peer is sent something of the piece.
func (p *passing) note(piece uint32, to ident.PeerID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turnOver(now)
	if len(p.now) < maxPassing {
		p.now[piece] = to
	}
}

// elsewhere reports whether another peer was the last that was sent something of the piece, a moment ago.
func (p *passing) elsewhere(piece uint32, than ident.PeerID, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turnOver(now)
	last, is := p.now[piece]
	if !is {
		last, is = p.before[piece]
	}
	return is && last != than
}

// turn is how many bytes a peer is sent before the next one has its turn: few enough that nobody
// waits for long, and enough that the turns do not cost.
const turn = 256 << 10

// uplink shares what we send between the peers. Whoever has something to send waits for a
// slot, sends a turn's worth, and waits behind the others again; so peers get equal
// shares, whatever they ask for. It is safe to be used by all uploaders.
type uplink struct {
	slots   chan struct{} // holds a token for each slot in use; those who wait are served in order
	all     *limiter      // nil: no limit
	gate    chan struct{} // holds a token while a block waits for all: until then the next one may be cancelled
	perPeer int64         // bytes/s; 0: no limit
}

func newUplink(config Config) uplink {
	return uplink{
		make(chan struct{}, config.UploadSlots), newLimiter(config.UploadLimit),
		make(chan struct{}, 1), config.PeerUploadLimit,
	}
}

// limiter holds what is sent to a rate, in bytes/s. What was not used for a tenth of a second
// is lost: a burst would make us look faster than we are.
type limiter struct{ *rate.Limiter }

// newLimiter returns a limiter of so many bytes per second, nil for 0.
func newLimiter(bytesPerSecond int64) *limiter {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &limiter{rate.NewLimiter(rate.Limit(bytesPerSecond), int(max(content.LeafLength, bytesPerSecond/10)))}
}

// wait returns when so many bytes may go, or an error once ctx is done.
func (l *limiter) wait(ctx context.Context, bytes int) error {
	for bytes > 0 {
		part := min(bytes, l.Burst())
		if err := l.WaitN(ctx, part); err != nil {
			return err
		}
		bytes -= part
	}
	return nil
}

// reserve lets so many bytes go ahead, and returns how long nothing else may then.
func (l *limiter) reserve(now time.Time, bytes int) (wait time.Duration) {
	for bytes > 0 {
		part := min(bytes, l.Burst())
		wait = l.ReserveN(now, part).DelayFrom(now)
		bytes -= part
	}
	return wait
}

// newDownloadLimiter returns what [Client.allow] asks, nil for 0. A whole block goes through at once.
func newDownloadLimiter(bytesPerSecond int64) *rate.Limiter {
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

// upload serves the peer until the link is closed.
func (l *link) upload() {
	defer l.client.post(func() { l.client.jobs-- })
	up := &l.client.uplink
	u := uploader{
		link: l, own: newLimiter(up.perPeer), told: make(map[*Share]bool),
		data: make([]byte, wire.MaxBlock), frame: make([]byte, 0, wire.MaxFrame),
	}
	// Not while it has a slot: a peer that takes nothing, or whose own limit lets nothing
	// through at the moment, must not keep others waiting.
	for l.uploads.wait() && l.conn.Room() && u.rest() {
		select {
		case up.slots <- struct{}{}:
		case <-l.ctx.Done():
			return
		}
		err := u.turn(up)
		<-up.slots
		if err != nil {
			return
		}
	}
}

// uploader is what the goroutine that serves a peer owns.
type uploader struct {
	link  *link
	own   *limiter        // of this peer
	wait  time.Duration   // that its own limit wants before the next block
	told  map[*Share]bool // of which shares the engine knows that this peer is served
	data  []byte
	frame []byte
}

// turn sends what is waited for, up to a turn's worth. It fails once the link is closed.
func (u *uploader) turn(up *uplink) error {
	for sent := 0; sent < turn; {
		job, there, err := u.take(up)
		if err != nil || !there {
			return err
		}
		u.send(job)
		sent += int(job.block.Length)
		if u.own != nil {
			if u.wait = u.own.reserve(time.Now(), int(job.block.Length)); u.wait > 0 {
				return nil
			}
		}
	}
	return nil
}

// rest waits until the peer's own limit lets something through; false once the link is closed.
func (u *uploader) rest() bool {
	if u.wait <= 0 {
		return true
	}
	timer := time.NewTimer(u.wait)
	defer timer.Stop()
	u.wait = 0
	select {
	case <-timer.C:
		return true
	case <-u.link.ctx.Done():
		return false
	}
}

// take takes the block that is sent next, once the uplink's limit lets it through; false if none is waited for.
func (u *uploader) take(up *uplink) (job upload, there bool, err error) {
	l := u.link
	if up.all == nil {
		job, there = l.uploads.next(l.id)
		return job, there, nil
	}
	select {
	case up.gate <- struct{}{}:
		defer func() { <-up.gate }()
	case <-l.ctx.Done():
		return upload{}, false, l.ctx.Err()
	}
	if job, there = l.uploads.next(l.id); there {
		err = up.all.wait(l.ctx, int(job.block.Length))
	}
	return job, there, err
}

// send answers a request.
func (u *uploader) send(job upload) {
	l, block := u.link, u.data[:job.block.Length]
	if err := job.share.read(job.block, block); err != nil {
		l.sendFrame(wire.Append(u.frame[:0], wire.Reject{Number: job.number, Block: job.block}))
		l.client.post(func() { job.share.unreadable(err) })
		return
	}
	job.share.uploaded.Add(int64(len(block))) // first: whoever has it knows that it was sent
	l.sendFrame(wire.Append(u.frame[:0], wire.Piece{Number: job.number, Piece: job.block.Piece, Begin: job.block.Begin, Data: block}))
	if !u.told[job.share] {
		u.told[job.share] = true
		l.client.post(func() { job.share.serves(l.id) })
	}
}
