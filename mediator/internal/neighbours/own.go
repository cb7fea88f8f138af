package neighbours

import (
	"errors"
	"time"
)

// ownDelay is how long this mediator waits before it looks for itself: it starts before its HTTP side does.
const ownDelay = 2 * time.Second

// ErrUnchecked says that nothing is known yet.
var ErrUnchecked = errors.New("it was not looked for yet")

// Own says whether this mediator found itself at its public URL: nil, or why not. Others look for
// themselves, and tell their peers of it only where they find it; but they do not tell the volunteer. It is nil
// where there is no URL.
func (n *Neighbours) Own() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.own
}

// watchOwn looks for this mediator at its public URL, as others do, until Close.
func (n *Neighbours) watchOwn() {
	check := toCheck{id: n.table.self, url: n.config.PublicURL, from: here}
	timer := time.NewTimer(min(ownDelay, n.config.Timing.CheckRetry))
	defer timer.Stop()
	for pause := n.config.Timing.CheckRetry; ; {
		select {
		case <-timer.C:
		case <-n.ctx.Done():
			return
		}
		_, err := n.checker.check(n.ctx, check)
		if n.ctx.Err() != nil {
			return
		}
		if errors.Is(err, errTooMany) { // which says nothing
			err = n.Own()
		}
		n.mu.Lock()
		before := n.own
		n.own = err
		next := n.table.jitter(n.config.Timing.CheckInterval)
		if err != nil {
			next = n.table.jitter(pause)
		}
		n.mu.Unlock()
		timer.Reset(next)
		switch {
		case err != nil:
			if before == nil || errors.Is(before, ErrUnchecked) { // told once, not at every try
				n.log.Warn("the public URL does not lead here, as seen from this machine; others will not tell peers of it", "url", check.url, "error", err)
			}
			pause = min(2*pause, n.config.Timing.CheckInterval)
		default:
			if before != nil {
				n.log.Info("the public URL leads here", "url", check.url)
			}
			pause = n.config.Timing.CheckRetry
		}
	}
}
