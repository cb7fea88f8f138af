package main

import (
	"errors"
	"fmt"
	"io"
	"syscall"

	"p2pcdn/peer/client"
)

// pipeRun is how many bytes are handed to standard output at a time: some times what a
// pipe holds, so that neither side waits for the other at every turn.
const pipeRun = 256 << 10

// errUnread says that whoever read standard output wants no more: the command ends without a word.
var errUnread = errors.New("nobody reads standard output any more")

// outlet is standard output. It fails with errUnread where that is a pipe that was closed.
type outlet struct{ io.Writer }

func (o outlet) Write(data []byte) (int, error) {
	n, err := o.Writer.Write(data)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, io.ErrClosedPipe) {
		err = errUnread
	}
	return n, err
}

// pipe copies a content to standard output while it is fetched, in order. It is used by the
// command's goroutine.
type pipe struct {
	share  *client.Share // static after construction, as are the next two
	reader *client.Reader
	result chan error // how the copying ended; capacity 1, so that nobody has to take it
	done   bool       // everything was written
}

func startPipe(share *client.Share, stdout io.Writer) *pipe {
	p := &pipe{share: share, reader: share.NewReader(), result: make(chan error, 1)}
	go func() { p.result <- copyAll(stdout, p.reader) }()
	return p
}

// copyAll tells a failure to write from one to read.
func copyAll(stdout io.Writer, content io.Reader) error {
	buffer := make([]byte, pipeRun)
	for {
		n, reading := content.Read(buffer)
		if n > 0 {
			if _, err := stdout.Write(buffer[:n]); err != nil {
				return fmt.Errorf("writing to standard output: %w", err)
			}
		}
		switch {
		case errors.Is(reading, io.EOF):
			return nil
		case reading != nil:
			return reading
		}
	}
}

// ended returns the channel that says how the copying ended. A nil pipe never ends.
func (p *pipe) ended() <-chan error {
	if p == nil {
		return nil
	}
	return p.result
}

// end takes how the copying ended. Where the share failed, it says why itself.
func (p *pipe) end(err error) error {
	p.done = err == nil
	if err != nil && p.share.Status().State == client.Failed {
		return nil
	}
	return err
}

// close ends the copying, unless it waits for somebody to read: that only the end of the process does.
func (p *pipe) close() {
	if p != nil {
		_ = p.reader.Close()
	}
}
