package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"mime"
	"os"
	"path/filepath"
	"sync"
	"time"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
)

// readAttempts is how often a block is read anew because the file was touched
// meanwhile. A file that changes faster than that is being written.
const readAttempts = 3

// Source is a file that is seeded. Its methods may be called together.
type Source struct {
	path string       // static after construction, as is the next one
	info content.Info // with piece hashes

	mu       sync.Mutex
	file     *os.File   // guarded by mu, as are the next three
	state    fileState  // as it was when the pieces in verified were verified
	verified *wire.Bits // pieces whose data was seen to be right in this state
	broken   error      // set once the content is lost
}

// fileState is what tells whether a file may have changed.
type fileState struct {
	size     int64
	modified time.Time
}

// Open hashes a file and returns it as a source. pieceLength 0 is the default for
// its length. progress, where it is not nil, is called with the bytes hashed so far and the file's length.
func Open(ctx context.Context, path string, pieceLength int64, progress func(done, total int64)) (_ *Source, err error) {
	file, state, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close() // it was only read
		}
	}()
	if pieceLength == 0 {
		pieceLength = content.DefaultPieceLength(state.size)
	}
	geometry := content.Geometry{TotalLength: state.size, PieceLength: pieceLength}
	if state.size > content.MaxTotalLength {
		return nil, &Error{CodeTooLarge, path, "it is larger than 4 TiB", nil}
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	summary, err := geometry.Sum(ctx, file, func(read int64) { progress(read, state.size) })
	switch {
	case errors.Is(err, &content.Error{Code: content.CodeContentTooShort}), errors.Is(err, &content.Error{Code: content.CodeContentTooLong}):
		return nil, &Error{CodeChanged, path, "it changed while it was hashed", nil}
	case err != nil && isFileError(err):
		return nil, readError(path, err)
	case err != nil:
		return nil, err
	}
	if now, err := stat(file); err != nil {
		return nil, readError(path, err)
	} else if now != state {
		return nil, &Error{CodeChanged, path, "it changed while it was hashed", nil}
	}
	return &Source{
		path: path, file: file, state: state, verified: wire.NewBits(geometry.Pieces()),
		info: content.Info{
			FullHash: summary.FullHash, FileName: fileName(path), ContentType: contentType(path),
			TotalLength: state.size, PieceLength: pieceLength, PieceHashes: summary.PieceHashes,
		},
	}, nil
}

func isFileError(err error) bool {
	var pathError *fs.PathError
	return errors.As(err, &pathError)
}

func openFile(path string) (*os.File, fileState, error) {
	// Before opening: a pipe without a writer would block there.
	if found, err := os.Stat(path); err != nil {
		return nil, fileState{}, readError(path, err)
	} else if !found.Mode().IsRegular() {
		return nil, fileState{}, &Error{CodeNoFile, path, "it is no plain file", nil}
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fileState{}, readError(path, err)
	}
	state, err := stat(file)
	if err != nil {
		_ = file.Close()
		return nil, fileState{}, readError(path, err)
	}
	return file, state, nil
}

func stat(file *os.File) (fileState, error) {
	found, err := file.Stat()
	if err != nil {
		return fileState{}, err
	}
	return fileState{found.Size(), found.ModTime()}, nil
}

// fileName is the path's last part, or "" where that cannot be a file name everywhere.
func fileName(path string) string {
	info := content.Info{FileName: filepath.Base(path), PieceLength: content.LeafLength}
	if info.Validate() != nil {
		return ""
	}
	return info.FileName
}

// contentType guesses from the ending; "" where it cannot.
func contentType(path string) string {
	info := content.Info{ContentType: mime.TypeByExtension(filepath.Ext(path)), PieceLength: content.LeafLength}
	if info.Validate() != nil {
		return ""
	}
	return info.ContentType
}

// Path is the path that the source was opened with.
func (s *Source) Path() string { return s.path }

// Info describes the content, piece hashes included.
func (s *Source) Info() content.Info { return s.info }

// ReadBlock reads a block into buffer, which is as long as the block; the block
// lies within the content. Every failure is an [*Error]; after [CodeChanged] and
// [CodeUnreadable] every further read fails in the same way.
func (s *Source) ReadBlock(piece int, begin int64, buffer []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		if err := s.read(piece, begin, buffer); err != nil {
			s.broken = err
		}
	}
	return s.broken
}

// read reads until the file was seen to be the same before and after.
func (s *Source) read(piece int, begin int64, buffer []byte) error {
	for range readAttempts {
		if err := s.observe(); err != nil {
			return err
		}
		state := s.state
		if !s.verified.Has(piece) {
			if err := s.verify(piece, begin, buffer); err != nil {
				return err
			}
		} else if err := s.readAt(buffer, s.info.Geometry().PieceOffset(piece)+begin); err != nil {
			return err
		}
		if err := s.observe(); err != nil {
			return err
		}
		if s.state == state {
			s.verified.Add(piece)
			return nil
		}
	}
	return &Error{CodeChanged, s.path, "it is being written to", nil}
}

// observe notices that the file may have changed: then nothing counts as verified.
func (s *Source) observe() error {
	now, err := stat(s.file)
	switch {
	case err != nil:
		return readError(s.path, err)
	case now.size != s.info.TotalLength:
		return &Error{CodeChanged, s.path, "its length changed while it was seeded", nil}
	case now != s.state:
		s.state, s.verified = now, wire.NewBits(s.info.Geometry().Pieces())
	}
	return nil
}

// verify reads the whole piece, checks it, and takes the block from what was checked.
func (s *Source) verify(piece int, begin int64, buffer []byte) error {
	geometry := s.info.Geometry()
	data := make([]byte, geometry.PieceSize(piece))
	if err := s.readAt(data, geometry.PieceOffset(piece)); err != nil {
		return err
	}
	if geometry.HashPiece(data) != s.info.PieceHash(piece) {
		return &Error{CodeChanged, s.path, "it changed while it was seeded", nil}
	}
	copy(buffer, data[begin:])
	return nil
}

func (s *Source) readAt(buffer []byte, offset int64) error {
	_, err := s.file.ReadAt(buffer, offset)
	switch {
	case err == nil, errors.Is(err, io.EOF) && len(buffer) == 0:
		return nil
	case errors.Is(err, io.EOF):
		return &Error{CodeChanged, s.path, "its length changed while it was seeded", nil}
	}
	return readError(s.path, err)
}

// Close closes the file. Reads fail from then on.
func (s *Source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = &Error{CodeUnreadable, s.path, "it was closed", nil}
	}
	return s.file.Close()
}
