package wsserver

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/coder/websocket"

	"p2pcdn/common/mediation"
)

// writes is a connection that keeps what is written to it, each call by itself.
type writes struct {
	net.Conn
	calls []string
	err   error
}

func (w *writes) Write(p []byte) (int, error) {
	w.calls = append(w.calls, string(p))
	return len(p), w.err
}

func (w *writes) SetWriteDeadline(time.Time) error { return nil }

func TestAMessageIsWrittenAtOnce(t *testing.T) {
	under := &writes{}
	c := newConn(under, nil)
	_, _ = c.Write([]byte("pong"))
	long := strings.Repeat("x", 2*maxPooled)
	for _, parts := range [][]string{{"head", "body"}, {"head", long}, {"again"}} {
		c.hold()
		for _, part := range parts {
			if n, err := c.Write([]byte(part)); n != len(part) || err != nil {
				t.Fatalf("it took %d, %v", n, err)
			}
		}
		if err := c.flush(time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = c.Write([]byte("close"))
	if want := []string{"pong", "headbody", "head" + long, "again", "close"}; !slices.Equal(under.calls, want) {
		t.Errorf("%d calls were made: %.40q", len(under.calls), under.calls)
	}
	under.err = io.ErrClosedPipe
	c.hold()
	_, _ = c.Write([]byte("late"))
	if err := c.flush(time.Minute); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("what could not be written is told as %v", err)
	}
}

func TestReadAllOfAnyLength(t *testing.T) {
	for _, length := range []int{0, 1, maxPooled - 1, maxPooled, maxPooled + 1, 5 * maxPooled} {
		text := strings.Repeat("a", length)
		got, err := readAll(iotest.OneByteReader(strings.NewReader(text)), make([]byte, maxPooled))
		if err != nil || string(got) != text {
			t.Errorf("of %d bytes it read %d, %v", length, len(got), err)
		}
	}
	if _, err := readAll(iotest.ErrReader(io.ErrUnexpectedEOF), make([]byte, 1)); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a failure is told as %v", err)
	}
}

// tcp returns the two ends of a TCP connection.
func tcp(t *testing.T) (here *conn, there net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	there, err = net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	below, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(there.Close(), below.Close()) })
	return newConn(below, nil), there
}

// plain hides all of a connection but package net's interface, as TLS does.
type plain struct{ net.Conn }

func TestWhatIsReadAheadComesInOrder(t *testing.T) {
	for name, dress := range map[string]func(*conn) *conn{
		"of the system": func(c *conn) *conn { return c },
		"of another":    func(c *conn) *conn { return newConn(plain{c.Conn}, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			below, there := tcp(t)
			here := dress(below)
			sent := make([]byte, 1<<20)
			_, _ = rand.Read(sent)
			go func() {
				for rest, n := sent, 1; len(rest) > 0; n = n*3%10_007 + 1 {
					n = min(n, len(rest))
					if _, err := there.Write(rest[:n]); err != nil {
						return
					}
					rest = rest[n:]
				}
				_ = there.Close()
			}()
			var got []byte
			for n := 1; ; n = n*5%9_001 + 1 {
				part := make([]byte, n)
				n, err := here.Read(part)
				got = append(got, part[:n]...)
				if err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(got, sent) {
				t.Errorf("%d bytes came, of %d, or others", len(got), len(sent))
			}
			if here.buffer != nil || here.ahead != nil {
				t.Error("it keeps a buffer while nothing is ahead")
			}
		})
	}
}

func TestWaitingForAMessageNeedsNoBuffer(t *testing.T) {
	here, there := tcp(t)
	read := make(chan error)
	go func() {
		_, err := here.Read(make([]byte, 2))
		read <- err
	}()
	_, _ = there.Write([]byte("hi"))
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	_ = here.Close()
	if _, err := here.Read(make([]byte, 2)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection reads %v", err)
	}
	if err := here.flushed("x"); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection writes %v", err)
	}
}

// flushed writes a message.
func (c *conn) flushed(text string) error {
	c.hold()
	_, _ = c.Write([]byte(text))
	return c.flush(time.Millisecond)
}

func TestWhatDoesNotFitTheSystemIsWaitedFor(t *testing.T) {
	here, there := tcp(t)
	long := strings.Repeat("x", 32<<20) // more than the buffers of both ends
	got := make(chan int64)
	go func() {
		n, _ := io.Copy(io.Discard, there)
		got <- n
	}()
	here.hold()
	_, _ = here.Write([]byte(long))
	if err := here.flush(time.Minute); err != nil {
		t.Fatal(err)
	}
	if err := here.flushed("short"); err != nil {
		t.Fatal(err)
	}
	_ = here.Close()
	if n := <-got; n != int64(len(long)+len("short")) {
		t.Errorf("%d bytes came", n)
	}
}

func TestAReaderThatDoesNotReadIsNotWaitedForWithoutEnd(t *testing.T) {
	here, _ := tcp(t)
	here.hold()
	_, _ = here.Write(bytes.Repeat([]byte("x"), 32<<20))
	if err := here.flush(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it is told as %v", err)
	}
}

// A message that stops in its middle has a deadline, and one that goes on has none afterwards.
func TestTheRestOfAMessageHasADeadline(t *testing.T) {
	here, there := tcp(t)
	deadlines := &deadlines{Conn: here.Conn}
	here.Conn = deadlines
	_, _ = there.Write([]byte("12"))
	here.begin()
	first := make([]byte, 2)
	if _, err := io.ReadFull(here, first); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = there.Write([]byte("3")) }()
	if _, err := io.ReadFull(here, first[:1]); err != nil {
		t.Fatal(err)
	}
	here.end()
	if len(deadlines.set) != 2 || deadlines.set[0].IsZero() || !deadlines.set[1].IsZero() {
		t.Errorf("the deadlines were %v", deadlines.set)
	}
	here.begin()
	here.end()
	if len(deadlines.set) != 2 {
		t.Error("a message that need not be waited for has a deadline")
	}
}

// deadlines is a connection that keeps its read deadlines.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetReadDeadline(at time.Time) error {
	d.set = append(d.set, at)
	return d.Conn.SetReadDeadline(at)
}

// A mediator behind TLS has no connection of the system's to read: everything goes on by package net.
func TestMessagesOverAConnectionThatIsNotTheSystems(t *testing.T) {
	server, _ := serve(t, nil)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over := &http.Server{Handler: server}
	done := make(chan error, 1)
	go func() { done <- over.Serve(dressing{listener}) }()
	t.Cleanup(func() {
		_ = over.Close()
		<-done
	})
	conn := dial(t, listener.Addr().String())
	write(t, conn, handshake)
	expect(t, conn, "established")
	signal := mediation.Encode(mediation.Signal{SignalData: mediation.NewSignalData(strings.Repeat("x", 3*maxPooled))})
	if err := conn.Write(t.Context(), websocket.MessageText, signal); err != nil {
		t.Fatal(err)
	}
	expect(t, conn, strings.Repeat("x", 3*maxPooled))
}

// dressing hides what the connections of a listener are.
type dressing struct{ net.Listener }

func (d dressing) Accept() (net.Conn, error) {
	c, err := d.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return plain{c}, nil
}
