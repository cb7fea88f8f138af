package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
)

// verdict is what checking a piece yielded.
type verdict struct {
	piece int
	right bool
	err   error
}

// checker checks the pieces of a file, on all cores.
type checker struct {
	target *Target        // static after construction, as are the next three
	info   content.Info   // with piece hashes
	zeros  []content.Hash // of a piece of zeros: that of every piece, and that of the last
	told   chan verdict

	next atomic.Int64 // the next piece that nobody is at
}

// Found reports whether an earlier attempt left something, which is to be checked.
func (t *Target) Found() bool { return t.found }

// Check hashes what an earlier attempt left, and returns the set of the pieces that are
// right: an empty one, at once, where there was nothing. It belongs before the first
// WriteBlock. info is that of Create, with piece hashes. It takes at most 384 KiB of memory a core. progress, where it is
// not nil, is called by the calling goroutine with the bytes that were checked so far, and the content's length.
// ctx ends it early, with its error; all others are [*Error]s.
func (t *Target) Check(ctx context.Context, info content.Info, progress func(done, total int64)) (*wire.Bits, error) {
	t.open.RLock()
	defer t.open.RUnlock()
	have := wire.NewBits(t.geometry.Pieces())
	switch {
	case t.closed:
		return nil, t.errClosed()
	case info.FullHash != t.hash || info.Geometry() != t.geometry || !info.HasPieceHashes():
		return nil, &Error{CodeUnreadable, t.path, "it is another content that is to be checked, or one without piece hashes", nil}
	case !t.found:
		return have, nil
	}
	if progress == nil {
		progress = func(int64, int64) {}
	}
	done := int64(0)
	err := t.check(ctx, info, func(v verdict) {
		if v.right {
			have.Add(v.piece)
		}
		done += t.geometry.PieceSize(v.piece)
		progress(done, t.geometry.TotalLength)
	})
	if err != nil {
		return nil, err
	}
	if have.Count() == 0 {
		t.worth.Store(false)
	}
	return have, nil
}

// check hands each verdict to tell, in the calling goroutine.
func (t *Target) check(ctx context.Context, info content.Info, tell func(verdict)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := &checker{target: t, info: info, zeros: zeroPieces(t.geometry), told: make(chan verdict)}
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), t.geometry.Pieces()) {
		workers.Go(func() { c.work(ctx) })
	}
	go func() {
		workers.Wait()
		close(c.told)
	}()
	var failure error
	for v := range c.told { // until nobody works any more
		switch {
		case failure != nil:
		case v.err != nil:
			failure = v.err
			cancel()
		default:
			tell(v)
		}
	}
	return failure
}

// work checks pieces until there are no more, or one fails.
func (c *checker) work(ctx context.Context) {
	hasher := newHasher(c.info.Geometry())
	for {
		v := verdict{piece: int(c.next.Add(1) - 1)}
		if v.piece >= c.info.Geometry().Pieces() {
			return
		}
		v.right, v.err = c.piece(ctx, hasher, v.piece)
		c.told <- v
		if v.err != nil {
			return
		}
	}
}

// piece checks one piece. That of a hole is known without reading it.
func (c *checker) piece(ctx context.Context, hasher *hasher, piece int) (bool, error) {
	geometry, want := c.info.Geometry(), c.info.PieceHash(piece)
	offset, size := geometry.PieceOffset(piece), geometry.PieceSize(piece)
	if nextData(c.target.part, offset) >= offset+size {
		return c.zeros[min(1, geometry.Pieces()-1-piece)] == want, nil
	}
	hash, err := hasher.piece(ctx, c.target.file, geometry, piece)
	switch {
	case err == nil:
		return hash == want, nil
	case ctx.Err() != nil:
		return false, fmt.Errorf("checking what is there: %w", ctx.Err())
	case errors.Is(err, io.EOF):
		return false, &Error{CodeChanged, c.target.path, "its unfinished file became shorter while it was checked", nil}
	}
	return false, readError(c.target.path, err)
}

// zeroPieces returns the hashes of the last piece and of every other one, if they hold nothing but zeros.
func zeroPieces(geometry content.Geometry) []content.Hash {
	last := geometry.Pieces() - 1
	zeros := []content.Hash{zeroPiece(geometry, last)}
	if last > 0 {
		zeros = append(zeros, zeroPiece(geometry, 0))
	}
	return zeros
}

func zeroPiece(geometry content.Geometry, piece int) content.Hash {
	size := geometry.PieceSize(piece)
	leaf := make([]byte, content.LeafLength)
	full := content.HashLeaves(leaf)[0]
	var leaves []content.Hash
	for ; size > content.LeafLength; size -= content.LeafLength {
		leaves = append(leaves, full)
	}
	return geometry.PieceRoot(append(leaves, content.HashLeaves(leaf[:size])...))
}
