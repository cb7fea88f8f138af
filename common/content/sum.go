package content

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
)

// sumRun is how many bytes Sum reads and hands to a worker at a time: enough for
// the handing over not to count (1 MiB takes a core about a millisecond), little
// enough that two of them per core do not count either, however long the pieces are.
const sumRun = 1 << 20

// Summary is what hashing a content yields.
type Summary struct {
	FullHash    FullHash
	PieceHashes []Hash // one a piece; nil where there is one piece only
}

// Sum hashes exactly g.TotalLength bytes from r, on all cores, holding at most
// two runs of 1 MiB per core in memory, besides the hashes. progress, where it is
// not nil, is called with the bytes read so far, from the calling goroutine. Between
// reads ctx is looked at; its error ends the sum. A reader that ends early or goes on gives an
// [*Error] with code [CodeContentTooShort] or [CodeContentTooLong]: the file changed under us.
func (g Geometry) Sum(ctx context.Context, r io.Reader, progress func(read int64)) (Summary, error) {
	if err := g.Check(); err != nil {
		return Summary{}, err
	}
	// Pieces longer than a run are hashed as several nodes of a lower layer, so
	// that all cores work at one piece. Only there may there be more than MaxPieces nodes.
	nodes := Geometry{g.TotalLength, min(g.PieceLength, sumRun)}
	hashes, err := nodes.sumNodes(ctx, r, progress)
	if err != nil {
		return Summary{}, err
	}
	summary := Summary{FullHash: nodes.Root(hashes)}
	if g.Pieces() > 1 {
		summary.PieceHashes = g.foldNodes(nodes, hashes)
	}
	return summary, nil
}

// foldNodes folds the hashes of a lower layer to those of the pieces; it overwrites them.
func (g Geometry) foldNodes(nodes Geometry, hashes []Hash) []Hash {
	perPiece := int(g.PieceLength / nodes.PieceLength)
	if perPiece == 1 {
		return hashes
	}
	height, _, _ := nodes.pieceLayer()
	folded := make([]Hash, g.Pieces())
	for piece := range folded {
		first := piece * perPiece
		folded[piece] = root(hashes[first:min(first+perPiece, len(hashes))], height, perPiece)
	}
	return folded
}

// run is a stretch of whole pieces (but for the last) that one worker hashes.
type run struct {
	piece int // the first one
	data  []byte
}

// sumNodes hashes every piece of r; g.PieceLength divides sumRun.
func (g Geometry) sumNodes(ctx context.Context, r io.Reader, progress func(int64)) ([]Hash, error) {
	var (
		hashes  = make([]Hash, g.Pieces()) // each element written by one worker, read after Wait
		workers = runtime.GOMAXPROCS(0)
		runs    = make(chan run)
		free    = make(chan []byte, 2*workers) // every buffer that no worker holds; never full
		wait    sync.WaitGroup
	)
	for range workers {
		wait.Go(func() {
			for job := range runs {
				g.hashRun(job, hashes)
				free <- job.data
			}
		})
	}
	err := g.readRuns(ctx, r, progress, runs, free)
	wait.Wait()
	if err != nil {
		return nil, err
	}
	return hashes, endOf(r, g.TotalLength)
}

func (g Geometry) hashRun(job run, hashes []Hash) {
	for piece, data := job.piece, job.data; ; piece++ {
		n := min(int64(len(data)), g.PieceLength)
		hashes[piece] = g.HashPiece(data[:n])
		if data = data[n:]; len(data) == 0 {
			return
		}
	}
}

// readRuns reads the content and closes runs. It makes at most as many buffers
// as fit in free.
func (g Geometry) readRuns(ctx context.Context, r io.Reader, progress func(int64), runs chan<- run, free <-chan []byte) error {
	defer close(runs)
	made := 0
	for offset := int64(0); offset == 0 || offset < g.TotalLength; offset += sumRun {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("hashing the content: %w", err)
		}
		size := min(sumRun, g.TotalLength-offset)
		var buffer []byte
		if made < cap(free) && len(free) == 0 {
			buffer = make([]byte, size)
			made++
		} else {
			buffer = (<-free)[:size] // only the last run is shorter than those before it
		}
		if _, err := io.ReadFull(r, buffer); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fail(CodeContentTooShort, "the content ended before %d bytes", g.TotalLength)
		} else if err != nil {
			return fmt.Errorf("reading the content: %w", err)
		}
		runs <- run{int(offset / g.PieceLength), buffer}
		if progress != nil {
			progress(offset + size)
		}
	}
	return nil
}

// endOf checks that r ends here.
func endOf(r io.Reader, length int64) error {
	_, err := io.ReadFull(r, make([]byte, 1))
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("reading the content: %w", err)
	}
	return fail(CodeContentTooLong, "the content went on after %d bytes", length)
}
