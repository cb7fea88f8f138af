//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package store

import (
	"errors"
	"os"
	"syscall"
)

// openLocked opens or makes a file for reading and writing, and locks it. It follows no
// symbolic link: in a folder that others may write to, that could lead anywhere. Its
// permissions are those of any other new file, since it becomes the final one.
func openLocked(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o666)
	if err != nil {
		return nil, err
	}
	switch err := lock(file); {
	case errors.Is(err, syscall.EWOULDBLOCK):
		_ = file.Close()
		return nil, errBusy
	case err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.ENOLCK):
		_ = file.Close()
		return nil, err
	}
	return file, nil // also on a file system that has no locks: there, nothing keeps two processes apart
}

func lock(file *os.File) error {
	for {
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// linked says whether the file has another name.
func linked(file *os.File) bool {
	found, err := file.Stat()
	if err != nil {
		return false
	}
	stat, ok := found.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink > 1
}
