package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"p2pcdn/common/content"
)

// File is what a Target does to its part file; [os.File] has it.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
	Sync() error
}

// Options of Create. The zero value is the usual.
type Options struct {
	Overwrite bool            // replace a file that has the final name
	Fresh     bool            // throw away what an earlier attempt left
	Wrap      func(File) File // what the part file is used through; nil: itself. For a test's full disk
}

// Target is a file that is being fetched. Its methods may be called together.
type Target struct {
	path      string           // static after construction, as are the next eight
	partPath  string           // of the part file
	temporary bool             // the part file never gets another name, and loses its own at once
	hash      content.FullHash // of the content, as is the next one
	geometry  content.Geometry
	overwrite bool
	part      *os.File // open and locked until Close
	file      File     // what part is read and written through
	found     bool     // an earlier attempt left something

	worth atomic.Bool // there is something that the next attempt may go on with

	ending    sync.Mutex // held while the file gets its final name, or is closed
	committed bool       // guarded by ending: the file has its final name

	open   sync.RWMutex // held for reading while the part file is used, for writing to close it
	closed bool         // guarded by open
}

// Create begins a file at path, or goes on with what an earlier attempt left there: Check
// says what that is. It fails at once where the name is taken, the
// folder is missing or cannot be written to, and with [CodeBusy] where another process is at it.
func Create(path string, info content.Info, options Options) (*Target, error) {
	switch found, err := os.Lstat(path); {
	case err == nil && found.IsDir():
		return nil, &Error{CodeNoFile, path, "it is a folder", nil}
	case err == nil && !options.Overwrite:
		forget(found, partPath(path, info.FullHash))
		return nil, errExists(path)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, writeError(path, err)
	}
	t := &Target{
		path: path, partPath: partPath(path, info.FullHash), overwrite: options.Overwrite,
		hash: info.FullHash, geometry: info.Geometry(),
	}
	return t.begin(options)
}

// CreateTemporary begins a file that nobody else ever sees, in the system's folder for such
// files: it is gone when it is closed, and when its process ends, however it does. Commit gives it
// no name. Of the options, Wrap counts.
func CreateTemporary(info content.Info, options Options) (*Target, error) {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("p2pcdn.%016x.part", rand.Uint64())) // 64 random bits never meet
	t := &Target{path: path, partPath: path, temporary: true, hash: info.FullHash, geometry: info.Geometry()}
	return t.begin(options)
}

// begin opens the part file, and closes it again where that fails.
func (t *Target) begin(options Options) (_ *Target, err error) {
	if t.part, err = openPart(t.partPath); err != nil {
		return nil, t.openError(err)
	}
	t.file = t.part
	if options.Wrap != nil {
		t.file = options.Wrap(t.part)
	}
	if err := t.prepare(options.Fresh); err != nil {
		_ = t.Close()
		return nil, err
	}
	return t, nil
}

func (t *Target) openError(err error) error {
	var told *Error
	switch {
	case errors.As(err, &told):
		return told
	case errors.Is(err, errBusy):
		return &Error{CodeBusy, t.path, "another process is fetching it to this place", nil}
	}
	return writeError(filepath.Dir(t.partPath), err)
}

// prepare gives the part file its length. What it holds is not trusted, of whatever length it was.
func (t *Target) prepare(fresh bool) error {
	if t.temporary {
		if err := os.Remove(t.partPath); err != nil { // it lasts as long as it is open
			return writeError(t.path, err)
		}
	}
	found, err := t.part.Stat()
	if err != nil {
		return readError(t.path, err)
	}
	t.found = found.Size() > 0 && !fresh
	t.worth.Store(t.found)
	if fresh && found.Size() > 0 {
		if err := t.file.Truncate(0); err != nil {
			return writeError(t.path, err)
		}
	}
	if fresh || found.Size() != t.geometry.TotalLength {
		if err := t.file.Truncate(t.geometry.TotalLength); err != nil {
			return writeError(t.path, err)
		}
	}
	return nil
}

// Path is the final name.
func (t *Target) Path() string { return t.path }

// WriteBlock writes a block at its place; whether it is right shows later. Blocks are
// written side by side. From then on there is something for the next attempt to go on with.
func (t *Target) WriteBlock(piece int, begin int64, data []byte) error {
	t.open.RLock()
	defer t.open.RUnlock()
	if t.closed {
		return t.errClosed()
	}
	t.worth.Store(true)
	if _, err := t.file.WriteAt(data, t.geometry.PieceOffset(piece)+begin); err != nil {
		return writeError(t.path, err)
	}
	return nil
}

// ReadBlock reads a block into buffer, which is as long as the block. It belongs to a piece
// that the caller has verified. Blocks are read side by side.
func (t *Target) ReadBlock(piece int, begin int64, buffer []byte) error {
	t.open.RLock()
	defer t.open.RUnlock()
	if t.closed {
		return t.errClosed()
	}
	if err := readFull(t.file, buffer, t.geometry.PieceOffset(piece)+begin); err != nil {
		return readError(t.path, err)
	}
	return nil
}

func (t *Target) errClosed() error {
	return &Error{CodeUnreadable, t.path, "it was closed", nil}
}

// Commit puts the content, every piece of which the caller has verified, under its final
// name. Blocks can be read from it until Close. Where it fails there is nothing new under
// the final name, and what was fetched is still there for another attempt.
func (t *Target) Commit() error {
	t.ending.Lock()
	defer t.ending.Unlock()
	t.open.RLock()
	defer t.open.RUnlock()
	if t.closed {
		return t.errClosed()
	}
	if t.temporary {
		return nil
	}
	if err := t.file.Sync(); err != nil { // also where a full disk shows late
		return writeError(t.path, err)
	}
	if err := t.rename(); err != nil {
		return err
	}
	t.committed = true
	syncFolder(filepath.Dir(t.path))
	return nil
}

// rename gives the part file its final name. Linking fails where the name is taken,
// with nothing in between; file systems that cannot link get a check and a rename.
func (t *Target) rename() error {
	if !named(t.part, t.partPath) {
		return t.gone()
	}
	if t.overwrite {
		return t.moved(os.Rename(t.partPath, t.path))
	}
	err := os.Link(t.partPath, t.path)
	switch {
	case err == nil:
		return t.moved(removePart(t.part, t.partPath))
	case errors.Is(err, fs.ErrExist):
		return errExists(t.path)
	}
	if _, err := os.Lstat(t.path); err == nil {
		return errExists(t.path)
	}
	return t.moved(os.Rename(t.partPath, t.path))
}

// gone says why the part file is not there any more.
func (t *Target) gone() error {
	if _, err := os.Stat(filepath.Dir(t.partPath)); err != nil {
		return writeError(t.path, err)
	}
	return &Error{CodeMissing, t.path, "its unfinished file was removed by somebody else", nil}
}

func (t *Target) moved(err error) error {
	if err != nil {
		return writeError(t.path, err)
	}
	return nil
}

func errExists(path string) error {
	return &Error{CodeExists, path, "there is a file of that name already, which only --force replaces", nil}
}

// syncFolder makes the new name last; where a system has no such thing, it is
// as lasting as any other name there.
func syncFolder(path string) {
	if folder, err := os.Open(path); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}

// Close closes the file, once nobody reads or writes any more. If it was not committed, what was
// fetched stays for the next attempt, and where that is nothing, nothing stays. It may be called again.
func (t *Target) Close() error { return t.end(!t.worth.Load()) }

// Discard closes the file and throws away what was fetched. What was committed stays.
func (t *Target) Discard() error { return t.end(true) }

func (t *Target) end(discard bool) error {
	t.ending.Lock()
	defer t.ending.Unlock()
	t.open.Lock()
	defer t.open.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	var err error
	if discard && !t.committed {
		err = removePart(t.part, t.partPath) // before others may lock it
	}
	if err := errors.Join(err, t.part.Close()); err != nil {
		return writeError(t.path, err)
	}
	return nil
}
