//go:build unix

package wsserver

import (
	"io"
	"net"
	"os"
	"syscall"
)

// systemOf returns the system's connection, where reading it is reading the connection.
func systemOf(c net.Conn) syscall.RawConn {
	if c, is := c.(syscall.Conn); is { // TLS is none
		system, err := c.SyscallConn()
		if err == nil { // it fails for a closed one, whose reads and writes say so themselves
			return system
		}
	}
	return nil
}

// readAhead waits until there is something to read, and reads as much as a buffer holds. While
// it waits there is no buffer.
func (c *conn) readAhead() error {
	var n int
	var failure error
	err := c.system.Read(func(file uintptr) (done bool) {
		buffer := buffers.Get().(*[maxPooled]byte)
		for {
			n, failure = sysRead(file, buffer[:])
			if failure != syscall.EINTR {
				break
			}
		}
		if n > 0 && failure == nil {
			c.buffer, c.ahead = buffer, buffer[:n]
			return true
		}
		buffers.Put(buffer)
		return failure != syscall.EAGAIN
	})
	switch {
	case err != nil:
		return err
	case failure != nil:
		return os.NewSyscallError("read", failure)
	case n == 0:
		return io.EOF
	}
	return nil
}

// writeNow writes as much as the system takes without waiting.
func (c *conn) writeNow(p []byte) (n int, err error) {
	if c.system == nil || len(p) == 0 {
		return 0, nil
	}
	var failure error
	err = c.system.Write(func(file uintptr) (done bool) {
		for {
			n, failure = sysWrite(file, p)
			if failure != syscall.EINTR {
				return true
			}
		}
	})
	switch {
	case err != nil:
		return 0, err
	case failure == syscall.EAGAIN:
		return 0, nil
	case failure != nil:
		return 0, os.NewSyscallError("write", failure)
	}
	return n, nil
}
