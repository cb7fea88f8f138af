// Package lists is which contents a mediator has to do with: everything, unless
// its volunteer says otherwise in one or two files.
//
// A file has a full hash (64 lower-case hex digits) a line; what follows a # is
// for people, and empty lines are nothing. Where there is an allow list, only what
// stands in it is permitted; what stands in the deny list never is.
package lists

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"p2pcdn/common/content"
)

// maxHashes bounds a file. A million of them take about 50 MiB of memory.
const maxHashes = 1_000_000

// maxLine bounds a line, in bytes: a hash, and a note for people.
const maxLine = 4 << 10

// Lists is what the files said when they were read last. Its methods may be called together.
type Lists struct {
	allow, deny string // paths; "": none. Static
	current     atomic.Pointer[sets]
}

// sets never change once they are made.
type sets struct {
	allow map[content.FullHash]struct{} // nil: everything
	deny  map[content.FullHash]struct{}
}

// Read reads the files; an empty path is no list. The error names the file and the line.
func Read(allow, deny string) (*Lists, error) {
	l := &Lists{allow: allow, deny: deny}
	return l, l.Reload()
}

// Reload reads the files again. Where one of them cannot be read, or is wrong,
// what was read before stays, of both.
func (l *Lists) Reload() error {
	var next sets
	var wrong [2]error
	next.allow, wrong[0] = read("the allow list", l.allow)
	next.deny, wrong[1] = read("the deny list", l.deny)
	if err := errors.Join(wrong[:]...); err != nil {
		return err
	}
	l.current.Store(&next)
	return nil
}

// Any reports whether there is a list at all.
func (l *Lists) Any() bool { return l.allow != "" || l.deny != "" }

// Permits reports whether the mediator has to do with the content.
func (l *Lists) Permits(hash content.FullHash) bool {
	sets := l.current.Load()
	if _, denied := sets.deny[hash]; denied {
		return false
	}
	_, allowed := sets.allow[hash]
	return allowed || sets.allow == nil
}

// Sizes returns how many contents are in each list.
func (l *Lists) Sizes() (allowed, denied int) {
	sets := l.current.Load()
	return len(sets.allow), len(sets.deny)
}

func read(what, path string) (map[content.FullHash]struct{}, error) {
	if path == "" {
		return nil, nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	defer file.Close()
	hashes := make(map[content.FullHash]struct{})
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		hash, err := content.ParseFullHash(text)
		if err != nil {
			return nil, fmt.Errorf("%s, %s line %d: %w", what, path, number, err)
		}
		if hashes[hash] = struct{}{}; len(hashes) > maxHashes {
			return nil, fmt.Errorf("%s, %s: more than %d contents", what, path, maxHashes)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading %s, %s: %w", what, path, err)
	}
	return hashes, nil
}
