package node

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	libp2ppeer "github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"p2pcdn/common/ident"
	"p2pcdn/common/mediation"
)

// strangerAddress is where strangers come from: limits per address are not those of honest peers.
const strangerAddress = "127.0.0.66"

// reach opens a TCP connection to the mediator from the strangers' address.
func reach(t *testing.T, n *Node) *net.TCPConn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(strangerAddress)}, Timeout: patience}
	conn, err := dialer.Dial("tcp", n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// ended waits until the other side has ended the connection, whatever it says before that.
func ended(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, conn); isTimeout(err) {
		t.Fatal("it was not cut off")
	}
}

func isTimeout(err error) bool {
	timeout, is := err.(net.Error)
	return is && timeout.Timeout()
}

// The opcodes of RFC 6455, section 5.2.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10

	final = 0x80 // the last frame of a message
)

// stranger is a WebSocket client that is free to do everything wrong: its frames are its own.
type stranger struct {
	t   *testing.T
	tcp *net.TCPConn
	id  ident.PeerID

	writing sync.Mutex // held while a frame is written

	mu     sync.Mutex     // guards everything below
	mute   bool           // it answers no pings
	told   map[string]int // the types of messages, and the codes of errors
	last   *mediation.Error
	over   bool
	status int // of the close; 0: none came
	reason string
}

// upgrade asks for a WebSocket on the connection, with further headers, and returns the answer.
func upgrade(t *testing.T, conn net.Conn, headers ...string) (*http.Response, *bufio.Reader) {
	t.Helper()
	lines := append([]string{
		"GET " + mediation.Path + " HTTP/1.1", "Host: mediator.example", "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}, headers...)
	if _, err := io.WriteString(conn, strings.Join(lines, "\r\n")+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	return response, reader
}

// knock opens a WebSocket and says nothing yet.
func knock(t *testing.T, n *Node) *stranger {
	t.Helper()
	s := &stranger{t: t, tcp: reach(t, n), told: make(map[string]int)}
	response, reader := upgrade(t, s.tcp)
	if response.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("a WebSocket was refused with %d", response.StatusCode)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.read(reader)
	}()
	t.Cleanup(func() {
		_ = s.tcp.Close()
		<-done
	})
	return s
}

// intrude opens a WebSocket and shakes hands.
func intrude(t *testing.T, n *Node) *stranger {
	t.Helper()
	s := knock(t, n)
	id, err := ident.NewPeerID(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.id = id
	s.say(mediation.Handshake{PeerID: id})
	s.hears(mediation.Established{}.Type())
	return s
}

// read takes frames until the connection ends. A server masks none, and ours splits none.
func (s *stranger) read(from *bufio.Reader) {
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.over = true
	}()
	for {
		var head [2]byte
		if _, err := io.ReadFull(from, head[:]); err != nil {
			return
		}
		length := int(head[1])
		if length == 126 {
			var long [2]byte
			if _, err := io.ReadFull(from, long[:]); err != nil {
				return
			}
			length = int(binary.BigEndian.Uint16(long[:]))
		}
		if length > mediation.MaxMessageSize {
			s.t.Errorf("a mediator sent a frame of %d bytes", length)
			return
		}
		payload := make([]byte, length)
		if _, err := io.ReadFull(from, payload); err != nil {
			return
		}
		s.take(int(head[0]&0x0f), payload)
	}
}

func (s *stranger) take(opcode int, payload []byte) {
	s.mu.Lock()
	mute := s.mute
	s.mu.Unlock()
	switch {
	case opcode == opPing && !mute:
		s.raw(wsFrame(final|opPong, payload))
	case opcode == opClose:
		s.raw(wsFrame(final|opClose, nil))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch opcode {
	case opText:
		message, err := mediation.Decode(payload)
		if err != nil {
			s.t.Errorf("a mediator sent %.300s: %v", payload, err)
			return
		}
		s.told[message.Type()]++
		if refusal, is := message.(*mediation.Error); is {
			s.told[string(refusal.Code)]++
			s.last = refusal
		}
	case opClose:
		if len(payload) >= 2 {
			s.status, s.reason = int(binary.BigEndian.Uint16(payload)), string(payload[2:])
		}
	}
}

// wsFrame is a frame of a client (RFC 6455, section 5.2), masked with zeros.
func wsFrame(first byte, payload []byte) []byte {
	return append(wsHead(first, len(payload)), payload...)
}

func wsHead(first byte, length int) []byte {
	const masked = 0x80
	head := []byte{first}
	switch {
	case length < 126:
		head = append(head, masked|byte(length))
	case length < 1<<16:
		head = binary.BigEndian.AppendUint16(append(head, masked|126), uint16(length))
	default:
		head = binary.BigEndian.AppendUint64(append(head, masked|127), uint64(length))
	}
	return append(head, 0, 0, 0, 0)
}

// raw sends bytes as they are. It reports whether there was anybody to send to.
func (s *stranger) raw(bytes []byte) bool {
	s.writing.Lock()
	defer s.writing.Unlock()
	_, err := s.tcp.Write(bytes)
	return err == nil
}

func (s *stranger) text(text string) { s.raw(wsFrame(final|opText, []byte(text))) }

func (s *stranger) say(message mediation.Message) { s.text(string(mediation.Encode(message))) }

// hears waits until a message of the type, or an error of the code, has come.
func (s *stranger) hears(what string) {
	s.t.Helper()
	eventually(s.t, "it is told "+what, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.told[what] > 0
	})
}

// refused waits for an error of that code.
func (s *stranger) refused(code mediation.ErrorCode) { s.t.Helper(); s.hears(string(code)) }

// count is how many there were of a type, or a code.
func (s *stranger) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.told[what]
}

// expelled waits until it is cut off, and fails unless it was told that reason; "": none.
func (s *stranger) expelled(status int, reason mediation.ErrorCode) {
	s.t.Helper()
	eventually(s.t, "it is cut off", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.over
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.status != status || s.reason != string(reason) {
		s.t.Errorf("it ended with %d %q instead of %d %q", s.status, s.reason, status, reason)
	}
}

// silence has it answer no pings any more.
func (s *stranger) silence() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mute = true
}

// stays fails unless the connection is still there.
func (s *stranger) stays() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		s.t.Errorf("it was cut off with %d %q", s.status, s.reason)
	}
}

// foreigner is a libp2p host of a stranger's, connected to the mediator.
func foreigner(t *testing.T, n *Node) (host.Host, libp2ppeer.ID) {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h, meet(t, h, n)
}

// meet connects a libp2p host to the mediator.
func meet(t *testing.T, h host.Host, n *Node) libp2ppeer.ID {
	t.Helper()
	address, err := libp2ppeer.AddrInfoFromString(n.DHTAddrs()[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(t.Context(), *address); err != nil {
		t.Fatal(err)
	}
	return address.ID
}

// streamTo opens a stream to a mediator that the host is connected to.
func streamTo(t *testing.T, h host.Host, to libp2ppeer.ID, of protocol.ID) network.Stream {
	t.Helper()
	stream, err := h.NewStream(network.WithNoDial(context.Background(), "it is connected"), to, of)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Reset() })
	_ = stream.SetDeadline(time.Now().Add(patience))
	return stream
}

// greet opens a mediation stream, and shakes hands; the reader is behind the answer.
func greet(t *testing.T, h host.Host, to libp2ppeer.ID) (network.Stream, *bufio.Reader) {
	t.Helper()
	stream := streamTo(t, h, to, mediation.StreamProtocol)
	if _, err := stream.Write(greeting(h)); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(stream)
	if message := answers(t, reader); message.Type() != (mediation.Established{}).Type() {
		t.Fatalf("the handshake was answered by %s", show(message))
	}
	return stream, reader
}

// greeting is the handshake of a mediator.
func greeting(h host.Host) []byte {
	return frame(`{"type":"handshake","connection_type":"replication","peer_id":"` + h.ID().String() + `"}`)
}

// answers returns the next message of a stream.
func answers(t *testing.T, from *bufio.Reader) mediation.Message {
	t.Helper()
	message, err := mediation.ReadFrom(from)
	if err != nil {
		t.Fatalf("no message came: %v", err)
	}
	return message
}

// until returns the first error of that code.
func until(t *testing.T, from *bufio.Reader, code mediation.ErrorCode) *mediation.Error {
	t.Helper()
	for {
		if refusal, is := answers(t, from).(*mediation.Error); is && refusal.Code == code {
			return refusal
		}
	}
}
