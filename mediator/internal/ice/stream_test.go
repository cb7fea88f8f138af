package ice

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tcp is an end of a pipe that says it is of TCP.
type tcp struct {
	net.Conn
	port int
}

func (c tcp) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (c tcp) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: c.port} }

// memory is a listener for those.
type memory struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *memory) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memory) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memory) Addr() net.Addr { return &net.TCPAddr{} }

// deaf is a UDP socket to which nothing comes.
type deaf struct {
	net.PacketConn
	closed chan struct{}
	once   sync.Once
}

func (d *deaf) LocalAddr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (d *deaf) ReadFrom([]byte) (int, net.Addr, error) {
	<-d.closed
	return 0, nil, net.ErrClosed
}

func (d *deaf) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

func TestIdleStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &memory{conns: make(chan net.Conn), closed: make(chan struct{})}
		s, err := New(Config{UDP: &deaf{closed: make(chan struct{})}, TCP: l, Turn: true, Random: rand.Reader, Limits: Limits{RequestBurst: maxWaiting}})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		dial := func(n int) net.Conn {
			client, server := net.Pipe()
			l.conns <- tcp{server, n}
			return client
		}
		began := time.Now()
		conns := make([]net.Conn, maxWaiting)
		for n := range conns {
			conns[n] = dial(n)
		}
		synctest.Wait()
		if _, err := dial(maxWaiting).Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("a connection too many read %v", err)
		}
		if got := s.Stats(); got.Connections != maxWaiting || got.RefusedConnections != 1 {
			t.Errorf("counted %+v", got)
		}

		// One that talks, but does not allocate, is not kept for longer.
		answer := make([]byte, 32)
		if _, err := conns[0].Write(message(0x0001, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conns[0], answer); err != nil || !bytes.Equal(answer[8:20], message(0, 1)[8:]) {
			t.Errorf("it was answered %x, %v", answer, err)
		}
		// One that says nonsense is closed at once.
		if _, err := conns[1].Write([]byte("\x80\x00\x00\x00")); err != nil {
			t.Fatal(err)
		}
		if _, err := conns[1].Read(answer); err != io.EOF || time.Since(began) != 0 {
			t.Errorf("after %v nonsense gave %v", time.Since(began), err)
		}
		for n, c := range conns {
			if _, err := io.Copy(io.Discard, c); err != nil && n != 1 {
				t.Errorf("an idle connection read %v", err)
			}
		}
		if waited := time.Since(began); waited != waitTimeout {
			t.Errorf("they were closed after %v", waited)
		}
		synctest.Wait()
		if got := s.Stats(); got.Connections != 0 {
			t.Errorf("counted %+v", got)
		}
	})
}

func TestSlowStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		began := time.Now()
		if _, err := newStream(server).WriteTo(message(0x0101, 1), nil); err == nil || time.Since(began) != writeTimeout {
			t.Errorf("writing to somebody who does not read gave %v after %v", err, time.Since(began))
		}
		if _, err := server.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection was left open: %v", err)
		}
	})
}

// packets reads frames until there is an error.
func packets(text []byte) (frames [][]byte, err error) {
	client, server := net.Pipe()
	go func() {
		_, _ = client.Write(text)
		_ = client.Close()
	}()
	defer server.Close()
	s := newStream(tcp{server, 2})
	for {
		buffer := make([]byte, maxFrame)
		n, _, err := s.ReadFrom(buffer)
		if err != nil {
			return frames, err
		}
		frames = append(frames, buffer[:n])
	}
}

func TestFrames(t *testing.T) {
	request := message(0x0001, 1)
	for _, test := range []struct {
		name string
		text []byte
		want [][]byte
		err  error
	}{
		{"requests", append(request[:20:20], request...), [][]byte{request, request}, io.EOF},
		{"a short one, and the next", append([]byte("\x40\x00\x00\x01x\x00\x00\x00"), request...), [][]byte{[]byte("\x40\x00\x00\x01x"), request}, io.EOF},
		{"an empty one", []byte("\x4f\xff\x00\x00"), [][]byte{[]byte("\x4f\xff\x00\x00")}, io.EOF},
		{"a channel that is none", []byte("\x50\x00\x00\x00"), nil, errBadFrame},
		{"HTTP", []byte("GET / HTTP/1.1"), nil, errBadFrame},
		{"a length that is no multiple of four", []byte("\x00\x01\x00\x01"), nil, errBadFrame},
		{"a length that is zero with its header, in 16 bits", []byte("\x00\x01\xff\xec"), nil, errBadFrame},
		{"a long one", []byte("\x40\x00\xff\xff"), nil, errBadFrame},
		{"half a header", []byte("\x00\x01"), nil, io.EOF},
		{"half a frame", request[:19], nil, io.ErrUnexpectedEOF},
		{"no padding", []byte("\x40\x00\x00\x01x"), nil, io.EOF},
	} {
		got, err := packets(test.text)
		if !errors.Is(err, test.err) || len(got) != len(test.want) {
			t.Errorf("%s: %q, %v", test.name, got, err)
			continue
		}
		for i := range got {
			if !bytes.Equal(got[i], test.want[i]) {
				t.Errorf("%s: %q", test.name, got)
			}
		}
	}
}
