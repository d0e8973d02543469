package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certCheckInterval is how often, at most, the files are looked at.
const certCheckInterval = time.Second

// CertFiles serves a certificate from two PEM files and follows their changes. Handshakes notice a change, so
// that renewing a certificate takes no signal and no file watcher.
type CertFiles struct {
	certPath, keyPath string
	logger            *slog.Logger
	now               func() time.Time

	current atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // protects the following
	checked time.Time
	seen    certStamp // of the last attempt to load, whether it succeeded or not
}

// certStamp tells versions of the two files apart. It is zero while one of them is missing.
type certStamp struct{ cert, key fs.FileInfo }

// LoadCertFiles reads a certificate chain and its key from PEM files. Later reloads are reported to logger; nil discards that.
func LoadCertFiles(certPath, keyPath string, logger *slog.Logger) (*CertFiles, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	c := &CertFiles{certPath: certPath, keyPath: keyPath, logger: logger, now: time.Now}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// GetCertificate is for tls.Config. It looks at the files at most once a second.
func (c *CertFiles) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	// Only one handshake has to look; the others need not wait for it.
	if c.mu.TryLock() {
		c.reloadChanged()
		c.mu.Unlock()
	}
	return c.current.Load(), nil
}

// Reload reads the files now. If they are bad, the error says why and the pair in use stays.
func (c *CertFiles) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.load(c.stamp())
}

// reloadChanged needs mu. A bad pair is logged once, and tried again when the files change again: certificate and
// key are seldom replaced in the same instant.
func (c *CertFiles) reloadChanged() {
	now := c.now()
	if now.Sub(c.checked) < certCheckInterval {
		return
	}
	c.checked = now
	stamp := c.stamp()
	if stamp.same(c.seen) {
		return
	}
	if err := c.load(stamp); err != nil {
		c.logger.Warn("the TLS certificate changed but cannot be used; the old one is served on", "error", err)
		return
	}
	leaf := c.current.Load().Leaf
	c.logger.Info("TLS certificate reloaded", "file", c.certPath, "names", leaf.DNSNames, "until", leaf.NotAfter)
}

// load needs mu. The stamp is taken before the files are read: a change in between is then seen as one.
func (c *CertFiles) load(stamp certStamp) error {
	c.seen = stamp
	cert, err := tls.LoadX509KeyPair(c.certPath, c.keyPath)
	if err != nil {
		return fmt.Errorf("load TLS certificate %s with key %s: %w", c.certPath, c.keyPath, err)
	}
	c.current.Store(&cert)
	return nil
}

func (c *CertFiles) stamp() certStamp {
	cert, certErr := os.Stat(c.certPath)
	key, keyErr := os.Stat(c.keyPath)
	if errors.Join(certErr, keyErr) != nil {
		return certStamp{}
	}
	return certStamp{cert: cert, key: key}
}

func (s certStamp) same(other certStamp) bool {
	return sameFile(s.cert, other.cert) && sameFile(s.key, other.key)
}

func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
