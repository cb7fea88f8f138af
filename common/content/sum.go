package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// sumRun is how many bytes a worker of Sum reads and hashes at a time: few enough to
// be still in its core's cache when they are hashed (1 MiB at a time is 7% slower), enough for
// the taking of turns not to count (they take a core 160 µs). A power of two.
const sumRun = 256 << 10

// Summary is what hashing a content yields.
type Summary struct {
	FullHash    FullHash
	PieceHashes []Hash // one a piece; nil where there is one piece only
}

// Sum hashes exactly g.TotalLength bytes from r, on all cores, holding 256 KiB per core
// in memory, besides the piece hashes. It reads r from several goroutines: in order and
// one at a time, unless r is an [io.ReaderAt] and an [io.Seeker], as a file is. Then all
// of them read at once, from where r stands; r is not moved.
//
// progress, where it is not nil, is called with the bytes hashed so far, from the
// calling goroutine: more each time, and all of them in the end. Between reads ctx is
// looked at; its error ends the sum. A reader that ends early or goes on gives an [*Error] with code
// [CodeContentTooShort] or [CodeContentTooLong]: the file changed under us.
func (g Geometry) Sum(ctx context.Context, r io.Reader, progress func(hashed int64)) (Summary, error) {
	if err := g.Check(); err != nil {
		return Summary{}, err
	}
	if progress == nil {
		progress = func(int64) {}
	}
	s := newSumming(g, r)
	var others sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), s.runs) - 1 {
		others.Go(func() { s.work(ctx, func(int64) {}) })
	}
	told := s.work(ctx, progress)
	others.Wait()
	if s.err != nil {
		return Summary{}, s.err
	}
	if told < g.TotalLength {
		progress(g.TotalLength)
	}
	if err := s.checkEnd(); err != nil {
		return Summary{}, err
	}
	summary := Summary{FullHash: g.Root(s.pieces)}
	if g.Pieces() > 1 {
		summary.PieceHashes = s.pieces
	}
	return summary, nil
}

// summing is one Sum under way. A run is sumRun bytes, the last one fewer: several whole
// pieces, or a part of one. A part is what a run has of a piece, a whole subtree.
type summing struct {
	// Static after construction.
	geometry Geometry
	parts    Geometry // the content cut into parts instead of pieces
	runs     int      // at least one
	r        io.Reader
	at       io.ReaderAt // nil where r can be read in order only
	base     int64       // where the content begins in at

	turn sync.Mutex // held to read the next run of r; never taken while mu is held

	mu     sync.Mutex
	next   int                // guarded by mu: the run that is read next
	hashed int64              // guarded by mu: bytes
	open   map[int]*openPiece // guarded by mu: at most one a worker
	pieces []Hash             // guarded by mu: of the pieces that are whole
	err    error              // guarded by mu: the first failure, which ends it
}

// openPiece is a piece of several parts that is not whole yet.
type openPiece struct {
	parts   []Hash
	missing int // parts
}

func newSumming(g Geometry, r io.Reader) *summing {
	s := &summing{
		geometry: g,
		parts:    Geometry{g.TotalLength, min(g.PieceLength, sumRun)},
		runs:     max(1, int((g.TotalLength+sumRun-1)/sumRun)),
		r:        r,
		open:     map[int]*openPiece{},
		pieces:   make([]Hash, g.Pieces()),
	}
	at, isAt := r.(io.ReaderAt)
	if seeker, ok := r.(io.Seeker); ok && isAt {
		// What has no place, such as a pipe, is a file too.
		if base, err := seeker.Seek(0, io.SeekCurrent); err == nil {
			s.at, s.base = at, base
		}
	}
	return s
}

// work reads and hashes runs until none is left or something failed. It calls
// progress after each of its runs and returns what it told last.
func (s *summing) work(ctx context.Context, progress func(hashed int64)) (told int64) {
	buffer := make([]byte, min(sumRun, s.geometry.TotalLength))
	leaves := make([]Hash, 0, sumRun/LeafLength)
	for {
		run, data := s.take(ctx, buffer)
		if data == nil {
			return told
		}
		part := run * int(sumRun/s.parts.PieceLength)
		for rest := data; ; part++ {
			n := min(len(rest), int(s.parts.PieceLength))
			leaves = appendLeaves(leaves[:0], rest[:n])
			s.put(part, s.parts.PieceRoot(leaves))
			if rest = rest[n:]; len(rest) == 0 {
				break
			}
		}
		told = s.count(len(data))
		progress(told)
	}
}

// take reads the next run into the buffer. data is nil where there is none, or where
// this worker or another one failed.
func (s *summing) take(ctx context.Context, buffer []byte) (run int, data []byte) {
	if s.at == nil {
		s.turn.Lock()
		defer s.turn.Unlock() // after a failure was noted: nobody reads on behind it
	}
	run, ok := s.claim()
	if !ok {
		return 0, nil
	}
	if err := ctx.Err(); err != nil {
		s.fail(fmt.Errorf("hashing the content: %w", err))
		return 0, nil
	}
	offset := int64(run) * sumRun
	data = buffer[:min(sumRun, s.geometry.TotalLength-offset)]
	switch err := s.read(data, offset); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		s.fail(fail(CodeContentTooShort, "the content ended before %d bytes", s.geometry.TotalLength))
		return 0, nil
	case err != nil:
		s.fail(fmt.Errorf("reading the content: %w", err))
		return 0, nil
	}
	return run, data
}

// claim returns the next run, for the caller alone to hash.
func (s *summing) claim() (run int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil || s.next == s.runs {
		return 0, false
	}
	s.next++
	return s.next - 1, true
}

// read fills data with what is at the offset, which for a reader in order is where it stands.
func (s *summing) read(data []byte, offset int64) error {
	if s.at == nil {
		_, err := io.ReadFull(s.r, data)
		return err
	}
	n, err := s.at.ReadAt(data, s.base+offset)
	if n == len(data) {
		return nil // ReadAt may tell of the end along with the last bytes
	}
	return err
}

// fail ends the sum.
func (s *summing) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
}

// count adds to the bytes hashed and returns them.
func (s *summing) count(bytes int) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hashed += int64(bytes)
	return s.hashed
}

// put keeps the hash of a part. The last one of a piece gives the piece's.
func (s *summing) put(part int, hash Hash) {
	s.mu.Lock()
	defer s.mu.Unlock()
	perPiece := int(s.geometry.PieceLength / s.parts.PieceLength)
	if perPiece == 1 {
		s.pieces[part] = hash
		return
	}
	index := part / perPiece
	count := min(perPiece, s.parts.Pieces()-index*perPiece)
	p := s.open[index]
	if p == nil {
		p = &openPiece{make([]Hash, count), count}
		s.open[index] = p
	}
	p.parts[part%perPiece] = hash
	if p.missing--; p.missing > 0 {
		return
	}
	delete(s.open, index)
	width := perPiece
	if s.geometry.Pieces() == 1 { // the tree of the content itself, no higher than it needs to be
		width = ceilPow2(count)
	}
	height, _, _ := s.parts.pieceLayer()
	s.pieces[index] = root(p.parts, height, width)
}

// checkEnd checks that r ends where the content does. The workers are gone.
func (s *summing) checkEnd() error {
	err := s.read(make([]byte, 1), s.geometry.TotalLength)
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("reading the content: %w", err)
	}
	return fail(CodeContentTooLong, "the content went on after %d bytes", s.geometry.TotalLength)
}
