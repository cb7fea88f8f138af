package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// pollInterval is how often the files are looked at. Whoever renews a certificate
// does so days before it ends, and two calls of stat cost nothing. (A notification
// by the system would miss what links and network file systems do.)
const pollInterval = 30 * time.Second

// Files is a certificate and its key in PEM files. It is read again when one of
// them has changed. A pair that does not fit, as it is for a moment while
// somebody replaces one file after the other, is not used: the one before stays.
type Files struct {
	certPath, keyPath string
	logger            *slog.Logger
	clock             clock
	reload            chan struct{} // has room for one: more than one is no more than one
	current           atomic.Pointer[tls.Certificate]

	// Owned by NewFiles, then by Run.
	seen [2]fs.FileInfo // the certificate and the key when they were read last
	told string         // the error that was logged last; "" after a success
}

var _ Source = (*Files)(nil)

// NewFiles reads the certificate, followed by its chain, and the key. An error
// says which file is wrong, and what is expected.
func NewFiles(certPath, keyPath string, logger *slog.Logger) (*Files, error) {
	return newFiles(certPath, keyPath, logger, systemClock{})
}

func newFiles(certPath, keyPath string, logger *slog.Logger, clock clock) (*Files, error) {
	if certPath == "" || keyPath == "" {
		return nil, errors.New("a certificate and its key go together: name both files, with --tls-cert and --tls-key")
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	f := &Files{certPath: certPath, keyPath: keyPath, logger: logger, clock: clock, reload: make(chan struct{}, 1)}
	if err := f.load(); err != nil {
		return nil, fmt.Errorf("%w (--tls-cert must name the certificate, followed by its chain, and --tls-key its private key without a passphrase, both in PEM)", err)
	}
	return f, nil
}

// Config implements [Source]. The certificate is shown whatever name is asked
// for, or none: the client knows which it wants, and mediators are also reached by
// their IP address.
func (f *Files) Config() *tls.Config {
	config := base()
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.current.Load(), nil }
	return config
}

// Names implements [Source].
func (f *Files) Names() []string {
	leaf := f.current.Load().Leaf
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

// Expires implements [Source].
func (f *Files) Expires() time.Time { return f.current.Load().Leaf.NotAfter }

// Reload implements [Source].
func (f *Files) Reload() {
	select {
	case f.reload <- struct{}{}:
	default:
	}
}

// Run implements [Source].
func (f *Files) Run(ctx context.Context) {
	for {
		asked := false
		select {
		case <-ctx.Done():
			return
		case <-f.reload:
			asked = true
		case <-f.clock.After(pollInterval):
		}
		if asked {
			f.told = "" // whoever asks wants to hear it again
		}
		if asked || f.told != "" || f.changed() {
			f.again()
		}
	}
}

// again reads the files, and tells how it went.
func (f *Files) again() {
	switch err := f.load(); {
	case err == nil:
		f.told = ""
		f.logger.Info("the certificate was read again", "certificate", f.certPath, "names", f.Names(), "expires", f.Expires())
	case err.Error() != f.told:
		f.told = err.Error()
		f.logger.Error("the new certificate cannot be used; the one before is kept, and the files are tried again",
			"error", err, "expires", f.Expires())
	}
}

// changed reports whether one of the files is not the one that was read. That was
// a success, or they are read in any case.
func (f *Files) changed() bool {
	for i, path := range []string{f.certPath, f.keyPath} {
		before := f.seen[i]
		now, err := os.Stat(path)
		if err != nil || !os.SameFile(now, before) || now.Size() != before.Size() || !now.ModTime().Equal(before.ModTime()) {
			return true
		}
	}
	return false
}

// load reads the files and, where they fit together, uses them.
func (f *Files) load() error {
	certText, certInfo, certErr := read(f.certPath)
	keyText, keyInfo, keyErr := read(f.keyPath)
	f.seen = [2]fs.FileInfo{certInfo, keyInfo}
	if certErr != nil {
		return fmt.Errorf("reading the certificate: %w", certErr)
	}
	if keyErr != nil {
		return fmt.Errorf("reading the certificate's key: %w", keyErr)
	}
	pair, err := tls.X509KeyPair(certText, keyText)
	if err != nil {
		return fmt.Errorf("the certificate %s and the key %s do not make a pair: %w", f.certPath, f.keyPath, err)
	}
	if !f.clock.Now().Before(pair.Leaf.NotAfter) {
		f.logger.Warn("the certificate has expired: clients will refuse it", "certificate", f.certPath, "expired", pair.Leaf.NotAfter)
	}
	f.current.Store(&pair)
	return nil
}
