package crypto

import (
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// newTestKEK makes a key file and opens it.
func newTestKEK(t testing.TB) *KEK {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kek")
	if err := CreateKEKFile(path); err != nil {
		t.Fatal(err)
	}
	kek, err := OpenKEK(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func TestCreateKEKFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "kek")
	if err := CreateKEKFile(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode is %04o, want 0600", info.Mode().Perm())
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(before), "sallyport-kek-v1:") || strings.Count(string(before), "\n") != 1 {
		t.Errorf("content is not one line with the prefix")
	}

	if err := CreateKEKFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("creating it again: %v, want fs.ErrExist", err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the existing key file was changed (%v)", err)
	}
	if err := CreateKEKFile(filepath.Join(dir, "missing", "kek")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("creating it in a missing directory: %v, want fs.ErrNotExist", err)
	}
}

func TestOpenKEKByURI(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	path := filepath.Join(dir, "kek")
	for _, name := range []string{path, filepath.Join(dir, "a:b")} {
		if err := CreateKEKFile(name); err != nil {
			t.Fatal(err)
		}
	}
	want, err := OpenKEK(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}

	for _, uri := range []string{"kek", "./kek", "file:kek", "file:" + path, "file://" + path, "file://localhost" + path, "FILE:" + path} {
		kek, err := OpenKEK(t.Context(), uri)
		if err != nil || kek.ID() != want.ID() {
			t.Errorf("OpenKEK(%q): %v", uri, err)
		}
	}
	if kek, err := OpenKEK(t.Context(), "./a:b"); err != nil || kek.ID() == want.ID() {
		t.Errorf("a path with a colon: %v", err)
	}

	refused := map[string]string{
		"":                        "no key-encryption key named",
		"a:b":                     "not supported by this version",
		"awskms:///alias/x":       "not supported by this version",
		"gcpkms://projects/p":     "not supported by this version",
		"hcvault://host/transit":  "not supported by this version",
		"file://other-host/kek":   "on this machine",
		"file:":                   "no path",
		"file:///%zz":             "invalid URL escape",
		filepath.Join(dir, "no"):  "restore the file from a backup",
		"file://" + path + "/kek": "not a directory",
	}
	for uri, message := range refused {
		if _, err := OpenKEK(t.Context(), uri); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("OpenKEK(%q): %v, want an error with %q", uri, err, message)
		}
	}
}

func TestOpenKEKRefusesLooseModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kek")
	if err := CreateKEKFile(path); err != nil {
		t.Fatal(err)
	}
	for mode, ok := range map[fs.FileMode]bool{
		0o600: true, 0o400: true,
		0o640: false, 0o604: false, 0o620: false, 0o602: false, 0o644: false, 0o660: false, 0o700: false, 0o601: false, 0o777: false,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := OpenKEK(t.Context(), path)
		if ok && err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
		if !ok && (err == nil || !strings.Contains(err.Error(), "chmod 600 "+path)) {
			t.Errorf("mode %04o: %v, want an error that says how to fix it", mode, err)
		}
	}
}

func TestOpenKEKRefusesForeignContent(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, kekSize))
	tests := map[string]struct{ content, message string }{
		"empty":              {"", "empty"},
		"raw bytes":          {strings.Repeat("\x01", 32), "not a Sallyport key file"},
		"PEM":                {"-----BEGIN PRIVATE KEY-----\nMIIB\n", "not a Sallyport key file"},
		"another version":    {"sallyport-kek-v2:" + key + "\n", "not a Sallyport key file"},
		"space before":       {" " + kekFilePrefix + key, "not a Sallyport key file"},
		"prefix only":        {kekFilePrefix + "\n", "damaged"},
		"31 bytes":           {kekFilePrefix + base64.StdEncoding.EncodeToString(make([]byte, 31)), "damaged"},
		"33 bytes":           {kekFilePrefix + base64.StdEncoding.EncodeToString(make([]byte, 33)), "damaged"},
		"cut short":          {kekFilePrefix + key[:20], "damaged"},
		"not base64":         {kekFilePrefix + "!" + key[1:], "damaged"},
		"two lines":          {kekFilePrefix + key[:10] + "\n" + key[10:], "damaged"},
		"something after it": {kekFilePrefix + key + "\nmore\n", "damaged"},
		"huge":               {kekFilePrefix + strings.Repeat("A", 1<<20), "damaged"},
	}
	for name, test := range tests {
		path := filepath.Join(t.TempDir(), "kek")
		if err := os.WriteFile(path, []byte(test.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := OpenKEK(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), test.message) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error with %q and the path", name, err, test.message)
		}
		if err != nil && strings.Contains(err.Error(), key[:20]) {
			t.Errorf("%s: the error contains what the file contains: %v", name, err)
		}
	}
	path := filepath.Join(t.TempDir(), "kek")
	if err := os.WriteFile(path, []byte(kekFilePrefix+key), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKEK(t.Context(), path); err != nil {
		t.Errorf("without a final newline: %v", err)
	}
}

func TestOpenKEKRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, fifo} {
		if _, err := OpenKEK(t.Context(), path); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("OpenKEK(%q): %v, want a refusal", path, err)
		}
	}
}
