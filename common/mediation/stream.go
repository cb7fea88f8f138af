package mediation

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// buffer holds most messages, with their length. One that is longer has a slice of its own.
type buffer [4 << 10]byte

// buffers are those of messages between mediators that are being written or read.
var buffers = sync.Pool{New: func() any { return new(buffer) }}

// lengthSize is the size of the length before a message between mediators, in bytes.
const lengthSize = 4

// WriteTo writes the message to a stream between mediators, in one write.
func WriteTo(w io.Writer, message Message) error {
	room := buffers.Get().(*buffer)
	defer buffers.Put(room)
	framed := Append(room[:lengthSize], message)
	length := len(framed) - lengthSize
	if length > MaxMessageSize {
		return tooBig(length)
	}
	binary.BigEndian.PutUint32(framed, uint32(length))
	if _, err := w.Write(framed); err != nil {
		return fmt.Errorf("writing a message of %d bytes: %w", length, err)
	}
	return nil
}

// ReadFrom reads one message from a stream between mediators. io.EOF says that
// the stream ended between messages; within one it is io.ErrUnexpectedEOF. An [*Error] says that the message was
// wrong: unless its code is [CodeMessageTooBig], the next one can be read.
// Nothing is allocated for a length over MaxMessageSize.
func ReadFrom(r io.Reader) (Message, error) {
	room := buffers.Get().(*buffer)
	defer buffers.Put(room)
	if _, err := io.ReadFull(r, room[:lengthSize]); err != nil {
		if err == io.EOF {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("reading a message's length: %w", err)
	}
	length := binary.BigEndian.Uint32(room[:])
	if length > MaxMessageSize {
		return nil, tooBig(int(length))
	}
	text := room[:min(int(length), len(room))]
	if int(length) > len(room) {
		text = make([]byte, length)
	}
	if _, err := io.ReadFull(r, text); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // the length was there
		}
		return nil, fmt.Errorf("reading a message of %d bytes: %w", length, err)
	}
	return Decode(text)
}

// Whole reports whether all of a message is in the reader's buffer, so that ReadFrom need not wait.
func Whole(r *bufio.Reader) bool {
	head, err := r.Peek(min(lengthSize, r.Buffered()))
	return err == nil && len(head) == lengthSize && uint64(r.Buffered()) >= lengthSize+uint64(binary.BigEndian.Uint32(head))
}
