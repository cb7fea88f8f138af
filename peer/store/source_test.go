package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"p2pcdn/common/content"
)

func bytesOf(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{9}).Read(data)
	return data
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func open(t *testing.T, path string) *Source {
	t.Helper()
	source, err := Open(t.Context(), path, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = source.Close() })
	return source
}

// block reads one block of 16 KiB, or less at the end.
func block(s interface {
	ReadBlock(int, int64, []byte) error
}, geometry content.Geometry, piece int, begin int64) ([]byte, error) {
	buffer := make([]byte, min(content.LeafLength, geometry.PieceSize(piece)-begin))
	err := s.ReadBlock(piece, begin, buffer)
	return buffer, err
}

func code(t *testing.T, err error, want Code) {
	t.Helper()
	if !errors.Is(err, &Error{Code: want}) {
		t.Errorf("%v instead of %s", err, want)
	}
}

func TestASourceServesItsFile(t *testing.T) {
	for _, length := range []int{0, 1, 16384, 65536, 65537, 200_000} {
		data := bytesOf(length)
		path := write(t, filepath.Join(t.TempDir(), "a file.txt"), data)
		var last, total int64
		source, err := Open(t.Context(), path, 0, func(d, t int64) { last, total = d, t })
		if err != nil {
			t.Fatal(err)
		}
		info := source.Info()
		if err := info.Validate(); err != nil || info.FileName != "a file.txt" || info.ContentType != "text/plain; charset=utf-8" {
			t.Errorf("%+v: %v", info, err)
		}
		if last != int64(length) || total != int64(length) {
			t.Errorf("progress ended at %d of %d", last, total)
		}
		geometry := info.Geometry()
		for range 2 { // verified while reading, and then read alone
			var got []byte
			for piece := range geometry.Pieces() {
				for begin := int64(0); begin == 0 || begin < geometry.PieceSize(piece); begin += content.LeafLength {
					b, err := block(source, geometry, piece, begin)
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, b...)
				}
			}
			if !bytes.Equal(got, data) {
				t.Errorf("%d bytes: other bytes were read", length)
			}
		}
		if err := source.Close(); err != nil {
			t.Error(err)
		}
		_, err = block(source, geometry, 0, 0)
		code(t, err, CodeUnreadable)
	}
}

func TestWhatCannotBeASource(t *testing.T) {
	folder := t.TempDir()
	pipe := filepath.Join(folder, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]Code{
		filepath.Join(folder, "nothing"):         CodeMissing,
		folder:                                   CodeNoFile,
		pipe:                                     CodeNoFile,
		filepath.Join(folder, "nothing", "here"): CodeMissing,
	} {
		_, err := Open(t.Context(), path, 0, nil)
		code(t, err, want)
	}
	path := write(t, filepath.Join(folder, "file"), bytesOf(10))
	if _, err := Open(t.Context(), path, 1000, nil); !errors.Is(err, &content.Error{Code: content.CodeBadPieceLength}) {
		t.Errorf("a piece length of 1000: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Open(ctx, path, 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	sparse := filepath.Join(folder, "sparse")
	if err := os.WriteFile(sparse, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(sparse, content.MaxTotalLength+1); err != nil {
		t.Fatal(err) // tmpfs, and ext4 with blocks of 4 KiB, can
	}
	_, err := Open(t.Context(), sparse, 0, nil)
	code(t, err, CodeTooLarge)
}

// A file that grows or shrinks while it is hashed has no hash.
func TestAFileThatChangesWhileItIsHashed(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"longer":  func(path string) error { return os.WriteFile(path, bytesOf(3<<20+1), 0o600) },
		"shorter": func(path string) error { return os.Truncate(path, 1<<20) },
		"touched": func(path string) error { return os.Chtimes(path, time.Time{}, time.Unix(1, 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "file"), bytesOf(3<<20))
			changed := false
			_, err := Open(t.Context(), path, 0, func(int64, int64) {
				if !changed {
					changed = true
					if err := change(path); err != nil {
						t.Error(err)
					}
				}
			})
			code(t, err, CodeChanged)
		})
	}
}

// Whatever happens to a seeded file, no wrong byte is handed out.
func TestAFileThatChangesWhileItIsSeeded(t *testing.T) {
	data := bytesOf(200_000)
	other := bytes.Clone(data)
	other[70_000] ^= 1 // in the second piece
	old := time.Unix(1_000_000_000, 0)
	for _, test := range []struct {
		name   string
		change func(path string) error
		first  error // of the first piece
		second error // of the second piece
	}{
		{"touched", func(path string) error { return os.Chtimes(path, time.Time{}, old) }, nil, nil},
		{"another byte", func(path string) error { return os.WriteFile(path, other, 0o600) }, nil, &Error{Code: CodeChanged}},
		{"another byte, time kept", func(path string) error {
			before, err := os.Stat(path)
			if err != nil {
				return err
			}
			if err := os.WriteFile(path, other, 0o600); err != nil {
				return err
			}
			return os.Chtimes(path, time.Time{}, before.ModTime())
		}, nil, &Error{Code: CodeChanged}},
		{"longer", func(path string) error { return os.WriteFile(path, append(data, 1), 0o600) }, &Error{Code: CodeChanged}, &Error{Code: CodeChanged}},
		{"shorter", func(path string) error { return os.Truncate(path, 100_000) }, &Error{Code: CodeChanged}, &Error{Code: CodeChanged}},
		{"replaced by rename", func(path string) error {
			if err := os.WriteFile(path+".new", other, 0o600); err != nil {
				return err
			}
			return os.Rename(path+".new", path)
		}, nil, nil}, // what was opened is still what it was
		{"removed", os.Remove, nil, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "file"), data)
			source := open(t, path)
			geometry := source.Info().Geometry()
			if err := test.change(path); err != nil {
				t.Fatal(err)
			}
			for piece, want := range []error{test.first, test.second, test.second} {
				if piece == 2 {
					piece = 0 // and once it failed, everything fails
				}
				got, err := block(source, geometry, piece, 0)
				if !errors.Is(err, want) {
					t.Errorf("piece %d: %v instead of %v", piece, err, want)
				}
				if err == nil && !bytes.Equal(got, data[geometry.PieceOffset(piece):][:len(got)]) {
					t.Errorf("piece %d: wrong bytes", piece)
				}
			}
		})
	}
}

// A file that did not change for a while is not hashed once more while its state remains, and is when it does not.
func TestWhatWasHashedIsNotHashedAgain(t *testing.T) {
	data := bytesOf(200_000)
	for _, test := range []struct {
		name    string
		later   []time.Duration // since the file changed: when it is opened, and when it is read
		trusted []bool          // at each of those, all pieces
	}{
		{"an old file", []time.Duration{time.Hour, time.Hour}, []bool{true, true}},
		{"a new file", []time.Duration{time.Second, time.Second}, []bool{false, false}},
		{"a file that becomes old", []time.Duration{time.Second, time.Second, 3 * time.Second, time.Hour}, []bool{false, false, false, true}},
		{"a file of tomorrow", []time.Duration{-24 * time.Hour, -24 * time.Hour}, []bool{false, false}},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := write(t, filepath.Join(t.TempDir(), "file"), data)
			changed := time.Unix(1_700_000_000, 0)
			if err := os.Chtimes(path, changed, changed); err != nil {
				t.Fatal(err)
			}
			now := changed.Add(test.later[0])
			source, err := openSource(t.Context(), path, 0, nil, func() time.Time { return now })
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			geometry := source.Info().Geometry()
			for i, later := range test.later[1:] {
				now = changed.Add(later)
				for piece := range geometry.Pieces() {
					if trusted := source.current().verified.has(piece); trusted != test.trusted[i+1] {
						t.Errorf("piece %d, %v after the change: trusted: %v", piece, later, trusted)
					}
					if got, err := block(source, geometry, piece, 0); err != nil || !bytes.Equal(got, data[geometry.PieceOffset(piece):][:len(got)]) {
						t.Errorf("piece %d: %v", piece, err)
					}
					if !source.current().verified.has(piece) {
						t.Errorf("piece %d was read without being checked", piece)
					}
				}
			}
			data := bytes.Clone(data)
			data[150_000] ^= 1
			write(t, path, data)
			_, err = block(source, geometry, 2, 0) // the first read after the change sees it
			code(t, err, CodeChanged)
		})
	}
}

// Many uploaders read at the same time, while the file is touched now and then.
func TestReadingTogether(t *testing.T) {
	data := bytesOf(3 << 20)
	path := write(t, filepath.Join(t.TempDir(), "file"), data)
	source := open(t, path)
	geometry := source.Info().Geometry()
	var readers sync.WaitGroup
	for reader := range 8 {
		readers.Go(func() {
			random := rand.New(rand.NewPCG(uint64(reader), 1))
			for i := range 200 {
				piece := random.IntN(geometry.Pieces())
				begin := int64(random.IntN(geometry.Leaves(piece))) * content.LeafLength
				got, err := block(source, geometry, piece, begin)
				if at := geometry.PieceOffset(piece) + begin; err != nil || !bytes.Equal(got, data[at:at+int64(len(got))]) {
					t.Errorf("piece %d at %d: %v", piece, begin, err)
				}
				if reader == 0 && i%50 == 49 {
					if err := os.Chtimes(path, time.Time{}, time.Unix(int64(i), 0)); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	readers.Wait()
}

// However long the piece, verifying it takes a run of it, and the hashes of its leaves.
func TestVerifyingIsBounded(t *testing.T) {
	const length = content.MaxPieceLength
	path := filepath.Join(t.TempDir(), "file")
	write(t, path, nil)
	if err := os.Truncate(path, length); err != nil {
		t.Fatal(err)
	}
	source, err := Open(t.Context(), path, content.MaxPieceLength, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	if source.current().verified.has(0) {
		t.Fatal("there is nothing to verify")
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := block(source, source.Info().Geometry(), 0, length/2); err != nil {
		t.Error(err)
	}
	runtime.ReadMemStats(&after)
	// Besides what is held, the short-lived hashes of each run, and the growing list of all.
	if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
		t.Errorf("%d bytes were allocated", used)
	}
}

// BenchmarkReadBlock reads a file in order, in blocks, from the page cache.
func BenchmarkReadBlock(b *testing.B) {
	const length = 256 << 20
	path := filepath.Join(b.TempDir(), "file")
	if err := os.WriteFile(path, bytesOf(length), 0o600); err != nil {
		b.Fatal(err)
	}
	source, err := openSource(b.Context(), path, 0, nil, func() time.Time { return time.Now().Add(time.Minute) })
	if err != nil {
		b.Fatal(err)
	}
	defer source.Close()
	geometry := source.Info().Geometry()
	for _, size := range []int64{16 << 10, 48 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			var reader atomic.Int64
			b.SetBytes(size)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				buffer := make([]byte, size)
				piece, begin := int(reader.Add(1)*97)%geometry.Pieces(), int64(0)
				for pb.Next() {
					if err := source.ReadBlock(piece, begin, buffer[:min(size, geometry.PieceLength-begin)]); err != nil {
						b.Fatal(err)
					}
					if begin += size; begin >= geometry.PieceLength {
						piece, begin = (piece+1)%geometry.Pieces(), 0
					}
				}
			})
		})
	}
}

func TestTheTypeFollowsTheEnding(t *testing.T) {
	for name, want := range map[string]string{
		"film.webm": "video/webm", "FILM.WEBM": "video/webm", "page.html": "text/html; charset=utf-8", "picture.png": "image/png", "nothing": "",
	} {
		if got := contentType(name); got != want {
			t.Errorf("%s is %q instead of %q", name, got, want)
		}
	}
}
