package store

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/quick"

	"go.uber.org/goleak"

	"p2pcdn/common/content"
	"p2pcdn/common/wire"
)

// asVictim makes the test's program a process that fetches until it is killed.
const asVictim = "STORE_TEST_AS_VICTIM"

func TestMain(m *testing.M) {
	if path := os.Getenv(asVictim); path != "" {
		if err := victim(path); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// kill is what becomes of a target whose process is killed: the system closes the file.
func kill(t *testing.T, target *Target) {
	t.Helper()
	if err := target.part.Close(); err != nil {
		t.Error(err)
	}
}

// pieces returns the set as a list.
func pieces(have *wire.Bits) (list []int) {
	for piece := range have.Len() {
		if have.Has(piece) {
			list = append(list, piece)
		}
	}
	return list
}

// check wants exactly these pieces to be right.
func check(t *testing.T, target *Target, info content.Info, want []int) {
	t.Helper()
	told, total := int64(0), int64(0)
	have, err := target.Check(t.Context(), info, func(done, of int64) {
		if done < told {
			t.Errorf("progress went back from %d to %d", told, done)
		}
		told, total = done, of
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := pieces(have); !slices.Equal(got, want) {
		t.Fatalf("pieces %v instead of %v", got, want)
	}
	if target.found && (told != info.TotalLength || total != info.TotalLength) {
		t.Errorf("progress ended at %d of %d", told, total)
	}
}

func TestCheckOfNothing(t *testing.T) {
	data := bytesOf(200_000)
	info := describe(t, data, 65536)
	target := create(t, filepath.Join(t.TempDir(), "out"), info, Options{})
	have, err := target.Check(t.Context(), info, func(int64, int64) { t.Error("there is nothing to check") })
	if err != nil || have.Count() != 0 || have.Len() != 4 {
		t.Errorf("%v: %v", have, err)
	}
	bare := info
	bare.PieceHashes = nil
	_, err = target.Check(t.Context(), bare, nil)
	code(t, err, CodeUnreadable)
	_, err = target.Check(t.Context(), describe(t, data, 32768), nil)
	code(t, err, CodeUnreadable)
}

// An attempt that is given up, and another, and so on, each with some more pieces.
func TestGoingOn(t *testing.T) {
	for _, length := range []int{1, 65536, 200_000, 1 << 20} {
		data := bytesOf(length)
		info := describe(t, data, 65536)
		folder := t.TempDir()
		path := filepath.Join(folder, "out")
		var there []int
		for piece := range info.Geometry().Pieces() {
			target := create(t, path, info, Options{})
			check(t, target, info, there)
			fill(t, target, data, piece)
			there = append(there, piece)
			if err := target.Close(); err != nil {
				t.Fatal(err)
			}
			left(t, folder, partName(info))
		}
		target := create(t, path, info, Options{})
		check(t, target, info, there)
		if err := target.Commit(); err != nil {
			t.Fatal(err)
		}
		left(t, folder, "out")
		holds(t, path, string(data))
	}
}

func TestBeginningAnew(t *testing.T) {
	data := bytesOf(200_000)
	info := describe(t, data, 65536)
	folder := t.TempDir()
	path := filepath.Join(folder, "out")
	target := create(t, path, info, Options{})
	fill(t, target, data, 1)
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	target = create(t, path, info, Options{Fresh: true})
	check(t, target, info, nil)
	if got, err := block(target, info.Geometry(), 1, 0); err != nil || !bytes.Equal(got, make([]byte, len(got))) {
		t.Errorf("something is there: %v", err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	left(t, folder)
}

// What an attempt left that holds not one right piece is not worth keeping.
func TestRubbishIsNotKept(t *testing.T) {
	info := describe(t, bytesOf(200_000), 65536)
	folder := t.TempDir()
	write(t, filepath.Join(folder, partName(info)), []byte("rubbish"))
	target := create(t, filepath.Join(folder, "out"), info, Options{})
	check(t, target, info, nil)
	if err := target.Close(); err != nil {
		t.Error(err)
	}
	left(t, folder)
}

// Another length of pieces cuts the same part file in another way.
func TestGoingOnWithOtherPieces(t *testing.T) {
	data := bytesOf(200_000)
	folder := t.TempDir()
	path := filepath.Join(folder, "out")
	target := create(t, path, describe(t, data, 65536), Options{})
	fill(t, target, data, 1)
	fill(t, target, data, 3)
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	info := describe(t, data, 32768)
	target = create(t, path, info, Options{})
	check(t, target, info, []int{2, 3, 6})
}

// Zeros that were fetched and zeros that are holes are the same content.
func TestCheckOfHoles(t *testing.T) {
	for _, length := range []int{300_000, 8 << 16} {
		data := make([]byte, length)
		copy(data[3*65536+10:], "something") // in piece 3
		info := describe(t, data, 65536)
		target := create(t, filepath.Join(t.TempDir(), "out"), info, Options{})
		fill(t, target, data, 1)
		kill(t, target)
		target = create(t, target.Path(), info, Options{})
		var want []int
		for piece := range info.Geometry().Pieces() {
			if piece != 3 {
				want = append(want, piece)
			}
		}
		check(t, target, info, want)
	}
}

// A property: whatever was written when the process was killed, in whatever order, and
// whatever became of the part file afterwards, exactly the right pieces are found, and what is missing makes
// the content whole.
func TestKilledAnywhere(t *testing.T) {
	property := func(seed uint64) bool {
		random := rand.New(rand.NewPCG(seed, 1))
		pieceLength := int64(content.LeafLength) << random.IntN(4)
		data := make([]byte, 1+random.IntN(20*int(pieceLength)))
		source := rand.NewChaCha8([32]byte{byte(seed)})
		for at := 0; at < len(data); at += 1000 { // with zeros in some places
			if stretch := data[at:min(len(data), at+1000)]; random.IntN(30) > 0 {
				source.Read(stretch)
			}
		}
		if random.IntN(4) == 0 {
			clear(data[:len(data)/2]) // whole pieces of them
		}
		info := describe(t, data, pieceLength)
		geometry := info.Geometry()
		path := filepath.Join(t.TempDir(), "out")
		on := make([]byte, len(data)) // what is on the disk, by our own account
		began := false
		for range 1 + random.IntN(4) {
			target := create(t, path, info, Options{})
			check(t, target, info, rightPieces(info, on, began))
			for range random.IntN(3 * geometry.Pieces()) {
				piece := random.IntN(geometry.Pieces())
				begin := min(int64(random.IntN(int(pieceLength)))/content.LeafLength*content.LeafLength, geometry.PieceSize(piece)-1) / content.LeafLength * content.LeafLength
				at := geometry.PieceOffset(piece) + begin
				got := slices.Clone(data[at:min(at+content.LeafLength, geometry.PieceOffset(piece)+geometry.PieceSize(piece))])
				if random.IntN(8) == 0 {
					got[random.IntN(len(got))] ^= 1 // a block that was not verified yet, and is wrong
				}
				if err := target.WriteBlock(piece, begin, got); err != nil {
					t.Error(err)
				}
				copy(on[at:], got)
			}
			began = true // the part file has its length
			kill(t, target)
			damage(t, random, target.partPath, &on)
		}
		target := create(t, path, info, Options{})
		want := rightPieces(info, on, began)
		check(t, target, info, want)
		for piece := range geometry.Pieces() {
			if !slices.Contains(want, piece) {
				fill(t, target, data, piece)
			}
		}
		if err := errors.Join(target.Commit(), target.Close()); err != nil {
			t.Error(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("another content: %v", err)
		}
		return !t.Failed()
	}
	if err := quick.Check(property, &quick.Config{MaxCount: 50}); err != nil {
		t.Error(err)
	}
}

// rightPieces are those of what is on the disk that have the right hash. Of a file that was not begun, none is looked at.
func rightPieces(info content.Info, on []byte, began bool) (right []int) {
	geometry := info.Geometry()
	for piece := range geometry.Pieces() {
		at := geometry.PieceOffset(piece)
		if began && geometry.HashPiece(on[at:at+geometry.PieceSize(piece)]) == info.PieceHash(piece) {
			right = append(right, piece)
		}
	}
	return right
}

// damage does to a part file what disks, people and other programs do.
func damage(t *testing.T, random *rand.Rand, path string, on *[]byte) {
	t.Helper()
	data := *on
	var err error
	switch random.IntN(6) {
	case 0: // other bytes
		from := random.IntN(len(data))
		stretch := data[from:min(len(data), from+1+random.IntN(40_000))]
		rand.NewChaCha8([32]byte{77}).Read(stretch)
		err = os.WriteFile(path, data, 0o600)
	case 1: // shorter
		n := random.IntN(len(data))
		clear(data[n:])
		err = os.Truncate(path, max(1, int64(n)))
		clear(data[max(1, n):])
		if n == 0 {
			var first [1]byte
			err = errors.Join(err, readFirst(path, first[:]))
			data[0] = first[0]
		}
	case 2: // longer
		err = os.Truncate(path, int64(len(data))+1+int64(random.IntN(100_000)))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func readFirst(path string, into []byte) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = io.ReadFull(file, into)
	return err
}

// victim fetches two pieces and half of a third, and waits.
func victim(path string) error {
	data := bytesOf(400_000)
	geometry := content.Geometry{TotalLength: int64(len(data)), PieceLength: 65536}
	sum, err := geometry.Sum(context.Background(), bytes.NewReader(data), nil)
	if err != nil {
		return err
	}
	target, err := Create(path, content.Info{FullHash: sum.FullHash, TotalLength: geometry.TotalLength, PieceLength: geometry.PieceLength, PieceHashes: sum.PieceHashes}, Options{})
	if err != nil {
		return err
	}
	for _, piece := range []int{0, 5} {
		if err := target.WriteBlock(piece, 0, data[geometry.PieceOffset(piece):][:65536]); err != nil {
			return err
		}
	}
	if err := target.WriteBlock(3, 0, data[geometry.PieceOffset(3):][:32768]); err != nil {
		return err
	}
	fmt.Println("fetching")
	_, err = io.Copy(io.Discard, os.Stdin) // until it is killed
	runtime.KeepAlive(target)
	return err
}

// A real process that is killed: while it lives the place is taken, and afterwards nothing is in the way.
func TestAKilledProcess(t *testing.T) {
	data := bytesOf(400_000)
	info := describe(t, data, 65536)
	path := filepath.Join(t.TempDir(), "out")
	process := exec.Command(os.Args[0])
	process.Env = append(os.Environ(), asVictim+"="+path)
	stdin, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "fetching" {
		t.Errorf("the process says %q: %v", line, err)
	}
	_, err = Create(path, info, Options{})
	code(t, err, CodeBusy)
	if err := process.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := process.Wait(); err == nil {
		t.Error("it was not killed")
	}
	target := create(t, path, info, Options{})
	check(t, target, info, []int{0, 5})
	for _, piece := range []int{1, 2, 3, 4, 6} {
		fill(t, target, data, piece)
	}
	if err := target.Commit(); err != nil {
		t.Error(err)
	}
	holds(t, path, string(data))
}

func TestCheckIsCancelled(t *testing.T) {
	data := bytesOf(1 << 20)
	info := describe(t, data, 65536)
	target := create(t, filepath.Join(t.TempDir(), "out"), info, Options{})
	for piece := range info.Geometry().Pieces() {
		fill(t, target, data, piece)
	}
	kill(t, target)
	target = create(t, target.Path(), info, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := target.Check(ctx, info, func(int64, int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if err := target.Close(); err != nil {
		t.Error(err)
	}
	target = create(t, target.Path(), info, Options{}) // what was not looked at is kept
	check(t, target, info, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
}

func TestCheckOnABrokenDisk(t *testing.T) {
	data := bytesOf(200_000)
	info := describe(t, data, 65536)
	target := create(t, filepath.Join(t.TempDir(), "out"), info, Options{})
	fill(t, target, data, 0)
	kill(t, target)
	target = create(t, target.Path(), info, Options{Wrap: func(file File) File { return &faulty{File: file, read: syscall.EIO} }})
	_, err := target.Check(t.Context(), info, nil)
	code(t, err, CodeUnreadable)
}

// However long the pieces, Check holds a run of each core's, and the hashes of its leaves.
func TestCheckIsBounded(t *testing.T) {
	const length = 128 << 20
	path := filepath.Join(t.TempDir(), "out")
	info := describeZeros(t, length, content.MaxPieceLength)
	target := create(t, path, info, Options{})
	for piece := range info.Geometry().Pieces() {
		if err := target.WriteBlock(piece, 1<<20, []byte{0}); err != nil { // no hole
			t.Fatal(err)
		}
	}
	kill(t, target)
	target = create(t, path, info, Options{})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	have, err := target.Check(t.Context(), info, nil)
	runtime.ReadMemStats(&after)
	if err != nil || !have.All() {
		t.Errorf("%v: %v", have, err)
	}
	// Besides what is held, the short-lived hashes of each run: 128 bytes for 64 KiB.
	allowed := uint64(runtime.GOMAXPROCS(0)*512<<10 + length/content.LeafLength*content.HashSize + 4<<20)
	if used := after.TotalAlloc - before.TotalAlloc; used > allowed {
		t.Errorf("%d bytes were allocated, more than %d", used, allowed)
	}
}

// describeZeros describes a content of zeros without hashing it.
func describeZeros(t testing.TB, length, pieceLength int64) content.Info {
	t.Helper()
	geometry := content.Geometry{TotalLength: length, PieceLength: pieceLength}
	zeros := zeroPieces(geometry)
	hashes := make([]content.Hash, geometry.Pieces())
	for piece := range hashes {
		hashes[piece] = zeros[min(1, len(hashes)-1-piece)]
	}
	info := content.Info{FullHash: geometry.Root(hashes), TotalLength: length, PieceLength: pieceLength, PieceHashes: hashes}
	if err := info.Validate(); err != nil {
		t.Fatal(err)
	}
	return info
}

// BenchmarkWriteBlock writes blocks to a part file on the disk of the tests' folder.
func BenchmarkWriteBlock(b *testing.B) {
	const length, size = 256 << 20, 64 << 10
	info := describeZeros(b, length, 256<<10)
	geometry := info.Geometry()
	target := create(b, filepath.Join(b.TempDir(), "out"), info, Options{})
	var block atomic.Int64
	b.SetBytes(size)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		data := make([]byte, size)
		for pb.Next() {
			at := block.Add(1) * size % length
			if err := target.WriteBlock(int(at/geometry.PieceLength), at%geometry.PieceLength, data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.StopTimer()
	if err := target.Discard(); err != nil {
		b.Error(err)
	}
}

// BenchmarkCheck checks a part file that holds everything, and one that is a hole.
func BenchmarkCheck(b *testing.B) {
	const length = 256 << 20
	info := describeZeros(b, length, 256<<10)
	for name, written := range map[string]bool{"data": true, "hole": false} {
		b.Run(name, func(b *testing.B) {
			target := create(b, filepath.Join(b.TempDir(), "out"), info, Options{})
			target.found = true
			for piece := range info.Geometry().Pieces() {
				if written {
					if err := target.WriteBlock(piece, 0, make([]byte, info.PieceLength)); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.SetBytes(length)
			b.ReportAllocs()
			for b.Loop() {
				if have, err := target.Check(b.Context(), info, nil); err != nil || !have.All() {
					b.Fatal(err)
				}
			}
			if err := target.Discard(); err != nil {
				b.Error(err)
			}
		})
	}
}
