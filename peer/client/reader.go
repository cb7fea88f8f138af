package client

import (
	"cmp"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"p2pcdn/peer/swarm"
)

// readAhead is how much behind a reader's place is fetched before everything else, in
// bytes: half a minute of a film, and enough for all peers to be asked for something.
const readAhead = 8 << 20

// maxAhead bounds the same, in pieces; what is fetched next is looked for among them block by block.
const maxAhead = 128

// Reader reads a content while it is fetched; see [Share.NewReader].
type Reader struct {
	share  *Share        // static after construction, as is the next one
	closed chan struct{} // closed by Close
	once   sync.Once     // of Close

	mu sync.Mutex
	at int64 // guarded by mu: where Read goes on

	ahead swarm.Range // owned by the engine: what it waits for
}

// NewReader returns a reader of the content from its beginning. It waits for what is not
// there yet, and has it fetched before everything else; what it returns is verified. It
// implements io.ReadSeekCloser and io.ReaderAt. Its methods may be called together; Close ends
// those that wait, with [fs.ErrClosed]. Of a share that is over, reads fail with what
// ended it. Several readers take turns.
func (s *Share) NewReader() *Reader {
	r := &Reader{share: s, closed: make(chan struct{})}
	s.client.do(func() { s.readers[r] = true })
	return r
}

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, err := r.some(p, r.at)
	r.at += int64(n)
	return n, err
}

// ReadAt implements io.ReaderAt.
func (r *Reader) ReadAt(p []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("reading at %d: before the beginning", offset)
	}
	for n < len(p) && err == nil {
		var more int
		more, err = r.some(p[n:], offset+int64(n))
		n += more
	}
	return n, err
}

// Seek implements io.Seeker.
func (r *Reader) Seek(offset int64, whence int) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += r.at
	case io.SeekEnd:
		offset += r.share.geometry.TotalLength
	default:
		return r.at, fmt.Errorf("seeking from %d: no such place", whence)
	}
	if offset < 0 {
		return r.at, fmt.Errorf("seeking to %d: before the beginning", offset)
	}
	r.at = offset
	return offset, nil
}

// Close ends the reader.
func (r *Reader) Close() error {
	r.once.Do(func() {
		close(r.closed)
		r.share.client.do(func() {
			delete(r.share.readers, r)
			r.share.urge()
		})
	})
	return nil
}

// some reads what is there at the offset, up to the end of a piece, after waiting for it.
func (r *Reader) some(p []byte, offset int64) (int, error) {
	s := r.share
	geometry := s.geometry
	if offset >= geometry.TotalLength {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	piece := int(offset / geometry.PieceLength)
	begin := offset - geometry.PieceOffset(piece)
	for {
		var there chan struct{}
		err := error(fs.ErrClosed)
		s.client.do(func() { there, err = s.await(r, piece) })
		if err != nil {
			return 0, fmt.Errorf("reading the content: %w", err)
		}
		if there == nil {
			break
		}
		select {
		case <-there:
		case <-r.closed:
			return 0, fmt.Errorf("reading the content: %w", fs.ErrClosed)
		}
	}
	n := min(int64(len(p)), geometry.PieceSize(piece)-begin)
	if err := s.readAt(piece, begin, p[:n]); err != nil {
		return 0, fmt.Errorf("reading the content: %w", err)
	}
	return int(n), nil
}

// await returns nil if the piece is there, or else a channel that is closed when that is to be
// looked at again. It is called by the engine.
func (s *Share) await(r *Reader, piece int) (there chan struct{}, err error) {
	switch {
	case !s.readers[r]:
		return nil, fs.ErrClosed
	case s.state.over():
		return nil, cmp.Or(s.err, ErrStopped)
	}
	r.ahead = s.window(piece)
	s.urge()
	if s.swarm.Has(piece) {
		return nil, nil
	}
	if s.waiting[piece] == nil {
		s.waiting[piece] = make(chan struct{})
	}
	return s.waiting[piece], nil
}

// window is what a reader at a piece waits for.
func (s *Share) window(piece int) swarm.Range {
	ahead := int(readAhead / s.geometry.PieceLength)
	return swarm.Range{First: piece, End: piece + max(2, min(ahead, maxAhead))}
}

// urge tells the swarm what the readers wait for.
func (s *Share) urge() {
	if !s.wants() {
		return
	}
	ranges := make([]swarm.Range, 0, len(s.readers))
	for r := range s.readers {
		if r.ahead.First < r.ahead.End {
			ranges = append(ranges, r.ahead)
		}
	}
	s.swarm.Urge(ranges, time.Now())
	s.act()
}

// wake tells the readers that wait for the piece.
func (s *Share) wake(piece int) {
	if there := s.waiting[piece]; there != nil {
		close(there)
		delete(s.waiting, piece)
	}
}

// wakeAll lets every reader look again.
func (s *Share) wakeAll() {
	for piece := range s.waiting {
		s.wake(piece)
	}
}
