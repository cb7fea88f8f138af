//go:build unix && !linux

package wsserver

import "syscall"

func sysRead(file uintptr, p []byte) (n int, err error) { return syscall.Read(int(file), p) }

func sysWrite(file uintptr, p []byte) (n int, err error) { return syscall.Write(int(file), p) }
