package latency

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/timeline"
	"p2pcdn/peer/client"
)

// leecher is a fresh peer that fetches contents. It is used by one goroutine.
type leecher interface {
	// fetch fetches a content and drops it. It returns what was reached also where it failed; ctx has a deadline.
	fetch(ctx context.Context, info content.Info) (timeline.Stamps, *Failure)

	// begin says that the next content begins, so that the last one does not count in connected.
	begin()

	// connected says whether the content under way needs no mediator any more. It may be called by others.
	connected() bool

	// peerID returns the short id, "" before there was one.
	peerID() string

	// close ends the peer and waits for that.
	close()
}

// fast is a leecher of package client.
type fast struct {
	mediators []string
	random    *rand.Rand
	without   []client.Cut
	watch     *watch
	peer      *client.Client               // nil before the first fetch, with which the clock begins
	share     atomic.Pointer[client.Share] // of the content under way; nil before the first
	joins     atomic.Bool                  // later contents are asked of who is connected: no mediator is needed for them
}

func newFast(mediators []string, random *rand.Rand, without []client.Cut) *fast {
	return &fast{mediators: mediators, random: random, without: without, watch: newWatch()}
}

func (f *fast) peerID() string { return f.watch.peerID() }

func (f *fast) close() {
	if f.peer != nil {
		f.peer.Close()
	}
}

func (f *fast) fetch(ctx context.Context, info content.Info) (timeline.Stamps, *Failure) {
	target, err := client.CreateTemporary(info, client.FileOptions{})
	if err != nil {
		return nil, &Failure{CodeLocal, err}
	}
	var began time.Time // of the first fetch
	if f.peer == nil {
		began = time.Now()
		f.peer = client.Start(f.mediators, client.Config{Observe: f.watch.observe, Random: f.random, Without: f.without})
	}
	share, err := f.peer.Get(info, target)
	if err != nil {
		_ = target.Discard() // it is temporary anyway
		return nil, &Failure{CodeLocal, fmt.Errorf("fetching a content: %w", err)}
	}
	f.share.Store(share)
	failure := f.wait(ctx, share)
	stamps := stampsOf(timeline.Leecher, share, began)
	if failure != nil {
		if failure.Code == "" {
			failure = f.cause(ctx, share)
		}
		share.Discard()
	} else if !slices.Contains(f.without, client.CutJoin) {
		f.joins.Store(true)
	}
	return stamps, failure
}

// cause is the failure of a share whose context ended. Where it needed a mediator after all, the line that broke is it.
func (f *fast) cause(ctx context.Context, share *client.Share) *Failure {
	failure := cause(ctx, timeline.Since(timeline.Leecher, share.Timeline()))
	var down error
	f.watch.look(func(w *watch) { down = w.down })
	if down != nil && (failure.Code == CodeMediatorUnreachable || failure.Code == CodeNoPeer) {
		return lineFailure(down)
	}
	return failure
}

// wait waits for the end of the download. The failure is without a code where it is what ctx says.
func (f *fast) wait(ctx context.Context, share *client.Share) *Failure {
	ended := make(chan error, 1)
	go func() { ended <- share.Wait(ctx) }()
	for {
		select {
		case err := <-ended:
			return f.outcome(ctx, err)
		case <-f.watch.changed:
		}
		var down error
		lied := false
		f.watch.look(func(w *watch) { down, lied = w.down, w.lied })
		switch {
		case lied:
			return failed(CodeWrongData, "a peer sent what is not the content")
		case down == nil || f.connected():
		default:
			return lineFailure(down)
		}
	}
}

func (f *fast) outcome(ctx context.Context, err error) *Failure {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, ctx.Err()):
		return &Failure{Err: err}
	}
	return &Failure{CodeLocal, err}
}

func (f *fast) begin() { f.share.Store(nil) }

func (f *fast) connected() bool {
	if f.joins.Load() {
		return true
	}
	share := f.share.Load()
	if share == nil {
		return false
	}
	state := share.Status().State
	return state == client.Downloading || state == client.Complete
}
