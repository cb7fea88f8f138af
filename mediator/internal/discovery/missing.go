package discovery

import (
	"context"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxMissing bounds the mediators that are remembered: all of the routing
	// table in a network of thousands. Each takes a few hundred bytes.
	maxMissing = 256

	// maxSeeking bounds the dials for them at a time.
	maxSeeking = 8

	// missingFor is how long one is remembered. Most of those that are away for a
	// day have ended; what a longer partition leaves apart, bootstraps join again.
	missingFor = 24 * time.Hour

	// maxMissingAddresses bounds what is remembered of each: four interfaces,
	// with IPv4 and IPv6, TCP and QUIC.
	maxMissingAddresses = 16
)

// missing remembers the mediators that fell out of the routing table, and has
// them tried again: after a partition, both parts of which live on, nobody else
// would bring them together. Everyone retries those that it knew, its nearest
// ones in the keyspace among them, for whom its routing table always has room;
// so every part of the keyspace grows together by itself.
type missing struct {
	mu      sync.Mutex
	members map[peer.ID]*absentee // guarded by mu
	rallied time.Time             // guarded by mu; when the others were last hastened
}

// absentee is guarded by missing.mu.
type absentee struct {
	info  peer.AddrInfo
	since time.Time
	next  time.Time // when to try next
	tries int       // all failed
	busy  bool      // it is being tried
}

// note remembers a mediator that is gone. Where there is no room, the one that
// was tried in vain most often makes it.
func (m *missing) note(info peer.AddrInfo, now time.Time, pause time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, known := m.members[info.ID]; known || len(info.Addrs) == 0 {
		return
	}
	if len(m.members) >= maxMissing {
		worst := info.ID
		for id, one := range m.members {
			if !one.busy && (worst == info.ID || one.tries > m.members[worst].tries) {
				worst = id
			}
		}
		delete(m.members, worst)
	}
	info.Addrs = info.Addrs[:min(len(info.Addrs), maxMissingAddresses)]
	m.members[info.ID] = &absentee{info: info, since: now, next: now.Add(jitter(pause))}
}

func (m *missing) forget(id peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.members, id)
}

func (m *missing) size() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.members)
}

// due returns at most n mediators whose time has come, and marks them.
func (m *missing) due(now time.Time, n int) (due []*absentee) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, one := range m.members {
		switch {
		case one.busy || len(due) == n || now.Before(one.next):
		case now.Sub(one.since) > missingFor:
			delete(m.members, id)
		default:
			one.busy = true
			due = append(due, one)
		}
	}
	return due
}

// failed sets the time of the next try.
func (m *missing) failed(one *absentee, now time.Time, timing Timing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	one.busy = false
	pause := timing.MissingMax
	if one.tries < 16 {
		pause = min(timing.MissingMin<<one.tries, timing.MissingMax)
	}
	one.tries++
	one.next = now.Add(jitter(pause))
}

// returned says that one has been found again. Then the others may be there too:
// they are tried soon, whatever their back-off, but not after each that returns.
func (m *missing) returned(one *absentee, now time.Time, timing Timing) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.members, one.info.ID)
	if now.Sub(m.rallied) < timing.MissingMax/10 {
		return
	}
	m.rallied = now
	for _, other := range m.members {
		if soon := now.Add(jitter(timing.MissingMin)); soon.Before(other.next) {
			other.next = soon
		}
	}
}

// seek tries to reach a mediator that is missing.
func (d *Discovery) seek(ctx context.Context, one *absentee) {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	id := one.info.ID
	// The swarm's own back-off grows to minutes, and would make ours pointless.
	d.swarm.Backoff().Clear(id)
	err := d.raw.Connect(ctx, one.info)
	if protocols, _ := d.raw.Peerstore().SupportsProtocols(id, kadProtocol); err == nil && len(protocols) == 0 {
		d.missing.forget(id) // it lives, and serves no DHT; if it does again it says so
		return
	}
	if err == nil { // or so it seems: a connection outlives a cut by half a minute
		err = d.messenger.Ping(ctx, id)
	}
	if err != nil {
		d.missing.failed(one, time.Now(), d.timing)
		return
	}
	d.log.Debug("a mediator is back", "mediator", id)
	d.missing.returned(one, time.Now(), d.timing)
	d.meet(id)
}

// noteLost notes a mediator of the routing table whose last connection has ended.
// libp2p calls it in goroutines of its own.
func (d *Discovery) noteLost(n network.Network, conn network.Conn) {
	id := conn.RemotePeer()
	if n.Connectedness(id) == network.Connected || d.dht.RoutingTable().Find(id) == "" {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lost[id] = struct{}{}
}

// checkLost finds out whether the mediators live whose connections have ended, and
// takes those that do not out of the routing table before lookups meet them and wait. A
// connection also ends because one of the two has too many: while this one has, that is most likely why.
func (d *Discovery) checkLost(ctx context.Context, slots chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.lost) > 0 && len(d.raw.Network().Conns()) >= lowConnections {
		clear(d.lost)
	}
	for id := range d.lost {
		select {
		case slots <- struct{}{}:
		default:
			return // the others in a while
		}
		delete(d.lost, id)
		d.wg.Go(func() {
			defer func() { <-slots }()
			limited, cancel := context.WithTimeout(ctx, reachTimeout)
			defer cancel()
			if err := d.raw.Connect(limited, peer.AddrInfo{ID: id}); err != nil && ctx.Err() == nil {
				d.log.Debug("a mediator of the routing table is not reached any more", "mediator", id, "error", err)
				d.dht.RoutingTable().RemovePeer(id)
			}
		})
	}
}

// meet takes a mediator that has just been reached into the routing table and,
// where that did not know it, looks around from there.
func (d *Discovery) meet(id peer.ID) {
	added, err := d.dht.RoutingTable().TryAddPeer(id, true, false)
	if err != nil {
		d.log.Debug("no room in the routing table", "mediator", id, "error", err)
	}
	if added {
		d.dht.RefreshRoutingTable()
	}
}

// present reports whether a mediator is in the routing table or connected.
func (d *Discovery) present(id peer.ID) bool {
	return d.dht.RoutingTable().Find(id) != "" || d.raw.Network().Connectedness(id) == network.Connected
}
