package discovery

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// keyFile is the name of the key in the data directory.
const keyFile = "mediator.key"

// maxKeyFile bounds what is read of the key file, in bytes. A marshalled
// Ed25519 key has 68.
const maxKeyFile = 4 << 10

// LoadOrCreateKey returns the mediator's Ed25519 key, which is its identity,
// from the data directory, and makes both where they are missing: the directory
// with mode 0700, the file with mode 0600. It refuses a file that others may
// read, and a file that holds no such key: a new identity is never chosen in
// silence.
func LoadOrCreateKey(dir string) (crypto.PrivKey, error) {
	if dir == "" {
		return nil, errors.New("the mediator's key needs a data directory")
	}
	path := filepath.Join(dir, keyFile)
	key, err := loadKey(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return key, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	if err := createKey(dir, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("storing the mediator's key: %w", err)
	}
	return loadKey(path) // not the one just made: another process may have been first
}

func loadKey(path string) (crypto.PrivKey, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading the mediator's key: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the mediator's key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("the mediator's key %s is not a regular file", path)
	}
	// Windows has no such mode bits; its files are as private as their folder.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("the mediator's key %s has mode %04o, so others may have read it; its mode must be 0600", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxKeyFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the mediator's key: %w", err)
	}
	key, err := crypto.UnmarshalPrivateKey(text)
	if err != nil || len(text) > maxKeyFile || key.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("the mediator's key %s holds no Ed25519 key; move it away to get a new identity", path)
	}
	return key, nil
}

// createKey writes a new key next to its place and links it there, so that the
// file is whole as soon as it can be seen, and so that of two processes that
// start together the second fails with [fs.ErrExist] and does not overwrite.
func createKey(dir, path string) error {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return err
	}
	text, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, keyFile+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Link(file.Name(), path)
}
