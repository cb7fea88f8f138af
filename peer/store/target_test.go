package store

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"p2pcdn/common/content"
)

// describe returns the info dictionary of data.
func describe(t testing.TB, data []byte, pieceLength int64) content.Info {
	t.Helper()
	geometry := content.Geometry{TotalLength: int64(len(data)), PieceLength: pieceLength}
	sum, err := geometry.Sum(context.Background(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return content.Info{FullHash: sum.FullHash, FileName: "out", TotalLength: int64(len(data)), PieceLength: pieceLength, PieceHashes: sum.PieceHashes}
}

func create(t testing.TB, path string, info content.Info, options Options) *Target {
	t.Helper()
	target, err := Create(path, info, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = target.Close() })
	return target
}

// fill writes a piece block by block, all at the same time.
func fill(t testing.TB, target *Target, data []byte, piece int) {
	t.Helper()
	geometry := target.geometry
	data = data[geometry.PieceOffset(piece):][:geometry.PieceSize(piece)]
	var wait sync.WaitGroup
	for begin := 0; begin < len(data); begin += content.LeafLength {
		wait.Go(func() {
			if err := target.WriteBlock(piece, int64(begin), data[begin:min(len(data), begin+content.LeafLength)]); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
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
		t.Errorf("files %q instead of %q", found, names)
	}
}

// partName is the name of the part file of a target at "out".
func partName(info content.Info) string { return ".out." + info.FullHash.String()[:16] + ".part" }

func holds(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s holds %q instead of %q: %v", path, got, want, err)
	}
}

func TestATargetIsWholeOrAbsent(t *testing.T) {
	for _, length := range []int{0, 1, 65536, 200_000} {
		data := bytesOf(length)
		info := describe(t, data, 65536)
		path := filepath.Join(t.TempDir(), "out")
		target := create(t, path, info, Options{})
		if target.Path() != path {
			t.Errorf("path %s", target.Path())
		}
		geometry := info.Geometry()
		for piece := range geometry.Pieces() {
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Error("there is something under the final name")
			}
			fill(t, target, data, piece)
			at := geometry.PieceOffset(piece)
			if got, err := block(target, geometry, piece, 0); err != nil || !bytes.Equal(got, data[at:at+int64(len(got))]) {
				t.Errorf("reading it back: %v", err)
			}
		}
		if err := target.Commit(); err != nil {
			t.Fatal(err)
		}
		if got, err := block(target, geometry, 0, 0); err != nil || !bytes.Equal(got, data[:len(got)]) {
			t.Errorf("reading after Commit: %v", err)
		}
		for range 2 {
			if err := target.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := target.Discard(); err != nil {
			t.Error(err)
		}
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: another file: %v", length, err)
		}
		left(t, filepath.Dir(path), "out")
		_, err := block(target, geometry, 0, 0)
		code(t, err, CodeUnreadable)
		code(t, target.WriteBlock(0, 0, nil), CodeUnreadable)
		code(t, target.Commit(), CodeUnreadable)
		_, err = target.Check(t.Context(), info, nil)
		code(t, err, CodeUnreadable)
	}
}

func TestWhatRemainsOfATarget(t *testing.T) {
	data := bytesOf(200_000)
	info := describe(t, data, 65536)
	for _, test := range []struct {
		name    string
		fetch   func(t *testing.T, target *Target)
		end     func(*Target) error
		remains bool
	}{
		{"nothing was written", func(*testing.T, *Target) {}, (*Target).Close, false},
		{"something was written", func(t *testing.T, target *Target) { fill(t, target, data, 2) }, (*Target).Close, true},
		{"it was thrown away", func(t *testing.T, target *Target) { fill(t, target, data, 2) }, (*Target).Discard, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			target := create(t, filepath.Join(folder, "out"), info, Options{})
			left(t, folder, partName(info))
			test.fetch(t, target)
			if err := test.end(target); err != nil {
				t.Error(err)
			}
			if test.remains {
				left(t, folder, partName(info))
			} else {
				left(t, folder)
			}
		})
	}
}

// Names of every length that a file system allows, and of more than one byte a
// character, leave room for what a part file's name has besides.
func TestLongNames(t *testing.T) {
	folder := t.TempDir()
	info := describe(t, []byte("hello"), 65536)
	for _, name := range []string{strings.Repeat("x", 255), "x" + strings.Repeat("ü", 127)} {
		target := create(t, filepath.Join(folder, name), info, Options{})
		if err := target.WriteBlock(0, 0, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if part := filepath.Base(target.partPath); len(part) > 255 || strings.ToValidUTF8(part, "") != part {
			t.Errorf("the part file's name is %q", part)
		}
		if err := target.Commit(); err != nil {
			t.Fatal(err)
		}
		holds(t, filepath.Join(folder, name), "hello")
	}
}

func TestATargetNeverReplacesAFileUnasked(t *testing.T) {
	info := describe(t, []byte("hello"), 65536)
	write5 := func(t *testing.T, target *Target) {
		if err := target.WriteBlock(0, 0, []byte("hello")); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("there before", func(t *testing.T) {
		path := write(t, filepath.Join(t.TempDir(), "out"), []byte("mine"))
		_, err := Create(path, info, Options{})
		code(t, err, CodeExists)
		left(t, filepath.Dir(path), "out")
	})
	t.Run("there since", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out")
		target := create(t, path, info, Options{})
		write5(t, target)
		write(t, path, []byte("mine"))
		code(t, target.Commit(), CodeExists)
		if err := target.Close(); err != nil {
			t.Error(err)
		}
		holds(t, path, "mine")
		left(t, filepath.Dir(path), partName(info), "out")

		// What was fetched is still there: it only has to be given its name.
		target = create(t, path, info, Options{Overwrite: true})
		if have, err := target.Check(t.Context(), info, nil); err != nil || !have.All() {
			t.Errorf("%v: %v", have, err)
		}
		if err := target.Commit(); err != nil {
			t.Error(err)
		}
		holds(t, path, "hello")
		left(t, filepath.Dir(path), "out")
	})
	t.Run("asked to", func(t *testing.T) {
		path := write(t, filepath.Join(t.TempDir(), "out"), []byte("mine"))
		target := create(t, path, info, Options{Overwrite: true})
		write5(t, target)
		holds(t, path, "mine")
		if err := target.Commit(); err != nil {
			t.Fatal(err)
		}
		holds(t, path, "hello")
		left(t, filepath.Dir(path), "out")
	})
	t.Run("its own, of an attempt that was killed when it gave it its name", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "out")
		target := create(t, path, info, Options{})
		write5(t, target)
		if err := os.Link(target.partPath, path); err != nil {
			t.Fatal(err)
		}
		kill(t, target)
		_, err := Create(path, info, Options{})
		code(t, err, CodeExists)
		holds(t, path, "hello")
		left(t, filepath.Dir(path), "out")
	})
	t.Run("a folder", func(t *testing.T) {
		_, err := Create(t.TempDir(), info, Options{Overwrite: true})
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
	target := create(t, filepath.Join(folder, "out"), describe(t, nil, 65536), Options{})
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

// Two that fetch the same content to the same place do not meet in one file, whatever
// they do and in whichever order they end.
func TestAPlaceThatIsTaken(t *testing.T) {
	data := bytesOf(200_000)
	info := describe(t, data, 65536)
	folder := t.TempDir()
	path := filepath.Join(folder, "out")
	first := create(t, path, info, Options{})
	for _, options := range []Options{{}, {Overwrite: true}, {Fresh: true}} {
		_, err := Create(path, info, options)
		code(t, err, CodeBusy)
	}
	other := create(t, filepath.Join(folder, "elsewhere"), info, Options{})
	for piece := range info.Geometry().Pieces() {
		fill(t, first, data, piece)
		if piece == 0 {
			_, err := Create(path, info, Options{Fresh: true})
			code(t, err, CodeBusy)
		}
	}
	if err := other.Close(); err != nil {
		t.Error(err)
	}
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	// The first one is still open. Under its name there is another file now, or none.
	second := create(t, path, info, Options{Overwrite: true})
	fill(t, second, make([]byte, len(data)), 0)
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the first one's file was written to: %v", err)
	}
	if err := second.Discard(); err != nil {
		t.Error(err)
	}
	left(t, folder, "out")
}

// Whoever opens the part file while its owner finishes must not get hold of the finished file.
func TestAPartThatGetsItsNameMeanwhile(t *testing.T) {
	data := bytesOf(300_000)
	info := describe(t, data, 65536)
	folder := t.TempDir()
	path := filepath.Join(folder, "out")
	for range 50 {
		first := create(t, path, info, Options{})
		for piece := range info.Geometry().Pieces() {
			if err := first.WriteBlock(piece, 0, data[info.Geometry().PieceOffset(piece):][:info.Geometry().PieceSize(piece)]); err != nil {
				t.Fatal(err)
			}
		}
		var second *Target
		var wait sync.WaitGroup
		wait.Go(func() {
			for second == nil {
				var err error
				if second, err = Create(path, info, Options{Overwrite: true}); err != nil && !errors.Is(err, &Error{Code: CodeBusy}) {
					t.Error(err)
					return
				}
			}
		})
		if err := errors.Join(first.Commit(), first.Close()); err != nil {
			t.Fatal(err)
		}
		wait.Wait()
		if second == nil {
			t.FailNow()
		}
		fill(t, second, make([]byte, len(data)), 1)
		if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("the finished file was written to: %v", err)
		}
		if err := errors.Join(second.Discard(), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
		left(t, folder)
	}
}

// What stands where the part file belongs, and is none, is never written to.
func TestWhatCannotBeAPart(t *testing.T) {
	data := bytesOf(200_000)
	info := describe(t, data, 65536)
	t.Run("a link to somewhere", func(t *testing.T) {
		folder := t.TempDir()
		victim := write(t, filepath.Join(folder, "victim"), []byte("mine"))
		if err := os.Symlink(victim, filepath.Join(folder, partName(info))); err != nil {
			t.Fatal(err)
		}
		_, err := Create(filepath.Join(folder, "out"), info, Options{})
		code(t, err, CodeUnwritable)
		holds(t, victim, "mine")
	})
	t.Run("a pipe", func(t *testing.T) {
		folder := t.TempDir()
		if err := syscall.Mkfifo(filepath.Join(folder, partName(info)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Create(filepath.Join(folder, "out"), info, Options{})
		code(t, err, CodeNoFile)
	})
	t.Run("a folder", func(t *testing.T) {
		folder := t.TempDir()
		if err := os.Mkdir(filepath.Join(folder, partName(info)), 0o700); err != nil {
			t.Fatal(err)
		}
		_, err := Create(filepath.Join(folder, "out"), info, Options{})
		code(t, err, CodeUnwritable)
	})
	t.Run("another name of a file", func(t *testing.T) {
		folder := t.TempDir()
		victim := write(t, filepath.Join(folder, "victim"), data)
		if err := os.Link(victim, filepath.Join(folder, partName(info))); err != nil {
			t.Fatal(err)
		}
		target := create(t, filepath.Join(folder, "out"), info, Options{})
		if have, err := target.Check(t.Context(), info, nil); err != nil || have.Count() != 0 {
			t.Errorf("%v: %v", have, err)
		}
		fill(t, target, make([]byte, len(data)), 0)
		holds(t, victim, string(data))
	})
}

// A part file that somebody removed, and perhaps made anew, is not what was fetched.
func TestAPartThatIsRemovedMeanwhile(t *testing.T) {
	data := bytesOf(100_000)
	info := describe(t, data, 65536)
	for _, test := range []struct {
		name string
		do   func(t *testing.T, folder string)
		says string
		left []string
	}{
		{"removed", func(t *testing.T, folder string) {
			if err := os.Remove(filepath.Join(folder, partName(info))); err != nil {
				t.Fatal(err)
			}
		}, "was removed", nil},
		{"with its folder", func(t *testing.T, folder string) {
			if err := os.RemoveAll(folder); err != nil {
				t.Fatal(err)
			}
		}, "no such folder", nil},
		{"and begun anew by another", func(t *testing.T, folder string) {
			if err := os.Remove(filepath.Join(folder, partName(info))); err != nil {
				t.Fatal(err)
			}
			second := create(t, filepath.Join(folder, "out"), info, Options{})
			fill(t, second, data, 0)
		}, "was removed", []string{partName(info)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := filepath.Join(t.TempDir(), "in")
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			target := create(t, filepath.Join(folder, "out"), info, Options{})
			test.do(t, folder)
			fill(t, target, data, 0)
			fill(t, target, data, 1)
			err := target.Commit()
			if code(t, err, CodeMissing); err != nil && !strings.Contains(err.Error(), test.says) {
				t.Errorf("it says %q", err)
			}
			if err := target.Discard(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(folder); err == nil {
				left(t, folder, test.left...)
			}
		})
	}
}

// faulty is a file whose disk fails.
type faulty struct {
	File
	write, read, truncate, sync error
}

func (f *faulty) WriteAt(p []byte, at int64) (int, error) {
	if f.write != nil {
		return 0, &fs.PathError{Op: "write", Path: "part", Err: f.write}
	}
	return f.File.WriteAt(p, at)
}

func (f *faulty) ReadAt(p []byte, at int64) (int, error) {
	if f.read != nil {
		return 0, &fs.PathError{Op: "read", Path: "part", Err: f.read}
	}
	return f.File.ReadAt(p, at)
}

func (f *faulty) Truncate(size int64) error {
	if f.truncate != nil {
		return &fs.PathError{Op: "truncate", Path: "part", Err: f.truncate}
	}
	return f.File.Truncate(size)
}

func (f *faulty) Sync() error {
	if f.sync != nil {
		return &fs.PathError{Op: "sync", Path: "part", Err: f.sync}
	}
	return f.File.Sync()
}

func TestADiskThatFails(t *testing.T) {
	info := describe(t, []byte("hello"), 65536)
	for _, test := range []struct {
		name    string
		fault   faulty
		want    Code
		remains bool
	}{
		{"full when created", faulty{truncate: syscall.ENOSPC}, CodeDiskFull, false},
		{"full when written", faulty{write: syscall.ENOSPC}, CodeDiskFull, true},
		{"quota used up", faulty{write: syscall.EDQUOT}, CodeDiskFull, true},
		{"full when synced", faulty{sync: syscall.ENOSPC}, CodeDiskFull, true},
		{"broken", faulty{write: syscall.EIO}, CodeUnwritable, true},
		{"broken when synced", faulty{sync: syscall.EIO}, CodeUnwritable, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			folder := t.TempDir()
			err := func() error {
				target, err := Create(filepath.Join(folder, "out"), info, Options{Wrap: func(file File) File {
					test.fault.File = file
					return &test.fault
				}})
				if err != nil {
					return err
				}
				defer target.Close()
				if err := target.WriteBlock(0, 0, []byte("hello")); err != nil {
					return err
				}
				return target.Commit()
			}()
			code(t, err, test.want)
			if !test.remains {
				left(t, folder)
				return
			}
			left(t, folder, partName(info)) // and once there is room, it is gone on with
			target := create(t, filepath.Join(folder, "out"), info, Options{})
			if _, err := target.Check(t.Context(), info, nil); err != nil {
				t.Error(err)
			}
			if err := target.WriteBlock(0, 0, []byte("hello")); err != nil {
				t.Error(err)
			}
			if err := target.Commit(); err != nil {
				t.Error(err)
			}
			holds(t, filepath.Join(folder, "out"), "hello")
			left(t, folder, "out")
		})
	}
}

func TestAFolderThatCannotBeWrittenTo(t *testing.T) {
	info := describe(t, []byte("hello"), 65536)
	_, err := Create(filepath.Join(t.TempDir(), "none", "out"), info, Options{})
	code(t, err, CodeMissing)

	// For root every folder can be written to, but that of processes.
	folder := filepath.Join(t.TempDir(), "locked")
	if err := os.Mkdir(folder, 0o500); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 && runtime.GOOS == "linux" {
		folder = "/proc"
	}
	_, err = Create(filepath.Join(folder, "out"), info, Options{})
	if !errors.Is(err, &Error{Code: CodeUnwritable}) && !errors.Is(err, &Error{Code: CodeMissing}) {
		t.Errorf("%v", err)
	}
}

// A temporary file is nowhere to be seen, even where its process is killed.
func TestATemporaryTarget(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	data := bytesOf(200_000)
	info := describe(t, data, 65536)
	target, err := CreateTemporary(info, Options{})
	if err != nil {
		t.Fatal(err)
	}
	left(t, folder)
	check(t, target, info, nil)
	for piece := range info.Geometry().Pieces() {
		fill(t, target, data, piece)
	}
	if err := target.Commit(); err != nil {
		t.Error(err)
	}
	if got, err := block(target, info.Geometry(), 3, 0); err != nil || !bytes.Equal(got, data[3*65536:]) {
		t.Errorf("reading after Commit: %v", err)
	}
	left(t, folder)
	if err := target.Close(); err != nil {
		t.Error(err)
	}
	left(t, folder)

	t.Setenv("TMPDIR", filepath.Join(folder, "none"))
	_, err = CreateTemporary(info, Options{})
	code(t, err, CodeMissing)
	t.Setenv("TMPDIR", folder)
	_, err = CreateTemporary(info, Options{Wrap: func(file File) File { return &faulty{File: file, truncate: syscall.ENOSPC} }})
	code(t, err, CodeDiskFull)
	left(t, folder)
}
