package wsserver

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"p2pcdn/common/mediation"
)

const (
	// closeTime bounds how long the other side has to answer that the connection closes.
	closeTime = time.Second

	// messageTime bounds how long a message may take from its first byte to its
	// last: the largest has 132 KiB, and fits through a slow modem in 20 seconds.
	messageTime = 30 * time.Second
)

// transport is a WebSocket as a [session.Transport].
type transport struct {
	ws   *websocket.Conn
	tcp  *conn // beneath it: the only thing that can be closed at once while a write is stuck
	most int   // bytes of a message
}

// accept upgrades the request to a WebSocket. Where it fails the client has been answered.
func accept(w http.ResponseWriter, r *http.Request, most int) (*transport, error) {
	hijacker := &hijacker{ResponseWriter: w}
	ws, err := websocket.Accept(hijacker, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // pages of every origin may use a mediator
		CompressionMode:    websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, err
	}
	ws.SetReadLimit(-1)                 // Read has its own, which lets the peer be told
	hijacker.reader.Reset(hijacker.tcp) // the library has put a reader of its own before it, for what came early
	return &transport{ws, hijacker.tcp, most}, nil
}

const (
	// readBuffer and writeBuffer are those of a WebSocket, in bytes. net/http's have 4 KiB
	// each, for as long as the connection lives. They hold the head of a message; what is longer passes
	// them by, and conn sees to it that the system is called once.
	readBuffer  = 64
	writeBuffer = 64
)

// hijacker remembers the connection that is taken over, and gives it buffers of its own.
type hijacker struct {
	http.ResponseWriter
	tcp    *conn
	reader *bufio.Reader // of tcp; the library's
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	tcp, buffer, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	early, _ := buffer.Reader.Peek(buffer.Reader.Buffered()) // of a client that did not wait for the answer
	h.tcp = newConn(tcp, bytes.Clone(early))
	h.reader = bufio.NewReaderSize(h.tcp, readBuffer)
	return h.tcp, bufio.NewReadWriter(h.reader, bufio.NewWriterSize(h.tcp, writeBuffer)), nil
}

// Read implements [session.Transport].
func (t *transport) Read(take func(text []byte)) error {
	kind, frame, err := t.ws.Reader(context.Background()) // a context would cost two timers each time
	if err != nil {
		return err
	}
	t.tcp.begin()
	defer t.tcp.end()
	buffer := buffers.Get().(*[maxPooled]byte)
	defer buffers.Put(buffer)
	text, err := readAll(io.LimitReader(frame, int64(t.most)+1), buffer[:])
	switch {
	case err != nil:
		return err
	case len(text) > t.most:
		return &mediation.Error{Code: mediation.CodeMessageTooBig, Message: fmt.Sprintf("a message has at most %d bytes", t.most)}
	case kind != websocket.MessageText:
		return &mediation.Error{Code: mediation.CodeBadMessage, Message: "a message is a text frame, not a binary one"}
	}
	take(text)
	return nil
}

// readAll is io.ReadAll into a buffer, for what mostly fits it: it reads as much at a time as there is.
func readAll(from io.Reader, buffer []byte) ([]byte, error) {
	have := 0
	for have < len(buffer) {
		n, err := from.Read(buffer[have:])
		have += n
		switch {
		case err == io.EOF:
			return buffer[:have], nil
		case err != nil:
			return nil, err
		}
	}
	rest, err := io.ReadAll(from)
	return append(buffer[:have:have], rest...), err
}

// Write implements [session.Transport].
func (t *transport) Write(text []byte, within time.Duration) error {
	t.tcp.hold()
	err := t.ws.Write(context.Background(), websocket.MessageText, text) // to memory
	return errors.Join(err, t.tcp.flush(within))
}

// Ping implements [session.Transport].
func (t *transport) Ping(ctx context.Context) error { return t.ws.Ping(ctx) }

// Close implements [session.Transport].
func (t *transport) Close(reason mediation.ErrorCode) {
	if reason == "" {
		_ = t.tcp.drop() // whoever closed it before us has the same wish
		_ = t.ws.CloseNow()
		return
	}
	end := t.tcp.Close // the system goes on with the little that was said at last
	if reason == mediation.CodeSlowReader {
		end = t.tcp.drop
	}
	impatient := time.AfterFunc(closeTime, func() { _ = end() })
	defer impatient.Stop()
	_ = t.ws.Close(status(reason), string(reason)) // an answer that does not come changes nothing
}

// status is the WebSocket's close status for a reason (RFC 6455, section 7.4.1).
func status(reason mediation.ErrorCode) websocket.StatusCode {
	switch reason {
	case mediation.CodeGoingAway:
		return websocket.StatusGoingAway
	case mediation.CodeMessageTooBig:
		return websocket.StatusMessageTooBig
	case mediation.CodeOverloaded:
		return websocket.StatusTryAgainLater
	}
	return websocket.StatusPolicyViolation
}
