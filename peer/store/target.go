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

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
)

// File is what a Target needs of its temporary file; [os.File] has it.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
	Name() string
}

// Options of Create. The zero value is the usual.
type Options struct {
	Overwrite bool                            // replace a file that has the final name
	Create    func(path string) (File, error) // makes a new file for reading and writing; nil: on disk. For a test's full disk
}

// Target is a file that is being fetched. Its methods may be called together.
type Target struct {
	path      string           // static after construction, as are the next two
	geometry  content.Geometry // of the content
	overwrite bool

	mu        sync.Mutex
	file      File       // guarded by mu, as are the next three
	written   *wire.Bits // the pieces that are there
	committed bool       // the file has its final name
	closed    bool
}

// maxTempName bounds the part of the temporary name that is the final name's, in
// bytes: with dot, random digits and ending it stays within the 255 of common file systems.
const maxTempName = 200

// Create begins a file at path. It fails at once where the name is taken, the
// folder is missing or cannot be written to.
func Create(path string, geometry content.Geometry, options Options) (*Target, error) {
	if options.Create == nil {
		options.Create = createFile
	}
	switch found, err := os.Lstat(path); {
	case err == nil && found.IsDir():
		return nil, &Error{CodeNoFile, path, "it is a folder", nil}
	case err == nil && !options.Overwrite:
		return nil, &Error{CodeExists, path, "there is a file of that name already, which only --force replaces", nil}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, writeError(path, err)
	}
	folder, name := filepath.Split(path)
	if folder == "" {
		folder = "."
	}
	// 64 random bits never meet, so there is no second attempt.
	temporary := fmt.Sprintf(".%s.%016x.part", name[:min(len(name), maxTempName)], rand.Uint64())
	file, err := options.Create(filepath.Join(folder, temporary))
	if err != nil {
		return nil, writeError(folder, err)
	}
	t := &Target{path: path, geometry: geometry, overwrite: options.Overwrite, file: file, written: wire.NewBits(geometry.Pieces())}
	if err := file.Truncate(geometry.TotalLength); err != nil {
		_ = t.Close()
		return nil, writeError(path, err)
	}
	return t, nil
}

// createFile is not os.CreateTemp, whose files nobody else may read: the final
// file is to have the permissions of any other.
func createFile(path string) (File, error) {
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
}

// Path is the final name.
func (t *Target) Path() string { return t.path }

// WritePiece writes a piece that the caller has verified, at its place.
func (t *Target) WritePiece(piece int, data []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, err := t.file.WriteAt(data, t.geometry.PieceOffset(piece)); err != nil {
		return writeError(t.path, err)
	}
	t.written.Add(piece)
	return nil
}

// ReadBlock reads a block of a piece that was written into buffer, which is as
// long as the block.
func (t *Target) ReadBlock(piece int, begin int64, buffer []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.written.Has(piece) {
		return &Error{CodeUnreadable, t.path, "that piece is not there", nil}
	}
	_, err := t.file.ReadAt(buffer, t.geometry.PieceOffset(piece)+begin)
	if err != nil && !(errors.Is(err, io.EOF) && len(buffer) == 0) {
		return readError(t.path, err)
	}
	return nil
}

// Commit puts the complete content under its final name. Blocks can be read
// from it until Close. Where it fails there is nothing new under the final name.
func (t *Target) Commit() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.written.All() {
		return &Error{CodeNotComplete, t.path, "not every piece is there", nil}
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

// rename gives the temporary file its final name. Linking fails where the name is taken,
// with nothing in between; file systems that cannot link get a check and a rename.
func (t *Target) rename() error {
	temporary := t.file.Name()
	if t.overwrite {
		return t.moved(os.Rename(temporary, t.path))
	}
	err := os.Link(temporary, t.path)
	switch {
	case err == nil:
		return t.moved(os.Remove(temporary))
	case errors.Is(err, fs.ErrExist):
		return &Error{CodeExists, t.path, "there is a file of that name already, which only --force replaces", nil}
	}
	if _, err := os.Lstat(t.path); err == nil {
		return &Error{CodeExists, t.path, "there is a file of that name already, which only --force replaces", nil}
	}
	return t.moved(os.Rename(temporary, t.path))
}

func (t *Target) moved(err error) error {
	if err != nil {
		return writeError(t.path, err)
	}
	return nil
}

// syncFolder makes the new name last; where a system has no such thing, it is
// as lasting as any other name there.
func syncFolder(path string) {
	if folder, err := os.Open(path); err == nil {
		_ = folder.Sync()
		_ = folder.Close()
	}
}

// Close closes the file, and removes it if it was not committed. It may be called again.
func (t *Target) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	t.written = wire.NewBits(t.geometry.Pieces())
	err := t.file.Close()
	if !t.committed {
		err = errors.Join(err, os.Remove(t.file.Name()))
	}
	if err != nil {
		return writeError(t.path, err)
	}
	return nil
}
