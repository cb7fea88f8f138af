package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
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

func TestATargetIsWholeOrAbsent(t *testing.T) {
	for _, length := range []int{0, 1, 65536, 200_000} {
		data := bytesOf(length)
		path := filepath.Join(t.TempDir(), "out")
		geometry := content.Geometry{TotalLength: int64(length), PieceLength: 65536}
		target, err := Create(path, geometry, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for piece := range geometry.Pieces() {
			code(t, target.Commit(), CodeNotComplete)
			if _, err := block(target, geometry, piece, 0); !errors.Is(err, &Error{Code: CodeUnreadable}) {
				t.Errorf("a piece that is not there: %v", err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Error("there is something under the final name")
			}
			at := geometry.PieceOffset(piece)
			if err := target.WritePiece(piece, data[at:at+geometry.PieceSize(piece)]); err != nil {
				t.Fatal(err)
			}
			if got, err := block(target, geometry, piece, 0); err != nil || !bytes.Equal(got, data[at:at+int64(len(got))]) {
				t.Errorf("reading it back: %v", err)
			}
		}
		if err := target.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := block(target, geometry, 0, 0); err != nil {
			t.Errorf("reading after Commit: %v", err)
		}
		for range 2 {
			if err := target.Close(); err != nil {
				t.Error(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: another file: %v", length, err)
		}
		left(t, filepath.Dir(path), "out")
	}
}

// left checks which files are in a folder.
func left(t *testing.T, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	if strings.Join(found, " ") != strings.Join(names, " ") {
		t.Errorf("files %v instead of %v", found, names)
	}
}

func TestATargetThatIsGivenUpLeavesNothing(t *testing.T) {
	folder := t.TempDir()
	target, err := Create(filepath.Join(folder, strings.Repeat("x", 255)), content.Geometry{TotalLength: 5, PieceLength: 65536}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := target.WritePiece(0, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := target.Close(); err != nil {
		t.Fatal(err)
	}
	left(t, folder)
	if err := target.WritePiece(0, []byte("hello")); err == nil {
		t.Error("a piece was written after Close")
	}
}

func TestATargetNeverReplacesAFileUnasked(t *testing.T) {
	geometry := content.Geometry{TotalLength: 5, PieceLength: 65536}
	fill := func(t *testing.T, target *Target) {
		t.Cleanup(func() { _ = target.Close() })
		if err := target.WritePiece(0, []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("there before", func(t *testing.T) {
		path := write(t, filepath.Join(t.TempDir(), "out"), []byte("mine"))
		_, err := Create(path, geometry, Options{})
		code(t, err, CodeExists)
		left(t, filepath.Dir(path), "out")
	})
	t.Run("there since", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out")
		target, err := Create(path, geometry, Options{})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, target)
		write(t, path, []byte("mine"))
		code(t, target.Commit(), CodeExists)
		if err := target.Close(); err != nil {
			t.Error(err)
		}
		if got, _ := os.ReadFile(path); string(got) != "mine" {
			t.Errorf("the file holds %q", got)
		}
		left(t, filepath.Dir(path), "out")
	})
	t.Run("asked to", func(t *testing.T) {
		path := write(t, filepath.Join(t.TempDir(), "out"), []byte("mine"))
		target, err := Create(path, geometry, Options{Overwrite: true})
		if err != nil {
			t.Fatal(err)
		}
		fill(t, target)
		if err := target.Commit(); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != "hello" {
			t.Errorf("the file holds %q", got)
		}
		left(t, filepath.Dir(path), "out")
	})
	t.Run("a folder", func(t *testing.T) {
		_, err := Create(t.TempDir(), geometry, Options{Overwrite: true})
		code(t, err, CodeNoFile)
	})
}

func TestTheFinalFileHasUsualPermissions(t *testing.T) {
	folder := t.TempDir()
	usual, err := os.Create(filepath.Join(folder, "usual"))
	if err != nil {
		t.Fatal(err)
	}
	defer usual.Close()
	target, err := Create(filepath.Join(folder, "out"), content.Geometry{PieceLength: 65536}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	if err := target.WritePiece(0, nil); err != nil {
		t.Fatal(err)
	}
	if err := target.Commit(); err != nil {
		t.Fatal(err)
	}
	want, err := usual.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.Stat(filepath.Join(folder, "out")); err != nil || got.Mode() != want.Mode() {
		t.Errorf("mode %v instead of %v: %v", got.Mode(), want.Mode(), err)
	}
}

// faulty is a file whose disk fails.
type faulty struct {
	File
	write, truncate, sync error
}

func (f *faulty) WriteAt(p []byte, at int64) (int, error) {
	if f.write != nil {
		return 0, &fs.PathError{Op: "write", Path: f.Name(), Err: f.write}
	}
	return f.File.WriteAt(p, at)
}

func (f *faulty) Truncate(size int64) error {
	if f.truncate != nil {
		return &fs.PathError{Op: "truncate", Path: f.Name(), Err: f.truncate}
	}
	return f.File.Truncate(size)
}

func (f *faulty) Sync() error {
	if f.sync != nil {
		return &fs.PathError{Op: "sync", Path: f.Name(), Err: f.sync}
	}
	return f.File.Sync()
}

func TestADiskThatFails(t *testing.T) {
	geometry := content.Geometry{TotalLength: 5, PieceLength: 65536}
	for _, test := range []struct {
		name  string
		fault faulty
		want  Code
	}{
		{"full when created", faulty{truncate: syscall.ENOSPC}, CodeDiskFull},
		{"full when written", faulty{write: syscall.ENOSPC}, CodeDiskFull},
		{"quota used up", faulty{write: syscall.EDQUOT}, CodeDiskFull},
		{"full when synced", faulty{sync: syscall.ENOSPC}, CodeDiskFull},
		{"broken", faulty{write: syscall.EIO}, CodeUnwritable},
		{"broken when synced", faulty{sync: syscall.EIO}, CodeUnwritable},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			err := func() error {
				target, err := Create(filepath.Join(folder, "out"), geometry, Options{Create: func(path string) (File, error) {
					file, err := createFile(path)
					test.fault.File = file
					return &test.fault, err
				}})
				if err != nil {
					return err
				}
				defer target.Close()
				if err := target.WritePiece(0, []byte("hello")); err != nil {
					return err
				}
				return target.Commit()
			}()
			code(t, err, test.want)
			left(t, folder)
		})
	}
}

func TestAFolderThatCannotBeWrittenTo(t *testing.T) {
	geometry := content.Geometry{TotalLength: 5, PieceLength: 65536}
	_, err := Create(filepath.Join(t.TempDir(), "none", "out"), geometry, Options{})
	code(t, err, CodeMissing)

	// For root every folder can be written to, but that of processes.
	folder := filepath.Join(t.TempDir(), "locked")
	if err := os.Mkdir(folder, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		folder = "/proc"
	}
	_, err = Create(filepath.Join(folder, "out"), geometry, Options{})
	if !errors.Is(err, &Error{Code: CodeUnwritable}) && !errors.Is(err, &Error{Code: CodeMissing}) {
		t.Errorf("%v", err)
	}
}
