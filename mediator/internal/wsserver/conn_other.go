//go:build !unix

package wsserver

import (
	"net"
	"syscall"
)

// systemOf returns nil: calls of the system are left to package net.
func systemOf(net.Conn) syscall.RawConn { return nil }

// readAhead is never called: there is nothing of the system's here.
func (c *conn) readAhead() error { panic("no connection of the system's") }

// writeNow leaves everything to Write.
func (c *conn) writeNow([]byte) (int, error) { return 0, nil }
