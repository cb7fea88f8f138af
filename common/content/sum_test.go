package content_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
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
			var sum content.Summary
			for name, reader := range map[string]io.Reader{"in order": iotest.HalfReader(bytes.NewReader(data)), "at once": bytes.NewReader(data)} {
				var err error
				sum, err = geometry.Sum(t.Context(), reader, nil)
				if err != nil || sum.FullHash != full || !reflect.DeepEqual(sum.PieceHashes, naivePieces(data, int(pieceLength))) {
					t.Fatalf("%s: %+v: %s and %d piece hashes, %v", name, geometry, sum.FullHash, len(sum.PieceHashes), err)
				}
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
			data := sample(test.have)
			for name, reader := range map[string]io.Reader{"in order": bytes.NewBuffer(data), "at once": bytes.NewReader(data)} {
				sum, err := geometry.Sum(t.Context(), reader, nil)
				if !errors.Is(err, &content.Error{Code: test.code}) || sum.PieceHashes != nil || sum.FullHash != (content.FullHash{}) {
					t.Errorf("%d bytes, %s, %s: %v, %v", length, test.name, name, sum, err)
				}
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
		if _, err := geometry.Sum(t.Context(), brokenAt{endless{}, good, broken}, nil); !errors.Is(err, broken) {
			t.Errorf("broken from byte %d on: %v", good, err)
		}
	}
}

// brokenAt cannot be read from a place on.
type brokenAt struct {
	endless
	good int64
	err  error
}

func (b brokenAt) ReadAt(p []byte, offset int64) (int, error) {
	if n := b.good - offset; n < int64(len(p)) {
		return int(max(0, n)), b.err
	}
	return b.endless.ReadAt(p, offset)
}

// A reader in order is never read behind a failure, which would be told instead of it.
func TestSumReadsNoMoreAfterAFailure(t *testing.T) {
	geometry := content.Geometry{TotalLength: 64 << 20, PieceLength: 64 << 10}
	broken := errors.New("broken")
	for range 50 {
		after := iotest.ErrReader(errors.New("it was read again"))
		reader := io.MultiReader(io.LimitReader(zeros{}, 5<<20+7), &once{broken}, after)
		if _, err := geometry.Sum(t.Context(), reader, nil); !errors.Is(err, broken) {
			t.Fatal(err)
		}
	}
}

// once fails, and then it is as if it had ended.
type once struct{ err error }

func (o *once) Read([]byte) (int, error) {
	err := o.err
	o.err = io.EOF
	return 0, err
}

// A file is read from where it stands, and stays there; a pipe has no place.
func TestSumOfFile(t *testing.T) {
	const before = 1000
	data := sample(3<<20 + 5)
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if _, err := file.Write(append(make([]byte, before), data...)); err != nil {
		t.Fatal(err)
	}
	if _, err := file.Seek(before, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = reader.Close() }()
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		_, _ = writer.Write(data) // where it fails, the sum does
		_ = writer.Close()
	})
	geometry := content.Geometry{TotalLength: int64(len(data)), PieceLength: 2 << 20}
	for name, from := range map[string]*os.File{"file": file, "pipe": reader} {
		sum, err := geometry.Sum(t.Context(), from, nil)
		if err != nil || sum.FullHash != content.FullHash(naiveRoot(data)) {
			t.Errorf("%s: %v, %v", name, sum.FullHash, err)
		}
	}
	if at, err := file.Seek(0, io.SeekCurrent); at != before || err != nil {
		t.Errorf("the file stands at %d, %v", at, err)
	}
}

func TestSumOfBadGeometry(t *testing.T) {
	_, err := content.Geometry{TotalLength: -1, PieceLength: leaf}.Sum(t.Context(), iotest.ErrReader(errors.New("it was read")), nil)
	if !errors.Is(err, &content.Error{Code: content.CodeBadTotalLength}) {
		t.Error(err)
	}
}

func TestSumIsCancelled(t *testing.T) {
	geometry := content.Geometry{TotalLength: 64 << 20, PieceLength: 64 << 10}
	for name, reader := range map[string]io.Reader{"in order": zeros{}, "at once": endless{}} {
		ctx, cancel := context.WithCancel(t.Context())
		reached := int64(0)
		_, err := geometry.Sum(ctx, reader, func(hashed int64) {
			if ctx.Err() != nil {
				t.Errorf("%s: progress was told after the end", name)
			}
			reached = hashed
			if hashed >= 3<<20 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || reached < 3<<20 || reached == 64<<20 {
			t.Errorf("%s: %v after %d bytes", name, err, reached)
		}
		broken := iotest.ErrReader(errors.New("it was read"))
		if _, err := geometry.Sum(ctx, broken, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: %v", err)
		}
		cancel()
	}
}

// zeros never ends.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// endless never ends either, wherever it is read.
type endless struct{ zeros }

func (endless) ReadAt(p []byte, _ int64) (int, error)   { return zeros{}.Read(p) }
func (endless) Seek(offset int64, _ int) (int64, error) { return offset, nil }

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

// However long the content and its pieces are, Sum holds 256 KiB per core.
func TestSumIsBounded(t *testing.T) {
	const length = 256 << 20
	for _, pieceLength := range []int64{64 << 10, content.MaxPieceLength} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := (content.Geometry{TotalLength: length, PieceLength: pieceLength}).Sum(t.Context(), io.LimitReader(zeros{}, length), nil); err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		// The buffers, and the piece hashes a few times over, where 64 KiB are room for all else.
		allowed := uint64(runtime.GOMAXPROCS(0)*256<<10 + 4*length/(64<<10)*content.HashSize + 64<<10)
		if used := after.TotalAlloc - before.TotalAlloc; used > allowed {
			t.Errorf("pieces of %d: %d bytes were allocated, more than %d", pieceLength, used, allowed)
		}
	}
}

// BenchmarkSum compares Sum with crypto/sha256 alone: on all cores, over leaves of
// 16 KiB that are in the cores' caches already. The two take turns of a few hundredths of a
// second, so that whatever else the machine does slows both. of-cores×sha256 is the share of that
// speed that Sum reaches, with reading and the tree: the median of the turns.
//
// Out of a file it cannot be 1: copying out of the page cache takes the machine that this
// was written on 14% of the time. In order is what cannot be read at once.
func BenchmarkSum(b *testing.B) {
	const length = 64 << 20
	data := sample(length)
	path := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	sources := []struct {
		name string
		open func() io.Reader
	}{
		{"file", func() io.Reader { return file }},
		{"memory", func() io.Reader { return bytes.NewReader(data) }},
		{"in-order", func() io.Reader { return bytes.NewBuffer(data) }},
	}
	for _, source := range sources {
		for _, pieceLength := range []int64{64 << 10, 1 << 20, 64 << 20} {
			b.Run(fmt.Sprintf("%s/pieces=%dKiB", source.name, pieceLength>>10), func(b *testing.B) {
				geometry := content.Geometry{TotalLength: length, PieceLength: pieceLength}
				b.ReportAllocs()
				var ratios, rates []float64
				for b.Loop() {
					possible := hashOnly(length)
					start := time.Now()
					if _, err := geometry.Sum(b.Context(), source.open(), nil); err != nil {
						b.Fatal(err)
					}
					taken := time.Since(start)
					ratios = append(ratios, possible.Seconds()/taken.Seconds())
					rates = append(rates, length/taken.Seconds()/1e6)
				}
				b.ReportMetric(median(ratios), "of-cores×sha256")
				b.ReportMetric(median(rates), "MB/s")
				b.ReportMetric(0, "ns/op") // of both together: it says nothing
			})
		}
	}
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// hashOnly returns how long all cores take to hash that many bytes together: the same
// few leaves, over and over.
func hashOnly(length int) time.Duration {
	workers := runtime.GOMAXPROCS(0)
	leaves := sample(8 * leaf)
	var wait sync.WaitGroup
	start := time.Now()
	for range workers {
		wait.Go(func() {
			for i := range length / workers / leaf {
				at := i % 8 * leaf
				sha256.Sum256(leaves[at : at+leaf])
			}
		})
	}
	wait.Wait()
	return time.Since(start)
}
