package memnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/goleak"

	"p2pcdn/mediator/internal/memnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const latency = 40 * time.Millisecond

// pair is two hosts, the first of which has dialled the second.
type pair struct {
	t      *testing.T
	hosts  [2]*memnet.Host
	conns  [2]transport.CapableConn
	listen transport.Listener
	dial   func(ctx context.Context) (transport.CapableConn, error)
}

// joined runs f in a bubble, with two hosts that are connected.
func joined(t *testing.T, config memnet.Config, f func(t *testing.T, p *pair)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		config.Latency = func(_, _ *memnet.Host) time.Duration { return latency }
		world := memnet.New(config)
		p := &pair{t: t, hosts: [2]*memnet.Host{world.Host("a"), world.Host("b")}}
		a, _ := newTransport(t, p.hosts[0])
		b, id := newTransport(t, p.hosts[1])
		at := multiaddr.StringCast("/ip4/" + p.hosts[1].IP() + "/udp/4001/quic-v1")
		var err error
		if p.listen, err = b.Listen(at); err != nil {
			t.Fatal(err)
		}
		defer p.listen.Close()
		p.dial = func(ctx context.Context) (transport.CapableConn, error) { return a.Dial(ctx, at, id) }
		if p.conns[0], err = p.dial(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p.conns[1], err = p.listen.Accept(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			for _, c := range p.conns {
				_ = c.Close()
			}
			time.Sleep(time.Second) // what is under way
			for _, h := range p.hosts {
				if n := h.Stats().Connections; n != 0 {
					t.Errorf("%s has %d connections left", h, n)
				}
			}
		}()
		f(t, p)
	})
}

// takes checks how long something takes on the time of the bubble.
func (p *pair) takes(want time.Duration, what string, f func()) {
	p.t.Helper()
	began := time.Now()
	f()
	if took := time.Since(began); took != want {
		p.t.Errorf("%s took %v, want %v", what, took, want)
	}
}

// open opens a stream from the first host and says something on it, so that it arrives.
func (p *pair) open() (near, far network.MuxedStream) {
	p.t.Helper()
	near, err := p.conns[0].OpenStream(p.t.Context())
	p.must(err)
	_, err = near.Write([]byte{1})
	p.must(err)
	far, err = p.conns[1].AcceptStream()
	p.must(err)
	_, err = io.ReadFull(far, make([]byte, 1))
	p.must(err)
	return near, far
}

func (p *pair) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func TestTimes(t *testing.T) {
	joined(t, memnet.Config{}, func(t *testing.T, p *pair) {
		var dialled transport.CapableConn
		p.takes(2*latency, "a dial", func() {
			var err error
			dialled, err = p.dial(t.Context())
			p.must(err)
		})
		defer dialled.Close()
		p.takes(latency, "the rest of the handshake", func() {
			accepted, err := p.listen.Accept()
			p.must(err)
			defer accepted.Close()
			if !accepted.RemoteMultiaddr().Equal(dialled.LocalMultiaddr()) || !manet.IsPublicAddr(accepted.RemoteMultiaddr()) {
				t.Errorf("dialled from %v, accepted from %v", dialled.LocalMultiaddr(), accepted.RemoteMultiaddr())
			}
			if accepted.RemotePeer() != dialled.LocalPeer() || !dialled.RemotePublicKey().Equals(p.conns[0].RemotePublicKey()) {
				t.Error("the identities are not those of the transports")
			}
		})
		var near, far network.MuxedStream
		p.takes(latency, "a stream and its first byte", func() { near, far = p.open() })
		p.takes(2*latency, "an answer", func() {
			_, err := near.Write([]byte("question"))
			p.must(err)
			_, err = io.ReadFull(far, make([]byte, 8))
			p.must(err)
			_, err = far.Write([]byte("answer"))
			p.must(err)
			_, err = io.ReadFull(near, make([]byte, 6))
			p.must(err)
		})
		p.takes(latency, "a close", func() {
			p.must(near.Close())
			if _, err := far.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("after a close it reads %v", err)
			}
		})
	})
}

func TestEndsOfStreams(t *testing.T) {
	joined(t, memnet.Config{}, func(t *testing.T, p *pair) {
		near, far := p.open()
		_, err := near.Write([]byte("the last"))
		p.must(err)
		p.must(near.CloseWrite())
		if text, err := io.ReadAll(far); err != nil || string(text) != "the last" {
			t.Errorf("read %q, %v", text, err)
		}
		_, err = far.Write([]byte("thanks")) // the other half lives
		p.must(err)
		p.must(far.Close())
		if text, err := io.ReadAll(near); err != nil || string(text) != "thanks" {
			t.Errorf("read %q, %v", text, err)
		}
		if _, err := near.Write([]byte{1}); err == nil {
			t.Error("wrote after CloseWrite")
		}

		near, far = p.open()
		p.must(near.ResetWithError(7))
		want := &network.StreamError{ErrorCode: 7, Remote: true}
		if _, err := far.Read(make([]byte, 1)); !errors.Is(err, want) {
			t.Errorf("reading what was reset: %v", err)
		}
		if _, err := far.Write(make([]byte, 1)); !errors.Is(err, want) {
			t.Errorf("writing to what was reset: %v", err)
		}
		if _, err := near.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
			t.Errorf("reading what one has reset: %v", err)
		}

		near, far = p.open()
		p.must(far.CloseRead())
		time.Sleep(2 * latency)
		if _, err := near.Write([]byte{1}); !errors.Is(err, network.ErrReset) {
			t.Errorf("writing to somebody who does not read: %v", err)
		}

		_, far = p.open()
		p.must(p.conns[0].CloseWithError(network.ConnGarbageCollected))
		p.takes(latency, "the end of a connection", func() {
			if _, err := far.Read(make([]byte, 1)); !errors.Is(err, &network.ConnError{ErrorCode: network.ConnGarbageCollected, Remote: true}) {
				t.Errorf("reading from a closed connection: %v", err)
			}
		})
		if _, err := p.conns[1].OpenStream(t.Context()); err == nil || !p.conns[1].IsClosed() {
			t.Errorf("a stream of a closed connection: %v", err)
		}
		if _, err := p.conns[1].AcceptStream(); err == nil {
			t.Error("a closed connection has streams")
		}
	})
}

func TestDeadlines(t *testing.T) {
	joined(t, memnet.Config{Window: 10}, func(t *testing.T, p *pair) {
		near, far := p.open()
		p.must(far.SetReadDeadline(time.Now().Add(time.Second)))
		p.takes(time.Second, "a read in vain", func() {
			if _, err := far.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a read in vain: %v", err)
			}
		})
		p.must(far.SetReadDeadline(time.Time{}))
		time.AfterFunc(time.Second, func() { _ = far.SetReadDeadline(time.Now()) })
		p.takes(time.Second, "a read whose deadline changes", func() {
			var timeout net.Error
			if _, err := far.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("a read in vain: %v", err)
			}
		})
		p.must(near.SetWriteDeadline(time.Now().Add(time.Second)))
		p.takes(time.Second, "a write in vain", func() {
			if n, err := near.Write(make([]byte, 12)); n != 9 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a window of 10, one byte of which was not acknowledged, took %d, %v", n, err)
			}
		})
	})
}

func TestWindow(t *testing.T) {
	joined(t, memnet.Config{Window: 1 << 10}, func(t *testing.T, p *pair) {
		near, far := p.open()
		text := bytes.Repeat([]byte("0123456789"), 1000)
		go func() {
			_, _ = near.Write(text)
			_ = near.CloseWrite()
		}()
		time.Sleep(time.Minute)
		if got := p.hosts[1].Stats().Received.Bytes; got != 1<<10 {
			t.Errorf("%d bytes arrived of a window of %d", got, 1<<10)
		}
		began := time.Now()
		if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, text) {
			t.Errorf("read %d bytes, %v", len(got), err)
		}
		if took := time.Since(began); took < 8*2*latency {
			t.Errorf("ten windows took only %v", took)
		}
		if got, want := p.hosts[0].Stats().Sent.Bytes, int64(len(text)+1); got != want {
			t.Errorf("%d bytes were sent, want %d", got, want)
		}
	})
}

func TestMaxStreams(t *testing.T) {
	joined(t, memnet.Config{Streams: 2}, func(t *testing.T, p *pair) {
		near, far := p.open()
		p.open()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.conns[0].OpenStream(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a third stream: %v", err)
		}
		p.must(near.Close())
		p.must(far.Close())
		p.takes(2*latency, "a place", func() {
			_, err := p.conns[0].OpenStream(t.Context())
			p.must(err)
		})
	})
}

func TestKill(t *testing.T) {
	joined(t, memnet.Config{}, func(t *testing.T, p *pair) {
		_, far := p.open()
		time.Sleep(20 * time.Second) // the last keep-alive was 5 s ago
		p.hosts[0].Kill()
		began := time.Now()
		_, err := far.Write([]byte("hello?")) // goes nowhere, and is not refused
		p.must(err)
		var timeout net.Error
		if _, err := far.Read(make([]byte, 1)); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("reading from a dead host: %v", err)
		}
		if took := time.Since(began); took != memnet.DefaultIdleTimeout {
			t.Errorf("a connection on which something was said ended after %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		p.takes(3*time.Second, "a dial of the dead", func() {
			if _, err := p.dial(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("a dial of the dead: %v", err)
			}
		})
		if s := p.hosts[0].Stats(); s.Dials != 2 || s.FailedDials != 1 {
			t.Errorf("two dials, one in vain: %+v", s)
		}
		p.hosts[0].Heal()
		again, cancelAgain := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancelAgain()
		if _, err := p.dial(again); err == nil {
			t.Error("the dead rise")
		}
	})
}

func TestKillOfTheSilent(t *testing.T) {
	joined(t, memnet.Config{}, func(t *testing.T, p *pair) {
		time.Sleep(20 * time.Second)
		p.hosts[1].Kill()
		p.takes(memnet.DefaultIdleTimeout+10*time.Second-latency, "the end of a silent connection", func() {
			_, _ = p.conns[0].AcceptStream()
		})
	})
}

func TestCutAndHeal(t *testing.T) {
	joined(t, memnet.Config{}, func(t *testing.T, p *pair) {
		near, far := p.open()
		_, err := near.Write([]byte("lost on its way"))
		p.must(err)
		p.hosts[1].Cut()
		_, err = near.Write([]byte(", and sent again"))
		p.must(err)
		var dialled transport.CapableConn
		go func() { dialled, _ = p.dial(t.Context()) }()
		time.Sleep(10 * time.Second)
		p.hosts[1].Heal()
		p.takes(latency, "what was lost", func() {
			text := make([]byte, 31)
			if _, err := io.ReadFull(far, text); err != nil || string(text) != "lost on its way, and sent again" {
				t.Errorf("read %q, %v", text, err)
			}
		})
		time.Sleep(time.Minute) // it lives
		synctest.Wait()
		if _, err := far.Write([]byte{1}); err != nil || dialled == nil {
			t.Errorf("after a short cut: %v, dialled %v", err, dialled)
		}
		_ = dialled.Close()

		p.hosts[0].Cut()
		time.Sleep(time.Minute)
		p.hosts[0].Heal()
		for side, c := range p.conns {
			if !c.IsClosed() {
				t.Errorf("side %d did not notice a cut of a minute", side)
			}
		}
	})
}
