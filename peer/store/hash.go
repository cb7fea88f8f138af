package store

import (
	"context"
	"io"

	"p2pcdn/common/content"
)

// hashRun is how many bytes of a piece are read and hashed at a time: few enough to be
// still in a core's cache when they are hashed, and enough for the reading to cost a fifth less than in runs of 64 KiB.
const hashRun = 16 * content.LeafLength

// hasher computes the hashes of pieces on disk. Whatever the piece's length, it holds
// a run of it and the hashes of its leaves: at most 384 KiB. It is used by one goroutine at a time.
type hasher struct {
	run    []byte
	leaves []content.Hash // at most 4096: those of the largest piece
}

func newHasher(geometry content.Geometry) *hasher {
	return &hasher{run: make([]byte, min(hashRun, geometry.PieceSize(0)))}
}

// piece reads a piece and returns its hash. ctx is looked at before every run.
func (h *hasher) piece(ctx context.Context, file io.ReaderAt, geometry content.Geometry, piece int) (content.Hash, error) {
	offset, size := geometry.PieceOffset(piece), geometry.PieceSize(piece)
	h.leaves = h.leaves[:0]
	for begin := int64(0); begin == 0 || begin < size; begin += hashRun {
		if err := ctx.Err(); err != nil {
			return content.Hash{}, err
		}
		data := h.run[:min(hashRun, size-begin)]
		if err := readFull(file, data, offset+begin); err != nil {
			return content.Hash{}, err
		}
		h.leaves = append(h.leaves, content.HashLeaves(data)...)
	}
	return geometry.PieceRoot(h.leaves), nil
}

// readFull fills the buffer. Some readers say io.EOF when they read up to the end,
// which is no failure; where there is less, the error is io.EOF.
func readFull(file io.ReaderAt, buffer []byte, offset int64) error {
	if n, err := file.ReadAt(buffer, offset); n < len(buffer) {
		return err
	}
	return nil
}
