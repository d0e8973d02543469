package transport

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certFiles is a CertFiles whose clock stands still.
type certFiles struct {
	*CertFiles
	clock             time.Time
	log               *bytes.Buffer
	certPath, keyPath string
}

func newCertFiles(t *testing.T, commonName string) *certFiles {
	t.Helper()
	f := &certFiles{clock: time.Now(), log: new(bytes.Buffer)}
	f.certPath, f.keyPath = newTestPair(t, commonName).write(t, t.TempDir())
	var err error
	f.CertFiles, err = LoadCertFiles(f.certPath, f.keyPath, slog.New(slog.NewTextHandler(f.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	f.now = func() time.Time { return f.clock }
	return f
}

// handshake returns the name in the certificate that a handshake would get, some seconds later.
func (f *certFiles) handshake(t *testing.T, later time.Duration) string {
	t.Helper()
	f.clock = f.clock.Add(later)
	cert, err := f.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.Subject.CommonName
}

func TestCertFilesFollowChanges(t *testing.T) {
	files := newCertFiles(t, "first")
	dir := filepath.Dir(files.certPath)
	if got := files.handshake(t, 2*time.Second); got != "first" {
		t.Errorf("got %q", got)
	}
	newTestPair(t, "second").write(t, dir)
	if got := files.handshake(t, 100*time.Millisecond); got != "first" {
		t.Errorf("the files are looked at more than once a second: got %q", got)
	}
	if got := files.handshake(t, time.Second); got != "second" {
		t.Errorf("a change is not seen: got %q", got)
	}
	newTestPair(t, "third").write(t, dir)
	if err := files.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := files.handshake(t, 0); got != "third" {
		t.Errorf("Reload does not read the files: got %q", got)
	}
	if log := files.log.String(); strings.Count(log, "reloaded") != 1 {
		t.Errorf("logged %q, want one line on the reload that nobody asked for", log)
	}
}

func TestCertFilesKeepTheOldPair(t *testing.T) {
	damage := map[string]func(t *testing.T, f *certFiles){
		"garbage": func(t *testing.T, f *certFiles) { overwrite(t, f.certPath, []byte("garbage")) },
		"empty":   func(t *testing.T, f *certFiles) { overwrite(t, f.keyPath, nil) },
		"missing": func(t *testing.T, f *certFiles) {
			if err := os.Remove(f.keyPath); err != nil {
				t.Fatal(err)
			}
		},
		"another's key": func(t *testing.T, f *certFiles) { overwrite(t, f.keyPath, newTestPair(t, "other").key) },
	}
	for name, harm := range damage {
		files := newCertFiles(t, "good")
		harm(t, files)
		for range 5 {
			if got := files.handshake(t, 2*time.Second); got != "good" {
				t.Errorf("%s: got %q", name, got)
			}
		}
		if log := files.log.String(); strings.Count(log, "level=WARN") != 1 {
			t.Errorf("%s: logged %q, want one warning", name, log)
		}
		if err := files.Reload(); err == nil || !strings.Contains(err.Error(), files.certPath) {
			t.Errorf("%s: Reload gives %v, want an error that names the file", name, err)
		}
		if got := files.handshake(t, 0); got != "good" {
			t.Errorf("%s, after Reload: got %q", name, got)
		}

		newTestPair(t, "repaired").write(t, filepath.Dir(files.certPath))
		if got := files.handshake(t, 2*time.Second); got != "repaired" {
			t.Errorf("%s: the repair is not seen: got %q", name, got)
		}
	}
}

// Tools write the certificate and the key one after the other; in between they do not fit.
func TestCertFilesChangedInTwoSteps(t *testing.T) {
	files, next := newCertFiles(t, "old"), newTestPair(t, "new")
	overwrite(t, files.certPath, next.cert)
	if got := files.handshake(t, 2*time.Second); got != "old" {
		t.Errorf("got %q", got)
	}
	overwrite(t, files.keyPath, next.key)
	if got := files.handshake(t, 2*time.Second); got != "new" {
		t.Errorf("got %q", got)
	}
}

func TestLoadCertFilesErrors(t *testing.T) {
	certPath, keyPath := newTestPair(t, "test").write(t, t.TempDir())
	_, err := LoadCertFiles(certPath, keyPath+"x", nil)
	mustFail(t, "a missing key", err, "no such file")
	_, err = LoadCertFiles(keyPath, certPath, nil)
	mustFail(t, "swapped files", err, keyPath)
}

func TestCertificateChangesWithoutRestart(t *testing.T) {
	files := newCertFiles(t, "first")
	server := startServer(t, func(w http.ResponseWriter, _ *http.Request) {}, func(c *ServerConfig) {
		c.GetCertificate = files.GetCertificate
	})
	for _, name := range []string{"second", "third"} {
		server.pair = newTestPair(t, name)
		server.pair.write(t, filepath.Dir(files.certPath))
		if err := files.Reload(); err != nil {
			t.Fatal(err)
		}
		forEachProtocol(t, func(t *testing.T, protocol string) {
			// The client trusts the new certificate alone.
			answer := get(t, server.client(t, protocol), server.url, "")
			if got := answer.TLS.PeerCertificates[0].Subject.CommonName; got != name {
				t.Errorf("served %q, want %q", got, name)
			}
		})
	}
}

func overwrite(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
