//go:build linux && !race

package wsserver

import (
	"syscall"
	"unsafe"
)

// sysRead and sysWrite are those of package syscall, for sockets that do not wait (O_NONBLOCK, as all of
// package net's are). Nothing is said to Go's scheduler, which would watch for a call that takes longer than 20 µs,
// as one that wakes the other side may, and give its place to another thread: that costs up to a tenth of an introduction.
func sysRead(file uintptr, p []byte) (n int, err error) { return call(syscall.SYS_READ, file, p) }

func sysWrite(file uintptr, p []byte) (n int, err error) { return call(syscall.SYS_WRITE, file, p) }

func call(number, file uintptr, p []byte) (n int, err error) {
	result, _, failure := syscall.RawSyscall(number, file, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
	if failure != 0 {
		return 0, failure
	}
	return int(result), nil
}
