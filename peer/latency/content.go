package latency

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"p2pcdn/common/content"
)

// Limits of what is made up.
const (
	// MinSize is the shortest content, in bytes: each is to be another one.
	MinSize = 32

	// MaxSize bounds a content, in bytes: what is measured are beginnings, not throughput (scripts/bench does that).
	MaxSize = 256 << 20

	// MaxHeld bounds the contents that are served at a time, together, in bytes: they are kept in memory.
	MaxHeld = 2 << 30
)

// generated is a content in memory, made of nothing but its numbers; it is a [client.Source].
type generated struct {
	info content.Info
	data []byte
}

// random returns random numbers that depend on the seed and on what they are for alone.
func random(seed uint64, what string, numbers ...int) *rand.ChaCha8 {
	key := fmt.Appendf(nil, "p2pcdn latency %d %s", seed, what)
	for _, number := range numbers {
		key = binary.BigEndian.AppendUint64(key, uint64(number))
	}
	return rand.NewChaCha8(sha256.Sum256(key))
}

// generate makes up content number of the introduction. The same numbers give the same content.
func generate(ctx context.Context, config *Config, index, number int) (*generated, error) {
	g := &generated{data: make([]byte, config.Size)}
	_, _ = random(config.Seed, "content", index, number).Read(g.data) // it never fails
	g.info = content.Info{
		FileName:    fmt.Sprintf("latency-%d-%d-%d", config.Seed, index, number),
		TotalLength: config.Size, PieceLength: config.PieceLength,
	}
	summary, err := g.info.Geometry().Sum(ctx, bytes.NewReader(g.data), nil)
	if err != nil {
		return nil, fmt.Errorf("hashing a content: %w", err)
	}
	g.info.FullHash, g.info.PieceHashes = summary.FullHash, summary.PieceHashes
	return g, nil
}

// Info implements [client.Source].
func (g *generated) Info() content.Info { return g.info }

// ReadBlock implements [client.Source].
func (g *generated) ReadBlock(piece int, begin int64, buffer []byte) error {
	copy(buffer, g.data[g.info.Geometry().PieceOffset(piece)+begin:])
	return nil
}

// Close implements [client.Source].
func (g *generated) Close() error { return nil }
