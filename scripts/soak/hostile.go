//go:build unix

package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/coder/websocket"
	"golang.org/x/time/rate"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

const (
	// hostileConnections is how many WebSockets a flood comes over: few, so that each is far above
	// its limits.
	hostileConnections = 8

	// halfOpen is how many connections an attacker keeps that say nothing: more than one address may.
	halfOpen = 600

	// patienceOfAttackers is how long an attacker waits before it comes again.
	patienceOfAttackers = 10 * time.Millisecond

	// giantCost is how many messages a giant one counts for: it takes the place of that many signals.
	giantCost = 100
)

// taunt is a signal of usual length that nobody answers.
var taunt = mediation.NewSignalData("?" + offer)

// attackerAddress is where attackers come from.
var attackerAddress = net.IPv4(127, 0, 0, 66)

// attack is a way to be a burden.
type attack struct {
	name, what  string
	connections int // that run is called for, at a time
	run         func(ctx context.Context, h *hostility)
}

var attacks = []attack{
	{"messages", "finish, again and again", hostileConnections, flooding(func(h *hostility, n int) []byte {
		return mediation.Encode(mediation.Finish{FullHash: contentNumber(n)})
	})},
	{"get_peers", "lookups of contents that nobody has", hostileConnections, flooding(func(h *hostility, n int) []byte {
		return mediation.Encode(mediation.GetPeers{FullHash: contentNumber(1<<20 + n)})
	})},
	{"announces", "announces of contents that nobody has", hostileConnections, flooding(func(h *hostility, n int) []byte {
		return mediation.Encode(mediation.Announce{FullHash: contentNumber(1<<20 + n)})
	})},
	{"signals to one victim", "signals to one of the honest peers", hostileConnections, flooding(func(h *hostility, n int) []byte {
		return mediation.Encode(mediation.Signal{FullHash: contentNumber(0), PeerID: h.victim, SignalData: taunt})
	})},
	{"signals to strangers", "signals to peers that are not there", hostileConnections, flooding(func(h *hostility, n int) []byte {
		var id ident.PeerID
		binary.BigEndian.PutUint64(id[:], uint64(n)+1)
		return mediation.Encode(mediation.Signal{FullHash: contentNumber(0), PeerID: id, SignalData: taunt})
	})},
	{"nonsense", "nested JSON and bytes that are no text, over connection after connection", hostileConnections, flooding(func(_ *hostility, n int) []byte {
		return []byte([]string{strings.Repeat(`{"a":`, 2000), "\xff\xfe", strings.Repeat("[", 10_000)}[n%3])
	})},
	{"giant messages", "one that is too long, over connection after connection", hostileConnections, giant},
	{"connections", "WebSockets without end, which are kept", hostileConnections, connect},
	{"half requests", "connections that begin a request, and do not end it", halfOpen, half("G")},
	{"silence", "connections that say nothing", halfOpen, half("")},
	{"STUN", "binding requests over UDP", 1, bind},
}

// hostility is a running attack.
type hostility struct {
	order
	victim ident.PeerID
	pace   *rate.Limiter
	host   string       // host:port
	sent   atomic.Int64 // messages, requests or connections

	mu   sync.Mutex
	kept []*websocket.Conn // guarded by mu; bounded by what one address may have
}

func newHostility(o order) *hostility {
	h := &hostility{order: o, pace: rate.NewLimiter(rate.Limit(o.Rate), max(o.Rate/10, giantCost))}
	h.victim, _ = ident.ParsePeerID(o.Victim) // zero, where there is none
	if at, err := url.Parse(o.URL); err == nil {
		h.host = at.Host
	}
	return h
}

// run attacks until ctx ends.
func (h *hostility) run(ctx context.Context, a attack) {
	var all sync.WaitGroup
	for range a.connections {
		all.Go(func() {
			for ctx.Err() == nil {
				a.run(ctx, h)
				rest(ctx, patienceOfAttackers)
			}
		})
	}
	all.Wait()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, conn := range h.kept {
		_ = conn.CloseNow()
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// may waits until so much more may be sent, and counts it.
func (h *hostility) may(ctx context.Context, cost int) bool {
	if h.pace.WaitN(ctx, cost) != nil {
		return false
	}
	h.sent.Add(1)
	return true
}

// enter opens a WebSocket, shakes hands, and reads whatever comes, so that it is not for slowness
// that it is cut off.
func (h *hostility) enter(ctx context.Context) (*websocket.Conn, error) {
	conn, _, _, err := dial(ctx, h.URL, attackerAddress)
	if err != nil {
		return nil, err
	}
	id, err := ident.NewPeerID(rand.Reader)
	if err == nil {
		err = conn.Write(ctx, websocket.MessageText, mediation.Encode(mediation.Handshake{PeerID: id}))
	}
	if err != nil {
		_ = conn.CloseNow()
		return nil, err
	}
	go func() {
		for {
			if _, _, err := conn.Read(ctx); err != nil {
				return
			}
		}
	}()
	return conn, nil
}

// flooding sends one message after the other.
func flooding(message func(h *hostility, n int) []byte) func(context.Context, *hostility) {
	return func(ctx context.Context, h *hostility) {
		conn, err := h.enter(ctx)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for h.may(ctx, 1) {
			if conn.Write(ctx, websocket.MessageText, message(h, int(h.sent.Load()))) != nil {
				return
			}
		}
	}
}

func giant(ctx context.Context, h *hostility) {
	conn, err := h.enter(ctx)
	if err != nil {
		return
	}
	defer conn.CloseNow()
	for h.may(ctx, giantCost) {
		if conn.Write(ctx, websocket.MessageText, make([]byte, mediation.MaxMessageSize+1)) != nil {
			return
		}
	}
}

func connect(ctx context.Context, h *hostility) {
	if !h.may(ctx, 1) {
		return
	}
	if conn, err := h.enter(ctx); err == nil {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.kept = append(h.kept, conn)
	}
}

// half returns an attack that opens a connection, says the beginning of something, and waits to be
// cut off.
func half(beginning string) func(context.Context, *hostility) {
	return func(ctx context.Context, h *hostility) {
		if !h.may(ctx, 1) {
			return
		}
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: attackerAddress}, Timeout: callTime}).DialContext(ctx, "tcp", h.host)
		if err != nil {
			return
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
		defer stop()
		if _, err := conn.Write([]byte(beginning)); err == nil {
			_, _ = conn.Read(make([]byte, 1))
		}
	}
}

func bind(ctx context.Context, h *hostility) {
	conn, err := (&net.Dialer{LocalAddr: &net.UDPAddr{IP: attackerAddress}}).DialContext(ctx, "udp", h.host)
	if err != nil {
		return
	}
	defer conn.Close()
	for h.may(ctx, 1) {
		if _, err := conn.Write([]byte("\x00\x01\x00\x00\x21\x12\xa4\x42twelve bytes")); err != nil {
			return
		}
	}
}

// yieldToOthers gives this process the least priority.
func yieldToOthers() {
	const least = 19
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 0, least) // where it may not, it is said by what is measured
}
