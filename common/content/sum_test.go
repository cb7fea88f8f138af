package content_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"go.uber.org/goleak"

	"p2pcdn/common/content"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// naiveRoot is the specification once more, word by word: the whole padded list
// of leaves, folded by recursion.
func naiveRoot(data []byte) content.Hash {
	leaves := naiveLeaves(data)
	for n := len(leaves); n&(n-1) != 0; n++ {
		leaves = append(leaves, content.Hash{})
	}
	return fold(leaves)
}

func naiveLeaves(data []byte) (leaves []content.Hash) {
	for len(data) > content.LeafLength {
		leaves = append(leaves, sha256.Sum256(data[:content.LeafLength]))
		data = data[content.LeafLength:]
	}
	return append(leaves, sha256.Sum256(data))
}

func fold(nodes []content.Hash) content.Hash {
	if len(nodes) == 1 {
		return nodes[0]
	}
	left, right := fold(nodes[:len(nodes)/2]), fold(nodes[len(nodes)/2:])
	return sha256.Sum256(append(left[:], right[:]...))
}

// naivePieces are the piece hashes: the leaves of each piece, padded to a whole piece.
func naivePieces(data []byte, pieceLength int) (pieces []content.Hash) {
	if len(data) <= pieceLength {
		return nil
	}
	for piece := range (len(data) + pieceLength - 1) / pieceLength {
		leaves := naiveLeaves(data[piece*pieceLength : min(len(data), (piece+1)*pieceLength)])
		pieces = append(pieces, fold(append(leaves, make([]content.Hash, pieceLength/content.LeafLength-len(leaves))...)))
	}
	return pieces
}

const leaf = content.LeafLength

// awkward are lengths at and around every boundary there is.
func awkward(random *rand.Rand) []int {
	lengths := []int{0, 1, leaf - 1, leaf, leaf + 1, 5<<20 + 3}
	for _, boundary := range []int{2 * leaf, 3 * leaf, 64 << 10, 1 << 20, 2 << 20, 3 << 20, 4 << 20} {
		lengths = append(lengths, boundary-1, boundary, boundary+1)
	}
	for range 20 {
		lengths = append(lengths, random.IntN(4<<20))
	}
	return lengths
}

func TestSumIsTheTree(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	source := make([]byte, 6<<20)
	for i := range source {
		source[i] = byte(random.Uint32())
	}
	for _, length := range awkward(random) {
		data := source[:length]
		full := content.FullHash(naiveRoot(data))
		for _, pieceLength := range []int64{leaf, 64 << 10, 1 << 20, 2 << 20, 4 << 20, content.MaxPieceLength} {
			geometry := content.Geometry{TotalLength: int64(length), PieceLength: pieceLength}
			sum, err := geometry.Sum(t.Context(), iotest.HalfReader(bytes.NewReader(data)), nil)
			if err != nil || sum.FullHash != full || !reflect.DeepEqual(sum.PieceHashes, naivePieces(data, int(pieceLength))) {
				t.Fatalf("%+v: %s and %d piece hashes, %v", geometry, sum.FullHash, len(sum.PieceHashes), err)
			}
			var pieces []content.Hash
			for piece := range geometry.Pieces() {
				offset := geometry.PieceOffset(piece)
				pieces = append(pieces, geometry.HashPiece(data[offset:offset+geometry.PieceSize(piece)]))
			}
			if geometry.Root(pieces) != full || (len(pieces) > 1 && !reflect.DeepEqual(pieces, sum.PieceHashes)) {
				t.Fatalf("%+v: Sum is not what HashPiece and Root give", geometry)
			}
			info := content.Info{FullHash: sum.FullHash, TotalLength: int64(length), PieceLength: pieceLength, PieceHashes: sum.PieceHashes}
			if err := info.Validate(); err != nil || !info.HasPieceHashes() {
				t.Fatalf("%+v: %v", geometry, err)
			}
			if last := geometry.Pieces() - 1; info.PieceHash(last) != pieces[last] {
				t.Fatalf("%+v: the dictionary has another hash for piece %d", geometry, last)
			}
		}
	}
}

func TestSumByteByByte(t *testing.T) {
	geometry := content.Geometry{TotalLength: 5*leaf + 7, PieceLength: 2 * leaf}
	data := sample(geometry.TotalLength)
	for name, reader := range map[string]io.Reader{
		"one byte at a time": iotest.OneByteReader(bytes.NewReader(data)),
		"data with the EOF":  iotest.DataErrReader(bytes.NewReader(data)),
		"empty reads":        &stutter{bytes.NewReader(data), false},
	} {
		sum, err := geometry.Sum(t.Context(), reader, nil)
		if err != nil || sum.FullHash != content.FullHash(naiveRoot(data)) {
			t.Errorf("%s: %v, %v", name, sum.FullHash, err)
		}
	}
}

// stutter reads nothing every other time, which a Reader may do.
type stutter struct {
	io.Reader
	reads bool
}

func (s *stutter) Read(p []byte) (int, error) {
	if s.reads = !s.reads; s.reads {
		return 0, nil
	}
	return s.Reader.Read(p)
}

func TestSumOfAnotherLength(t *testing.T) {
	for _, length := range []int64{0, 1, leaf, 64 << 10, 64<<10 + 1, 3<<20 + 5} {
		geometry := content.Geometry{TotalLength: length, PieceLength: 64 << 10}
		for _, test := range []struct {
			name string
			have int64
			code content.Code
		}{
			{"a byte too many", length + 1, content.CodeContentTooLong},
			{"twice as long", 2*length + 1, content.CodeContentTooLong},
			{"a byte too few", length - 1, content.CodeContentTooShort},
			{"half", length/2 - 1, content.CodeContentTooShort},
			{"nothing", 0, content.CodeContentTooShort},
		} {
			if test.have < 0 || test.have == length {
				continue
			}
			sum, err := geometry.Sum(t.Context(), bytes.NewReader(sample(test.have)), nil)
			if !errors.Is(err, &content.Error{Code: test.code}) || sum.PieceHashes != nil || sum.FullHash != (content.FullHash{}) {
				t.Errorf("%d bytes, %s: %v, %v", length, test.name, sum, err)
			}
		}
	}
}

func TestSumOfBrokenReader(t *testing.T) {
	broken := errors.New("broken")
	geometry := content.Geometry{TotalLength: 3 << 20, PieceLength: 64 << 10}
	for _, good := range []int64{0, 1, 1 << 20, 3<<20 - 1, 3 << 20} {
		reader := io.MultiReader(bytes.NewReader(sample(good)), iotest.ErrReader(broken))
		if _, err := geometry.Sum(t.Context(), reader, nil); !errors.Is(err, broken) {
			t.Errorf("broken after %d bytes: %v", good, err)
		}
	}
}

func TestSumOfBadGeometry(t *testing.T) {
	_, err := content.Geometry{TotalLength: -1, PieceLength: leaf}.Sum(t.Context(), iotest.ErrReader(errors.New("it was read")), nil)
	if !errors.Is(err, &content.Error{Code: content.CodeBadTotalLength}) {
		t.Error(err)
	}
}

func TestSumIsCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	geometry := content.Geometry{TotalLength: 64 << 20, PieceLength: 64 << 10}
	reached := int64(0)
	_, err := geometry.Sum(ctx, zeros{}, func(read int64) {
		reached = read
		if read >= 3<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) || reached != 3<<20 {
		t.Errorf("%v after %d bytes", err, reached)
	}
	if _, err := geometry.Sum(ctx, iotest.ErrReader(errors.New("it was read")), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestSumProgress(t *testing.T) {
	for _, length := range []int64{0, 1, 1<<20 - 1, 1 << 20, 1<<20 + 1, 5<<20 + 3} {
		var told []int64
		_, err := content.Geometry{TotalLength: length, PieceLength: leaf}.Sum(t.Context(), io.LimitReader(zeros{}, length), func(read int64) {
			told = append(told, read)
		})
		if err != nil || len(told) == 0 || told[len(told)-1] != length {
			t.Errorf("%d bytes: %v, %v", length, told, err)
		}
		for i := 1; i < len(told); i++ {
			if told[i] <= told[i-1] {
				t.Errorf("%d bytes: %v goes back", length, told)
			}
		}
	}
}

// However long the content and its pieces are, Sum holds two runs per core.
func TestSumIsBounded(t *testing.T) {
	const length = 256 << 20
	for _, pieceLength := range []int64{64 << 10, content.MaxPieceLength} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := (content.Geometry{TotalLength: length, PieceLength: pieceLength}).Sum(t.Context(), io.LimitReader(zeros{}, length), nil); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		// The runs, and the hashes: of the leaves of one node at a time, and of all nodes, a few times over.
		allowed := uint64(2*runtime.GOMAXPROCS(0)<<20 + 4*length/leaf*content.HashSize + 1<<20)
		if used := after.TotalAlloc - before.TotalAlloc; used > allowed {
			t.Errorf("pieces of %d: %d bytes were allocated, more than %d", pieceLength, used, allowed)
		}
	}
}

// BenchmarkSum compares Sum with crypto/sha256 alone on all cores over the
// same bytes, run in turns with it: ratio is the share of that speed that Sum
// reaches, reading and inner nodes included.
func BenchmarkSum(b *testing.B) {
	const length = 64 << 20
	data := sample(length)
	workers := runtime.GOMAXPROCS(0)
	plain := func() time.Duration {
		start := time.Now()
		var wait sync.WaitGroup
		for i := range workers {
			wait.Go(func() {
				for part := data[i*length/workers : (i+1)*length/workers]; len(part) > 0; {
					n := min(len(part), leaf)
					sha256.Sum256(part[:n])
					part = part[n:]
				}
			})
		}
		wait.Wait()
		return time.Since(start)
	}
	for name, pieceLength := range map[string]int64{"pieces=64KiB": 64 << 10, "pieces=1MiB": 1 << 20, "pieces=64MiB": 64 << 20} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(length)
			b.ReportAllocs()
			var possible, taken time.Duration
			for b.Loop() {
				possible += plain()
				start := time.Now()
				if _, err := (content.Geometry{TotalLength: length, PieceLength: pieceLength}).Sum(b.Context(), bytes.NewReader(data), nil); err != nil {
					b.Fatal(err)
				}
				taken += time.Since(start)
			}
			b.ReportMetric(possible.Seconds()/taken.Seconds(), "ratio")
			b.ReportMetric(length*float64(b.N)/taken.Seconds()/1e6, "sum-MB/s")
		})
	}
}
