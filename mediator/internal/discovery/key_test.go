package discovery

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

func TestKeyIsMadeOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	first, err := LoadOrCreateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadOrCreateKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !first.Equals(again) {
		t.Error("the second start has another key")
	}
	other, err := LoadOrCreateKey(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if first.Equals(other) {
		t.Error("two data directories have the same key")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("the directory holds %v, want the key alone", entries)
	}
	if runtime.GOOS == "windows" {
		return
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, keyFile): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
}

func TestKeyOfProcessesThatStartTogether(t *testing.T) {
	dir := t.TempDir()
	keys := make([]crypto.PrivKey, 20)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = LoadOrCreateKey(dir); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, key := range keys {
		if key == nil || !key.Equals(keys[0]) {
			t.Fatal("not all have the same key")
		}
	}
}

func TestKeyRefused(t *testing.T) {
	rsa, _, err := crypto.GenerateKeyPair(crypto.RSA, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaText, err := crypto.MarshalPrivateKey(rsa)
	if err != nil {
		t.Fatal(err)
	}
	good, err := crypto.MarshalPrivateKey(newKey(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		text []byte
		mode os.FileMode
		want string
	}{
		"empty":            {nil, 0o600, "no Ed25519 key"},
		"garbage":          {[]byte("garbage"), 0o600, "no Ed25519 key"},
		"cut short":        {good[:40], 0o600, "no Ed25519 key"},
		"another kind":     {rsaText, 0o600, "no Ed25519 key"},
		"far too long":     {make([]byte, 1<<20), 0o600, "no Ed25519 key"},
		"readable to all":  {good, 0o644, "0644"},
		"readable to some": {good, 0o640, "0640"},
	} {
		t.Run(name, func(t *testing.T) {
			if test.mode != 0o600 && runtime.GOOS == "windows" {
				t.Skip("no mode bits")
			}
			dir := t.TempDir()
			path := filepath.Join(dir, keyFile)
			if err := os.WriteFile(path, test.text, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadOrCreateKey(dir)
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error with %q and the path", err, test.want)
			}
			after, err := os.ReadFile(path)
			if err != nil || string(after) != string(test.text) {
				t.Error("the file has changed")
			}
		})
	}
}

func TestKeyWithoutAPlace(t *testing.T) {
	if _, err := LoadOrCreateKey(""); err == nil {
		t.Error("a key without a directory")
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(file); err == nil {
		t.Error("a key in a file")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, keyFile), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadOrCreateKey(dir); err == nil || !strings.Contains(err.Error(), "regular file") {
		t.Errorf("a directory in the key's place: %v", err)
	}
}
