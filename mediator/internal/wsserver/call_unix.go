//go:build unix && (!linux || race)

package wsserver

import "syscall"

// The race detector follows these, and nothing that goes past package syscall.

func sysRead(file uintptr, p []byte) (n int, err error) { return syscall.Read(int(file), p) }

func sysWrite(file uintptr, p []byte) (n int, err error) { return syscall.Write(int(file), p) }
