package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
)

// accountFile is the name of the key by which the CA knows this mediator. No
// certificate's file ends like this.
const accountFile = "account.key"

// store is what is kept of one CA, in a directory of mode 0700 and files of mode
// 0600: the account's key, and for each name a file with the certificate's key,
// the certificate and its chain, so that they are replaced together.
type store string

// newStore makes the directory of a CA, if need be. Each CA has its own: what a
// staging CA has signed must not be served once the operator changes to another,
// which does not know the account either.
func newStore(dataDir string, directory *url.URL) (store, error) {
	dir := filepath.Join(dataDir, "acme", url.QueryEscape(directory.Host+directory.Path))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("making the directory of certificates: %w", err)
	}
	return store(dir), nil
}

// account returns the account's key, and makes it where there is none. It is never
// replaced in silence: the CA counts, and may forbid, accounts.
func (s store) account() (crypto.Signer, error) {
	path := filepath.Join(string(s), accountFile)
	text, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err == nil {
			text, err = encodeKey(key)
		}
		if err == nil {
			err = s.write(accountFile, text)
		}
		if err != nil {
			return nil, fmt.Errorf("making the key of the CA's account: %w", err)
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key of the CA's account: %w", err)
	}
	if block, _ := pem.Decode(text); block != nil {
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, is := key.(*ecdsa.PrivateKey); is {
				return key, nil
			}
		}
	}
	return nil, fmt.Errorf("the key of the CA's account %s holds no ECDSA key; move it away to get a new account", path)
}

// certificate returns what is kept for a name: an error is [fs.ErrNotExist] where
// there is nothing.
func (s store) certificate(name string) (*tls.Certificate, error) {
	path := filepath.Join(string(s), name+".pem")
	text, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(text, text)
	if err == nil {
		err = certificate.Leaf.VerifyHostname(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &certificate, nil
}

// keep stores a certificate with its key.
func (s store) keep(name string, certificate *tls.Certificate) error {
	text, err := encodeKey(certificate.PrivateKey)
	if err != nil {
		return err
	}
	for _, der := range certificate.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return s.write(name+".pem", text)
}

// write replaces a file at once, so that it is whole whenever it is read.
func (s store) write(name string, text []byte) error {
	file, err := os.CreateTemp(string(s), name+".*.tmp") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already, if all went well
	_, err = file.Write(text)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), filepath.Join(string(s), name))
}

func encodeKey(key crypto.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), err
}

// errExposed says that others may have read a private key.
var errExposed = errors.New("others may have read it")

// readPrivate reads a file that nobody else may read.
func readPrivate(path string) ([]byte, error) {
	text, info, err := read(path)
	if err != nil {
		return nil, err
	}
	// Windows has no such mode bits; its files are as private as their folder.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return nil, fmt.Errorf("%s has mode %04o, so %w; its mode must be 0600", path, mode, errExposed)
	}
	return text, nil
}
