package store

import (
	"errors"
	"io/fs"
	"syscall"
)

// Code is the class of a failure.
type Code string

// The classes of failure.
const (
	CodeMissing    Code = "missing"    // there is no such file or folder
	CodeNoFile     Code = "no_file"    // it is a folder, a device, a pipe
	CodeUnreadable Code = "unreadable" // the file cannot be read, or reading failed
	CodeTooLarge   Code = "too_large"  // more than a full hash can name
	CodeChanged    Code = "changed"    // the file is no longer what it was when it was hashed
	CodeExists     Code = "exists"     // the target's name is taken
	CodeUnwritable Code = "unwritable" // the target's folder cannot be written to, or writing failed
	CodeDiskFull   Code = "disk_full"  // no room, or the quota is used up
	CodeBusy       Code = "busy"       // another process is fetching it to the same place
)

// Error is a failure with its class.
type Error struct {
	Code    Code
	Path    string
	Message string // for people; may change
	Err     error  // what the system said; may be nil
}

// Error returns the message, what the system said, and the code.
func (e *Error) Error() string {
	text := e.Path + ": " + e.Message
	if e.Err != nil {
		text += ": " + e.Err.Error()
	}
	return text + " (" + string(e.Code) + ")"
}

// Unwrap returns what the system said.
func (e *Error) Unwrap() error { return e.Err }

// Is makes errors.Is(err, &Error{Code: c}) true for every error of class c.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

// plain takes the path out of what the system said: it is in the Error already.
func plain(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func readError(path string, err error) *Error {
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{CodeMissing, path, "there is no such file", nil}
	}
	return &Error{CodeUnreadable, path, "it cannot be read", plain(err)}
}

func writeError(path string, err error) *Error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &Error{CodeDiskFull, path, "the disk is full", nil}
	case errors.Is(err, fs.ErrNotExist):
		return &Error{CodeMissing, path, "there is no such folder", nil}
	}
	return &Error{CodeUnwritable, path, "it cannot be written", plain(err)}
}
