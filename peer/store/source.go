package store

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"p2pcdn/common/content"
)

const (
	// readAttempts is how often a block is read anew because the file was touched
	// meanwhile. A file that changes faster than that is being written.
	readAttempts = 3

	// settling is how long after a change another one may leave the file with the same
	// time of change: file systems count it in steps of up to two seconds (FAT).
	settling = 2 * time.Second

	// maxVerifying bounds the pieces that are verified at the same time, and with them the
	// memory (384 KiB each): more than most machines have cores for.
	maxVerifying = 8
)

// Source is a file that is seeded. Its methods may be called together.
type Source struct {
	path string       // static after construction, as are the next three
	info content.Info // with piece hashes
	file *os.File
	now  func() time.Time

	seen      atomic.Pointer[snapshot]
	verifying [maxVerifying]sync.Mutex // held while a piece is verified: that of its number's remainder, so that nobody verifies what another is at
	broken    atomic.Pointer[error]    // set once the content is lost
}

// fileState is what tells whether a file may have changed.
type fileState struct {
	size     int64
	modified time.Time
}

// snapshot is a state of the file, and what is known of the pieces in that state.
type snapshot struct {
	state    fileState // static after construction, as is the next one
	settled  bool      // every change from now on leads to another state
	verified pieceSet  // pieces that were seen to be right in this state; grows
}

// settledAt says whether a change after now shows in the state.
func (f fileState) settledAt(now time.Time) bool { return now.Sub(f.modified) > settling }

// pieceSet is a set of pieces that only grows. Its methods may be called together.
type pieceSet []atomic.Uint32

func newPieceSet(pieces int) pieceSet { return make(pieceSet, (pieces+31)/32) }

func (p pieceSet) has(piece int) bool { return p[piece/32].Load()&(1<<(piece%32)) != 0 }
func (p pieceSet) add(piece int)      { p[piece/32].Or(1 << (piece % 32)) }
func (p pieceSet) fill() {
	for i := range p {
		p[i].Store(^uint32(0))
	}
}

// Open hashes a file and returns it as a source. pieceLength 0 is the default for
// its length. progress, where it is not nil, is called with the bytes hashed so far and the file's length.
func Open(ctx context.Context, path string, pieceLength int64, progress func(done, total int64)) (*Source, error) {
	return openSource(ctx, path, pieceLength, progress, time.Now)
}

func openSource(ctx context.Context, path string, pieceLength int64, progress func(done, total int64), now func() time.Time) (_ *Source, err error) {
	file, state, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close() // it was only read
		}
	}()
	settled := state.settledAt(now())
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
	s := &Source{
		path: path, file: file, now: now,
		info: content.Info{
			FullHash: summary.FullHash, FileName: fileName(path), ContentType: contentType(path),
			TotalLength: state.size, PieceLength: pieceLength, PieceHashes: summary.PieceHashes,
		},
	}
	seen := &snapshot{state, settled, newPieceSet(geometry.Pieces())}
	if settled {
		seen.verified.fill() // it was just hashed
	}
	s.seen.Store(seen)
	return s, nil
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
	extension := filepath.Ext(path)
	info := content.Info{ContentType: mime.TypeByExtension(extension), PieceLength: content.LeafLength}
	if strings.EqualFold(extension, ".webm") {
		info.ContentType = "video/webm" // Go says audio/webm, and a player for sound shows no film
	}
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
// lies within the content. Blocks are read side by side. Every failure is an [*Error]; after
// [CodeChanged] and [CodeUnreadable] every further read fails in the same way.
func (s *Source) ReadBlock(piece int, begin int64, buffer []byte) error {
	if broken := s.broken.Load(); broken != nil {
		return *broken
	}
	if err := s.read(piece, begin, buffer); err != nil {
		s.broken.CompareAndSwap(nil, &err) // the first reason counts
		return *s.broken.Load()
	}
	return nil
}

// read reads until the file was, after reading, seen to be in the state in which the piece is right.
func (s *Source) read(piece int, begin int64, buffer []byte) error {
	offset := s.info.Geometry().PieceOffset(piece) + begin
	for range readAttempts {
		seen := s.current()
		if err := s.verify(seen, piece); err != nil {
			return err
		}
		if err := readFull(s.file, buffer, offset); err != nil {
			return s.readError(err)
		}
		if same, err := s.observe(seen); err != nil || same {
			return err
		}
	}
	return &Error{CodeChanged, s.path, "it is being written to", nil}
}

// current returns the snapshot. What was verified while the file's state was not settled
// is forgotten once it is: a change in between may not have shown.
func (s *Source) current() *snapshot {
	seen := s.seen.Load()
	if now := s.now(); !seen.settled && seen.state.settledAt(now) {
		s.seen.CompareAndSwap(seen, s.snapshot(seen.state, now))
		return s.seen.Load()
	}
	return seen
}

func (s *Source) snapshot(state fileState, now time.Time) *snapshot {
	return &snapshot{state, state.settledAt(now), newPieceSet(s.info.Geometry().Pieces())}
}

// observe says whether the file still is in the state that was seen. If it is not,
// nothing counts as verified.
func (s *Source) observe(seen *snapshot) (same bool, err error) {
	state, err := stat(s.file)
	switch {
	case err != nil:
		return false, readError(s.path, err)
	case state.size != s.info.TotalLength:
		return false, &Error{CodeChanged, s.path, "its length changed while it was seeded", nil}
	case state == seen.state:
		return true, nil
	}
	s.seen.CompareAndSwap(seen, s.snapshot(state, s.now()))
	return false, nil
}

// verify checks the piece, if that was not done in the state that was seen.
func (s *Source) verify(seen *snapshot, piece int) error {
	if seen.verified.has(piece) {
		return nil
	}
	turn := &s.verifying[piece%maxVerifying]
	turn.Lock()
	defer turn.Unlock()
	if seen.verified.has(piece) {
		return nil
	}
	geometry := s.info.Geometry()
	hash, err := newHasher(geometry).piece(context.Background(), s.file, geometry, piece)
	switch {
	case err != nil:
		return s.readError(err)
	case hash != s.info.PieceHash(piece):
		return &Error{CodeChanged, s.path, "it changed while it was seeded", nil}
	}
	same, err := s.observe(seen)
	if same {
		seen.verified.add(piece)
	}
	return err
}

func (s *Source) readError(err error) error {
	if errors.Is(err, io.EOF) {
		return &Error{CodeChanged, s.path, "its length changed while it was seeded", nil}
	}
	return readError(s.path, err)
}

// Close closes the file. Reads fail from then on.
func (s *Source) Close() error {
	var closed error = &Error{CodeUnreadable, s.path, "it was closed", nil}
	s.broken.CompareAndSwap(nil, &closed)
	return s.file.Close()
}
