package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"p2pcdn/common/content"
)

const (
	// maxPartName bounds the share of the final name in the part file's, in bytes:
	// with dots, digits and ending it stays within the 255 of common file systems.
	maxPartName = 200

	// partDigits is how many digits of the full hash stand in the part file's name: 64
	// bits never meet by chance, and if somebody makes them meet, no piece is found right.
	partDigits = 16

	// openAttempts is how often a part file is opened that was put in its place, or
	// removed, between being opened and being locked. Each means that another process ended just then.
	openAttempts = 8
)

// errBusy is what openLocked returns for a file that is locked.
var errBusy = errors.New("it is locked")

// partPath is where the content is kept until it is complete: beside the final file, so
// that it gets its name without being copied, and the same for every attempt.
func partPath(path string, hash content.FullHash) string {
	folder, name := filepath.Split(path)
	name = strings.ToValidUTF8(name[:min(len(name), maxPartName)], "") // not half a character, which some systems refuse
	return filepath.Join(folder, fmt.Sprintf(".%s.%s.part", name, hash.String()[:partDigits]))
}

// openPart opens or makes the part file, and locks it for as long as it is open. A process
// that is killed leaves no lock behind.
func openPart(part string) (*os.File, error) {
	for range openAttempts {
		file, err := openLocked(part)
		if err != nil {
			return nil, err
		}
		switch usable, err := usablePart(file, part); {
		case err != nil:
			_ = file.Close() // nothing was written
			return nil, err
		case usable:
			return file, nil
		}
		_ = file.Close()
	}
	return nil, errBusy
}

// usablePart says whether what was opened and locked is the part file and nothing else.
func usablePart(file *os.File, part string) (bool, error) {
	found, err := file.Stat()
	switch {
	case err != nil:
		return false, err
	case !found.Mode().IsRegular():
		return false, &Error{CodeNoFile, part, "it is no plain file", nil}
	case !named(file, part):
		return false, nil // it was given its final name, or removed, before we had the lock
	case linked(file):
		// A file that is somebody's under another name too: what a kill leaves between the
		// two steps of Commit. It is theirs, whatever is written here.
		return false, os.Remove(part)
	}
	return true, nil
}

// named says whether the path names the open file.
func named(file *os.File, path string) bool {
	open, err := file.Stat()
	if err != nil {
		return false
	}
	found, err := os.Lstat(path)
	return err == nil && os.SameFile(open, found)
}

// removePart removes the part file, if it still is the one that is open and locked.
func removePart(file *os.File, part string) error {
	if !named(file, part) {
		return nil
	}
	if err := os.Remove(part); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forget removes the part file where it is only another name of the final one: a process was
// killed between the two steps of Commit.
func forget(final fs.FileInfo, part string) {
	if found, err := os.Lstat(part); err == nil && os.SameFile(final, found) {
		_ = os.Remove(part) // where that fails it is in nobody's way
	}
}
