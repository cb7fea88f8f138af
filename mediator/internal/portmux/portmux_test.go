package portmux

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a listener in memory; the test dials it.
type memory struct {
	conns  chan net.Conn
	errs   chan error
	closed chan struct{}
	once   sync.Once
}

func newMemory() *memory {
	return &memory{conns: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
}

func (l *memory) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case err := <-l.errs:
		return nil, err
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memory) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memory) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// dial returns the client's side of a connection that has been accepted from l.
func (l *memory) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// says dials and says a few bytes, as soon as they are read.
func says(t *testing.T, l *memory, text string) net.Conn {
	t.Helper()
	client := l.dial()
	go func() { _, _ = client.Write([]byte(text)) }()
	return client
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFirstByteDecides(t *testing.T) {
	for _, test := range []struct {
		name, text string
		turn       bool
	}{
		{"a binding request", "\x00\x01\x00\x00!\x12\xa4B", true},
		{"a type of the second half", "\x01\x01\x00\x00!\x12\xa4B", true},
		{"HTTP", "GET / HTTP/1.1\r\n", false},
		{"TLS", "\x16\x03\x01\x02\x00", false},
		{"channel data, with which nobody can begin", "\x40\x00\x00\x04data", false},
		{"no method of STUN has this type", "\x02\x00", false},
		{"the last byte", "\xff\xff", false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newMemory()
				m := Split(l, Config{})
				defer m.Close()
				client := says(t, l, test.text)
				defer client.Close()
				half := m.HTTP()
				if test.turn {
					half = m.TURN()
				}
				c := accept(t, half)
				defer c.Close()
				got := make([]byte, len(test.text))
				if n, err := c.Read(got[:0]); n != 0 || err != nil {
					t.Errorf("reading nothing gave %d, %v", n, err)
				}
				if _, err := io.ReadFull(c, got); err != nil || string(got) != test.text {
					t.Errorf("it reads %q, %v", got, err)
				}
				if below := c.(interface{ NetConn() net.Conn }).NetConn(); below == nil || below == c {
					t.Errorf("the connection below is %v", below)
				}
				time.Sleep(time.Hour) // of the bubble: the deadline of the first byte is over
				go func() { _, _ = client.Write([]byte("x")) }()
				if n, err := c.Read(got); n != 1 || err != nil {
					t.Errorf("an hour later it reads %d, %v", n, err)
				}
			})
		})
	}
}

func TestSilentConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		m := Split(l, Config{MaxPending: 3})
		defer m.Close()
		began := time.Now()
		silent := []net.Conn{l.dial(), l.dial()}

		// It does not block others.
		talkative := says(t, l, "GET")
		defer talkative.Close()
		served := accept(t, m.HTTP())
		defer served.Close()
		synctest.Wait() // until it is pending no more

		// Nor are there more than so many of them.
		silent = append(silent, l.dial())
		if _, err := l.dial().Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a connection too many read %v", err)
		}
		if waited := time.Since(began); waited != 0 {
			t.Errorf("all of that took %v", waited)
		}

		for _, c := range silent {
			if _, err := c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("a silent connection read %v", err)
			}
		}
		if waited := time.Since(began); waited != DefaultFirstByteTimeout {
			t.Errorf("they were closed after %v", waited)
		}
		synctest.Wait()
		again := says(t, l, "GET")
		defer again.Close()
		defer accept(t, m.HTTP()).Close()
	})
}

func TestOneSourceKeepsNobodyOut(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := Split(listener, Config{MaxPerSource: 1})
	defer m.Close()
	dial := func(from net.IP) net.Conn {
		conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Skip("this system has one loopback address alone:", err)
		}
		return conn
	}
	silent := dial(net.IPv4(127, 0, 0, 66))
	defer silent.Close()
	second := dial(net.IPv4(127, 0, 0, 66))
	defer second.Close()
	if _, err := second.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection too many of one address read %v", err)
	}
	honest := dial(net.IPv4(127, 0, 0, 1))
	defer honest.Close()
	if _, err := honest.Write([]byte("GET")); err != nil {
		t.Fatal(err)
	}
	defer accept(t, m.HTTP()).Close()
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sources) != len(m.pending) {
		t.Errorf("%v come from %v", m.pending, m.sources)
	}
}

func TestClosing(t *testing.T) {
	t.Run("one half", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newMemory()
			m := Split(l, Config{})
			defer m.Close()
			waits := says(t, l, "GET") // and nobody accepts it
			synctest.Wait()
			if err := m.HTTP().Close(); err != nil {
				t.Fatal(err)
			}
			for name, c := range map[string]net.Conn{"one that waited": waits, "one that comes": says(t, l, "GET")} {
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("%s read %v", name, err)
				}
			}
			if _, err := m.HTTP().Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the closed half accepts: %v", err)
			}
			defer says(t, l, "\x00").Close()
			defer accept(t, m.TURN()).Close()
		})
	})
	t.Run("both, with everything under way", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newMemory()
			m := Split(l, Config{})
			clients := []net.Conn{l.dial(), says(t, l, "GET"), says(t, l, "\x00")}
			synctest.Wait()
			accepting := make(chan error)
			for _, half := range []net.Listener{m.HTTP(), m.TURN()} {
				go func() {
					for {
						c, err := half.Accept()
						if err != nil {
							accepting <- err
							return
						}
						_ = c.Close()
					}
				}()
			}
			began := time.Now()
			if err := errors.Join(m.Close(), m.Close()); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := <-accepting; !errors.Is(err, net.ErrClosed) {
					t.Errorf("Accept returned %v", err)
				}
			}
			for _, c := range clients {
				if _, err := c.Read(make([]byte, 1)); err != io.EOF {
					t.Errorf("a connection read %v", err)
				}
			}
			if waited := time.Since(began); waited != 0 {
				t.Errorf("it took %v", waited)
			}
		})
	})
}

func TestFailingListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newMemory()
		m := Split(l, Config{})
		defer m.Close()
		began := time.Now()
		for range 10 {
			l.errs <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", syscall.EMFILE)}
		}
		defer says(t, l, "GET").Close()
		defer accept(t, m.HTTP()).Close()
		if waited := time.Since(began); waited < longestPause || waited > 10*longestPause {
			t.Errorf("being out of file descriptors ten times took %v", waited)
		}
		broken := errors.New("broken")
		l.errs <- broken
		for _, half := range []net.Listener{m.HTTP(), m.TURN()} {
			if _, err := half.Accept(); err != broken {
				t.Errorf("Accept returned %v", err)
			}
		}
	})
	t.Run("closed while it pauses", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newMemory()
			m := Split(l, Config{})
			l.errs <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", syscall.EMFILE)}
			synctest.Wait()
			began := time.Now()
			if err := m.Close(); err != nil || time.Since(began) != 0 {
				t.Errorf("closing took %v: %v", time.Since(began), err)
			}
		})
	})
}

// FuzzFirstBytes holds what is accepted to what was said, and the half to its rule.
func FuzzFirstBytes(f *testing.F) {
	if seeds, err := os.ReadDir(filepath.Join("testdata", "fuzz", f.Name())); err != nil || len(seeds) == 0 {
		f.Fatalf("%s has no committed seeds: %v", f.Name(), err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) == 0 {
			return
		}
		l := newMemory()
		m := Split(l, Config{})
		client := l.dial()
		accepted := make(chan struct{})
		go func() {
			_, _ = client.Write(text)
			<-accepted // a pipe, unlike TCP, takes no deadline once the other side has closed it
			_ = client.Close()
		}()
		half := m.HTTP()
		if text[0] < 2 {
			half = m.TURN()
		}
		c := accept(t, half)
		close(accepted)
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("of %q it reads %q, %v", text, got, err)
		}
		_ = c.Close()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
}
