package crypto

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tink-crypto/tink-go/v2/aead/subtle"
	"github.com/tink-crypto/tink-go/v2/tink"
)

const (
	kekFilePrefix = "sallyport-kek-v1:"
	kekSize       = 32
	kekIDSize     = 8

	// maxKEKFile bounds what is read of a file that may turn out to be anything.
	maxKEKFile = 1024
)

// KEK is a key-encryption key. It lives outside the replicated state and does nothing but wrap
// keyrings.
type KEK struct {
	aead tink.AEAD
	id   [kekIDSize]byte
}

// CreateKEKFile makes a new key-encryption key in a file that must not exist yet, in a directory that must.
// The file is readable by its owner alone, and on disk when CreateKEKFile returns.
func CreateKEKFile(path string) (err error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("create key file %s: it exists already, and whatever it wraps would be lost with it; use it, or choose another path: %w", path, err)
	}
	if err != nil {
		return fmt.Errorf("create key file: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(path)
		}
	}()

	var key [kekSize]byte
	rand.Read(key[:])
	_, err = file.WriteString(kekFilePrefix + base64.StdEncoding.EncodeToString(key[:]) + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("write key file %s: %w", path, err)
	}
	// Without this the name of the file may be lost in a power failure, after data was already sealed.
	if err = syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write key file %s: %w", path, err)
	}
	return nil
}

// OpenKEK opens the key-encryption key that uri names: a path, or a file: URI. Key management services
// are not supported by this version.
func OpenKEK(_ context.Context, uri string) (*KEK, error) {
	path, err := kekPath(uri)
	if err != nil {
		return nil, err
	}
	content, err := readKEKFile(path)
	if err != nil {
		return nil, err
	}
	key, err := parseKEK(content)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return newKEK(key)
}

// ID names the key without telling anything about it, for logs and error messages.
func (k *KEK) ID() string { return fmt.Sprintf("%x", k.id) }

func newKEK(key []byte) (*KEK, error) {
	aead, err := subtle.NewAESGCM(key)
	if err != nil {
		return nil, fmt.Errorf("open key-encryption key: %w", err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("sallyport kek id"))
	return &KEK{aead: aead, id: [kekIDSize]byte(mac.Sum(nil))}, nil
}

// kekPath returns the path in uri. A colon after a slash belongs to a file name.
func kekPath(uri string) (string, error) {
	if uri == "" {
		return "", errors.New("no key-encryption key named: give the path of a key file")
	}
	scheme, _, hasScheme := strings.Cut(uri, ":")
	if !hasScheme || strings.ContainsRune(scheme, filepath.Separator) || filepath.VolumeName(uri) != "" {
		return uri, nil
	}
	if !strings.EqualFold(scheme, "file") {
		return "", fmt.Errorf("key %q: scheme %q is not supported by this version; give a path or a file: URI (write ./%s for a file of that name)", uri, scheme, uri)
	}
	parsed, err := url.Parse(uri)
	if err != nil {
		return "", fmt.Errorf("key %q: %w", uri, err)
	}
	if parsed.Host != "" && parsed.Host != "localhost" {
		return "", fmt.Errorf("key %q: a file: URI names a file on this machine; write file:///path", uri)
	}
	if path := parsed.Path + parsed.Opaque; path != "" {
		return path, nil
	}
	return "", fmt.Errorf("key %q: no path in it; write file:///path", uri)
}

// readKEKFile reads a file after it has made sure, on the open file, that nobody else could.
func readKEKFile(path string) ([]byte, error) {
	// Opening a FIFO would otherwise block until somebody writes to it.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open key file: %w; check the path, or restore the file from a backup", err)
	}
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	defer file.Close()

	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("open key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key file %s: not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&^0o600 != 0 {
		return nil, fmt.Errorf("key file %s: its mode %04o lets others at the key; run: chmod 600 %s", path, perm, path)
	}
	content, err := io.ReadAll(io.LimitReader(file, maxKEKFile))
	if err != nil {
		return nil, fmt.Errorf("read key file: %w", err)
	}
	return content, nil
}

// parseKEK returns the key in the content of a key file. Errors never contain the content: a foreign
// file may well hold another secret.
func parseKEK(content []byte) ([]byte, error) {
	if len(content) == 0 {
		return nil, errors.New("it is empty, as after an interrupted creation; restore it from a backup, or remove it if nothing was ever sealed with it")
	}
	line, ok := strings.CutPrefix(strings.TrimRight(string(content), "\r\n"), kekFilePrefix)
	if !ok {
		return nil, fmt.Errorf("not a Sallyport key file (one begins with %q); check the path", kekFilePrefix)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil || len(key) != kekSize || strings.ContainsAny(line, "\r\n") {
		return nil, fmt.Errorf("damaged: after the prefix must come %d bytes in base64 on one line; restore it from a backup", kekSize)
	}
	return key, nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
