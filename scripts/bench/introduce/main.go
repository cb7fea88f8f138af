// Command introduce is the load of the benchmark's rows about rendezvous servers:
// pairs of peers that are introduced to each other again and again, or peers that
// have announced a content and are idle. It speaks the mediation protocol and that of
// WebTorrent's tracker, with the same code around both.
//
//	introduce pairs mediation|tracker --pairs 50 --count 5000 --pid 123 [--pid …] URL [URL of the leechers]
//	introduce idle  mediation|tracker --peers 10000 --pid 123 URL
//
// It reads what the servers' processes used from /proc, and prints one line of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// deadline bounds a run.
const deadline = 4 * time.Minute

// sdp is what an offer and an answer carry: a data channel's description of usual length.
var sdp = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n" +
	"a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\n" +
	"a=ice-ufrag:Ay1b\r\na=ice-pwd:aV5jqgHL9bX6mYcwN0Jz2rTe\r\na=ice-options:trickle\r\n" +
	"a=fingerprint:sha-256 " + strings.Repeat("AB:", 31) + "AB\r\na=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "introduce:", err)
		os.Exit(1)
	}
}

// pids is a flag that can be repeated.
type pids []string

func (p *pids) String() string         { return strings.Join(*p, ",") }
func (p *pids) Set(value string) error { *p = append(*p, value); return nil }

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("what, and with which protocol")
	}
	what, protocol := args[0], args[1]
	flags := flag.NewFlagSet(what, flag.ContinueOnError)
	pairs := flags.Int("pairs", 50, "pairs of peers")
	count := flags.Int("count", 5000, "introductions in all")
	peers := flags.Int("peers", 10_000, "idle peers")
	var servers pids
	flags.Var(&servers, "pid", "process of a server")
	if err := flags.Parse(args[2:]); err != nil {
		return err
	}
	speak, known := map[string]network{"mediation": mediationNetwork{}, "tracker": trackerNetwork{}}[protocol]
	if !known || flags.NArg() < 1 {
		return errors.New("mediation or tracker, and a URL")
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	var result any
	var err error
	switch what {
	case "pairs":
		result, err = introduce(ctx, speak, *pairs, *count, servers, flags.Arg(0), flags.Arg(flags.NArg()-1))
	case "idle":
		result, err = idle(ctx, speak, *peers, servers, flags.Arg(0))
	default:
		err = fmt.Errorf("there is nothing to do of the name %q", what)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// network is one of the two protocols.
type network interface {
	// seed announces a content, the nth, and answers offers until the connection ends.
	seed(ctx context.Context, conn *websocket.Conn, n int) (serve func() error, err error)
	// leech makes a peer that is introduced to the nth seeder each time it is called.
	leech(ctx context.Context, conn *websocket.Conn, n int) (introduced func() error, err error)
}

func dial(ctx context.Context, url string) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(1 << 20)
	return conn, nil
}

// Pairs is what a run of introductions yields.
type Pairs struct {
	Introductions int     `json:"introductions"`
	Seconds       float64 `json:"seconds"`
	CPU           float64 `json:"cpu_us"` // of all servers, per introduction
	P50           float64 `json:"p50_ms"`
	P99           float64 `json:"p99_ms"`
}

func introduce(ctx context.Context, speak network, pairs, count int, servers []string, seeders, leechers string) (Pairs, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ready := make([]func() error, pairs)
	for n := range pairs {
		seeder, err := dial(ctx, seeders)
		if err != nil {
			return Pairs{}, err
		}
		defer seeder.CloseNow()
		serve, err := speak.seed(ctx, seeder, n)
		if err != nil {
			return Pairs{}, err
		}
		go func() {
			if err := serve(); err != nil && ctx.Err() == nil {
				cancel(fmt.Errorf("a seeder: %w", err))
			}
		}()
		leecher, err := dial(ctx, leechers)
		if err != nil {
			return Pairs{}, err
		}
		defer leecher.CloseNow()
		if ready[n], err = speak.leech(ctx, leecher, n); err != nil {
			return Pairs{}, err
		}
	}
	// round has each pair introduced until there were so many in all.
	round := func(total int) ([]time.Duration, error) {
		var left atomic.Int64
		left.Store(int64(total))
		took := make([][]time.Duration, pairs)
		var all sync.WaitGroup
		for n := range pairs {
			all.Go(func() {
				for left.Add(-1) >= 0 {
					began := time.Now()
					if err := ready[n](); err != nil {
						cancel(fmt.Errorf("a leecher: %w", err))
						return
					}
					took[n] = append(took[n], time.Since(began))
				}
			})
		}
		all.Wait()
		return slices.Concat(took...), context.Cause(ctx)
	}
	if _, err := round(count / 4); err != nil { // before it counts: everything is warm then
		return Pairs{}, err
	}
	before, err := used(servers)
	if err != nil {
		return Pairs{}, err
	}
	began := time.Now()
	took, err := round(count)
	if err != nil {
		return Pairs{}, err
	}
	seconds := time.Since(began).Seconds()
	after, err := used(servers)
	if err != nil {
		return Pairs{}, err
	}
	slices.Sort(took)
	at := func(part float64) float64 { return took[int(part*float64(len(took)-1))].Seconds() * 1000 }
	return Pairs{len(took), seconds, (after - before).Seconds() * 1e6 / float64(len(took)), at(0.5), at(0.99)}, nil
}

// Idle is what peers cost that do nothing.
type Idle struct {
	Peers int     `json:"peers"`
	KiB   float64 `json:"kib"` // resident memory of the server, per peer
}

// atOnce is how many peers connect at a time.
const atOnce = 64

func idle(ctx context.Context, speak network, peers int, servers []string, url string) (Idle, error) {
	before, err := resident(servers)
	if err != nil {
		return Idle{}, err
	}
	conns := make([]*websocket.Conn, peers)
	defer func() {
		for _, conn := range conns {
			if conn != nil {
				_ = conn.CloseNow()
			}
		}
	}()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	places := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for n := range peers {
		places <- struct{}{}
		all.Go(func() {
			defer func() { <-places }()
			conn, err := dial(ctx, url)
			if err == nil {
				conns[n] = conn
				_, err = speak.seed(ctx, conn, n)
			}
			if err != nil {
				cancel(fmt.Errorf("peer %d: %w", n, err))
			}
		})
	}
	all.Wait()
	if err := context.Cause(ctx); err != nil {
		return Idle{}, err
	}
	fmt.Fprintln(os.Stderr, "connected")
	// What the server needed for the connecting itself is given back after a while: its
	// memory is read until it does not fall any more.
	least, err := resident(servers)
	for since := 0; err == nil && since < 10; {
		select {
		case <-ctx.Done():
			return Idle{}, context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
		var now float64
		now, err = resident(servers)
		if since++; now < 0.99*least {
			least, since = now, 0
		}
	}
	return Idle{peers, (least - before) / float64(peers)}, err
}
