package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// Summary is what hashing a content yields.
type Summary struct {
	FullHash    FullHash
	PieceHashes []Hash // one a piece; nil where there is one piece only
}

// Sum hashes exactly g.TotalLength bytes from r, on all cores, holding a few
// pieces in memory at a time (at least one, at most two per core). progress,
// where it is not nil, is called with the bytes read so far, from the calling
// goroutine. A reader that ends early or goes on gives an [*Error] with code
// [CodeContentTooShort] or [CodeContentTooLong]: the file changed under us.
func (g Geometry) Sum(ctx context.Context, r io.Reader, progress func(read int64)) (Summary, error) {
	if err := g.Check(); err != nil {
		return Summary{}, err
	}
	type job struct {
		piece int
		data  []byte
	}
	var (
		hashes  = make([]Hash, g.Pieces()) // each element written by one worker, read after Wait
		workers = runtime.GOMAXPROCS(0)
		jobs    = make(chan job)
		free    = make(chan []byte, 2*workers) // owns every buffer that no worker holds
		wait    sync.WaitGroup
	)
	for range workers {
		wait.Go(func() {
			for j := range jobs {
				hashes[j.piece] = g.HashPiece(j.data)
				free <- j.data[:0]
			}
		})
	}
	read := func() error {
		defer close(jobs)
		for piece, made := 0, 0; piece < g.Pieces(); piece++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			var buffer []byte
			if made < cap(free) && len(free) == 0 {
				buffer = make([]byte, min(g.PieceLength, g.TotalLength))
				made++
			} else {
				buffer = <-free
			}
			buffer = buffer[:g.PieceSize(piece)]
			if _, err := io.ReadFull(r, buffer); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return fail(CodeContentTooShort, "the content ended before %d bytes", g.TotalLength)
			} else if err != nil {
				return fmt.Errorf("reading the content: %w", err)
			}
			jobs <- job{piece, buffer}
			if progress != nil {
				progress(g.PieceOffset(piece) + int64(len(buffer)))
			}
		}
		switch _, err := io.ReadFull(r, make([]byte, 1)); {
		case err == nil:
			return fail(CodeContentTooLong, "the content went on after %d bytes", g.TotalLength)
		case !errors.Is(err, io.EOF):
			return fmt.Errorf("reading the content: %w", err)
		}
		return nil
	}
	err := read()
	wait.Wait()
	if err != nil {
		return Summary{}, err
	}
	summary := Summary{FullHash: g.Root(hashes)}
	if len(hashes) > 1 {
		summary.PieceHashes = hashes
	}
	return summary, nil
}
